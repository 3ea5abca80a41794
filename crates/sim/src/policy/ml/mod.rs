//! scx_ml itself: every decision is made by the kernel's own `decide.h`, every number computed by its `policy.h` and
//! `model.h`, through [`scx_ml::kernel::native`]. What is written here is what surrounds them in `main.bpf.c`,
//! `queues.bpf.h`, `preempt.bpf.h`, `relief.bpf.h` and `burst.bpf.h`: state, queues, and walks over CPUs.
//!
//! Left out are pinned tasks, cgroups and other scheduling classes, which no workload here has. Loops over CPUs are done by
//! bit sets, but what the kernel's loops would have looked at is counted, so that the cost of a decision on a large
//! machine can be read off.

mod enqueue;
mod placement;
mod queues;
mod relief;
pub mod rules;
mod serve;
mod stakes;
mod state;

use scx_ml::kernel::bpf::intf::{self, policy_params};
use scx_ml::kernel::native;

use super::{Pick, Policy};
use crate::learn::{History, NR_KINDS, Predictor, Surroundings};
use crate::machine::{Machine, State, TaskId, Waker};
use crate::topology::CpuId;
use queues::{Dsq, Lanes};
use rules::Rules;
use state::{
    Counters, CpuCtx, FAIR, FRESH, INV_WEIGHT_ONE_Q16, LlcCtx, NONE, TaskCtx, VCLOCK_START,
    clock_ns,
};

/// See the module.
pub struct Ml {
    pp: policy_params,
    rules: Rules,
    predictor: Predictor,
    tasks: Vec<TaskCtx>,
    /// What the rule `much_shorter` expects by.
    histories: Vec<History>,
    cpus: Vec<CpuCtx>,
    llcs: Vec<LlcCtx>,
    /// Fresh and near lanes are CPUs' own, fair lanes LLCs'.
    fresh: Lanes,
    near: Lanes,
    fair: Vec<Dsq>,
    /// Tasks in all queues.
    waiting: u32,
    counters: Counters,
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
            histories: vec![],
            cpus: vec![
                CpuCtx {
                    fair_turn_ns: clock_ns(m),
                    looked_ns: clock_ns(m),
                    ..Default::default()
                };
                cpus
            ],
            llcs: vec![
                LlcCtx {
                    vclock: VCLOCK_START,
                    ..Default::default()
                };
                llcs
            ],
            fresh: Lanes::new(cpus),
            near: Lanes::new(cpus),
            fair: vec![Dsq::default(); llcs],
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
            cpu_load_ns: match c.runs.run_start_ns {
                0 => 0,
                since => c.runs.burst_before_ns + clock_ns(m).saturating_sub(since),
            },
        };
        self.expect(m, t);
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
        ctx.cut = false;
        ctx.quantum_ns = pp.first_quantum_ns;
        let Some(p) = steering else { return };
        ctx.steer_q16 = p.pred_q16;
        ctx.steer_margin_q16 = p.margin_q16;
        let err_q8 = if rules.task_trust { p.err_q8 } else { 0 };
        ctx.sure = native::policy_is_sure(p.margin_q16, err_q8);
        if rules.own_quantum && ctx.sure {
            ctx.quantum_ns = native::policy_quantum_ns(&pp, p.pred_q16, p.margin_q16);
        }
        let longer = ctx.quantum_ns > pp.first_quantum_ns;
        self.counters.own_quanta += u64::from(longer);
    }

    /// join_llc().
    fn join_llc(&mut self, m: &Machine, t: TaskId, llc: u32) {
        let woken = m.burst_used_ns(t) == 0;
        let to = self.llcs[llc as usize].vclock;
        let from = self.llcs[self.ctx(t).llc as usize].vclock;
        let lag_ns = self.pp.lag_ns;
        let ctx = self.ctx_mut(t);
        if ctx.llc != llc {
            ctx.vruntime = ctx.vruntime.wrapping_add(to.wrapping_sub(from));
            ctx.llc = llc;
        }
        let vlag = native::policy_virtual_ns(lag_ns, ctx.inv_weight_q16);
        if ctx.owes && woken && native::policy_vdiff(ctx.vruntime, to) < vlag as i64 {
            ctx.owes = false;
        }
        let ahead_max = if ctx.owes { ctx.carried_max() } else { vlag };
        ctx.vruntime = native::policy_bound_vruntime(ctx.vruntime, to, vlag, ahead_max, woken);
    }

    /// grant_slice().
    fn grant_slice(&mut self, m: &mut Machine, t: TaskId, lane: u32, nr_waiting: u32) {
        let used_ns = m.burst_used_ns(t);
        let ctx = self.ctx(t);
        let left_ns = if ctx.steering {
            native::policy_quantile_left_ns(ctx.steer_q16, ctx.steer_margin_q16, used_ns)
        } else {
            0
        };
        self.counters.slices_steered += u64::from(left_ns > 0);
        m.task_mut(t).slice_ns = native::policy_slice_ns(&self.pp, left_ns, lane, nr_waiting);
    }

    /// The next CPU on the ring of its LLC.
    fn neighbour(&self, m: &Machine, cpu: CpuId) -> CpuId {
        let range = m.topology.llc(m.topology.llc_of(cpu));
        if cpu + 1 < range.end {
            cpu + 1
        } else {
            range.start
        }
    }

    fn has_fresh(&self, cpu: CpuId) -> bool {
        !self.fresh.of(cpu).is_empty()
    }

    /// waits_by_clock().
    fn waits_by_clock(&self, cpu: CpuId, llc: u32) -> bool {
        !self.fair[llc as usize].is_empty() || !self.near.of(cpu).is_empty()
    }
}

