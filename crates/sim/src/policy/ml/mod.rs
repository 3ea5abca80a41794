//! scx_ml itself: the structure of `main.bpf.c`, `queues.bpf.h`, `preempt.bpf.h` and `burst.bpf.h`, with every number
//! computed by the kernel's own `policy.h` and `model.h` through [`scx_ml::kernel::native`].
//!
//! Left out are pinned tasks, cgroups and other scheduling classes, which no workload here has. Loops over CPUs are done by
//! bit sets, but what the kernel's loops would have looked at is counted, so that the cost of a decision on a large
//! machine can be read off.

mod placement;
mod queues;
pub mod rules;

use scx_ml::kernel::bpf::intf::{self, policy_params};
use scx_ml::kernel::native;

use super::{Pick, Policy};
use crate::learn::{Predictor, Surroundings};
use crate::machine::{FOREVER_NS, Machine, State, TaskId};
use crate::topology::{CpuId, CpuSet};
use queues::Dsq;
use rules::{FairOrder, Rules};

const FRESH: u32 = intf::policy_lane_LANE_FRESH;
const FAIR: u32 = intf::policy_lane_LANE_FAIR;
const NONE: u32 = intf::policy_lane_LANE_NONE;

const INV_WEIGHT_ONE_Q16: u64 = intf::INV_WEIGHT_ONE_Q16 as u64;

/// Virtual clocks start here, so that a task behind one has a key above 0.
const VCLOCK_START: u64 = 1 << 60;

/// The parts of struct task_ctx that schedule.
#[derive(Debug, Clone)]
struct TaskCtx {
    vruntime: u64,
    inv_weight_q16: u64,
    llc: u32,
    lane: u32,
    exec_at_run_ns: u64,
    steering: bool,
    /// The prediction is sure: it may order.
    sure: bool,
    steer_q16: i32,
    steer_margin_q16: i32,
    /// Of the burst that runs.
    quantum_ns: u64,
    /// Surely long: its first quantum, if it has one, does not protect it.
    yields: bool,
}

/// struct cpu_ctx.
#[derive(Debug, Clone, Default)]
struct CpuCtx {
    /// 0: nothing runs here. Times are shifted by one, because the simulation begins at 0.
    run_start_ns: u64,
    burst_before_ns: u64,
    /// First quantum of the task that runs.
    quantum_ns: u64,
    protect_until_ns: u64,
    fair_turn_ns: u64,
    nr_waiting: u32,
}

/// What happened, as the kernel's counters tell.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    direct_idle: u64,
    queued_fresh: u64,
    queued_fair: u64,
    kept_running: u64,
    preempt_kicks: u64,
    quantum_preempts: u64,
    fair_turns: u64,
    fair_yields: u64,
    neighbour_steals: u64,
    llc_steals: u64,
    slices_steered: u64,
    sure_long: u64,
    own_quanta: u64,
}

/// See the module.
pub struct Ml {
    pp: policy_params,
    rules: Rules,
    predictor: Predictor,
    tasks: Vec<TaskCtx>,
    cpus: Vec<CpuCtx>,
    vclocks: Vec<u64>,
    fresh: Vec<Dsq>,
    fair: Vec<Dsq>,
    /// CPUs whose fresh lanes are not empty.
    fresh_waiting: CpuSet,
    /// Tasks in all queues.
    waiting: u32,
    counters: Counters,
}

/// a - b in virtual time (policy_vdiff()).
fn vdiff(a: u64, b: u64) -> i64 {
    a.wrapping_sub(b) as i64
}

impl Ml {
    pub fn new(m: &Machine, pp: policy_params, rules: Rules, predictor: Predictor) -> Self {
        let llcs = m.topology.llcs() as usize;
        let cpus = m.topology.cpus() as usize;
        Self {
            pp,
            rules,
            predictor,
            tasks: vec![],
            cpus: vec![CpuCtx::default(); cpus],
            vclocks: vec![VCLOCK_START; llcs],
            fresh: vec![Dsq::default(); cpus],
            fair: vec![Dsq::default(); llcs],
            fresh_waiting: CpuSet::empty(),
            waiting: 0,
            counters: Counters::default(),
        }
    }

