//! What a class learns of streams of rows.

use super::*;
use crate::kernel::bpf::NR_FEATURES;
use crate::kernel::features::Features;
use crate::learn::moments::Moments;
use crate::learn::row::tests::{KIND, noise, row, rows};
use crate::model::COEF_LIMIT;
use proptest::prelude::*;

const S: u64 = 1_000_000_000;

/// A class learner fed as the learner does it, and what came of it.
struct Run {
    learner: ClassLearner,
    /// Of each row, what was used missed by so many octaves.
    missed: Vec<f64>,
    /// And by so many more than the kind's average.
    losses: Vec<f64>,
    changes_ns: Vec<u64>,
}

fn run(rows: &[Row]) -> Run {
    let mut run = Run {
        learner: ClassLearner::new(Memory::of_rows(10_000)),
        missed: vec![],
        losses: vec![],
        changes_ns: vec![],
    };
    for (i, row) in rows.iter().enumerate() {
        // Whatever the records' clock does.
        let now_ns = (i as u64 + 1) * 1_000_000;
        let used = run.learner.trusted().map_or(row.avg, |m| m.predict(&row.x));
        let missed = (row.y - used).abs();
        run.missed.push(missed);
        run.losses.push(missed - (row.y - row.avg).abs());
        run.learner.add(row);
        if run.learner.is_due(now_ns, S) {
            run.learner.fit(now_ns).expect("it can be fitted");
            if run.learner.decide(now_ns) {
                run.changes_ns.push(now_ns);
            }
        }
    }
    run
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn what_a_feature_tells_is_learned_within_a_second() {
    let run = run(&rows(1_000, |x| x[3] + 0.1 * x[4]));
    assert!(run.changes_ns[0] < S / 2, "{:?}", run.changes_ns);
    assert!(mean(&run.losses[500..]) < -1.0, "{}", mean(&run.losses));
    let model = run.learner.trusted().expect("a model");
    assert!((model.coef[3] - 1.0).abs() < 0.05, "{model:?}");
    assert!(model.margin < 0.5 && model.sigma > 0.0, "{model:?}");
}

#[test]
fn a_pause_forgets_nothing_and_activity_does() {
    let mut rows = rows(3_000, |x| x[3]);
    let learner = run(&rows[..2_000]).learner;
    let before = learner.remembered();
    rows[2_000].end_ns = 3_600 * S;
    let mut after = run(&rows[..2_001]).learner;
    assert!(after.remembered() > 0.97 * before, "{before}");
    for second in 0..1_000 {
        after.add(&Row {
            end_ns: 3_600 * S + second * S,
            ..rows[5]
        });
    }
    assert!((150.0..400.0).contains(&after.remembered()));
}

#[test]
fn a_change_of_load_is_learned_within_three_seconds() {
    let mut rows = rows(10_000, |x| x[3]);
    for row in &mut rows[5_000..] {
        row.y = 30.0 - row.x[3];
    }
    let losses = run(&rows).losses;
    let last = mean(&losses[9_000..]);
    assert!(last < -1.0, "{last}");
    assert!(
        mean(&losses[7_500..8_500]) < 0.9 * last,
        "{}",
        mean(&losses[7_500..8_500])
    );
}

#[test]
fn a_drift_is_one_however_many_rows_come_before_the_next_fit() {
    let mut rows = rows(3_000, |x| x[3]);
    for row in &mut rows[2_000..] {
        row.y = 30.0 - row.x[3];
    }
    let mut learner = run(&rows[..2_000]).learner;
    for row in &rows[2_000..2_900] {
        learner.add(row);
    }
    assert_eq!(learner.drifts(), 1);
    assert!(learner.remembered() > 600.0, "{}", learner.remembered());
    learner.fit(3 * S).expect("it can be fitted");
    let model = learner.trusted().expect("a model");
    assert!((model.coef[3] + 1.0).abs() < 0.1, "{model:?}");
}

/// Of each row, what was used missed by so many octaves; and of which rows samples were taken: of as many as were wanted,
/// told every 200 ms with the samples that had come by then.
fn run_thinned(rows: &[Row]) -> (Vec<f64>, Vec<bool>) {
    let mut learner = ClassLearner::new(Memory::of_rows(10_000));
    let (mut missed, mut taken, mut shift) = (vec![], vec![], 0);
    for (b, batch) in rows.chunks(200).enumerate() {
        let now_ns = (b as u64 + 1) * 200_000_000;
        let model = learner.trusted();
        for (i, row) in batch.iter().enumerate() {
            let used = model.as_ref().map_or(row.avg, |m| m.predict(&row.x));
            missed.push((row.y - used).abs());
            taken.push(noise(77, b * 200 + i) + 0.5 < 0.5f64.powi(shift));
        }
        for (row, _) in batch.iter().zip(&taken[b * 200..]).filter(|t| *t.1) {
            let weight = f64::from(1u32 << shift);
            learner.add(&Row { weight, ..*row });
        }
        if learner.is_due(now_ns, S) {
            learner.fit(now_ns).expect("it can be fitted");
            learner.decide(now_ns);
        }
        shift = learner.thin_shift(now_ns) as i32;
    }
    (missed, taken)
}

/// The same, and what a learner of all samples missed by; from the fifth second on. Samples a second.
fn thinned_and_all(rows: &[Row]) -> (f64, f64, f64) {
    let (missed, taken) = run_thinned(rows);
    let seconds = rows.len() as f64 / 1_000.0 - 5.0;
    let rate = taken[5_000..].iter().filter(|t| **t).count() as f64 / seconds;
    (
        mean(&missed[5_000..]),
        mean(&run(rows).missed[5_000..]),
        rate,
    )
}

#[test]
fn at_rest_a_few_samples_tell_as_much() {
    for noise_from in [20_000, 3_000] {
        let mut rows = rows(20_000, |x| x[3] + 0.3 * x[4]);
        for (i, row) in rows.iter_mut().enumerate() {
            // Noise that comes and goes is no other world.
            let more = if i / noise_from % 2 == 0 { 1.0 } else { 1.5 };
            row.y += more * noise(95, i);
        }
        let (of_few, of_all, rate) = thinned_and_all(&rows);
        assert!((50.0..250.0).contains(&rate), "{rate}");
        assert!(of_few < 1.03 * of_all, "{of_few}, and of all {of_all}");
    }
}

#[test]
fn where_the_world_changes_all_the_time_all_samples_are_taken() {
    let mut rows = rows(20_000, |x| x[3]);
    for (i, row) in rows.iter_mut().enumerate() {
        row.y = row.x[3 + i / 500 % 2 * 2] + 0.5 * noise(95, i);
    }
    let (of_few, of_all, rate) = thinned_and_all(&rows);
    assert!(of_few < 1.05 * of_all, "{of_few}, and of all {of_all}");
    assert!(rate > 500.0, "{rate}");
}

#[test]
fn a_change_of_load_is_learned_within_three_seconds_at_rest_too() {
    type Load = fn(&Features) -> f64;
    let unknown = |x: &Features| 0.4 * noise(3, (x[9] * 1e6) as usize);
    let before: Load = |x| x[3];
    let changes: [(&str, Load); 4] = [
        ("the other way round", |x| 30.0 - x[3]),
        ("by another feature", |x| x[5]),
        ("by less, and more by another", |x| 0.4 * x[3] + 0.6 * x[6]),
        ("all are longer", |x| x[3] + 2.0),
    ];
    for (name, after) in changes {
        let mut rows = rows(24_000, |x| before(x) + unknown(x));
        for row in &mut rows[12_000..] {
            row.y = after(&row.x) + unknown(&row.x);
        }
        let (missed, taken) = run_thinned(&rows);
        let rested = taken[11_000..12_000].iter().filter(|t| **t).count();
        assert!(rested < 300, "{name}: {rested}");
        let (last, soon) = (mean(&missed[22_000..]), mean(&missed[15_000..16_000]));
        assert!(
            soon < 1.1 * last,
            "{name}: {soon} after three seconds, in the end {last}"
        );
    }
}

#[test]
fn outliers_do_not_lift_the_plane() {
    let mut rows = rows(4_000, |x| x[KIND] + 0.5 * (x[3] - 15.0));
    for (i, row) in rows.iter_mut().enumerate() {
        if noise(5, i) > 0.4 {
            row.y += 12.0;
        }
    }
    let learner = run(&rows).learner;
    let model = learner.trusted().expect("a model");
    let mut x: Features = [15.0; NR_FEATURES];
    let level = model.predict(&x) - 15.0;
    // The mean of all would be 1.2 above.
    assert!(level.abs() < 0.4, "{level}");
    x[3] = 17.0;
    let slope = (model.predict(&x) - 15.0 - level) / 2.0;
    assert!((slope - 0.5).abs() < 0.1, "{slope}");
}

#[test]
fn an_adopted_model_predicts_until_a_fit_is_better() {
    let rows = rows(4_000, |x| x[3]);
    let good = run(&rows).learner.trusted().expect("a model");
    let adopt = |model: &Linear| {
        let mut learner = ClassLearner::new(Memory::of_rows(10_000));
        learner.adopt(model.clone());
        for row in &rows[..3_000] {
            learner.add(row);
            if learner.is_due(row.end_ns, S) {
                learner.fit(row.end_ns).expect("it can be fitted");
                learner.decide(row.end_ns);
            }
        }
        learner
    };
    let learner = adopt(&good);
    assert_eq!(learner.trusted().map(|m| m.coef), Some(good.coef));
    let mut bad = good.clone();
    bad.intercept += 3.0;
    let model = adopt(&bad).trusted().expect("a fit");
    assert!((model.predict(&rows[0].x) - rows[0].y).abs() < 0.2);
}

#[test]
fn a_model_of_rows_at_once_is_that_of_a_stream() {
    let rows = rows(3_000, |x| x[3] + 0.1 * x[4]);
    let model = fit_rows(&rows.iter().collect::<Vec<_>>()).expect("a model");
    assert_eq!(model.samples, 3_000);
    assert!((model.coef[3] - 1.0).abs() < 0.02, "{model:?}");
    let few: Vec<&Row> = rows.iter().take(20).collect();
    assert_eq!(fit_rows(&few), Err(FitError::TooFew { found: 20 }));
}

/// What a part of a stream is like.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// Nothing varies but log2(burst), which is noise.
    Constant,
    /// Two columns are the same, a third is their mean, and they tell all.
    Collinear,
    /// A column tells a share of it, with this sign.
    Telling(bool),
    /// Nothing tells anything; every so many rows one is off by 30 octaves.
    Outliers(usize),
    /// The clock goes back, and forward by hours.
    Steps,
    /// One task: all columns follow its last bursts.
    OneTask,
}

