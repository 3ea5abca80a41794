//! The rule `much_shorter`: who waits for whom, where it is known for how long bursts of their kinds run.

use scx_ml::kernel::bpf::intf::{self, forecast, stake};
use scx_ml::kernel::native;

use super::Ml;
use super::state::clock_ns;
use crate::machine::{Machine, TaskId};
use crate::policy::Pick;
use crate::topology::CpuId;

impl Ml {
    /// What the moving average says of the burst that begins, which the base policy keeps, too.
    pub(super) fn expect(&mut self, m: &Machine, t: TaskId) {
        let history = &mut self.histories[t as usize];
        history.begin(m.task(t).waker);
        let average = history.average();
        self.ctx_mut(t).average = average.map_or(forecast::default(), |a| a.forecast());
    }

    fn stake(&self, m: &Machine, t: TaskId) -> stake {
        let expected_ns = match self.rules.much_shorter {
            true => native::policy_expected_ns(&self.ctx(t).average),
            false => 0,
        };
        stake {
            expected_ns,
            burst_ns: m.burst_used_ns(t),
        }
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
        let runs = &self.cpus[cpu as usize].runs;
        let there = m
            .current(cpu)
            .map_or(stake::default(), |t| self.stake(m, t));
        native::policy_room_for_ns(
            &self.pp,
            runs,
            self.occasion(occasion),
            inv_weight_q16,
            &self.stake(m, waits),
            &there,
            clock_ns(m),
        )
    }

    /// Whether a burst goes before those who wait for it.
    pub(super) fn carries_on(&self, m: &Machine, t: TaskId, llc: u32) -> bool {
        let ctx = self.ctx(t);
        let used_ns = m.exec_ns(t) - ctx.exec_at_run_ns;
        let vlag = native::policy_virtual_ns(self.pp.lag_ns, ctx.inv_weight_q16);
        let vruntime = ctx.vruntime + native::policy_virtual_ns(used_ns, ctx.inv_weight_q16);
        let ahead = native::policy_vdiff(vruntime, self.llcs[llc as usize].vclock);
        native::policy_carries_on(&self.stake(m, t), ahead, vlag, ctx.yielded)
    }

    /// What carries on on a CPU before its fresh lane is served: what ran, or the first of the near lane, if that was cut.
    pub(super) fn serve_carried(
        &mut self,
        m: &mut Machine,
        cpu: CpuId,
        prev: Option<TaskId>,
        per_cpu: u32,
    ) -> Option<Pick> {
        if !self.rules.much_shorter {
            return None;
        }
        let llc = m.topology.llc_of(cpu);
        let first = self.next_fresh(m, cpu).map(|t| self.stake(m, t));
        let before = |t: TaskId| {
            let of = self.stake(m, t);
            first.is_none_or(|first| native::policy_waits_for(&first, &of))
        };
        let goes = |t: &TaskId| self.carries_on(m, *t, llc) && before(*t);
        if let Some(prev) = prev.filter(goes) {
            return Some(self.keep_running(m, prev, per_cpu));
        }
        let (cut, _) = self.near.of(cpu).head()?;
        let waits =
            prev.is_some_and(|p| native::policy_waits_for(&self.stake(m, cut), &self.stake(m, p)));
        if !self.ctx(cut).carries_on || waits || !goes(&cut) {
            return None;
        }
        self.pop_near(cpu).map(Pick::Run)
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
            true => native::policy_long_delay_ns(&self.pp, &self.ctx(t).average),
            false => 0,
        }
    }

    /// Lane and queue of a task that is queued anew: who carries on waits at its CPU, as fresh as it was.
    pub(super) fn place_of_cut(
        &mut self,
        m: &Machine,
        t: TaskId,
        llc: u32,
        lane: u32,
        queue: u32,
    ) -> (u32, u32) {
        let fresh = queue == intf::policy_queue_QUEUE_FRESH;
        let carries_on = !fresh && m.burst_used_ns(t) > 0 && self.carries_on(m, t, llc);
        self.ctx_mut(t).carries_on = carries_on;
        match carries_on {
            true => (intf::policy_lane_LANE_FRESH, intf::policy_queue_QUEUE_NEAR),
            false => (lane, queue),
        }
    }
}