    fn ctx(&self, t: TaskId) -> &TaskCtx {
        &self.tasks[t as usize]
    }

    fn ctx_mut(&mut self, t: TaskId) -> &mut TaskCtx {
        &mut self.tasks[t as usize]
    }

    /// begin_burst() and steer_burst().
    fn begin_burst(&mut self, m: &Machine, t: TaskId) {
        let cpu = m.task(t).cpu;
        let c = &self.cpus[cpu as usize];
        let around = Surroundings {
            nr_waiting: c.nr_waiting,
            cpu_load_ns: match c.run_start_ns {
                0 => 0,
                since => c.burst_before_ns + (m.now_ns + 1).saturating_sub(since),
            },
        };
        let steering = self.predictor.wake(m, t, &around);
        if self.rules.learned_quantum
            && let Some(quantum_ns) = self.predictor.first_quantum_ns()
        {
            self.pp.first_quantum_ns = quantum_ns;
        }
        let (pp, rules) = (self.pp, self.rules);
        let ctx = self.ctx_mut(t);
        ctx.steering = steering.is_some();
        ctx.sure = false;
        ctx.yields = false;
        ctx.quantum_ns = pp.first_quantum_ns;
        let Some(p) = steering else { return };
        ctx.steer_q16 = p.pred_q16;
        ctx.steer_margin_q16 = p.margin_q16;
        let err_q8 = if rules.task_trust { p.err_q8 } else { 0 };
        ctx.sure = native::policy_is_sure(p.margin_q16, err_q8);
        let sure_long =
            rules.sure_long && native::policy_sure_long(&pp, p.pred_q16, p.long_margin_q16, err_q8);
        let proven_long = sure_long && (p.long_proven || !rules.long_proof);
        ctx.yields = sure_long;
        // Without a rule of its own, a burst is taken for one whose prediction is not sure.
        let own = rules.own_quantum && ctx.sure;
        ctx.quantum_ns = native::policy_quantum_ns(&pp, own, p.pred_q16, p.margin_q16, proven_long);
        let longer = ctx.quantum_ns > pp.first_quantum_ns;
        self.counters.sure_long += u64::from(sure_long);
        self.counters.own_quanta += u64::from(longer);
    }

    /// join_llc().
    fn join_llc(&mut self, m: &Machine, t: TaskId, llc: u32) {
        let woken = m.burst_used_ns(t) == 0;
        let to = self.vclocks[llc as usize];
        let from = self.vclocks[self.ctx(t).llc as usize];
        let lag_ns = self.pp.lag_ns;
        let ctx = self.ctx_mut(t);
        if ctx.llc != llc {
            ctx.vruntime = ctx.vruntime.wrapping_add(to.wrapping_sub(from));
            ctx.llc = llc;
        }
        let vlag = native::policy_virtual_ns(lag_ns, ctx.inv_weight_q16);
        ctx.vruntime = native::policy_bound_vruntime(ctx.vruntime, to, vlag, woken);
    }

    /// grant_slice().
    fn grant_slice(&mut self, m: &mut Machine, t: TaskId, lane: u32, nr_waiting: u32) {
        let used_ns = m.burst_used_ns(t);
        let ctx = self.ctx(t);
        if ctx.steering {
            let left_ns =
                native::policy_quantile_left_ns(ctx.steer_q16, ctx.steer_margin_q16, used_ns);
            if left_ns > 0 {
                self.counters.slices_steered += 1;
                m.task_mut(t).slice_ns = native::policy_clamp_slice(&self.pp, left_ns);
                return;
            }
        }
        m.task_mut(t).slice_ns = native::policy_base_slice_ns(&self.pp, lane, nr_waiting);
    }