fn part(part: Part, len: usize, from: usize) -> Vec<Row> {
    (from..from + len)
        .map(|i| {
            let mut x: Features = std::array::from_fn(|j| 18.0 + 4.0 * noise(j, i));
            let mut y = x[KIND] + 2.0 * noise(90, i);
            let mut end_ns = (i as u64 + 1) * 1_000_000;
            match part {
                Part::Constant => {
                    x = [17.0; NR_FEATURES];
                    y = 17.0 + 3.0 * noise(91, i);
                }
                Part::Collinear => {
                    x[8] = x[3];
                    x[9] = 0.5 * x[3] + 0.5 * x[KIND];
                    y = x[9];
                }
                Part::Telling(up) => {
                    let told = if up { x[3] - 18.0 } else { 18.0 - x[3] };
                    y += 0.7 * told;
                }
                Part::Outliers(every) if i % every == 0 => y = 40.0 * (noise(92, i) + 0.5),
                Part::Outliers(_) => {}
                Part::Steps => end_ns = [0, end_ns, u64::MAX / 2, end_ns / 2][i % 4],
                Part::OneTask => {
                    let level = 16.0 + (i / 50 % 4) as f64;
                    x = std::array::from_fn(|j| level + 0.1 * noise(j, i / 8));
                    y = level + noise(93, i);
                }
            }
            Row {
                weight: 1.0 + (i % 7) as f64,
                ..Row {
                    end_ns,
                    ..row(i, x, y)
                }
            }
        })
        .collect()
}

