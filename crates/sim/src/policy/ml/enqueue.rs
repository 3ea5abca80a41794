//! Where a task waits: ops.enqueue.

use scx_ml::kernel::bpf::intf;
use scx_ml::kernel::native;

use super::Ml;
use super::rules::FairOrder;
use super::state::{FRESH, clock_ns};
use crate::machine::{Machine, TaskId};

impl Ml {
    /// fair_key(), of a task with this virtual run time.
    pub(super) fn fair_key(&self, m: &Machine, t: TaskId, vruntime: u64) -> u64 {
        let ctx = self.ctx(t);
        let used_ns = m.burst_used_ns(t);
        let (pred_q16, margin_q16) = (ctx.steer_q16, ctx.steer_margin_q16);
        let key = |burst_ns, sure| {
            let weight = ctx.inv_weight_q16;
            native::policy_fair_key(
                &self.pp, vruntime, weight, burst_ns, sure, pred_q16, margin_q16,
            )
        };
        match self.rules.fair_order {
            FairOrder::Kept => key(used_ns, ctx.sure),
            // As if it had used nothing, the deadline is where the task stands now.
            FairOrder::Moving => {
                let left_ns = native::policy_quantile_left_ns(pred_q16, margin_q16, used_ns);
                key(0, ctx.sure && left_ns > 0)
            }
        }
    }

    /// reach_key().
    fn reach_key(&mut self, m: &Machine, llc: u32, key: u64, nr_waiting: u32) -> u64 {
        let to = &mut self.llcs[llc as usize];
        if self.rules.measured_reach {
            native::policy_look_at_clock(&mut to.pace, to.vclock, clock_ns(m));
        }
        native::policy_measured_reach(key, to.vclock, nr_waiting, to.pace.reach)
    }

    /// ops.enqueue. `woken`: ops.select_cpu has just found no idle CPU.
    pub(super) fn enqueue(&mut self, m: &mut Machine, t: TaskId, woken: bool) {
        let cpu = m.task(t).cpu;
        let llc = m.topology.llc_of(cpu);
        self.join_llc(m, t, llc);
        let ctx = self.ctx(t);
        let vlag = native::policy_virtual_ns(self.pp.lag_ns, ctx.inv_weight_q16);
        let ahead = native::policy_vdiff(ctx.vruntime, self.llcs[llc as usize].vclock);
        let used_ns = m.burst_used_ns(t);
        let earned = native::policy_has_earned(
            &self.pp,
            ctx.quantum_ns,
            ahead,
            ctx.inv_weight_q16,
            self.cpus[cpu as usize].runs.heavy_inv_q16,
        );
        // waits_behind().
        let behind = ctx.yielded && self.waits_by_clock(cpu, llc);
        let (waits, due) = (
            behind || !earned,
            self.rules.pace && clock_ns(m) >= ctx.due_ns,
        );
        let lane = native::policy_lane(ctx.quantum_ns, used_ns, ahead, vlag, waits, due);
        let paced =
            self.rules.pace && native::policy_is_paced(&self.pp, lane, used_ns, ahead, vlag, waits);
        let over = paced && used_ns < ctx.quantum_ns;
        let carries = !waits && self.is_carried(m, t, lane);
        let near =
            native::policy_stays_near(ctx.quantum_ns, used_ns, ctx.yielded, paced || carries);
        let queue = native::policy_queue(lane, false, near, false);
        let lane = if over { FRESH } else { lane };
        let ctx = self.ctx_mut(t);
        (ctx.paced, ctx.carries) = (paced, carries);
        self.counters.queued_paced += u64::from(paced);
        let ctx = self.ctx(t);
        let (mut vruntime, weight) = (ctx.vruntime, ctx.inv_weight_q16);
        if ctx.yielded {
            let vclock = self.llcs[llc as usize].vclock;
            vruntime = native::policy_yield_vruntime(&self.pp, vruntime, vclock, weight);
        }
        self.ctx_mut(t).lane = lane;
        let nr_waiting =
            native::policy_per_cpu(self.cpus[cpu as usize].nr_waiting, m.topology.per_llc());
        self.grant_slice(m, t, lane, nr_waiting);

        let mut victim = None;
        self.llcs[llc as usize].weight_waiting_q10 += self.ctx(t).weight_q10;
        if queue == intf::policy_queue_QUEUE_FRESH {
            victim = self.find_place(m, t, cpu, Self::occasion_of(m, t, woken));
            let ctx = self.ctx(t);
            let since_ns = native::policy_fresh_since_ns(ctx.wake_ns, m.now_ns, ctx.yielded);
            let delay_ns = native::policy_fresh_delay_ns(&self.pp, ctx.steering, ctx.steer_q16);
            let delay_ns = delay_ns.max(self.long_delay_ns(m, t));
            self.counters.queued_fresh += 1;
            self.fresh.insert(cpu, t, since_ns + delay_ns);
        } else {
            let key = self.fair_key(m, t, vruntime);
            let key = self.reach_key(m, llc, key, nr_waiting);
            self.counters.queued_fair += 1;
            if queue == intf::policy_queue_QUEUE_NEAR {
                self.counters.queued_near += 1;
                self.llcs[llc as usize].nr_near += 1;
                self.near.insert(cpu, t, key);
            } else {
                self.fair[llc as usize].insert(t, key);
            }
        }
        self.waiting += 1;
        self.ctx_mut(t).yielded = false;

        // ops.select_cpu looked for an idle CPU at the same moment; only a task that did not wake may find one now.
        let idle = if woken { None } else { m.claim_idle(cpu) };
        match (
            native::policy_call(idle.is_some(), victim.is_some()),
            idle.or(victim),
        ) {
            (intf::policy_call_CALL_IDLE, Some(idle)) => m.resched(idle),
            (intf::policy_call_CALL_VICTIM, Some(victim)) => {
                self.cpus[victim as usize].runs.leaves = 1;
                self.counters.preempt_kicks += 1;
                m.resched(victim);
            }
            _ => {}
        }
    }
}
