//! Evaluation: predictors side by side on the newest part of a recording.

use std::path::PathBuf;

use anyhow::Result;
use scx_ml_text::Show;
use serde::Serialize;

use super::metrics::{Metrics, Point};
use super::predictors::{self, Predictions};
use super::train::{measure_margins, split, train_bank};
use super::{Source, newest, online};
use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::bpf::intf::class_bounds_YOUNG_BURSTS as YOUNG_BURSTS;
use crate::kernel::features;
use crate::kernel::sample::Sample;
use crate::learn::class::fit_rows;
use crate::learn::least_squares::FitError;
use crate::learn::row::{Row, SAMPLES_MAX};
use crate::model::Linear;
use crate::model::file::ModelFile;
use crate::recording::{Meta, Recording};

/// Name of the group of all judged samples.
pub const ALL: &str = "all";

/// Name of the group of tasks with fewer than five bursts before.
pub const NEW_TASKS: &str = "new tasks";

/// See [`evaluate`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    pub recording: Source,
    /// Share of the samples, the oldest, that models were fitted on.
    pub split: f64,
    pub fitted_samples: usize,
    pub judged_samples: usize,
    pub groups: Vec<Group>,
    /// How the online learner did from its start on, over all samples.
    pub over_time: Vec<Span>,
    /// What a reader of the numbers should know.
    pub notes: Vec<String>,
}

/// A group of bursts, and how good each predictor is on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// "all", "new tasks", or the name of a class.
    pub group: &'static str,
    pub predictors: Vec<Line>,
}

/// A part of the recording, as the learner met it that started with it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Span {
    /// Seconds since the end of the first burst.
    pub from_s: f64,
    /// None: until the end.
    pub until_s: Option<f64>,
    pub bursts: f64,
    /// Mean |log2 error|, octaves, of the learner, the kind's average standing in where it published nothing, and of that
    /// average, the moving average and the last value.
    pub online: f64,
    pub kind_average: f64,
    pub moving_average: f64,
    pub last_value: f64,
    /// Share of the bursts that a model predicted.
    pub own_share: f64,
}

/// Where the spans of time begin, seconds. The last one is of all from the fifth second on.
const SPANS_S: [(f64, f64); 7] = [
    (0.0, 2.0),
    (2.0, 5.0),
    (5.0, 10.0),
    (10.0, 20.0),
    (20.0, 40.0),
    (40.0, f64::INFINITY),
    (5.0, f64::INFINITY),
];

/// A predictor on a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    pub predictor: &'static str,
    /// Of a model file: its path, as it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// |log2 error| as a share of the kind's average's on the same samples; None where that one does not err.
    pub ratio: Option<f64>,
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// What is compared.
struct Predictor {
    name: &'static str,
    file: Option<String>,
    predictions: Predictions,
}

/// What would steer instead of a model: ratios are against it.
const YARDSTICK: &str = "kind average";

