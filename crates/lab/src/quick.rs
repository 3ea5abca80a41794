//! The regression check: a short fixed experiment whose ratios are compared with stored ones.
//!
//! It is meant for the deterministic VM (one CPU, virtual time counted in instructions), where results do not depend on
//! what else the host does, so that a continuous integration may fail on them. The stored ratios carry a generous margin:
//! the check is to catch a scheduler that has become much worse, not to measure it.

use crate::compare::Comparison;
use crate::error::{LabError, Result};
use crate::metric::Better;
use crate::settings::{Request, SchedulerSpec, WorkloadSpec};
use crate::strict;
use serde::{Deserialize, Serialize};

/// The ratios this version of the lab holds scx_ml to.
pub const STORED: &str = include_str!("../quick-baseline.toml");

const SCHEDULERS: [&str; 3] = ["eevdf", "scx_ml --mode base", "scx_ml --mode learn"];
/// On its one CPU the lock of schbench-like is never waited for by more than one at a time, and the ratios were stored without it.
const WORKLOADS: [&str; 4] = [
    "open-loop:label=open-loop dedicated",
    "open-loop:workers=shared,label=open-loop shared",
    "schbench-like:locking=false,label=schbench-like",
    "fairness:among=nice",
];

/// What is checked, with the margin where it is not the general one. Of short bursts 99 % is what a single cluster of long
/// arrivals decides, in one block in ten or so: it may double. Wake-up latency may be a hundredth of the baseline's,
/// and then a few microseconds are a large share. Of fairness the index is checked: the share error of the baseline is so
/// near to none that ratios to it mean nothing.
const CHECKED: [(&str, &str, Option<f64>); 9] = [
    ("open-loop dedicated", "short_p99", Some(1.0)),
    ("open-loop dedicated", "long_p99", None),
    ("open-loop dedicated", "slowdown_mean", None),
    ("open-loop shared", "short_p99", Some(1.0)),
    ("open-loop shared", "long_p99", None),
    ("open-loop shared", "slowdown_mean", None),
    ("schbench-like", "wakeup_p99", Some(4.0)),
    ("schbench-like", "requests_per_s", Some(0.15)),
    ("fairness:among=nice", "jain", Some(0.05)),
];

/// The experiment of `--quick`, apart from what the command line may still set (seed, blocks, times).
pub fn request() -> Result<Request> {
    Ok(Request {
        seed: Some(1),
        blocks: Some(2),
        seconds: Some(8.0),
        warmup: Some(1.0),
        schedulers: SCHEDULERS
            .iter()
            .map(|s| SchedulerSpec::from_command(s))
            .collect(),
        workloads: WORKLOADS
            .iter()
            .map(|w| WorkloadSpec::parse(w))
            .collect::<Result<_>>()?,
        ..Request::default()
    })
}

/// What one headline's ratio to the baseline was when it was stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    pub scheduler: String,
    pub workload: String,
    pub metric: String,
    pub ratio: f64,
    /// Where this one needs another margin than the rest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub margin: Option<f64>,
}

/// The stored ratios.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// By how much a ratio may be worse, as a share: 0.5 lets 0.2 become 0.3.
    pub margin: f64,
    #[serde(rename = "expect", default)]
    pub expectations: Vec<Expectation>,
}

/// An expectation that was not met.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression(pub String);