    /// waiting_per_cpu().
    fn waiting_per_cpu(m: &Machine, nr_waiting: u32) -> u32 {
        let recip = native::policy_recip_q16(m.topology.per_llc());
        ((u64::from(nr_waiting) * u64::from(recip)) >> 16) as u32
    }

    /// fair_key(), of a task with this virtual run time.
    fn fair_key(&self, m: &Machine, t: TaskId, vruntime: u64) -> u64 {
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

    /// ops.enqueue. `woken`: ops.select_cpu has just found no idle CPU.
    fn enqueue(&mut self, m: &mut Machine, t: TaskId, woken: bool) {
        let cpu = m.task(t).cpu;
        let llc = m.topology.llc_of(cpu);
        self.join_llc(m, t, llc);
        let ctx = self.ctx(t);
        let vlag = native::policy_virtual_ns(self.pp.lag_ns, ctx.inv_weight_q16);
        let ahead = vdiff(ctx.vruntime, self.vclocks[llc as usize]);
        let lane = native::policy_lane(ctx.quantum_ns, m.burst_used_ns(t), ahead, vlag);
        let vruntime = ctx.vruntime;
        self.ctx_mut(t).lane = lane;
        let nr_waiting = Self::waiting_per_cpu(m, self.cpus[cpu as usize].nr_waiting);
        self.grant_slice(m, t, lane, nr_waiting);

        let mut victim = None;
        if lane == FAIR {
            let vclock = self.vclocks[llc as usize];
            let key = native::policy_reach(self.fair_key(m, t, vruntime), vclock, nr_waiting);
            self.counters.queued_fair += 1;
            self.fair[llc as usize].insert(t, key);
        } else {
            victim = self.find_preemptible(m, cpu);
            let ctx = self.ctx(t);
            let key =
                m.now_ns + native::policy_fresh_delay_ns(&self.pp, ctx.steering, ctx.steer_q16);
            self.counters.queued_fresh += 1;
            let at = victim.unwrap_or(cpu);
            self.fresh[at as usize].insert(t, key);
            self.fresh_waiting.insert(at);
        }
        self.waiting += 1;

        // ops.select_cpu looked for an idle CPU at the same moment; only a task that did not wake may find one now.
        let idle = if woken { None } else { m.claim_idle(cpu) };
        if let Some(idle) = idle {
            m.resched(idle);
        } else if let Some(victim) = victim {
            self.counters.preempt_kicks += 1;
            m.resched(victim);
        } else if lane == FRESH {
            self.set_quantum_timer(m, cpu);
        }
    }

    /// running_key(): vruntime moves when it stops; the key is that of now.
    fn running_key(&self, m: &Machine, t: TaskId) -> u64 {
        let ctx = self.ctx(t);
        let used_ns = m.exec_ns(t) - ctx.exec_at_run_ns;
        let vused = native::policy_virtual_ns(used_ns, ctx.inv_weight_q16);
        self.fair_key(m, t, ctx.vruntime + vused)
    }

    /// yields_to_fair().
    fn yields_to_fair(&self, m: &Machine, t: TaskId, llc: u32) -> bool {
        let Some((first, first_key)) = self.fair[llc as usize].head() else {
            return false;
        };
        self.ctx(t).lane == FAIR
            && native::policy_yields_at_tick(
                &self.pp,
                m.burst_used_ns(t),
                self.running_key(m, t),
                m.burst_used_ns(first),
                first_key,
            )
    }

    /// prev_is_next(). The engine accounts `prev` before it asks, as the kernel does.
    fn prev_is_next(&self, m: &Machine, prev: TaskId, llc: u32) -> bool {
        let key = self.running_key(m, prev);
        let head = self.fair[llc as usize].head_key();
        head == u64::MAX || vdiff(key, head) < 0
    }

    /// keep_running().
    fn keep_running(&mut self, m: &mut Machine, prev: TaskId, nr_waiting: u32) -> Pick {
        self.counters.kept_running += 1;
        self.grant_slice(m, prev, FAIR, nr_waiting);
        Pick::Keep
    }

    /// ops.dispatch.
    fn dispatch(&mut self, m: &mut Machine, cpu: CpuId, prev: Option<TaskId>) -> Pick {
        let llc = m.topology.llc_of(cpu);
        let now_ns = m.now_ns;
        let nr_fair = self.fair[llc as usize].len();
        let nr_fresh = self.fresh[cpu as usize].len();
        let per_cpu = Self::waiting_per_cpu(m, nr_fair) + nr_fresh;
        let (first_quantum_ns, fair_interval_ns) =
            (self.pp.first_quantum_ns, self.pp.fair_interval_ns);
        let c = &mut self.cpus[cpu as usize];
        c.nr_waiting = nr_fair + nr_fresh;
        if nr_fair == 0 {
            c.fair_turn_ns = now_ns;
        }
        let overdue = now_ns - c.fair_turn_ns > fair_interval_ns;

        if !overdue && let Some(t) = self.take_fresh(m, cpu, llc) {
            return Pick::Run(t);
        }
        if nr_fair > 0 {
            if let Some(prev) = prev
                && self.prev_is_next(m, prev, llc)
            {
                self.cpus[cpu as usize].fair_turn_ns = now_ns;
                return self.keep_running(m, prev, per_cpu);
            }
            if let Some(t) = self.pop_fair(llc) {
                let c = &mut self.cpus[cpu as usize];
                c.fair_turn_ns = now_ns;
                if overdue {
                    c.protect_until_ns = now_ns + first_quantum_ns;
                    self.counters.fair_turns += 1;
                }
                return Pick::Run(t);
            }
        }
        if overdue && let Some(t) = self.take_fresh(m, cpu, llc) {
            return Pick::Run(t);
        }
        if let Some(prev) = prev {
            return self.keep_running(m, prev, per_cpu);
        }
        let cpus = m.topology.cpus();
        match self
            .take_neighbours_fresh(m, cpu, llc, cpus)
            .or_else(|| self.steal_from_llcs(m, cpu, llc))
        {
            Some(t) => Pick::Run(t),
            None => Pick::Idle,
        }
    }

    fn has_fresh(&self, cpu: CpuId) -> bool {
        !self.fresh[cpu as usize].is_empty()
    }
}

impl Policy for Ml {
    /// ops.init_task and ops.enable.
    fn add_task(&mut self, m: &Machine, t: TaskId) {
        let llc = m.topology.llc_of(m.task(t).cpu);
        self.tasks.push(TaskCtx {
            vruntime: self.vclocks[llc as usize],
            inv_weight_q16: 100 * INV_WEIGHT_ONE_Q16 / u64::from(m.task(t).weight),
            llc,
            lane: NONE,
            exec_at_run_ns: 0,
            steering: false,
            sure: false,
            steer_q16: 0,
            steer_margin_q16: 0,
            quantum_ns: self.pp.first_quantum_ns,
            yields: false,
        });
        self.predictor.add_task(m, t);
    }

