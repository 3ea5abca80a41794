//! Clocks. The one of records and models is CLOCK_MONOTONIC, which `bpf_ktime_get_ns()` reads in the kernel.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot, not counting suspend.
pub fn monotonic_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// Nanoseconds since 1970, as the system clock has it.
pub fn unix_ns() -> u64 {
    read(ClockId::Realtime)
}

/// Seconds since 1970, as the system clock has it.
pub fn unix_s() -> u64 {
    unix_ns() / 1_000_000_000
}

/// CPU time of the calling thread.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::ThreadCPUTime)
}

fn read(clock: ClockId) -> u64 {
    let ts = clock_gettime(clock);
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}
