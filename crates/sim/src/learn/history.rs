//! What is known about a task: `features.bpf.h`, as far as a simulation has it. Features of what it does not have (faults,
//! block I/O, threads, age of an exec) keep one value and are dropped by the fit as constant.

use scx_ml::kernel::bpf::FEATURE_SLOTS;
use scx_ml::kernel::bpf::intf::{self, scx_ml_consts_PRIOR_BURST_Q8 as PRIOR_BURST_Q8};
use scx_ml::kernel::native;

use super::prediction::Prediction;
use crate::machine::{Task, Waker};

/// Classes of system calls that features count.
const SYSCALL_CLASSES: usize = 7;

const NR_KINDS: usize = intf::scx_ml_consts_NR_KINDS as usize;

/// FEATURE_ONE_Q8: a set flag.
const ONE_Q8: i32 = 256;

/// A task's history: the part of struct task_ctx of that name.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub name_key: u32,
    pub seen: u32,
    pub avg_burst_ns: u64,
    pub log_burst_q8: i32,
    spread_q8: i32,
    /// How the burst that runs began: burst_kind().
    kind: usize,
    /// As log_burst_q8, of bursts of a kind; None: there were none yet.
    kind_burst_q8: [Option<i32>; NR_KINDS],
    kind_last_q8: [i32; NR_KINDS],
    /// Moving averages (1/4) of the |error| of the model and of kind_burst_q8.
    err_model_q8: i32,
    err_kind_q8: i32,
    /// Errors that these are made of.
    judged_model: u32,
    judged_kind: u32,
    last_burst_ns: u64,
    prev_burst_ns: u64,
    half_burst_ns: u64,
    blocked_ns: u64,
    last_sleep_ns: u64,
    avg_sleep_ns: u64,
    last_wait_ns: u64,
    avg_wait_ns: u64,
    last_wakes_made: u32,
    /// Of the burst that runs.
    pub wakes_made: u32,
    syscalls: [u16; SYSCALL_CLASSES],
    weight: u32,
    /// When it woke, and the prediction for the burst that runs or ran last; Q8, 0: none.
    pub wake_ns: u64,
    pub pred_q8: i32,
}

/// Where a task wakes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings {
    /// Tasks that waited in its CPU's queues when that was last looked at.
    pub nr_waiting: u32,
    /// Burst so far of what runs on its CPU; 0: idle.
    pub cpu_load_ns: u64,
}

/// What a waker tells.
#[derive(Debug, Clone, Copy)]
pub struct WakerFacts {
    pub name_key: u32,
    pub log_burst_q8: i32,
    /// CPU time of its burst so far.
    pub ran_ns: u64,
    pub pred_q8: i32,
}

/// From the process database, log2(ns) Q8.
#[derive(Debug, Clone, Copy)]
pub struct ProfileFacts {
    pub name_burst_q8: i32,
    pub pair_burst_q8: i32,
}

fn count_q8(n: u64) -> i32 {
    native::log2_q8(n + 1)
}

impl History {
    /// init_history(), with the prior for a task whose parent is not known.
    pub fn new(task: &Task) -> Self {
        Self {
            name_key: native::name_key_of(&task.name),
            log_burst_q8: PRIOR_BURST_Q8 as i32,
            weight: task.weight,
            // Not to be trusted before it has shown itself.
            err_model_q8: ONE_Q8,
            err_kind_q8: ONE_Q8,
            ..Default::default()
        }
    }

    /// avg_burst_q16()
    pub fn avg_burst_q16(&self) -> i32 {
        if self.seen > 0 {
            native::log2_q16(self.avg_burst_ns) as i32
        } else {
            self.log_burst_q8 << 8
        }
    }

    /// How a burst begins that is to be predicted.
    pub fn begin(&mut self, waker: Waker) {
        let pid = match waker {
            Waker::Nobody => 0,
            Waker::Task(t) => t + 1,
            // Of several threads outside, each has a name of its own.
            Waker::Outside { name_key, .. } => name_key.max(1),
        };
        self.kind = native::burst_kind(pid) as usize;
    }

