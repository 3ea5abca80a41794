//! `schbench-like`: messengers wake workers, after the model of Chris Mason's schbench.

use super::kind::{Context, Kind, Phase, Workload, bad, join, spawn};
use super::recorder::Recorder;
use crate::calibration::burn;
use crate::error::Result;
use crate::metric::{
    MetricDef, Outcome, SavedHistogram, percentile_defs, percentiles_us, throughput_def,
};
use crate::{strict, sys};
use crossbeam::queue::SegQueue;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub const KIND: Kind = Kind {
    name: "schbench-like",
    about: "messengers wake workers that compute: wake-up latency under saturation",
    measures: "Wake-up latency runs from when the messenger begins to wake its list of waiting workers to when the worker \
        runs, so that a messenger preempted by those it woke counts against the scheduler. Request latency runs from \
        when the worker *starts* on a request (a short sleep, then work), so waiting for a worker is not in it: for \
        that, see open-loop. A worker holds the lock of the CPU it is on while it works, and spins for it before, as in \
        schbench: one that is preempted makes those that come to its CPU burn their time. The loop is closed: a slow \
        scheduler also gets fewer requests.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.messengers == 0 || p.work_us.is_nan() || p.work_us <= 0.0 {
            return Err(bad(place, "`messengers` and `work_us` must be positive"));
        }
        Ok(Box::new(SchbenchLike(p)))
    },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// Threads that wake others; the workers are divided among them.
    messengers: usize,
    /// Workers in all; 0: four per CPU, which saturates.
    workers: usize,
    /// CPU time of a request on an idle CPU.
    work_us: f64,
    /// Sleep before it, as schbench has, standing for network or disk.
    sleep_us: u64,
    /// Whether a worker holds its CPU's lock while it works.
    locking: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            messengers: 1,
            workers: 0,
            work_us: 1000.0,
            sleep_us: 100,
            locking: true,
        }
    }
}

struct SchbenchLike(Params);

/// A lock for each CPU, to be had by spinning only.
struct CpuLocks(Vec<AtomicBool>);

impl CpuLocks {
    fn new() -> Self {
        let last = sys::allowed_cpus().into_iter().max().unwrap_or(0);
        Self((0..=last).map(|_| AtomicBool::new(false)).collect())
    }

    /// Run `body` while holding the lock of the CPU that this thread was on when it got it.
    fn hold<T>(&self, body: impl FnOnce() -> T) -> T {
        let lock = loop {
            let cpu = sys::current_cpu();
            let lock = &self.0[cpu % self.0.len()];
            while lock.swap(true, Ordering::Acquire) {
                std::hint::spin_loop();
            }
            if sys::current_cpu() == cpu {
                break lock;
            }
            // It was moved while it spun.
            lock.store(false, Ordering::Release);
        };
        let result = body();
        lock.store(false, Ordering::Release);
        result
    }
}

/// A worker's side of the exchange with its messenger.
#[derive(Default)]
struct Worker {
    gate: sys::Gate,
    woken_at: AtomicU64,
}

#[derive(Default)]
struct Messenger {
    gate: sys::Gate,
    waiting: SegQueue<usize>,
}

/// No sleep lasts longer, so that a lost wake-up at the end cannot hang a run.
const PATIENCE: Duration = Duration::from_millis(100);

impl Workload for SchbenchLike {
    fn metrics(&self) -> Vec<MetricDef> {
        let mut defs = percentile_defs("wakeup", Some("p99"));
        defs.extend(percentile_defs("request", None));
        defs.push(throughput_def());
        defs
    }

    fn needs_calibration(&self) -> bool {
        true
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let p = &self.0;
        let count = if p.workers == 0 {
            4 * ctx.cpus
        } else {
            p.workers
        };
        let iterations = ctx.calibration.iterations(p.work_us);
        let (phase, locks) = (Phase::default(), CpuLocks::new());
        let workers: Vec<Worker> = (0..count).map(|_| Worker::default()).collect();
        let messengers: Vec<Messenger> = (0..p.messengers).map(|_| Messenger::default()).collect();

        let (elapsed, parts) = std::thread::scope(|scope| -> Result<_> {
            for m in &messengers {
                let (phase, workers) = (&phase, &workers);
                spawn(scope, "sb-messenger", move || {
                    while !phase.stopped() {
                        let now = sys::now_ns();
                        while let Some(w) = m.waiting.pop() {
                            workers[w].woken_at.store(now, Ordering::Release);
                            workers[w].gate.post();
                        }
                        m.gate.wait(PATIENCE);
                    }
                })?;
            }
            let mut handles = Vec::new();
            for (i, w) in workers.iter().enumerate() {
                let (phase, locks) = (&phase, &locks);
                let m = &messengers[i % messengers.len()];
                handles.push(spawn(scope, "sb-worker", move || {
                    let (mut wakeups, mut requests, mut done) =
                        (Recorder::new(), Recorder::new(), 0u64);
                    while !phase.stopped() {
                        m.waiting.push(i);
                        m.gate.post();
                        while !w.gate.wait(PATIENCE) && !phase.stopped() {}
                        let start = sys::now_ns();
                        let woken = w.woken_at.load(Ordering::Acquire);
                        if phase.measuring() {
                            wakeups.record(start.saturating_sub(woken));
                        }
                        if p.sleep_us > 0 {
                            std::thread::sleep(Duration::from_micros(p.sleep_us));
                        }
                        let work = || std::hint::black_box(burn(iterations));
                        if p.locking {
                            locks.hold(work);
                        } else {
                            work();
                        }
                        if phase.measuring() {
                            requests.record(sys::now_ns() - start);
                            done += 1;
                        }
                    }
                    (wakeups, requests, done)
                })?);
            }
            let elapsed = ctx.conduct(&phase);
            let parts = handles
                .into_iter()
                .map(|h| join(h, KIND.name))
                .collect::<Result<Vec<_>>>()?;
            Ok((elapsed, parts))
        })?;

        let done: u64 = parts.iter().map(|p| p.2).sum();
        let (wake, request): (Vec<_>, Vec<_>) = parts.into_iter().map(|(w, r, _)| (w, r)).unzip();
        let (wake, request) = (Recorder::join(wake), Recorder::join(request));
        let mut metrics = percentiles_us("wakeup", &wake, Some("p99"));
        metrics.extend(percentiles_us("request", &request, None));
        metrics.push(throughput_def().measured(done as f64 / elapsed));
        Ok(Outcome {
            metrics,
            histograms: vec![
                SavedHistogram::from_hdr("wakeup", "ns", &wake),
                SavedHistogram::from_hdr("request", "ns", &request),
            ],
            notes: vec![format!("{count} workers, {} wake-ups recorded", wake.len())],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_lock_of_a_cpu() {
        let locks = CpuLocks(vec![AtomicBool::new(false)]);
        let (inside, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        locks.hold(|| {
                            most.fetch_max(
                                inside.fetch_add(1, Ordering::SeqCst) + 1,
                                Ordering::SeqCst,
                            );
                            inside.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
    }
}
