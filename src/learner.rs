//! The learner: a window of samples, and the decision when to fit and what to publish. Pure but for the sink; the
//! clock is passed in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use log::{info, warn};

use crate::drift::{PageHinkley, Rivals};
use crate::features;
use crate::fit::{MIN_ROWS, Row};
use crate::gate::{self, Errors, Verdict};
use crate::model::{Dropped, Model, QUANTISATION_BOUND};
use crate::publish::ModelSink;
use crate::sample::Sample;

/// Samples to have before the first fit, so that the judging fifth is not a handful.
const FIRST_FIT_ROWS: usize = 2 * MIN_ROWS;

/// New samples to have seen before the window is judged again.
const NEW_ROWS: usize = 50;

/// A row never counts for more than this many bursts: one thinned-out CPU must not drown the others.
const WEIGHT_MAX: u32 = 64;

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
    /// Time that the last fit and judgement took.
    pub fit_us: u64,
    /// Errors on the judging samples at the last fit, octaves.
    pub gate_candidate: f64,
    pub gate_avg: f64,
    pub parity: Parity,
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
    next_fit_ns: u64,
    drift: PageHinkley,
    rivals: Rivals,
    drifted: bool,
    published: Option<(u64, Model)>,
    /// First generation of the published model; a confirmed model gets new ones.
    published_since: u64,
    remembered: VecDeque<(u64, Model)>,
    parity: Parity,
}

impl Learner {
    /// An empty window and no model.
    pub fn new(config: LearnerConfig, status: Arc<Mutex<LearnerStatus>>) -> Self {
        Self {
            config,
            status,
            rows: VecDeque::new(),
            new_rows: 0,
            next_fit_ns: 0,
            drift: PageHinkley::default(),
            rivals: Rivals::default(),
            drifted: false,
            published: None,
            published_since: 0,
            remembered: VecDeque::new(),
            parity: Parity::default(),
        }
    }

