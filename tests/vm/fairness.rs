//! Shares of the CPU: pinned tasks, nice, cgroup weights.

use std::path::PathBuf;
use std::time::Duration;

use crate::harness::{Running, wait_for};
use crate::load::{Threads, burst, class, hog, nice, pin};
use crate::machine::ordinary;

/// Long enough for shares to settle on an emulated machine.
const RUN: Duration = Duration::from_secs(8);

#[test]
fn pinned_tasks_are_not_starved_by_tasks_that_may_move() {
    let running = Running::start(&["--mode", "base"]);
    let all: Vec<usize> = ordinary().into_iter().collect();
    let cpus = all.len();
    let mut threads = Threads::default();
    for _ in 0..4 * cpus {
        threads.add(|| (), hog);
    }
    for cpu in all.iter().copied() {
        threads.add(move || pin(cpu), hog);
    }
    for cpu in all.iter().copied() {
        threads.add(
            move || pin(cpu),
            || {
                burst(Duration::from_micros(200));
                std::thread::sleep(Duration::from_millis(5));
            },
        );
    }
    std::thread::sleep(RUN);
    let used = threads.end();
    let (movable, rest) = used.split_at(4 * cpus);
    let (pinned_hogs, sleepers) = rest.split_at(cpus);

    let fair = RUN.as_secs_f64() / 5.0;
    for used in movable.iter().chain(pinned_hogs) {
        let share = used.as_secs_f64() / fair;
        assert!(
            (0.3..3.0).contains(&share),
            "a hog got {share:.2} of its fair share: {used:?}"
        );
    }
    for used in sleepers {
        assert!(*used > RUN / 200, "a pinned sleeper got {used:?}");
    }
    running.stop();
}

#[test]
fn nice_19_beside_nice_0_gets_little_but_something() {
    let running = Running::start(&["--mode", "base"]);
    let mut threads = Threads::default();
    for value in [0, 19] {
        threads.add(
            move || {
                pin(0);
                nice(value);
            },
            hog,
        );
    }
    std::thread::sleep(RUN);
    let used = threads.end();
    running.stop();
    let ratio = used[0].as_secs_f64() / used[1].as_secs_f64();
    assert!(used[1] > Duration::ZERO);
    // 1024 : 15 by the kernel's table; sched_ext rounds nice 19 to a weight of 1 in 100.
    assert!((20.0..250.0).contains(&ratio), "{used:?}: {ratio:.1}");
}

#[test]
fn bursts_of_other_lengths_let_end_are_paid_for() {
    // 120 ms goes on before 40, which is not much shorter. What it has by that beyond its share it owes.
    let running = Running::start(&["--mode", "base"]);
    let mut threads = Threads::default();
    for burst_ms in [120, 40] {
        threads.add(
            || pin(0),
            move || {
                burst(Duration::from_millis(burst_ms));
                std::thread::sleep(Duration::from_micros(500));
            },
        );
    }
    std::thread::sleep(RUN);
    let used = threads.end();
    running.stop();
    let ratio = used[0].as_secs_f64() / used[1].as_secs_f64();
    assert!((0.5..1.8).contains(&ratio), "{used:?}: {ratio:.1}");
}