impl Policy for Ml {
    /// ops.init_task and ops.enable.
    fn add_task(&mut self, m: &Machine, t: TaskId) {
        let llc = m.topology.llc_of(m.task(t).cpu);
        self.tasks.push(TaskCtx {
            vruntime: self.llcs[llc as usize].vclock,
            inv_weight_q16: 100 * INV_WEIGHT_ONE_Q16 / u64::from(m.task(t).weight),
            weight_q10: (1024 * u64::from(m.task(t).weight) / 100).max(1),
            wake_ns: 0,
            wakee: None,
            llc,
            lane: NONE,
            exec_at_run_ns: 0,
            queued_ns: 0,
            steering: false,
            expected_ns: 0,
            stretched_ns: 0,
            stretch_q8: [0; NR_KINDS],
            stretches: [0; NR_KINDS],
            owes: false,
            err_kind_q8: 0,
            carries: false,
            sure: false,
            steer_q16: 0,
            steer_margin_q16: 0,
            quantum_ns: self.pp.first_quantum_ns,
            cut: false,
            paced: false,
            due_ns: 0,
            yielded: false,
            yields: 0,
        });
        self.histories.push(History::new(m.task(t)));
        self.predictor.add_task(m, t);
    }

    /// ops.select_cpu, and ops.enqueue where that finds no idle CPU.
    fn wake(&mut self, m: &mut Machine, t: TaskId) {
        m.call();
        if let Waker::Task(waker) = m.task(t).waker
            && m.task(waker).state == State::Running
        {
            let c = &mut self.cpus[m.task(waker).cpu as usize];
            c.runs.woke_ns = clock_ns(m);
            c.runs.partner = (c.wakee == Some(t)).into();
            c.wakee = Some(t);
        }
        self.ctx_mut(t).queued_ns = clock_ns(m);
        self.ctx_mut(t).wake_ns = m.now_ns;
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
        m.call();
        let (again, more_ns) = (self.rules.second_turn, self.pp.first_quantum_ns);
        let ctx = self.ctx_mut(t);
        if again && !ctx.yielded && !std::mem::replace(&mut ctx.cut, true) {
            ctx.quantum_ns = m.burst_used_ns(t) + more_ns;
        }
        self.enqueue(m, t, false);
    }

    fn pick(&mut self, m: &mut Machine, cpu: CpuId, prev: Option<TaskId>) -> Pick {
        m.call();
        self.dispatch(m, cpu, prev)
    }

    /// ops.running.
    fn started(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId) {
        let llc = m.topology.llc_of(cpu);
        self.join_llc(m, t, llc);
        let (exec_ns, used_ns) = (m.exec_ns(t), m.task(t).used_ns);
        self.ctx_mut(t).exec_at_run_ns = exec_ns;
        let ctx = self.ctx_mut(t);
        ctx.queued_ns = 0;
        ctx.yielded = false;
        ctx.yields = 0;
        let quantum_ns = ctx.quantum_ns;
        let (inv_weight_q16, weight_q10, wakee) = (ctx.inv_weight_q16, ctx.weight_q10, ctx.wakee);
        let (expected_ns, stretched_ns) = (ctx.expected_ns, ctx.stretched_ns);
        let c = &mut self.cpus[cpu as usize];
        let running = &mut self.llcs[llc as usize].weight_running_q10;
        *running = *running + weight_q10 - c.weight_here_q10;
        c.weight_here_q10 = weight_q10;
        c.wakee = wakee;
        let runs = &mut c.runs;
        runs.inv_weight_q16 = inv_weight_q16;
        runs.heavy_inv_q16 = native::policy_heavy(runs.heavy_inv_q16, inv_weight_q16);
        runs.leaves = 0;
        runs.partner = 0;
        runs.quantum_ns = quantum_ns;
        runs.expected_ns = expected_ns;
        runs.stretched_ns = stretched_ns;
        runs.burst_before_ns = used_ns;
        runs.run_start_ns = clock_ns(m);
        // Simulated, whoever ran here may have woken somebody and blocked in no time. That was not this task.
        runs.woke_ns = runs.woke_ns.min(clock_ns(m) - 1);
        let ctx = &self.tasks[t as usize];
        let vclock = &mut self.llcs[llc as usize].vclock;
        let lane = if ctx.paced { FRESH } else { ctx.lane };
        *vclock = native::policy_clock_at_run(lane, ctx.vruntime, *vclock);
    }

