//! The learner inside the simulation: the real one, with streams, fits, judges and lease, and the process database, on
//! simulated time; and what the kernel does with its models. A published model is quantised, and it is the quantised one
//! that predicts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use scx_ml::kernel::bpf::intf::{
    self, KEEP_SHIFT_MAX, burst_sample, sample_flags_SAMPLE_PREDICTED as PREDICTED,
    scx_ml_consts_LOG2_MAX_Q8 as LOG2_MAX_Q8, scx_ml_consts_SAMPLE_WINDOW_NS, watch,
};
use scx_ml::kernel::bpf::{FEATURE_SLOTS, NR_CLASSES, NR_FEATURES};
use scx_ml::kernel::native;
use scx_ml::kernel::sample::Sample;
use scx_ml::learn::learner::{self, LearnerConfig, LearnerStatus};
use scx_ml::learn::profile::Profiles;
use scx_ml::model::Model;
use scx_ml::model::sink::{ModelSink, NotSet};

use super::history::{History, ProfileFacts, Surroundings, WakerFacts};
use super::prediction::Prediction;
use crate::machine::{Machine, TaskId, Waker};

/// How the learner is set up; the defaults are those of `scx_ml`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct LearnerParams {
    /// Samples that a class remembers.
    pub window: usize,
    pub refit_ns: u64,
    /// Samples per second.
    pub sample_rate: u64,
    /// A what-if switch: where no model is to be trusted, the moving average steers. Off: the base policy.
    pub stand_in: bool,
    /// A what-if switch: the watch corrects a model's quantile. Off: it stays as it was judged.
    pub watched_quantile: bool,
}

impl Default for LearnerParams {
    fn default() -> Self {
        Self {
            window: learner::DEFAULT_WINDOW,
            refit_ns: (learner::DEFAULT_REFIT_INTERVAL_S * 1e9) as u64,
            sample_rate: 1_000,
            stand_in: true,
            watched_quantile: true,
        }
    }
}

/// Time between two updates of the profiles that the scheduler is told.
const TELL_NS: u64 = 1_000_000_000;

/// Time over which the sampling budget is spent.
const SAMPLE_WINDOW_NS: u64 = scx_ml_consts_SAMPLE_WINDOW_NS as u64;

/// The kernel's maps of models and profiles.
#[derive(Default)]
struct Maps {
    model: intf::model,
    generation: u64,
    profiles: HashMap<u32, i32>,
    first_quantum_ns: Option<u64>,
    thin_shift: [u32; NR_CLASSES],
}

#[derive(Default)]
struct Sink(Mutex<Maps>);

impl Sink {
    fn lock(&self) -> std::sync::MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn set(&self, changes: &[(u32, Option<i32>)]) {
        let profiles = &mut self.lock().profiles;
        for &(key, value) in changes {
            match value {
                Some(value) => profiles.insert(key, value),
                None => profiles.remove(&key),
            };
        }
    }

    /// Without the lock, which nobody else can hold.
    fn maps(&mut self) -> &mut Maps {
        self.0.get_mut().unwrap_or_else(|e| e.into_inner())
    }
}

impl ModelSink for Sink {
    fn publish(&self, model: &Model, expires_ns: u64) -> Result<u64> {
        let mut quantised = model.quantise()?;
        let mut maps = self.lock();
        maps.generation += 1;
        (quantised.generation, quantised.expires_ns) = (maps.generation, expires_ns);
        maps.model = quantised;
        Ok(maps.generation)
    }

    fn withdraw(&self) -> Result<()> {
        self.lock().model = intf::model::default();
        Ok(())
    }

    fn set_first_quantum(&self, quantum_ns: Option<u64>) -> Result<()> {
        self.lock().first_quantum_ns = quantum_ns;
        Ok(())
    }

    fn set_thinning(&self, shifts: [u32; NR_CLASSES]) -> Result<()> {
        self.lock().thin_shift = shifts;
        Ok(())
    }

    fn set_profiles(&self, changes: &[(u32, Option<i32>)]) -> Result<(), NotSet> {
        self.set(changes);
        Ok(())
    }
}

/// What is kept of a burst from its wake-up to its end.
#[derive(Clone)]
struct Begun {
    features: [i16; FEATURE_SLOTS],
    /// It tells the watch.
    sampled: bool,
    /// Bursts that its record stands for; 0: there is none.
    repeat: u32,
    class: u32,
    avg_pred_q16: i32,
    /// Of the model that predicted; 0: none.
    generation: u64,
    pred_q16: i32,
    margin_q16: i32,
    waker_name_key: u32,
}

