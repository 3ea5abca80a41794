//! Typed measurements: what was measured, in which unit, and which direction is better.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Which direction of a metric is an improvement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Lower,
    Higher,
    /// Context, not a goal: no verdict is drawn from it.
    Neither,
}

/// What a workload promises to report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricDef {
    pub name: String,
    pub unit: String,
    pub better: Better,
    /// Headline metrics are what verdicts are drawn from; the others are shown with their intervals. Keeping the
    /// headlines few keeps the correction for multiple comparisons mild.
    pub headline: bool,
    /// The smallest difference that matters, in `unit`: a share error of 0.03 points against one of 0.3 is ten times as
    /// much, and nothing anyone would notice.
    #[serde(default)]
    pub tolerance: f64,
}

impl MetricDef {
    pub fn new(name: &str, unit: &str, better: Better) -> Self {
        Self {
            name: name.to_string(),
            unit: unit.to_string(),
            better,
            headline: false,
            tolerance: 0.0,
        }
    }

    /// The same, as one of the workload's headlines.
    pub fn headline(name: &str, unit: &str, better: Better) -> Self {
        Self {
            headline: true,
            ..Self::new(name, unit, better)
        }
    }

    /// The same, with differences below `tolerance` (in the metric's unit) not counting.
    pub fn tolerating(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// This metric with a value.
    pub fn measured(&self, value: f64) -> Metric {
        Metric {
            def: self.clone(),
            value,
        }
    }
}

/// One measured value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    #[serde(flatten)]
    pub def: MetricDef,
    /// In `def.unit`. Non-finite values are dropped before saving.
    pub value: f64,
}

/// A histogram as saved: the recorded values and their counts, ascending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedHistogram {
    pub name: String,
    pub unit: String,
    /// (upper end of the bucket, count)
    pub points: Vec<(u64, u64)>,
}

impl SavedHistogram {
    /// From an HDR histogram.
    pub fn from_hdr(name: &str, unit: &str, hdr: &Histogram<u64>) -> Self {
        let points = hdr
            .iter_recorded()
            .map(|v| (v.value_iterated_to(), v.count_at_value()))
            .collect();
        Self {
            name: name.to_string(),
            unit: unit.to_string(),
            points,
        }
    }

    pub fn total(&self) -> u64 {
        self.points.iter().map(|p| p.1).sum()
    }

    /// Add another histogram's counts to this one's.
    pub fn merge(&mut self, other: &SavedHistogram) {
        let mut all: std::collections::BTreeMap<u64, u64> = self.points.iter().copied().collect();
        for (v, n) in &other.points {
            *all.entry(*v).or_default() += n;
        }
        self.points = all.into_iter().collect();
    }
}

/// What one run of a workload gave.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub metrics: Vec<Metric>,
    pub histograms: Vec<SavedHistogram>,
    /// What a reader of the numbers should know: censored requests, coarse timers, …
    pub notes: Vec<String>,
}

/// An empty histogram for latencies: 1 to 2^40 (18 minutes in ns), three significant digits.
pub fn latency_histogram() -> Histogram<u64> {
    let mut h = Histogram::new_with_bounds(1, 1 << 40, 3).unwrap_or_else(|_| {
        // The bounds are constants that the crate accepts; an auto-sized one serves just as well.
        Histogram::new(3).unwrap_or_else(|e| unreachable!("3 significant digits are allowed: {e}"))
    });
    h.auto(true);
    h
}

/// Record a latency in ns, saturating instead of failing.
pub fn record(h: &mut Histogram<u64>, ns: u64) {
    h.saturating_record(ns.max(1));
}

/// The rate at which work is done, whatever a piece of it is called: request, transaction, event, operation.
pub fn throughput_def() -> MetricDef {
    MetricDef::headline("requests_per_s", "1/s", Better::Higher)
}

/// The time of a round of a fixed amount of work.
pub fn round_def() -> MetricDef {
    MetricDef::headline("round", "s", Better::Lower)
}

/// What a workload does again and again, so that what it moves can be told by the piece and not by the second: a scheduler
/// under which more gets done switches more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pieces {
    /// `request` or `round`.
    pub name: &'static str,
    pub per_s: f64,
}

impl Pieces {
    /// Those that these metrics tell of.
    pub fn of(metrics: &[Metric]) -> Option<Self> {
        let value = |def: &MetricDef| {
            let found = metrics.iter().find(|m| m.def.name == def.name);
            found.map(|m| m.value).filter(|v| *v > 0.0)
        };
        let requests = value(&throughput_def()).map(|per_s| Self {
            name: "request",
            per_s,
        });
        let rounds = || {
            value(&round_def()).map(|s| Self {
                name: "round",
                per_s: 1.0 / s,
            })
        };
        requests.or_else(rounds)
    }
}

/// The p50, p99 and p99.9 of a histogram in ns as metrics in µs, named `{prefix}_p50` and so on. `headline` is the one
/// of "p50", "p99", "p99.9" that verdicts are drawn from, if any.
pub fn percentiles_us(prefix: &str, hdr: &Histogram<u64>, headline: Option<&str>) -> Vec<Metric> {
    percentile_defs(prefix, headline)
        .into_iter()
        .zip([0.5, 0.99, 0.999])
        .map(|(def, q)| {
            def.measured(if hdr.is_empty() {
                f64::NAN
            } else {
                hdr.value_at_quantile(q) as f64 / 1000.0
            })
        })
        .collect()
}

/// The definitions that go with [`percentiles_us`].
pub fn percentile_defs(prefix: &str, headline: Option<&str>) -> Vec<MetricDef> {
    ["p50", "p99", "p99.9"]
        .into_iter()
        .map(|p| MetricDef {
            headline: headline == Some(p),
            ..MetricDef::new(&format!("{prefix}_{p}"), "us", Better::Lower)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_converted_to_microseconds() {
        let mut h = latency_histogram();
        for us in 1..=1000u64 {
            record(&mut h, us * 1000);
        }
        let m = percentiles_us("wake", &h, Some("p99"));
        assert_eq!(m[1].def.name, "wake_p99");
        assert!(m[1].def.headline && !m[0].def.headline);
        assert!((m[0].value - 500.0).abs() < 1.0, "{}", m[0].value);
        assert!((m[1].value - 990.0).abs() < 2.0, "{}", m[1].value);
    }

    #[test]
    fn pieces_of_work_are_requests_or_rounds() {
        let of = |metrics: &[Metric]| Pieces::of(metrics).map(|p| (p.name, p.per_s));
        assert_eq!(
            of(&[throughput_def().measured(50.0)]),
            Some(("request", 50.0))
        );
        assert_eq!(of(&[round_def().measured(0.25)]), Some(("round", 4.0)));
        assert_eq!(of(&[throughput_def().measured(0.0)]), None, "nothing done");
        assert_eq!(
            of(&percentile_defs("x", None)
                .iter()
                .map(|d| d.measured(1.0))
                .collect::<Vec<_>>()),
            None
        );
    }

    #[test]
    fn merged_histograms_keep_every_sample() {
        let mut a = SavedHistogram {
            name: "h".into(),
            unit: "ns".into(),
            points: vec![(1, 2), (5, 1)],
        };
        let b = SavedHistogram {
            name: "h".into(),
            unit: "ns".into(),
            points: vec![(3, 1), (5, 4)],
        };
        a.merge(&b);
        assert_eq!(a.points, vec![(1, 2), (3, 1), (5, 5)]);
        assert_eq!(a.total(), 8);
    }
}
