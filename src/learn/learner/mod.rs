//! The learner: a window of samples, and the decision when to fit and what to publish. Pure but for the sink; the
//! clock is passed in.

mod troubles;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use log::{debug, info, warn};

use crate::kernel::clock::thread_cpu_ns;
use crate::kernel::features;
use crate::kernel::news;
use crate::kernel::sample::Sample;
use crate::learn::drift::{PageHinkley, Rivals};
use crate::learn::gate::{self, Verdict};
use crate::learn::pace::Pace;
use crate::learn::quantum::FirstQuantum;
use crate::learn::row::Row;
use crate::model::file::{ModelFile, Origin};
use crate::model::sink::ModelSink;
use crate::model::{Dropped, Linear, Model, QUANTISATION_BOUND};

use troubles::Troubles;

/// Samples that the window holds if nothing else is asked for.
pub const DEFAULT_WINDOW: usize = 10_000;

/// Seconds between two fits if nothing else is asked for.
pub const DEFAULT_REFIT_INTERVAL_S: f64 = 5.0;

/// Samples to have before the first fit, so that the judging fifth is not a handful.
const FIRST_FIT_ROWS: usize = 400;

/// New samples to have seen before the window is judged again.
const NEW_ROWS: usize = 50;

/// When a lease that could not be begun is tried again.
const LEASE_RETRY_NS: u64 = 1_000_000_000;

/// Models remembered for checking the kernel's predictions.
const REMEMBERED_MODELS: usize = 4;

/// How the learner is set up.
#[derive(Debug, Clone)]
pub struct LearnerConfig {
    /// Samples that the window holds.
    pub window: usize,
    /// Time between two fits.
    pub refit_interval: Duration,
    /// A published model that is not confirmed for this long is no longer used by the kernel.
    pub max_age: Duration,
    /// Keep the first model that is published, for ever.
    pub freeze: bool,
}

/// The model that predicts.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub generation: u64,
    /// First generation with this model; a confirmed model gets new ones.
    pub since: u64,
    pub model: Model,
    pub judged: Judged,
}

/// The samples that a model was fitted and judged on.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// The window, or its newest part, when it was judged last.
    Here {
        /// End of the oldest and of the newest burst, CLOCK_MONOTONIC ns.
        from_ns: u64,
        until_ns: u64,
        samples: usize,
        /// Mean |log2 error| on the judging samples, octaves.
        error_model: f64,
        error_avg: f64,
    },
    /// It comes from a file, and was not judged here yet.
    Elsewhere(Origin),
}

impl LearnerConfig {
    /// With the lease that goes with the interval: several fits, and not less than half a minute.
    pub fn new(window: usize, refit_interval: Duration, freeze: bool) -> Self {
        Self {
            window,
            refit_interval,
            max_age: (10 * refit_interval).max(Duration::from_secs(30)),
            freeze,
        }
    }
}

impl Default for LearnerConfig {
    fn default() -> Self {
        let refit_interval = Duration::from_secs_f64(DEFAULT_REFIT_INTERVAL_S);
        Self::new(DEFAULT_WINDOW, refit_interval, false)
    }
}

/// What the learner has done, for the stats.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LearnerStatus {
    pub dead: bool,
    pub window: usize,
    pub fits: u64,
    pub fits_failed: u64,
    pub published: u64,
    pub kept: u64,
    pub withdrawn: u64,
    pub drifts: u64,
    /// Of the published model; 0: none.
    pub generation: u64,
    /// Samples that the published model was fitted on.
    pub model_samples: usize,
    /// CPU time that the last fit and judgement took.
    pub fit_us: u64,
    /// Errors on the judging samples at the last fit, octaves.
    pub gate_model: f64,
    pub gate_avg: f64,
    pub parity: Parity,
    /// The first quantum that the load asks for; 0: not known yet.
    pub first_quantum_ns: u64,
    /// Of the process database: profiles, and how many of them the kernel has been told.
    pub profiles: usize,
    pub profiles_told: usize,
}

/// The kernel's predictions, recomputed here from the same records.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Parity {
    pub checked: u64,
    /// Off by more than the quantisation explains.
    pub errors: u64,
    /// Largest difference, octaves.
    pub max: f64,
}

