//! Statistics that assume little: medians, bootstrap intervals of paired ratios, rank and permutation tests, and
//! Holm's correction.
//!
//! The unit of replication is a *cell*: a scheduler loaded afresh, one workload, one block. The many latencies inside a
//! cell are not independent samples of the scheduler's merit and are never treated as such. Benchmarks' run-to-run
//! variation is not normal (Maricq et al., OSDI 2018), hence the non-parametric methods.

mod bootstrap;
mod holm;
mod rank;

pub use bootstrap::{Interval, median_interval};
pub use holm::holm;
pub use rank::{mann_whitney, sign_flip};

use serde::{Deserialize, Serialize};

/// The level at which a difference counts as one.
pub const ALPHA: f64 = 0.05;

/// The median; NaN for no values.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The `q` quantile with linear interpolation (type 7 of Hyndman and Fan); NaN for no values.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut v: Vec<f64> = values.to_vec();
    v.sort_by(f64::total_cmp);
    let Some(last) = v.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (lo, hi) = (v[at.floor() as usize], v[at.ceil() as usize]);
    lo + (hi - lo) * at.fract()
}

/// Robust relative spread: the interquartile range as a share of the median, NaN where that has no meaning.
pub fn spread(values: &[f64]) -> f64 {
    (quantile(values, 0.75) - quantile(values, 0.25)) / median(values).abs()
}

/// The fewest blocks with which `tests` comparisons, all corrected together, could still give a verdict at all.
///
/// With n blocks the smallest two-sided p of the rank test is 2/C(2n, n); Holm multiplies it by the number of tests.
pub fn blocks_needed(tests: usize) -> u32 {
    (2..=30)
        .find(|&n| smallest_p(n) * tests.max(1) as f64 <= ALPHA)
        .unwrap_or(30)
}

/// The smallest p the rank test can give with `n` blocks.
pub fn smallest_p(n: u32) -> f64 {
    // C(2n, n) = product of (n + i) / i.
    2.0 / (1..=n)
        .map(|i| f64::from(n + i) / f64::from(i))
        .product::<f64>()
}

/// What the numbers allow to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Better,
    Worse,
    NoDifference,
}

/// One metric of one scheduler against the baseline's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Median over the blocks of scheduler / baseline.
    pub ratio: f64,
    /// 95 % bootstrap interval of that median.
    pub low: f64,
    pub high: f64,
    /// Median over the blocks of scheduler - baseline, in the metric's unit.
    pub difference: f64,
    /// Mann-Whitney, two-sided, exact for small samples.
    pub p: f64,
    /// Sign-flip permutation test of the paired log ratios, two-sided: a second opinion, not used for the verdict.
    pub p_paired: f64,
    /// Blocks in which both were measured.
    pub pairs: usize,
}

/// Compare paired values, one pair a block. `seed` fixes the bootstrap.
///
/// Ratios need positive values. Where a zero occurs (no deadline was missed), half of the smallest positive value is
/// added to all, so that zero against zero is no difference and zero against something is a large but finite one.
/// Returns `None` without pairs, or if a value is negative.
pub fn compare(baseline: &[f64], scheduler: &[f64], seed: u64) -> Option<Effect> {
    let n = baseline.len().min(scheduler.len());
    let (a, b) = (&baseline[..n], &scheduler[..n]);
    if n == 0 || a.iter().chain(b).any(|v| !v.is_finite() || *v < 0.0) {
        return None;
    }
    let smallest = a
        .iter()
        .chain(b)
        .copied()
        .filter(|v| *v > 0.0)
        .fold(f64::INFINITY, f64::min);
    let has_zero = a.iter().chain(b).any(|v| *v == 0.0);
    let shift = match (has_zero, smallest.is_finite()) {
        (false, _) => 0.0,
        (true, true) => smallest / 2.0,
        (true, false) => 1.0,
    };
    let logs: Vec<f64> = a
        .iter()
        .zip(b)
        .map(|(x, y)| ((y + shift) / (x + shift)).ln())
        .collect();
    let differences: Vec<f64> = a.iter().zip(b).map(|(x, y)| y - x).collect();
    let Interval { low, high } = median_interval(&logs, 0.95, seed);
    Some(Effect {
        ratio: median(&logs).exp(),
        low: low.exp(),
        high: high.exp(),
        difference: median(&differences),
        p: mann_whitney(a, b),
        p_paired: sign_flip(&logs),
        pairs: n,
    })
}

