//! The report: a table for people, JSON for machines. Ratios are paired, seed by seed, because the arrivals are the same.

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::experiment::Outcome;

/// A policy's outcomes, one a seed.
#[derive(Debug, Clone)]
pub struct PolicyRuns {
    pub label: String,
    pub outcomes: Vec<Outcome>,
}

/// A metric over the seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub name: String,
    pub mean: f64,
    /// Standard deviation over the seeds; 0 for one.
    pub spread: f64,
    /// Mean over the seeds of this / the baseline's; None without a baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_baseline: Option<f64>,
    /// The same against the oracle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_oracle: Option<f64>,
}

/// A policy's line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicySummary {
    pub policy: String,
    pub metrics: Vec<Summary>,
    /// What the policy counted, means over the seeds.
    pub notes: Vec<(String, f64)>,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let m = mean(values);
    let squares: f64 = values.iter().map(|v| (v - m).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

fn values(runs: &PolicyRuns, name: &str) -> Vec<f64> {
    runs.outcomes
        .iter()
        .map(|o| o.metric(name).unwrap_or(f64::NAN))
        .collect()
}

fn ratio(of: &[f64], to: Option<&PolicyRuns>, name: &str) -> Option<f64> {
    let to = values(to?, name);
    let ratios: Vec<f64> = of.iter().zip(&to).map(|(a, b)| a / b).collect();
    Some(mean(&ratios))
}

/// Summarise all runs; `baseline` and `oracle` are labels.
pub fn summarise(runs: &[PolicyRuns], baseline: &str, oracle: &str) -> Vec<PolicySummary> {
    let find = |label: &str| runs.iter().find(|r| r.label == label);
    let (baseline, oracle) = (find(baseline), find(oracle));
    runs.iter()
        .map(|r| {
            let first = r.outcomes.first();
            let names = first.map(|o| o.metrics.as_slice()).unwrap_or_default();
            let metrics = names
                .iter()
                .map(|(name, _)| {
                    let values = values(r, name);
                    Summary {
                        name: name.clone(),
                        mean: mean(&values),
                        spread: deviation(&values),
                        to_baseline: ratio(&values, baseline, name),
                        to_oracle: ratio(&values, oracle, name),
                    }
                })
                .collect();
            let notes = first.map(|o| o.notes.as_slice()).unwrap_or_default();
            let notes = notes
                .iter()
                .enumerate()
                .map(|(i, (name, _))| {
                    let values: Vec<f64> = r.outcomes.iter().map(|o| o.notes[i].1).collect();
                    (name.clone(), mean(&values))
                })
                .collect();
            PolicySummary {
                policy: r.label.clone(),
                metrics,
                notes,
            }
        })
        .collect()
}

/// Metrics that the table leaves out, because the JSON has them.
fn in_table(name: &str) -> bool {
    !name.ends_with("_count")
        && !["switch_share", "policy_share", "looks_per_decision"].contains(&name)
}

fn number(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "-".to_string(),
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A line a policy, a column a metric: the value, and its ratio to the baseline's below.
pub fn table(summaries: &[PolicySummary], baseline: &str) -> String {
    let Some(first) = summaries.first() else {
        return String::new();
    };
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    let names = first.metrics.iter().map(|s| s.name.as_str());
    let header = ["policy"]
        .into_iter()
        .chain(names.filter(|n| in_table(n)))
        .map(|n| n.replace('_', "\n"));
    table.set_header(header);
    for s in summaries {
        let cells = s.metrics.iter().filter(|m| in_table(&m.name)).map(|m| {
            let spread = if m.spread > 0.0 {
                format!(" ±{}", number(m.spread))
            } else {
                String::new()
            };
            let ratio = match m.to_baseline {
                Some(r) if s.policy != baseline && r.is_finite() => format!("\n×{r:.3}"),
                _ => String::new(),
            };
            format!("{}{spread}{ratio}", number(m.mean))
        });
        table.add_row([s.policy.clone()].into_iter().chain(cells));
    }
    table.to_string()
}
