//! What is learned of one class of tasks: the sums of its stream, the newest fit, and the word of its judge.

use crate::learn::drift::Drift;
use crate::learn::fit::fit;
use crate::learn::judge::{Errors, Judge};
use crate::learn::least_squares::{FitError, ROWS_MIN};
use crate::learn::residuals::Residuals;
use crate::learn::row::{Row, Weights};
use crate::learn::stream::Stream;
use crate::learn::thinning::Thinning;
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

/// What was learned before the world changed counts for no more than so many rows: what is fitted then is next to the kind's
/// average, until the new rows tell more.
const ROWS_DRIFTED: f64 = 10.0;

/// New rows to have seen before another fit.
const NEW_ROWS: usize = 20;

/// Where so much of what is remembered is new, a class is fitted this many times as often: at the start, and when much
/// happens.
const NEW_SHARE: f64 = 0.1;
const OFTEN: u64 = 10;

/// And after so many intervals only where it rests.
const REST_INTERVALS: u64 = 2;

/// See the module.
#[derive(Debug)]
pub struct ClassLearner {
    stream: Stream,
    memory: Memory,
    /// Rows that the sums remember, each as far as it was not forgotten.
    remembered: f64,
    /// The newest fit.
    fitted: Option<Linear>,
    /// A model from elsewhere, as long as no fit has proved better.
    adopted: Option<Adopted>,
    judge: Judge,
    /// Whether the world has changed since the fit was ahead, and how often it has. None where that is known already, and the
    /// next fit is waited for.
    drift: Option<Drift>,
    drifts: u64,
    thinning: Thinning,
    weights: Weights,
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
            stream: Stream::default(),
            memory,
            remembered: 0.0,
            fitted: None,
            adopted: None,
            judge: Judge::default(),
            drift: None,
            drifts: 0,
            thinning: Thinning::default(),
            weights: Weights::default(),
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

    /// Take a row in: judge the predictions of it, then learn from it. How many bursts it counted for.
    pub fn add(&mut self, row: &Row) -> f64 {
        let weight = self.weights.limited(row.weight);
        let missed_average = row.y - row.avg;
        let missed = |model: &Linear| row.y - model.predict(&row.x);
        let missed_fit = self.fitted.as_ref().map(missed);
        let off = missed_fit.unwrap_or(missed_average).abs();
        if !off.is_finite() {
            return weight;
        }
        let mut missed_used = missed_average;
        let mut drifted = false;
        if let Some(missed) = missed_fit {
            self.judge.add(missed, missed_average, weight);
            let drift = self.drift.as_mut();
            drifted = drift.is_some_and(|d| d.add(missed, missed_average, weight));
            self.residuals.add(missed, weight);
            if self.judge.trusts_model() {
                missed_used = missed;
            }
        }
        if let Some(adopted) = &mut self.adopted {
            let missed = missed(&adopted.model);
            adopted.judge.add(missed, missed_average, weight);
            adopted.residuals.add(missed, weight);
            if let Some(missed_fit) = missed_fit {
                adopted.rival.add(missed_fit, missed, weight);
            }
            missed_used = missed;
        }

        let pause_s = self.forget(row.end_ns);
        let errs_more = self.thinning.add(missed_used, weight, row.end_ns, pause_s);
        if drifted || errs_more {
            self.begin_anew();
        }
        if drifted {
            self.drifts += 1;
            // Every row more is predicted by what was true once.
            (self.new_rows, self.fitted_ns) = (NEW_ROWS, None);
        }
        let seen = (self.stream.rows() + 1) as f64;
        self.scale += (off - self.scale) / seen.min(SCALE_ROWS);
        let bound = (HUBER_SHARE * self.scale).max(HUBER_MIN);
        self.stream.add(row, weight * bound / off.max(bound));
        self.remembered += 1.0;
        self.new_rows += 1;
        weight
    }

    /// What was is of another world: the rows from now on are to tell, and all of them are wanted again. Those of before, of
    /// which each may have stood for several, are to count for no more than as many of what comes.
    fn begin_anew(&mut self) {
        let share = 0.5f64.powi(self.thinning.shift() as i32);
        self.thinning.begin();
        self.stream.forget(share);
        self.residuals.fade(share);
        self.judge.fade(share);
        self.drift = None;
        self.keep((ROWS_DRIFTED / self.remembered).min(1.0));
    }

    /// Before a row that ended at `end_ns`. One that is late, for CPUs take turns to tell of theirs, takes no time. Seconds of
    /// activity since the one before.
    fn forget(&mut self, end_ns: u64) -> f64 {
        let pause_ns = end_ns.saturating_sub(self.newest_ns);
        let pause_s = (pause_ns as f64 / 1e9).min(PAUSE_MAX_S);
        if end_ns > self.newest_ns || self.newest_ns - end_ns > LATE_MAX_NS {
            self.newest_ns = end_ns;
        }
        // exp(-a) of an a that is small, as 1/(1 + a).
        let of_time = 1.0 / (1.0 + pause_s / self.memory.seconds);
        let of_time = of_time.max((ROWS_KEPT / self.remembered).min(1.0));
        let of_rows = 1.0 - 1.0 / self.memory.rows;
        self.keep(of_time * of_rows);
        pause_s
    }

    fn keep(&mut self, share: f64) {
        self.stream.forget(share);
        self.remembered *= share;
    }

    /// Whether there is enough that is new for another fit at `now_ns`, where `interval_ns` lies between two.
    pub fn is_due(&self, now_ns: u64, interval_ns: u64) -> bool {
        if self.new_rows < NEW_ROWS || self.stream.rows() < ROWS_MIN {
            return false;
        }
        let Some(fitted_ns) = self.fitted_ns else {
            return true;
        };
        let since_ns = now_ns.saturating_sub(fitted_ns);
        if self.thinning.rests() {
            return since_ns >= REST_INTERVALS * interval_ns;
        }
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
        let model = fit(self.stream.moments())?;
        model.quantise()?;
        self.fitted = Some(model);
        self.drift.get_or_insert_default();
        Ok(())
    }

    /// Decide at `now_ns` what predicts. Whether that is something else than before.
    pub fn decide(&mut self, now_ns: u64) -> bool {
        let mut changed = self.judge.decide(now_ns);
        if let Some(adopted) = &mut self.adopted {
            changed = adopted.judge.decide(now_ns) || adopted.rival.decide(now_ns);
            if changed {
                self.adopted = None;
            }
        }
        if changed {
            self.thinning.begin();
        }
        changed
    }

    /// Look, now that the records' clock is at `now_ns`, how many samples are wanted. Of those there are, one in 2 to the
    /// power of this.
    pub fn thin_shift(&mut self, now_ns: u64) -> u32 {
        self.thinning.look(now_ns);
        self.thinning.shift()
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
        self.stream.rows()
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
            for row in some {
                learner.add(row);
            }
            if learner.stream.rows() >= ROWS_MIN {
                learner.fit(0)?;
            }
        }
        first = learner.fitted;
    }
    first.ok_or(FitError::TooFew { found: rows.len() })
}

#[cfg(test)]
mod tests;