    /// ops.stopping.
    fn stopped(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId, runnable: bool) {
        let exec_ns = m.exec_ns(t);
        let llc = m.topology.llc_of(cpu);
        let c = &mut self.cpus[cpu as usize];
        let start_ns = std::mem::take(&mut c.runs.run_start_ns);
        let wakee = c.wakee;
        let ctx = self.ctx_mut(t);
        ctx.wakee = wakee;
        let ran_ns = exec_ns - ctx.exec_at_run_ns;
        let vused = native::policy_virtual_ns(ran_ns, ctx.inv_weight_q16);
        ctx.exec_at_run_ns = exec_ns;
        ctx.vruntime += vused;
        let (fair, vruntime, inv_weight_q16) = (ctx.lane == FAIR, ctx.vruntime, ctx.inv_weight_q16);
        let to = &mut self.llcs[llc as usize];
        let weight_q10 = to.weight_waiting_q10 + to.weight_running_q10;
        let rivals = native::policy_rivals(weight_q10, inv_weight_q16);
        let ahead = native::policy_vdiff(vruntime, to.vclock);
        to.vclock += native::policy_vclock_step(vused, ahead, rivals);
        let nr_fair = native::policy_per_cpu(self.fair[llc as usize].len(), m.topology.per_llc());
        let nr_here = nr_fair + self.near.of(cpu).len();
        let pace_ns = native::policy_pace_ns(ran_ns, rivals, m.topology.per_llc(), nr_here);
        let (lag_ns, ctx, now_ns) = (self.pp.lag_ns, self.ctx_mut(t), clock_ns(m));
        ctx.due_ns =
            native::policy_due_ns(ctx.paced, ctx.due_ns, start_ns, now_ns, pace_ns, lag_ns);
        if fair {
            self.cpus[cpu as usize].fair_turn_ns = clock_ns(m);
        }
        if runnable {
            self.ctx_mut(t).queued_ns = clock_ns(m);
        }
    }

    /// ops.yield.
    fn yields(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId) -> bool {
        m.call();
        self.counters.yields += 1;
        let llc = m.topology.llc_of(cpu);
        let fresh_waits = self.fresh.waiting.first_in(m.topology.llc(llc)).is_some();
        if !fresh_waits && !self.waits_by_clock(cpu, llc) {
            return false;
        }
        let ran_ns = clock_ns(m) - self.cpus[cpu as usize].runs.run_start_ns;
        let ctx = self.ctx_mut(t);
        ctx.yields = (ctx.yields + 1).min(intf::POLICY_YIELDS_MAX);
        if !native::policy_heeds_yield(ctx.yields, ran_ns) {
            return false;
        }
        ctx.yielded = true;
        self.counters.yields_heeded += 1;
        m.task_mut(t).slice_ns = 0;
        true
    }

    /// ops.quiescent.
    fn blocked(&mut self, m: &mut Machine, t: TaskId) {
        let burst_ns = m.task(t).used_ns;
        self.note_stretch(t, burst_ns);
        let label_q8 = (native::log2_q16(burst_ns) as i32 + 128) >> 8;
        self.histories[t as usize].note_burst(burst_ns, label_q8, m.now_ns);
        self.predictor.blocked(m, t, burst_ns);
    }

    /// ops.tick.
    fn tick(&mut self, m: &mut Machine, cpu: CpuId, t: TaskId) {
        debug_assert_eq!(m.task(t).state, State::Running);
        let llc = m.topology.llc_of(cpu);
        if self.makes_room_for_fresh(m, cpu, t) {
            m.task_mut(t).slice_ns = 0;
            self.counters.quantum_preempts += 1;
        } else if self.makes_room_by_clock(m, t, &self.fair[llc as usize])
            || self.makes_room_by_clock(m, t, self.near.of(cpu))
            || self.makes_room_for_paced(m, cpu)
        {
            m.task_mut(t).slice_ns = 0;
            self.counters.fair_yields += 1;
        }
        if (self.has_fresh(cpu) || self.waits_by_clock(cpu, llc))
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
            ("queued_near", c.queued_near),
            ("queued_paced", c.queued_paced),
            ("paced_turns", c.paced_turns),
            ("kept_running", c.kept_running),
            ("preempt_kicks", c.preempt_kicks),
            ("quantum_preempts", c.quantum_preempts),
            ("fair_turns", c.fair_turns),
            ("fair_yields", c.fair_yields),
            ("neighbour_steals", c.neighbour_steals),
            ("llc_steals", c.llc_steals),
            ("reliefs", c.reliefs),
            ("evenings", c.evenings),
            ("slices_steered", c.slices_steered),
            ("own_quanta", c.own_quanta),
            ("yields", c.yields),
            ("yields_heeded", c.yields_heeded),
        ];
        let mut notes: Vec<(String, f64)> = counts
            .into_iter()
            .map(|(name, n)| (name.to_string(), n as f64))
            .collect();
        notes.extend(self.predictor.notes());
        notes
    }
}
