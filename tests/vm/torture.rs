//! Torture: what may go wrong beside, around and inside of the scheduler, and all of it at once. Nobody may wait for
//! longer than a second that neither the host nor a higher class explains, nothing may be ejected, lost or leaked.
//!
//! Short by default; the environment variable SCX_ML_TORTURE_MINUTES makes it last about as many minutes in all.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use scx_ml::kernel::fault::Fault;

use crate::fairness::Group;
use crate::harness::{Ended, Running, state, wait_for};
use crate::load::{self, Threads, allow, burst, hog, stress_ng, stress_ng_at_the_limit, tid};
use crate::machine::{self, Cpus, anonymous_kib};
use crate::watchdog::{DELAY_MAX, Watchdog};

/// Minutes that the long form is to last.
const MINUTES_VARIABLE: &str = "SCX_ML_TORTURE_MINUTES";

/// Longest wait where hundreds or thousands share the CPUs. Who has had more than a share in so many waits for the next, which
/// comes after two seconds of the clock (docs/policy.md) and a turn: half of what the kernel would end the scheduler for.
pub const CROWD_DELAY_MAX: Duration = Duration::from_secs(5);

/// How long a test does its worst: `short`, or in the long form that share of the time that was asked for.
pub fn span(short: Duration, share: f64) -> Duration {
    match std::env::var(MINUTES_VARIABLE) {
        Ok(minutes) => {
            let minutes: f64 = minutes.parse().expect("a number of minutes");
            Duration::from_secs_f64(60.0 * minutes * share).max(short)
        }
        Err(_) => short,
    }
}

/// A scheduler that is watched while something happens to it.
pub struct Tortured {
    pub running: Running,
    watchdog: Watchdog,
}

impl Tortured {
    pub fn start(args: &[&str]) -> Self {
        Self::watched(Running::start(args), &machine::online())
    }

    fn watched(running: Running, pinned: &Cpus) -> Self {
        Self {
            running,
            watchdog: Watchdog::with_pinned_to(pinned),
        }
    }

    /// The load has ended: nobody waited for too long, nothing is left over, and it ends well.
    pub fn end(self) {
        self.end_within(DELAY_MAX);
    }

    /// The same, where so many share the CPUs that each of them may have to wait for so long.
    pub fn end_within(self, delay_max: Duration) {
        let delays = self.watchdog.end();
        println!("{delays}");
        assert!(delays.worst < delay_max, "{delays}\n{}", self.running.log());
        self.running.assert_nothing_is_counted();
        assert_groups_add_up(&self.running);
        self.running.stop();
    }
}

/// What each group adds to its parent is there, and nothing else is but tasks that run at this moment: of a group without
/// any, nothing.
fn assert_groups_add_up(running: &Running) {
    let mut left = vec![];
    let none = wait_for(Duration::from_secs(10), || {
        let groups = running.queues().groups;
        left = groups;
        left.retain(|g| g.active_sum != 0 || g.added != 0);
        left.is_empty()
    });
    assert!(none, "groups count as active: {left:?}");
}

#[test]
fn real_time_hogs_on_all_cpus_but_one() {
    let online = machine::online();
    let Some(left) = online.last().copied().filter(|_| online.len() > 1) else {
        return;
    };
    // Where ext tasks have a server of their own they get a share beside any real-time hog, and the hogs may go on. Else
    // the kernel ends the scheduler when a kernel thread of that CPU has waited for 10 s: not ours to prevent.
    let served = std::path::Path::new("/sys/kernel/debug/sched/ext_server").exists();
    let (busy, rest) = if served { (15, 1) } else { (6, 2) };
    println!("a server for ext tasks: {served}");
    let running = Running::start(&[]);
    let tortured = Tortured::watched(running, &Cpus::from([left]));
    let load = load::alternating(4);
    let end = Instant::now() + span(Duration::from_secs(8), 0.1);
    while Instant::now() < end {
        let mut hogs = Threads::default();
        for cpu in online.iter().copied().filter(|cpu| *cpu != left) {
            hogs.add(move || fifo_on(cpu), hog);
        }
        std::thread::sleep(Duration::from_secs(busy));
        hogs.end();
        std::thread::sleep(Duration::from_secs(rest));
    }
    load.end();
    tortured.end();
}

