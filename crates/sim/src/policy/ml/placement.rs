//! Which CPU a fresh wake-up may preempt, and from where a CPU takes work: the searches of `queues.bpf.h` and
//! `preempt.bpf.h`.

use scx_ml::kernel::bpf::intf;
use scx_ml::kernel::native;

use super::Ml;
use super::state::{NEVER_NS, TICK, TIMER, clock_ns};
use crate::machine::{Machine, TaskId, Waker};
use crate::topology::CpuId;

impl Ml {
    /// The occasion on which room is asked for; without the rule about those who wake others, as if there were none.
    fn occasion(&self, occasion: u32) -> u32 {
        if self.rules.producers { occasion } else { TICK }
    }

    /// The occasion of a task that is to wait in the fresh lane: one that woke, or whose slice ended.
    pub(super) fn occasion_of(m: &Machine, t: TaskId, woken: bool) -> u32 {
        match m.task(t).waker {
            Waker::Nobody if woken => intf::occasion_OCCASION_INTERRUPT,
            _ => intf::occasion_OCCASION_WAKEUP,
        }
    }

    /// room_in_ns().
    pub(super) fn room_in_ns(
        &self,
        m: &Machine,
        cpu: CpuId,
        inv_weight_q16: u64,
        occasion: u32,
    ) -> u64 {
        let runs = &self.cpus[cpu as usize].runs;
        let occasion = self.occasion(occasion);
        native::policy_room_in_ns(&self.pp, runs, occasion, inv_weight_q16, clock_ns(m))
    }

    /// find_place(): the CPU whose task makes room, and the one in whose fresh lane `t` waits.
    pub(super) fn find_place(
        &self,
        m: &mut Machine,
        t: TaskId,
        cpu: CpuId,
        occasion: u32,
    ) -> (Option<CpuId>, CpuId) {
        if self.ctx(t).yielded {
            return (None, cpu);
        }
        let inv_weight_q16 = self.ctx(t).inv_weight_q16;
        let own_in_ns = self.room_in_ns(m, cpu, inv_weight_q16, occasion);
        if own_in_ns == 0 {
            return (Some(cpu), cpu);
        }
        if self.rules.own_victim {
            return (None, cpu);
        }
        let mut at = cpu;
        let llc = m.topology.llc_of(cpu);
        // The ring of all CPUs, or that of the LLC.
        let (first, nr) = if self.rules.llc_counts {
            (m.topology.llc(llc).start, m.topology.per_llc())
        } else {
            (0, m.topology.cpus())
        };
        for i in 1..=intf::POLICY_SCAN_MAX.min(nr - 1) {
            m.look(1);
            let other = first + (cpu - first + i) % nr;
            if m.topology.llc_of(other) != llc {
                continue;
            }
            let in_ns = self.room_in_ns(m, other, inv_weight_q16, occasion);
            if in_ns == 0 {
                return (Some(other), other);
            }
            let waiting = |cpu: CpuId| self.fresh[cpu as usize].len();
            if at == cpu
                && native::policy_waits_elsewhere(own_in_ns, waiting(cpu), in_ns, waiting(other))
            {
                at = other;
            }
        }
        (None, at)
    }

    /// set_quantum_timer(), if there is one.
    pub(super) fn set_quantum_timer(&self, m: &mut Machine, cpu: CpuId) {
        if !self.rules.timer {
            return;
        }
        let in_ns = self.room_in_ns(m, cpu, 0, TIMER);
        if in_ns == NEVER_NS {
            return;
        }
        let at_ns = m.now_ns + in_ns;
        let c = &mut m.cpus[cpu as usize];
        if at_ns < c.alarm_ns {
            c.alarm_ns = at_ns;
            m.rearm(cpu);
        }
    }

    pub(super) fn pop_fresh(&mut self, cpu: CpuId) -> Option<TaskId> {
        let queue = &mut self.fresh[cpu as usize];
        let t = queue.pop()?;
        if queue.is_empty() {
            self.fresh_waiting.remove(cpu);
        }
        self.uncount(t);
        Some(t)
    }

    pub(super) fn pop_fair(&mut self, llc: u32) -> Option<TaskId> {
        let t = self.fair[llc as usize].pop()?;
        self.uncount(t);
        Some(t)
    }

    /// uncount(): what it waits in is that of the LLC whose clock it is on.
    fn uncount(&mut self, t: TaskId) {
        self.waiting -= 1;
        let ctx = &self.tasks[t as usize];
        self.llcs[ctx.llc as usize].weight_waiting_q10 -= ctx.weight_q10;
    }

    /// take_neighbours_fresh(): of the next `nr_neighbours` CPUs, on the ring of the LLC or, without that, of all CPUs, the
    /// first of `llc` with a fresh wake-up.
    pub(super) fn take_neighbours_fresh(
        &mut self,
        m: &mut Machine,
        cpu: CpuId,
        llc: u32,
        nr_neighbours: u32,
    ) -> Option<TaskId> {
        let range = m.topology.llc(llc);
        let per_llc = m.topology.per_llc();
        let counts = self.rules.llc_counts;
        if counts {
            m.look(1);
            self.fresh_waiting.first_in(range.clone())?;
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
        let found = self
            .fresh_waiting
            .first_in(after)
            .or_else(|| self.fresh_waiting.first_in(before))
            .map(|other| match counts && !range.contains(&cpu) {
                true => (other, other - range.start + 1),
                false => (other, (other + ring - cpu) % ring),
            })
            .filter(|&(_, steps)| steps <= nr);
        m.look(u64::from(found.map_or(nr, |(_, steps)| steps)));
        let (other, _) = found?;
        self.counters.neighbour_steals += 1;
        self.pop_fresh(other)
    }

    /// take_fresh().
    pub(super) fn take_fresh(&mut self, m: &mut Machine, cpu: CpuId, llc: u32) -> Option<TaskId> {
        let head_key = |cpu: CpuId| self.fresh[cpu as usize].head_key();
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
                2
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
                    .or_else(|| self.pop_fair(victim));
                if found.is_some() {
                    self.counters.llc_steals += 1;
                    return found;
                }
            }
        }
        None
    }
}