/// A cgroup of the test's own with a weight, removed when dropped.
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    pub fn new(name: &str, weight: u32) -> Self {
        let root = PathBuf::from("/sys/fs/cgroup");
        std::fs::write(root.join("cgroup.subtree_control"), "+cpu").expect("the cpu controller");
        Self::at(root.join(name), weight)
    }

    /// One inside of this one.
    pub fn child(&self, name: &str, weight: u32) -> Self {
        Self::at(self.0.join(name), weight)
    }

    /// One inside of this one, where that may fail.
    pub fn try_child(&self, name: &str) -> std::io::Result<Self> {
        let path = self.0.join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn at(path: PathBuf, weight: u32) -> Self {
        std::fs::create_dir(&path).expect("a cgroup");
        std::fs::write(path.join("cgroup.type"), "threaded").expect("threaded");
        // For groups inside of it, where the test makes some.
        std::fs::write(path.join("cgroup.subtree_control"), "+cpu").expect("the cpu controller");
        let group = Self(path);
        group.set_weight(weight);
        group
    }

    pub fn set_weight(&self, weight: u32) {
        std::fs::write(self.0.join("cpu.weight"), weight.to_string()).expect("a weight");
    }

    /// Move a thread of ours into it.
    pub fn take(&self, thread: i32) {
        std::fs::write(self.threads(), thread.to_string()).expect("joins the group");
    }

    /// Write one of its files.
    pub fn set(&self, file: &str, value: &str) {
        let path = self.0.join(file);
        std::fs::write(&path, value).unwrap_or_else(|e| panic!("{value} into {path:?}: {e}"));
    }

    /// CPU time that its tasks have used, and those of the groups inside of it.
    pub fn used(&self) -> Duration {
        let text = std::fs::read_to_string(self.0.join("cpu.stat")).expect("its statistics");
        let usage = text.lines().find_map(|l| l.strip_prefix("usage_usec "));
        Duration::from_micros(usage.and_then(|us| us.parse().ok()).expect("its CPU time"))
    }

    /// Its id, as the kernel and the scheduler number it.
    pub fn id(&self) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&self.0).expect("a folder"))
    }

    /// The file that a thread writes 0 into to join.
    pub fn threads(&self) -> PathBuf {
        self.0.join("cgroup.threads")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel needs a moment to let go of threads that have ended.
        wait_for(Duration::from_secs(5), || {
            std::fs::remove_dir(&self.0).is_ok()
        });
    }
}

/// Where only the heaviest run, the virtual clock crawls. By shares alone the lightest would wait for minutes, and the kernel
/// ends a scheduler after 10 s of that.
#[test]
fn nice_19_beside_many_of_nice_minus_20_runs_every_few_seconds() {
    let running = Running::start(&["--mode", "base"]);
    let mut threads = Threads::default();
    for value in [-20, -20, -20, -20, 19] {
        threads.add(
            move || {
                pin(0);
                nice(value);
            },
            hog,
        );
    }
    std::thread::sleep(3 * RUN / 2);
    let used = threads.end();
    println!("{used:.3?}");
    running.stop();
    assert!(used[4] > Duration::from_millis(2), "{used:?}");
    assert!(used[0] > 20 * used[4], "{used:?}");
}

#[test]
fn cgroup_weights_share_between_groups_and_not_between_threads() {
    let running = Running::start(&["--mode", "base"]);
    let (light, heavy) = (Group::new("ml-light", 100), Group::new("ml-heavy", 300));
    let mut threads = Threads::default();
    // Three threads in the light group, one in the heavy: by threads it would be 3 : 1 the other way.
    for group in [&light, &light, &light, &heavy] {
        let file = group.threads();
        threads.add(
            move || {
                std::fs::write(file, "0").expect("joins the group");
                pin(0);
            },
            hog,
        );
    }
    std::thread::sleep(RUN);
    let used: Vec<f64> = threads.end().iter().map(Duration::as_secs_f64).collect();
    running.stop();
    let ratio = used[3] / used[..3].iter().sum::<f64>();
    assert!(
        (2.0..4.5).contains(&ratio),
        "{used:?}: {ratio:.2}, 3 is ideal"
    );
    for one in &used[..3] {
        assert!(
            (0.5..2.0).contains(&(one / used[0])),
            "inside the group: {used:?}"
        );
    }
}

/// Who becomes a real-time task for a moment, again and again, comes back as far ahead as it left.
#[test]
fn a_change_of_class_is_no_way_to_more_than_a_share() {
    let running = Running::start(&["--mode", "base"]);
    let mut threads = Threads::default();
    threads.add(|| pin(0), hog);
    threads.add(
        || pin(0),
        || {
            burst(Duration::from_millis(4));
            assert!(class(libc::SCHED_FIFO, 1) && class(libc::SCHED_OTHER, 0));
        },
    );
    std::thread::sleep(Duration::from_secs(10));
    let used = threads.end();
    println!("steady and changing: {used:.2?}");
    let ratio = used[1].as_secs_f64() / used[0].as_secs_f64();
    assert!((0.5..1.5).contains(&ratio), "{ratio:.2}: {used:.2?}");
    running.stop();
}
