//! A sample as the fit sees it.

use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::features::Features;
use crate::kernel::sample::Sample;
use crate::learn::mean::Mean;

/// Fewest samples that a model is fitted on and judged by.
pub const SAMPLES_MIN: usize = 500;

/// Most samples that are looked at, the newest: more would take gigabytes of memory and tell no more.
pub const SAMPLES_MAX: usize = 1_000_000;

/// A row counts for no more than so many mean ones of its class: one of a CPU that ends very many bursts may stand for a
/// thousand times as many as its neighbours, and would be all that is known.
const WEIGHT_RATIO_MAX: f64 = 16.0;

/// About so many rows, the newest, tell what a mean one stands for.
const WEIGHT_ROWS: f64 = 100.0;

/// One sample as the fit sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    pub x: Features,
    /// log2(burst in ns), the target.
    pub y: f64,
    /// What would predict without a model, log2(ns): the moving average of log2(burst) by kind of wake-up, one of `x`.
    pub avg: f64,
    /// Bursts that the row stands for.
    pub weight: f64,
    /// Class of the task, an index into [`crate::kernel::native::CLASSES`].
    pub class: usize,
    /// When the burst ended, CLOCK_MONOTONIC ns.
    pub end_ns: u64,
}

impl From<&Sample> for Row {
    fn from(sample: &Sample) -> Self {
        Self {
            x: sample.features(),
            y: sample.log_burst(),
            avg: sample.kind_average(),
            weight: f64::from(sample.0.repeat.max(1)),
            class: sample.class().min(NR_CLASSES - 1),
            end_ns: sample.0.end_ns,
        }
    }
}

/// What the rows of a class stand for of late.
#[derive(Debug, Clone)]
pub struct Weights(Mean);

impl Default for Weights {
    fn default() -> Self {
        Self(Mean::remembering(WEIGHT_ROWS))
    }
}

impl Weights {
    /// How many bursts a row is to count for that stands for `weight`.
    pub fn limited(&mut self, weight: f64) -> f64 {
        self.0.add(weight, 1.0);
        weight.min(WEIGHT_RATIO_MAX * self.0.mean())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::kernel::bpf::NR_FEATURES;
    use crate::kernel::bpf::intf::scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST;

    /// The kind's average among the features.
    pub const KIND: usize = KIND_BURST as usize;

    /// Repeatable noise in [-0.5, 0.5).
    pub fn noise(seed: usize, i: usize) -> f64 {
        let mut z = ((seed as u64) << 32 | i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z ^= z >> 27;
        (z >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }

    /// A row of these features and this log2(burst), the `i`th of a thousand a second.
    pub fn row(i: usize, x: Features, y: f64) -> Row {
        Row {
            x,
            y,
            avg: x[KIND],
            weight: 1.0,
            class: 0,
            end_ns: (i as u64 + 1) * 1_000_000,
        }
    }

    /// Rows of independent features from 13 to 17, of which `y` makes log2(burst).
    pub fn rows(n: usize, y: impl Fn(&Features) -> f64) -> Vec<Row> {
        (0..n)
            .map(|i| {
                let x: Features = std::array::from_fn::<_, NR_FEATURES, _>(|j| {
                    ((15.0 + 4.0 * noise(j, i)) * 256.0).round() / 256.0
                });
                row(i, x, y(&x))
            })
            .collect()
    }

    #[test]
    fn a_heavy_row_counts_for_a_few_and_heavy_rows_for_what_they_are() {
        let mut weights = Weights::default();
        for _ in 0..1_000 {
            assert_eq!(weights.limited(2.0), 2.0);
        }
        let heavy = weights.limited(65_536.0);
        assert!(heavy < 0.2 * 65_536.0, "{heavy}");
        // Whose rows are thinned out: in the end all are alike again.
        for _ in 0..200 {
            weights.limited(256.0);
        }
        assert_eq!(weights.limited(256.0), 256.0);
    }
}
