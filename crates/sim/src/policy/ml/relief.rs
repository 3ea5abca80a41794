//! Whom a CPU looks after beside its own lanes: `relief.bpf.h`.

use scx_ml::kernel::bpf::intf::{self, fair_load};
use scx_ml::kernel::native;

use super::Ml;
use super::state::{FAIR, FRESH, clock_ns};
use crate::machine::{Machine, TaskId};
use crate::topology::CpuId;

impl Ml {
    /// waits_ns().
    fn waits_ns(&self, m: &Machine, t: TaskId) -> u64 {
        match self.ctx(t).queued_ns {
            0 => 0,
            since_ns => clock_ns(m).saturating_sub(since_ns),
        }
    }

    /// Whether the first task of a lane has been waiting for too long: head_is_forgotten().
    fn is_forgotten(&self, m: &Machine, head: Option<(TaskId, u64)>, lane: u32) -> bool {
        head.is_some_and(|(t, _)| native::policy_is_forgotten(lane, self.waits_ns(m, t)))
    }

    /// fair_is_behind().
    pub(super) fn fair_is_behind(&self, m: &Machine, llc: u32) -> bool {
        self.rules.relief && self.is_forgotten(m, self.fair[llc as usize].head(), FAIR)
    }

    /// relieve_lanes(): of these CPUs, in this order.
    fn relieve_lanes(
        &mut self,
        m: &mut Machine,
        cpus: impl Iterator<Item = CpuId>,
    ) -> Option<TaskId> {
        for other in cpus {
            m.look(1);
            if self.is_forgotten(m, self.fresh[other as usize].head(), FRESH) {
                self.counters.reliefs += 1;
                return self.pop_fresh(other);
            }
        }
        None
    }

    /// relieve_last().
    fn relieve_last(&mut self, m: &Machine, llc: u32) {
        let mut lane = std::mem::take(&mut self.fair[llc as usize]);
        let last_max = intf::POLICY_LAST_MAX as usize;
        if lane.put_first(last_max, |t| {
            native::policy_is_stuck(false, self.waits_ns(m, t))
        }) {
            self.counters.reliefs += 1;
        }
        self.fair[llc as usize] = lane;
    }

    /// should_even().
    fn should_even(&mut self, m: &Machine, here: u32, there: u32) -> bool {
        let waits = |llc: u32| fair_load {
            nr_waiting: self.fair[llc as usize].len(),
            nr_cpus: m.topology.per_llc(),
            // Simulated machines have one.
            node: 0,
        };
        let since_ns = clock_ns(m) - self.llcs[here as usize].evened_ns;
        let evens = native::policy_evens(&waits(here), &waits(there), since_ns);
        if evens {
            self.llcs[here as usize].evened_ns = clock_ns(m);
        }
        evens
    }

    /// relieve_other_llc().
    fn relieve_other_llc(&mut self, m: &mut Machine, cpu: CpuId, llc: u32) -> Option<TaskId> {
        let nr_llcs = m.topology.llcs();
        let next = |llc| (llc + 1) % nr_llcs;
        let looked = &mut self.cpus[cpu as usize].looked_llc;
        *looked = next(*looked);
        if *looked == llc {
            *looked = next(*looked);
        }
        let victim = *looked;
        m.look(1);
        if let Some(t) = self.relieve_lanes(m, m.topology.llc(victim)) {
            return Some(t);
        }
        if self.is_forgotten(m, self.fair[victim as usize].head(), FAIR) {
            self.counters.reliefs += 1;
            return self.pop_fair(victim);
        }
        if !self.fair[victim as usize].is_empty() && self.should_even(m, llc, victim) {
            self.counters.evenings += 1;
            return self.pop_fair(victim);
        }
        None
    }

    /// claim_last_look().
    fn claim_last_look(&mut self, m: &Machine, llc: u32) -> bool {
        let looked_ns = &mut self.llcs[llc as usize].looked_last_ns;
        let due = native::policy_relief_due(self.pp.fair_interval_ns, *looked_ns, clock_ns(m));
        if due {
            *looked_ns = clock_ns(m);
        }
        due
    }

    /// relieve_others(): a task of others that `cpu` is to run now.
    pub(super) fn relieve_others(
        &mut self,
        m: &mut Machine,
        cpu: CpuId,
        llc: u32,
    ) -> Option<TaskId> {
        let looked_ns = self.cpus[cpu as usize].looked_ns;
        if !self.rules.relief
            || !native::policy_relief_due(self.pp.fair_interval_ns, looked_ns, clock_ns(m))
        {
            return None;
        }
        self.cpus[cpu as usize].looked_ns = clock_ns(m);
        if self.claim_last_look(m, llc) {
            self.relieve_last(m, llc);
        }
        let cpus = m.topology.llc(llc);
        // Of two, each is the other's neighbour.
        if cpus.len() > 2 && self.fresh_waiting.first_in(cpus.clone()).is_some() {
            let ring = (cpu + 1..cpus.end).chain(cpus.start..cpu);
            if let Some(t) = self.relieve_lanes(m, ring) {
                return Some(t);
            }
        }
        if m.topology.llcs() > 1 {
            self.relieve_other_llc(m, cpu, llc)
        } else {
            None
        }
    }
}
