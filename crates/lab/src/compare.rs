//! From cells to comparisons: pairing by block, medians, verdicts.
//!
//! The family that Holm's correction covers is all headline metrics of one scheduler against the baseline, over all
//! workloads of the run. Other metrics are shown with ratio and interval, but no verdict is drawn from them.

use crate::error::{LabError, Result};
use crate::metric::{Better, Metric, MetricDef};
use crate::plan::Cell;
use crate::results::{CellRecord, Run, Status};
use crate::stats::{self, Effect, Verdict};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// One metric of one workload under one scheduler.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub workload: String,
    pub metric: MetricDef,
    pub scheduler: String,
    pub median: f64,
    /// Interquartile range over the median.
    pub spread: f64,
    /// The values, by block.
    pub values: Vec<f64>,
    /// Against the baseline; none for the baseline itself and where ratios have no meaning.
    pub effect: Option<Effect>,
    /// Corrected p of the headline metrics.
    pub p_corrected: Option<f64>,
    /// None for metrics that are no headlines, and where there are too few blocks for any.
    pub verdict: Option<Verdict>,
}

/// A comparison of several schedulers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub baseline: String,
    pub schedulers: Vec<String>,
    /// Those that the comparison is about, by which rows are lost or won: scx_ml in whatever mode. None: all.
    pub subjects: Vec<String>,
    pub workloads: Vec<String>,
    pub rows: Vec<Row>,
    /// What a reader should know before believing the rows.
    pub warnings: Vec<String>,
}

impl Comparison {
    /// The rows of a workload, in the order metric, scheduler.
    pub fn rows_of<'a>(&'a self, workload: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |r| r.workload == workload)
    }

    /// One row.
    pub fn row(&self, workload: &str, metric: &str, scheduler: &str) -> Option<&Row> {
        self.rows
            .iter()
            .find(|r| r.workload == workload && r.metric.name == metric && r.scheduler == scheduler)
    }
}

/// What was measured on a machine, and what follows from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    pub run: Run,
    pub comparison: Comparison,
}

impl Compared {
    pub fn new(run: Run) -> Self {
        let comparison = compare(&run);
        Self { run, comparison }
    }
}

/// Join the runs of machines with as many CPUs, and compare within each: what was measured on two CPUs and on eight is
/// shown side by side and never paired, nor are verdicts of one corrected for those of the other. Ascending by CPUs.
///
/// # Errors
/// If there is no run, or the baselines differ.
pub fn by_cpus(runs: Vec<Run>) -> Result<Vec<Compared>> {
    let mut machines: BTreeMap<Option<usize>, Vec<Run>> = BTreeMap::new();
    for run in runs {
        machines.entry(run.cpus()).or_default().push(run);
    }
    let merged = machines.into_values().map(merge);
    let merged = merged.collect::<Result<Vec<Run>>>()?;
    let Some(first) = merged.first() else {
        return Err(LabError::Report("nothing to report".to_string()));
    };
    for run in &merged {
        same_baseline(first, run)?;
    }
    Ok(merged.into_iter().map(Compared::new).collect())
}

fn same_baseline(a: &Run, b: &Run) -> Result<()> {
    let (a, b) = (&a.experiment.baseline, &b.experiment.baseline);
    if a == b {
        return Ok(());
    }
    Err(LabError::BadValue {
        place: "report".to_string(),
        why: format!("the runs have different baselines: `{a}` and `{b}`"),
    })
}

/// Join runs into one: their blocks are renumbered so that pairs stay within their run.
///
/// # Errors
/// If there is none, or the baselines differ.
fn merge(runs: Vec<Run>) -> Result<Run> {
    let mut runs = runs.into_iter();
    let mut all = runs
        .next()
        .ok_or_else(|| LabError::Report("nothing to report".to_string()))?;
    for run in runs {
        same_baseline(&all, &run)?;
        let (offset, first) = (all.experiment.blocks, all.cells.len());
        all.experiment.blocks += run.experiment.blocks;
        for s in run.experiment.schedulers {
            if !all
                .experiment
                .schedulers
                .iter()
                .any(|have| have.label == s.label)
            {
                all.experiment.schedulers.push(s);
            }
        }
        for w in run.experiment.workloads {
            match all
                .experiment
                .workloads
                .iter()
                .find(|have| have.label == w.label)
            {
                Some(have) if *have != w => {
                    return Err(LabError::BadValue {
                        place: "report".to_string(),
                        why: format!("workload `{}` has other parameters in another run", w.label),
                    });
                }
                Some(_) => {}
                None => all.experiment.workloads.push(w),
            }
        }
        all.provenance.extend(run.provenance);
        all.cells.extend(run.cells.into_iter().map(|mut c| {
            c.cell.block += offset;
            c.cell.index += first;
            c
        }));
    }
    Ok(all)
}