    /// ops.select_cpu, and ops.enqueue where that finds no idle CPU.
    fn wake(&mut self, m: &mut Machine, t: TaskId) {
        self.begin_burst(m, t);
        let near = m.task(t).cpu;
        if let Some(cpu) = m.claim_idle(near) {
            self.ctx_mut(t).lane = NONE;
            self.counters.direct_idle += 1;
            self.grant_slice(m, t, FAIR, 0);
            m.start(cpu, t);
            return;
        }
        self.enqueue(m, t, true);
    }

    fn requeue(&mut self, m: &mut Machine, t: TaskId) {
        self.enqueue(m, t, false);
    }

    fn pick(&mut self, m: &mut Machine, cpu: CpuId, prev: Option<TaskId>) -> Pick {
        self.dispatch(m, cpu, prev)
    }

    /// ops.running.
    fn started(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId) {
        let llc = m.topology.llc_of(cpu);
        self.join_llc(m, t, llc);
        let (exec_ns, used_ns) = (m.exec_ns(t), m.task(t).used_ns);
        self.ctx_mut(t).exec_at_run_ns = exec_ns;
        let ctx = self.ctx(t);
        let quantum_ns = if ctx.yields { 0 } else { ctx.quantum_ns };
        let c = &mut self.cpus[cpu as usize];
        c.quantum_ns = quantum_ns;
        c.burst_before_ns = used_ns;
        c.run_start_ns = m.now_ns + 1;
        // The engine has forgotten the alarm of what ran before, where the kernel's timer goes on and sets itself anew.
        if self.has_fresh(cpu) {
            self.set_quantum_timer(m, cpu);
        }
        let ctx = &self.tasks[t as usize];
        let vclock = &mut self.vclocks[llc as usize];
        if ctx.lane == FAIR && vdiff(ctx.vruntime, *vclock) > 0 {
            *vclock = ctx.vruntime;
        }
    }

