//! Predictions of bursts: the learner as it is, and stand-ins that tell the policy's part from the model's.

mod history;
mod learner;
mod prediction;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use scx_ml::kernel::native;

pub use history::{History, NR_KINDS, Surroundings};
pub use learner::{Learner, LearnerParams};
pub use prediction::Prediction;

use crate::machine::{Machine, TaskId};
use crate::workload::sizes::normal;

/// 1.0 in Q16.
const ONE_Q16: f64 = 65536.0;

/// Quantiles of a normal distribution at 5 and 95 % are so many standard deviations away.
const NORMAL_95: f64 = 1.645;

/// Mean distance from the mean of a normal distribution, in standard deviations.
const NORMAL_MEAN: f64 = 0.798;

/// log2 and its inverse are rounded in integers; a burst that is known exactly still ends inside its slice with this
/// margin, 1 % of an octave.
const ROUNDING_Q16: i32 = 655;

/// Where predictions come from.
pub enum Predictor {
    /// Nowhere: the base policy.
    None,
    /// The burst itself.
    Oracle,
    /// The burst with normal noise of so many octaves.
    Noise { octaves: f64, rng: Box<ChaCha8Rng> },
    /// The task's moving average. Its quantiles are two mean errors away.
    Average(Vec<History>),
    /// The model, fitted while the simulation runs.
    Learned(Box<Learner>),
}

impl Predictor {
    pub fn noise(octaves: f64, seed: u64) -> Self {
        Predictor::Noise {
            octaves,
            rng: Box::new(ChaCha8Rng::seed_from_u64(seed)),
        }
    }

    pub fn add_task(&mut self, m: &Machine, t: TaskId) {
        match self {
            Predictor::Average(histories) => histories.push(History::new(m.task(t))),
            Predictor::Learned(learner) => learner.add_task(m, t),
            _ => {}
        }
    }

    /// Predict the burst that begins.
    pub fn wake(&mut self, m: &Machine, t: TaskId, around: &Surroundings) -> Option<Prediction> {
        let exact = || native::log2_q16(m.task(t).left_ns) as i32;
        match self {
            Predictor::None => None,
            Predictor::Oracle => Some(Prediction {
                pred_q16: exact(),
                margin_q16: ROUNDING_Q16,
                err_q8: 0,
            }),
            Predictor::Noise { octaves, rng } => {
                let margin_q16 = (NORMAL_95 * *octaves * ONE_Q16) as i32 + ROUNDING_Q16;
                Some(Prediction {
                    pred_q16: exact() + (*octaves * normal(rng) * ONE_Q16) as i32,
                    margin_q16,
                    err_q8: (NORMAL_MEAN * *octaves * 256.0) as i32,
                })
            }
            Predictor::Average(histories) => {
                let history = &mut histories[t as usize];
                history.begin(m.task(t).waker);
                history.average(0)
            }
            Predictor::Learned(learner) => learner.wake(m, t, around),
        }
    }

    /// A burst ended.
    pub fn blocked(&mut self, m: &Machine, t: TaskId, burst_ns: u64) {
        match self {
            Predictor::Average(histories) => {
                let label_q8 = (native::log2_q16(burst_ns) as i32 + 128) >> 8;
                histories[t as usize].note_burst(burst_ns, label_q8, m.now_ns);
            }
            Predictor::Learned(learner) => learner.blocked(m, t, burst_ns),
            _ => {}
        }
    }

    /// The first quantum that the kernel was told.
    pub fn first_quantum_ns(&mut self) -> Option<u64> {
        match self {
            Predictor::Learned(learner) => learner.first_quantum_ns(),
            _ => None,
        }
    }

    pub fn notes(&self) -> Vec<(String, f64)> {
        match self {
            Predictor::Learned(learner) => learner.notes(),
            _ => vec![],
        }
    }
}
