//! Training: fits of the older part of a recording, judged on the newer.

use log::warn;
use serde::Serialize;

use super::{OfflineError, Source, newest};
use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::features;
use crate::learn::class::fit_rows;
use crate::learn::judge::{Errors, Judge};
use crate::learn::least_squares::FitError;
use crate::learn::residuals::Residuals;
use crate::learn::row::Row;
use crate::model::file::{ModelFile, Origin};
use crate::model::{Linear, Model};
use crate::recording::Recording;

/// Share of the samples, the newest, that judge and are not fitted on.
const JUDGING_SHARE: f64 = 0.2;

/// What training came to.
#[derive(Debug, PartialEq)]
pub struct Training {
    pub report: TrainingReport,
    /// The model, with the classes that beat the kind's average.
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
    /// Mean |log2 error| on the judging samples, octaves: of the bank, the kind's average standing in where it has
    /// no model, and of that average alone.
    pub error_model: f64,
    pub error_kind_average: f64,
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
    pub error_kind_average: Option<f64>,
    /// Of the model; empty where there is none.
    pub chosen: Vec<ChosenFeature>,
    pub dropped: Vec<DroppedFeature>,
}

/// What became of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A model.
    Model,
    /// None, for the kind's average is as good or better.
    KindAverageBetter,
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
            Self::KindAverageBetter => "none: the kind's average is better",
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

/// Models of all classes, and how each came to its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Bank {
    pub model: Model,
    pub classes: [ClassTraining; NR_CLASSES],
}

/// A class of a [`Bank`].
#[derive(Debug, Clone, PartialEq)]
pub struct ClassTraining {
    pub fitted_samples: usize,
    pub judging_samples: usize,
    pub outcome: Outcome,
    /// None where there was nothing to judge.
    pub errors: Option<Errors>,
    /// Why nothing could be fitted.
    pub failed: Option<FitError>,
}

/// The rows to fit on, and the newer ones to judge by.
pub fn split(rows: &[Row]) -> (&[Row], &[Row]) {
    rows.split_at(rows.len() - (rows.len() as f64 * JUDGING_SHARE) as usize)
}

/// Fit each class on the older part of `rows` (oldest first), and keep what proves better than the kind's average on the
/// newer.
pub fn train_bank<'a>(rows: &'a [Row]) -> Bank {
    let (older, newer) = split(rows);
    let mut model = Model::default();
    let classes = std::array::from_fn(|class| {
        let of_class = |rows: &'a [Row]| -> Vec<&'a Row> {
            rows.iter().filter(|r| r.class == class).collect()
        };
        let (older, newer) = (of_class(older), of_class(newer));
        let mut training = ClassTraining {
            fitted_samples: older.len(),
            judging_samples: newer.len(),
            outcome: Outcome::TooFewSamples,
            errors: None,
            failed: None,
        };
        match fit_rows(&older) {
            Err(FitError::TooFew { .. }) => {}
            Err(e) => {
                training.outcome = Outcome::NotFitted;
                training.failed = Some(e);
            }
            Ok(mut linear) => {
                let mut judge = Judge::remembering(f64::INFINITY);
                for row in &newer {
                    let missed = row.y - linear.predict(&row.x);
                    judge.add(missed, row.y - row.avg, row.weight);
                }
                if judge.is_sure() {
                    judge.decide(0);
                    measure_margins(&mut linear, newer);
                    training.errors = Some(judge.errors());
                    training.outcome = match judge.trusts_model() {
                        true => Outcome::Model,
                        false => Outcome::KindAverageBetter,
                    };
                    model.classes[class] = judge.trusts_model().then_some(linear);
                }
            }
        }
        training
    });
    Bank { model, classes }
}

/// Set a model's sigma and margins from its residuals on `rows`, by weight.
pub fn measure_margins<'a>(model: &mut Linear, rows: impl IntoIterator<Item = &'a Row>) {
    let mut residuals = Residuals::remembering(f64::INFINITY);
    for row in rows {
        residuals.add(row.y - model.predict(&row.x), row.weight);
    }
    residuals.set_margins(model);
}

