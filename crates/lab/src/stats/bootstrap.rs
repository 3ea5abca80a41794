//! The percentile bootstrap of a median (Efron), seeded so that a report is the same each time it is made.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const RESAMPLES: usize = 10_000;

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// The interval that holds the median with the given `confidence`.
///
/// With very few values it is close to their range, which is as it should be: five values cannot pin a median down.
/// NaN without values.
pub fn median_interval(values: &[f64], confidence: f64, seed: u64) -> Interval {
    if values.is_empty() {
        return Interval {
            low: f64::NAN,
            high: f64::NAN,
        };
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut sample = vec![0.0; values.len()];
    let medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            for s in &mut sample {
                *s = values[rng.random_range(0..values.len())];
            }
            super::median(&sample)
        })
        .collect();
    let tail = (1.0 - confidence) / 2.0;
    Interval {
        low: super::quantile(&medians, tail),
        high: super::quantile(&medians, 1.0 - tail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_the_same_for_the_same_seed_and_holds_the_median() {
        let v = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0];
        let a = median_interval(&v, 0.95, 3);
        assert_eq!(a, median_interval(&v, 0.95, 3));
        assert!(
            a.low <= 4.5 && 4.5 <= a.high && a.low >= 1.0 && a.high <= 8.0,
            "{a:?}"
        );
    }

    #[test]
    fn a_constant_has_an_interval_of_no_width() {
        assert_eq!(
            median_interval(&[2.0; 5], 0.95, 1),
            Interval {
                low: 2.0,
                high: 2.0
            }
        );
    }

    /// The bootstrap of a median of n values is a known distribution: a resample's median is at most the k-th value
    /// with a binomial probability. For n = 5 the chance that it is the smallest value is P(Bin(5, 1/5) >= 3) = 5.8 %,
    /// more than the 2.5 % of a tail, so the 95 % interval is the whole range.
    #[test]
    fn five_values_give_their_range() {
        let i = median_interval(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95, 9);
        assert_eq!(
            i,
            Interval {
                low: 1.0,
                high: 5.0
            }
        );
    }
}
