//! From what the kernel keeps of a task to an [`Explanation`]. Pure: whatever the bytes, there is one, without a panic.

use super::threads::Identity;
use super::*;
use crate::kernel::bpf::intf::{
    POLICY_ASK_AGAIN, linear, model, outcome, policy_params,
    sample_flags_SAMPLE_FALLBACK as SAMPLE_FALLBACK, spared_SPARED_NO_GAIN as SPARED_NO_GAIN,
    spared_SPARED_SHORT as SPARED_SHORT, steering_STEERING_AVERAGE as STEERING_AVERAGE,
    steering_STEERING_MODEL as STEERING_MODEL, task_ctx, watch,
};
use crate::kernel::bpf::{FEATURE_SLOTS, MODEL_TERMS, NR_MODEL_SLOTS};
use crate::kernel::mode::Mode;
use crate::kernel::native::{self, CLASSES, FEATURES};
use crate::model::{LOG2_MAX, QUANTISATION_BOUND};
use crate::watch::units::feature;

/// Everything that an explanation is made of.
#[derive(Clone)]
pub struct Observed {
    pub mode: Mode,
    pub params: policy_params,
    pub task: Identity,
    pub ctx: task_ctx,
    /// See [`Explanation::own_thread`] and [`Explanation::steady`].
    pub own_thread: bool,
    pub steady: bool,
    /// Name of the waker that `ctx` tells the id of; None: it has ended.
    pub waker_comm: Option<String>,
    /// The slots of the kernel's map of models.
    pub banks: [model; NR_MODEL_SLOTS],
    /// Generation of the published one; 0: none.
    pub published: u64,
    /// Of the task's class.
    pub watch: Option<watch>,
    /// CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
    /// The clock of task_ctx's times, scx_bpf_now(); None where it cannot be told.
    pub kernel_ns: Option<u64>,
}

/// Octaves of a logarithm in Q8.
fn octaves_q8(q8: i32) -> f64 {
    f64::from(q8) / 256.0
}

/// Octaves of a logarithm in Q16.
fn octaves_q16(q16: i64) -> f64 {
    q16 as f64 / 65536.0
}

/// Time of a logarithm in Q16.
fn time_q16(q16: i64) -> u64 {
    native::exp2_q16(q16)
}

impl Observed {
    /// Say why.
    pub fn explain(&self) -> Explanation {
        let ctx = &self.ctx;
        Explanation {
            mode: self.mode.name().into(),
            task: self.task.clone(),
            // As native policy_virtual_ns() takes it: 100 / weight in Q16.
            weight: 100.0 * 65536.0 / ctx.inv_weight_q16.max(1) as f64,
            waker: (ctx.waker_pid != 0).then(|| Waker {
                pid: ctx.waker_pid,
                comm: self.waker_comm.clone(),
            }),
            class: self.class(),
            burst: self.burst(),
            history: self.history(),
            expectation: self.expectation(),
            prediction: self.predicted(),
            slice: self.slice(),
            queueing: self.queueing(),
            outcomes: outcomes(ctx),
            own_thread: self.own_thread,
            steady: self.steady,
        }
    }

    pub(super) fn never_woken(&self) -> bool {
        self.ctx.wake_ns == 0
    }

    fn class_name(&self) -> String {
        let class = usize::from(self.ctx.class);
        CLASSES
            .get(class)
            .map_or_else(|| format!("class {class}"), |c| c.name.into())
    }

    fn class(&self) -> Option<Class> {
        if self.never_woken() || self.mode == Mode::Base {
            return None;
        }
        Some(Class {
            name: self.class_name(),
            description: CLASSES
                .get(usize::from(self.ctx.class))
                .map_or("unknown", |c| c.description)
                .into(),
            watch: self.watch.filter(|w| w.generation != 0).map(|w| {
                let (error_model, error_avg) = w.errors();
                Watch {
                    fallback: w.fallback != 0,
                    error_model,
                    error_avg,
                    fallbacks: w.fallbacks,
                    returns: w.returns,
                }
            }),
        })
    }

    fn expectation(&self) -> Option<Expectation> {
        let ctx = &self.ctx;
        (ctx.expected_ns != 0 && !self.never_woken()).then(|| Expectation {
            burst_ns: ctx.expected_ns,
            error: f64::from(ctx.err_kind_q8) / 256.0,
            stretched_ns: (ctx.stretched_ns != 0).then_some(ctx.stretched_ns),
            carries: ctx.carries != 0 && ctx.queued_ns != 0,
        })
    }