/// Fit on the oldest samples (a share of `split`), judge on the others. `models` are judged too, with their paths.
///
/// # Errors
/// When there are too few samples.
pub fn evaluate(
    recording: &Recording,
    models: &[(PathBuf, ModelFile)],
    split: f64,
) -> Result<Evaluation> {
    let (samples, source) = newest(recording, SAMPLES_MAX)?;
    let from = (samples.len() as f64 * split) as usize;
    let rows: Vec<Row> = samples.iter().map(Row::from).collect();
    let (older, judged) = rows.split_at(from);
    let judged_samples = &samples[from..];

    let mut notes = vec![];
    if source.used < source.samples {
        notes.push(format!(
            "only the newest {} of {} samples are looked at",
            source.used, source.samples
        ));
    }
    let mut compared: Vec<Predictor> = vec![];
    let mut add = |name, file, predictions| {
        compared.push(Predictor {
            name,
            file,
            predictions,
        });
    };

    let bank = train_bank(older);
    for (class, training) in bank.classes.iter().enumerate() {
        if let Some(e) = &training.failed {
            let name = features::class_name(class);
            notes.push(format!("bank: no model of {name} tasks can be fitted: {e}"));
        }
    }
    if bank.model.is_empty() {
        notes.push("bank: no class has a model, the kind's average stands in".into());
    }
    add("bank", None, predictors::bank(&bank.model, judged));
    match single_model(older) {
        Ok(linear) => add("single", None, predictors::single(&linear, judged)),
        Err(e) => notes.push(format!("single is left out: {e}")),
    }
    let (predictions, status) = online::replay(samples);
    let over_time = over_time(samples, &rows, &predictions);
    notes.push(format!(
        "online: {} fits, {} models published, {} confirmed, {} withdrawn, {} drifts over all samples",
        status.fits, status.published, status.kept, status.withdrawn, status.drifts
    ));
    let online = predictors::watch_quantiles(predictions, &rows);
    add("online", None, online[from..].to_vec());
    if judged_samples.iter().any(|s| s.prediction().is_some()) {
        add("live", None, predictors::live(judged_samples));
    } else {
        notes.push("live is left out: the kernel predicted none of the judged bursts".into());
    }
    for (path, file) in models {
        match of_file(file, &recording.meta, judged) {
            Unseen::All(predictions) => add("file", Some(path.shown().to_string()), predictions),
            Unseen::Some(predictions, left) => {
                notes.push(format!(
                    "{}: judged on {left} of {} samples only, those after the ones that it was trained on",
                    path.shown(),
                    judged.len()
                ));
                add("file", Some(path.shown().to_string()), predictions);
            }
            Unseen::None => notes.push(format!(
                "{} is left out: it was trained on samples up to the end of this recording, none is left to judge it \
                 by; train it on an older recording",
                path.shown()
            )),
        }
    }
    let (by_task, by_name) = predictors::running_means(samples, from);
    add("last value", None, predictors::last_value(judged_samples));
    let (averages, halves) = (predictors::moving_average, predictors::fast_average);
    add("moving average 1/4", None, averages(judged_samples));
    add("moving average 1/2", None, halves(judged_samples));
    let kinds = predictors::kind_average(judged_samples);
    add(YARDSTICK, None, kinds);
    add("task mean", None, by_task);
    add("name mean", None, by_name);
    add("noise ceiling", None, predictors::ceiling(judged_samples));

    Ok(Evaluation {
        recording: source,
        split,
        fitted_samples: older.len(),
        judged_samples: judged.len(),
        groups: groups(judged_samples)
            .into_iter()
            .map(|(group, members)| Group {
                group,
                predictors: lines(&compared, judged, &members),
            })
            .filter(|g| !g.predictors.is_empty())
            .collect(),
        over_time,
        notes,
    })
}

/// One linear model for all classes, on the samples that the bank's models are fitted on; used whether or not it beats
/// the moving average.
fn single_model(older: &[Row]) -> Result<Linear, FitError> {
    let (fitted, newer) = split(older);
    let mut linear = fit_rows(&fitted.iter().collect::<Vec<_>>())?;
    measure_margins(&mut linear, newer);
    Ok(linear)
}

/// Predictions of a model file for the samples that it was not trained on.
enum Unseen {
    All(Predictions),
    /// And how many they are.
    Some(Predictions, usize),
    None,
}

fn of_file(file: &ModelFile, meta: &Meta, judged: &[Row]) -> Unseen {
    let mut predictions = predictors::bank(&file.model, judged);
    if file.origin.boot_id != meta.boot_id {
        return Unseen::All(predictions);
    }
    for (prediction, row) in predictions.iter_mut().zip(judged) {
        if row.end_ns <= file.origin.until_ns {
            *prediction = None;
        }
    }
    match predictions.iter().flatten().count() {
        0 => Unseen::None,
        left if left == judged.len() => Unseen::All(predictions),
        left => Unseen::Some(predictions, left),
    }
}

