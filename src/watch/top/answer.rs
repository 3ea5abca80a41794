//! What the scheduler says of its models and of tasks, on the stats socket. Pure: made of what `observe` has read.

use serde::{Deserialize, Serialize};

use crate::kernel::bpf::intf::{
    linear, model, steering_STEERING_AVERAGE as STEERING_AVERAGE,
    steering_STEERING_MODEL as STEERING_MODEL, task_ctx, watch,
};
use crate::kernel::bpf::{NR_CLASSES, NR_FEATURES};
use crate::kernel::features;
use crate::kernel::mode::Mode;
use crate::kernel::native;

/// What the models are asked for as.
pub const MODELS_TARGET: &str = "models";

/// What tasks are asked for as; the argument `pids` has the threads' ids, with commas between them.
pub const TASKS_TARGET: &str = "tasks";

/// Threads that can be asked about at once: the scheduler's process is not to be kept busy.
pub const TASKS_MAX: usize = 64;

/// What the scheduler says of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tasks {
    /// In the order in which they were asked about; those that it knows nothing of are left out.
    Known(Vec<TaskLine>),
    /// It was asked wrongly: how.
    Refused(String),
}

/// The models in the kernel, as it multiplies them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Models {
    /// Of the published bank; 0: none.
    pub generation: u64,
    /// User space has not confirmed it in time: the kernel does not use it.
    pub expired: bool,
    /// One for each class of tasks.
    pub classes: Vec<ClassModel>,
}

/// A class of tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassModel {
    pub class: String,
    pub description: String,
    /// None: the kind's average is as good, or there were too few samples.
    pub model: Option<Coefficients>,
    /// The kernel's own watch; None before it has judged a burst.
    pub watch: Option<ClassWatch>,
}

/// A linear model of log2(burst in ns).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Coefficients {
    pub intercept: f64,
    /// prediction + margin is the quantile that becomes the slice, octaves.
    pub margin: f64,
    /// Octaves of burst per octave (or per one) of feature.
    pub terms: Vec<(String, f64)>,
}

/// The kernel's watch over a class's model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassWatch {
    /// The kind's average has taken over.
    pub fallback: bool,
    /// Running mean |error|, octaves.
    pub error_model: f64,
    pub error_avg: f64,
    /// How often it fell back, and returned.
    pub fallbacks: u32,
    pub returns: u32,
}

/// What the kernel keeps of a thread, in short.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskLine {
    pub pid: u32,
    /// None in base mode, and before the first wake-up.
    pub class: Option<String>,
    /// What its burst is steered by: model, average or base.
    pub steered_by: String,
    /// Bursts that have ended.
    pub seen: u32,
    pub last_burst_ns: u64,
    /// Of the model, for the burst that goes on or the last one; None: it was not predicted.
    pub predicted_ns: Option<u64>,
    /// What the kind's average said; None without a wake-up.
    pub average_ns: Option<u64>,
    /// Moving average of the model's |error| about this task, octaves; None where nothing was judged.
    pub error_model: Option<f64>,
    /// The last slice; 0: none yet.
    pub slice_ns: u64,
    pub avg_wait_ns: u64,
}

impl Models {
    /// Of the published bank, if there is one, and the watches by class.
    pub fn new(published: Option<&model>, watches: &[watch], monotonic_ns: u64) -> Self {
        Self {
            generation: published.map_or(0, |bank| bank.generation),
            expired: published.is_some_and(|bank| monotonic_ns > bank.expires_ns),
            classes: (0..NR_CLASSES)
                .map(|class| ClassModel {
                    class: features::class_name(class).into(),
                    description: native::CLASSES[class].description.into(),
                    model: published.and_then(|bank| coefficients(&bank.linear[class])),
                    watch: watches.get(class).and_then(class_watch),
                })
                .collect(),
        }
    }
}

fn coefficients(linear: &linear) -> Option<Coefficients> {
    let q16 = |q16: i32| f64::from(q16) / 65536.0;
    (linear.valid != 0).then(|| Coefficients {
        intercept: linear.intercept_q24 as f64 / f64::from(1 << 24),
        margin: q16(linear.margin_q16),
        // Whatever the bytes: what is no feature has no name.
        terms: std::iter::zip(linear.feature, linear.coef_q16)
            .take(linear.nr_terms as usize)
            .filter(|(feature, _)| usize::from(*feature) < NR_FEATURES)
            .map(|(feature, coef_q16)| (features::name(feature.into()).into(), q16(coef_q16)))
            .collect(),
    })
}