/// See the module.
pub struct Learner {
    config: LearnerConfig,
    status: Arc<Mutex<LearnerStatus>>,
    rows: VecDeque<Row>,
    new_rows: usize,
    pace: Pace,
    drift: PageHinkley,
    rivals: Rivals,
    drifted: bool,
    quantum: FirstQuantum,
    published: Option<Published>,
    /// The lease of a model from a file has not begun to run: no sample was seen yet. From when on it may,
    /// CLOCK_MONOTONIC ns.
    lease_waits: Option<u64>,
    cpu_clock: fn() -> u64,
    remembered: VecDeque<(u64, Model)>,
    parity: Parity,
    troubles: Troubles,
}

impl Learner {
    /// An empty window and no model.
    pub fn new(config: LearnerConfig, status: Arc<Mutex<LearnerStatus>>) -> Self {
        Self {
            pace: Pace::new(config.refit_interval),
            config,
            status,
            rows: VecDeque::new(),
            new_rows: 0,
            drift: PageHinkley::default(),
            rivals: Rivals::default(),
            drifted: false,
            quantum: FirstQuantum::default(),
            published: None,
            lease_waits: None,
            cpu_clock: thread_cpu_ns,
            remembered: VecDeque::new(),
            parity: Parity::default(),
            troubles: Troubles::new(),
        }
    }

    /// With another clock for the CPU time of fits, ns: a replay must not depend on how fast it is.
    pub fn with_cpu_clock(self, cpu_clock: fn() -> u64) -> Self {
        Self { cpu_clock, ..self }
    }

