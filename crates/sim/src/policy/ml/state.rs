//! What the policy keeps of tasks, CPUs and LLCs: the parts of `task_ctx.h` and `intf.h` that schedule.

use scx_ml::kernel::bpf::intf::{self, clock_pace, occupant};
use scx_ml::kernel::native;

use crate::learn::NR_KINDS;
use crate::machine::{Machine, TaskId};

pub const FRESH: u32 = intf::policy_lane_LANE_FRESH;
pub const FAIR: u32 = intf::policy_lane_LANE_FAIR;
pub const NONE: u32 = intf::policy_lane_LANE_NONE;

pub const INV_WEIGHT_ONE_Q16: u64 = intf::INV_WEIGHT_ONE_Q16 as u64;

pub const TICK: u32 = intf::occasion_OCCASION_TICK;

/// Virtual clocks start here, so that a task behind one has a key above 0.
pub const VCLOCK_START: u64 = 1 << 60;

/// The time as the policy has it, where 0 stands for never: the simulation begins at 0.
pub fn clock_ns(m: &Machine) -> u64 {
    m.now_ns + 1
}

/// The parts of struct task_ctx that schedule.
#[derive(Debug, Clone)]
pub struct TaskCtx {
    pub vruntime: u64,
    pub inv_weight_q16: u64,
    /// 1.0 for nice 0, as it counts in the sums of its LLC.
    pub weight_q10: u64,
    pub llc: u32,
    pub lane: u32,
    pub exec_at_run_ns: u64,
    /// Since when it could run and does not; 0: it runs or is blocked.
    pub queued_ns: u64,
    /// What its kind's average expects of the burst that runs, ns; 0: it is not known, or not asked for.
    pub expected_ns: u64,
    /// The same if it outlives that.
    pub stretched_ns: u64,
    /// How far bursts stretch that outlive their expectation, by how they began, octaves in Q8, and how many did.
    pub stretch_q8: [i32; NR_KINDS],
    pub stretches: [u32; NR_KINDS],
    /// It was carried on, and may be ahead of the clock by as much as that took.
    pub owes: bool,
    /// Mean |error| of that average about this task, octaves in Q8.
    pub err_kind_q8: i32,
    /// It was cut, and goes before those who wait for it: `policy_carries_on()`.
    pub carries: bool,
    pub steering: bool,
    /// The prediction is sure: it may order.
    pub sure: bool,
    pub steer_q16: i32,
    pub steer_margin_q16: i32,
    /// When the burst began.
    pub wake_ns: u64,
    /// Whom it woke last.
    pub wakee: Option<TaskId>,
    /// Of the burst that runs.
    pub quantum_ns: u64,
    /// It was queued to go on in turn with the others, and when it is due.
    pub paced: bool,
    pub due_ns: u64,
    /// It has been cut in this burst.
    pub cut: bool,
    /// It has yielded, and has not been queued since.
    pub yielded: bool,
    /// How often it has yielded since it was put on its CPU.
    pub yields: u32,
}

impl TaskCtx {
    /// carried_max().
    pub fn carried_max(&self) -> u64 {
        native::policy_virtual_ns(intf::POLICY_CARRIES_MAX_NS.into(), self.inv_weight_q16)
    }
}

/// struct cpu_ctx.
#[derive(Debug, Clone, Default)]
pub struct CpuCtx {
    pub runs: occupant,
    pub fair_turn_ns: u64,
    pub fair_behind: bool,
    pub nr_waiting: u32,
    pub looked_ns: u64,
    pub looked_llc: u32,
    /// What this CPU's task counts in its LLC's `weight_running_q10`.
    pub weight_here_q10: u64,
    /// Whom what runs woke last.
    pub wakee: Option<TaskId>,
}

/// struct llc_ctx.
#[derive(Debug, Clone, Default)]
pub struct LlcCtx {
    pub vclock: u64,
    /// Sums of the weights of what waits, and of what runs or ran last.
    pub weight_waiting_q10: u64,
    pub weight_running_q10: u64,
    pub pace: clock_pace,
    /// Tasks in the near lanes of its CPUs.
    pub nr_near: u32,
    pub evened_ns: u64,
    pub looked_last_ns: u64,
}

/// What happened, as the kernel's counters tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    pub direct_idle: u64,
    pub queued_fresh: u64,
    pub queued_fair: u64,
    pub queued_near: u64,
    pub queued_paced: u64,
    pub paced_turns: u64,
    pub kept_running: u64,
    pub preempt_kicks: u64,
    pub quantum_preempts: u64,
    pub fair_turns: u64,
    pub fair_yields: u64,
    pub neighbour_steals: u64,
    pub llc_steals: u64,
    pub reliefs: u64,
    pub evenings: u64,
    pub slices_steered: u64,
    pub own_quanta: u64,
    pub yields: u64,
    pub yields_heeded: u64,
}