fn class_watch(w: &watch) -> Option<ClassWatch> {
    let (error_model, error_avg) = w.errors();
    (w.generation != 0).then_some(ClassWatch {
        fallback: w.fallback != 0,
        error_model,
        error_avg,
        fallbacks: w.fallbacks,
        returns: w.returns,
    })
}

impl TaskLine {
    pub fn new(pid: u32, ctx: &task_ctx, mode: Mode) -> Self {
        let woken = ctx.wake_ns != 0 && mode != Mode::Base;
        let predicted = woken && (ctx.model_generation != 0 || ctx.spared != 0);
        let steered_by = match u32::from(ctx.steering) {
            STEERING_MODEL => "model",
            STEERING_AVERAGE => "average",
            _ => "base",
        };
        Self {
            pid,
            class: woken.then(|| {
                native::CLASSES
                    .get(usize::from(ctx.class))
                    .map_or("unknown", |class| class.name)
                    .into()
            }),
            steered_by: steered_by.into(),
            seen: ctx.history.seen,
            last_burst_ns: ctx.last_burst_ns,
            predicted_ns: predicted.then(|| native::exp2_q16(ctx.pred_q16.into())),
            average_ns: woken.then(|| native::exp2_q16(ctx.avg_pred_q16.into())),
            error_model: (ctx.nr_outcomes > 0).then(|| f64::from(ctx.err_model_q8) / 256.0),
            slice_ns: ctx.granted_ns,
            avg_wait_ns: ctx.history.avg_wait_ns,
        }
    }
}

/// Ids of threads as a request has them; None: that is no such list, or too long a one.
pub fn parse_pids(list: &str) -> Option<Vec<u32>> {
    let pids: Option<Vec<u32>> = list
        .split(',')
        .filter(|pid| !pid.is_empty())
        .map(|pid| pid.parse().ok())
        .collect();
    pids.filter(|pids| pids.len() <= TASKS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bank_is_told_by_the_names_of_features() {
        let mut bank = model {
            generation: 7,
            expires_ns: 100,
            ..Default::default()
        };
        let batch = &mut bank.linear[3];
        (batch.valid, batch.nr_terms) = (1, 2);
        batch.intercept_q24 = -3 << 23;
        batch.feature[..2].copy_from_slice(&[2, 200]);
        batch.coef_q16[0] = 1 << 15;
        let watches = [watch {
            generation: 7,
            fallback: 1,
            ..Default::default()
        }];
        let models = Models::new(Some(&bank), &watches, 101);
        assert_eq!((models.generation, models.expired), (7, true));
        assert_eq!(models.classes.len(), NR_CLASSES);
        assert!(models.classes[0].model.is_none());
        assert!(models.classes[0].watch.as_ref().is_some_and(|w| w.fallback));
        let batch = models.classes[3].model.as_ref().expect("valid");
        assert_eq!(batch.intercept, -1.5);
        assert_eq!(batch.terms, [("avg_burst".to_string(), 0.5)]);

        let none = Models::new(None, &[], 0);
        assert_eq!((none.generation, none.expired), (0, false));
        assert!(none.classes.iter().all(|c| c.model.is_none()));
    }

    #[test]
    fn a_task_without_history_is_told_as_such() {
        let line = TaskLine::new(5, &task_ctx::default(), Mode::Learn);
        assert_eq!((line.class, line.predicted_ns), (None, None));
        let mut ctx = task_ctx {
            wake_ns: 1,
            model_generation: 3,
            pred_q16: 20 << 16,
            nr_outcomes: 1,
            err_model_q8: 128,
            ..Default::default()
        };
        let line = TaskLine::new(5, &ctx, Mode::Learn);
        assert_eq!(line.predicted_ns, Some(1 << 20));
        assert_eq!(line.error_model, Some(0.5));
        ctx.class = 77;
        let line = TaskLine::new(5, &ctx, Mode::Learn);
        assert_eq!(line.class.as_deref(), Some("unknown"));
        assert_eq!(TaskLine::new(5, &ctx, Mode::Base).predicted_ns, None);
    }

    #[test]
    fn a_list_of_ids_is_bounded() {
        assert_eq!(parse_pids("1,22"), Some(vec![1, 22]));
        assert_eq!(parse_pids(""), Some(vec![]));
        assert_eq!(parse_pids("1,x"), None);
        assert_eq!(parse_pids(&"1,".repeat(TASKS_MAX + 1)), None);
    }
}
