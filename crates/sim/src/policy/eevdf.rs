//! A model of the kernel's own scheduler: earliest eligible virtual deadline first, as in Linux 6.12 to 6.18
//! (kernel/sched/fair.c).
//!
//! Modelled: weighted virtual time, lag kept over sleeps and bounded, eligibility, virtual deadlines of one base slice,
//! RUN_TO_PARITY (what was picked runs until its deadline as long as it is eligible), preemption at a wake-up by an
//! eligible task with an earlier deadline, DELAY_DEQUEUE (who blocks with a debt stays queued until it is paid), wake-up on
//! an idle CPU of the LLC, of a sync wake-up on the waker's CPU where nothing else waits there, yields, pulling by a CPU that goes
//! idle and at ticks.
//! Not modelled: groups, wake_affine beyond that, NUMA balancing, capacity, cache-hot checks; balancing by load is by task counts.

use super::{Pick, Policy};
use crate::machine::{FOREVER_NS, Machine, State, TaskId, Waker, load_weight};
use crate::topology::{CpuId, CpuSet};

/// sysctl_sched_base_slice on one CPU. The kernel multiplies it by 1 + log2 of the CPUs, of eight at most: 2.8 ms.
const BASE_SLICE_NS: u64 = 700_000;

/// Weight of nice 0.
const NICE_0: i64 = 1024;

/// A CPU looks for a longer queue than its own at every so-manieth tick.
const BALANCE_TICKS: u32 = 4;

#[derive(Debug, Clone, Copy)]
struct Entity {
    weight: i64,
    vruntime: i64,
    deadline: i64,
    /// How much less than its share it had when it left the queue.
    vlag: i64,
    /// The deadline that it was picked with: until then it is protected.
    parity: i64,
    /// CPU time up to which vruntime is accounted.
    exec_ns: u64,
    /// It blocked, but stays queued until its debt is paid.
    delayed: bool,
    cpu: CpuId,
}

#[derive(Debug, Clone, Default)]
struct Queue {
    /// Everything but the current task.
    waiting: Vec<TaskId>,
    current: Option<TaskId>,
    /// Average vruntime when the queue was last looked at: where an empty queue goes on.
    average: i64,
    ticks: u32,
    /// The CPU whose queue was compared with last.
    partner: CpuId,
}

/// See the module.
pub struct Eevdf {
    slice_ns: u64,
    entities: Vec<Entity>,
    queues: Vec<Queue>,
    /// CPUs with waiting tasks.
    crowded: CpuSet,
}

impl Eevdf {
    /// With the kernel's base slice for the machine, or another.
    pub fn new(m: &Machine, slice_ns: Option<u64>) -> Self {
        let scale = 1 + m.topology.cpus().min(8).ilog2();
        Self {
            slice_ns: slice_ns.unwrap_or(BASE_SLICE_NS * u64::from(scale)),
            entities: vec![],
            queues: vec![Queue::default(); m.topology.cpus() as usize],
            crowded: CpuSet::empty(),
        }
    }

    fn entity(&mut self, t: TaskId) -> &mut Entity {
        &mut self.entities[t as usize]
    }

    /// ns of CPU time in the entity's virtual time.
    fn virtual_ns(e: &Entity, ns: u64) -> i64 {
        if e.weight == NICE_0 {
            ns as i64
        } else {
            (i128::from(ns) * i128::from(NICE_0) / i128::from(e.weight)) as i64
        }
    }

    /// Sum of weights, and the average vruntime weighted by them (avg_vruntime()).
    fn average(&self, cpu: CpuId) -> (i64, i64) {
        let q = &self.queues[cpu as usize];
        let (mut load, mut sum) = (0i64, 0i128);
        for &t in q.waiting.iter().chain(&q.current) {
            let e = &self.entities[t as usize];
            load += e.weight;
            sum += i128::from(e.vruntime - q.average) * i128::from(e.weight);
        }
        if load == 0 {
            return (0, q.average);
        }
        // The kernel rounds down, so that an average is never ahead of everything.
        (load, q.average + sum.div_euclid(i128::from(load)) as i64)
    }

    /// Bring the current task's vruntime up to now. True if it reached its deadline (update_curr()).
    fn update_current(&mut self, m: &Machine, cpu: CpuId) -> bool {
        let Some(t) = self.queues[cpu as usize].current else {
            return false;
        };
        let (slice_ns, exec_ns) = (self.slice_ns, m.exec_ns(t));
        let e = self.entity(t);
        e.vruntime += Self::virtual_ns(e, exec_ns - e.exec_ns);
        e.exec_ns = exec_ns;
        let reached = e.vruntime >= e.deadline;
        if reached {
            e.deadline = e.vruntime + Self::virtual_ns(e, slice_ns);
        }
        reached
    }

