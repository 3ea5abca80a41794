//! The learner inside the simulation: the window, the fits and the gate of the real one, the process database, and the
//! kernel's watch, all on simulated time. A published model is quantised, and it is the quantised one that predicts.

use std::collections::{HashMap, VecDeque};

use scx_ml::bpf::intf::{self, burst_sample, scx_ml_consts_LOG2_MAX_Q8 as LOG2_MAX_Q8, watch};
use scx_ml::bpf::{FEATURE_SLOTS, NR_CLASSES, NR_FEATURES};
use scx_ml::features::{FeaturesQ8, from_q8};
use scx_ml::fit::{MIN_ROWS, Row};
use scx_ml::gate;
use scx_ml::model::Model;
use scx_ml::native;
use scx_ml::profile::Profiles;
use scx_ml::sample::Sample;

use super::Prediction;
use super::history::{History, ProfileFacts, Surroundings, WakerFacts};
use crate::machine::{Machine, TaskId, Waker};

/// How the learner is set up; the defaults are those of `scx_ml`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct LearnerParams {
    /// Samples that the window holds.
    pub window: usize,
    pub refit_ns: u64,
    /// Samples per second.
    pub sample_rate: u64,
    /// A what-if rule: where no model stands the test, a task that is no longer young is predicted by its moving average.
    pub average_stands_in: bool,
}

impl Default for LearnerParams {
    fn default() -> Self {
        Self {
            window: 10_000,
            refit_ns: 5_000_000_000,
            sample_rate: 1_000,
            average_stands_in: false,
        }
    }
}

/// As in the real learner.
const FIRST_FIT_ROWS: usize = 2 * MIN_ROWS;
const NEW_ROWS: usize = 50;

/// Time between two updates of the profiles that the scheduler is told.
const TELL_NS: u64 = 1_000_000_000;

/// Time over which the sampling budget is spent.
const SAMPLE_WINDOW_NS: u64 = 1 << 27;

