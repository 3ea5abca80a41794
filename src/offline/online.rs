//! The recording replayed through the learner: what `scx_ml` itself would have predicted, burst by burst.

use std::sync::{Arc, Mutex};

use anyhow::Result;

use crate::kernel::bpf::intf::{self, sample_flags_SAMPLE_PREDICTED as PREDICTED};
use crate::kernel::bpf::{FEATURE_SLOTS, NR_CLASSES, NR_FEATURES};
use crate::kernel::native;
use crate::kernel::sample::Sample;
use crate::learn::learner::{Learner, LearnerConfig, LearnerStatus};
use crate::model::Model;
use crate::model::sink::{ModelSink, NotSet};

use super::predictors::{Prediction, Predictions};

/// Predictions for all samples, and what the learner did. Test, then train: every burst is predicted by
/// the model that was published when its task woke, in the kernel's arithmetic, and only then learned from, if it is one of
/// those that the learner wants at the time. The clock is that of the records; fits take no time.
pub fn replay(samples: &[Sample]) -> (Predictions, LearnerStatus) {
    let status = Arc::new(Mutex::new(LearnerStatus::default()));
    let mut learner = Learner::new(LearnerConfig::default(), status.clone()).with_cpu_clock(|| 0);
    let press = Press::default();
    let mut predictions = Vec::with_capacity(samples.len());
    let mut now_ns = 0;
    for (i, sample) in samples.iter().enumerate() {
        let mut sample = *sample;
        predictions.push(Some(press.predict(&mut sample)));
        now_ns = sample.0.end_ns.max(now_ns);
        press.set_clock(now_ns);
        if press.takes(&mut sample, i) {
            learner.add(&[sample]);
        }
        learner.step(now_ns, &press);
    }
    let status = status.lock().unwrap_or_else(|e| e.into_inner()).clone();
    (predictions, status)
}

/// A sink that keeps everything that was ever published.
#[derive(Default)]
struct Press {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    now_ns: u64,
    generation: u64,
    /// Oldest first.
    published: Vec<Publication>,
    thin_shift: [u32; NR_CLASSES],
}

struct Publication {
    since_ns: u64,
    /// None: a withdrawal.
    model: Option<(intf::model, Model)>,
}

impl Press {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn set_clock(&self, now_ns: u64) {
        self.lock().now_ns = now_ns;
    }

    /// Whether the kernel would have sent a record of this, the `i`th sample; and for how many bursts.
    fn takes(&self, sample: &mut Sample, i: usize) -> bool {
        let shift = self.lock().thin_shift.get(sample.class()).copied();
        // Irregular (multiplication by the golden ratio), and the same in every replay.
        let random = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let stands_for = native::sample_repeat(0, shift.unwrap_or(0), random as u32);
        sample.0.repeat = sample.0.repeat.saturating_mul(stands_for);
        stands_for > 0
    }

    /// Predict as the kernel would have, and write that into the record in place of what the kernel did predict.
    fn predict(&self, sample: &mut Sample) -> Prediction {
        let avg = sample.kind_average();
        let row_class = sample.class();
        let record = &mut sample.0;
        record.flags &= !PREDICTED;
        let woke_ns = record.wake_ns.min(record.end_ns);
        let state = self.lock();
        let at_wake_up = state.published.iter().rev().find(|p| p.since_ns < woke_ns);
        let Some((q, model)) = at_wake_up.and_then(|p| p.model.as_ref()) else {
            return Prediction::stand_in(avg);
        };
        let Some(linear) = model.classes.get(row_class).and_then(Option::as_ref) else {
            return Prediction::stand_in(avg);
        };
        if woke_ns > q.expires_ns {
            return Prediction::stand_in(avg);
        }
        let mut slots = [0; FEATURE_SLOTS];
        slots[..NR_FEATURES].copy_from_slice(&record.feature_q8);
        record.pred_q16 = native::linear_predict_q16(&q.linear[row_class], &slots);
        record.model_generation = q.generation;
        record.flags |= PREDICTED;
        Prediction::with_margin(f64::from(record.pred_q16) / 65536.0, linear.margin)
    }
}

impl ModelSink for Press {
    fn publish(&self, model: &Model, expires_ns: u64) -> Result<u64> {
        let mut state = self.lock();
        state.generation += 1;
        let mut quantised = model.quantise()?;
        (quantised.generation, quantised.expires_ns) = (state.generation, expires_ns);
        let since_ns = state.now_ns;
        state.published.push(Publication {
            since_ns,
            model: Some((quantised, model.clone())),
        });
        Ok(state.generation)
    }

    fn set_first_quantum(&self, _: Option<u64>) -> Result<()> {
        Ok(())
    }

    fn set_thinning(&self, shifts: [u32; NR_CLASSES]) -> Result<()> {
        self.lock().thin_shift = shifts;
        Ok(())
    }

    fn withdraw(&self) -> Result<()> {
        let mut state = self.lock();
        let since_ns = state.now_ns;
        if state.published.last().is_some_and(|p| p.model.is_some()) {
            state.published.push(Publication {
                since_ns,
                model: None,
            });
        }
        Ok(())
    }

    fn set_profiles(&self, _: &[(u32, Option<i32>)]) -> Result<(), NotSet> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::tests::samples;

    #[test]
    fn nothing_is_predicted_before_there_is_a_model_and_most_is_afterwards() {
        let samples = samples(4_000);
        let (predictions, status) = replay(&samples);
        let own = |part: &[Option<Prediction>]| part.iter().flatten().filter(|p| p.own).count();
        assert_eq!(own(&predictions[..50]), 0);
        assert!(own(&predictions[1_000..]) > 2_900);
        assert!(status.fits > 1 && status.published >= 1, "{status:?}");
        assert!(
            status.parity.checked > 0 && status.parity.errors == 0,
            "{status:?}"
        );
    }

    #[test]
    fn a_replay_is_repeatable() {
        let samples = samples(3_000);
        let (a, _) = replay(&samples);
        let (b, _) = replay(&samples);
        assert_eq!(a, b);
        assert_eq!(a.len(), 3_000);
    }

    #[test]
    fn records_that_go_back_in_time_are_borne() {
        let mut samples = samples(3_000);
        for sample in samples.iter_mut().skip(1_000).step_by(7) {
            sample.0.end_ns /= 2;
            sample.0.wake_ns = u64::MAX;
        }
        let (predictions, _) = replay(&samples);
        assert!(predictions.iter().flatten().all(|p| p.value.is_finite()));
    }
}
