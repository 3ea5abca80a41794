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
    /// All samples from the first one on, which is where the online learner starts; last, those from the fifth second on.
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

/// A part of the recording, and how good each predictor that needs no fit of its own is on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Span {
    /// Seconds since the end of the first burst.
    pub from_s: f64,
    /// None: until the end.
    pub until_s: Option<f64>,
    /// Judged, each record as the bursts that it stands for.
    pub bursts: f64,
    pub predictors: Vec<Line>,
}

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

/// The learner, replayed.
pub const ONLINE: &str = "online";

/// What the kernel predicted while it recorded.
pub const LIVE: &str = "live";

/// What would steer instead of a model: ratios are against it.
pub const YARDSTICK: &str = "kind average";

/// The best that could be known in hindsight.
pub const CEILING: &str = "noise ceiling";

impl Predictor {
    /// The same for the samples from this one on.
    fn since(&self, from: usize) -> Self {
        Self {
            predictions: self.predictions[from..].to_vec(),
            file: self.file.clone(),
            ..*self
        }
    }
}

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
    let (mut whole, note) = unfitted(samples, &rows);
    notes.push(note);
    let judged_live = judged_samples.iter().any(|s| s.prediction().is_some());
    if !judged_live {
        notes.push("live is left out: the kernel predicted none of the judged bursts".into());
    }
    let known = whole.iter().filter(|p| judged_live || p.name != LIVE);
    compared.extend(known.map(|p| p.since(from)));
    let ceiling = |samples| Predictor {
        name: CEILING,
        file: None,
        predictions: predictors::ceiling(samples),
    };
    compared.push(ceiling(judged_samples));
    whole.push(ceiling(samples));

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
        over_time: over_time(&whole, &rows),
        notes,
    })
}

/// One linear model for all classes, on the samples that the bank's models are fitted on; used whether or not it beats
/// the kind's average.
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

/// The predictors that need no older samples to be fitted on, over all samples, and what the learner did.
fn unfitted(samples: &[Sample], rows: &[Row]) -> (Vec<Predictor>, String) {
    let (online, status) = online::replay(samples);
    let note = format!(
        "online: {} fits, {} models published, {} confirmed, {} withdrawn, {} drifts over all samples",
        status.fits, status.published, status.kept, status.withdrawn, status.drifts
    );
    let (by_task, by_name) = predictors::running_means(samples);
    let mut all = vec![
        (ONLINE, predictors::watch_quantiles(online, rows)),
        (LIVE, predictors::live(samples)),
        ("last value", predictors::last_value(samples)),
        ("moving average 1/4", predictors::moving_average(samples)),
        ("moving average 1/2", predictors::fast_average(samples)),
        (YARDSTICK, predictors::kind_average(samples)),
        ("task mean", by_task),
        ("name mean", by_name),
    ];
    if samples.iter().all(|s| s.prediction().is_none()) {
        all.retain(|(name, _)| *name != LIVE);
    }
    let named = |(name, predictions)| Predictor {
        name,
        file: None,
        predictions,
    };
    (all.into_iter().map(named).collect(), note)
}

/// Until then a span is five seconds long, and later ones as long as all before them.
const FINE_S: f64 = 60.0;

/// From the start, the learner's first seconds by themselves; those that have begun after `length_s`.
fn spans_s(length_s: f64) -> impl Iterator<Item = (f64, f64)> {
    let after = |from: f64| match from {
        0.0 => 2.0,
        2.0 => 5.0,
        from if from < FINE_S => from + 5.0,
        from => 2.0 * from,
    };
    let starts = std::iter::successors(Some(0.0), move |&from| Some(after(from)));
    let spans = starts.map(move |from| (from, after(from)));
    spans.take_while(move |&(from, _)| from <= length_s)
}

/// The recording in spans of time, those that have samples, and all from the fifth second on.
fn over_time(whole: &[Predictor], rows: &[Row]) -> Vec<Span> {
    let start_ns = rows.iter().map(|r| r.end_ns).min().unwrap_or(0);
    let since_s = |row: &Row| (row.end_ns - start_ns) as f64 / 1e9;
    let length_s = rows.iter().map(since_s).fold(0.0, f64::max);
    spans_s(length_s)
        .chain([(5.0, f64::INFINITY)])
        .filter_map(|(from_s, until_s)| {
            let inside = |i: &usize| (from_s..until_s).contains(&since_s(&rows[*i]));
            let members: Vec<usize> = (0..rows.len()).filter(inside).collect();
            (!members.is_empty()).then(|| Span {
                from_s,
                until_s: until_s.is_finite().then_some(until_s),
                bursts: members.iter().map(|&i| rows[i].weight).sum(),
                predictors: lines(whole, rows, &members),
            })
        })
        .collect()
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
    fn time_goes_by_in_spans_and_the_learner_is_the_average_before_it_knows_better() {
        // A hundred seconds.
        let evaluation = evaluate(&recording(samples(10_000)), &[], 0.7).expect("enough");
        let bounds: Vec<_> = evaluation
            .over_time
            .iter()
            .map(|s| (s.from_s, s.until_s))
            .collect();
        assert_eq!(
            bounds[..3],
            [(0.0, Some(2.0)), (2.0, Some(5.0)), (5.0, Some(10.0))]
        );
        assert_eq!(
            bounds[12..],
            [(55.0, Some(60.0)), (60.0, Some(120.0)), (5.0, None)]
        );
        let ratio = |span: usize| {
            let lines = &evaluation.over_time[span].predictors;
            let found = lines.iter().find(|l| l.predictor == ONLINE);
            found.and_then(|l| l.ratio).expect("a ratio")
        };
        assert!(ratio(0) > ratio(3) && ratio(3) < 0.2 && ratio(14) < 0.2);
        let all: f64 = evaluation.over_time[..14].iter().map(|s| s.bursts).sum();
        let (first, last) = (&evaluation.over_time[..2], &evaluation.over_time[14]);
        let early: f64 = first.iter().map(|s| s.bursts).sum();
        assert_eq!(all, early + last.bursts);
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
