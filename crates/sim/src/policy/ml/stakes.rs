//! The rule `much_shorter`: who waits for whom, where it is known for how long bursts of their kinds run.

use scx_ml::kernel::bpf::intf::{self, forecast, stake};
use scx_ml::kernel::native;

use super::Ml;
use super::state::{FAIR, TICK, clock_ns};
use crate::machine::{Machine, TaskId};
use crate::policy::Pick;
use crate::topology::CpuId;

impl Ml {
    /// What the moving average says of the burst that begins, which the base policy keeps, too.
    pub(super) fn expect(&mut self, m: &Machine, t: TaskId) {
        let history = &mut self.histories[t as usize];
        history.begin(m.task(t).waker);
        let average = history.average(0);
        let average = average.map_or(forecast::default(), |a| a.forecast());
        let expected_ns = match self.rules.much_shorter {
            true => native::policy_expected_ns(&average),
            false => 0,
        };
        let (kind, stretch) = (history.kind(), self.rules.stretch);
        let ctx = self.ctx_mut(t);
        (ctx.expected_ns, ctx.err_kind_q8) = (expected_ns, average.err_q8);
        let (stretch_q8, stretches) = (ctx.stretch_q8[kind], ctx.stretches[kind]);
        ctx.stretched_ns = match expected_ns > 0 && stretch {
            true => native::policy_stretched_ns(&average, stretch_q8, stretches),
            false => 0,
        };
    }

    /// note_stretch().
    pub(super) fn note_stretch(&mut self, t: TaskId, burst_ns: u64) {
        let kind = self.histories[t as usize].kind();
        let first_quantum_ns = self.pp.first_quantum_ns;
        let ctx = self.ctx_mut(t);
        if burst_ns <= first_quantum_ns || !native::policy_outlives(burst_ns, ctx.expected_ns) {
            return;
        }
        let log2_q16 = |ns: u64| native::log2_q16(ns) as i32;
        let ratio_q8 = (log2_q16(burst_ns) - log2_q16(ctx.expected_ns)) >> 8;
        let (stretch_q8, stretches) = (&mut ctx.stretch_q8[kind], &mut ctx.stretches[kind]);
        *stretch_q8 = native::policy_stretch_q8(*stretch_q8, *stretches, ratio_q8);
        *stretches = (*stretches + 1).min(255);
    }

    fn stake(&self, m: &Machine, t: TaskId) -> stake {
        stake {
            expected_ns: self.ctx(t).expected_ns,
            stretched_ns: self.ctx(t).stretched_ns,
            burst_ns: m.burst_used_ns(t),
        }
    }

    /// need_of(): what a task is expected to need still, ns; 0: not known.
    fn need_ns(&self, m: &Machine, t: TaskId) -> u64 {
        native::policy_rest_ns(&self.stake(m, t))
    }

    /// Time until what runs on a CPU makes room for one of its fresh lane, or that is about to be queued there.
    pub(super) fn room_for_ns(
        &self,
        m: &Machine,
        cpu: CpuId,
        waits: TaskId,
        inv_weight_q16: u64,
        occasion: u32,
    ) -> u64 {
        native::policy_room_in_ns(
            &self.pp,
            &self.cpus[cpu as usize].runs,
            self.occasion(occasion),
            inv_weight_q16,
            self.need_ns(m, waits),
            clock_ns(m),
        )
    }

    /// Whether a burst goes before those who wait for it.
    pub(super) fn carries_on(&self, m: &Machine, t: TaskId, llc: u32) -> bool {
        let ctx = self.ctx(t);
        let used_ns = m.exec_ns(t) - ctx.exec_at_run_ns;
        let vruntime = ctx.vruntime + native::policy_virtual_ns(used_ns, ctx.inv_weight_q16);
        let ahead = native::policy_vdiff(vruntime, self.llcs[llc as usize].vclock);
        let heavy_inv_q16 = self.cpus[m.task(t).cpu as usize].runs.heavy_inv_q16;
        let lighter = native::policy_is_lighter(ctx.inv_weight_q16, heavy_inv_q16);
        native::policy_carries_on(
            &self.stake(m, t),
            ahead,
            ctx.carried_max(),
            ctx.yielded || lighter,
        )
    }

