//! Scheduling policies. A policy owns its queues and decides; the engine moves the clock and accounts.
//!
//! The calls are those of sched_ext, because that is what the policy under study is written for: a task wakes, a CPU picks,
//! a task starts and stops, the timer ticks.

pub mod eevdf;
pub mod global;
pub mod ml;
pub mod spec;
pub mod srpt;

use crate::machine::{Machine, TaskId};
use crate::topology::CpuId;

/// What a CPU runs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// This task, which waited until now.
    Run(TaskId),
    /// The one that it runs already.
    Keep,
    /// Nothing waits that may run here.
    Idle,
}

/// See the module. `m.now_ns` is the time in every call.
pub trait Policy {
    /// A task is created, blocked.
    fn add_task(&mut self, m: &Machine, t: TaskId);

    /// A task wakes. It is to be started on a claimed idle CPU or queued.
    fn wake(&mut self, m: &mut Machine, t: TaskId);

    /// A running task was taken off its CPU for another, or its slice ended: it is to be queued.
    fn requeue(&mut self, m: &mut Machine, t: TaskId);

    /// What `cpu` runs next. `prev` ran until now and could go on.
    fn pick(&mut self, m: &mut Machine, cpu: CpuId, prev: Option<TaskId>) -> Pick;

    /// A task starts on `cpu`, after it did not run there.
    fn started(&mut self, _m: &mut Machine, _cpu: CpuId, _t: TaskId) {}

    /// A task stops on `cpu`. `runnable`: it would go on.
    fn stopped(&mut self, _m: &mut Machine, _cpu: CpuId, _t: TaskId, _runnable: bool) {}

    /// A task's burst ended: it blocks.
    fn blocked(&mut self, _m: &mut Machine, _t: TaskId) {}

    /// A running task's burst goes on with more work. No real scheduler is told; an oracle needs to know.
    fn extended(&mut self, _m: &mut Machine, _cpu: CpuId, _t: TaskId) {}

    /// A running task would let others run first. Whether its CPU is to pick at once.
    fn yields(&mut self, m: &mut Machine, _cpu: CpuId, t: TaskId) -> bool {
        m.task_mut(t).slice_ns = 0;
        true
    }

    /// A tick on a CPU that runs `t`. To end its slice, set it to 0.
    fn tick(&mut self, _m: &mut Machine, _cpu: CpuId, _t: TaskId) {}

    /// What is worth saying about the run: name and value.
    fn notes(&self) -> Vec<(String, f64)> {
        vec![]
    }
}
