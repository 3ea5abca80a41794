//! Programs that do a fixed amount of work and say how long it took, run again and again.

use super::{Company, Roles};
use crate::error::Result;
use crate::metric::{Better, MetricDef, Outcome};
use crate::workload::kind::Context;
use crate::{stats, sys};

/// The time of a round.
pub fn def() -> MetricDef {
    MetricDef::headline("round", "s", Better::Lower)
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
    let median = def().measured(stats::median(&times));
    Ok(Outcome {
        metrics: std::iter::once(median).chain(roles).collect(),
        histograms: Vec::new(),
        notes: vec![format!("{} rounds", times.len())],
    })
}