fn any_part() -> impl Strategy<Value = (Part, usize)> {
    let part = prop_oneof![
        Just(Part::Constant),
        Just(Part::Collinear),
        any::<bool>().prop_map(Part::Telling),
        (2usize..50).prop_map(Part::Outliers),
        Just(Part::Steps),
        Just(Part::OneTask),
    ];
    (part, 1usize..1_500)
}

/// Whether the covariances, with the ridge penalty, have a Cholesky factor.
fn positive_definite(moments: &Moments, ridge: f64) -> bool {
    let k = NR_FEATURES;
    let mut factor = vec![vec![0.0; k]; k];
    for i in 0..k {
        for j in 0..=i {
            let known: f64 = (0..j).map(|m| factor[i][m] * factor[j][m]).sum();
            let penalty = if i == j { ridge } else { 0.0 };
            let left = moments.covariance(i, j) + penalty - known;
            if i == j {
                if left.is_nan() || left <= 0.0 {
                    return false;
                }
                factor[i][i] = left.sqrt();
            } else {
                factor[i][j] = left / factor[j][j];
            }
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_comes_the_model_stays_sound_and_no_worse_than_the_average(
        parts in prop::collection::vec(any_part(), 1..6),
    ) {
        let mut rows: Vec<Row> = vec![];
        for (kind, len) in parts {
            let from = rows.len();
            rows.extend(part(kind, len, from));
        }
        let mut run = run(&rows);
        prop_assert!(positive_definite(run.learner.stream.moments(), 1e-6));
        if let Some(model) = &run.learner.fitted {
            prop_assert!(model.coef.iter().all(|c| c.abs() <= COEF_LIMIT), "{model:?}");
            prop_assert!(model.quantise().is_ok());
        }
        for pair in run.changes_ns.windows(2) {
            prop_assert!(pair[1] - pair[0] >= 10 * S, "{:?}", run.changes_ns);
        }
        let (n, error) = (run.missed.len() as f64, mean(&run.missed));
        let variance = run.missed.iter().map(|m| (m - error).powi(2)).sum::<f64>() / n;
        let (loss, standard_error) = (mean(&run.losses), (variance / n).sqrt());
        // Two of them: of so many streams some lie beyond one by chance.
        prop_assert!(loss <= 2.0 * standard_error + 0.01, "{loss}, ±{standard_error}");
    }
}
