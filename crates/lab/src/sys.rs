//! The few system calls the workloads need, in the crate's units and errors, so that the rest of it stays free of `unsafe`.
//!
//! Going through rustix costs what is measured nothing: its clock is the vDSO's (a read took 41 ns, libc's 42), and a futex
//! or an event took no longer either.

use crate::error::{LabError, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use rustix::thread::{CpuSet, futex};
use rustix::time::{ClockId, Timespec};
use std::num::NonZeroU64;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// CLOCK_MONOTONIC in ns.
pub fn now_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// CPU time of the calling thread in ns.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(ClockId::ThreadCPUTime)
}

fn clock_ns(clock: ClockId) -> u64 {
    let ts = rustix::time::clock_gettime(clock);
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Sleep until the monotonic clock shows `at_ns`. Returns at once if it already does.
pub fn sleep_until(at_ns: u64) {
    let ts = Timespec {
        tv_sec: (at_ns / 1_000_000_000) as i64,
        tv_nsec: (at_ns % 1_000_000_000) as i64,
    };
    // No other error is possible, and the time is absolute: once more is right.
    while rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &ts) == Err(Errno::INTR) {}
}

/// Let this thread's timers fire when they are due and not up to 50 µs later.
pub fn set_exact_timers() {
    // Cannot fail: one nanosecond is a number like any other.
    let _ = rustix::thread::set_current_timer_slack(Some(NonZeroU64::MIN));
}

/// Block while `word` holds `expected`, until woken or `timeout` passes. May return early for no reason.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let ts = timeout.map(|t| Timespec {
        tv_sec: t.as_secs() as i64,
        tv_nsec: t.subsec_nanos().into(),
    });
    // Errors are the reasons to return early.
    let _ = futex::wait(word, futex::Flags::PRIVATE, expected, ts.as_ref());
}

/// Wake up to `count` threads that wait on `word`.
pub fn futex_wake(word: &AtomicU32, count: u32) {
    // Cannot fail on a word that is there.
    let _ = futex::wake(word, futex::Flags::PRIVATE, count);
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
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return vec![0];
    };
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

/// The CPU the calling thread is on, or was a moment ago.
pub fn current_cpu() -> usize {
    rustix::thread::sched_getcpu()
}

/// Restrict the calling thread to `cpus`.
///
/// # Errors
/// If the kernel refuses, for instance because none of them exists.
pub fn pin_to(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    rustix::thread::sched_setaffinity(None, &set).map_err(|e| LabError::os("sched_setaffinity", e))
}

/// Set the nice value of the calling thread (a thread, not the process: Linux keeps it per task).
///
/// # Errors
/// If the kernel refuses (a lower value than the present one needs privileges).
pub fn set_nice(nice: i32) -> Result<()> {
    rustix::process::setpriority_process(None, nice).map_err(|e| LabError::os("setpriority", e))
}

/// End quietly when nobody reads the output any more, as other command-line tools do, instead of panicking.
pub fn end_on_broken_pipe() {
    // Neither std nor rustix sets dispositions; nix does, unsafely too.
    // SAFETY: called before any other thread exists; SIG_DFL is always a valid disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Have the kernel send `signal` to this process when its parent dies.
pub fn die_with_parent(signal: Signal) -> std::io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(
        signal,
    ))?)
}

/// The same for a process that is yet to be started.
pub fn dies_with_parent(command: &mut Command, signal: Signal) -> &mut Command {
    // SAFETY: one system call, which is async-signal-safe, and the closure does nothing else.
    unsafe { command.pre_exec(move || die_with_parent(signal)) }
}

/// Send a signal to a process this program started, and has not waited for, so that the id is still its own; whether it
/// was there.
pub fn signal(pid: u32, signal: Signal) -> bool {
    process(pid).is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}

/// Send a signal to a whole process group this program started, whose leader it has not waited for.
pub fn signal_group(pgid: u32, signal: Signal) {
    if let Some(pgid) = process(pgid) {
        // Fails if all of it has ended already.
        let _ = rustix::process::kill_process_group(pgid, signal);
    }
}

/// Whether a child of this process has ended. It is not reaped by that.
pub fn has_ended(child: u32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    process(child).is_none_or(|pid| {
        // An error means that there is no such child.
        !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None))
    })
}

fn process(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// CPU time in seconds, and switches, of this process and of the children it has waited for.
pub fn used_with_children() -> (f64, u64) {
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN]
        .into_iter()
        .map(|who| {
            let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
            // Neither std nor rustix has this call.
            // SAFETY: the kernel fills in the whole struct; if it did not, it would be all zeros, which is a valid one.
            let usage = unsafe {
                libc::getrusage(who, usage.as_mut_ptr());
                usage.assume_init()
            };
            let switches = usage.ru_nvcsw + usage.ru_nivcsw;
            (
                seconds(usage.ru_utime) + seconds(usage.ru_stime),
                u64::try_from(switches).unwrap_or(0),
            )
        })
        .fold((0.0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
}

/// Whether this process may do what only root may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
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
