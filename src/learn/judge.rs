//! The judge of a class: whether its bursts are predicted by its model or by the kind's average.
//!
//! Test, then train (prequential; Dawid 1984): each burst is predicted by the model of the moment before it is learned
//! from, so what is compared was fitted on older bursts only. By how much the model is nearer than the average is a
//! series of differences; its mean, with the standard error of that, decides. Both forget, for loads change.

use crate::learn::mean::Mean;

/// What decides in a stream is the mean over about so many rows, the newest.
const MEMORY_ROWS: f64 = 1_000.0;

/// Rows of equal weight to have seen before the first decision.
const ROWS_MIN: f64 = 50.0;

/// Standard errors that the mean must be off 0 for a change: towards the model, and away from it. The two apart, so that
/// equals do not alternate; and more to leave, for bursts in a row are alike, and the standard error says too little then.
const PROOF: f64 = 2.0;
const DISPROOF: f64 = 3.0;

/// A class changes its predictor at most once in so long.
const REST_NS: u64 = 10_000_000_000;

/// See the module.
#[derive(Debug, Clone)]
pub struct Judge {
    /// By how much the model was nearer than the average, and the average's |error|; octaves.
    gain: Mean,
    error_average: Mean,
    /// The model predicts.
    trusts: bool,
    /// When that changed last, CLOCK_MONOTONIC ns.
    changed_ns: Option<u64>,
}

/// Mean |log2 error| of both predictors on the same bursts, octaves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Errors {
    pub model: f64,
    pub average: f64,
    /// Standard error of their difference.
    pub standard_error: f64,
    /// Bursts that they stand for.
    pub bursts: f64,
}

impl Default for Judge {
    /// Of a stream, which trusts the kind's average until the model has proved better.
    fn default() -> Self {
        Self::remembering(MEMORY_ROWS)
    }
}

impl Judge {
    /// That knows about so many rows, the newest; infinity: all.
    pub fn remembering(rows: f64) -> Self {
        Self {
            gain: Mean::remembering(rows),
            error_average: Mean::remembering(rows),
            trusts: false,
            changed_ns: None,
        }
    }

    /// Of a stream, which trusts the model until the average has proved better.
    pub fn trusting() -> Self {
        Self {
            trusts: true,
            ..Self::default()
        }
    }

    /// A row of `weight` (above 0) bursts, which the model and the kind's average missed by so many octaves.
    pub fn add(&mut self, missed_model: f64, missed_average: f64, weight: f64) {
        let (model, average) = (missed_model.abs(), missed_average.abs());
        if !(model + average).is_finite() {
            return;
        }
        self.gain.add(average - model, weight);
        self.error_average.add(average, weight);
    }

    /// Let what is known count for the share `keep` of what it did beside what comes.
    pub fn fade(&mut self, keep: f64) {
        self.gain.fade(keep);
        self.error_average.fade(keep);
    }

    /// Decide at `now_ns`. Whether the predictor changes.
    pub fn decide(&mut self, now_ns: u64) -> bool {
        let rests = |changed_ns: u64| now_ns.saturating_sub(changed_ns) < REST_NS;
        if !self.is_sure() || self.changed_ns.is_some_and(rests) {
            return false;
        }
        let errors = self.errors();
        let changes = match self.trusts {
            true => self.disproves(),
            false => errors.average - errors.model > PROOF * errors.standard_error,
        };
        if changes {
            self.trusts = !self.trusts;
            self.changed_ns = Some(now_ns);
        }
        changes
    }

    /// Whether the average has proved better.
    fn disproves(&self) -> bool {
        let errors = self.errors();
        self.is_sure() && errors.model - errors.average > DISPROOF * errors.standard_error
    }

    /// Whether it has seen enough to decide.
    pub fn is_sure(&self) -> bool {
        self.gain.rows() >= ROWS_MIN
    }

    /// Whether the model predicts.
    pub fn trusts_model(&self) -> bool {
        self.trusts
    }

    /// Of the rows that decide.
    pub fn errors(&self) -> Errors {
        let (gain, average) = (self.gain.mean(), self.error_average.mean());
        Errors {
            model: average - gain,
            average,
            standard_error: self.gain.standard_error(),
            bursts: self.gain.weight(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::row::tests::noise;

    const S: u64 = 1_000_000_000;

    /// Of `n` rows that both miss by about an octave, the model by `gain` less.
    fn judged(judge: &mut Judge, n: usize, gain: f64) {
        for i in 0..n {
            judge.add(1.0 - gain + noise(1, i), 1.0 + noise(2, i), 1.0);
        }
    }

    #[test]
    fn a_better_model_is_trusted_when_it_is_proved() {
        let mut judge = Judge::default();
        judged(&mut judge, 40, 0.5);
        assert!(!judge.decide(S), "too few");
        judged(&mut judge, 40, 0.5);
        assert!(judge.decide(S) && judge.trusts_model());
        let errors = judge.errors();
        assert!((errors.average - errors.model - 0.5).abs() < 3.0 * errors.standard_error);
    }

    #[test]
    fn equals_stay_as_they_are() {
        for mut judge in [Judge::default(), Judge::trusting()] {
            let before = judge.trusts_model();
            let mut changes = 0;
            for second in 0..1_000 {
                for i in 0..100 {
                    let i = second * 100 + i;
                    judge.add(1.0 + noise(1, i), 1.0 + noise(2, i), 1.0);
                }
                changes += u32::from(judge.decide(second as u64 * S));
            }
            assert!(changes <= 1 + u32::from(!before), "{changes}");
        }
    }

    #[test]
    fn a_change_of_mind_takes_ten_seconds() {
        let mut judge = Judge::default();
        judged(&mut judge, 200, 0.5);
        assert!(judge.decide(100 * S));
        judged(&mut judge, 5_000, -0.5);
        assert!(!judge.decide(109 * S) && judge.trusts_model());
        assert!(judge.decide(110 * S) && !judge.trusts_model());
    }

    #[test]
    fn a_heavy_row_decides_nothing() {
        let mut judge = Judge::default();
        judged(&mut judge, 100, 0.0);
        judge.add(0.0, 30.0, 64.0);
        assert!(!judge.decide(S), "{:?}", judge.errors());
    }

    #[test]
    fn what_is_no_number_is_left_out_and_of_nothing_nothing_is_said() {
        let mut judge = Judge::default();
        judge.add(f64::NAN, 1.0, 1.0);
        judge.add(1.0, f64::INFINITY, 1.0);
        assert_eq!(judge.errors(), Errors::default());
        assert!(!judge.decide(S));
    }
}
