//! The machine that this runs on: what models and recordings say about where they come from.

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
        // SAFETY: utsname consists of arrays of bytes, and uname fills it.
        let name = unsafe {
            let mut name: libc::utsname = std::mem::zeroed();
            libc::uname(&mut name);
            name
        };
        let text = |field: &[libc::c_char]| {
            let bytes: Vec<u8> = field
                .iter()
                .map(|&c| c as u8)
                .take_while(|&c| c != 0)
                .collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let nr_cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self {
            kernel: text(&name.release),
            machine: format!("{}, {nr_cpus} CPUs", text(&name.machine)),
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .unwrap_or_default()
                .trim()
                .to_string(),
            monotonic_to_unix_ns: clock::unix_ns() as i64 - clock::monotonic_ns() as i64,
        }
    }
}
