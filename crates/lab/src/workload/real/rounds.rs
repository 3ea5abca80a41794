//! Programs that do a fixed amount of work and say how long it took, run again and again.

use super::{Beside, Company, Roles, Tool};
use crate::error::Result;
use crate::metric::{MetricDef, Outcome, round_def};
use crate::workload::kind::{Context, Workload};
use crate::{stats, sys};

/// A program of one tool, run again and again.
pub trait Rounds {
    /// Of the workload.
    const NAME: &str;
    const TOOL: Tool;

    fn beside(&self) -> Beside;

    /// Run it once; how many seconds it says that took.
    ///
    /// # Errors
    /// If it does not run, or does not say.
    fn round(&self, cpus: usize) -> Result<f64>;
}

/// Such a program as a workload.
pub struct InRounds<R>(pub R);

impl<R: Rounds> Workload for InRounds<R> {
    fn metrics(&self) -> Vec<MetricDef> {
        std::iter::once(round_def())
            .chain(Roles::defs(false))
            .collect()
    }

    fn check(&self) -> Result<()> {
        R::TOOL.check(R::NAME)?;
        self.0.beside().check(R::NAME)
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let mut company = Company::start(self.0.beside(), ctx.cpus, R::NAME)?;
        run(ctx, &mut company, || self.0.round(ctx.cpus))
    }
}

/// Rounds through warm-up and measured time, at least one measured; the outcome is their median. `round` says how many
/// seconds one took.
///
/// # Errors
/// Those of `round`, and if company left before the end.
pub fn run(
    ctx: &Context,
    company: &mut Company,
    round: impl Fn() -> Result<f64>,
) -> Result<Outcome> {
    let passed = |since: u64| (sys::now_ns() - since) as f64 / 1e9;
    let start = sys::now_ns();
    while passed(start) < ctx.warmup {
        round()?;
    }
    let (times, roles) = Roles::new(None, company).measure(ctx, company, || {
        let (start, mut times) = (sys::now_ns(), Vec::new());
        while times.is_empty() || passed(start) < ctx.seconds {
            times.push(round()?);
        }
        Ok(times)
    })?;
    let median = round_def().measured(stats::median(&times));
    Ok(Outcome {
        metrics: std::iter::once(median).chain(roles).collect(),
        histograms: Vec::new(),
        notes: vec![format!("{} rounds", times.len())],
    })
}