/// The sampling budget of samples.bpf.h, for the machine instead of each CPU.
#[derive(Default)]
struct Sampling {
    window_ns: u64,
    bursts: u64,
    kept: u64,
    shift: u32,
    turn: u64,
}

impl Sampling {
    /// sample_begin(): whether the burst that begins is sampled, and how many its record stands for.
    fn begin(&mut self, now_ns: u64, budget: u64, thin_shift: u32) -> (bool, u32) {
        if now_ns - self.window_ns >= SAMPLE_WINDOW_NS {
            let mut left = self.bursts;
            self.shift = 0;
            while self.shift < KEEP_SHIFT_MAX && left > budget {
                left >>= 1;
                self.shift += 1;
            }
            self.window_ns = now_ns;
            self.bursts = 0;
            self.kept = 0;
        }
        self.bursts += 1;
        // A fixed but irregular choice (multiplication by the golden ratio): a stride would lock on to periodic work.
        self.turn = self.turn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let random = ((self.turn ^ self.turn >> 29) >> 32) as u32;
        if !native::sample_kept(self.shift, random) || self.kept >= 2 * budget {
            return (false, 0);
        }
        self.kept += 1;
        (true, native::sample_repeat(self.shift, thin_shift, random))
    }
}

/// See the module.
pub struct Learner {
    params: LearnerParams,
    histories: Vec<History>,
    begun: Vec<Begun>,
    learner: learner::Learner,
    status: Arc<Mutex<LearnerStatus>>,
    sink: Sink,
    watches: [watch; NR_CLASSES],
    profiles: Profiles,
    next_tell_ns: u64,
    sampling: Sampling,
    wakes: u64,
    predictions: u64,
    /// Bursts that the moving average steered.
    stood_in: u64,
    error_model_q8: u64,
    error_avg_q8: u64,
}

impl Learner {
    pub fn new(params: LearnerParams) -> Self {
        let status = Arc::<Mutex<LearnerStatus>>::default();
        let interval = Duration::from_nanos(params.refit_ns);
        let config = LearnerConfig::new(params.window, interval, false);
        // Fits take no simulated time.
        let learner = learner::Learner::new(config, status.clone()).with_cpu_clock(|| 0);
        Self {
            params,
            histories: vec![],
            begun: vec![],
            learner,
            status,
            sink: Sink::default(),
            watches: [watch::default(); NR_CLASSES],
            profiles: Profiles::default(),
            next_tell_ns: 0,
            sampling: Sampling::default(),
            wakes: 0,
            predictions: 0,
            stood_in: 0,
            error_model_q8: 0,
            error_avg_q8: 0,
        }
    }

    pub fn add_task(&mut self, m: &Machine, t: TaskId) {
        self.histories.push(History::new(m.task(t)));
        self.begun.push(Begun {
            features: [0; FEATURE_SLOTS],
            sampled: false,
            repeat: 0,
            class: 0,
            avg_pred_q16: 0,
            generation: 0,
            pred_q16: 0,
            margin_q16: 0,
            waker_name_key: 0,
        });
    }

    fn waker_facts(&mut self, m: &Machine, waker: Waker) -> Option<WakerFacts> {
        match waker {
            Waker::Nobody => None,
            Waker::Task(w) => {
                let h = &mut self.histories[w as usize];
                h.wakes_made += 1;
                Some(WakerFacts {
                    name_key: h.name_key,
                    log_burst_q8: h.of_bursts.log_burst_q8,
                    ran_ns: m.burst_used_ns(w),
                    pred_q8: h.pred_q8,
                })
            }
            Waker::Outside {
                name_key,
                log_burst_q8,
            } => Some(WakerFacts {
                name_key,
                log_burst_q8,
                ran_ns: 0,
                pred_q8: 0,
            }),
        }
    }

    /// fill_own_features() and fill_wakeup_features().
    fn fill(&mut self, m: &Machine, t: TaskId, waker: Option<&WakerFacts>, around: &Surroundings) {
        let told = &self.sink.maps().profiles;
        let h = &self.histories[t as usize];
        let burst_q8 = |waker, otherwise| {
            let key = native::profile_key(h.name_key, waker, h.of_bursts.seen);
            told.get(&key).copied().unwrap_or(otherwise)
        };
        let name_burst_q8 = burst_q8(0, h.of_bursts.log_burst_q8);
        let profiles = ProfileFacts {
            name_burst_q8,
            pair_burst_q8: burst_q8(waker.map_or(0, |w| w.name_key), name_burst_q8),
        };
        let features = &mut self.begun[t as usize].features;
        h.fill(features, waker, around, profiles, m.now_ns);
    }

