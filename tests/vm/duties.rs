//! What everybody relies on, whatever the scheduler: SCHED_IDLE stays out of the way, yields yield, signals arrive, no CPU
//! sleeps beside work. Each load runs under the kernel's own scheduler first, in the same boot: that is the yardstick.

use std::io::{Read, Write};
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Running, nr_cpus};
use crate::load::{Threads, burst, class, hog, nice, pin};
use crate::machine::ordinary;

/// How long each load runs under each scheduler.
const RUN: Duration = Duration::from_secs(2);

/// sched(7).
const SCHED_FIFO: i32 = 1;
const SCHED_IDLE: i32 = 5;

/// A load, and what must hold of what it comes to.
struct Duty {
    name: &'static str,
    /// A number to be compared.
    load: fn() -> f64,
    holds: Holds,
}

/// How ours compares with the kernel's own.
enum Holds {
    /// At least this part of it.
    AtLeast(f64),
    /// Less by at most this much.
    Within(f64),
    /// At most so many times as much, and so much more.
    AtMost(f64, f64),
}

impl Holds {
    fn of(&self, theirs: f64, ours: f64) -> bool {
        match *self {
            Self::AtLeast(part) => ours >= part * theirs,
            Self::Within(less) => ours >= theirs - less,
            Self::AtMost(times, more) => ours <= times * theirs + more,
        }
    }
}

const DUTIES: &[Duty] = &[
    Duty {
        name: "share of two hogs beside 16 of SCHED_IDLE",
        load: share_beside_idle,
        holds: Holds::Within(0.03),
    },
    Duty {
        name: "ms late beside SCHED_IDLE on all CPUs",
        load: late_beside_idle,
        holds: Holds::AtMost(2.0, 4.0),
    },
    Duty {
        name: "share of SCHED_IDLE where nothing else runs",
        load: share_of_idle,
        holds: Holds::Within(0.05),
    },
    Duty {
        name: "share of a hog beside four of nice 19 that sleep and wake",
        load: || {
            share_beside_nice(|| {
                burst(Duration::from_micros(1500));
                std::thread::sleep(Duration::from_millis(2));
            })
        },
        // The first fits of learn mode take a tenth of a second of this CPU's two.
        holds: Holds::Within(0.05),
    },
    Duty {
        name: "share of a hog beside four of nice 19 that fork",
        load: || {
            share_beside_nice(|| {
                std::process::Command::new("true").status().expect("true");
            })
        },
        holds: Holds::Within(0.03),
    },
    Duty {
        name: "share of a hog beside four of nice 19 that work",
        load: || share_beside_nice(hog),
        holds: Holds::Within(0.02),
    },
    Duty {
        name: "hand-overs a second by yields",
        load: handovers,
        holds: Holds::AtLeast(0.15),
    },
    Duty {
        name: "ms of CPU per lock waited for by yields",
        load: cpu_per_lock,
        holds: Holds::AtMost(3.0, 1.0),
    },
    Duty {
        name: "events a second of threads that yield under locks",
        load: events_under_locks,
        holds: Holds::AtLeast(0.5),
    },
    Duty {
        name: "signals each way a second",
        load: || in_a_thread(|| signals(false)),
        holds: Holds::AtLeast(0.2),
    },
    Duty {
        name: "answers a second to who spins for them",
        load: || in_a_thread(|| signals(true)),
        holds: Holds::AtLeast(0.1),
    },
    Duty {
        name: "ms late of a pipe's reader whose writer spins on",
        load: late_reader,
        holds: Holds::AtMost(2.0, 4.0),
    },
    Duty {
        name: "round trips a second through pipes",
        load: ping_pong,
        holds: Holds::AtLeast(0.2),
    },
    Duty {
        name: "MB a second through a pipe on one CPU",
        load: || in_a_thread(megabytes_through_a_pipe),
        holds: Holds::AtLeast(0.2),
    },
    Duty {
        name: "ms late beside a real-time task that starts on an idle CPU",
        load: late_beside_real_time,
        holds: Holds::AtMost(2.0, 4.0),
    },
    Duty {
        name: "ms until four that wake together have worked 1.5 ms each",
        load: late_together,
        holds: Holds::AtMost(1.5, 2.0),
    },
];

/// What does not hold beside `theirs` is measured again, so often: an emulated CPU stands still now and then, and what is
/// wrong stays so.
const AGAIN: usize = 2;

