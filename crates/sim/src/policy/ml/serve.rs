//! What a CPU runs next: ops.dispatch and `serve.bpf.h`.

use scx_ml::kernel::bpf::intf::{self, serving};
use scx_ml::kernel::native;

use super::Ml;
use super::queues::Dsq;
use super::state::{FAIR, TICK, clock_ns};
use crate::machine::{Machine, TaskId};
use crate::policy::Pick;
use crate::topology::CpuId;

impl Ml {
    /// running_key(): vruntime moves when it stops; the key is that of now.
    fn running_key(&self, m: &Machine, t: TaskId) -> u64 {
        let ctx = self.ctx(t);
        let used_ns = m.exec_ns(t) - ctx.exec_at_run_ns
            + native::policy_yields_ns(self.pp.first_quantum_ns, ctx.yields);
        let vused = native::policy_virtual_ns(used_ns, ctx.inv_weight_q16);
        self.fair_key(m, t, ctx.vruntime + vused)
    }

    /// makes_room_by_clock(), for the first of a fair lane.
    pub(super) fn makes_room_by_clock(&self, m: &Machine, t: TaskId, lane: &Dsq) -> bool {
        let Some((first, first_key)) = lane.head() else {
            return false;
        };
        native::policy_yields_at_tick(
            &self.pp,
            self.ctx(t).lane,
            m.burst_used_ns(t),
            self.running_key(m, t),
            m.burst_used_ns(first),
            first_key,
        )
    }

    /// Whom take_paced() would take.
    fn paced_who_is_due(&self, m: &Machine, cpu: CpuId) -> Option<TaskId> {
        let due = |t: TaskId| self.ctx(t).paced && clock_ns(m) >= self.ctx(t).due_ns;
        self.near.of(cpu).find(intf::POLICY_PACED_MAX as usize, due)
    }

    /// makes_room_for_paced().
    pub(super) fn makes_room_for_paced(&self, m: &Machine, cpu: CpuId) -> bool {
        self.paced_who_is_due(m, cpu)
            .is_some_and(|t| self.room_for_ns(m, cpu, t, 0, TICK) == 0)
    }

    /// prev_is_next(). The engine accounts `prev` before it asks, as the kernel does.
    fn prev_is_next(&self, m: &Machine, prev: TaskId, cpu: CpuId, llc: u32) -> bool {
        let (shared, near) = (&self.fair[llc as usize], self.near.of(cpu));
        let key = self.running_key(m, prev);
        native::policy_goes_on(key, shared.head_key(), near.head_key())
    }

    /// keep_running().
    pub(super) fn keep_running(&mut self, m: &mut Machine, prev: TaskId, nr_waiting: u32) -> Pick {
        self.counters.kept_running += 1;
        self.ctx_mut(prev).lane = FAIR;
        self.ctx_mut(prev).yielded = false;
        self.grant_slice(m, prev, FAIR, nr_waiting);
        Pick::Keep
    }

    /// ops.dispatch.
    pub(super) fn dispatch(&mut self, m: &mut Machine, cpu: CpuId, prev: Option<TaskId>) -> Pick {
        let llc = m.topology.llc_of(cpu);
        let nr_fair = self.fair[llc as usize].len();
        let nr_near = self.near.of(cpu).len();
        let nr_here = nr_near + self.fresh.of(cpu).len();
        let per_cpu = native::policy_per_cpu(nr_fair, m.topology.per_llc()) + nr_here;
        self.cpus[cpu as usize].nr_waiting = nr_fair + nr_here;
        let carries_on = prev.is_some_and(|prev| self.carries_on(m, prev, llc));
        if !carries_on && let Some(t) = self.relieve_others(m, cpu, llc) {
            return Pick::Run(t);
        }
        let fair_waits = self.waits_by_clock(cpu, llc);
        let c = &mut self.cpus[cpu as usize];
        if !fair_waits {
            c.fair_turn_ns = clock_ns(m);
            c.fair_behind = false;
        }
        let overdue = native::policy_fair_overdue(
            self.pp.fair_interval_ns,
            c.fair_turn_ns,
            c.fair_behind,
            clock_ns(m),
        );
        if overdue {
            self.cpus[cpu as usize].fair_behind = self.fair_is_behind(m, cpu, llc);
        }
        let known = serving {
            fair_waits: fair_waits.into(),
            overdue: overdue.into(),
            paced_due: self.paced_who_is_due(m, cpu).is_some().into(),
            prev_runs: prev.is_some().into(),
            prev_yields: (nr_near > 0 && prev.is_some_and(|t| self.ctx(t).yielded)).into(),
            ..Default::default()
        };
        (0..intf::policy_serve_NR_SERVE)
            .filter(|&step| native::policy_serves(&known, step))
            .find_map(|step| self.serve(m, cpu, prev, step, overdue, per_cpu))
            .unwrap_or(Pick::Idle)
    }

    /// serve(): a step of policy_serve.
    fn serve(
        &mut self,
        m: &mut Machine,
        cpu: CpuId,
        prev: Option<TaskId>,
        step: u32,
        overdue: bool,
        per_cpu: u32,
    ) -> Option<Pick> {
        let llc = m.topology.llc_of(cpu);
        match step {
            intf::policy_serve_SERVE_CARRIED => self.serve_carried(m, cpu, prev, per_cpu),
            intf::policy_serve_SERVE_FRESH | intf::policy_serve_SERVE_FRESH_AFTER_ALL => {
                self.take_fresh(m, cpu, llc).map(Pick::Run)
            }
            intf::policy_serve_SERVE_PACED => {
                let t = self.paced_who_is_due(m, cpu)?;
                self.counters.paced_turns += 1;
                self.near.remove(cpu, t);
                self.left_near(t);
                Some(Pick::Run(t))
            }
            intf::policy_serve_SERVE_PREV_BY_KEY => {
                let prev = prev.filter(|&prev| self.prev_is_next(m, prev, cpu, llc))?;
                self.cpus[cpu as usize].fair_turn_ns = clock_ns(m);
                Some(self.keep_running(m, prev, per_cpu))
            }
            intf::policy_serve_SERVE_FAIR => {
                let t = self.take_earlier(cpu, llc)?;
                let c = &mut self.cpus[cpu as usize];
                c.fair_turn_ns = clock_ns(m);
                if overdue {
                    c.runs.protect_until_ns = clock_ns(m) + self.pp.first_quantum_ns;
                    self.counters.fair_turns += 1;
                }
                Some(Pick::Run(t))
            }
            intf::policy_serve_SERVE_PREV => prev.map(|prev| self.keep_running(m, prev, per_cpu)),
            intf::policy_serve_SERVE_FRESH_OF_LLC => {
                let cpus = m.topology.cpus();
                self.take_neighbours_fresh(m, cpu, llc, cpus).map(Pick::Run)
            }
            intf::policy_serve_SERVE_NEAR_OF_LLC => {
                self.take_neighbours_near(m, cpu, llc).map(Pick::Run)
            }
            intf::policy_serve_SERVE_OTHER_LLCS => self.steal_from_llcs(m, cpu, llc).map(Pick::Run),
            _ => None,
        }
    }
}
