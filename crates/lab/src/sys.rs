//! The few system calls the workloads need, wrapped so that the rest of the crate stays free of `unsafe`.

use crate::error::{LabError, Result};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// CLOCK_MONOTONIC in ns.
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time of the calling thread in ns.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: ts is a valid timespec to write to. The two clocks used here always exist, so there is no error to see.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Sleep until the monotonic clock shows `at_ns`. Returns at once if it already does.
pub fn sleep_until(at_ns: u64) {
    let ts = libc::timespec {
        tv_sec: (at_ns / 1_000_000_000) as i64,
        tv_nsec: (at_ns % 1_000_000_000) as i64,
    };
    loop {
        // SAFETY: ts is a valid timespec; no remainder is asked for, since the time is absolute.
        let rc = unsafe {
            libc::clock_nanosleep(
                libc::CLOCK_MONOTONIC,
                libc::TIMER_ABSTIME,
                &ts,
                std::ptr::null_mut(),
            )
        };
        if rc != libc::EINTR {
            return;
        }
    }
}

/// Let this thread's timers fire when they are due and not up to 50 µs later.
pub fn set_exact_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes one number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

/// Block while `word` holds `expected`, until woken or `timeout` passes. May return early for no reason.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let ts = timeout.map(|t| libc::timespec {
        tv_sec: t.as_secs() as i64,
        tv_nsec: i64::from(t.subsec_nanos()),
    });
    let ts_ptr = ts
        .as_ref()
        .map_or(std::ptr::null(), |t| t as *const libc::timespec);
    // SAFETY: word outlives the call, and ts_ptr is null or points to ts, which does too.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            ts_ptr,
        );
    }
}

/// Wake up to `count` threads that wait on `word`.
pub fn futex_wake(word: &AtomicU32, count: u32) {
    // SAFETY: word is a valid address; the kernel only uses it as a key.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            count,
        );
    }
}

/// A binary semaphore on a futex: any number of posts before a wait let exactly one wait through.
#[derive(Debug, Default)]
pub struct Gate(AtomicU32);

impl Gate {
    pub fn post(&self) {
        if self.0.swap(1, Ordering::AcqRel) == 0 {
            futex_wake(&self.0, 1);
        }
    }

    /// Wait for a post, at most `timeout` for each sleep. Returns whether one came.
    pub fn wait(&self, timeout: Duration) -> bool {
        if self.0.swap(0, Ordering::AcqRel) == 1 {
            return true;
        }
        futex_wait(&self.0, 0, Some(timeout));
        self.0.swap(0, Ordering::AcqRel) == 1
    }
}

/// The CPUs this process may run on.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: an all-zero cpu_set_t is an empty set; the size passed is the size of the set.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return vec![0];
        }
        set
    };
    // SAFETY: the index stays below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) })
        .collect()
}

/// Restrict the calling thread to `cpus`.
///
/// # Errors
/// If the kernel refuses, for instance because none of them exists.
pub fn pin_to(cpus: &[usize]) -> Result<()> {
    // SAFETY: an all-zero cpu_set_t is an empty set; indices are checked against CPU_SETSIZE.
    let rc = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus.iter().filter(|c| **c < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(LabError::last_os("sched_setaffinity"))
    }
}

/// Set the nice value of the calling thread (a thread, not the process: Linux keeps it per task).
///
/// # Errors
/// If the kernel refuses (a lower value than the present one needs privileges).
pub fn set_nice(nice: i32) -> Result<()> {
    // SAFETY: takes numbers only; 0 is the calling thread.
    let rc = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if rc == 0 {
        Ok(())
    } else {
        Err(LabError::last_os("setpriority"))
    }
}

/// End quietly when nobody reads the output any more, as other command-line tools do, instead of panicking.
pub fn end_on_broken_pipe() {
    // SAFETY: called before any other thread exists; SIG_DFL is always a valid disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Have the kernel send `signal` to this process when its parent dies. For use between fork and exec.
pub fn die_with_parent(signal: libc::c_int) -> std::io::Result<()> {
    // SAFETY: takes numbers only, and is async-signal-safe.
    let rc = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong) };
    if rc == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Send a signal to a process this program started; whether it was there.
pub fn signal(pid: u32, signal: libc::c_int) -> bool {
    // SAFETY: takes numbers only. The caller holds the un-waited Child, so the pid cannot have been reused.
    unsafe { libc::kill(pid as libc::pid_t, signal) == 0 }
}

/// Send a signal to a whole process group this program started.
pub fn signal_group(pgid: u32, signal: libc::c_int) {
    // SAFETY: as above; the group leader is an un-waited child.
    unsafe { libc::killpg(pgid as libc::pid_t, signal) };
}

/// Find a program: a path as it is, a name beside this binary or on the PATH.
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runnable = |p: &std::path::Path| {
        p.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        let path = std::path::PathBuf::from(name);
        return runnable(&path).then_some(path);
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|p| p.parent().map(std::path::Path::to_path_buf));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|p| runnable(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_remembers_one_post() {
        let g = Gate::default();
        g.post();
        g.post();
        assert!(g.wait(Duration::from_millis(1)));
        assert!(!g.wait(Duration::from_millis(1)));
    }

    #[test]
    fn programs_are_found_on_the_path_and_missing_ones_are_not() {
        assert!(find_program("true").is_some());
        assert!(find_program("no-such-program-here").is_none());
        assert!(find_program("/bin/true").is_some());
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed_cpus().is_empty());
    }
}