    /// begin_burst(), predict_burst() and what steer_burst() makes of it.
    pub fn wake(&mut self, m: &Machine, t: TaskId, around: &Surroundings) -> Option<Prediction> {
        self.wakes += 1;
        let budget = (self.params.sample_rate * SAMPLE_WINDOW_NS / 1_000_000_000).max(1);
        let waker = self.waker_facts(m, m.task(t).waker);
        let h = &mut self.histories[t as usize];
        h.note_wakeup(m.now_ns, m.task(t).blocked_in);
        h.begin(m.task(t).waker);
        let class = native::task_class(false, h.of_bursts.seen, h.kind_burst_q8());
        let thin_shift = self.sink.maps().thin_shift[class as usize];
        let (sampled, repeat) = self.sampling.begin(m.now_ns, budget, thin_shift);
        let model = &self.sink.maps().model;
        let valid = model.generation != 0 && m.now_ns <= model.expires_ns;
        if repeat > 0 || valid {
            self.fill(m, t, waker.as_ref(), around);
        }
        let (h, begun) = (&mut self.histories[t as usize], &mut self.begun[t as usize]);
        h.decay_syscalls();
        (begun.sampled, begun.repeat) = (sampled, repeat);
        begun.class = class;
        begun.avg_pred_q16 = h.kind_burst_q8() << 8;
        begun.waker_name_key = waker.map_or(0, |w| w.name_key);
        begun.generation = 0;
        h.pred_q8 = 0;
        if !self.params.stand_in {
            return valid.then(|| self.predict(t)).flatten();
        }
        let average = self.average(t);
        let forecast =
            |p: Option<Prediction>| p.map_or(intf::forecast::default(), |p| p.forecast());
        let h = &mut self.histories[t as usize];
        let (spared, unasked) = h.spared(&forecast(average));
        let by_model = if repeat == 0 && unasked {
            h.pred_q8 = h.kind_burst_q8();
            None
        } else {
            valid.then(|| self.predict(t)).flatten()
        };
        match native::policy_steering(&forecast(by_model), &forecast(average), spared) {
            intf::steering_STEERING_MODEL => by_model,
            intf::steering_STEERING_AVERAGE => {
                self.stood_in += 1;
                average
            }
            _ => None,
        }
    }

    /// Of the burst that runs, by the moving average.
    fn average(&self, t: TaskId) -> Option<Prediction> {
        let watch = &self.watches[self.begun[t as usize].class as usize];
        let watched = self.params.watched_quantile;
        self.histories[t as usize].average(if watched { watch.average_shift_q16 } else { 0 })
    }

    /// The first quantum that the kernel was told.
    pub fn first_quantum_ns(&mut self) -> Option<u64> {
        self.sink.maps().first_quantum_ns
    }

    /// By the published model; None where it has none of the task's class, or the watch does not trust it.
    fn predict(&mut self, t: TaskId) -> Option<Prediction> {
        let begun = &mut self.begun[t as usize];
        let class = begun.class as usize;
        let model = &self.sink.maps().model;
        let linear = &model.linear[class];
        if linear.valid == 0 {
            return None;
        }
        let w = &self.watches[class];
        let shift_q16 = if self.params.watched_quantile {
            w.margin_shift_q16
        } else {
            0
        };
        begun.generation = model.generation;
        begun.pred_q16 = native::linear_predict_q16(linear, &begun.features);
        begun.margin_q16 = native::watched_margin_q16(linear.margin_q16, shift_q16);
        self.histories[t as usize].pred_q8 = begun.pred_q16 >> 8;
        self.predictions += 1;
        (w.fallback == 0).then_some(Prediction {
            pred_q16: begun.pred_q16,
            margin_q16: begun.margin_q16,
            err_q8: self.histories[t as usize].err_model_q8(),
        })
    }

