//! `timer`: how late a sleeping task wakes, as cyclictest measures it, beside a load.

use super::kind::{Context, Kind, Phase, Workload, bad, join, spawn};
use super::recorder::Recorder;
use crate::calibration::burn;
use crate::error::Result;
use crate::metric::{Better, MetricDef, Outcome, SavedHistogram, percentile_defs, percentiles_us};
use crate::{strict, sys};
use serde::{Deserialize, Serialize};

pub const KIND: Kind = Kind {
    name: "timer",
    about: "periodic sleepers beside batch hogs: how late they wake (after cyclictest)",
    measures: "Latency runs from the absolute time a thread asked to sleep until, to when it runs: interrupt, wake-up and \
        scheduling together. The threads are ordinary tasks, not real-time ones as cyclictest's are by default, since \
        those would bypass the scheduler under test. A period missed altogether is skipped, its delay counted once.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.period_us < 50 {
            return Err(bad(place, "`period_us` must be at least 50"));
        }
        Ok(Box::new(Timer(p)))
    },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// Time between wake-ups of a thread.
    period_us: u64,
    /// Sleeping threads; 0: one per CPU.
    threads: usize,
    /// Endless batch tasks per CPU beside them.
    hogs_per_cpu: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            period_us: 2000,
            threads: 0,
            hogs_per_cpu: 2,
        }
    }
}

struct Timer(Params);

fn max_def() -> MetricDef {
    MetricDef::new("latency_max", "us", Better::Lower)
}

impl Workload for Timer {
    fn metrics(&self) -> Vec<MetricDef> {
        let mut defs = percentile_defs("latency", Some("p99"));
        defs.push(max_def());
        defs
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let p = &self.0;
        let threads = if p.threads == 0 { ctx.cpus } else { p.threads };
        let period = p.period_us * 1000;
        let phase = Phase::default();
        let parts = std::thread::scope(|scope| -> Result<Vec<Recorder>> {
            for _ in 0..p.hogs_per_cpu * ctx.cpus {
                let phase = &phase;
                spawn(scope, "tm-hog", move || {
                    while !phase.stopped() {
                        std::hint::black_box(burn(20_000));
                    }
                })?;
            }
            let mut handles = Vec::new();
            for i in 0..threads {
                let phase = &phase;
                handles.push(spawn(scope, "tm-sleeper", move || {
                    sys::set_exact_timers();
                    let mut recorder = Recorder::new();
                    // Spread over the period, so that they do not all wake at once.
                    let mut due = sys::now_ns() + period + period * i as u64 / threads as u64;
                    while !phase.stopped() {
                        sys::sleep_until(due);
                        let now = sys::now_ns();
                        if phase.measuring() {
                            recorder.record(now.saturating_sub(due));
                        }
                        while due <= now {
                            due += period;
                        }
                    }
                    recorder
                })?);
            }
            ctx.conduct(&phase);
            handles.into_iter().map(|h| join(h, KIND.name)).collect()
        })?;
        let all = Recorder::join(parts);
        let mut metrics = percentiles_us("latency", &all, Some("p99"));
        metrics.push(max_def().measured(all.max() as f64 / 1000.0));
        Ok(Outcome {
            metrics,
            histograms: vec![SavedHistogram::from_hdr("latency", "ns", &all)],
            notes: vec![format!("{} wake-ups recorded", all.len())],
        })
    }
}
