//! What is compared: models, and what needs no model. Each gives a prediction of log2(burst) for the judged samples.

use std::collections::HashMap;
use std::hash::Hash;

use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::bpf::intf::{
    class_bounds_YOUNG_BURSTS as YOUNG_BURSTS, scx_ml_feature_FEATURE_HALF_BURST as HALF_BURST,
    scx_ml_feature_FEATURE_LAST_BURST as LAST_BURST,
};
use crate::kernel::native;
use crate::kernel::sample::Sample;
use crate::learn::row::Row;
use crate::model::{Linear, Model};

/// A prediction of one burst, log2(ns).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    pub value: f64,
    /// The 95 % quantile, of models.
    pub upper: Option<f64>,
    /// Whether it is the predictor's own; else the kind's average stands in.
    pub own: bool,
    /// See [`super::metrics::Point::correction`].
    pub correction: f64,
}

impl Prediction {
    /// A value and no more.
    pub fn plain(value: f64) -> Self {
        Self {
            value,
            upper: None,
            own: true,
            correction: 1.0,
        }
    }

    /// The kind's average, in place of a prediction that there is not.
    pub fn stand_in(avg: f64) -> Self {
        Self {
            own: false,
            ..Self::plain(avg)
        }
    }

    /// Of a model whose upper margin is this.
    pub fn with_margin(value: f64, margin: f64) -> Self {
        Self {
            upper: Some(value + margin),
            ..Self::plain(value)
        }
    }
}

/// What a predictor says of each judged sample; None: it is not judged by that one.
pub type Predictions = Vec<Option<Prediction>>;

/// Of a bank of models; the kind's average stands in where a class has none.
pub fn bank(model: &Model, rows: &[Row]) -> Predictions {
    let predict = |row: &Row| {
        let linear = model.classes.get(row.class).and_then(Option::as_ref);
        linear.map_or(Prediction::stand_in(row.avg), |m| of_linear(m, row))
    };
    watch_quantiles(rows.iter().map(|r| Some(predict(r))).collect(), rows)
}

/// Of one model for all classes.
pub fn single(linear: &Linear, rows: &[Row]) -> Predictions {
    let predictions = rows.iter().map(|r| Some(of_linear(linear, r))).collect();
    watch_quantiles(predictions, rows)
}

fn of_linear(linear: &Linear, row: &Row) -> Prediction {
    Prediction::with_margin(linear.predict(&row.x), linear.margin)
}

/// What the kernel predicted while it recorded; the kind's average stands in where it did not.
pub fn live(samples: &[Sample]) -> Predictions {
    let predict = |s: &Sample| match s.prediction() {
        Some((_, value)) => Prediction {
            upper: s.quantile(),
            ..Prediction::plain(value)
        },
        None => Prediction::stand_in(s.kind_average()),
    };
    samples.iter().map(|s| Some(predict(s))).collect()
}

/// Shift the quantiles as the kernel's watch does, burst by burst and class by class: a margin is what was measured when
/// the model was judged, and the load has gone on since. `rows` in the order of their end.
pub fn watch_quantiles(mut predictions: Predictions, rows: &[Row]) -> Predictions {
    let mut watches = [None; NR_CLASSES];
    for (prediction, row) in predictions.iter_mut().zip(rows) {
        let Some(prediction) = prediction else {
            continue;
        };
        let Some(upper) = prediction.upper else {
            continue;
        };
        let margin_q16 = ((upper - prediction.value) * 65536.0).round() as i32;
        // Another margin is that of another generation.
        let watch: &mut Option<(i32, i32)> = &mut watches[row.class];
        let (_, shift_q16) = watch
            .filter(|(of_q16, _)| *of_q16 == margin_q16)
            .unwrap_or((margin_q16, 0));
        let watched_q16 = native::watched_margin_q16(margin_q16, shift_q16);
        let watched = prediction.value + f64::from(watched_q16) / 65536.0;
        prediction.upper = Some(watched);
        let shift_q16 = native::watch_quantile(shift_q16, row.y > watched);
        *watch = Some((margin_q16, shift_q16));
    }
    predictions
}

/// The moving average (1/4) of log2 of the task's bursts that began like this one: what steers where no model does, and so
/// the predictor to beat. For a first burst: the kernel's prior.
pub fn kind_average(samples: &[Sample]) -> Predictions {
    let predict = |s: &Sample| Some(Prediction::plain(s.kind_average()));
    samples.iter().map(predict).collect()
}

/// The moving average (1/4) of burst. For a first burst: the kernel's prior.
pub fn moving_average(samples: &[Sample]) -> Predictions {
    let predict = |s: &Sample| Some(Prediction::plain(s.avg_prediction()));
    samples.iter().map(predict).collect()
}

