//! What is learned of one class of tasks: the sums of its stream, the newest fit, and the word of its judge.

use crate::learn::fit::fit;
use crate::learn::judge::{Errors, Judge};
use crate::learn::least_squares::{FitError, ROWS_MIN};
use crate::learn::moments::Moments;
use crate::learn::residuals::Residuals;
use crate::learn::row::Row;
use crate::model::Linear;

/// A row that the newest fit misses by more than this share of the mean |error| counts for less, in proportion: beyond, it
/// is the error that is minimised and not its square (Huber 1964). An outlier of thirty octaves pulls no more than one of
/// one. The less, the more it is the median that is fitted, and the more a fit holds on to what it was before.
const HUBER_SHARE: f64 = 0.7;

/// But not below so many octaves: where all is known, nothing is an outlier.
const HUBER_MIN: f64 = 0.25;

/// About so many rows, the newest, tell the mean |error|.
const SCALE_ROWS: f64 = 500.0;

/// How far a class looks back: what was seen so many rows, or seconds of activity, ago counts for 1/e.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    pub rows: f64,
    pub seconds: f64,
}

impl Memory {
    /// Of a recording, where all counts the same.
    pub const WHOLE: Self = Self {
        rows: f64::INFINITY,
        seconds: f64::INFINITY,
    };

    /// Of a stream.
    pub fn of_rows(rows: usize) -> Self {
        Self {
            rows: rows as f64,
            seconds: 5.0,
        }
    }
}

/// A pause between two bursts counts as at most so long: what nobody does is not forgotten.
const PAUSE_MAX_S: f64 = 0.1;

/// A row that is late by more comes from a clock that was set back.
const LATE_MAX_NS: u64 = 1_000_000_000;

/// Time forgets no more than leaves so many rows.
const ROWS_KEPT: f64 = 200.0;

/// Rows of a recording between two fits.
const FIT_ROWS: usize = 500;

/// What was learned before the newest so many rows counts for no more than a few, where the average has been better on them.
const DRIFT_ROWS: f64 = 300.0;
const ROWS_DRIFTED: f64 = 50.0;

/// New rows to have seen before another fit.
const NEW_ROWS: usize = 20;

/// Where so much of what is remembered is new, a class is fitted this many times as often: at the start, and when much
/// happens.
const NEW_SHARE: f64 = 0.1;
const OFTEN: u64 = 10;

/// See the module.
#[derive(Debug)]
pub struct ClassLearner {
    moments: Moments,
    memory: Memory,
    /// Rows that the sums remember, each as far as it was not forgotten.
    remembered: f64,
    /// The newest fit.
    fitted: Option<Linear>,
    /// A model from elsewhere, as long as no fit has proved better.
    adopted: Option<Adopted>,
    judge: Judge,
    /// The same, of so short a time that it tells when the world has changed.
    lately: Judge,
    drifts: u64,
    residuals: Residuals,
    /// Mean |error| of the newest fit, or of the kind's average before there was one, octaves.
    scale: f64,
    new_rows: usize,
    /// When it was fitted last, CLOCK_MONOTONIC ns.
    fitted_ns: Option<u64>,
    /// End of the newest burst, CLOCK_MONOTONIC ns.
    newest_ns: u64,
}

#[derive(Debug)]
struct Adopted {
    model: Linear,
    residuals: Residuals,
    /// Of it against the kind's average, and of the fits against it.
    judge: Judge,
    rival: Judge,
}

impl ClassLearner {
    /// That knows nothing.
    pub fn new(memory: Memory) -> Self {
        Self {
            moments: Moments::default(),
            memory,
            remembered: 0.0,
            fitted: None,
            adopted: None,
            judge: Judge::default(),
            lately: Judge::remembering(DRIFT_ROWS),
            drifts: 0,
            residuals: Residuals::default(),
            scale: 0.0,
            new_rows: 0,
            fitted_ns: None,
            newest_ns: 0,
        }
    }

    /// Begin with a model from elsewhere: it predicts until a fit, or the kind's average, proves better.
    pub fn adopt(&mut self, model: Linear) {
        self.adopted = Some(Adopted {
            model,
            residuals: Residuals::default(),
            judge: Judge::trusting(),
            rival: Judge::default(),
        });
    }

    /// Take a row in: judge the predictions of it, then learn from it.
    pub fn add(&mut self, row: &Row) {
        let missed_average = row.y - row.avg;
        let missed = |model: &Linear| row.y - model.predict(&row.x);
        let missed_fit = self.fitted.as_ref().map(missed);
        let off = missed_fit.unwrap_or(missed_average).abs();
        if !off.is_finite() {
            return;
        }
        if let Some(missed) = missed_fit {
            self.judge.add(missed, missed_average, row.weight);
            self.lately.add(missed, missed_average, row.weight);
            self.residuals.add(missed, row.weight);
        }
        if let Some(adopted) = &mut self.adopted {
            let missed = missed(&adopted.model);
            adopted.judge.add(missed, missed_average, row.weight);
            adopted.residuals.add(missed, row.weight);
            if let Some(missed_fit) = missed_fit {
                adopted.rival.add(missed_fit, missed, row.weight);
            }
        }

        self.forget(row.end_ns);
        if self.lately.disproves() {
            // What was is of another world: the rows since then are to tell.
            self.lately = Judge::remembering(DRIFT_ROWS);
            self.drifts += 1;
            self.keep((ROWS_DRIFTED / self.remembered).min(1.0));
        }
        let seen = (self.moments.rows() + 1) as f64;
        self.scale += (off - self.scale) / seen.min(SCALE_ROWS);
        let bound = (HUBER_SHARE * self.scale).max(HUBER_MIN);
        self.moments.add(row, row.weight * bound / off.max(bound));
        self.remembered += 1.0;
        self.new_rows += 1;
    }

