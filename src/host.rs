//! The machine that this runs on: what a model or a recording says about where it comes from.

use std::ffi::CStr;

/// Kernel, machine and boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As `uname -r` gives it.
    pub kernel: String,
    /// As `uname -m` gives it.
    pub machine: String,
    /// Empty where the kernel does not tell.
    pub boot_id: String,
    /// What has to be added to CLOCK_MONOTONIC to have nanoseconds since 1970, as of now.
    pub monotonic_to_unix_ns: i64,
}

impl Host {
    /// This one.
    pub fn here() -> Self {
        // SAFETY: zero is a value of this struct of characters, which the call fills in; it ends each with a zero.
        let name = unsafe {
            let mut name: libc::utsname = std::mem::zeroed();
            libc::uname(&mut name);
            name
        };
        let text = |field: &[libc::c_char]| {
            // SAFETY: zero-terminated, see above.
            unsafe { CStr::from_ptr(field.as_ptr()) }
                .to_string_lossy()
                .into_owned()
        };
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        Self {
            kernel: text(&name.release),
            machine: text(&name.machine),
            boot_id: boot_id.unwrap_or_default().trim().to_string(),
            monotonic_to_unix_ns: crate::clock::monotonic_to_unix_ns(),
        }
    }
}