    /// pick_eevdf(): the eligible one with the earliest deadline.
    fn choose(&mut self, cpu: CpuId) -> Option<TaskId> {
        let (_, average) = self.average(cpu);
        self.queues[cpu as usize].average = average;
        let q = &self.queues[cpu as usize];
        let eligible = |t: TaskId| self.entities[t as usize].vruntime <= average;
        let current = q.current.filter(|&t| eligible(t) || q.waiting.is_empty());
        if let Some(t) = current {
            let e = &self.entities[t as usize];
            if e.parity == e.deadline {
                return Some(t);
            }
        }
        let deadline = |t: &TaskId| self.entities[*t as usize].deadline;
        let best = q
            .waiting
            .iter()
            .copied()
            .filter(|&t| eligible(t))
            .min_by_key(deadline);
        match (best, current) {
            (Some(b), Some(c)) if deadline(&b) < deadline(&c) => Some(b),
            (_, Some(c)) => Some(c),
            (Some(b), None) => Some(b),
            // By rounding, nobody may be eligible: the kernel takes the leftmost.
            (None, None) => q.waiting.iter().copied().min_by_key(deadline),
        }
    }

    /// place_entity() and enqueue.
    fn place(&mut self, t: TaskId, cpu: CpuId) {
        let (load, average) = self.average(cpu);
        let slice_ns = self.slice_ns;
        let e = self.entity(t);
        let lag = if load > 0 {
            // Its own weight will move the average: what it is owed must be more for it to be owed the same after.
            (i128::from(e.vlag) * i128::from(load + e.weight) / i128::from(load)) as i64
        } else {
            0
        };
        e.vruntime = average - lag;
        e.deadline = e.vruntime + Self::virtual_ns(e, slice_ns);
        e.cpu = cpu;
        e.delayed = false;
        self.queues[cpu as usize].waiting.push(t);
        self.crowded.insert(cpu);
    }

    fn unlink(&mut self, t: TaskId, cpu: CpuId) {
        let q = &mut self.queues[cpu as usize];
        q.waiting.retain(|&w| w != t);
        if q.waiting.is_empty() {
            self.crowded.remove(cpu);
        }
    }

    /// update_entity_lag(): what the task is owed, bounded.
    fn lag(&self, m: &Machine, t: TaskId, cpu: CpuId) -> i64 {
        let (_, average) = self.average(cpu);
        let e = &self.entities[t as usize];
        let limit = Self::virtual_ns(e, (2 * self.slice_ns).max(m.costs.tick_ns));
        (average - e.vruntime).clamp(-limit, limit)
    }

    /// Take a waiting task from the queue of `from`, if there is one that is awake.
    fn pull(&mut self, m: &Machine, from: CpuId, to: CpuId) -> bool {
        let awake = |t: &&TaskId| !self.entities[**t as usize].delayed;
        let Some(&t) = self.queues[from as usize].waiting.iter().rev().find(awake) else {
            return false;
        };
        self.update_current(m, from);
        let lag = self.lag(m, t, from);
        self.unlink(t, from);
        self.entity(t).vlag = lag;
        self.place(t, to);
        true
    }

    /// A CPU without work takes a task from a crowded queue, the nearest first (sched_balance_newidle()).
    fn pull_newly_idle(&mut self, m: &Machine, cpu: CpuId) -> bool {
        let t = &m.topology;
        let ranges = [t.llc(t.llc_of(cpu)), t.node_around(cpu), 0..t.cpus()];
        for range in ranges {
            let start = range.start;
            let around = [cpu + 1..range.end, start..cpu];
            let found = around
                .into_iter()
                .find_map(|part| self.crowded.first_in(part));
            if let Some(from) = found
                && self.pull(m, from, cpu)
            {
                return true;
            }
        }
        false
    }

    /// Now and then compare one's queue with another's, and even them out.
    fn balance(&mut self, m: &Machine, cpu: CpuId) {
        let cpus = m.topology.cpus();
        let q = &mut self.queues[cpu as usize];
        q.ticks += 1;
        if q.ticks < BALANCE_TICKS || cpus == 1 {
            return;
        }
        q.ticks = 0;
        q.partner = (q.partner + 1) % cpus;
        let (partner, own) = (q.partner, q.waiting.len());
        if partner != cpu && self.queues[partner as usize].waiting.len() > own + 1 {
            self.pull(m, partner, cpu);
        }
    }

