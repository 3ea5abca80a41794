//! What all programs that serve requests report, under the same names.

use super::Roles;
use crate::metric::{Metric, MetricDef, Outcome, percentile_defs, throughput_def};
use hdrhistogram::Histogram;

/// The rate, and p50, p99 and p99.9 in µs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    pub requests_per_s: f64,
    pub latency_us: [f64; 3],
}

/// What [`Served::metrics`] will be.
pub fn defs() -> Vec<MetricDef> {
    let mut defs = vec![throughput_def()];
    defs.extend(percentile_defs("latency", Some("p99")));
    defs
}

/// What a workload reports whose server is told apart from those who ask it.
pub fn of_a_server() -> Vec<MetricDef> {
    defs().into_iter().chain(Roles::defs(true)).collect()
}

impl Served {
    /// From a rate and the latencies of all requests in ns.
    pub fn from_histogram(requests_per_s: f64, latencies: &Histogram<u64>) -> Self {
        let us = |q| latencies.value_at_quantile(q) as f64 / 1000.0;
        // What was never answered has no latency; the metric is left out.
        let us = |q| {
            if latencies.is_empty() {
                f64::NAN
            } else {
                us(q)
            }
        };
        Self {
            requests_per_s,
            latency_us: [0.5, 0.99, 0.999].map(us),
        }
    }

    pub fn metrics(&self) -> Vec<Metric> {
        let values = std::iter::once(self.requests_per_s).chain(self.latency_us);
        defs()
            .iter()
            .zip(values)
            .map(|(def, v)| def.measured(v))
            .collect()
    }

    /// As the outcome of a run, with who used the CPUs.
    pub fn outcome(&self, roles: Vec<Metric>, notes: Vec<String>) -> Outcome {
        Outcome {
            metrics: self.metrics().into_iter().chain(roles).collect(),
            histograms: Vec::new(),
            notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_requests_there_is_a_rate_but_no_latency() {
        let served = Served::from_histogram(0.0, &crate::metric::latency_histogram());
        assert_eq!(served.requests_per_s, 0.0);
        assert!(served.latency_us.iter().all(|us| us.is_nan()));
    }

    #[test]
    fn each_value_meets_its_name() {
        let served = Served {
            requests_per_s: 1000.0,
            latency_us: [50.0, 99.0, 99.9],
        };
        let named: Vec<(String, f64)> = served
            .metrics()
            .into_iter()
            .map(|m| (m.def.name, m.value))
            .collect();
        let want = [
            ("requests_per_s", 1000.0),
            ("latency_p50", 50.0),
            ("latency_p99", 99.0),
            ("latency_p99.9", 99.9),
        ];
        assert_eq!(named, want.map(|(n, v)| (n.to_string(), v)));
    }
}
