//! Workloads: what tasks there are, when they wake and for how long they compute.

pub mod closed;
pub mod hogs;
pub mod open_loop;
pub mod replay;
pub mod sizes;

use crate::machine::{TaskId, TaskSpec, Waker};
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
    },
    /// Set a timer of the workload.
    Timer { timer: u32, at_ns: u64 },
}

/// What a task does when its work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Block,
    /// It has more to do and does not block: the same burst goes on for so many ns.
    Work(u64),
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
        now_ns: u64,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next;

    /// Whether the workload ends by itself, once everything that arrived is done.
    fn drains(&self) -> bool {
        true
    }
}
