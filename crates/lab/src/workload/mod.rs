//! The workloads: each one file, each saying in its `measures` what its numbers mean and what they do not.

mod cc_build;
mod command;
mod fairness;
mod fork_exec;
mod frames;
mod hackbench;
mod open_loop;
mod recorder;
mod schbench;
mod schbench_like;
mod stress_ng;
mod timer;

use crate::calibration::Calibration;
use crate::error::{LabError, Result};
use crate::metric::{MetricDef, Outcome};
use crate::settings::WorkloadSpec;
use crate::{strict, sys};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Told when the measured part of a run begins and ends, so that costs are read over the same time.
pub trait Window: Sync {
    fn begin(&self);
    fn end(&self);
}

/// Nobody listens.
pub struct NoWindow;

impl Window for NoWindow {
    fn begin(&self) {}
    fn end(&self) {}
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
    pub window: &'a dyn Window,
}

impl Context<'_> {
    /// Sleep through warm-up and measured time, moving `phase` and telling the window. For workloads whose threads look
    /// at the phase by themselves. Returns the measured time in seconds as it really was.
    fn conduct(&self, phase: &Phase) -> f64 {
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
struct Phase(AtomicU8);

impl Phase {
    const MEASURE: u8 = 1;
    const STOP: u8 = 2;

    fn set(&self, to: u8) {
        self.0.store(to, Ordering::Release);
    }
    fn measuring(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::MEASURE
    }
    fn stopped(&self) -> bool {
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

/// All kinds, in the order to list them in.
pub const KINDS: &[Kind] = &[
    schbench_like::KIND,
    schbench::KIND,
    open_loop::KIND,
    timer::KIND,
    frames::KIND,
    fairness::KIND,
    hackbench::KIND,
    stress_ng::KIND,
    fork_exec::KIND,
    cc_build::KIND,
    command::KIND,
];

/// The kind called `name`.
///
/// # Errors
/// If there is none, with the nearest.
pub fn kind(name: &str) -> Result<&'static Kind> {
    KINDS
        .iter()
        .find(|k| k.name == name)
        .ok_or_else(|| LabError::UnknownWorkload {
            name: name.to_string(),
            nearest: strict::nearest(name, KINDS.iter().map(|k| k.name)),
        })
}

/// The workload a spec describes.
///
/// # Errors
/// If its kind or a parameter is unknown, or a value is out of range.
pub fn build(spec: &WorkloadSpec) -> Result<Box<dyn Workload>> {
    (kind(&spec.name)?.build)(&spec.params, &format!("workload `{}`", spec.label))
}

/// A value out of range.
fn bad(place: &str, why: impl std::fmt::Display) -> LabError {
    LabError::BadValue {
        place: place.to_string(),
        why: why.to_string(),
    }
}

/// Start a named thread in `scope`. The name is what a scheduler sees as the task's comm.
fn spawn<'s, 'e, T: Send + 's>(
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
fn join<T>(handle: std::thread::ScopedJoinHandle<'_, T>, workload: &str) -> Result<T> {
    handle
        .join()
        .map_err(|_| LabError::workload(workload, "a thread of it panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_builds_with_its_defaults_and_has_a_headline() {
        for k in KINDS {
            let mut params = toml::Table::new();
            if k.name == "command" {
                params.insert("command".into(), "echo 1".into());
                params.insert("regex".into(), "([0-9]+)".into());
            }
            let w = (k.build)(&params, k.name).unwrap_or_else(|e| panic!("{}: {e}", k.name));
            let defs = w.metrics();
            assert!(
                defs.iter().any(|d| d.headline),
                "{} has no headline",
                k.name
            );
            let names: HashSet<_> = defs.iter().map(|d| &d.name).collect();
            assert_eq!(names.len(), defs.len(), "{} repeats a metric", k.name);
            assert!(
                !k.about.is_empty() && k.measures.len() > 40,
                "{} explains too little",
                k.name
            );
        }
    }

    #[test]
    fn every_parameter_is_accepted_with_its_default_and_a_misspelt_one_is_not() {
        for k in KINDS {
            let table: toml::Table =
                [("definitely_not_a_key".to_string(), toml::Value::Integer(1))]
                    .into_iter()
                    .collect();
            let err = (k.build)(&table, "here")
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default();
            assert!(err.starts_with("unknown key"), "{}: {err}", k.name);
            assert!(!(k.keys)().is_empty(), "{} lists no parameters", k.name);
        }
    }

    #[test]
    fn an_unknown_workload_names_the_nearest() {
        let err = build(&WorkloadSpec::parse("open-lop").expect("syntax"))
            .err()
            .map(|e| e.to_string());
        assert_eq!(
            err.as_deref(),
            Some("no workload is called `open-lop`; did you mean `open-loop`?")
        );
    }
}
