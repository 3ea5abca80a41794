//! What is known about a task: `features.bpf.h`, as far as a simulation has it. Features of what it does not have (faults,
//! block I/O, threads, age of an exec) keep one value and are dropped by the fit as constant.

use scx_ml::kernel::bpf::FEATURE_SLOTS;
use scx_ml::kernel::bpf::intf::{
    self, forecast, scx_ml_consts_LOG2_MAX_Q8 as LOG2_MAX_Q8,
    scx_ml_consts_PRIOR_BURST_Q8 as PRIOR_BURST_Q8, spared_SPARED_NO_GAIN, spared_SPARED_NOT,
};
use scx_ml::kernel::native;

use super::prediction::Prediction;
use crate::machine::{Task, Waker};

/// Ways in which a burst may have begun: burst_kind().
pub const NR_KINDS: usize = intf::scx_ml_consts_NR_KINDS as usize;

/// FEATURE_ONE_Q8: a set flag.
const ONE_Q8: i32 = 256;

/// A task's history: the part of struct task_ctx of that name.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub name_key: u32,
    pub of_bursts: intf::history,
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
    /// How much nearer the model is, and bursts since it was asked last where that is nothing.
    gain_q16: i32,
    unasked: u32,
    blocked_ns: u64,
    /// Of the burst that runs.
    pub wakes_made: u32,
    /// As struct wakeup has them.
    syscalls: [u16; 8],
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

impl History {
    /// init_history(), with the prior for a task whose parent is not known.
    pub fn new(task: &Task) -> Self {
        Self {
            name_key: native::name_key_of(&task.name),
            of_bursts: intf::history {
                log_burst_q8: PRIOR_BURST_Q8 as i32,
                ..Default::default()
            },
            weight: task.weight,
            // Not to be trusted before it has shown itself.
            err_model_q8: ONE_Q8,
            err_kind_q8: ONE_Q8,
            ..Default::default()
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

    /// How the burst began that runs, or ran last: burst_kind().
    pub fn kind(&self) -> usize {
        self.kind
    }

    /// kind_burst_q8()
    pub fn kind_burst_q8(&self) -> i32 {
        self.kind_burst_q8[self.kind].unwrap_or(self.of_bursts.log_burst_q8)
    }

    /// How far the model has lately been off about this task, Q8.
    pub fn err_model_q8(&self) -> i32 {
        self.err_model_q8
    }

    /// A burst that the model predicted was so far off, Q8, and the moving average so far.
    pub fn note_error(&mut self, err_q8: i32, err_avg_q8: i32) {
        self.err_model_q8 = native::task_error_q8(self.err_model_q8, self.judged_model, err_q8);
        self.judged_model += 1;
        self.gain_q16 = native::task_gain_q16(self.gain_q16, err_avg_q8 - err_q8);
    }

    /// Why no model decides about the burst that begins, enum spared; and whether none is asked: is_spared().
    pub fn spared(&mut self, average: &forecast) -> (u32, bool) {
        let spared = native::policy_spared(average, self.gain_q16, self.judged_model);
        if spared != spared_SPARED_NO_GAIN {
            return (spared, spared != spared_SPARED_NOT);
        }
        self.unasked = native::policy_unasked(self.unasked);
        (spared, self.unasked != 0)
    }

    /// What the moving average steers by, where no model does: steer_burst(). Nothing before it was judged once.
    /// `shift_q16`: what the watch has found of its quantile.
    pub fn average(&self, shift_q16: i32) -> Option<Prediction> {
        (self.judged_kind > 0).then(|| Prediction {
            pred_q16: self.kind_burst_q8() << 8,
            margin_q16: native::average_margin_q16(self.err_kind_q8, shift_q16),
            err_q8: self.err_kind_q8,
        })
    }

    /// note_wakeup(). `blocked_in`: the class of system call that it blocked in and was counted for, which the workload
    /// tells only now.
    pub fn note_wakeup(&mut self, now_ns: u64, blocked_in: Option<u8>) {
        if self.blocked_ns > 0 {
            let h = &mut self.of_bursts;
            h.last_sleep_ns = now_ns.saturating_sub(self.blocked_ns);
            h.avg_sleep_ns = native::avg_quarter(h.avg_sleep_ns, h.last_sleep_ns);
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
        let wait_ns = now_ns.saturating_sub(self.wake_ns).saturating_sub(burst_ns);
        let h = &mut self.of_bursts;
        let off_q8 = label_q8 - h.log_burst_q8;
        if h.seen > 0 {
            h.avg_burst_ns = native::avg_quarter(h.avg_burst_ns, burst_ns);
            h.half_burst_ns = (h.half_burst_ns >> 1) + (burst_ns >> 1);
            h.log_burst_q8 += off_q8 / 4;
            h.spread_q8 += (off_q8.abs() - h.spread_q8) / 4;
        } else {
            h.avg_burst_ns = burst_ns;
            h.half_burst_ns = burst_ns;
            h.log_burst_q8 = label_q8;
        }
        h.prev_log_q8 = h.last_log_q8;
        h.last_log_q8 = label_q8.min(LOG2_MAX_Q8 as i32);
        h.last_wait_ns = wait_ns;
        h.avg_wait_ns = native::avg_quarter(h.avg_wait_ns, wait_ns);
        h.last_wakes_made = self.wakes_made;
        h.seen = h.seen.saturating_add(1);
        self.note_kind(label_q8);
        self.blocked_ns = now_ns;
    }

    /// features_of(), of what note_facts() notes.
    pub fn fill(
        &self,
        features_q8: &mut [i16; FEATURE_SLOTS],
        waker: Option<&WakerFacts>,
        around: &Surroundings,
        profiles: ProfileFacts,
        now_ns: u64,
    ) {
        let wakeup = intf::wakeup {
            age_fork_ns: now_ns,
            weight: self.weight,
            kind_burst_q8: self.kind_burst_q8(),
            name_burst_q8: profiles.name_burst_q8,
            pair_burst_q8: profiles.pair_burst_q8,
            waker_burst_q8: waker.map_or(self.of_bursts.log_burst_q8, |w| w.log_burst_q8),
            waker_ran_ns: waker.map_or(0, |w| w.ran_ns),
            waker_pred_q8: waker.map_or(0, |w| w.pred_q8),
            waker_none: waker.is_none().into(),
            nr_waiting: around.nr_waiting,
            cpu_load_ns: around.cpu_load_ns,
            syscalls: self.syscalls,
            ..Default::default()
        };
        native::fill_features(&self.of_bursts, &wakeup, !0, features_q8);
    }
}
