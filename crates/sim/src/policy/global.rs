//! Policies with one queue for all CPUs and no knowledge of bursts: first come first served, round robin, processor
//! sharing, and least attained service.
//!
//! They are reference points, not proposals: one queue for 1,024 CPUs would be a lock that nobody could afford.

use std::collections::VecDeque;

use super::{Pick, Policy};
use crate::machine::{FOREVER_NS, Machine, TaskId};
use crate::topology::{CpuId, CpuSet};

/// Levels of attained service; in the last one everything is equal.
const LEVELS: usize = 24;

/// How a task's service decides where it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// One queue.
    Arrival,
    /// Level n: it has had less than quantum * 2^n since it woke.
    Attained,
}

/// See the module.
pub struct Global {
    order: Order,
    quantum_ns: u64,
    queues: Vec<VecDeque<TaskId>>,
    /// Bit n: `queues[n]` is not empty.
    waiting: u32,
    /// Level at which each CPU's task runs.
    levels: Vec<usize>,
    /// CPUs per level, to find one to preempt.
    running: Vec<CpuSet>,
}

impl Global {
    fn new(order: Order, quantum_ns: u64, m: &Machine) -> Self {
        Self {
            order,
            quantum_ns,
            queues: vec![VecDeque::new(); LEVELS],
            waiting: 0,
            levels: vec![0; m.topology.cpus() as usize],
            running: vec![CpuSet::empty(); LEVELS],
        }
    }

    /// First come, first served: a burst is never interrupted.
    pub fn fcfs(m: &Machine) -> Self {
        Self::new(Order::Arrival, FOREVER_NS, m)
    }

    /// Round robin. With a quantum much smaller than bursts, processor sharing.
    pub fn rr(m: &Machine, quantum_ns: u64) -> Self {
        Self::new(Order::Arrival, quantum_ns, m)
    }

    /// Least attained service in levels, the first one `quantum_ns` long, each twice the one before: a wake-up preempts
    /// what is in a later level, and inside a level it is round robin.
    pub fn las(m: &Machine, quantum_ns: u64) -> Self {
        Self::new(Order::Attained, quantum_ns, m)
    }

    fn level(&self, used_ns: u64) -> usize {
        match self.order {
            Order::Arrival => 0,
            Order::Attained => {
                let quanta = used_ns / self.quantum_ns;
                (u64::BITS - quanta.leading_zeros()).min(LEVELS as u32 - 1) as usize
            }
        }
    }

    fn slice_ns(&self, level: usize) -> u64 {
        match self.order {
            Order::Arrival => self.quantum_ns,
            // To the end of the level.
            Order::Attained => self.quantum_ns << level.saturating_sub(1),
        }
    }

    /// The level at which a CPU's task runs now.
    fn note_level(&mut self, cpu: CpuId, level: usize) {
        if self.order == Order::Attained {
            self.running[self.levels[cpu as usize]].remove(cpu);
            self.levels[cpu as usize] = level;
            self.running[level].insert(cpu);
        }
    }

    fn keep(&mut self, m: &mut Machine, cpu: CpuId, prev: TaskId) -> Pick {
        let level = self.level(m.task(prev).used_ns);
        m.task_mut(prev).slice_ns = self.slice_ns(level);
        self.note_level(cpu, level);
        Pick::Keep
    }

    fn queue(&mut self, m: &mut Machine, t: TaskId) -> usize {
        let level = self.level(m.task(t).used_ns);
        m.task_mut(t).slice_ns = self.slice_ns(level);
        self.queues[level].push_back(t);
        self.waiting |= 1 << level;
        level
    }
}

impl Policy for Global {
    fn add_task(&mut self, _m: &Machine, _t: TaskId) {}

    fn wake(&mut self, m: &mut Machine, t: TaskId) {
        let near = m.task(t).cpu;
        if let Some(cpu) = m.claim_idle(near) {
            m.task_mut(t).slice_ns = self.slice_ns(0);
            m.start(cpu, t);
            return;
        }
        let level = self.queue(m, t);
        if self.order == Order::Attained {
            let victim = (level + 1..LEVELS)
                .rev()
                .find_map(|l| self.running[l].first_in(0..m.topology.cpus()));
            if let Some(cpu) = victim {
                m.resched(cpu);
            }
        }
    }

    fn requeue(&mut self, m: &mut Machine, t: TaskId) {
        self.queue(m, t);
    }

    fn pick(&mut self, m: &mut Machine, cpu: CpuId, prev: Option<TaskId>) -> Pick {
        if self.waiting == 0 {
            if let Some(prev) = prev {
                return self.keep(m, cpu, prev);
            }
            return Pick::Idle;
        }
        let level = self.waiting.trailing_zeros() as usize;
        if let Some(prev) = prev
            && self.level(m.task(prev).used_ns) < level
        {
            return self.keep(m, cpu, prev);
        }
        let next = self.queues[level].pop_front();
        if self.queues[level].is_empty() {
            self.waiting &= !(1 << level);
        }
        next.map_or(Pick::Idle, Pick::Run)
    }

    fn started(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId) {
        self.note_level(cpu, self.level(m.task(t).used_ns));
    }

    fn stopped(&mut self, _m: &mut Machine, cpu: CpuId, _t: TaskId, _runnable: bool) {
        if self.order == Order::Attained {
            self.running[self.levels[cpu as usize]].remove(cpu);
        }
    }
}
