//! Loads for the tests, made of threads of the test's own or of stress-ng.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use scx_ml::kernel::clock::thread_cpu_ns;

/// CPU time that the calling thread has used.
pub fn thread_cpu_time() -> Duration {
    Duration::from_nanos(thread_cpu_ns())
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
    allow(0, [cpu]);
}

/// Let a thread, 0 for the calling one, run on these CPUs.
pub fn allow(tid: i32, cpus: impl IntoIterator<Item = usize>) {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(cpu);
    }
    sched_setaffinity(Pid::from_raw(tid), &set).expect("allowed");
}

/// The calling thread's id.
pub fn tid() -> i32 {
    rustix::thread::gettid().as_raw_pid()
}

/// The CPU that the calling thread is on.
pub fn here() -> usize {
    rustix::thread::sched_getcpu()
}

/// Put the calling thread into a scheduling class, with a priority where that has any. False: it may not.
pub fn class(policy: i32, priority: i32) -> bool {
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // Neither rustix nor nix has it.
    // SAFETY: the kernel reads the parameter.
    unsafe { libc::sched_setscheduler(0, policy, &param) == 0 }
}

/// Set the calling thread's nice value.
pub fn nice(value: i32) {
    rustix::process::setpriority_process(None, value).expect("root may");
}

/// Name the calling thread.
pub fn name(name: &std::ffi::CStr) {
    rustix::thread::set_name(name).expect("named");
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

    /// How many were added.
    pub fn len(&self) -> usize {
        self.threads.len()
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

/// Use the CPU without end, in pieces that are short enough to notice an end.
pub fn hog() {
    burst(Duration::from_millis(1));
}

// stress-ng(1), EXIT STATUS: one or more stressors failed; found too few resources; nothing that was asked for can be had here.
const FAILED: i32 = 2;
const NO_RESOURCE: i32 = 3;
const NOT_IMPLEMENTED: i32 = 4;

/// Run stress-ng to its end. It must succeed.
pub fn stress_ng(args: &str) {
    stress_ng_ends(args, &[]);
}

/// Run stress-ng to its end. Its stressors may have taken from one another what there is of memory and processes.
pub fn stress_ng_at_the_limit(args: &str) {
    stress_ng_ends(args, &[NO_RESOURCE]);
}

/// Run stress-ng to its end, whatever it finds missing on this kernel or machine.
pub fn stress_ng_if_it_can(args: &str) {
    stress_ng_ends(args, &[NO_RESOURCE, NOT_IMPLEMENTED]);
}

fn stress_ng_ends(args: &str, or_with: &[i32]) {
    let output = stress_ng_output(args);
    let well = match output.status.code() {
        Some(0) => true,
        Some(FAILED) => only_its_counts_failed(&output),
        code => code.is_some_and(|code| or_with.contains(&code)),
    };
    let Output { status, stderr, .. } = &output;
    let said = String::from_utf8_lossy(stderr);
    assert!(well, "stress-ng {args}: {status}: {said}");
}

/// Whether all that stress-ng calls a failure is how often it counts its rounds to have gone: it keeps them twice, and a child
/// of a stressor that is killed at the end, or that counts with others, may have written one of the two only.
fn only_its_counts_failed(output: &Output) -> bool {
    const ITS_COUNTS: [&str; 3] = [
        "corrupted bogo-ops counter",
        "hash error in bogo-ops counter",
        "metrics-check: stressor metrics corrupted",
    ];
    let said = String::from_utf8_lossy(&output.stderr);
    let mut failures = said
        .lines()
        .filter(|line| line.contains(" fail:"))
        .peekable();
    failures.peek().is_some()
        && failures.all(|line| ITS_COUNTS.iter().any(|what| line.contains(what)))
}

/// The stressors that stress-ng counts to this class.
pub fn stressors(class: &str) -> Vec<String> {
    let output = stress_ng_output(&format!("--class {class}?"));
    // "class 'scheduler' stressors: affinity clone ..."
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let (_, names) = said
        .split_once("stressors:")
        .unwrap_or_else(|| panic!("stress-ng lists the class {class}: {said}"));
    names.split_whitespace().map(str::to_string).collect()
}

fn stress_ng_output(args: &str) -> Output {
    Command::new("stress-ng")
        .args(args.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("stress-ng is installed (vng/setup does it)")
}