/// The recording in spans of time, those that have samples. `online`: what the learner predicted of each.
fn over_time(samples: &[Sample], rows: &[Row], online: &Predictions) -> Vec<Span> {
    let start_ns = rows.iter().map(|r| r.end_ns).min().unwrap_or(0);
    let (average, last) = (
        predictors::moving_average(samples),
        predictors::last_value(samples),
    );
    let span = |&(from_s, until_s): &(f64, f64)| {
        let inside = |row: &Row| {
            let since_s = (row.end_ns - start_ns) as f64 / 1e9;
            since_s >= from_s && since_s < until_s
        };
        let members: Vec<usize> = (0..rows.len()).filter(|&i| inside(&rows[i])).collect();
        let bursts: f64 = members.iter().map(|&i| rows[i].weight).sum();
        let mean = |value: &dyn Fn(usize) -> f64| {
            let sum: f64 = members.iter().map(|&i| rows[i].weight * value(i)).sum();
            sum / bursts
        };
        let missed = |predictions: &Predictions| {
            mean(&|i| predictions[i].map_or(0.0, |p| (p.value - rows[i].y).abs()))
        };
        (bursts > 0.0).then(|| Span {
            from_s,
            until_s: until_s.is_finite().then_some(until_s),
            bursts,
            online: missed(online),
            kind_average: mean(&|i| (rows[i].avg - rows[i].y).abs()),
            moving_average: missed(&average),
            last_value: missed(&last),
            own_share: mean(&|i| f64::from(u8::from(online[i].is_some_and(|p| p.own)))),
        })
    };
    SPANS_S.iter().filter_map(span).collect()
}

/// Names of the groups, and the indices of their samples.
fn groups(judged: &[Sample]) -> Vec<(&'static str, Vec<usize>)> {
    let members = |belongs: &dyn Fn(&Sample) -> bool| -> Vec<usize> {
        (0..judged.len()).filter(|&i| belongs(&judged[i])).collect()
    };
    let mut groups = vec![(ALL, members(&|_| true))];
    for class in 0..NR_CLASSES {
        groups.push((
            features::class_name(class),
            members(&|s| s.class() == class),
        ));
    }
    groups.push((NEW_TASKS, members(&|s| s.0.bursts_before < YOUNG_BURSTS)));
    groups
}

/// All predictors on the samples of a group.
fn lines(compared: &[Predictor], judged: &[Row], members: &[usize]) -> Vec<Line> {
    let yardstick = compared.iter().find(|p| p.name == YARDSTICK);
    compared
        .iter()
        .filter_map(|predictor| {
            let seen: Vec<usize> = members
                .iter()
                .copied()
                .filter(|&i| predictor.predictions[i].is_some())
                .collect();
            let metrics = Metrics::of(&points(predictor, judged, &seen))?;
            let error = yardstick.map(|p| super::metrics::log_mae(&points(p, judged, &seen)));
            Some(Line {
                predictor: predictor.name,
                file: predictor.file.clone(),
                ratio: error.filter(|&e| e > 0.0).map(|e| metrics.log_mae / e),
                metrics,
            })
        })
        .collect()
}