/// The task's last burst.
pub fn last_value(samples: &[Sample]) -> Predictions {
    of_feature(samples, LAST_BURST as usize)
}

/// The moving average (1/2).
pub fn fast_average(samples: &[Sample]) -> Predictions {
    of_feature(samples, HALF_BURST as usize)
}

/// A feature that is a burst. A first burst has none before it: the kernel's prior stands in.
fn of_feature(samples: &[Sample], feature: usize) -> Predictions {
    let predict = |s: &Sample| {
        if s.0.bursts_before == 0 {
            return Prediction::stand_in(s.kind_average());
        }
        Prediction::plain(f64::from(s.0.feature_q8[feature]) / 256.0)
    };
    samples.iter().map(|s| Some(predict(s))).collect()
}

/// A mean that grows.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    sum: f64,
    weight: f64,
    /// Bursts before the newest one, to tell a task from the next one with its pid.
    bursts_before: u32,
}

impl Running {
    fn add(&mut self, sample: &Sample) {
        let row_weight = super::weight(sample);
        self.sum += row_weight * sample.log_burst();
        self.weight += row_weight;
    }

    fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// Means of log2(burst) over all records that had ended when a sample woke: of the task, and of all tasks of its name. The
/// kind's average stands in where there is none. `samples` are sorted by their end.
pub fn running_means(samples: &[Sample]) -> (Predictions, Predictions) {
    // A record whose clock stepped must not be known before it ends.
    let wake = |i: usize| samples[i].0.wake_ns.min(samples[i].0.end_ns);
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by_key(|&i| wake(i));

    let mut tasks: HashMap<u32, Running> = HashMap::new();
    let mut names: HashMap<[std::ffi::c_char; 16], Running> = HashMap::new();
    let mut by_task = vec![None; samples.len()];
    let mut by_name = vec![None; samples.len()];
    let mut ended = samples.iter().peekable();
    for i in order {
        while let Some(sample) = ended.next_if(|s| s.0.end_ns < wake(i)) {
            let record = &sample.0;
            let task = tasks.entry(record.pid).or_default();
            if record.bursts_before < task.bursts_before {
                *task = Running::default();
            }
            task.bursts_before = record.bursts_before;
            task.add(sample);
            names.entry(record.comm).or_default().add(sample);
        }
        let record = &samples[i].0;
        let own = tasks
            .get(&record.pid)
            .filter(|t| t.bursts_before < record.bursts_before);
        let avg = samples[i].kind_average();
        by_task[i] = Some(or_average(own, avg));
        by_name[i] = Some(or_average(names.get(&record.comm), avg));
    }
    (by_task, by_name)
}

fn or_average(running: Option<&Running>, avg: f64) -> Prediction {
    running
        .and_then(Running::mean)
        .map_or(Prediction::stand_in(avg), Prediction::plain)
}

/// How far a prediction from task and context could go: in hindsight, the mean of the judged samples with the same task,
/// names of task and waker, stage of life and octave of the last burst. Samples alone in their group are not judged.
///
/// The error of such a mean is what no predictor that knows no more can avoid (the law of total variance:
/// ρ² = 1 - E\[Var(burst | task, context)\] / Var(burst)). A mean is nearer to the samples that it was computed from than
/// to others: squared errors are corrected by n / (n - 1), with the effective number of samples
/// n = (Σw)² / Σw² (Kish 1965), which leaves R² without bias. The mean |error| and the rank correlation are not
/// corrected, so they are somewhat better than what can be had.
pub fn ceiling(samples: &[Sample]) -> Predictions {
    let mut groups: HashMap<_, Vec<usize>> = HashMap::new();
    for (i, sample) in samples.iter().enumerate() {
        groups.entry(context(sample)).or_default().push(i);
    }
    let mut predictions = vec![None; samples.len()];
    for group in groups.values().filter(|g| g.len() >= 2) {
        let mut mean = Running::default();
        group.iter().for_each(|&i| mean.add(&samples[i]));
        let Some(value) = mean.mean() else { continue };
        let squares: f64 = group
            .iter()
            .map(|&i| super::weight(&samples[i]).powi(2))
            .sum();
        let effective = mean.weight * mean.weight / squares;
        for &i in group {
            predictions[i] = Some(Prediction {
                correction: effective / (effective - 1.0),
                ..Prediction::plain(value)
            });
        }
    }
    predictions
}

fn context(sample: &Sample) -> impl Hash + Eq + use<> {
    let r = &sample.0;
    // Q8 octaves to whole ones.
    let octave = r.feature_q8[LAST_BURST as usize] >> 8;
    (
        (r.pid, r.tgid, r.name_key, r.waker_name_key),
        r.bursts_before.min(YOUNG_BURSTS),
        octave,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::intf::{burst_sample, scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST};

    const MS: u64 = 1_000_000;

    /// A burst of 2^`log` ns, `start` to `start` + 1 ms, the task's `nth`.
    fn sample(pid: u32, nth: u32, start: u64, log: u32) -> Sample {
        let mut record = burst_sample {
            pid,
            bursts_before: nth,
            wake_ns: start * MS,
            end_ns: (start + 1) * MS,
            burst_ns: 1 << log,
            avg_q16: 7 << 16,
            repeat: 1,
            ..Default::default()
        };
        record.feature_q8[LAST_BURST as usize] = 11 * 256 + 128;
        record.feature_q8[KIND_BURST as usize] = 7 * 256;
        Sample(record)
    }

    fn values(predictions: &Predictions) -> Vec<(f64, bool)> {
        let of = |p: &Option<Prediction>| p.map(|p| (p.value, p.own));
        predictions.iter().map(|p| of(p).expect("judged")).collect()
    }

    #[test]
    fn a_first_burst_has_no_last_value() {
        let samples = [sample(1, 0, 0, 10), sample(1, 1, 5, 10)];
        assert_eq!(values(&last_value(&samples)), [(7.0, false), (11.5, true)]);
        assert_eq!(values(&moving_average(&samples)), [(7.0, true); 2]);
        assert_eq!(values(&kind_average(&samples)), [(7.0, true); 2]);
        assert_eq!(values(&live(&samples)), [(7.0, false); 2]);
    }

    #[test]
    fn running_means_know_only_what_had_ended_at_the_wake_up() {
        let mut samples = vec![
            sample(1, 0, 0, 10),
            sample(2, 0, 3, 20),
            sample(1, 1, 6, 12),
            // Wakes while pid 1 runs its second burst, so it does not know that one.
            sample(2, 1, 6, 22),
            sample(1, 2, 9, 14),
        ];
        samples.iter_mut().for_each(|s| s.0.comm[0] = 97);
        let (task, name) = running_means(&samples);
        assert_eq!(
            values(&task)[2..],
            [(10.0, true), (20.0, true), (11.0, true)]
        );
        assert_eq!(
            values(&name)[2..],
            [(15.0, true), (15.0, true), (16.0, true)]
        );
    }

    #[test]
    fn another_task_with_the_same_pid_starts_anew() {
        let samples = [
            sample(1, 8, 0, 10),
            sample(1, 0, 3, 20),
            sample(1, 1, 6, 12),
        ];
        let (task, _) = running_means(&samples);
        assert_eq!(values(&task)[1..], [(7.0, false), (20.0, true)]);
    }

    #[test]
    fn a_clock_that_steps_reveals_nothing() {
        let mut odd = sample(1, 1, 5, 10);
        odd.0.wake_ns = 90 * MS;
        let (task, _) = running_means(&[odd, sample(2, 1, 6, 12)]);
        assert_eq!(values(&task), [(7.0, false); 2]);
    }

    #[test]
    fn the_ceiling_is_a_mean_in_hindsight_of_groups_of_two_and_more() {
        let samples = [
            sample(1, 7, 0, 10),
            sample(1, 9, 5, 14),
            sample(2, 7, 6, 20),
        ];
        let predictions = ceiling(&samples);
        let first = predictions[0].expect("in a group");
        assert_eq!((first.value, first.correction), (12.0, 2.0));
        assert_eq!(predictions[0], predictions[1]);
        assert_eq!(predictions[2], None);
    }

    #[test]
    fn of_noise_alone_the_ceiling_explains_nothing() {
        use crate::offline::metrics::{Metrics, Point};
        // 2,000 tasks of three bursts each, whose lengths know nothing of the task.
        let samples: Vec<Sample> = (0..6_000u64)
            .map(|i| {
                let mut s = sample((i / 3) as u32, 7, i, 10);
                // SplitMix64's mixing.
                let z = (i ^ (i << 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                s.0.burst_ns = 1 << (10 + (z >> 40) % 10);
                s
            })
            .collect();
        let points: Vec<Point> = samples
            .iter()
            .zip(ceiling(&samples))
            .map(|(s, p)| {
                let p = p.expect("in a group");
                Point {
                    truth: s.log_burst(),
                    prediction: p.value,
                    upper: None,
                    own: true,
                    weight: 1.0,
                    correction: p.correction,
                }
            })
            .collect();
        let r2 = Metrics::of(&points).and_then(|m| m.r2).expect("varies");
        assert!(r2.abs() < 0.05, "{r2}");
    }
}