    /// kind_burst_q8()
    pub fn kind_burst_q8(&self) -> i32 {
        self.kind_burst_q8[self.kind].unwrap_or(self.log_burst_q8)
    }

    /// How far the model has lately been off about this task, Q8.
    pub fn err_model_q8(&self) -> i32 {
        self.err_model_q8
    }

    /// A burst that the model predicted was so far off, Q8.
    pub fn note_error(&mut self, err_q8: i32) {
        self.err_model_q8 = native::task_error_q8(self.err_model_q8, self.judged_model, err_q8);
        self.judged_model += 1;
    }

    /// What the moving average steers by, where no model does: steer_burst(). Nothing before it was judged once.
    /// `shift_q16`: what the watch has found of its quantile.
    pub fn average(&self, shift_q16: i32) -> Option<Prediction> {
        (self.judged_kind > 0).then(|| Prediction {
            pred_q16: self.kind_burst_q8() << 8,
            margin_q16: native::average_margin_q16(self.err_kind_q8, shift_q16),
            long_margin_q16: self.err_kind_q8 << 9,
            err_q8: self.err_kind_q8,
            long_proven: false,
        })
    }

    /// note_wakeup(). `blocked_in`: the class of system call that it blocked in and was counted for, which the workload
    /// tells only now.
    pub fn note_wakeup(&mut self, now_ns: u64, blocked_in: Option<u8>) {
        if self.blocked_ns > 0 {
            self.last_sleep_ns = now_ns.saturating_sub(self.blocked_ns);
            self.avg_sleep_ns = native::avg_quarter(self.avg_sleep_ns, self.last_sleep_ns);
        }
        if let Some(class) = blocked_in {
            self.syscalls[usize::from(class)] += 1;
        }
        self.wake_ns = now_ns;
        self.wakes_made = 0;
    }

    /// decay_syscalls(), after the features are filled.
    pub fn decay_syscalls(&mut self) {
        self.syscalls.iter_mut().for_each(|n| *n >>= 1);
    }

    /// note_kind().
    fn note_kind(&mut self, label_q8: i32) {
        let last_q8 = std::mem::replace(&mut self.kind_last_q8[self.kind], label_q8);
        let kind = &mut self.kind_burst_q8[self.kind];
        match *kind {
            None => *kind = Some(label_q8),
            Some(avg_q8) if native::is_new_start(avg_q8, last_q8, label_q8) => {
                *kind = Some((last_q8 + label_q8) >> 1);
                self.err_kind_q8 = native::task_error_q8(ONE_Q8, 0, label_q8 - last_q8);
                self.judged_kind = 1;
            }
            Some(avg_q8) => {
                *kind = Some(avg_q8 + (label_q8 - avg_q8) / 4);
                self.err_kind_q8 =
                    native::task_error_q8(self.err_kind_q8, self.judged_kind, label_q8 - avg_q8);
                self.judged_kind += 1;
            }
        }
    }

    /// note_burst(). `now_ns`: when it blocked.
    pub fn note_burst(&mut self, burst_ns: u64, label_q8: i32, now_ns: u64) {
        let off_q8 = label_q8 - self.log_burst_q8;
        if self.seen > 0 {
            self.avg_burst_ns = native::avg_quarter(self.avg_burst_ns, burst_ns);
            self.half_burst_ns = (self.half_burst_ns >> 1) + (burst_ns >> 1);
            self.log_burst_q8 += off_q8 / 4;
            self.spread_q8 += (off_q8.abs() - self.spread_q8) / 4;
        } else {
            self.avg_burst_ns = burst_ns;
            self.half_burst_ns = burst_ns;
            self.log_burst_q8 = label_q8;
        }
        self.note_kind(label_q8);
        self.prev_burst_ns = self.last_burst_ns;
        self.last_burst_ns = burst_ns;
        self.last_wait_ns = now_ns.saturating_sub(self.wake_ns).saturating_sub(burst_ns);
        self.avg_wait_ns = native::avg_quarter(self.avg_wait_ns, self.last_wait_ns);
        self.last_wakes_made = self.wakes_made;
        self.blocked_ns = now_ns;
        self.seen = self.seen.saturating_add(1);
    }