/// The values of one metric, by scheduler and block.
type Values<'a> = HashMap<&'a str, BTreeMap<u32, f64>>;

/// Compare every scheduler with the baseline.
pub fn compare(run: &Run) -> Comparison {
    let e = &run.experiment;
    let schedulers: Vec<String> = e.schedulers.iter().map(|s| s.label.clone()).collect();
    let workloads: Vec<String> = e.workloads.iter().map(|w| w.label.clone()).collect();
    let mut rows = Vec::new();
    for workload in &workloads {
        let cells: Vec<Measured> = run
            .cells
            .iter()
            .filter(|c| c.is_ok() && c.cell.workload == *workload)
            .map(|c| (&c.cell, c.metrics()))
            .collect();
        for def in metrics_in_order(&cells) {
            let values = collect(&cells, &def.name);
            for scheduler in &schedulers {
                rows.extend(row(workload, &def, scheduler, &e.baseline, &values, e.seed));
            }
        }
    }
    let mut comparison = Comparison {
        baseline: e.baseline.clone(),
        subjects: e
            .schedulers
            .iter()
            .filter(|s| s.is_scx_ml())
            .map(|s| s.label.clone())
            .collect(),
        schedulers,
        workloads,
        rows,
        warnings: Vec::new(),
    };
    decide(&mut comparison, e.min_effect);
    comparison.warnings = warnings(run, &comparison);
    comparison
}

/// A cell with what it gave.
type Measured<'a> = (&'a Cell, Vec<Metric>);

/// The metrics that occur, in the order of their first occurrence.
fn metrics_in_order(cells: &[Measured]) -> Vec<MetricDef> {
    let mut defs: Vec<MetricDef> = Vec::new();
    for m in cells.iter().flat_map(|(_, metrics)| metrics) {
        if !defs.iter().any(|d| d.name == m.def.name) {
            defs.push(m.def.clone());
        }
    }
    // What a workload measures before what it costs, though a cell may lack some of it.
    defs.sort_by_key(|d| d.name.starts_with("cost."));
    defs
}

/// The values by scheduler and block; of a block in which there are several, their mean.
fn collect<'a>(cells: &[Measured<'a>], metric: &str) -> Values<'a> {
    let mut all: HashMap<&str, BTreeMap<u32, Vec<f64>>> = HashMap::new();
    for (cell, metrics) in cells {
        if let Some(m) = metrics.iter().find(|m| m.def.name == metric) {
            all.entry(cell.scheduler.as_str())
                .or_default()
                .entry(cell.block)
                .or_default()
                .push(m.value);
        }
    }
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    all.into_iter()
        .map(|(scheduler, blocks)| {
            let means = blocks.into_iter().map(|(block, v)| (block, mean(v)));
            (scheduler, means.collect())
        })
        .collect()
}

fn row(
    workload: &str,
    def: &MetricDef,
    scheduler: &str,
    baseline: &str,
    values: &Values,
    seed: u64,
) -> Option<Row> {
    let mine = values.get(scheduler)?;
    let effect = values
        .get(baseline)
        .filter(|_| scheduler != baseline)
        .and_then(|base| {
            let pairs: Vec<(f64, f64)> = mine
                .iter()
                .filter_map(|(block, v)| Some((*base.get(block)?, *v)))
                .collect();
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            // The ratio of a cost that was not incurred at all says nothing; the values do.
            let no_cost = def.name.starts_with("cost.") && a.iter().chain(&b).any(|v| *v == 0.0);
            if no_cost {
                None
            } else {
                stats::compare(&a, &b, seed)
            }
        });
    let all: Vec<f64> = mine.values().copied().collect();
    Some(Row {
        workload: workload.to_string(),
        metric: def.clone(),
        scheduler: scheduler.to_string(),
        median: stats::median(&all),
        spread: stats::spread(&all),
        values: all,
        effect,
        p_corrected: None,
        verdict: None,
    })
}