fn measured(duty: &Duty, theirs: f64) -> f64 {
    let mut ours = (duty.load)();
    for _ in 0..AGAIN {
        if duty.holds.of(theirs, ours) {
            break;
        }
        println!("{ours:10.3}, and once more: {}", duty.name);
        ours = (duty.load)();
    }
    ours
}

/// All of them under one scheduler after the other, so that it is loaded once a mode.
#[test]
fn duties_are_done_as_by_the_kernels_own_scheduler() {
    // For who works on one of them: a part of its name.
    let wanted = std::env::var("SCX_ML_DUTY").unwrap_or_default();
    let duties: Vec<_> = DUTIES.iter().filter(|d| d.name.contains(&wanted)).collect();
    let run = || -> Vec<f64> { duties.iter().map(|d| (d.load)()).collect() };
    let before = run();
    let run_ours = || -> Vec<f64> {
        let beside = duties.iter().zip(&before);
        beside.map(|(d, &theirs)| measured(d, theirs)).collect()
    };
    let ours = ["base", "learn"].map(|mode| {
        let running = Running::start(&["--mode", mode]);
        let ours = run_ours();
        running.assert_nothing_is_counted();
        running.stop();
        (mode, ours)
    });
    // The host may have been busier meanwhile than before: it need hold beside one of the two only.
    let after = run();
    let mut failed = vec![];
    for (mode, ours) in &ours {
        for (i, duty) in duties.iter().enumerate() {
            let (before, after, ours) = (before[i], after[i], ours[i]);
            let line = format!(
                "{mode}: {before:10.3} {after:10.3} {ours:10.3}  {}",
                duty.name
            );
            println!("{line}");
            if !duty.holds.of(before, ours) && !duty.holds.of(after, ours) {
                failed.push(line);
            }
        }
    }
    assert!(
        failed.is_empty(),
        "kernel's own before and after, scx_ml:\n{}",
        failed.join("\n")
    );
}

fn in_a_thread(load: fn() -> f64) -> f64 {
    std::thread::spawn(load).join().expect("no panic")
}

/// CPU seconds a second.
fn share(used: &[Duration]) -> f64 {
    used.iter().map(Duration::as_secs_f64).sum::<f64>() / RUN.as_secs_f64()
}

fn idle_hogs(threads: &mut Threads, nr: usize) {
    for _ in 0..nr {
        threads.add(|| assert!(class(SCHED_IDLE, 0)), hog);
    }
}

/// Of all CPUs, what one hog for each of them has.
fn share_beside_idle() -> f64 {
    let mut threads = Threads::default();
    for _ in 0..nr_cpus() {
        threads.add(|| (), hog);
    }
    idle_hogs(&mut threads, 8 * nr_cpus());
    std::thread::sleep(RUN);
    let used = threads.end();
    share(&used[..nr_cpus()]) / nr_cpus() as f64
}

fn late_beside_idle() -> f64 {
    let mut threads = Threads::default();
    idle_hogs(&mut threads, 4 * nr_cpus());
    let late = lateness(Duration::from_millis(7));
    threads.end();
    late
}

fn share_of_idle() -> f64 {
    let mut threads = Threads::default();
    idle_hogs(&mut threads, 4 * nr_cpus());
    std::thread::sleep(RUN);
    share(&threads.end()) / nr_cpus() as f64
}

/// The nine-tenths quantile of how late a thread wakes that sleeps for `sleep` again and again, in ms.
fn lateness(sleep: Duration) -> f64 {
    let (end, mut late) = (Instant::now() + RUN, vec![]);
    while Instant::now() < end {
        let due = Instant::now() + sleep;
        std::thread::sleep(sleep);
        late.push(due.elapsed());
    }
    quantile_ms(late, 0.9)
}

fn quantile_ms(mut times: Vec<Duration>, q: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3
}

/// A hog's share of one CPU beside four threads of nice 19 that do this.
fn share_beside_nice(work: fn()) -> f64 {
    let mut threads = Threads::default();
    threads.add(|| pin(0), hog);
    for _ in 0..4 {
        threads.add(
            || {
                pin(0);
                nice(19);
            },
            work,
        );
    }
    std::thread::sleep(RUN);
    let used = threads.end();
    used[0].as_secs_f64() / RUN.as_secs_f64()
}

