//! The learner: samples into the streams of their classes, and the decision when to fit and what to publish. Pure but for
//! the sink; the clock is passed in.

mod troubles;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use log::{debug, info, warn};

use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::clock::thread_cpu_ns;
use crate::kernel::features;
use crate::kernel::news;
use crate::kernel::sample::Sample;
use crate::learn::class::{ClassLearner, Memory};
use crate::learn::judge::Judge;
use crate::learn::quantum::{self, FirstQuantum, Length};
use crate::learn::row::Row;
use crate::model::file::{ModelFile, Origin};
use crate::model::sink::ModelSink;
use crate::model::{Dropped, Linear, Model, QUANTISATION_BOUND};

use troubles::Troubles;

/// Rows of a class that it remembers if nothing else is asked for.
pub const DEFAULT_WINDOW: usize = 10_000;

/// Seconds between two fits if nothing else is asked for.
pub const DEFAULT_REFIT_INTERVAL_S: f64 = 1.0;

/// Fitting takes at most one part in so many of a CPU, however slow that is.
const FIT_SHARE: u64 = 100;

/// When a lease that could not be begun is tried again.
const LEASE_RETRY_NS: u64 = 1_000_000_000;

/// A model that is only refined counts as another one after so long: a file of it is written anew then.
const REFINED_NS: u64 = 60_000_000_000;

/// Samples to have seen before the model is published that stays for ever.
const FROZEN_SAMPLES: usize = 1_000;

/// Models remembered for checking the kernel's predictions: a burst may last for a few seconds.
const REMEMBERED_MODELS: usize = 8;

/// How the learner is set up.
#[derive(Debug, Clone)]
pub struct LearnerConfig {
    /// Rows that each class remembers.
    pub window: usize,
    /// Time between two fits.
    pub refit_interval: Duration,
    /// A published model that is not confirmed for this long is no longer used by the kernel.
    pub max_age: Duration,
    /// Keep the first model that is published, for ever.
    pub freeze: bool,
    /// Take fewer samples of what is learned. Not for recordings, which are for others to learn from.
    pub thin: bool,
}

/// The model that predicts.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub generation: u64,
    /// First generation with a model for the same classes; what is only refined or confirmed gets new ones.
    pub since: u64,
    pub model: Model,
    pub judged: Judged,
}

/// The samples that a model was fitted and judged on.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// The stream: each burst has judged first and was learned from then.
    Here {
        /// End of the oldest and of the newest burst, CLOCK_MONOTONIC ns.
        from_ns: u64,
        until_ns: u64,
        samples: usize,
        /// Mean |log2 error| of late, octaves: of the bank, the kind's average standing in where it has no model, and
        /// of that average alone.
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
            thin: true,
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
    /// Samples that are remembered, each as far as it is not forgotten, over all classes.
    pub window: usize,
    pub fits: u64,
    pub fits_failed: u64,
    /// Banks published with a model for other classes than before, and with a model for the same.
    pub published: u64,
    pub kept: u64,
    pub withdrawn: u64,
    /// Times that the fits of a class became worse than the kind's average, and what was before was forgotten.
    pub drifts: u64,
    /// Of the published model; 0: none.
    pub generation: u64,
    /// Samples that the published model was fitted on.
    pub model_samples: usize,
    /// CPU time that the last fit and judgement took.
    pub fit_us: u64,
    /// Errors of late, octaves, see [`Judged::Here`].
    pub gate_model: f64,
    pub gate_avg: f64,
    pub parity: Parity,
    /// The first quantum that the load asks for; 0: not known yet.
    pub first_quantum_ns: u64,
    /// By class: of the samples, the kernel records one in 2 to the power of this.
    pub thinned: [u32; NR_CLASSES],
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
    classes: [ClassLearner; NR_CLASSES],
    /// Of the bank against the kind's average.
    overall: Judge,
    /// Of the newest bursts, for the first quantum.
    lengths: VecDeque<Length>,
    /// End of the oldest and newest burst.
    seen_ns: Option<(u64, u64)>,
    /// Nothing is fitted before.
    next_look_ns: u64,
    quantum: FirstQuantum,
    /// The load has changed since the kernel was told a first quantum.
    drifted: bool,
    /// What the kernel was told of each class's samples, see [`ClassLearner::thin_shift`].
    thinned: [u32; NR_CLASSES],
    published: Option<Published>,
    /// When `published.since` was published.
    since_ns: u64,
    /// The lease of a model from a file has not begun to run: no sample was seen yet. From when on it may,
    /// CLOCK_MONOTONIC ns.
    lease_waits: Option<u64>,
    cpu_clock: fn() -> u64,
    remembered: VecDeque<(u64, Model)>,
    parity: Parity,
    troubles: Troubles,
}