/// What is kept of a burst from its wake-up to its end.
#[derive(Clone)]
struct Begun {
    features: [i16; FEATURE_SLOTS],
    /// Bursts that its sample stands for; 0: none is taken.
    repeat: u32,
    class: u32,
    avg_pred_q16: i32,
    /// 0: no prediction.
    pred_q16: i32,
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
    fn repeat(&mut self, now_ns: u64, budget: u64) -> u32 {
        if now_ns - self.window_ns >= SAMPLE_WINDOW_NS {
            let mut left = self.bursts;
            self.shift = 0;
            while self.shift < 16 && left > budget {
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
        let chosen = (self.turn ^ self.turn >> 29) >> 32 & ((1 << self.shift) - 1) == 0;
        if !chosen || self.kept >= 2 * budget {
            return 0;
        }
        self.kept += 1;
        1 << self.shift
    }
}

/// See the module.
pub struct Learner {
    params: LearnerParams,
    histories: Vec<History>,
    begun: Vec<Begun>,
    rows: VecDeque<Row>,
    new_rows: usize,
    next_fit_ns: u64,
    next_tell_ns: u64,
    model: Model,
    quantised: intf::model,
    generation: u64,
    watches: [watch; NR_CLASSES],
    profiles: Profiles,
    told: HashMap<u32, i32>,
    sampling: Sampling,
    fits: u64,
    fits_failed: u64,
    predictions: u64,
    wakes: u64,
    error_model_q8: u64,
    error_avg_q8: u64,
}

impl Learner {
    pub fn new(params: LearnerParams) -> Self {
        Self {
            params,
            histories: vec![],
            begun: vec![],
            rows: VecDeque::with_capacity(params.window),
            new_rows: 0,
            next_fit_ns: params.refit_ns,
            next_tell_ns: TELL_NS,
            model: Model::default(),
            quantised: intf::model::default(),
            generation: 0,
            watches: [watch::default(); NR_CLASSES],
            profiles: Profiles::default(),
            told: HashMap::new(),
            sampling: Sampling::default(),
            fits: 0,
            fits_failed: 0,
            predictions: 0,
            wakes: 0,
            error_model_q8: 0,
            error_avg_q8: 0,
        }
    }

    pub fn add_task(&mut self, m: &Machine, t: TaskId) {
        self.histories.push(History::new(m.task(t)));
        self.begun.push(Begun {
            features: [0; FEATURE_SLOTS],
            repeat: 0,
            class: 0,
            avg_pred_q16: 0,
            pred_q16: 0,
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
                    log_burst_q8: h.log_burst_q8,
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

    fn profile_burst_q8(&self, name: u32, waker: u32, seen: u32, otherwise: i32) -> i32 {
        let key = native::profile_key(name, waker, seen);
        self.told.get(&key).copied().unwrap_or(otherwise)
    }

    /// begin_burst().
    pub fn wake(&mut self, m: &Machine, t: TaskId, around: &Surroundings) -> Option<Prediction> {
        self.wakes += 1;
        let budget = (self.params.sample_rate * SAMPLE_WINDOW_NS / 1_000_000_000).max(1);
        let repeat = self.sampling.repeat(m.now_ns, budget);
        let waker = self.waker_facts(m, m.task(t).waker);
        self.histories[t as usize].note_wakeup(m.now_ns, m.task(t).blocked_in);
        let h = &self.histories[t as usize];
        let class = native::task_class(false, h.seen, h.log_burst_q8);
        let avg_pred_q16 = if h.seen > 0 {
            native::log2_q16(h.avg_burst_ns) as i32
        } else {
            h.log_burst_q8 << 8
        };
        let waker_name_key = waker.map_or(0, |w| w.name_key);
        if repeat > 0 || self.generation > 0 {
            let name_burst_q8 = self.profile_burst_q8(h.name_key, 0, h.seen, h.log_burst_q8);
            let profiles = ProfileFacts {
                name_burst_q8,
                pair_burst_q8: self.profile_burst_q8(
                    h.name_key,
                    waker_name_key,
                    h.seen,
                    name_burst_q8,
                ),
            };
            let features = &mut self.begun[t as usize].features;
            h.fill(features, waker.as_ref(), around, profiles, m.now_ns);
        }
        let begun = &mut self.begun[t as usize];
        begun.repeat = repeat;
        begun.class = class;
        begun.avg_pred_q16 = avg_pred_q16;
        begun.waker_name_key = waker_name_key;
        begun.pred_q16 = 0;
        let linear = &self.quantised.linear[class as usize];
        if linear.valid == 0 {
            self.histories[t as usize].pred_q8 = 0;
            return self.stand_in(t, class);
        }
        begun.pred_q16 = native::predict_q16(linear, &begun.features);
        self.histories[t as usize].pred_q8 = begun.pred_q16 >> 8;
        self.predictions += 1;
        if self.watches[class as usize].fallback != 0 {
            return self.stand_in(t, class);
        }
        Some(Prediction {
            pred_q16: begun.pred_q16,
            margin_q16: linear.margin_q16,
            long_margin_q16: linear.long_margin_q16,
        })
    }

    fn stand_in(&self, t: TaskId, class: u32) -> Option<Prediction> {
        let known = class != intf::task_class_CLASS_YOUNG;
        let average = || self.histories[t as usize].average();
        (self.params.average_stands_in && known).then(average)?
    }

    /// end_burst(), and the learner's turn.
    pub fn blocked(&mut self, m: &Machine, t: TaskId, burst_ns: u64) {
        let label_q16 = native::log2_q16(burst_ns) as i32;
        let begun = &self.begun[t as usize];
        if begun.pred_q16 > 0 {
            let off_q8 = |pred_q16: i32| u64::from(((pred_q16 - label_q16) >> 8).unsigned_abs());
            let (model, avg) = (off_q8(begun.pred_q16), off_q8(begun.avg_pred_q16));
            self.error_model_q8 += model.min(LOG2_MAX_Q8 as u64);
            self.error_avg_q8 += avg.min(LOG2_MAX_Q8 as u64);
            if begun.repeat > 0 {
                native::watch_add(
                    &mut self.watches[begun.class as usize],
                    self.generation,
                    model as i64,
                    avg as i64,
                );
            }
        }
        if begun.repeat > 0 {
            self.sample(m, t, burst_ns);
        }
        self.histories[t as usize].note_burst(burst_ns, (label_q16 + 128) >> 8, m.now_ns);
        if m.now_ns >= self.next_tell_ns {
            self.next_tell_ns = m.now_ns + TELL_NS;
            for (key, value) in self.profiles.changes() {
                match value {
                    Some(value) => self.told.insert(key, value),
                    None => self.told.remove(&key),
                };
            }
        }
        if m.now_ns >= self.next_fit_ns {
            self.fit(m.now_ns);
        }
    }

    fn sample(&mut self, m: &Machine, t: TaskId, burst_ns: u64) {
        let (begun, h) = (&self.begun[t as usize], &self.histories[t as usize]);
        let mut q8: FeaturesQ8 = [0; NR_FEATURES];
        q8.copy_from_slice(&begun.features[..NR_FEATURES]);
        if self.rows.len() == self.params.window {
            self.rows.pop_front();
        }
        self.rows.push_back(Row {
            x: from_q8(&q8),
            y: (burst_ns.max(1) as f64).log2(),
            avg: f64::from(begun.avg_pred_q16) / 65536.0,
            weight: f64::from(begun.repeat),
            class: begun.class as usize,
        });
        self.new_rows += 1;
        let mut record = burst_sample {
            burst_ns,
            name_key: h.name_key,
            waker_name_key: begun.waker_name_key,
            bursts_before: h.seen,
            ..Default::default()
        };
        for (to, from) in record.comm.iter_mut().zip(m.task(t).name.bytes().take(15)) {
            *to = from as _;
        }
        self.profiles
            .observe(&Sample(record), m.now_ns / 1_000_000_000);
    }

    fn fit(&mut self, now_ns: u64) {
        if self.rows.len() < FIRST_FIT_ROWS || self.new_rows < NEW_ROWS {
            return;
        }
        self.next_fit_ns = now_ns + self.params.refit_ns;
        self.new_rows = 0;
        self.fits += 1;
        let published = gate::judge(self.rows.make_contiguous(), &self.model)
            .ok()
            .and_then(|v| v.model.quantise().ok().map(|q| (v.changes(), v.model, q)));
        // As in the real learner, a fit that fails leaves the model that there is.
        let Some((changes, model, quantised)) = published else {
            self.fits_failed += 1;
            return;
        };
        if changes {
            self.generation += 1;
            self.watches = [watch::default(); NR_CLASSES];
        }
        self.model = model;
        self.quantised = quantised;
    }

    pub fn notes(&self) -> Vec<(String, f64)> {
        let per = |sum: u64, n: u64, unit: f64| {
            if n == 0 {
                f64::NAN
            } else {
                sum as f64 / n as f64 / unit
            }
        };
        vec![
            ("fits".to_string(), self.fits as f64),
            ("fits_failed".to_string(), self.fits_failed as f64),
            ("published".to_string(), self.generation as f64),
            (
                "predicted_share".to_string(),
                per(self.predictions, self.wakes, 1.0),
            ),
            (
                "error_model_octaves".to_string(),
                per(self.error_model_q8, self.predictions, 256.0),
            ),
            (
                "error_avg_octaves".to_string(),
                per(self.error_avg_q8, self.predictions, 256.0),
            ),
        ]
    }
}
