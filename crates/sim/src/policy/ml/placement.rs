//! Whether a fresh wake-up may preempt what runs on its CPU, and from where a CPU takes work: the searches of `queues.bpf.h`
//! and `preempt.bpf.h`.

use scx_ml::kernel::bpf::intf;
use scx_ml::kernel::native;

use super::Ml;
use super::queues::Lanes;
use super::state::TICK;
use crate::machine::{Machine, TaskId, Waker};
use crate::topology::CpuId;

impl Ml {
    /// The occasion on which room is asked for; without the rule about those who wake others, as if there were none.
    pub(super) fn occasion(&self, occasion: u32) -> u32 {
        if self.rules.producers { occasion } else { TICK }
    }

    /// The occasion of a task that is to wait in the fresh lane: one that woke, or whose slice ended.
    pub(super) fn occasion_of(m: &Machine, t: TaskId, woken: bool) -> u32 {
        match m.task(t).waker {
            Waker::Nobody if woken => intf::occasion_OCCASION_INTERRUPT,
            _ => intf::occasion_OCCASION_WAKEUP,
        }
    }

    /// find_place(), where nothing is to run that nothing else wants to: the CPU whose task makes room for `t`, its own.
    pub(super) fn find_place(
        &self,
        m: &Machine,
        t: TaskId,
        cpu: CpuId,
        occasion: u32,
    ) -> Option<CpuId> {
        let ctx = self.ctx(t);
        let room_in_ns = || self.room_for_ns(m, cpu, t, ctx.inv_weight_q16, occasion);
        (!ctx.yielded && room_in_ns() == 0).then_some(cpu)
    }

    pub(super) fn pop_fresh(&mut self, cpu: CpuId) -> Option<TaskId> {
        let t = self.fresh.pop(cpu)?;
        self.uncount(t);
        Some(t)
    }

    pub(super) fn pop_near(&mut self, cpu: CpuId) -> Option<TaskId> {
        let t = self.near.pop(cpu)?;
        self.left_near(t);
        Some(t)
    }

    /// A task has been taken from a near lane.
    pub(super) fn left_near(&mut self, t: TaskId) {
        self.uncount(t);
        let llc = self.ctx(t).llc;
        self.llcs[llc as usize].nr_near -= 1;
    }

    pub(super) fn pop_fair(&mut self, llc: u32) -> Option<TaskId> {
        let t = self.fair[llc as usize].pop()?;
        self.uncount(t);
        Some(t)
    }

    /// uncount(): what it waits in is that of the LLC whose clock it is on.
    pub(super) fn uncount(&mut self, t: TaskId) {
        self.waiting -= 1;
        let ctx = &self.tasks[t as usize];
        self.llcs[ctx.llc as usize].weight_waiting_q10 -= ctx.weight_q10;
    }

    /// Of the next `nr_neighbours` CPUs, on the ring of the LLC or, without that, of all CPUs, the first of `llc` in whose
    /// lane somebody waits.
    fn next_with_waiting(
        &self,
        m: &mut Machine,
        lanes: &Lanes,
        cpu: CpuId,
        llc: u32,
        nr_neighbours: u32,
    ) -> Option<CpuId> {
        let range = m.topology.llc(llc);
        let per_llc = m.topology.per_llc();
        let counts = self.rules.llc_counts;
        if counts {
            m.look(1);
            lanes.waiting.first_in(range.clone())?;
        }
        // After this CPU on its ring, or from the first of another LLC on.
        let cpus = m.topology.cpus();
        let (ring, nr) = match (counts, range.contains(&cpu)) {
            (false, _) => (cpus, cpus - 1),
            (true, true) => (per_llc, per_llc - 1),
            (true, false) => (per_llc, per_llc),
        };
        let nr = nr.min(nr_neighbours);
        let after = range.start.max(cpu + 1)..range.end.max(cpu + 1);
        let before = range.start..range.end.min(cpu);
        let found = lanes
            .waiting
            .first_in(after)
            .or_else(|| lanes.waiting.first_in(before))
            .map(|other| match counts && !range.contains(&cpu) {
                true => (other, other - range.start + 1),
                false => (other, (other + ring - cpu) % ring),
            })
            .filter(|&(_, steps)| steps <= nr);
        m.look(u64::from(found.map_or(nr, |(_, steps)| steps)));
        found.map(|(other, _)| other)
    }