/// Correct the p-values of each scheduler's headlines together, and draw the verdicts.
fn decide(comparison: &mut Comparison, min_effect: f64) {
    for scheduler in comparison.schedulers.clone() {
        let mut family: Vec<&mut Row> = comparison
            .rows
            .iter_mut()
            .filter(|r| {
                r.scheduler == scheduler && r.metric.headline && r.metric.better != Better::Neither
            })
            .filter(|r| r.effect.is_some())
            .collect();
        let p: Vec<f64> = family
            .iter()
            .filter_map(|r| r.effect.as_ref().map(|e| e.p))
            .collect();
        let tests = p.len();
        for (row, adjusted) in family.iter_mut().zip(stats::holm(&p)) {
            row.p_corrected = Some(adjusted);
            let pairs = row.effect.as_ref().map_or(0, |e| e.pairs);
            if (pairs as u32) < stats::blocks_needed(tests) {
                // Not even the clearest difference could be called one: to say "no difference" would be a claim.
                continue;
            }
            row.verdict = row.effect.as_ref().map(|e| {
                let lower = row.metric.better == Better::Lower;
                if e.difference.abs() < row.metric.tolerance {
                    Verdict::NoDifference
                } else {
                    stats::verdict(e, adjusted, lower, min_effect)
                }
            });
        }
    }
}

