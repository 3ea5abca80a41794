//! What a workload is, what it is given, and how its threads are run.

use crate::calibration::Calibration;
use crate::error::{LabError, Result};
use crate::metric::{MetricDef, Outcome};
use crate::sys;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Told when the measured part of a run begins and ends, so that costs are read over the same time.
pub trait Window: Sync {
    fn begin(&self);
    fn end(&self);
}

/// What a workload may depend on.
pub struct Context<'a> {
    /// Measured time, in seconds.
    pub seconds: f64,
    /// Time under load before it, in seconds.
    pub warmup: f64,
    pub seed: u64,
    /// CPUs the workload may use.
    pub cpus: usize,
    pub calibration: Calibration,
    /// Where what takes long to prepare may be kept for the next cell, if there will be one.
    pub shared: Option<&'a Path>,
    pub window: &'a dyn Window,
}

impl Context<'_> {
    /// Sleep through warm-up and measured time, moving `phase` and telling the window. For workloads whose threads look
    /// at the phase by themselves. Returns the measured time in seconds as it really was.
    pub(super) fn conduct(&self, phase: &Phase) -> f64 {
        std::thread::sleep(Duration::from_secs_f64(self.warmup));
        self.window.begin();
        let start = sys::now_ns();
        phase.set(Phase::MEASURE);
        std::thread::sleep(Duration::from_secs_f64(self.seconds));
        phase.set(Phase::STOP);
        let end = sys::now_ns();
        self.window.end();
        (end - start) as f64 / 1e9
    }
}

/// Where a run is: threads record only while it measures.
#[derive(Debug, Default)]
pub(super) struct Phase(AtomicU8);

impl Phase {
    pub(super) const MEASURE: u8 = 1;
    pub(super) const STOP: u8 = 2;

    pub(super) fn set(&self, to: u8) {
        self.0.store(to, Ordering::Release);
    }
    pub(super) fn measuring(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::MEASURE
    }
    pub(super) fn stopped(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::STOP
    }
}

/// A workload with its parameters, ready to run.
pub trait Workload {
    /// What it will report. Names are unique within the workload.
    fn metrics(&self) -> Vec<MetricDef>;

    /// Whether it can run here at all: programs installed, controllers available. Called before anything runs.
    ///
    /// # Errors
    /// If it cannot, with what to do about it.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Whether it counts work in calibrated iterations.
    fn needs_calibration(&self) -> bool {
        false
    }

    /// Run it once. It should take about `warmup + seconds`.
    ///
    /// # Errors
    /// If it fails to run or its output makes no sense.
    fn run(&self, ctx: &Context) -> Result<Outcome>;
}

/// A kind of workload, as the command line names it.
pub struct Kind {
    pub name: &'static str,
    /// One line: what it is.
    pub about: &'static str,
    /// What its numbers mean, and what they leave out.
    pub measures: &'static str,
    /// Its parameters with their defaults.
    pub keys: fn() -> Vec<(String, String)>,
    /// Build it from its parameters.
    pub build: fn(&toml::Table, &str) -> Result<Box<dyn Workload>>,
}

/// A value out of range.
pub(super) fn bad(place: &str, why: impl std::fmt::Display) -> LabError {
    LabError::BadValue {
        place: place.to_string(),
        why: why.to_string(),
    }
}

/// Start a named thread in `scope`. The name is what a scheduler sees as the task's comm.
pub(super) fn spawn<'s, 'e, T: Send + 's>(
    scope: &'s std::thread::Scope<'s, 'e>,
    name: &str,
    body: impl FnOnce() -> T + Send + 's,
) -> Result<std::thread::ScopedJoinHandle<'s, T>> {
    std::thread::Builder::new()
        .name(name.to_string())
        .stack_size(256 << 10)
        .spawn_scoped(scope, body)
        .map_err(|source| LabError::Os {
            call: format!("starting thread {name}"),
            source,
        })
}

/// Collect what a thread returned; a panic of the thread becomes an error of the workload.
pub(super) fn join<T>(handle: std::thread::ScopedJoinHandle<'_, T>, workload: &str) -> Result<T> {
    handle
        .join()
        .map_err(|_| LabError::workload(workload, "a thread of it panicked"))
}
