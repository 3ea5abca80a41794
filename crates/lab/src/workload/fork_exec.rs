//! `fork-exec`: starting small programs, as shells and build systems do all day.

use super::kind::{Context, Kind, Phase, Workload, bad, join, spawn};
use super::recorder::Recorder;
use crate::error::{LabError, Result};
use crate::metric::{Better, MetricDef, Outcome, SavedHistogram, percentile_defs, percentiles_us};
use crate::{strict, sys};
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};

pub const KIND: Kind = Kind {
    name: "fork-exec",
    about: "start a small program again and again on every CPU: programs per second",
    measures: "How many times per second a program that does nothing is started, run and waited for, by one thread per \
        CPU. Most of the time is the kernel's for fork, exec and exit; the scheduler's part is where it places the new \
        task and how soon parent and child run.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.per_cpu == 0 {
            return Err(bad(place, "`per_cpu` must be positive"));
        }
        Ok(Box::new(ForkExec(p)))
    },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    program: String,
    /// Threads per CPU that start it.
    per_cpu: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            program: "/bin/true".to_string(),
            per_cpu: 1,
        }
    }
}

struct ForkExec(Params);

fn rate_def() -> MetricDef {
    MetricDef::headline("execs_per_s", "1/s", Better::Higher)
}

impl Workload for ForkExec {
    fn metrics(&self) -> Vec<MetricDef> {
        let mut defs = vec![rate_def()];
        defs.extend(percentile_defs("exec", None));
        defs
    }

    fn check(&self) -> Result<()> {
        sys::find_program(&self.0.program)
            .map(|_| ())
            .ok_or_else(|| LabError::MissingProgram {
                program: self.0.program.clone(),
                needed_by: format!("workload `{}`", KIND.name),
                hint: "name another with program=…".to_string(),
            })
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let phase = Phase::default();
        let (elapsed, parts) = std::thread::scope(|scope| -> Result<_> {
            let mut handles = Vec::new();
            for _ in 0..self.0.per_cpu * ctx.cpus {
                let phase = &phase;
                handles.push(spawn(scope, "fx-parent", move || -> std::io::Result<_> {
                    let (mut times, mut done) = (Recorder::new(), 0u64);
                    while !phase.stopped() {
                        let start = sys::now_ns();
                        Command::new(&self.0.program)
                            .stdin(Stdio::null())
                            .stdout(Stdio::null())
                            .status()?;
                        if phase.measuring() {
                            times.record(sys::now_ns() - start);
                            done += 1;
                        }
                    }
                    Ok((times, done))
                })?);
            }
            let elapsed = ctx.conduct(&phase);
            let parts = handles
                .into_iter()
                .map(|h| join(h, KIND.name)?.map_err(|e| LabError::workload(KIND.name, e)))
                .collect::<Result<Vec<_>>>()?;
            Ok((elapsed, parts))
        })?;
        let done: u64 = parts.iter().map(|p| p.1).sum();
        let times = Recorder::join(parts.into_iter().map(|p| p.0));
        let mut metrics = vec![rate_def().measured(done as f64 / elapsed)];
        metrics.extend(percentiles_us("exec", &times, None));
        Ok(Outcome {
            metrics,
            histograms: vec![SavedHistogram::from_hdr("exec", "ns", &times)],
            notes: Vec::new(),
        })
    }
}