/// Two threads on one CPU that hand it over to one another: how often a second.
fn handovers() -> f64 {
    let (last, handed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let mut threads = Threads::default();
    for me in [1, 2] {
        let (last, handed) = (last.clone(), handed.clone());
        threads.add(
            || pin(0),
            move || {
                if last.swap(me, Ordering::Relaxed) != me {
                    handed.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::yield_now();
            },
        );
    }
    std::thread::sleep(RUN);
    threads.end();
    handed.load(Ordering::Relaxed) as f64 / RUN.as_secs_f64()
}

/// Who waits for a lock by yielding leaves the CPU to who holds it.
fn cpu_per_lock() -> f64 {
    let lock = Arc::new(AtomicBool::new(false));
    let taken = Arc::new(AtomicU64::new(0));
    let mut threads = Threads::default();
    let held = lock.clone();
    threads.add(
        || pin(0),
        move || {
            held.store(true, Ordering::Release);
            burst(Duration::from_millis(20));
            held.store(false, Ordering::Release);
            std::thread::sleep(Duration::from_millis(5));
        },
    );
    let (wanted, counted) = (lock.clone(), taken.clone());
    threads.add(
        || pin(0),
        move || {
            while wanted.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            counted.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(3));
        },
    );
    std::thread::sleep(RUN);
    let used = threads.end();
    used[1].as_secs_f64() * 1e3 / taken.load(Ordering::Relaxed).max(1) as f64
}

/// What `sysbench threads` does: several threads, fewer locks, and yields while one is held.
fn events_under_locks() -> f64 {
    const YIELDS: u32 = 200;
    let locks: Arc<Vec<Mutex<()>>> = Arc::new((0..4).map(|_| Mutex::new(())).collect());
    let events = Arc::new(AtomicU64::new(0));
    let mut threads = Threads::default();
    for i in 0..8_usize {
        let (locks, events, mut next) = (locks.clone(), events.clone(), i);
        threads.add(
            || (),
            move || {
                for _ in 0..YIELDS {
                    let held = locks[next % locks.len()].lock();
                    std::thread::yield_now();
                    drop(held);
                    next += 1;
                }
                events.fetch_add(1, Ordering::Relaxed);
            },
        );
    }
    std::thread::sleep(RUN);
    threads.end();
    events.load(Ordering::Relaxed) as f64 / RUN.as_secs_f64()
}

/// How many signals a second two threads on one CPU send each other, one at a time.
fn signals(spins: bool) -> f64 {
    /// Block the signal, so that it can be waited for.
    fn expect_signal() -> libc::sigset_t {
        // SAFETY: plain C calls on a set of our own.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGUSR1);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            set
        }
    }
    let wait = |set: &libc::sigset_t| {
        let mut signal = 0;
        // SAFETY: waits for a signal that is blocked.
        unsafe { libc::sigwait(set, &mut signal) };
    };
    let replies = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (answered, ended) = (replies.clone(), stop.clone());
    // SAFETY: of this thread, which outlives the other.
    let asker = unsafe { libc::pthread_self() } as usize;
    let set = expect_signal();
    let answers = std::thread::spawn(move || {
        pin(0);
        let set = expect_signal();
        while !ended.load(Ordering::Relaxed) {
            wait(&set);
            answered.fetch_add(1, Ordering::Release);
            if !spins {
                // SAFETY: it is there.
                unsafe { libc::pthread_kill(asker as libc::pthread_t, libc::SIGUSR1) };
            }
        }
    });
    pin(0);
    let (end, mut asks) = (Instant::now() + RUN, 0_u64);
    while Instant::now() < end {
        let seen = replies.load(Ordering::Acquire);
        // SAFETY: joined below.
        unsafe { libc::pthread_kill(answers.as_pthread_t(), libc::SIGUSR1) };
        if spins {
            while replies.load(Ordering::Acquire) == seen {
                std::hint::spin_loop();
            }
        } else {
            wait(&set);
        }
        asks += 1;
    }
    stop.store(true, Ordering::Relaxed);
    // SAFETY: as above.
    unsafe { libc::pthread_kill(answers.as_pthread_t(), libc::SIGUSR1) };
    answers.join().expect("no panic");
    asks as f64 / RUN.as_secs_f64()
}

