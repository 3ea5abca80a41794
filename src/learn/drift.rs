//! Whether the published model has stopped being good: its error rises (Page-Hinkley), or a rival has less.

/// Page-Hinkley's test for an increase of a mean (Page, Biometrika 1954; parameters as in MOA): the cumulative sum of
/// deviations from the running mean, less a tolerance, signals when it has risen by `threshold` above its minimum.
#[derive(Debug, Clone)]
pub struct PageHinkley {
    /// Values to see before the first signal.
    min_count: u64,
    /// Deviations up to this are not drift, in the unit of the values.
    tolerance: f64,
    /// Rise of the cumulative sum that signals.
    threshold: f64,
    count: u64,
    mean: f64,
    sum: f64,
    min_sum: f64,
}

impl Default for PageHinkley {
    /// For |log2 error|, in octaves.
    fn default() -> Self {
        Self::new(100, 0.1, 200.0)
    }
}

impl PageHinkley {
    /// See the fields.
    pub fn new(min_count: u64, tolerance: f64, threshold: f64) -> Self {
        Self {
            min_count,
            tolerance,
            threshold,
            count: 0,
            mean: 0.0,
            sum: 0.0,
            min_sum: 0.0,
        }
    }

    /// Take one value in. True when the mean has risen: the test then starts anew.
    pub fn add(&mut self, value: f64) -> bool {
        if !value.is_finite() {
            return false;
        }
        self.count += 1;
        self.mean += (value - self.mean) / self.count as f64;
        self.sum += value - self.mean - self.tolerance;
        self.min_sum = self.min_sum.min(self.sum);
        let drifted = self.count >= self.min_count && self.sum - self.min_sum > self.threshold;
        if drifted {
            self.reset();
        }
        drifted
    }

    /// Forget everything, as after a new model.
    pub fn reset(&mut self) {
        *self = Self::new(self.min_count, self.tolerance, self.threshold);
    }
}

/// Moving means of the model's error and of its rival's, the moving average's, on the same bursts.
#[derive(Debug, Clone, Default)]
pub struct Rivals {
    count: u32,
    model: f64,
    rival: f64,
}

impl Rivals {
    /// Weight of the newest error.
    const WEIGHT: f64 = 1.0 / 64.0;
    /// Errors to see before judging.
    const MIN_COUNT: u32 = 128;
    /// The model has lost when its error exceeds the rival's by this factor.
    const TOLERANCE: f64 = 1.1;

    /// Take one burst's two errors in. True when the model has lost; the comparison then starts anew.
    pub fn add(&mut self, model: f64, rival: f64) -> bool {
        if !(model.is_finite() && rival.is_finite()) {
            return false;
        }
        self.count += 1;
        // Plain means at first, so that the first error does not stand for all.
        let weight = Self::WEIGHT.max(1.0 / f64::from(self.count));
        self.model += weight * (model - self.model);
        self.rival += weight * (rival - self.rival);
        let lost = self.count >= Self::MIN_COUNT && self.model > self.rival * Self::TOLERANCE;
        if lost {
            *self = Self::default();
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repeatable noise in [0, 1).
    fn noise(i: u64) -> f64 {
        (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1u64 << 24) as f64
    }

    #[test]
    fn a_steady_error_is_no_drift() {
        let mut ph = PageHinkley::default();
        assert!(!(0..100_000).any(|i| ph.add(0.5 + noise(i))));
    }

    #[test]
    fn an_error_that_doubles_is_noticed_within_a_thousand_samples() {
        let mut ph = PageHinkley::default();
        for i in 0..2_000 {
            assert!(!ph.add(0.5 + noise(i) * 0.2));
        }
        let after = (0..5_000).position(|i| ph.add(1.2 + noise(i) * 0.2));
        assert!(after.is_some_and(|n| n < 1_000), "noticed after {after:?}");
    }

    #[test]
    fn an_error_that_shrinks_is_no_drift() {
        let mut ph = PageHinkley::default();
        for i in 0..2_000 {
            ph.add(1.0 + noise(i));
        }
        assert!(!(0..5_000).any(|i| ph.add(0.2 + noise(i))));
    }

    #[test]
    fn nan_and_infinity_are_ignored() {
        let mut ph = PageHinkley::default();
        assert!(!(0..1_000).any(|_| ph.add(f64::NAN) || ph.add(f64::INFINITY)));
        assert_eq!(ph.count, 0);
    }

    #[test]
    fn a_model_that_was_never_good_is_found_out_at_once() {
        // Its error does not rise, so there is no drift; but the rival is better.
        let mut rivals = Rivals::default();
        let found = (0..1_000).position(|i| rivals.add(1.8 + noise(i), 0.04));
        assert_eq!(found, Some(127));
    }

    #[test]
    fn a_better_model_never_loses() {
        let mut rivals = Rivals::default();
        assert!(!(0..100_000).any(|i| rivals.add(0.5 * noise(i), 0.5)));
    }
}