/// Most of every CPU belongs to a higher class, a few milliseconds at a time.
#[test]
fn real_time_bursts_on_every_cpu() {
    let tortured = Tortured::start(&[]);
    let load = load::alternating(4);
    let mut hogs = Threads::default();
    for cpu in machine::online() {
        hogs.add(
            move || fifo_on(cpu),
            || {
                burst(Duration::from_millis(14));
                std::thread::sleep(Duration::from_millis(6));
            },
        );
    }
    std::thread::sleep(span(Duration::from_secs(6), 0.05));
    hogs.end();
    load.end();
    tortured.end();
}

fn fifo_on(cpu: usize) {
    load::pin(cpu);
    assert!(load::class(libc::SCHED_FIFO, 20), "root may");
}

/// Groups come, change their weights, take threads in, and go, in three levels, while the threads run and sleep.
#[test]
fn cgroups_come_and_go_with_tasks_in_them() {
    let tortured = Tortured::start(&[]);
    let (ids, found) = std::sync::mpsc::channel();
    let mut threads = Threads::default();
    let nr_threads = 8;
    for i in 0..nr_threads {
        let ids = ids.clone();
        threads.add(
            move || ids.send(tid()).expect("the test waits"),
            move || {
                burst(Duration::from_micros(200 << (i % 4)));
                if i % 2 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            },
        );
    }
    let ids: Vec<i32> = found.into_iter().take(nr_threads).collect();
    let end = Instant::now() + span(Duration::from_secs(8), 0.1);
    let top = Group::new("ml-churn", 100);
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        let outer = top.child(&format!("outer-{round}"), 1 + round * 37 % 10_000);
        let inner = outer.child("inner", 1 + round * 611 % 10_000);
        for (i, id) in ids.iter().enumerate() {
            let group = [&top, &outer, &inner][(i + round as usize) % 3];
            group.take(*id);
            inner.set_weight(1 + (round * 97 + i as u32 * 1_013) % 10_000);
            outer.set_weight(1 + (round * 31 + i as u32 * 709) % 10_000);
        }
        std::thread::sleep(Duration::from_millis(20));
        for id in &ids {
            top.take(*id);
        }
    }
    threads.end();
    println!("{round} rounds");
    // The groups' sums are looked at while the outermost is still there.
    assert_groups_add_up(&tortured.running);
    drop(top);
    tortured.end();
}

#[test]
fn memory_pressure() {
    let tortured = Tortured::start(&[]);
    let seconds = span(Duration::from_secs(8), 0.1).as_secs();
    stress_ng(&format!(
        "--vm 2 --vm-bytes 70% --vm-method rand-set -t {seconds}"
    ));
    tortured.end();
}

/// Its process stands still: the kernel part schedules on, loses samples and says how many, and when the process goes on,
/// so does learning, by the model that there was.
/// All that stress-ng knows to do to a scheduler, one after the other, and it stays: in the long form every stressor of that class
/// for a few seconds under each mode, in the short one some that nothing else here resembles.
#[test]
fn stressors_of_schedulers_eject_nobody() {
    let (modes, names): (&[&str], Vec<String>) = match std::env::var(MINUTES_VARIABLE) {
        Ok(_) => (
            &["base", "shadow", "frozen", "learn"],
            load::stressors("scheduler"),
        ),
        Err(_) => (
            &["learn"],
            ["affinity", "schedpolicy", "resched", "yield"]
                .map(str::to_string)
                .to_vec(),
        ),
    };
    assert!(names.len() >= 4, "{names:?}");
    let seconds = span(Duration::from_secs(1), 0.001).min(Duration::from_secs(4));
    for mode in modes {
        let running = Running::start(&["--mode", mode]);
        for name in &names {
            load::stress_ng_if_it_can(&format!(
                "--{name} 4 --timeout {}s",
                seconds.as_secs().max(1)
            ));
            assert_eq!(
                state(),
                "enabled",
                "{name} in mode {mode}:\n{}",
                running.log()
            );
        }
        running.stop();
    }
}

#[test]
fn a_stopped_process_delays_nobody_and_goes_on_later() {
    let args = [
        "--mode",
        "learn",
        "--refit-interval",
        "2",
        "--sample-rate",
        "200000",
    ];
    let mut tortured = Tortured::start(&args);
    let load = load::alternating(4);
    let mut small = Threads::default();
    for _ in 0..6 {
        small.add(|| (), || std::thread::sleep(Duration::from_micros(200)));
    }
    let running = &mut tortured.running;
    let before = running.stats_until(Duration::from_secs(120), |s| s.generation > 0);
    running.signal(Signal::STOP);
    std::thread::sleep(span(Duration::from_secs(10), 0.1).min(Duration::from_secs(60)));
    assert_eq!(state(), "enabled");
    running.signal(Signal::CONT);
    // Counted since the reading before: while it stood still.
    let lost = running.stats().dropped;
    let after = running.stats_until(Duration::from_secs(60), |s| s.slices_predicted > 50);
    small.end();
    load.end();
    println!(
        "generation {} before, {} after; lost for want of room {lost}",
        before.generation, after.generation
    );
    assert!(after.generation >= before.generation, "{after:#?}");
    assert!(lost > 0, "the ring buffer was never full");
    tortured.end();
}

