//! Clocks. The one of records and models is CLOCK_MONOTONIC, which `bpf_ktime_get_ns()` reads in the kernel.

/// Nanoseconds since boot, not counting suspend.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970, as the system clock has it.
pub fn unix_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Seconds since 1970, as the system clock has it.
pub fn unix_s() -> u64 {
    unix_ns() / 1_000_000_000
}

/// CPU time of the calling thread.
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: ts is a valid place to write to, and these clocks always exist on Linux.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}
