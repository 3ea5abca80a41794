//! Training: the gate's fit and judgement on a recording instead of a window.

use log::warn;
use serde::Serialize;

use super::{OfflineError, Source, newest};
use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::features;
use crate::learn::gate::{self, ClassVerdict, Decision, Verdict};
use crate::learn::row::Row;
use crate::model::Model;
use crate::model::file::{ModelFile, Origin};
use crate::recording::Recording;

/// What training came to.
#[derive(Debug, PartialEq)]
pub struct Training {
    pub report: TrainingReport,
    /// The model, with the classes that beat the moving average.
    ///
    /// # Errors
    /// When there is none.
    pub model: Result<ModelFile, OfflineError>,
}

/// See [`train`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingReport {
    pub recording: Source,
    /// Samples that were fitted on, and the newer ones that judged.
    pub fitted_samples: usize,
    pub judging_samples: usize,
    /// Mean |log2 error| on the judging samples, octaves: of the bank, the moving average standing in where it has no
    /// model, and of the moving average alone.
    pub error_model: f64,
    pub error_moving_average: f64,
    pub classes: Vec<ClassReport>,
}

/// A class of tasks in the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassReport {
    pub class: &'static str,
    /// Samples of the class that were fitted on, and that judged.
    pub fitted_samples: usize,
    pub judging_samples: usize,
    pub outcome: Outcome,
    /// Mean |log2 error| on the class's judging samples, octaves; None where there were too few.
    pub error_model: Option<f64>,
    pub error_moving_average: Option<f64>,
    /// Of the model; empty where there is none.
    pub chosen: Vec<ChosenFeature>,
    pub dropped: Vec<DroppedFeature>,
}

/// What became of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A model of its own.
    Model,
    /// The model fitted on all classes: its own samples were too few.
    PooledModel,
    /// None, for the moving average is as good or better.
    MovingAverageBetter,
    /// None, for there are too few samples.
    TooFewSamples,
    /// None, for its samples do not give one.
    NotFitted,
}

impl Outcome {
    /// A few words for a table.
    pub fn words(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::PooledModel => "model of all classes",
            Self::MovingAverageBetter => "none: the moving average is better",
            Self::TooFewSamples => "none: too few samples",
            Self::NotFitted => "none: it cannot be fitted",
        }
    }
}

/// A feature that a model uses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChosenFeature {
    pub feature: &'static str,
    /// Octaves of burst per unit.
    pub coefficient: f64,
    /// Share of the variance that it explained when it was chosen.
    pub explains: f64,
}

/// A feature that a model does not use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DroppedFeature {
    pub feature: &'static str,
    /// constant, collinear or useless.
    pub reason: &'static str,
}

/// Fit on the older four fifths of the newest `window` samples, judge on the newest fifth.
///
/// # Errors
/// When there are too few samples to try.
pub fn train(recording: &Recording, window: usize) -> Result<Training, OfflineError> {
    let (samples, source) = newest(recording, window)?;
    let rows: Vec<Row> = samples.iter().map(Row::from).collect();
    let verdict = gate::judge(&rows, &Model::default());
    for (class, e) in &verdict.unfitted {
        let name = features::class_name(*class);
        warn!("no model of {name} tasks can be fitted: {e}");
    }
    let (older, newer) = gate::split(&rows);
    let of_class = |rows: &[Row], class| rows.iter().filter(|r| r.class == class).count();
    let classes = (0..NR_CLASSES)
        .map(|class| {
            let counts = (of_class(older, class), of_class(newer, class));
            class_report(class, counts, &verdict)
        })
        .collect();
    let report = TrainingReport {
        recording: source,
        fitted_samples: older.len(),
        judging_samples: newer.len(),
        error_model: verdict.error_model,
        error_moving_average: verdict.error_avg,
        classes,
    };
    let judged = |c: &ClassVerdict| c.decision != Decision::Unjudged;
    let model = if !verdict.model.is_empty() {
        let meta = &recording.meta;
        Ok(ModelFile {
            origin: Origin {
                kernel: meta.kernel.clone(),
                machine: meta.machine.clone(),
                boot_id: meta.boot_id.clone(),
                from_ns: rows.first().map_or(0, |r| r.end_ns),
                until_ns: rows.last().map_or(0, |r| r.end_ns),
                monotonic_to_unix_ns: meta.monotonic_to_unix_ns,
                samples: rows.len(),
                error_model: verdict.error_model,
                error_avg: verdict.error_avg,
            },
            model: verdict.model,
        })
    } else if verdict.classes.iter().any(judged) {
        Err(OfflineError::NothingBetter)
    } else if let Some((_, e)) = verdict.unfitted.into_iter().next() {
        Err(e.into())
    } else {
        Err(OfflineError::Unjudged)
    };
    Ok(Training { report, model })
}