/// Fit on the older four fifths of the newest `window` samples, judge on the newest fifth.
///
/// # Errors
/// When there are too few samples to try.
pub fn train(recording: &Recording, window: usize) -> Result<Training, OfflineError> {
    let (samples, source) = newest(recording, window)?;
    let rows: Vec<Row> = samples.iter().map(Row::from).collect();
    let bank = train_bank(&rows);
    let (older, newer) = split(&rows);
    let (error_model, error_avg) = errors(&bank.model, newer);
    let classes = bank.classes.iter().enumerate();
    let report = TrainingReport {
        recording: source,
        fitted_samples: older.len(),
        judging_samples: newer.len(),
        error_model,
        error_kind_average: error_avg,
        classes: classes
            .map(|(class, training)| class_report(class, training, &bank.model))
            .collect(),
    };
    let mut failed = None;
    for (class, training) in bank.classes.iter().enumerate() {
        if let Some(e) = &training.failed {
            warn!(
                "no model of {} tasks can be fitted: {e}",
                features::class_name(class)
            );
            failed = failed.or(Some(e.clone()));
        }
    }
    let model = if !bank.model.is_empty() {
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
                error_model,
                error_avg,
            },
            model: bank.model,
        })
    } else if bank.classes.iter().any(|c| c.errors.is_some()) {
        Err(OfflineError::NothingBetter)
    } else {
        Err(failed.map_or(OfflineError::Unjudged, OfflineError::Fit))
    };
    Ok(Training { report, model })
}

/// Mean |log2 error| on `rows` by weight, octaves: of `model`, the kind's average standing in, and of that alone.
fn errors(model: &Model, rows: &[Row]) -> (f64, f64) {
    let mut judge = Judge::remembering(f64::INFINITY);
    for row in rows {
        let missed_average = row.y - row.avg;
        let predicted = model.predict(row.class, &row.x);
        let missed = predicted.map_or(missed_average, |p| row.y - p);
        judge.add(missed, missed_average, row.weight);
    }
    let errors = judge.errors();
    (errors.model, errors.average)
}

fn class_report(class: usize, training: &ClassTraining, model: &Model) -> ClassReport {
    let model = model.classes[class].as_ref();
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
        fitted_samples: training.fitted_samples,
        judging_samples: training.judging_samples,
        outcome: training.outcome,
        error_model: training.errors.map(|e| e.model),
        error_kind_average: training.errors.map(|e| e.average),
        chosen,
        dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::intf::scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST;
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
        assert!(report.error_model < report.error_kind_average);
        assert_eq!(report.classes[2].outcome, Outcome::Model);
        assert_eq!(report.classes[2].chosen[1].feature, "waker_ran");
        assert!(report.classes[2].chosen[1].explains > 0.9);
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
            sample.0.feature_q8[KIND_BURST as usize] = 20 * 256;
        }
        let training = train(&recording(samples), 1_000).expect("enough samples");
        assert_eq!(training.model, Err(OfflineError::NothingBetter));
        let class = &training.report.classes[2];
        assert_eq!(class.outcome, Outcome::KindAverageBetter);
        assert_eq!(class.error_kind_average, Some(0.0));
    }

    #[test]
    fn constant_features_leave_the_mean() {
        let mut samples = samples(1_000);
        for sample in &mut samples {
            sample.0.feature_q8 = [30 * 256; crate::kernel::bpf::NR_FEATURES];
        }
        let training = train(&recording(samples), 1_000).expect("enough samples");
        let file = training.model.expect("the mean is better than 30 octaves");
        let chosen = &training.report.classes[2].chosen;
        assert_eq!(chosen.len(), 1);
        assert_eq!((chosen[0].feature, chosen[0].explains), ("kind_burst", 0.0));
        assert_eq!(
            ModelFile::from_text(&file.to_text()).expect("a model file"),
            file
        );
    }
}