    /// take_neighbours(), of fresh lanes.
    pub(super) fn take_neighbours_fresh(
        &mut self,
        m: &mut Machine,
        cpu: CpuId,
        llc: u32,
        nr_neighbours: u32,
    ) -> Option<TaskId> {
        let other = self.next_with_waiting(m, &self.fresh, cpu, llc, nr_neighbours)?;
        self.counters.neighbour_steals += 1;
        self.pop_fresh(other)
    }

    /// take_neighbours(), of near lanes.
    pub(super) fn take_neighbours_near(
        &mut self,
        m: &mut Machine,
        cpu: CpuId,
        llc: u32,
    ) -> Option<TaskId> {
        let cpus = m.topology.cpus();
        let other = self.next_with_waiting(m, &self.near, cpu, llc, cpus)?;
        self.counters.neighbour_steals += 1;
        self.pop_near(other)
    }

    /// take_fair_of().
    pub(super) fn take_fair_of(&mut self, m: &mut Machine, cpu: CpuId, llc: u32) -> Option<TaskId> {
        self.pop_fair(llc)
            .or_else(|| self.take_neighbours_near(m, cpu, llc))
    }

    /// take_earlier(), of the fair lanes.
    pub(super) fn take_earlier(&mut self, cpu: CpuId, llc: u32) -> Option<TaskId> {
        let (shared, near) = (&self.fair[llc as usize], self.near.of(cpu));
        if near.is_empty() || native::policy_shared_first(shared.head_key(), near.head_key()) {
            self.pop_fair(llc).or_else(|| self.pop_near(cpu))
        } else {
            self.pop_near(cpu)
        }
    }

    /// take_fresh().
    pub(super) fn take_fresh(&mut self, m: &mut Machine, cpu: CpuId, llc: u32) -> Option<TaskId> {
        let head_key = |cpu: CpuId| self.fresh.of(cpu).head_key();
        let next = self.neighbour(m, cpu);
        if next != cpu
            && self.has_fresh(cpu)
            && native::policy_neighbour_first(head_key(cpu), head_key(next))
        {
            self.counters.neighbour_steals += 1;
            return self.pop_fresh(next);
        }
        if let Some(t) = self.pop_fresh(cpu) {
            return Some(t);
        }
        self.take_neighbours_fresh(m, cpu, llc, intf::POLICY_FRESH_NEIGHBOURS)
    }

    /// steal_from_llcs().
    pub(super) fn steal_from_llcs(
        &mut self,
        m: &mut Machine,
        cpu: CpuId,
        llc: u32,
    ) -> Option<TaskId> {
        let (llcs, cpus) = (m.topology.llcs(), m.topology.cpus());
        if self.waiting == 0 {
            let per_llc = if self.rules.llc_counts {
                3
            } else {
                u64::from(cpus)
            };
            m.look(u64::from(llcs - 1) * per_llc);
            return None;
        }
        let topology = m.topology;
        let node_of = |llc: u32| topology.node_around(topology.llc(llc).start);
        let near = node_of(llc);
        let near_first: &[bool] = if near.len() < cpus as usize {
            &[true, false]
        } else {
            &[true]
        };
        for &is_near in near_first {
            for i in 1..llcs {
                let victim = (llc + i) % llcs;
                if (node_of(victim) == near) != is_near {
                    continue;
                }
                m.look(1);
                let found = self
                    .take_neighbours_fresh(m, cpu, victim, cpus)
                    .or_else(|| self.take_fair_of(m, cpu, victim));
                if found.is_some() {
                    self.counters.llc_steals += 1;
                    return found;
                }
            }
        }
        None
    }
}
