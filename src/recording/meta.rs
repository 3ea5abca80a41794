//! What a recording says about itself.

use super::format::PREFIX;
use crate::kernel::features;
use crate::kernel::host::Host;

/// The same in all files of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Of the scx_ml that recorded.
    pub version: String,
    /// [`features::set_id`] of it.
    pub feature_set: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Architecture and number of CPUs.
    pub machine: String,
    /// Of the kernel's random id of this boot: CLOCK_MONOTONIC begins anew with each.
    pub boot_id: String,
    /// To be added to a time of a record to get the time since 1970, as it was when the recording began; ns.
    pub monotonic_to_unix_ns: i64,
    /// `--mode`
    pub mode: String,
    /// `--sample-rate`, samples per second.
    pub sample_rate: u64,
    /// `--syscalls`: without it the features of system calls are 0.
    pub syscalls: bool,
}

impl Meta {
    /// Of a recording that begins now on this machine.
    pub fn here(version: &str, mode: &str, sample_rate: u64, syscalls: bool) -> Self {
        let host = Host::here();
        Self {
            version: version.to_string(),
            feature_set: features::set_id(),
            kernel: host.kernel,
            machine: host.machine,
            boot_id: host.boot_id,
            monotonic_to_unix_ns: host.monotonic_to_unix_ns,
            mode: mode.to_string(),
            sample_rate,
            syscalls,
        }
    }

    /// Keys (without the prefix) and values, as a file's metadata holds them.
    pub(super) fn pairs(&self) -> [(&'static str, String); 9] {
        [
            ("version", self.version.clone()),
            ("feature_set", format!("{:016x}", self.feature_set)),
            ("kernel", self.kernel.clone()),
            ("machine", self.machine.clone()),
            ("boot_id", self.boot_id.clone()),
            (
                "monotonic_to_unix_ns",
                self.monotonic_to_unix_ns.to_string(),
            ),
            ("mode", self.mode.clone()),
            ("sample_rate", self.sample_rate.to_string()),
            ("syscalls", self.syscalls.to_string()),
        ]
    }

    /// From a file's metadata; the error names the key that is missing or cannot be understood.
    pub(super) fn from_pairs(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let text = |key: &str| get(key).ok_or_else(|| format!("{PREFIX}{key} is missing"));
        fn number<T, E>(
            key: &str,
            text: String,
            parse: fn(&str) -> Result<T, E>,
        ) -> Result<T, String> {
            parse(&text).map_err(|_| format!("{PREFIX}{key} is '{text}'"))
        }
        Ok(Self {
            version: text("version")?,
            feature_set: number("feature_set", text("feature_set")?, |t| {
                u64::from_str_radix(t, 16)
            })?,
            kernel: text("kernel")?,
            machine: text("machine")?,
            boot_id: text("boot_id")?,
            monotonic_to_unix_ns: number(
                "monotonic_to_unix_ns",
                text("monotonic_to_unix_ns")?,
                str::parse,
            )?,
            mode: text("mode")?,
            sample_rate: number("sample_rate", text("sample_rate")?, str::parse)?,
            syscalls: number("syscalls", text("syscalls")?, str::parse)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_survives_its_pairs() {
        let meta = Meta {
            monotonic_to_unix_ns: -5,
            feature_set: u64::MAX,
            ..Meta::here("1.2 x", "shadow", 7, true)
        };
        let pairs = meta.pairs();
        let get = |key: &str| {
            pairs
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, v)| v.clone())
        };
        assert_eq!(Meta::from_pairs(&get), Ok(meta.clone()));
        for (missing, _) in meta.pairs() {
            let get = |key: &str| get(key).filter(|_| key != missing);
            let error = Meta::from_pairs(&get).expect_err(missing);
            assert!(error.contains(missing), "{error}");
        }
    }
}
