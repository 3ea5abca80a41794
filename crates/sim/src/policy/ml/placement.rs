//! Which CPU a fresh wake-up may preempt, and from where a CPU takes work: the searches of `queues.bpf.h` and
//! `preempt.bpf.h`.

use scx_ml::kernel::native;

use super::Ml;
use crate::machine::{Machine, TaskId};
use crate::topology::CpuId;

/// CPUs that take_fresh() of queues.bpf.h looks at beside its own, and PREEMPT_SCAN_MAX of preempt.bpf.h.
const NEIGHBOURS_BUSY: u32 = 1;
const PREEMPT_SCAN_MAX: u32 = 4;

impl Ml {
    /// When what runs on a CPU can be preempted at the earliest, or None if nothing runs there.
    fn preemptible_at_ns(&self, cpu: CpuId) -> Option<u64> {
        let c = &self.cpus[cpu as usize];
        let start_ns = c.run_start_ns.checked_sub(1)?;
        Some(native::policy_preemptible_at_ns(
            &self.pp,
            start_ns,
            c.burst_before_ns,
            c.quantum_ns,
            c.protect_until_ns,
        ))
    }

    /// preemptible().
    pub(super) fn preemptible(&self, m: &Machine, cpu: CpuId) -> bool {
        self.preemptible_at_ns(cpu)
            .is_some_and(|at_ns| m.now_ns >= at_ns)
    }

    /// find_preemptible().
    pub(super) fn find_preemptible(&self, m: &mut Machine, cpu: CpuId) -> Option<CpuId> {
        if self.preemptible(m, cpu) {
            return Some(cpu);
        }
        let llc = m.topology.llc_of(cpu);
        // The ring of all CPUs, or that of the LLC.
        let (first, nr) = if self.rules.llc_counts {
            (m.topology.llc(llc).start, m.topology.per_llc())
        } else {
            (0, m.topology.cpus())
        };
        for i in 1..=PREEMPT_SCAN_MAX.min(nr - 1) {
            m.counts.looks += 1;
            let other = first + (cpu - first + i) % nr;
            if m.topology.llc_of(other) == llc && self.preemptible(m, other) {
                return Some(other);
            }
        }
        None
    }

    /// set_quantum_timer(), if there is one.
    pub(super) fn set_quantum_timer(&self, m: &mut Machine, cpu: CpuId) {
        if !self.rules.timer {
            return;
        }
        if let Some(at_ns) = self.preemptible_at_ns(cpu) {
            let c = &mut m.cpus[cpu as usize];
            if at_ns < c.alarm_ns {
                c.alarm_ns = at_ns;
                m.rearm(cpu);
            }
        }
    }

    fn pop_fresh(&mut self, cpu: CpuId) -> Option<TaskId> {
        let queue = &mut self.fresh[cpu as usize];
        let t = queue.pop()?;
        if queue.is_empty() {
            self.fresh_waiting.remove(cpu);
        }
        self.waiting -= 1;
        Some(t)
    }

    pub(super) fn pop_fair(&mut self, llc: u32) -> Option<TaskId> {
        let t = self.fair[llc as usize].pop()?;
        self.waiting -= 1;
        Some(t)
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
            m.counts.looks += 1;
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
        m.counts.looks += u64::from(found.map_or(nr, |(_, steps)| steps));
        let (other, _) = found?;
        self.counters.neighbour_steals += 1;
        self.pop_fresh(other)
    }

    /// take_fresh().
    pub(super) fn take_fresh(&mut self, m: &mut Machine, cpu: CpuId, llc: u32) -> Option<TaskId> {
        if let Some(t) = self.pop_fresh(cpu) {
            return Some(t);
        }
        self.take_neighbours_fresh(m, cpu, llc, NEIGHBOURS_BUSY)
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
            m.counts.looks += u64::from(llcs - 1) * per_llc;
            return None;
        }
        for i in 1..llcs {
            let victim = (llc + i) % llcs;
            m.counts.looks += 1;
            let found = self
                .take_neighbours_fresh(m, cpu, victim, cpus)
                .or_else(|| self.pop_fair(victim));
            if found.is_some() {
                self.counters.llc_steals += 1;
                return found;
            }
        }
        None
    }
}
