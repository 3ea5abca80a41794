//! Workloads: what tasks there are, when they wake and for how long they compute.

pub mod beside;
pub mod closed;
pub mod futex;
pub mod hogs;
pub mod open_loop;
pub mod pipes;
pub mod replay;
pub mod rpc;
pub mod schbench;
pub mod sizes;
pub mod spec;
pub mod spin;
pub mod yields;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::machine::{Machine, TaskId, TaskSpec, Waker};
use crate::record::Recorder;

/// What a workload asks of the engine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    /// Wake a blocked task.
    Wake {
        task: TaskId,
        work_ns: u64,
        waker: Waker,
        /// See [`crate::machine::Task::blocked_in`].
        blocked_in: Option<u8>,
        /// See [`crate::machine::Task::sync`].
        sync: bool,
    },
    /// A task that spins has what it spun for: it works for so many ns.
    Proceed { task: TaskId, work_ns: u64 },
    /// Set a timer of the workload.
    Timer { timer: u32, at_ns: u64 },
}

impl Order {
    /// Another task wakes this one.
    pub fn wake(task: TaskId, work_ns: u64, waker: TaskId) -> Self {
        Self::wake_by(task, work_ns, Waker::Task(waker))
    }

    pub fn wake_by(task: TaskId, work_ns: u64, waker: Waker) -> Self {
        Order::Wake {
            task,
            work_ns,
            waker,
            blocked_in: None,
            sync: false,
        }
    }
}

/// What a task does when its work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Block,
    /// It has more to do and does not block: the same burst goes on for so many ns.
    Work(u64),
    /// It burns CPU time until [`Order::Proceed`], or until it is put on a CPU and [`Load::resumes`] lets it go on.
    Spin,
    /// It lets others run first (sched_yield()), and then goes on for so many ns.
    Yield(u64),
}

/// The random numbers of one task: what it draws does not depend on who ran before whom.
pub fn stream(seed: u64, task: TaskId) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(task));
    rng
}

/// Work varied by ± 5 %, so that a closed loop does not lock into step.
pub fn vary(rng: &mut ChaCha8Rng, work_ns: u64) -> u64 {
    (work_ns as f64 * (0.95 + 0.1 * rng.random::<f64>())) as u64
}

/// A task of this name, nice 0.
pub fn named(name: &str) -> TaskSpec {
    TaskSpec {
        name: name.to_string(),
        nice: 0,
    }
}

/// A workload. Draws its random numbers in an order that does not depend on the policy, as far as its nature allows, so
/// that policies are compared on the same arrivals.
pub trait Load {
    /// The tasks, all blocked at first.
    fn tasks(&self) -> Vec<TaskSpec>;

    /// Number of timers.
    fn timers(&self) -> usize;

    /// Names of the classes of requests.
    fn classes(&self) -> &'static [&'static str];

    /// Time 0.
    fn begin(&mut self, orders: &mut Vec<Order>);

    /// A timer fires.
    fn timer(&mut self, now_ns: u64, timer: u32, orders: &mut Vec<Order>);

    /// A task's work is done. It still runs when the orders are followed.
    fn done(
        &mut self,
        m: &Machine,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next;

    /// A task that spins is put on a CPU. What it works on there, if it need not spin any more.
    fn resumes(&mut self, _m: &Machine, _task: TaskId) -> Option<u64> {
        None
    }

    /// Whether all is done that there is to do, although tasks may still run.
    fn is_over(&self) -> bool {
        false
    }

    /// What this workload reports beside the latencies of its classes.
    fn metrics(&self, _m: &Machine, _recorder: &Recorder) -> Vec<(String, f64)> {
        vec![]
    }

    /// Whether the workload ends by itself, once everything that arrived is done.
    fn drains(&self) -> bool {
        true
    }
}