    /// Take samples in, oldest first.
    pub fn add(&mut self, samples: &[Sample]) {
        for sample in samples {
            let row = Row {
                x: sample.features(),
                y: sample.log_burst(),
                avg: sample.avg_prediction(),
                weight: f64::from(sample.0.repeat.clamp(1, WEIGHT_MAX)),
            };
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

    /// How long from `now_ns` until there may be something to do.
    pub fn next_due(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(self.next_fit_ns.saturating_sub(now_ns))
    }

    /// Fit, judge and publish, if it is time.
    ///
    /// # Errors
    /// When the sink fails; a fit that fails is counted and logged.
    pub fn step(&mut self, now_ns: u64, sink: &dyn ModelSink) -> Result<()> {
        let enough = self.rows.len() >= FIRST_FIT_ROWS && self.new_rows >= NEW_ROWS;
        let frozen = self.config.freeze && self.published.is_some();
        if frozen || !enough || (now_ns < self.next_fit_ns && !self.drifted) {
            return Ok(());
        }
        self.next_fit_ns = now_ns + self.config.refit_interval.as_nanos() as u64;
        self.drifted = false;
        self.new_rows = 0;

        let started = Instant::now();
        let verdict = gate::judge(
            self.rows.make_contiguous(),
            self.published.as_ref().map(|(_, m)| m),
        );
        let fit_us = started.elapsed().as_micros() as u64;
        self.with_status(|s| {
            s.fits += 1;
            s.fit_us = fit_us;
        });
        let expires_ns = if self.config.freeze {
            u64::MAX
        } else {
            now_ns + self.config.max_age.as_nanos() as u64
        };
        match verdict {
            Ok(verdict) => self.apply(verdict, expires_ns, sink),
            Err(e) => {
                self.with_status(|s| s.fits_failed += 1);
                warn!("no model could be fitted: {e}");
                Ok(())
            }
        }
    }

    fn apply(&mut self, verdict: Verdict, expires_ns: u64, sink: &dyn ModelSink) -> Result<()> {
        match verdict {
            Verdict::Publish(model, errors) => {
                self.note(&errors);
                let generation = sink.publish(&model, expires_ns)?;
                info!(
                    "model {generation} published: |error| {:.3} octaves on newer samples, moving average {:.3}{}; \
                     fitted on {} samples{}",
                    errors.candidate,
                    errors.avg,
                    errors
                        .published
                        .map(|p| format!(", model before {p:.3}"))
                        .unwrap_or_default(),
                    model.samples,
                    describe_dropped(&model.dropped)
                );
                self.with_status(|s| {
                    s.published += 1;
                    s.generation = generation;
                    s.model_samples = model.samples;
                });
                self.remember(generation, model);
                self.published_since = generation;
                self.drift.reset();
                self.rivals = Rivals::default();
            }
            Verdict::Keep(errors) => {
                self.note(&errors);
                self.with_status(|s| s.kept += 1);
                // Confirmed on fresh samples: the same model again, with a new lease.
                if let Some((_, model)) = self.published.take() {
                    let generation = sink.publish(&model, expires_ns)?;
                    self.with_status(|s| s.generation = generation);
                    self.remember(generation, model);
                }
            }
            Verdict::Withdraw(errors) => {
                self.note(&errors);
                sink.withdraw()?;
                if self.published.take().is_some() {
                    info!(
                        "model withdrawn: |error| {:.3} octaves is not better than the moving average's {:.3}",
                        errors.published.unwrap_or(errors.candidate),
                        errors.avg
                    );
                    self.with_status(|s| {
                        s.withdrawn += 1;
                        s.generation = 0;
                    });
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, generation: u64, model: Model) {
        if self.remembered.len() == REMEMBERED_MODELS {
            self.remembered.pop_front();
        }
        self.remembered.push_back((generation, model.clone()));
        self.published = Some((generation, model));
    }

    /// An error that rises, or that exceeds the moving average's, says that the world has changed: the older samples
    /// tell of another one.
    fn watch(&mut self, generation: u64, prediction: f64, row: &Row) {
        if self.drifted || self.published.is_none() || generation < self.published_since {
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
        info!(
            "the model {}: fitting anew at once, on the newest samples",
            if risen {
                "errs more than it did"
            } else {
                "errs more than the moving average"
            }
        );
    }

    /// Compute the kernel's prediction again, from the record's own features.
    fn check_parity(&mut self, generation: u64, prediction: f64, row: &Row) {
        let Some((_, model)) = self.remembered.iter().find(|(g, _)| *g == generation) else {
            return;
        };
        let off = (model.predict(&row.x) - prediction).abs();
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

    fn note(&self, errors: &Errors) {
        self.with_status(|s| {
            s.gate_candidate = errors.candidate;
            s.gate_avg = errors.avg;
        });
    }

    fn with_status<T>(&self, change: impl FnOnce(&mut LearnerStatus) -> T) -> T {
        change(&mut self.status.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// "; not used: weight (constant), …" or nothing.
fn describe_dropped(dropped: &[(usize, Dropped)]) -> String {
    if dropped.is_empty() {
        return String::new();
    }
    let list: Vec<String> = dropped
        .iter()
        .map(|&(i, why)| {
            let why = match why {
                Dropped::Constant => "constant",
                Dropped::Collinear => "collinear",
            };
            format!("{} ({why})", features::name(i))
        })
        .collect();
    format!("; not used: {}", list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::intf::{
        burst_sample, sample_flags_SAMPLE_PREDICTED, scx_ml_feature_FEATURE_WAKER_RAN as WAKER_RAN,
    };

    /// A sink that writes down what it is told.
    #[derive(Default)]
    struct Notebook {
        generation: Mutex<u64>,
        calls: Mutex<Vec<String>>,
    }

    impl ModelSink for Notebook {
        fn publish(&self, _: &Model, expires_ns: u64) -> Result<u64> {
            let mut generation = self.generation.lock().expect("not poisoned");
            *generation += 1;
            let call = format!("publish {generation} until {expires_ns}");
            self.calls.lock().expect("not poisoned").push(call);
            Ok(*generation)
        }

        fn withdraw(&self) -> Result<()> {
            self.calls
                .lock()
                .expect("not poisoned")
                .push("withdraw".into());
            Ok(())
        }
    }

    /// Bursts in two modes that only one feature reveals.
    fn samples(n: usize) -> Vec<Sample> {
        (0..n)
            .map(|i| {
                let long = (i * 7919) % 10 < 3;
                let mut record = burst_sample {
                    burst_ns: (if long { 8_000_000 } else { 250_000 })
                        + (i as u64 * 104_729) % 50_000,
                    repeat: 1,
                    avg_q8: 20 * 256,
                    ..Default::default()
                };
                record.feature_q8[WAKER_RAN as usize] = if long { 24 * 256 } else { 18 * 256 };
                Sample(record)
            })
            .collect()
    }

    fn learner(freeze: bool) -> (Learner, Arc<Mutex<LearnerStatus>>) {
        let status = Arc::new(Mutex::new(LearnerStatus::default()));
        let config = LearnerConfig {
            window: 2_000,
            refit_interval: Duration::from_secs(5),
            max_age: Duration::from_secs(50),
            freeze,
        };
        (Learner::new(config, status.clone()), status)
    }

    fn calls(sink: &Notebook) -> Vec<String> {
        sink.calls.lock().expect("not poisoned").clone()
    }

    const S: u64 = 1_000_000_000;

    #[test]
    fn the_first_model_is_published_as_soon_as_there_are_enough_samples() {
        let (mut learner, status) = learner(false);
        let sink = Notebook::default();
        learner.add(&samples(FIRST_FIT_ROWS - 1));
        learner.step(S, &sink).expect("sink works");
        assert!(calls(&sink).is_empty());

        learner.add(&samples(1));
        learner.step(2 * S, &sink).expect("sink works");
        assert_eq!(calls(&sink), ["publish 1 until 52000000000"]);
        assert_eq!(status.lock().expect("not poisoned").generation, 1);
    }

    #[test]
    fn a_confirmed_model_gets_a_new_lease_only_at_the_interval_and_with_new_samples() {
        let (mut learner, status) = learner(false);
        let sink = Notebook::default();
        learner.add(&samples(1_000));
        learner.step(S, &sink).expect("sink works");
        learner.add(&samples(1_000));
        learner.step(3 * S, &sink).expect("sink works");
        assert_eq!(calls(&sink).len(), 1, "too early");
        learner.step(6 * S, &sink).expect("sink works");
        assert_eq!(calls(&sink).len(), 2);
        learner.step(60 * S, &sink).expect("sink works");
        assert_eq!(
            calls(&sink).len(),
            2,
            "nothing new was seen: the lease runs out"
        );
        let status = status.lock().expect("not poisoned");
        assert_eq!((status.published, status.kept), (1, 1));
    }

    #[test]
    fn a_frozen_learner_publishes_once_and_for_ever() {
        let (mut learner, _) = learner(true);
        let sink = Notebook::default();
        for second in 1..20 {
            learner.add(&samples(500));
            learner.step(second * 10 * S, &sink).expect("sink works");
        }
        assert_eq!(calls(&sink), [format!("publish 1 until {}", u64::MAX)]);
    }

    #[test]
    fn the_window_is_bounded() {
        let (mut learner, status) = learner(false);
        learner.add(&samples(10_000));
        assert_eq!(learner.rows.len(), 2_000);
        assert_eq!(status.lock().expect("not poisoned").window, 2_000);
    }

    #[test]
    fn drift_brings_the_next_fit_forward() {
        let (mut learner, status) = learner(false);
        let sink = Notebook::default();
        learner.add(&samples(1_000));
        learner.step(S, &sink).expect("sink works");

        let predicted = |off: i32| {
            let mut drifting = samples(400);
            for sample in &mut drifting {
                sample.0.flags = sample_flags_SAMPLE_PREDICTED;
                sample.0.model_generation = 99;
                sample.0.pred_q16 = (sample.log_burst() * 65536.0) as i32 + (off << 16);
            }
            drifting
        };
        learner.add(&predicted(0));
        learner.step(2 * S, &sink).expect("sink works");
        assert_eq!(status.lock().expect("not poisoned").fits, 1);
        learner.add(&predicted(4));
        learner.step(3 * S, &sink).expect("sink works");
        let status = status.lock().expect("not poisoned");
        assert_eq!(status.drifts, 1);
        assert_eq!(status.fits, 2);
    }

    #[test]
    fn a_prediction_that_the_model_does_not_give_is_counted() {
        let (mut learner, status) = learner(false);
        let sink = Notebook::default();
        learner.add(&samples(1_000));
        learner.step(S, &sink).expect("sink works");
        let model = learner.published.clone().expect("published").1;

        let mut records = samples(2);
        for sample in &mut records {
            sample.0.flags = sample_flags_SAMPLE_PREDICTED;
            sample.0.model_generation = 1;
            sample.0.pred_q16 = (model.predict(&sample.features()) * 65536.0) as i32;
        }
        records[1].0.pred_q16 += 65536 / 50;
        learner.add(&records);
        let status = status.lock().expect("not poisoned");
        assert_eq!((status.parity.checked, status.parity.errors), (2, 1));
    }
}