    /// serve_carried(): what goes on before those of the fresh lane who would wait for its end: what ran, or the first of the
    /// near lane, if that was cut.
    pub(super) fn serve_carried(
        &mut self,
        m: &mut Machine,
        cpu: CpuId,
        prev: Option<TaskId>,
        per_cpu: u32,
    ) -> Option<Pick> {
        let llc = m.topology.llc_of(cpu);
        let first_ns = self.next_fresh(m, cpu).map(|t| self.need_ns(m, t))?;
        if let Some(prev) = prev {
            let prev_ns = self.need_ns(m, prev);
            if native::policy_waits_for(first_ns, prev_ns) {
                if let Some(t) = self.take_shorter(m, cpu, prev_ns) {
                    return Some(Pick::Run(t));
                }
                if self.carries_on(m, prev, llc) {
                    self.ctx_mut(prev).owes = true;
                    return Some(self.keep_running(m, prev, per_cpu));
                }
            }
        }
        let (cut, _) = self.near.of(cpu).head()?;
        let cut_ns = self.need_ns(m, cut);
        let waits = prev.is_some_and(|p| native::policy_waits_for(cut_ns, self.need_ns(m, p)));
        if !self.ctx(cut).carries
            || !native::policy_waits_for(first_ns, cut_ns)
            || waits
            || !self.carries_on(m, cut, llc)
        {
            return None;
        }
        if let Some(t) = self.take_shorter(m, cpu, cut_ns) {
            return Some(Pick::Run(t));
        }
        self.ctx_mut(cut).owes = true;
        self.pop_near(cpu).map(Pick::Run)
    }

    /// find_shorter().
    pub(super) fn shorter(&self, m: &Machine, cpu: CpuId, rest_ns: u64) -> Option<TaskId> {
        if !self.rules.overtake {
            return None;
        }
        let ends_before = |t| !native::policy_waits_for(self.need_ns(m, t), rest_ns);
        self.fresh
            .of(cpu)
            .find(intf::POLICY_SHORTER_MAX as usize, ends_before)
    }

    /// serve_shorter().
    fn take_shorter(&mut self, m: &Machine, cpu: CpuId, rest_ns: u64) -> Option<TaskId> {
        let t = self.shorter(m, cpu, rest_ns)?;
        self.fresh.remove(cpu, t);
        self.uncount(t);
        Some(t)
    }

    /// makes_room_for_fresh(): `t` runs on the CPU.
    pub(super) fn makes_room_for_fresh(&self, m: &Machine, cpu: CpuId, t: TaskId) -> bool {
        let Some(first) = self.next_fresh(m, cpu) else {
            return false;
        };
        self.room_for_ns(m, cpu, first, 0, TICK) == 0
            || self
                .shorter(m, cpu, self.need_ns(m, t))
                .is_some_and(|waits| self.room_for_ns(m, cpu, waits, 0, TICK) == 0)
    }

    /// Whom take_fresh() would take.
    pub(super) fn next_fresh(&self, m: &Machine, cpu: CpuId) -> Option<TaskId> {
        let next = self.neighbour(m, cpu);
        let (own, other) = (self.fresh.of(cpu), self.fresh.of(next));
        let other_first = next != cpu
            && (own.is_empty() || native::policy_neighbour_first(own.head_key(), other.head_key()));
        let lane = if other_first { other } else { own };
        lane.head().map(|(t, _)| t)
    }

    /// How far behind its wake-up a task stands in the fresh lane by this rule.
    pub(super) fn long_delay_ns(&self, m: &Machine, t: TaskId) -> u64 {
        match self.rules.much_shorter && m.burst_used_ns(t) == 0 {
            true => {
                let ctx = self.ctx(t);
                native::policy_long_delay_ns(&self.pp, ctx.expected_ns, ctx.err_kind_q8)
            }
            false => 0,
        }
    }

    /// Whether a task of the fair lane that is queued anew was cut, carries on, and waits at its CPU: somebody fresh
    /// waits there, or nobody in the LLC's lane.
    pub(super) fn is_carried(&self, m: &Machine, t: TaskId, lane: u32) -> bool {
        let cpu = m.task(t).cpu;
        let llc = m.topology.llc_of(cpu);
        lane == FAIR
            && m.burst_used_ns(t) > 0
            && self.carries_on(m, t, llc)
            && (self.fair[llc as usize].is_empty() || self.next_fresh(m, cpu).is_some())
    }
}