    /// Publish a model from a file, before anything was seen. From then on it is judged like any other; a frozen
    /// learner keeps it for ever.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn adopt(&mut self, file: ModelFile, now_ns: u64, sink: &dyn ModelSink) -> Result<()> {
        let generation = sink.publish(&file.model, self.lease_end(now_ns))?;
        info!(
            "model {generation} published, from a file; on {} samples of Linux {} its |error| was {:.3}, the moving \
             average's {:.3} octaves",
            file.origin.samples, file.origin.kernel, file.origin.error_model, file.origin.error_avg
        );
        self.with_status(|s| {
            s.generation = generation;
            s.model_samples = file.model.samples();
            s.published += 1;
            (s.gate_model, s.gate_avg) = (file.origin.error_model, file.origin.error_avg);
        });
        self.remember(Published {
            generation,
            since: generation,
            model: file.model,
            judged: Judged::Elsewhere(file.origin),
        });
        self.lease_waits = (!self.config.freeze).then_some(0);
        Ok(())
    }

    /// What is published.
    pub fn published(&self) -> Option<&Published> {
        self.published.as_ref()
    }

    /// Take samples in, oldest first.
    pub fn add(&mut self, samples: &[Sample]) {
        for sample in samples {
            let row = Row::from(sample);
            if let Some((generation, prediction)) = sample.prediction() {
                self.check_parity(generation, prediction, &row);
                self.watch(generation, prediction, &row);
            }
            if self.rows.len() == self.config.window {
                self.rows.pop_front();
            }
            self.rows.push_back(row);
            self.new_rows += 1;
        }
        let (window, parity) = (self.rows.len(), self.parity);
        self.with_status(|s| {
            s.window = window;
            s.parity = parity;
        });
    }

    /// How long from `now_ns`, after a step, until there may be something to do even if no sample comes.
    pub fn next_due(&self, now_ns: u64) -> Duration {
        // What was due has been done, or waits for samples.
        self.pace.until_next(now_ns).unwrap_or(Duration::MAX)
    }

    /// Fit, judge and publish, if it is time. What fails is tried again when it is time again: a model that could not be
    /// published or withdrawn, as the next fit has it.
    pub fn step(&mut self, now_ns: u64, sink: &dyn ModelSink) {
        self.begin_lease(now_ns, sink);
        self.set_first_quantum(now_ns, sink);
        let enough = self.rows.len() >= FIRST_FIT_ROWS && self.new_rows >= NEW_ROWS;
        let frozen = self.config.freeze && self.published.is_some();
        if frozen || !enough || !self.pace.is_due(now_ns, self.drifted) {
            return;
        }
        self.drifted = false;
        self.new_rows = 0;

        let started_ns = (self.cpu_clock)();
        let none = Model::default();
        let published = self.published.as_ref().map_or(&none, |p| &p.model);
        let unaffordable = self.rows.len().saturating_sub(self.pace.affordable_rows());
        let rows = &self.rows.make_contiguous()[unaffordable..];
        let verdict = gate::judge(rows, published);
        let used_ns = (self.cpu_clock)() - started_ns;
        self.pace.fitted(now_ns, used_ns, rows.len());
        self.with_status(|s| {
            s.fits += 1;
            s.fit_us = used_ns / 1000;
        });
        self.troubles.note_fits(&verdict);
        if !verdict.unfitted.is_empty() {
            self.with_status(|s| s.fits_failed += 1);
        }
        self.apply(verdict, unaffordable, self.lease_end(now_ns), sink);
    }

    /// Tell the kernel the first quantum that the window asks for.
    fn set_first_quantum(&mut self, now_ns: u64, sink: &dyn ModelSink) {
        let rows = self.rows.iter();
        let Some(quantum_ns) = self.quantum.look(rows, now_ns, self.config.freeze) else {
            return;
        };
        let outcome = sink.set_first_quantum(Some(quantum_ns));
        if self.troubles.quantum.note(outcome).is_some() {
            self.quantum.told(quantum_ns);
            debug!("first quantum {} us", quantum_ns / 1000);
            self.with_status(|s| s.first_quantum_ns = quantum_ns);
        }
    }

    /// When a model that is published now expires, CLOCK_MONOTONIC ns. Where fitting is slow, it lasts for several of
    /// the longer intervals.
    fn lease_end(&self, now_ns: u64) -> u64 {
        if self.config.freeze {
            return u64::MAX;
        }
        let interval = self.pace.until_next(now_ns).unwrap_or_default();
        let lease = self.config.max_age.max(interval.saturating_mul(3));
        now_ns.saturating_add(lease.as_nanos() as u64)
    }

    /// The lease of a model from a file runs from the first sample: loading the scheduler may take a good part of it.
    fn begin_lease(&mut self, now_ns: u64, sink: &dyn ModelSink) {
        let due = self.lease_waits.is_some_and(|from_ns| now_ns >= from_ns);
        if !due || self.new_rows == 0 {
            return;
        }
        let Some(published) = &self.published else {
            return;
        };
        let outcome = sink.publish(&published.model, self.lease_end(now_ns));
        let Some(generation) = self.troubles.publishing.note(outcome) else {
            self.lease_waits = Some(now_ns.saturating_add(LEASE_RETRY_NS));
            return;
        };
        self.with_status(|s| s.generation = generation);
        if let Some(published) = self.published.take() {
            self.remember(Published {
                generation,
                ..published
            });
        }
    }

    /// Publish or withdraw what the gate says of the window without its oldest `left_out` samples.
    fn apply(&mut self, verdict: Verdict, left_out: usize, expires_ns: u64, sink: &dyn ModelSink) {
        let changes = verdict.changes();
        let gate = (verdict.error_model, verdict.error_avg);
        if verdict.model.is_empty() {
            if self.troubles.publishing.note(sink.withdraw()).is_none() {
                return;
            }
            self.with_status(|s| (s.gate_model, s.gate_avg) = gate);
            if self.published.take().is_some() {
                let errors = verdict.describe();
                news::info(
                    "model withdrawn",
                    format_args!("model withdrawn; |error| of model / moving average: {errors}"),
                );
                self.with_status(|s| {
                    s.withdrawn += 1;
                    s.generation = 0;
                });
            }
            return;
        }

        // What is kept is published again all the same: confirmed on fresh samples, it has a new lease.
        let outcome = sink.publish(&verdict.model, expires_ns);
        let Some(generation) = self.troubles.publishing.note(outcome) else {
            return;
        };
        self.with_status(|s| {
            (s.gate_model, s.gate_avg) = gate;
            s.generation = generation;
            s.model_samples = verdict.model.samples();
            if changes {
                s.published += 1;
            } else {
                s.kept += 1;
            }
        });
        if changes {
            let errors = verdict.describe();
            news::info(
                "model published",
                format_args!(
                    "model {generation} published; |error| of model / moving average, octaves: {errors}"
                ),
            );
            for (class, linear) in verdict.model.classes.iter().enumerate() {
                if let Some(linear) = linear {
                    debug!(
                        "{}: {}",
                        features::class_name(class),
                        describe_columns(linear)
                    );
                }
            }
            self.drift.reset();
            self.rivals = Rivals::default();
        }
        let before = self.published.as_ref().filter(|_| !changes);
        let end_ns = |row: Option<&Row>| row.map_or(0, |r| r.end_ns);
        let published = Published {
            generation,
            since: before.map_or(generation, |p| p.since),
            model: verdict.model,
            judged: Judged::Here {
                from_ns: end_ns(self.rows.get(left_out)),
                until_ns: end_ns(self.rows.back()),
                samples: self.rows.len() - left_out,
                error_model: verdict.error_model,
                error_avg: verdict.error_avg,
            },
        };
        self.remember(published);
    }

    fn remember(&mut self, published: Published) {
        if self.remembered.len() == REMEMBERED_MODELS {
            self.remembered.pop_front();
        }
        self.remembered
            .push_back((published.generation, published.model.clone()));
        self.published = Some(published);
        // A model that is published has its lease.
        self.lease_waits = None;
    }

    /// An error that rises, or that exceeds the moving average's, says that the world has changed: the older samples
    /// tell of another one.
    fn watch(&mut self, generation: u64, prediction: f64, row: &Row) {
        let since = self.published.as_ref().map(|p| p.since);
        if self.drifted || since.is_none_or(|since| generation < since) {
            return;
        }
        let error = (prediction - row.y).abs();
        let risen = self.drift.add(error);
        let lost = self.rivals.add(error, (row.avg - row.y).abs());
        if !risen && !lost {
            return;
        }
        let keep = (self.config.window / 4).max(FIRST_FIT_ROWS);
        self.rows.drain(..self.rows.len().saturating_sub(keep));
        self.drifted = true;
        self.with_status(|s| s.drifts += 1);
        let than = match risen {
            true => "it did",
            false => "the moving average",
        };
        news::info(
            "drift",
            format_args!(
                "the model errs more than {than}: fitting anew at once, on the newest samples"
            ),
        );
    }

    /// Compute the kernel's prediction again, from the record's own features.
    fn check_parity(&mut self, generation: u64, prediction: f64, row: &Row) {
        let Some((_, model)) = self.remembered.iter().find(|(g, _)| *g == generation) else {
            return;
        };
        let Some(here) = model.predict(row.class, &row.x) else {
            return;
        };
        let off = (here - prediction).abs();
        let wrong = off > QUANTISATION_BOUND;
        let parity = &mut self.parity;
        parity.checked += 1;
        parity.max = parity.max.max(off);
        parity.errors += u64::from(wrong);
        if wrong && parity.errors == 1 {
            warn!(
                "the kernel predicted {prediction:.4} where model {generation} gives a result {off:.4} away"
            );
        }
    }

    fn with_status<T>(&self, change: impl FnOnce(&mut LearnerStatus) -> T) -> T {
        change(&mut self.status.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// Which features a model uses, and why not the others.
fn describe_columns(linear: &Linear) -> String {
    let used: Vec<&str> = linear.used().map(features::name).collect();
    let mut text = format!(
        "fitted on {} samples, uses {}",
        linear.samples,
        used.join(" ")
    );
    for why in [Dropped::Useless, Dropped::Collinear, Dropped::Constant] {
        let dropped = linear.dropped.iter().filter(|(_, w)| *w == why);
        let names: Vec<&str> = dropped.map(|&(i, _)| features::name(i)).collect();
        if !names.is_empty() {
            text.push_str(&format!("; {}: {}", why.word(), names.join(" ")));
        }
    }
    text
}

#[cfg(test)]
mod tests;