    /// Where a wake-up is queued that finds no idle CPU: wake_affine_idle().
    fn busy_place(&self, m: &Machine, t: TaskId) -> CpuId {
        let task = m.task(t);
        match task.waker {
            Waker::Task(waker) if task.sync && m.task(waker).state == State::Running => {
                let here = m.task(waker).cpu;
                let alone = self.queues[here as usize].waiting.is_empty();
                if alone { here } else { task.cpu }
            }
            _ => task.cpu,
        }
    }

    fn give_slice(&self, m: &mut Machine, t: TaskId) {
        let e = &self.entities[t as usize];
        m.task_mut(t).slice_ns = if m.costs.tick_ns > 0 {
            // Looked at by the tick.
            FOREVER_NS
        } else {
            let left = (e.deadline - e.vruntime).max(1);
            (i128::from(left) * i128::from(e.weight) / i128::from(NICE_0)).max(1) as u64
        };
    }
}

impl Policy for Eevdf {
    fn add_task(&mut self, m: &Machine, t: TaskId) {
        self.entities.push(Entity {
            weight: i64::from(load_weight(m.task(t).nice)),
            vruntime: 0,
            deadline: 0,
            vlag: 0,
            parity: 0,
            exec_ns: 0,
            delayed: false,
            cpu: m.task(t).cpu,
        });
    }

    fn wake(&mut self, m: &mut Machine, t: TaskId) {
        let near = m.task(t).cpu;
        let cpu;
        if self.entity(t).delayed {
            cpu = self.entity(t).cpu;
            self.update_current(m, cpu);
            let lag = self.lag(m, t, cpu);
            self.entity(t).delayed = false;
            if lag > 0 {
                // Its debt has been paid long since; it gains nothing by having been late to leave.
                self.unlink(t, cpu);
                self.entity(t).vlag = 0;
                self.place(t, cpu);
            }
        } else if let Some(idle) = m.claim_idle_in_llc(near) {
            self.place(t, idle);
            m.resched(idle);
            return;
        } else {
            cpu = self.busy_place(m, t);
            self.update_current(m, cpu);
            self.place(t, cpu);
        }
        let chosen = self.choose(cpu);
        let current = self.queues[cpu as usize].current;
        // check_preempt_wakeup_fair()
        if current.is_none() || chosen == Some(t) {
            m.resched(cpu);
        }
    }

    fn requeue(&mut self, _m: &mut Machine, _t: TaskId) {
        // pick() has queued it already, because it is one of those to choose from.
    }

    fn pick(&mut self, m: &mut Machine, cpu: CpuId, prev: Option<TaskId>) -> Pick {
        self.update_current(m, cpu);
        loop {
            let Some(next) = self.choose(cpu) else {
                if self.pull_newly_idle(m, cpu) {
                    continue;
                }
                return Pick::Idle;
            };
            if Some(next) == prev {
                self.give_slice(m, next);
                return Pick::Keep;
            }
            self.unlink(next, cpu);
            if self.entity(next).delayed {
                // Now that it would run, it owes nothing more.
                let e = self.entity(next);
                e.delayed = false;
                e.vlag = 0;
                continue;
            }
            if let Some(prev) = prev {
                self.queues[cpu as usize].waiting.push(prev);
                self.crowded.insert(cpu);
            }
            self.queues[cpu as usize].current = Some(next);
            let exec_ns = m.exec_ns(next);
            let e = self.entity(next);
            e.parity = e.deadline;
            e.exec_ns = exec_ns;
            self.give_slice(m, next);
            return Pick::Run(next);
        }
    }

    fn stopped(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId, runnable: bool) {
        if runnable {
            return;
        }
        self.update_current(m, cpu);
        let lag = self.lag(m, t, cpu);
        let q = &mut self.queues[cpu as usize];
        q.current = None;
        let e = &mut self.entities[t as usize];
        e.vlag = lag;
        if lag < 0 && !q.waiting.is_empty() {
            e.delayed = true;
            q.waiting.push(t);
        }
    }

    /// yield_task_fair(), up to 6.17.
    fn yields(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId) -> bool {
        self.update_current(m, cpu);
        let slice_ns = self.slice_ns;
        let e = self.entity(t);
        e.deadline += Self::virtual_ns(e, slice_ns);
        true
    }

    fn tick(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId) {
        let reached = self.update_current(m, cpu);
        self.balance(m, cpu);
        if reached && !self.queues[cpu as usize].waiting.is_empty() {
            m.task_mut(t).slice_ns = 0;
        }
    }
}
