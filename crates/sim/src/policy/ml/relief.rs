//! Whom a CPU looks after beside its own lanes: `relief.bpf.h`.

use scx_ml::kernel::bpf::intf::{self, fair_load};
use scx_ml::kernel::native;

use super::Ml;
use super::queues::{Dsq, Lanes};
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
    pub(super) fn fair_is_behind(&self, m: &Machine, cpu: CpuId, llc: u32) -> bool {
        let lanes = [&self.fair[llc as usize], self.near.of(cpu)];
        self.rules.relief
            && lanes
                .iter()
                .any(|lane| self.is_forgotten(m, lane.head(), FAIR))
    }

    /// relieve_lanes(): of these CPUs, in this order.
    fn relieve_lanes(
        &mut self,
        m: &mut Machine,
        cpus: impl Iterator<Item = CpuId>,
    ) -> Option<TaskId> {
        for other in cpus {
            m.look(1);
            if self.is_forgotten(m, self.fresh.of(other).head(), FRESH) {
                self.counters.reliefs += 1;
                return self.pop_fresh(other);
            }
            if self.is_forgotten(m, self.near.of(other).head(), FAIR) {
                self.counters.reliefs += 1;
                return self.pop_near(other);
            }
        }
        None
    }

    /// relieve_last(): whoever is found is put before the heads of both fair lanes that the CPU serves. In one of its own,
    /// where it may be alone, it would stay behind the other.
    fn relieve_last(&mut self, m: &Machine, first_key: u64, lane: &mut Dsq) {
        let last_max = intf::POLICY_LAST_MAX as usize;
        let is_stuck = |t| native::policy_is_stuck(false, self.waits_ns(m, t));
        let found = lane.put_before(first_key, last_max, is_stuck);
        self.counters.reliefs += u64::from(found);
    }

    /// should_even().
    fn should_even(&mut self, m: &Machine, here: u32, there: u32) -> bool {
        let waits = |llc: u32| fair_load {
            nr_waiting: self.fair[llc as usize].len() + self.llcs[llc as usize].nr_near,
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
        if !self.should_even(m, llc, victim) {
            return None;
        }
        let t = self.take_fair_of(m, cpu, victim)?;
        self.counters.evenings += 1;
        Some(t)
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
        let first_key = |ml: &Self| {
            let near_key = ml.near.of(cpu).head_key();
            near_key.min(ml.fair[llc as usize].head_key())
        };
        if !self.fair[llc as usize].is_empty() && self.claim_last_look(m, llc) {
            let first_key = first_key(self);
            let mut lane = std::mem::take(&mut self.fair[llc as usize]);
            self.relieve_last(m, first_key, &mut lane);
            self.fair[llc as usize] = lane;
        }
        if !self.near.of(cpu).is_empty() {
            let first_key = first_key(self);
            let mut lane = self.near.take(cpu);
            self.relieve_last(m, first_key, &mut lane);
            self.near.put_back(cpu, lane);
        }
        let cpus = m.topology.llc(llc);
        let wait_in = |lanes: &Lanes| lanes.waiting.first_in(cpus.clone()).is_some();
        // Of two, each is the other's neighbour.
        if wait_in(&self.near) || (cpus.len() > 2 && wait_in(&self.fresh)) {
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