    /// fill_own_features() and fill_wakeup_features().
    pub fn fill(
        &self,
        f: &mut [i16; FEATURE_SLOTS],
        waker: Option<&WakerFacts>,
        around: &Surroundings,
        profiles: ProfileFacts,
        now_ns: u64,
    ) {
        let mut set = |feature: u32, value: i32| f[feature as usize] = value as i16;
        let or_log = |known: bool, ns: u64| {
            if known {
                native::log2_q8(ns)
            } else {
                self.log_burst_q8
            }
        };
        set(
            intf::scx_ml_feature_FEATURE_LAST_BURST,
            or_log(self.seen > 0, self.last_burst_ns),
        );
        set(
            intf::scx_ml_feature_FEATURE_PREV_BURST,
            or_log(self.seen > 1, self.prev_burst_ns),
        );
        set(
            intf::scx_ml_feature_FEATURE_AVG_BURST,
            or_log(self.seen > 0, self.avg_burst_ns),
        );
        set(
            intf::scx_ml_feature_FEATURE_HALF_BURST,
            or_log(self.seen > 0, self.half_burst_ns),
        );
        set(intf::scx_ml_feature_FEATURE_LOG_BURST, self.log_burst_q8);
        set(
            intf::scx_ml_feature_FEATURE_KIND_BURST,
            self.kind_burst_q8(),
        );
        set(intf::scx_ml_feature_FEATURE_BURST_SPREAD, self.spread_q8);
        set(
            intf::scx_ml_feature_FEATURE_SEEN,
            count_q8(u64::from(self.seen)),
        );
        set(
            intf::scx_ml_feature_FEATURE_LAST_SLEEP,
            native::log2_q8(self.last_sleep_ns),
        );
        set(
            intf::scx_ml_feature_FEATURE_AVG_SLEEP,
            native::log2_q8(self.avg_sleep_ns),
        );
        set(
            intf::scx_ml_feature_FEATURE_LAST_WAIT,
            native::log2_q8(self.last_wait_ns),
        );
        set(
            intf::scx_ml_feature_FEATURE_AVG_WAIT,
            native::log2_q8(self.avg_wait_ns),
        );
        set(
            intf::scx_ml_feature_FEATURE_WAKES_MADE,
            count_q8(u64::from(self.last_wakes_made)),
        );
        set(
            intf::scx_ml_feature_FEATURE_AGE_FORK,
            native::log2_q8(now_ns),
        );
        set(
            intf::scx_ml_feature_FEATURE_WEIGHT,
            native::log2_q8(u64::from(self.weight)),
        );
        set(
            intf::scx_ml_feature_FEATURE_NAME_BURST,
            profiles.name_burst_q8,
        );
        set(
            intf::scx_ml_feature_FEATURE_PAIR_BURST,
            profiles.pair_burst_q8,
        );
        for (i, &n) in self.syscalls.iter().enumerate() {
            set(
                intf::scx_ml_feature_FEATURE_SYS_IO + i as u32,
                count_q8(u64::from(n)),
            );
        }
        set(
            intf::scx_ml_feature_FEATURE_WAKER_BURST,
            waker.map_or(self.log_burst_q8, |w| w.log_burst_q8),
        );
        set(
            intf::scx_ml_feature_FEATURE_WAKER_RAN,
            native::log2_q8(waker.map_or(0, |w| w.ran_ns)),
        );
        set(
            intf::scx_ml_feature_FEATURE_WAKER_PRED,
            waker.map_or(0, |w| w.pred_q8),
        );
        set(
            intf::scx_ml_feature_FEATURE_WAKER_NONE,
            if waker.is_some() { 0 } else { ONE_Q8 },
        );
        set(
            intf::scx_ml_feature_FEATURE_QUEUE_DEPTH,
            count_q8(u64::from(around.nr_waiting)),
        );
        set(
            intf::scx_ml_feature_FEATURE_CPU_LOAD,
            native::log2_q8(around.cpu_load_ns),
        );
    }
}