/// The verdict on an effect. It takes all three: a corrected p at most [`ALPHA`], an interval that excludes 1, and a
/// ratio further from 1 than `min_effect`.
pub fn verdict(
    effect: &Effect,
    p_corrected: f64,
    lower_is_better: bool,
    min_effect: f64,
) -> Verdict {
    let outside = effect.low > 1.0 || effect.high < 1.0;
    let large = effect.ratio.ln().abs() >= (1.0 + min_effect).ln();
    if p_corrected > ALPHA || !outside || !large {
        Verdict::NoDifference
    } else if (effect.ratio < 1.0) == lower_is_better {
        Verdict::Better
    } else {
        Verdict::Worse
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.25), 2.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn five_blocks_carry_six_tests_and_no_more() {
        assert!((smallest_p(5) - 2.0 / 252.0).abs() < 1e-12);
        assert_eq!(blocks_needed(6), 5);
        assert_eq!(blocks_needed(7), 6);
        assert_eq!(blocks_needed(1), 4);
    }

    #[test]
    fn a_clear_improvement_is_found_and_its_direction_known() {
        let a = [100.0, 104.0, 98.0, 101.0, 103.0];
        let b = [50.0, 51.0, 49.5, 52.0, 50.5];
        let e = compare(&a, &b, 1).expect("pairs");
        assert!(
            e.low < e.ratio && e.ratio < e.high && e.high < 0.55,
            "{e:?}"
        );
        assert_eq!(verdict(&e, e.p, true, 0.01), Verdict::Better);
        assert_eq!(verdict(&e, e.p, false, 0.01), Verdict::Worse);
        assert_eq!(verdict(&e, 0.2, true, 0.01), Verdict::NoDifference);
    }

    #[test]
    fn a_tiny_effect_is_no_difference_however_sure() {
        let a: Vec<f64> = (0..8).map(|i| 1000.0 + f64::from(i) * 0.1).collect();
        let b: Vec<f64> = a.iter().map(|v| v * 1.004).collect();
        let e = compare(&a, &b, 1).expect("pairs");
        assert!(e.p < 0.001);
        assert_eq!(verdict(&e, e.p, true, 0.01), Verdict::NoDifference);
    }

    #[test]
    fn zeros_do_not_break_the_ratio() {
        let e = compare(&[0.0; 5], &[0.0; 5], 1).expect("pairs");
        assert_eq!((e.ratio, e.p), (1.0, 1.0));
        let e = compare(&[4.0, 5.0, 4.0, 6.0, 5.0], &[0.0; 5], 1).expect("pairs");
        assert!(e.high < 0.5 && e.low > 0.0, "{e:?}");
        assert!(compare(&[1.0], &[-1.0], 1).is_none());
        assert!(compare(&[], &[], 1).is_none());
    }

    /// A against A: the same distribution, whole families of tests, seeded. At most 5 % of the *families* may hold a
    /// false verdict; Holm's correction and the triple condition keep it well below.
    #[test]
    fn the_same_scheduler_against_itself_is_no_difference() {
        let mut rng = ChaCha8Rng::seed_from_u64(42);
        let mut draw = |n: usize| -> Vec<f64> {
            // Skewed and heavy, as latencies are, with a drift shared by nobody.
            (0..n)
                .map(|_| 100.0 * (-rng.random::<f64>().ln()).powf(1.5) + 20.0)
                .collect()
        };
        let (mut false_families, families) = (0, 100);
        for family in 0..families {
            for (blocks, tests) in [(5, 6), (7, 20)] {
                let effects: Vec<Effect> = (0..tests)
                    .filter_map(|_| compare(&draw(blocks), &draw(blocks), family))
                    .collect();
                let adjusted = holm(&effects.iter().map(|e| e.p).collect::<Vec<_>>());
                let wrong = effects
                    .iter()
                    .zip(&adjusted)
                    .any(|(e, p)| verdict(e, *p, true, 0.01) != Verdict::NoDifference);
                false_families += usize::from(wrong);
            }
        }
        let share = false_families as f64 / (2 * families) as f64;
        assert!(
            share <= ALPHA,
            "{share} of the families claimed a difference where there was none"
        );
    }
}