fn class_report(class: usize, (fitted, judging): (usize, usize), verdict: &Verdict) -> ClassReport {
    let ClassVerdict { decision, errors } = verdict.classes[class];
    let model = verdict.model.classes[class].as_ref();
    let judged = decision != Decision::Unjudged;
    let outcome = match model {
        Some(m) if m.samples == fitted => Outcome::Model,
        Some(_) => Outcome::PooledModel,
        None if judged => Outcome::MovingAverageBetter,
        None if verdict.unfitted.iter().any(|(c, _)| *c == class) => Outcome::NotFitted,
        None => Outcome::TooFewSamples,
    };
    let chosen = model.map_or(vec![], |m| {
        m.chosen
            .iter()
            .map(|c| ChosenFeature {
                feature: features::name(c.feature),
                coefficient: m.coef[c.feature],
                explains: c.explains,
            })
            .collect()
    });
    let dropped = model.map_or(vec![], |m| {
        m.dropped
            .iter()
            .map(|&(i, why)| DroppedFeature {
                feature: features::name(i),
                reason: why.word(),
            })
            .collect()
    });
    ClassReport {
        class: features::class_name(class),
        fitted_samples: fitted,
        judging_samples: judging,
        outcome,
        error_model: errors.candidate,
        error_moving_average: judged.then_some(errors.avg),
        chosen,
        dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::tests::{recording, samples};

    #[test]
    fn a_model_that_is_better_comes_with_what_it_was_made_of() {
        let recording = recording(samples(2_000));
        let training = train(&recording, 1_000_000).expect("enough samples");
        let file = training.model.expect("a model");
        assert_eq!(file.origin.boot_id, recording.meta.boot_id);
        assert_eq!(file.origin.until_ns, recording.samples[1_999].0.end_ns);
        assert_eq!((file.origin.samples, file.model.samples()), (2_000, 1_600));

        let report = training.report;
        assert!(report.error_model < report.error_moving_average);
        assert_eq!(report.classes[2].outcome, Outcome::Model);
        assert_eq!(report.classes[2].chosen[0].feature, "waker_ran");
        assert!(report.classes[2].chosen[0].explains > 0.9);
        let dropped = &report.classes[2].dropped;
        assert!(
            dropped
                .iter()
                .any(|d| d.feature == "kthread" && d.reason == "constant")
        );
        assert_eq!(report.classes[0].outcome, Outcome::TooFewSamples);
        assert_eq!(
            ModelFile::from_text(&file.to_text()).expect("a model file"),
            file
        );
    }

    #[test]
    fn the_window_is_the_newest_samples() {
        let training = train(&recording(samples(2_000)), 1_000).expect("enough samples");
        assert_eq!(training.report.fitted_samples, 800);
        assert_eq!(training.report.recording.used, 1_000);
    }

    #[test]
    fn where_the_moving_average_is_perfect_there_is_no_model_but_a_report() {
        let mut samples = samples(1_000);
        for sample in &mut samples {
            sample.0.burst_ns = 1 << 20;
        }
        let training = train(&recording(samples), 1_000).expect("enough samples");
        assert_eq!(training.model, Err(OfflineError::NothingBetter));
        let class = &training.report.classes[2];
        assert_eq!(class.outcome, Outcome::MovingAverageBetter);
        assert_eq!(class.error_moving_average, Some(0.0));
    }

    #[test]
    fn a_class_that_cannot_be_fitted_is_no_class_with_too_few_samples() {
        let recording = recording(samples(2_000));
        let mut rows: Vec<Row> = recording.samples.iter().map(Row::from).collect();
        rows[0].x[0] = f64::INFINITY;
        let verdict = gate::judge(&rows, &Model::default());
        let outcome = |class| class_report(class, (1_600, 400), &verdict).outcome;
        assert_eq!(outcome(2), Outcome::NotFitted);
        assert_eq!(outcome(0), Outcome::TooFewSamples);
    }

    #[test]
    fn constant_features_leave_the_mean() {
        let mut samples = samples(1_000);
        for sample in &mut samples {
            sample.0.feature_q8 = [256; crate::kernel::bpf::NR_FEATURES];
            sample.0.avg_q16 = 30 << 16;
        }
        let training = train(&recording(samples), 1_000).expect("enough samples");
        let file = training.model.expect("the mean is better than 30 octaves");
        assert_eq!(training.report.classes[2].chosen, []);
        assert_eq!(
            ModelFile::from_text(&file.to_text()).expect("a model file"),
            file
        );
    }
}