    fn burst(&self) -> Burst {
        let ctx = &self.ctx;
        let state = match (ctx.in_burst != 0, ctx.queued_ns != 0) {
            _ if self.never_woken() => State::NeverWoken,
            (false, _) => State::Blocked,
            (true, true) => State::Waiting,
            (true, false) => State::Running,
        };
        Burst {
            state,
            woke_ago_ns: self
                .kernel_ns
                .filter(|_| !self.never_woken())
                .map(|now| now.saturating_sub(ctx.wake_ns)),
            used_ns: self.used_ns(),
            wait_ns: ctx.wait_ns,
            preemptions: ctx.preemptions,
            migrations: ctx.migrations,
        }
    }

    /// CPU time of the burst up to when the task last got or left a CPU.
    pub(super) fn used_ns(&self) -> u64 {
        self.ctx
            .exec_at_run_ns
            .saturating_sub(self.ctx.exec_at_wake_ns)
    }

    fn history(&self) -> History {
        let ctx = &self.ctx;
        History {
            seen: ctx.history.seen,
            last_burst_ns: ctx.last_burst_ns,
            prev_burst_ns: ctx.prev_burst_ns,
            avg_burst_ns: ctx.history.avg_burst_ns,
            half_burst_ns: ctx.history.half_burst_ns,
            log_burst_ns: time_q16(i64::from(ctx.history.log_burst_q8) << 8),
            burst_spread: octaves_q8(ctx.history.spread_q8),
            last_sleep_ns: ctx.history.last_sleep_ns,
            avg_sleep_ns: ctx.history.avg_sleep_ns,
            last_wait_ns: ctx.history.last_wait_ns,
            avg_wait_ns: ctx.history.avg_wait_ns,
        }
    }

    /// The bank of this generation, if it still stands in a slot: it does until two others were published.
    fn bank(&self, generation: u64) -> Option<&model> {
        self.banks
            .iter()
            .find(|bank| generation != 0 && bank.generation == generation)
    }

    /// The class's model in a bank.
    fn linear<'a>(&self, bank: &'a model) -> Option<&'a linear> {
        bank.linear
            .get(usize::from(self.ctx.class))
            .filter(|l| l.valid != 0)
    }

    fn predicted(&self) -> Predicted {
        if self.ctx.model_generation == 0 {
            return Predicted::None(self.why_not_predicted());
        }
        Predicted::Burst(Box::new(self.prediction()))
    }

    fn why_not_predicted(&self) -> String {
        if self.mode == Mode::Base {
            return "in base mode nothing is predicted".into();
        }
        if self.never_woken() {
            return "it has not woken since the scheduler was loaded".into();
        }
        match u32::from(self.ctx.spared) {
            SPARED_SHORT => {
                return "it is so surely short by its kind's average that no model was asked"
                    .into();
            }
            SPARED_NO_GAIN => {
                return format!(
                    "the model has been no better about it than its kind's average, and is asked about one burst in {POLICY_ASK_AGAIN}"
                );
            }
            _ => (),
        }
        let Some(bank) = self.bank(self.published) else {
            return "no model is published".into();
        };
        let generation = self.published;
        if self.expired(bank) {
            return format!("model {generation} has expired: user space does not confirm it");
        }
        if self.linear(bank).is_none() {
            return format!(
                "model {generation} has none for {} tasks: the kind's average is as good, or there were too few samples",
                self.class_name()
            );
        }
        format!(
            "there was none when it woke; model {generation} will predict from its next wake-up on"
        )
    }

    fn expired(&self, bank: &model) -> bool {
        self.monotonic_ns > bank.expires_ns
    }

    fn prediction(&self) -> Prediction {
        let ctx = &self.ctx;
        let of_its_own = self
            .bank(ctx.model_generation)
            .and_then(|bank| self.linear(bank));
        let (terms_generation, model) = match (of_its_own, self.bank(self.published)) {
            (Some(model), _) => (ctx.model_generation, Some(model)),
            (None, Some(bank)) if self.linear(bank).is_some() => {
                (bank.generation, self.linear(bank))
            }
            (None, _) => (0, None),
        };
        let terms = model.map_or(vec![], |model| terms(model, &ctx.feature_q8));
        let intercept = model.map_or(0.0, intercept);
        let sum = intercept + terms.iter().map(|t| t.contribution).sum::<f64>();
        let log2 = octaves_q16(ctx.pred_q16.into());
        let agrees =
            of_its_own.is_some() && (sum.clamp(0.0, LOG2_MAX) - log2).abs() <= QUANTISATION_BOUND;
        Prediction {
            generation: ctx.model_generation,
            terms_generation,
            intercept,
            sum,
            log2,
            burst_ns: time_q16(ctx.pred_q16.into()),
            agrees,
            notes: self.notes(terms_generation, sum, agrees),
            terms,
            avg_burst_ns: time_q16(ctx.avg_pred_q16.into()),
            margin: octaves_q16(ctx.margin_q16.into()),
            quantile_ns: self.quantile_ns(),
            low_quantile_ns: of_its_own
                .map(|m| time_q16(i64::from(ctx.pred_q16) - i64::from(m.long_margin_q16))),
            unused: self.unused(),
        }
    }

    pub(super) fn quantile_ns(&self) -> u64 {
        time_q16(i64::from(self.ctx.pred_q16) + i64::from(self.ctx.margin_q16))
    }

    /// What must be known to read the terms of a prediction.
    fn notes(&self, terms_generation: u64, sum: f64, agrees: bool) -> Vec<String> {
        let generation = self.ctx.model_generation;
        let mut notes = vec![];
        if terms_generation == 0 {
            notes.push(format!(
                "model {generation} was withdrawn or replaced since: its coefficients are gone"
            ));
        } else if terms_generation != generation {
            notes.push(format!(
                "model {generation} was replaced since: these are the coefficients of model {terms_generation}, which \
                 need not add up to the prediction, and features that only it uses may be older"
            ));
        } else if !agrees {
            notes.push(format!(
                "the sum, {sum:.3}, is not the kernel's prediction: the task woke, or the model was replaced, while \
                 they were read"
            ));
        } else if self.published != generation {
            notes.push(match self.published {
                0 => format!("model {generation} was withdrawn since"),
                other => format!("model {other} was published since"),
            });
        } else if self.bank(generation).is_some_and(|bank| self.expired(bank)) {
            notes.push(format!("model {generation} has expired since"));
        }
        if !(0.0..=LOG2_MAX).contains(&sum) {
            notes.push(format!("the sum is limited to 0 … {LOG2_MAX}"));
        }
        notes
    }

    /// Why a prediction did not steer.
    fn unused(&self) -> Option<String> {
        if u32::from(self.ctx.steering) == STEERING_MODEL {
            return None;
        }
        Some(if self.ctx.sample_flags & SAMPLE_FALLBACK != 0 {
            format!(
                "the kernel's watch had the kind's average take over for {} tasks",
                self.class_name()
            )
        } else if u32::from(self.ctx.steering) == STEERING_AVERAGE {
            "the model is not sure of this task, and the kind's average is".into()
        } else if self.mode == Mode::Shadow {
            "in shadow mode predictions are made, not used".into()
        } else {
            "the scheduler was not told to use it".into()
        })
    }
}

