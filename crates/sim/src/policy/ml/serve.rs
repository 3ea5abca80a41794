//! What a CPU runs next: ops.dispatch and `serve.bpf.h`.

use scx_ml::kernel::bpf::intf::{self, serving};
use scx_ml::kernel::native;

use super::Ml;
use super::state::{FAIR, NO_KEY, clock_ns};
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

    /// yields_to_fair().
    pub(super) fn yields_to_fair(&self, m: &Machine, t: TaskId, llc: u32) -> bool {
        let Some((first, first_key)) = self.fair[llc as usize].head() else {
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

    /// prev_is_next(). The engine accounts `prev` before it asks, as the kernel does.
    fn prev_is_next(&self, m: &Machine, prev: TaskId, llc: u32) -> bool {
        let shared_key = self.fair[llc as usize].head_key();
        native::policy_goes_on(self.running_key(m, prev), shared_key, NO_KEY)
    }

    /// keep_running().
    fn keep_running(&mut self, m: &mut Machine, prev: TaskId, nr_waiting: u32) -> Pick {
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
        let nr_fresh = self.fresh[cpu as usize].len();
        let per_cpu = native::policy_per_cpu(nr_fair, m.topology.per_llc()) + nr_fresh;
        self.cpus[cpu as usize].nr_waiting = nr_fair + nr_fresh;
        if let Some(t) = self.relieve_others(m, cpu, llc) {
            return Pick::Run(t);
        }
        let c = &mut self.cpus[cpu as usize];
        if nr_fair == 0 {
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
            self.cpus[cpu as usize].fair_behind = self.fair_is_behind(m, llc);
        }
        let known = serving {
            fair_waits: (nr_fair > 0).into(),
            overdue: overdue.into(),
            prev_runs: prev.is_some().into(),
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
            intf::policy_serve_SERVE_FRESH | intf::policy_serve_SERVE_FRESH_AFTER_ALL => {
                self.take_fresh(m, cpu, llc).map(Pick::Run)
            }
            intf::policy_serve_SERVE_PREV_BY_KEY => {
                let prev = prev.filter(|&prev| self.prev_is_next(m, prev, llc))?;
                self.cpus[cpu as usize].fair_turn_ns = clock_ns(m);
                Some(self.keep_running(m, prev, per_cpu))
            }
            intf::policy_serve_SERVE_FAIR => {
                let t = self.pop_fair(llc)?;
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
            intf::policy_serve_SERVE_OTHER_LLCS => self.steal_from_llcs(m, cpu, llc).map(Pick::Run),
            _ => None,
        }
    }
}