    /// ops.stopping.
    fn stopped(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId, _runnable: bool) {
        let exec_ns = m.exec_ns(t);
        let llc = m.topology.llc_of(cpu);
        let c = &mut self.cpus[cpu as usize];
        c.run_start_ns = 0;
        let nr_waiting = c.nr_waiting;
        let ctx = self.ctx_mut(t);
        let vused = native::policy_virtual_ns(exec_ns - ctx.exec_at_run_ns, ctx.inv_weight_q16);
        ctx.exec_at_run_ns = exec_ns;
        ctx.vruntime += vused;
        let (fair, vruntime) = (ctx.lane == FAIR, ctx.vruntime);
        let vclock = &mut self.vclocks[llc as usize];
        let ahead = vdiff(vruntime, *vclock);
        *vclock += native::policy_vclock_step(vused, ahead, nr_waiting + m.topology.per_llc());
        if fair {
            self.cpus[cpu as usize].fair_turn_ns = m.now_ns;
        }
    }

    /// ops.quiescent.
    fn blocked(&mut self, m: &mut Machine, t: TaskId) {
        let burst_ns = m.task(t).used_ns;
        if self.ctx(t).yields {
            self.predictor
                .judge_long(t, burst_ns > self.pp.first_quantum_ns);
        }
        self.predictor.blocked(m, t, burst_ns);
    }

    /// ops.tick, and quantum_ended().
    fn tick(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId) {
        debug_assert_eq!(m.task(t).state, State::Running);
        let llc = m.topology.llc_of(cpu);
        if self.has_fresh(cpu) {
            if self.preemptible(m, cpu) {
                m.task_mut(t).slice_ns = 0;
                self.counters.quantum_preempts += 1;
            } else if m.cpu(cpu).alarm_ns == FOREVER_NS {
                self.set_quantum_timer(m, cpu);
            }
        }
        if self.yields_to_fair(m, t, llc) {
            m.task_mut(t).slice_ns = 0;
            self.counters.fair_yields += 1;
        }
        if (self.has_fresh(cpu) || !self.fair[llc as usize].is_empty())
            && let Some(idle) = m.claim_idle(cpu)
        {
            m.resched(idle);
        }
    }

    fn notes(&self) -> Vec<(String, f64)> {
        let c = &self.counters;
        let counts = [
            ("direct_idle", c.direct_idle),
            ("queued_fresh", c.queued_fresh),
            ("queued_fair", c.queued_fair),
            ("kept_running", c.kept_running),
            ("preempt_kicks", c.preempt_kicks),
            ("quantum_preempts", c.quantum_preempts),
            ("fair_turns", c.fair_turns),
            ("fair_yields", c.fair_yields),
            ("neighbour_steals", c.neighbour_steals),
            ("llc_steals", c.llc_steals),
            ("slices_steered", c.slices_steered),
            ("sure_long", c.sure_long),
            ("own_quanta", c.own_quanta),
        ];
        let mut notes: Vec<(String, f64)> = counts
            .into_iter()
            .map(|(name, n)| (name.to_string(), n as f64))
            .collect();
        notes.extend(self.predictor.notes());
        notes
    }
}