    /// end_burst(), and the learner's turn.
    pub fn blocked(&mut self, m: &Machine, t: TaskId, burst_ns: u64) {
        let label_q16 = native::log2_q16(burst_ns) as i32;
        let average = self.average(t);
        let begun = &self.begun[t as usize];
        if let Some(average) = average.filter(|_| begun.sampled) {
            let w = &mut self.watches[begun.class as usize];
            let above = label_q16 > average.pred_q16 + average.margin_q16;
            w.average_shift_q16 = native::watch_quantile(w.average_shift_q16, above);
        }
        if begun.generation > 0 {
            let off_q8 = |pred_q16: i32| u64::from(((pred_q16 - label_q16) >> 8).unsigned_abs());
            let (model, avg) = (off_q8(begun.pred_q16), off_q8(begun.avg_pred_q16));
            self.error_model_q8 += model.min(LOG2_MAX_Q8 as u64);
            self.histories[t as usize].note_error(model as i32, avg as i32);
            self.error_avg_q8 += avg.min(LOG2_MAX_Q8 as u64);
            if begun.sampled {
                let w = &mut self.watches[begun.class as usize];
                native::watch_add(w, begun.generation, model as i64, avg as i64, m.now_ns);
                let above = label_q16 > begun.pred_q16 + begun.margin_q16;
                w.margin_shift_q16 = native::watch_quantile(w.margin_shift_q16, above);
            }
        }
        if begun.repeat > 0 {
            let sample = self.sample(m, t, burst_ns);
            self.learn(m.now_ns, &sample);
        }
        self.histories[t as usize].note_burst(burst_ns, (label_q16 + 128) >> 8, m.now_ns);
    }

    /// sample_burst().
    fn sample(&self, m: &Machine, t: TaskId, burst_ns: u64) -> Sample {
        let (begun, h, task) = (
            &self.begun[t as usize],
            &self.histories[t as usize],
            m.task(t),
        );
        let mut record = burst_sample {
            wake_ns: h.wake_ns,
            end_ns: m.now_ns,
            burst_ns,
            model_generation: begun.generation,
            pid: t + 1,
            tgid: t + 1,
            waker_name_key: begun.waker_name_key,
            name_key: h.name_key,
            bursts_before: h.of_bursts.seen,
            cpu: task.cpu,
            weight: task.weight,
            repeat: begun.repeat,
            flags: if begun.generation > 0 { PREDICTED } else { 0 },
            class: begun.class,
            pred_q16: begun.pred_q16,
            margin_q16: begun.margin_q16,
            avg_q16: native::avg_burst_q16(&h.of_bursts),
            ..Default::default()
        };
        record
            .feature_q8
            .copy_from_slice(&begun.features[..NR_FEATURES]);
        for (to, from) in record.comm.iter_mut().zip(task.name.bytes().take(15)) {
            *to = from as _;
        }
        Sample(record)
    }

    /// The trainer's turn, with one sample; no simulated time passes.
    fn learn(&mut self, now_ns: u64, sample: &Sample) {
        self.profiles.observe(sample, now_ns / 1_000_000_000);
        if now_ns >= self.next_tell_ns {
            self.next_tell_ns = now_ns + TELL_NS;
            self.sink.set(&self.profiles.changes());
        }
        self.learner.add(std::slice::from_ref(sample));
        self.learner.step(now_ns, &self.sink);
    }

    pub fn notes(&self) -> Vec<(String, f64)> {
        let per = |sum: u64, n: u64, unit: f64| {
            if n == 0 {
                f64::NAN
            } else {
                sum as f64 / n as f64 / unit
            }
        };
        let status = self.status.lock().unwrap_or_else(|e| e.into_inner());
        let fallbacks: u32 = self.watches.iter().map(|w| w.fallbacks).sum();
        let notes = [
            ("first_quantum_us", status.first_quantum_ns as f64 / 1000.0),
            ("fits", status.fits as f64),
            ("fits_failed", status.fits_failed as f64),
            ("published", status.published as f64),
            ("kept", status.kept as f64),
            ("withdrawn", status.withdrawn as f64),
            ("drifts", status.drifts as f64),
            ("fallbacks", f64::from(fallbacks)),
            ("parity_errors", status.parity.errors as f64),
            ("predicted_share", per(self.predictions, self.wakes, 1.0)),
            ("average_share", per(self.stood_in, self.wakes, 1.0)),
            (
                "error_model_octaves",
                per(self.error_model_q8, self.predictions, 256.0),
            ),
            (
                "error_avg_octaves",
                per(self.error_avg_q8, self.predictions, 256.0),
            ),
        ];
        notes.map(|(name, n)| (name.to_string(), n)).into()
    }
}