impl Baseline {
    /// Read stored ratios, strictly.
    ///
    /// # Errors
    /// If a key is unknown or a value out of range.
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        let bad = |why: String| LabError::BadValue {
            place: place.to_string(),
            why,
        };
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| bad(e.to_string()))?;
        strict::check_keys(&table, &["margin", "expect"], place)?;
        for entry in table
            .get("expect")
            .and_then(|e| e.as_array())
            .into_iter()
            .flatten()
            .filter_map(|e| e.as_table())
        {
            strict::check_keys(
                entry,
                &["scheduler", "workload", "metric", "ratio", "margin"],
                place,
            )?;
        }
        let baseline: Self = toml::Value::Table(table)
            .try_into()
            .map_err(|e: toml::de::Error| bad(e.to_string()))?;
        let margins = baseline
            .expectations
            .iter()
            .filter_map(|e| e.margin)
            .chain([baseline.margin]);
        if margins.into_iter().any(|m| m.is_nan() || m <= 0.0)
            || baseline
                .expectations
                .iter()
                .any(|e| e.ratio.is_nan() || e.ratio <= 0.0)
        {
            return Err(bad("margins and ratios must be positive".to_string()));
        }
        Ok(baseline)
    }

    /// The ratios of `comparison` in what is checked, as expectations.
    pub fn from_comparison(comparison: &Comparison, margin: f64) -> Self {
        let mut expectations = Vec::new();
        for (workload, metric, own_margin) in CHECKED {
            for row in comparison
                .rows_of(workload)
                .filter(|r| r.metric.name == metric)
            {
                expectations.extend(row.effect.as_ref().map(|e| Expectation {
                    scheduler: row.scheduler.clone(),
                    workload: workload.to_string(),
                    metric: metric.to_string(),
                    ratio: (e.ratio * 1000.0).round().max(1.0) / 1000.0,
                    margin: own_margin,
                }));
            }
        }
        Self {
            margin,
            expectations,
        }
    }

    /// Check a comparison against the stored ratios. A metric that is missing counts as a regression too: a check that
    /// silently checks nothing is none.
    pub fn check(&self, comparison: &Comparison) -> Vec<Regression> {
        self.expectations
            .iter()
            .filter_map(|x| {
                let row = comparison.row(&x.workload, &x.metric, &x.scheduler);
                let found = row.and_then(|r| Some((r.metric.better, r.effect.as_ref()?.ratio)));
                let Some((better, ratio)) = found else {
                    return Some(Regression(format!(
                        "{}: {} under {} was not measured",
                        x.workload, x.metric, x.scheduler
                    )));
                };
                let margin = 1.0 + x.margin.unwrap_or(self.margin);
                let (limit, broken) = match better {
                    Better::Lower => (x.ratio * margin, ratio > x.ratio * margin),
                    Better::Higher => (x.ratio / margin, ratio < x.ratio / margin),
                    Better::Neither => (x.ratio, false),
                };
                broken.then(|| {
                    Regression(format!(
                        "{}: {} under {} is ×{ratio:.3} of {}'s; stored ×{:.3}, limit ×{limit:.3}",
                        x.workload, x.metric, x.scheduler, comparison.baseline, x.ratio
                    ))
                })
            })
            .collect()
    }

    /// As TOML, with a head that says what it is.
    ///
    /// # Errors
    /// If it cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        let body = toml::to_string(self).map_err(|e| LabError::BadValue {
            place: "quick baseline".to_string(),
            why: e.to_string(),
        })?;
        Ok(format!(
            "# Ratios to eevdf of scx_ml's modes in `scx_lab bench --quick` under `vng/run --icount --cpus 1`.\n\
             # The check fails when a ratio is worse than stored by more than the margin (a share).\n\
             # Stored anew by: vng/run --icount -- scx_lab bench --quick --store-quick crates/lab/quick-baseline.toml\n\n{body}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::finished_run;
    use crate::compare::compare;

    fn expecting(ratio: f64) -> Baseline {
        Baseline {
            margin: 0.3,
            expectations: vec![Expectation {
                scheduler: "slow".to_string(),
                workload: "timer".to_string(),
                metric: "latency_p99".to_string(),
                ratio,
                margin: None,
            }],
        }
    }

    #[test]
    fn the_stored_file_is_valid_and_covers_what_the_quick_run_measures() {
        let stored = Baseline::parse(STORED, "quick-baseline.toml").expect("valid");
        let request = request().expect("valid");
        for x in &stored.expectations {
            assert!(
                request.schedulers.iter().any(|s| s.label == x.scheduler),
                "{x:?}"
            );
            assert!(
                request.workloads.iter().any(|w| w.label == x.workload),
                "{x:?}"
            );
        }
    }

    #[test]
    fn falling_behind_by_more_than_the_margin_is_found() {
        let dir = tempfile::tempdir().expect("tempdir");
        let c = compare(&finished_run(dir.path(), 3));
        assert_eq!(expecting(2.0).check(&c), vec![]);
        assert_eq!(expecting(1.7).check(&c), vec![], "within the margin");
        let found = expecting(1.0).check(&c);
        assert!(
            found.len() == 1 && found[0].0.contains("limit ×1.300"),
            "{found:?}"
        );
    }

    #[test]
    fn a_metric_that_was_not_measured_is_a_regression() {
        let dir = tempfile::tempdir().expect("tempdir");
        let c = compare(&finished_run(dir.path(), 1));
        let mut b = expecting(2.0);
        b.expectations[0].workload = "gone".to_string();
        assert!(b.check(&c)[0].0.contains("was not measured"));
    }

    #[test]
    fn stored_ratios_read_back() {
        let mut stored = expecting(2.0);
        stored.expectations[0].margin = Some(0.9);
        let back = Baseline::parse(&stored.to_toml().expect("TOML"), "test").expect("valid");
        assert_eq!(back, stored);
        assert!(Baseline::parse("margin = 0.3\nexpct = 1", "test").is_err());
    }

    #[test]
    fn what_is_checked_is_what_the_workloads_measure() {
        for (workload, metric, _) in CHECKED {
            let request = request().expect("valid");
            let spec = request
                .workloads
                .iter()
                .find(|w| w.label == workload)
                .expect(workload);
            let defs = crate::workload::build(spec).expect("valid").metrics();
            assert!(defs.iter().any(|d| d.name == metric), "{workload} {metric}");
        }
    }
}