fn points(predictor: &Predictor, judged: &[Row], members: &[usize]) -> Vec<Point> {
    members
        .iter()
        .filter_map(|&i| {
            let prediction = predictor.predictions[i]?;
            Some(Point {
                truth: judged[i].y,
                prediction: prediction.value,
                upper: prediction.upper,
                own: prediction.own,
                weight: judged[i].weight,
                correction: prediction.correction,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::tests::{recording, samples};
    use crate::offline::train::train;

    fn line<'a>(evaluation: &'a Evaluation, group: &str, predictor: &str) -> &'a Line {
        let group = evaluation.groups.iter().find(|g| g.group == group);
        let lines = &group.expect("the group").predictors;
        let found = lines.iter().find(|l| l.predictor == predictor);
        found.unwrap_or_else(|| panic!("no {predictor}: {evaluation:#?}"))
    }

    #[test]
    fn models_beat_the_averages_where_a_feature_tells_and_nothing_beats_the_ceiling() {
        let evaluation = evaluate(&recording(samples(4_000)), &[], 0.7).expect("enough");
        assert_eq!(
            (evaluation.fitted_samples, evaluation.judged_samples),
            (2_800, 1_200)
        );
        for model in ["bank", "single", "online"] {
            let line = line(&evaluation, ALL, model);
            assert!(line.ratio.is_some_and(|r| r < 0.2), "{line:?}");
            assert!(line.metrics.r2.is_some_and(|r2| r2 > 0.9), "{line:?}");
            assert!(line.metrics.coverage.is_some_and(|c| c > 0.9), "{line:?}");
            assert_eq!(line.metrics.own_share, 1.0);
            assert_eq!(line.metrics.samples, 1_200);
        }
        let average = line(&evaluation, ALL, "moving average 1/4");
        assert!(average.metrics.coverage.is_none() && average.metrics.spearman.is_none());
        let last = evaluation.groups[0].predictors.last().expect("lines");
        assert_eq!(last.predictor, "noise ceiling");
        let names: Vec<&str> = evaluation.groups.iter().map(|g| g.group).collect();
        assert_eq!(
            names,
            [ALL, "interactive"],
            "groups without samples are left out"
        );
        assert!(
            evaluation
                .notes
                .iter()
                .any(|n| n.starts_with("live is left out"))
        );
    }

    #[test]
    fn a_model_file_is_judged_only_on_what_it_has_not_seen() {
        let whole = recording(samples(4_000));
        let trained_on = |n: usize| {
            let part = recording(whole.samples[..n].to_vec());
            let file = train(&part, 1_000_000)
                .expect("enough")
                .model
                .expect("a model");
            (PathBuf::from(format!("{n}.toml")), file)
        };
        let mut elsewhere = trained_on(4_000);
        elsewhere.1.origin.boot_id = "another".into();
        let judged_on = |models: &[(PathBuf, ModelFile)]| {
            let evaluation = evaluate(&whole, models, 0.7).expect("enough");
            let lines = &evaluation.groups[0].predictors;
            let found = lines.iter().find(|l| l.predictor == "file");
            (
                found.map(|l| l.metrics.samples),
                evaluation.notes.join("\n"),
            )
        };
        assert_eq!(judged_on(&[trained_on(1_000)]).0, Some(1_200));
        let (some, notes) = judged_on(&[trained_on(3_000)]);
        assert_eq!(some, Some(1_000));
        assert!(
            notes.contains("3000.toml: judged on 1000 of 1200 samples only"),
            "{notes}"
        );
        let (none, notes) = judged_on(&[trained_on(4_000)]);
        assert_eq!(none, None);
        assert!(notes.contains("4000.toml is left out"), "{notes}");
        assert_eq!(judged_on(&[elsewhere]).0, Some(1_200));
    }

    #[test]
    fn what_the_kernel_predicted_is_told_with_its_share() {
        let mut samples = samples(2_000);
        for sample in samples.iter_mut().step_by(2) {
            sample.0.flags = crate::kernel::bpf::intf::sample_flags_SAMPLE_PREDICTED;
            sample.0.pred_q16 = (sample.log_burst() * 65536.0) as i32;
        }
        for sample in &mut samples {
            sample.0.repeat = 1;
        }
        let evaluation = evaluate(&recording(samples), &[], 0.7).expect("enough");
        let live = line(&evaluation, ALL, "live");
        assert_eq!(live.metrics.own_share, 0.5);
        assert!(
            live.ratio.is_some_and(|r| (0.3..0.7).contains(&r)),
            "{live:?}"
        );
    }

    #[test]
    fn odd_recordings_are_borne() {
        let change = |change: fn(usize, &mut Sample)| {
            let mut samples = samples(1_000);
            samples
                .iter_mut()
                .enumerate()
                .for_each(|(i, s)| change(i, s));
            evaluate(&recording(samples), &[], 0.7).expect("enough")
        };
        for evaluation in [
            change(|_, s| s.0.pid = 1),
            change(|_, s| s.0.feature_q8 = [0; crate::kernel::bpf::NR_FEATURES]),
            change(|_, s| s.0.burst_ns = 0),
            change(|_, s| s.0.repeat = u32::MAX),
            change(|i, s| s.0.end_ns = if i % 2 == 0 { u64::MAX } else { 0 }),
            change(|_, s| s.0.wake_ns = u64::MAX),
            change(|i, s| s.0.class = i as u32 % 4),
            change(|_, s| s.0.avg_q16 = i32::MIN),
        ] {
            assert!(!evaluation.groups.is_empty());
            let text = serde_json::to_string(&evaluation).expect("JSON");
            assert!(!text.contains("NaN"), "{text}");
            for group in &evaluation.groups {
                for line in &group.predictors {
                    assert!(line.metrics.log_mae.is_finite(), "{line:?}");
                }
            }
        }
    }
}