fn warnings(run: &Run, comparison: &Comparison) -> Vec<String> {
    let mut warnings = Vec::new();
    let failed: Vec<&CellRecord> = run.cells.iter().filter(|c| !c.is_ok()).collect();
    for c in &failed {
        if let Status::Failed { why } = &c.status {
            let first = why.lines().next().unwrap_or_default();
            warnings.push(format!(
                "{} under {} failed in block {}: {first}",
                c.cell.workload, c.cell.scheduler, c.cell.block
            ));
        }
    }
    let tests = comparison
        .rows
        .iter()
        .filter(|r| r.metric.headline && r.effect.is_some())
        .fold(HashMap::<&str, usize>::new(), |mut n, r| {
            *n.entry(r.scheduler.as_str()).or_default() += 1;
            n
        });
    let pairs = comparison
        .rows
        .iter()
        .filter_map(|r| r.effect.as_ref().map(|e| e.pairs))
        .min()
        .unwrap_or(0) as u32;
    if let Some(tests) = tests.values().max() {
        let needed = stats::blocks_needed(*tests);
        if pairs < needed {
            warnings.push(format!(
                "with {pairs} blocks and {tests} headline comparisons no verdict is possible; it takes {needed} blocks"
            ));
        }
    }
    let steal = run
        .cells
        .iter()
        .filter_map(|c| c.cost.as_ref())
        .map(|c| c.cpu_steal)
        .fold(0.0, f64::max);
    if steal > 0.02 {
        warnings.push(format!(
            "up to {:.1} % of the CPU time was stolen by the hypervisor's other guests",
            100.0 * steal
        ));
    }
    let lost: u64 = run
        .cells
        .iter()
        .filter_map(|c| c.cost.as_ref()?.probe_lost)
        .sum();
    if lost > 0 {
        warnings.push(format!("the measuring probe lost {lost} events"));
    }
    if run
        .provenance
        .iter()
        .any(|p| p.virtualisation.contains("emulated"))
    {
        warnings.push(
            "the machine was emulated: kernel paths are inflated and only ratios within a block mean anything".to_string(),
        );
    }
    let mut boots: Vec<&str> = run.provenance.iter().map(|p| p.boot_id.as_str()).collect();
    boots.sort_unstable();
    boots.dedup();
    if boots.len() > 1 {
        warnings.push(format!(
            "measured over {} boots; pairs are always within one",
            boots.len()
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::{finished_run, on_cpus};

    #[test]
    fn a_slow_scheduler_is_found_worse_and_an_equal_one_is_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let c = compare(&finished_run(dir.path(), 6));
        let slow = c.row("timer", "latency_p99", "slow").expect("row");
        assert_eq!(slow.verdict, Some(Verdict::Worse));
        assert!((1.8..2.2).contains(&slow.effect.as_ref().expect("effect").ratio));
        let same = c.row("timer", "latency_p99", "same").expect("row");
        assert_eq!(same.verdict, Some(Verdict::NoDifference));
        assert!(
            c.row("timer", "latency_p99", "eevdf")
                .expect("row")
                .effect
                .is_none()
        );
        assert_eq!(
            c.row("timer", "ops", "slow").expect("row").verdict,
            None,
            "not a headline"
        );
        assert!(c.warnings.is_empty(), "{:?}", c.warnings);
    }

    #[test]
    fn too_few_blocks_are_warned_of_and_give_no_verdict() {
        let dir = tempfile::tempdir().expect("tempdir");
        let c = compare(&finished_run(dir.path(), 3));
        assert!(
            c.warnings[0].contains("no verdict is possible"),
            "{:?}",
            c.warnings
        );
        assert!(c.rows.iter().all(|r| r.verdict.is_none()));
    }

    #[test]
    fn several_values_in_a_block_are_one() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut run = finished_run(dir.path(), 6);
        let once = compare(&run);
        // As ABBA order has it: each cell again, here with three times the value.
        let mut again = run.cells.clone();
        for c in &mut again {
            c.outcome.metrics.iter_mut().for_each(|m| m.value *= 3.0);
        }
        run.cells.extend(again);
        let twice = compare(&run);
        let (a, b) = (&once.rows[0], &twice.rows[0]);
        assert_eq!(a.values.len(), b.values.len());
        assert!((b.median / a.median - 2.0).abs() < 1e-9);
    }

    #[test]
    fn merged_runs_pair_within_each() {
        let (a, b) = (
            tempfile::tempdir().expect("tempdir"),
            tempfile::tempdir().expect("tempdir"),
        );
        let merged = merge(vec![finished_run(a.path(), 3), finished_run(b.path(), 3)])
            .expect("same baseline");
        assert_eq!(merged.cells.len(), 36);
        let c = compare(&merged);
        assert_eq!(
            c.row("timer", "latency_p99", "slow")
                .expect("row")
                .effect
                .as_ref()
                .expect("effect")
                .pairs,
            6
        );
        assert_eq!(
            c.row("timer", "latency_p99", "slow").expect("row").verdict,
            Some(Verdict::Worse)
        );
    }

    #[test]
    fn machines_with_different_numbers_of_cpus_are_kept_apart() {
        let (a, b, c) = (
            tempfile::tempdir().expect("tempdir"),
            tempfile::tempdir().expect("tempdir"),
            tempfile::tempdir().expect("tempdir"),
        );
        let machines = by_cpus(vec![
            on_cpus(finished_run(a.path(), 6), 4),
            on_cpus(finished_run(b.path(), 3), 2),
            on_cpus(finished_run(c.path(), 3), 2),
        ])
        .expect("same baseline");
        let blocks: Vec<_> = machines
            .iter()
            .map(|m| (m.run.cpus(), m.run.experiment.blocks))
            .collect();
        assert_eq!(blocks, [(Some(2), 6), (Some(4), 6)]);
        for m in &machines {
            let row = m.comparison.row("timer", "latency_p99", "slow");
            let effect = row.and_then(|r| r.effect.as_ref()).expect("effect");
            assert_eq!(effect.pairs, 6);
        }
    }

    #[test]
    fn runs_with_different_baselines_are_not_merged() {
        let dir = tempfile::tempdir().expect("tempdir");
        let a = finished_run(dir.path(), 1);
        let mut b = a.clone();
        b.experiment.baseline = "slow".to_string();
        assert!(by_cpus(vec![a.clone(), b.clone()]).is_err());
        assert!(by_cpus(vec![on_cpus(a, 2), on_cpus(b, 4)]).is_err());
        assert!(by_cpus(Vec::new()).is_err());
    }
}
