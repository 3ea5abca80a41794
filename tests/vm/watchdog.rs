//! How long ordinary tasks wait at worst while a test does its worst, measured from outside of the scheduler: threads
//! that sleep 10 ms, and note how late they wake.
//!
//! An emulated CPU on a busy host stands still at times, and whoever is on it. Beside the ordinary threads there is a
//! heartbeat on each CPU, of a class above all that is tested: for the spans in which one of those was late too, nobody
//! is blamed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::load;
use crate::machine::{self, Cpus};

const SLEEP: Duration = Duration::from_millis(10);
const HEARTBEAT: Duration = Duration::from_millis(5);

/// From when on a heartbeat is late, and an ordinary thread worth a note.
const HEARTBEAT_LATE: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_millis(100);

/// Longest that a runnable task may have to wait.
pub const DELAY_MAX: Duration = Duration::from_secs(1);

/// A sleep that ended late: when it should have ended, and when it did, since the start.
type Late = (Duration, Duration);

/// Threads that watch. Those on CPUs of their own tell which one starves.
pub struct Watchdog {
    stop: Arc<AtomicBool>,
    heartbeats: Vec<JoinHandle<Vec<Late>>>,
    sleepers: Vec<(String, JoinHandle<Vec<Late>>)>,
}

/// What was found.
#[derive(Debug)]
pub struct Delays {
    /// The longest delay that nobody but the scheduler explains, and whose.
    pub worst: Duration,
    pub whose: String,
    /// The longest as it was, with the host's part.
    pub worst_raw: Duration,
    /// All that the heartbeats were late.
    pub stalled: Duration,
}

impl std::fmt::Display for Delays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "worst delay {:.1?} ({}); {:.1?} with what the host did to it, which stalled CPUs for {:.1?}",
            self.worst,
            if self.whose.is_empty() {
                "none above the limit of notice"
            } else {
                &self.whose
            },
            self.worst_raw,
            self.stalled,
        )
    }
}

impl Watchdog {
    /// Watch all CPUs.
    pub fn start() -> Self {
        Self::with_pinned_to(&machine::online())
    }

    /// The same, with threads of their own on these CPUs only. On others a higher class is going to starve all else.
    pub fn with_pinned_to(pinned: &Cpus) -> Self {
        let (stop, start) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let thread = |sleep, late, prepare: Box<dyn FnOnce() + Send>| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                prepare();
                lateness(start, sleep, late, &stop)
            })
        };
        let heartbeats = machine::online().into_iter().map(|cpu| {
            let prepare = Box::new(move || {
                load::pin(cpu);
                assert!(load::class(libc::SCHED_FIFO, 99), "root may");
            });
            thread(HEARTBEAT, HEARTBEAT_LATE, prepare)
        });
        let heartbeats = heartbeats.collect();
        let mut sleepers = vec![];
        for cpu in pinned.iter().copied() {
            let prepare = Box::new(move || load::pin(cpu));
            sleepers.push((format!("CPU {cpu}"), thread(SLEEP, LATE, prepare)));
        }
        for n in 0..4 {
            sleepers.push((format!("free {n}"), thread(SLEEP, LATE, Box::new(|| ()))));
        }
        Self {
            stop,
            heartbeats,
            sleepers,
        }
    }

    pub fn end(mut self) -> Delays {
        self.stop.store(true, Ordering::Relaxed);
        let heartbeats = std::mem::take(&mut self.heartbeats).into_iter();
        let stalls = merged(
            heartbeats
                .flat_map(|t| t.join().expect("no panic"))
                .collect(),
        );
        let mut delays = Delays {
            worst: Duration::ZERO,
            whose: String::new(),
            worst_raw: Duration::ZERO,
            stalled: stalls.iter().map(|(from, to)| *to - *from).sum(),
        };
        for (whose, thread) in std::mem::take(&mut self.sleepers) {
            for late in thread.join().expect("no panic") {
                let blamed = unexplained(late, &stalls);
                delays.worst_raw = delays.worst_raw.max(late.1 - late.0);
                if blamed > delays.worst {
                    (delays.worst, delays.whose) = (blamed, whose.clone());
                }
            }
        }
        delays
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sleep until told to stop; the sleeps that ended late by more than so much.
fn lateness(start: Instant, sleep: Duration, late: Duration, stop: &AtomicBool) -> Vec<Late> {
    let mut found = vec![];
    while !stop.load(Ordering::Relaxed) {
        let due = start.elapsed() + sleep;
        std::thread::sleep(sleep);
        let now = start.elapsed();
        if now > due + late {
            found.push((due, now));
        }
    }
    found
}

/// In order, and those that overlap as one.
fn merged(mut spans: Vec<Late>) -> Vec<Late> {
    spans.sort_unstable();
    let mut merged: Vec<Late> = vec![];
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.0 <= last.1 => last.1 = last.1.max(span.1),
            _ => merged.push(span),
        }
    }
    merged
}

/// What of a span is outside of all stalls.
fn unexplained(late: Late, stalls: &[Late]) -> Duration {
    let explained = stalls.iter().map(|(from, to)| {
        let (from, to) = ((*from).max(late.0), (*to).min(late.1));
        to.saturating_sub(from)
    });
    late.1 - late.0 - explained.sum::<Duration>()
}

#[test]
fn a_delay_is_less_what_stalls_explain() {
    let ms = |from, to| (Duration::from_millis(from), Duration::from_millis(to));
    let stalls = merged(vec![ms(40, 60), ms(10, 20), ms(50, 70)]);
    assert_eq!(stalls, [ms(10, 20), ms(40, 70)]);
    assert_eq!(unexplained(ms(15, 100), &stalls), Duration::from_millis(50));
    assert_eq!(unexplained(ms(0, 5), &stalls), Duration::from_millis(5));
}