/// A pipe's writer goes on spinning: the reader, woken "sync", is not left behind it while another CPU idles.
fn late_reader() -> f64 {
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let start = Instant::now();
    let read = std::thread::spawn(move || {
        let (mut late, mut sent) = (vec![], [0; 8]);
        while reader.read_exact(&mut sent).is_ok() {
            let sent = Duration::from_nanos(u64::from_ne_bytes(sent));
            late.push(start.elapsed().saturating_sub(sent));
        }
        quantile_ms(late, 0.9)
    });
    let end = start + RUN;
    while Instant::now() < end {
        let now_ns = start.elapsed().as_nanos() as u64;
        writer.write_all(&now_ns.to_ne_bytes()).expect("written");
        let until = Instant::now() + Duration::from_millis(8);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(writer);
    read.join().expect("no panic")
}

/// How many round trips a second two threads do through two pipes.
fn ping_pong() -> f64 {
    let (mut ping_read, mut ping) = std::io::pipe().expect("a pipe");
    let (mut pong_read, mut pong) = std::io::pipe().expect("a pipe");
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while ping_read.read_exact(&mut byte).is_ok() && pong.write_all(&byte).is_ok() {}
    });
    let (end, mut rounds, mut byte) = (Instant::now() + RUN, 0_u64, [1]);
    while Instant::now() < end {
        ping.write_all(&byte).expect("sent");
        pong_read.read_exact(&mut byte).expect("echoed");
        rounds += 1;
    }
    drop(ping);
    echo.join().expect("no panic");
    rounds as f64 / RUN.as_secs_f64()
}

/// A writer and a reader, messages of 4 KB.
fn megabytes_through_a_pipe() -> f64 {
    pin(0);
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let sink = std::thread::spawn(move || {
        let (mut buffer, mut bytes) = ([0; 4096], 0);
        while let Ok(got @ 1..) = reader.read(&mut buffer) {
            bytes += got;
        }
        bytes
    });
    let end = Instant::now() + RUN;
    while Instant::now() < end {
        writer.write_all(&[0; 4096]).expect("written");
    }
    drop(writer);
    sink.join().expect("no panic") as f64 / 1e6 / RUN.as_secs_f64()
}

/// A real-time task that starts on an idle CPU: what wakes there goes elsewhere.
fn late_beside_real_time() -> f64 {
    let last = ordinary().into_iter().next_back().expect("a CPU");
    let mut threads = Threads::default();
    threads.add(
        move || {
            pin(last);
            assert!(class(SCHED_FIFO, 10));
        },
        || {
            burst(Duration::from_millis(40));
            std::thread::sleep(Duration::from_millis(15));
        },
    );
    // So that not everybody finds an idle CPU.
    for _ in 1..nr_cpus() {
        threads.add(
            || (),
            || {
                burst(Duration::from_millis(3));
                std::thread::sleep(Duration::from_millis(1));
            },
        );
    }
    let late = lateness(Duration::from_millis(3));
    threads.end();
    late
}

/// Threads that are all woken at one moment, where every CPU is busy, are spread over them. When the slowest is done, mostly.
fn late_together() -> f64 {
    let mut threads = Threads::default();
    for _ in 0..nr_cpus() {
        threads.add(|| (), hog);
    }
    let start = Instant::now();
    let woken_ns = Arc::new(AtomicU64::new(0));
    // They meet before a round and after it.
    let gate = Arc::new(Barrier::new(5));
    let late = Arc::new(Mutex::new(vec![]));
    let stop = Arc::new(AtomicBool::new(false));
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let (gate, late, stop) = (gate.clone(), late.clone(), stop.clone());
            let woken_ns = woken_ns.clone();
            std::thread::spawn(move || {
                loop {
                    gate.wait();
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let at = Duration::from_nanos(woken_ns.load(Ordering::Relaxed));
                    burst(Duration::from_micros(1500));
                    let took = start.elapsed().saturating_sub(at);
                    late.lock().expect("no panic").push(took);
                    gate.wait();
                }
            })
        })
        .collect();
    while start.elapsed() < RUN {
        std::thread::sleep(Duration::from_millis(25));
        woken_ns.store(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        gate.wait();
        gate.wait();
    }
    stop.store(true, Ordering::Relaxed);
    gate.wait();
    for waiter in waiters {
        waiter.join().expect("no panic");
    }
    threads.end();
    let late = std::mem::take(&mut *late.lock().expect("no panic"));
    quantile_ms(late, 0.9)
}
