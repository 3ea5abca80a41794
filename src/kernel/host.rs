//! The machine that this runs on: what models and recordings say about where they come from.

use rustix::system::uname;

use crate::kernel::clock;

/// Kernel, machine and boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Release of the kernel, as `uname -r` gives it.
    pub kernel: String,
    /// Architecture and number of CPUs.
    pub machine: String,
    /// Of the kernel's random id of this boot: CLOCK_MONOTONIC begins anew with each. Empty where it does not tell.
    pub boot_id: String,
    /// To be added to CLOCK_MONOTONIC to get the time since 1970, as of now; ns.
    pub monotonic_to_unix_ns: i64,
}

impl Host {
    /// This one.
    pub fn here() -> Self {
        let name = uname();
        let nr_cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            kernel: name.release().to_string_lossy().into_owned(),
            machine: format!("{}, {nr_cpus} CPUs", name.machine().to_string_lossy()),
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .unwrap_or_default()
                .trim()
                .to_string(),
            monotonic_to_unix_ns: clock::unix_ns() as i64 - clock::monotonic_ns() as i64,
        }
    }
}