/// The terms of a model for these features, the largest contribution first.
fn terms(model: &linear, feature_q8: &[i16; FEATURE_SLOTS]) -> Vec<Term> {
    let mut terms: Vec<Term> = (0..MODEL_TERMS.min(model.nr_terms as usize))
        .map(|i| {
            // As linear_predict_q16() reads them.
            let index = usize::from(model.feature[i]) & (FEATURE_SLOTS - 1);
            let coefficient = octaves_q16(model.coef_q16[i].into());
            let log2 = octaves_q8(feature_q8[index].into());
            let desc = FEATURES.get(index);
            Term {
                feature: desc.map_or_else(|| format!("feature {index}"), |d| d.name.into()),
                unit: desc.map_or("", |d| d.unit).into(),
                description: desc.map_or("", |d| d.description).into(),
                value: feature(desc.map_or("", |d| d.unit), log2),
                log2,
                coefficient,
                // Zero without a sign.
                contribution: coefficient * log2 + 0.0,
            }
        })
        .collect();
    terms.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
    terms
}

/// As linear_predict_q16() limits it, in octaves.
fn intercept(model: &linear) -> f64 {
    let limit = 1i64 << 40;
    model.intercept_q24.clamp(-limit, limit) as f64 / f64::from(1 << 24)
}

fn outcomes(ctx: &task_ctx) -> Outcomes {
    let ring = &ctx.outcomes;
    let kept = (ctx.nr_outcomes as usize).min(ring.len());
    let last: Vec<Outcome> = (1..=kept)
        .map(|back| {
            let at = (ctx.nr_outcomes as usize).wrapping_sub(back) % ring.len();
            outcome_of(&ring[at])
        })
        .collect();
    let mean = |error: fn(&Outcome) -> f64| {
        (!last.is_empty())
            .then(|| last.iter().map(|o| error(o).abs()).sum::<f64>() / last.len() as f64)
    };
    Outcomes {
        judged: ctx.nr_outcomes,
        error_model: mean(|o| o.error_model),
        error_avg: mean(|o| o.error_avg),
        last,
    }
}

fn outcome_of(o: &outcome) -> Outcome {
    let time = |q8: i16| time_q16(i64::from(q8) << 8);
    let error = |q8: i16| octaves_q8(i32::from(q8) - i32::from(o.label_q8));
    Outcome {
        predicted_ns: time(o.pred_q8),
        quantile_ns: time(o.quantile_q8),
        avg_burst_ns: time(o.avg_q8),
        burst_ns: time(o.label_q8),
        error_model: error(o.pred_q8),
        error_avg: error(o.avg_q8),
        held: o.label_q8 <= o.quantile_q8,
    }
}