/// The trainer never comes back from a fit. Its time is in the fair lane, nice; the rest goes on, and ends when told to.
#[test]
fn a_spinning_trainer_delays_nobody_and_does_not_keep_it_from_ending() {
    let running = Running::start_with_fault(&[], Fault::TrainerSpin);
    let mut tortured = Tortured::watched(running, &machine::online());
    let load = load::alternating(4);
    tortured
        .running
        .stats_until(Duration::from_secs(30), |s| s.slices() > 0);
    std::thread::sleep(span(Duration::from_secs(6), 0.05));
    load.end();
    tortured.end();
}

/// It dies between the two halves of a publication. What remains is the kernel's own scheduler; the next one starts anew.
#[test]
fn killed_in_the_middle_of_a_publication() {
    let running = Running::start_with_fault(&["--refit-interval", "2"], Fault::PublishKilled);
    let load = load::alternating(4);
    let watchdog = Watchdog::start();
    let Ended { status, log } = running.wait_for(Duration::from_secs(120));
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(Signal::KILL.as_raw()),
        "{log}"
    );
    let ended = wait_for(Duration::from_secs(20), || state() == "disabled");
    assert!(ended, "{}", state());
    let delays = watchdog.end();
    println!("{delays}");
    assert!(delays.worst < DELAY_MAX, "{delays}");
    load.end();
    Running::start(&[]).stop();
}

/// Everything that can be, at once; the long form spends most of its time here, and looks for leaks.
#[test]
fn all_at_once() {
    let span = span(Duration::from_secs(12), 0.4);
    let mut tortured = Tortured::start(&["--refit-interval", "2"]);
    let pid = tortured.running.pid();
    let load = load::alternating(4);
    let n = machine::online().len();
    let seconds = span.as_secs();
    let storm = std::thread::spawn(move || {
        stress_ng_at_the_limit(&format!(
            "--fork 2 --affinity {n} --affinity-delay 1000000 --resched 1 --yield 1 --pipe 1 --switch 1 --timer 1 \
             --timer-freq 1000 --futex 1 --mutex 1 --vm 1 --vm-bytes 20% -t {seconds}"
        ));
    });
    let mut crowd = Threads::default();
    for i in 0..300usize {
        let mut round = i;
        crowd.add(
            || (),
            move || {
                round += 1;
                load::nice([0, 5, 19][round % 3]);
                allow(
                    0,
                    if round % 4 == 0 {
                        vec![round % n]
                    } else {
                        (0..n).collect()
                    },
                );
                burst(Duration::from_micros(100));
                std::thread::sleep(Duration::from_millis(300));
            },
        );
    }
    let (mut generation, mut memory_kib) = (0, vec![]);
    let start = Instant::now();
    while start.elapsed() < span {
        std::thread::sleep(Duration::from_secs(5));
        let stats = tortured.running.stats();
        assert!(
            stats.generation >= generation,
            "a model was lost: {stats:#?}"
        );
        generation = stats.generation;
        memory_kib.push(anonymous_kib(pid));
    }
    storm.join().expect("stress-ng has done its work");
    crowd.end();
    load.end();
    println!("generation {generation}; its memory, KiB: {memory_kib:?}");
    // The window fills, the backlog swells while a fit waits for the CPU: what is still higher in the last quarter of a
    // long time than in its first half is a leak.
    let looks = memory_kib.len();
    let highest = |of: &[u64]| of.iter().copied().max().unwrap_or(0);
    if looks >= 24 {
        let (before, after) = (
            highest(&memory_kib[..looks / 2]),
            highest(&memory_kib[looks - looks / 4..]),
        );
        assert!(
            after < before + before / 20 + 1_024,
            "it grows: {memory_kib:?}"
        );
    }
    // Some 350 tasks share the CPUs, most of them runnable.
    tortured.end_within(CROWD_DELAY_MAX);
}