impl Learner {
    /// That knows nothing, without a model.
    pub fn new(config: LearnerConfig, status: Arc<Mutex<LearnerStatus>>) -> Self {
        Self {
            classes: std::array::from_fn(|_| ClassLearner::new(Memory::of_rows(config.window))),
            config,
            status,
            overall: Judge::default(),
            lengths: VecDeque::new(),
            seen_ns: None,
            next_look_ns: 0,
            quantum: FirstQuantum::default(),
            drifted: false,
            thinned: [0; NR_CLASSES],
            published: None,
            since_ns: 0,
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
            "model {generation} published, from a file; on {} samples of Linux {} its |error| was {:.3}, the kind's \
             average's {:.3} octaves",
            file.origin.samples, file.origin.kernel, file.origin.error_model, file.origin.error_avg
        );
        self.with_status(|s| {
            s.generation = generation;
            s.model_samples = file.model.samples();
            s.published += 1;
            (s.gate_model, s.gate_avg) = (file.origin.error_model, file.origin.error_avg);
        });
        for (class, linear) in self.classes.iter_mut().zip(&file.model.classes) {
            if let Some(linear) = linear {
                class.adopt(linear.clone());
            }
        }
        self.since_ns = now_ns;
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
            }
            let bank = self.published.as_ref().map(|p| &p.model);
            let predicted = bank.and_then(|m| m.predict(row.class, &row.x));
            let missed_average = row.y - row.avg;
            let missed = predicted.map_or(missed_average, |p| row.y - p);
            let class = &mut self.classes[row.class];
            let drifts = class.drifts();
            let weight = class.add(&row);
            if class.drifts() > drifts {
                self.lengths.clear();
                self.drifted = true;
            }
            self.overall.add(missed, missed_average, weight);
            if self.lengths.len() == self.config.window {
                self.lengths.pop_front();
            }
            self.lengths.push_back(Length {
                y: row.y,
                weight,
                end_ns: row.end_ns,
            });
            quantum::forget_old(&mut self.lengths);
            let (from_ns, until_ns) = self.seen_ns.unwrap_or((row.end_ns, row.end_ns));
            self.seen_ns = Some((from_ns, until_ns.max(row.end_ns)));
        }
        let parity = self.parity;
        self.with_status(|s| s.parity = parity);
    }

    /// How long from `now_ns`, after a step, until there may be something to do even if no sample comes.
    pub fn next_due(&self, now_ns: u64) -> Duration {
        // What was due has been done, or waits for samples.
        match self.next_look_ns.saturating_sub(now_ns) {
            0 => Duration::MAX,
            left_ns => Duration::from_nanos(left_ns),
        }
    }

    /// Fit, judge and publish, if it is time. What fails is tried again when it is time again: a model that could not be
    /// published or withdrawn, with the next fit.
    pub fn step(&mut self, now_ns: u64, sink: &dyn ModelSink) {
        self.begin_lease(now_ns, sink);
        self.set_first_quantum(now_ns, sink);
        self.set_thinning(sink);
        let frozen = self.config.freeze && self.published.is_some();
        if frozen || now_ns < self.next_look_ns {
            return;
        }
        let started_ns = (self.cpu_clock)();
        if !self.fit(now_ns) {
            return;
        }
        let changed = self.decide(now_ns);
        let used_ns = (self.cpu_clock)() - started_ns;
        self.next_look_ns = now_ns.saturating_add(FIT_SHARE.saturating_mul(used_ns));

        let errors = self.overall.errors();
        let remembered: f64 = self.classes.iter().map(ClassLearner::remembered).sum();
        let drifts = self.classes.iter().map(ClassLearner::drifts).sum();
        self.with_status(|s| {
            s.fits += 1;
            s.fit_us = used_ns / 1000;
            s.window = remembered as usize;
            s.drifts = drifts;
            (s.gate_model, s.gate_avg) = (errors.model, errors.average);
        });
        self.tell(changed, now_ns, sink);
    }

    /// Fit each class that is due. Whether there was one.
    fn fit(&mut self, now_ns: u64) -> bool {
        let interval_ns = self.config.refit_interval.as_nanos() as u64;
        let (mut due, mut failed) = (false, false);
        for (class, learner) in self.classes.iter_mut().enumerate() {
            if !learner.is_due(now_ns, interval_ns) {
                continue;
            }
            due = true;
            let outcome = learner.fit(now_ns).map_err(|e| {
                failed = true;
                let name = features::class_name(class);
                format!("no model of {name} tasks can be fitted: {e}")
            });
            self.troubles.fitting[class].note(outcome);
        }
        if failed {
            self.with_status(|s| s.fits_failed += 1);
        }
        due
    }

    /// Have the judges decide. Whether a class has another predictor.
    fn decide(&mut self, now_ns: u64) -> bool {
        let mut changed = false;
        for (class, learner) in self.classes.iter_mut().enumerate() {
            let trusted = learner.trusts_model();
            if !learner.decide(now_ns) {
                continue;
            }
            changed = true;
            let errors = learner.errors();
            let name = features::class_name(class);
            let what = match (trusted, learner.trusts_model()) {
                (false, _) => "their model",
                (true, false) => "the kind's average",
                (true, true) => "a model fitted here",
            };
            news::info(
                &format!("predictor of {name}"),
                format_args!(
                    "{name} tasks are predicted by {what}; |error| of model / kind's average, octaves: {:.3}/{:.3}, \
                     ±{:.3}",
                    errors.model, errors.average, errors.standard_error
                ),
            );
        }
        changed
    }

    /// Publish or withdraw what the classes trust in.
    fn tell(&mut self, changed: bool, now_ns: u64, sink: &dyn ModelSink) {
        let samples = self.classes.iter().map(ClassLearner::rows).sum();
        if self.config.freeze && samples < FROZEN_SAMPLES {
            return;
        }
        let model = Model {
            classes: self.classes.each_ref().map(ClassLearner::trusted),
        };
        if model.is_empty() {
            if self.published.is_none() && !self.troubles.publishing.lasts() {
                return;
            }
            if self.troubles.publishing.note(sink.withdraw()).is_none() {
                return;
            }
            if self.published.take().is_some() {
                news::info(
                    "model withdrawn",
                    "model withdrawn: no class has a better one",
                );
                self.with_status(|s| {
                    s.withdrawn += 1;
                    s.generation = 0;
                });
            }
            return;
        }

        // What is the same is published again all the same: confirmed on fresh samples, it has a new lease.
        let outcome = sink.publish(&model, self.lease_end(now_ns));
        let Some(generation) = self.troubles.publishing.note(outcome) else {
            return;
        };
        let before = self.published.as_ref();
        let changed = changed || before.is_none();
        self.with_status(|s| {
            s.generation = generation;
            s.model_samples = model.samples();
            if changed {
                s.published += 1;
            } else {
                s.kept += 1;
            }
        });
        if changed {
            for (class, linear) in model.classes.iter().enumerate() {
                let Some(linear) = linear else { continue };
                let (name, columns) = (features::class_name(class), describe_columns(linear));
                debug!("model {generation}, {name}: {columns}");
            }
        }
        let refined = now_ns.saturating_sub(self.since_ns) >= REFINED_NS;
        let since = match before {
            Some(before) if !changed && !refined => before.since,
            _ => {
                self.since_ns = now_ns;
                generation
            }
        };
        let errors = self.overall.errors();
        let (from_ns, until_ns) = self.seen_ns.unwrap_or_default();
        self.remember(Published {
            generation,
            since,
            model,
            judged: Judged::Here {
                from_ns,
                until_ns,
                samples,
                error_model: errors.model,
                error_avg: errors.average,
            },
        });
    }

    /// Tell the kernel the first quantum that the bursts of late ask for.
    fn set_first_quantum(&mut self, now_ns: u64, sink: &dyn ModelSink) {
        if !self.config.freeze
            && self.quantum.is_told()
            && (self.drifted || self.quantum.is_outlived(&self.lengths, now_ns))
        {
            let outcome = sink.set_first_quantum(None);
            if self.troubles.quantum.note(outcome).is_none() {
                return;
            }
            self.quantum.forget(now_ns);
            self.lengths.clear();
            debug!("the load has changed: first quantum of the base policy");
            self.with_status(|s| s.first_quantum_ns = 0);
        }
        self.drifted = false;
        let lengths = self.lengths.iter();
        let Some(quantum_ns) = self.quantum.look(lengths, now_ns, self.config.freeze) else {
            return;
        };
        let outcome = sink.set_first_quantum(Some(quantum_ns));
        if self.troubles.quantum.note(outcome).is_some() {
            self.quantum.told(quantum_ns);
            debug!("first quantum {} us", quantum_ns / 1000);
            self.with_status(|s| s.first_quantum_ns = quantum_ns);
        }
    }

    /// Tell the kernel how many samples the classes want.
    fn set_thinning(&mut self, sink: &dyn ModelSink) {
        let Some((_, newest_ns)) = self.seen_ns.filter(|_| self.config.thin) else {
            return;
        };
        let wanted = self.classes.each_mut().map(|c| c.thin_shift(newest_ns));
        if wanted == self.thinned {
            return;
        }
        if self
            .troubles
            .thinning
            .note(sink.set_thinning(wanted))
            .is_some()
        {
            self.thinned = wanted;
            self.with_status(|s| s.thinned = wanted);
        }
    }

    /// When a model that is published now expires, CLOCK_MONOTONIC ns.
    fn lease_end(&self, now_ns: u64) -> u64 {
        match self.config.freeze {
            true => u64::MAX,
            false => now_ns.saturating_add(self.config.max_age.as_nanos() as u64),
        }
    }

    /// The lease of a model from a file runs from the first sample: loading the scheduler may take a good part of it.
    fn begin_lease(&mut self, now_ns: u64, sink: &dyn ModelSink) {
        let due = self.lease_waits.is_some_and(|from_ns| now_ns >= from_ns);
        if !due || self.seen_ns.is_none() {
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
