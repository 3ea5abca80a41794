//! Loads for the tests, made of threads of the test's own or of stress-ng.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// CPU time that the calling thread has used.
pub fn thread_cpu_time() -> Duration {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: ts is a valid place, the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut ts) };
    Duration::new(ts.tv_sec as u64, ts.tv_nsec as u32)
}

/// Use this much CPU time.
pub fn burst(time: Duration) {
    let end = thread_cpu_time() + time;
    while thread_cpu_time() < end {
        std::hint::spin_loop();
    }
}

/// Pin the calling thread.
pub fn pin(cpu: usize) {
    // SAFETY: the set is initialised, and as large as we say.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
}

/// Set the calling thread's nice value.
pub fn nice(value: i32) {
    // SAFETY: plain system call; 0 is the calling thread.
    assert_eq!(
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) },
        0
    );
}

/// Name the calling thread.
pub fn name(name: &std::ffi::CStr) {
    // SAFETY: the kernel copies the string.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }, 0);
}

/// Threads that work until they are ended.
#[derive(Default)]
pub struct Threads {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Threads {
    /// Add a thread: `prepare` once, then `work` again and again.
    pub fn add(
        &mut self,
        prepare: impl FnOnce() + Send + 'static,
        mut work: impl FnMut() + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.threads.push(std::thread::spawn(move || {
            prepare();
            let before = thread_cpu_time();
            while !stop.load(Ordering::Relaxed) {
                work();
            }
            thread_cpu_time() - before
        }));
    }

    /// End all; the CPU time that each has used.
    pub fn end(mut self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.threads)
            .into_iter()
            .map(|t| t.join().expect("no panic in a load thread"))
            .collect()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Name of the threads of [`alternating`].
pub const ALTERNATING: &std::ffi::CStr = c"alternating";

/// Threads whose bursts alternate between short and long: a moving average is always wrong about them, while the last
/// burst tells the next. A regression must beat it.
pub fn alternating(nr_threads: usize) -> Threads {
    let mut threads = Threads::default();
    for _ in 0..nr_threads {
        let mut long = false;
        threads.add(
            || name(ALTERNATING),
            move || {
                burst(Duration::from_micros(if long { 6_000 } else { 300 }));
                long = !long;
                std::thread::sleep(Duration::from_millis(2));
            },
        );
    }
    threads
}

/// Threads whose bursts are always the same: a moving average is always right about them.
pub fn steady(nr_threads: usize, burst_time: Duration) -> Threads {
    let mut threads = Threads::default();
    for _ in 0..nr_threads {
        threads.add(
            || (),
            move || {
                burst(burst_time);
                std::thread::sleep(Duration::from_millis(2));
            },
        );
    }
    threads
}

/// Run stress-ng to its end. It must succeed.
pub fn stress_ng(args: &str) {
    let output = Command::new("stress-ng")
        .args(args.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("stress-ng is installed (vng/setup does it)");
    assert!(
        output.status.success(),
        "stress-ng {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
