//! Shortest remaining processing time: the oracle. It knows every burst, and preempts at no other cost than a switch.
//!
//! On one CPU no policy has a lower mean latency (Schrage 1968). On several CPUs, with one queue for all as here, it is
//! near the best that is known.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Pick, Policy};
use crate::heap::TimerHeap;
use crate::machine::{FOREVER_NS, Machine, TaskId};
use crate::topology::CpuId;

/// See the module.
pub struct Srpt {
    waiting: BinaryHeap<Reverse<(u64, u64, TaskId)>>,
    /// CPUs by when their task will block, the last first. What runs shrinks at the same rate everywhere, so that the
    /// order holds while time passes.
    ends: TimerHeap,
    order: u64,
}

impl Srpt {
    pub fn new(m: &Machine) -> Self {
        Self {
            waiting: BinaryHeap::new(),
            ends: TimerHeap::new(m.topology.cpus() as usize),
            order: 0,
        }
    }

    fn queue(&mut self, m: &Machine, t: TaskId) {
        self.order += 1;
        self.waiting
            .push(Reverse((m.task(t).left_ns, self.order, t)));
    }
}

impl Policy for Srpt {
    fn add_task(&mut self, _m: &Machine, _t: TaskId) {}

    fn wake(&mut self, m: &mut Machine, t: TaskId) {
        m.task_mut(t).slice_ns = FOREVER_NS;
        let near = m.task(t).cpu;
        if let Some(cpu) = m.claim_idle(near) {
            m.start(cpu, t);
            return;
        }
        self.queue(m, t);
        if let Some((from_last_ns, cpu)) = self.ends.first()
            && m.now_ns + m.task(t).left_ns < FOREVER_NS - from_last_ns
        {
            m.resched(cpu);
        }
    }

    fn requeue(&mut self, m: &mut Machine, t: TaskId) {
        self.queue(m, t);
    }

    fn pick(&mut self, m: &mut Machine, _cpu: CpuId, prev: Option<TaskId>) -> Pick {
        let Some(&Reverse((left_ns, _, t))) = self.waiting.peek() else {
            return if prev.is_some() {
                Pick::Keep
            } else {
                Pick::Idle
            };
        };
        if prev.is_some_and(|p| m.task(p).left_ns <= left_ns) {
            return Pick::Keep;
        }
        self.waiting.pop();
        Pick::Run(t)
    }

    fn started(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId) {
        let end_ns = m.cpu(cpu).accounted_ns + m.task(t).left_ns;
        self.ends.set(cpu, FOREVER_NS - end_ns);
    }

    fn extended(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId) {
        self.started(m, cpu, t);
        let shorter =
            |&Reverse((left_ns, ..)): &Reverse<(u64, u64, TaskId)>| left_ns < m.task(t).left_ns;
        if self.waiting.peek().is_some_and(shorter) {
            m.resched(cpu);
        }
    }

    fn stopped(&mut self, _m: &mut Machine, cpu: CpuId, _t: TaskId, _runnable: bool) {
        self.ends.clear(cpu);
    }
}