    /// Before a row that ended at `end_ns`. One that is late, for CPUs take turns to tell of theirs, takes no time.
    fn forget(&mut self, end_ns: u64) {
        let pause_s = end_ns.saturating_sub(self.newest_ns) as f64 / 1e9;
        if end_ns > self.newest_ns || self.newest_ns - end_ns > LATE_MAX_NS {
            self.newest_ns = end_ns;
        }
        let of_time = (-pause_s.min(PAUSE_MAX_S) / self.memory.seconds).exp();
        let of_time = of_time.max((ROWS_KEPT / self.remembered).min(1.0));
        let keep = of_time * (-1.0 / self.memory.rows).exp();
        self.keep(keep);
    }

    fn keep(&mut self, share: f64) {
        self.moments.forget(share);
        self.remembered *= share;
    }

    /// Whether there is enough that is new for another fit at `now_ns`, where `interval_ns` lies between two.
    pub fn is_due(&self, now_ns: u64, interval_ns: u64) -> bool {
        if self.new_rows < NEW_ROWS || self.moments.rows() < ROWS_MIN {
            return false;
        }
        let Some(fitted_ns) = self.fitted_ns else {
            return true;
        };
        let since_ns = now_ns.saturating_sub(fitted_ns);
        let much = self.new_rows as f64 >= NEW_SHARE * self.remembered;
        since_ns >= interval_ns || (much && since_ns >= interval_ns / OFTEN)
    }

    /// Fit anew, at `now_ns`.
    ///
    /// # Errors
    /// When nothing can be fitted, or nothing that the kernel would take: the fit before stays.
    pub fn fit(&mut self, now_ns: u64) -> Result<(), FitError> {
        self.new_rows = 0;
        self.fitted_ns = Some(now_ns);
        let model = fit(&self.moments)?;
        model.quantise()?;
        self.fitted = Some(model);
        Ok(())
    }

    /// Decide at `now_ns` what predicts. Whether that is something else than before.
    pub fn decide(&mut self, now_ns: u64) -> bool {
        let changed = self.judge.decide(now_ns);
        let Some(adopted) = &mut self.adopted else {
            return changed;
        };
        let gives_way = adopted.judge.decide(now_ns) || adopted.rival.decide(now_ns);
        if gives_way {
            self.adopted = None;
        }
        gives_way
    }

    /// Whether a model is to predict; else the kind's average is.
    pub fn trusts_model(&self) -> bool {
        self.adopted.is_some() || self.judge.trusts_model()
    }

    /// The model that is to predict, with its margins.
    pub fn trusted(&self) -> Option<Linear> {
        let (model, residuals) = match &self.adopted {
            Some(adopted) => (&adopted.model, &adopted.residuals),
            None if self.judge.trusts_model() => (self.fitted.as_ref()?, &self.residuals),
            None => return None,
        };
        let mut model = model.clone();
        residuals.set_margins(&mut model);
        Some(model)
    }

    /// How model and kind's average did of late.
    pub fn errors(&self) -> Errors {
        let adopted = self.adopted.as_ref();
        adopted.map_or(&self.judge, |a| &a.judge).errors()
    }

    /// Rows that were taken in.
    pub fn rows(&self) -> usize {
        self.moments.rows()
    }

    /// How often the world has changed, as far as the fits became worse than the average by it.
    pub fn drifts(&self) -> u64 {
        self.drifts
    }

    /// Rows that are remembered, each as far as it is not forgotten.
    pub fn remembered(&self) -> f64 {
        self.remembered
    }
}

/// A model of all these rows, as a stream of them would give it: twice through, so that no row counts by what the first
/// fits, of few rows, made of it.
///
/// # Errors
/// See [`ClassLearner::fit`].
pub fn fit_rows(rows: &[&Row]) -> Result<Linear, FitError> {
    let mut first: Option<Linear> = None;
    for _ in 0..2 {
        let mut learner = ClassLearner::new(Memory::WHOLE);
        learner.fitted = first.take();
        for some in rows.chunks(FIT_ROWS) {
            some.iter().for_each(|row| learner.add(row));
            if learner.moments.rows() >= ROWS_MIN {
                learner.fit(0)?;
            }
        }
        first = learner.fitted;
    }
    first.ok_or(FitError::TooFew { found: rows.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::NR_FEATURES;
    use crate::kernel::features::Features;
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
            let run = run(&rows);
            prop_assert!(positive_definite(&run.learner.moments, 1e-6));
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
}
