//! `frames`: an animation beside a compile job.

use super::kind::{Context, Kind, Phase, Workload, bad, join, spawn};
use super::recorder::Recorder;
use crate::calibration::burn;
use crate::error::Result;
use crate::metric::{Better, MetricDef, Outcome, SavedHistogram, percentile_defs, percentiles_us};
use crate::{strict, sys};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

pub const KIND: Kind = Kind {
    name: "frames",
    about: "a 60 Hz frame loop beside batch load: deadline misses",
    measures: "Each frame is due at a fixed time, not one period after the last was done. It is missed if its work is not \
        done by when the next is due; a frame that is late by whole periods counts as that many misses, as a display \
        would show it. Frame latency runs from when the frame was due to start. `batch_per_s` says what the batch load \
        got meanwhile, so that starving it does not go unseen.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if !(p.hz > 0.0 && p.work_ms > 0.0) || p.streams == 0 {
            return Err(bad(place, "`hz`, `work_ms` and `streams` must be positive"));
        }
        Ok(Box::new(Frames(p)))
    },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    hz: f64,
    /// CPU time of a frame on an idle CPU.
    work_ms: f64,
    /// Frame loops side by side.
    streams: usize,
    batch_per_cpu: usize,
    batch_nice: i32,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            hz: 60.0,
            work_ms: 4.0,
            streams: 1,
            batch_per_cpu: 2,
            batch_nice: 0,
        }
    }
}

struct Frames(Params);

fn missed_def() -> MetricDef {
    MetricDef::headline("missed", "%", Better::Lower).tolerating(0.5)
}

fn batch_def() -> MetricDef {
    MetricDef::new("batch_per_s", "ms/s", Better::Higher)
}

impl Workload for Frames {
    fn metrics(&self) -> Vec<MetricDef> {
        let mut defs = vec![missed_def()];
        defs.extend(percentile_defs("frame", Some("p99")));
        defs.push(batch_def());
        defs
    }

    fn needs_calibration(&self) -> bool {
        true
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let p = &self.0;
        let period = (1e9 / p.hz) as u64;
        let work = ctx.calibration.iterations(p.work_ms * 1000.0);
        let batch_unit = ctx.calibration.iterations(1000.0);
        let phase = Phase::default();
        let batch_done = AtomicU64::new(0);
        let (elapsed, parts) = std::thread::scope(|scope| -> Result<_> {
            for _ in 0..p.batch_per_cpu * ctx.cpus {
                let (phase, batch_done) = (&phase, &batch_done);
                spawn(scope, "fr-batch", move || {
                    // Raising one's nice value is always allowed.
                    let _ = sys::set_nice(p.batch_nice);
                    while !phase.stopped() {
                        std::hint::black_box(burn(batch_unit));
                        if phase.measuring() {
                            batch_done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })?;
            }
            let mut handles = Vec::new();
            for i in 0..p.streams {
                let phase = &phase;
                handles.push(spawn(scope, "fr-frame", move || {
                    sys::set_exact_timers();
                    let (mut latency, mut frames, mut missed) = (Recorder::new(), 0u64, 0u64);
                    let mut due = sys::now_ns() + period + period * i as u64 / p.streams as u64;
                    while !phase.stopped() {
                        sys::sleep_until(due);
                        std::hint::black_box(burn(work));
                        let took = sys::now_ns().saturating_sub(due);
                        let late = took / period;
                        if phase.measuring() {
                            latency.record(took);
                            frames += 1 + late;
                            missed += late;
                        }
                        due += period * (1 + late);
                    }
                    (latency, frames, missed)
                })?);
            }
            let elapsed = ctx.conduct(&phase);
            let parts = handles
                .into_iter()
                .map(|h| join(h, KIND.name))
                .collect::<Result<Vec<_>>>()?;
            Ok((elapsed, parts))
        })?;
        let frames: u64 = parts.iter().map(|p| p.1).sum();
        let missed: u64 = parts.iter().map(|p| p.2).sum();
        let latency = Recorder::join(parts.into_iter().map(|p| p.0));
        let mut metrics = vec![missed_def().measured(100.0 * missed as f64 / frames.max(1) as f64)];
        metrics.extend(percentiles_us("frame", &latency, Some("p99")));
        metrics.push(batch_def().measured(batch_done.load(Ordering::Relaxed) as f64 / elapsed));
        Ok(Outcome {
            metrics,
            histograms: vec![SavedHistogram::from_hdr("frame", "ns", &latency)],
            notes: vec![format!("{missed} of {frames} frames missed")],
        })
    }
}
