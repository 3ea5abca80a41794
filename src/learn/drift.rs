//! Whether the world has changed: a model that was ahead of the kind's average has fallen behind it.
//!
//! What counts is what came since the model was last ahead (Page, "Continuous inspection schemes", 1954): a long good time
//! before does not have to be outweighed first.

use crate::learn::mean::Mean;

/// Of that, about so many rows, the newest.
const MEMORY_ROWS: f64 = 300.0;

/// Rows of equal weight to have seen.
const ROWS_MIN: f64 = 20.0;

/// Standard errors by which it must be behind, and where it is by more than this share of what the average errs. An alarm for
/// nothing costs a few hundred rows of what is learned; one that comes late costs all that is missed until then.
const PROOF: f64 = 4.0;
const PROOF_OF_MUCH: f64 = 3.0;
const LOSS_SHARE: f64 = 0.25;

/// And so many octaves: a model that is the average but for rounding falls behind nobody.
const LOSS_MIN: f64 = 0.01;

/// See the module.
#[derive(Debug, Clone)]
pub struct Drift {
    /// By how much the model was farther off than the average, octaves; and by how much that was.
    loss: Mean,
    error: Mean,
}

impl Default for Drift {
    fn default() -> Self {
        Self {
            loss: Mean::remembering(MEMORY_ROWS),
            error: Mean::remembering(MEMORY_ROWS),
        }
    }
}

impl Drift {
    /// A row of `weight` (above 0) bursts, which the model and the kind's average missed by so many octaves. Whether the
    /// model has fallen behind by it.
    pub fn add(&mut self, missed_model: f64, missed_average: f64, weight: f64) -> bool {
        let loss = missed_model.abs() - missed_average.abs();
        if !loss.is_finite() {
            return false;
        }
        self.loss.add(loss, weight);
        self.error.add(missed_average.abs(), weight);
        let behind = self.loss.mean();
        if behind <= 0.0 {
            *self = Self::default();
        }
        if self.loss.rows() < ROWS_MIN || behind < LOSS_MIN {
            return false;
        }
        let much = behind > LOSS_SHARE * self.error.mean();
        behind > if much { PROOF_OF_MUCH } else { PROOF } * self.loss.standard_error()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::row::tests::noise;

    /// Rows until the alarm, of `n` by which the model is farther off by `loss` octaves, and by noise of up to half of one.
    fn alarm(drift: &mut Drift, n: usize, loss: f64) -> Option<usize> {
        (0..n).find(|&i| drift.add(1.0 + loss + noise(1, i), 1.0, 1.0))
    }

    #[test]
    fn a_long_good_time_delays_no_alarm() {
        let mut fresh = Drift::default();
        let mut proved = Drift::default();
        assert_eq!(alarm(&mut proved, 10_000, -0.5), None);
        let after = alarm(&mut proved, 100, 0.5).expect("an alarm");
        let at_once = alarm(&mut fresh, 100, 0.5).expect("an alarm");
        assert!(after <= at_once + 5 && after < 40, "{after}, {at_once}");
    }

    #[test]
    fn who_differs_by_rounding_is_not_behind() {
        let mut drift = Drift::default();
        assert!(!(0..1_000).any(|_| drift.add(0.1 + 0.2, 0.3, 1.0)));
    }

    #[test]
    fn what_is_little_takes_longer_to_prove() {
        let little = alarm(&mut Drift::default(), 1_000, 0.15).expect("an alarm");
        let much = alarm(&mut Drift::default(), 1_000, 0.5).expect("an alarm");
        assert!(much < 30 && (30..200).contains(&little), "{much}, {little}");
    }

    #[test]
    fn few_rows_or_one_heavy_one_raise_none() {
        assert_eq!(alarm(&mut Drift::default(), 19, 3.0), None);
        let mut drift = Drift::default();
        assert_eq!(alarm(&mut drift, 40, 0.0), None);
        assert!(!drift.add(30.0, 0.0, 64.0));
    }

    #[test]
    fn equals_raise_one_now_and_then() {
        let mut drift = Drift::default();
        let mut alarms = 0;
        for i in 0..100_000 {
            if drift.add(2.0 + noise(1, i), 2.0 + noise(2, i), 1.0) {
                drift = Drift::default();
                alarms += 1;
            }
        }
        assert!(alarms < 200, "{alarms}");
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut drift = Drift::default();
        assert!(!(0..100).any(|_| drift.add(f64::NAN, 1.0, 1.0)));
    }
}
