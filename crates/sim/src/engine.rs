//! The engine: takes the earliest event, moves the clock, accounts CPU time and asks the policy.
//!
//! Events are few in kind. A CPU has one timer, for whatever comes first of its task's block and its tick; the workload has
//! timers for arrivals and sleeps.

use crate::heap::TimerHeap;
use crate::machine::{
    Action, Costs, ENDLESS_NS, FOREVER_NS, Machine, NO_TASK, State, TaskId, Waker,
};
use crate::policy::{Pick, Policy};
use crate::record::Recorder;
use crate::topology::{CpuId, Topology};
use crate::workload::{Load, Next, Order};

/// The slice that sched_ext gives where a policy gave none: SCX_SLICE_DFL.
const SLICE_DEFAULT_NS: u64 = 20_000_000;

/// A machine, its workload and its policy.
pub struct Engine {
    pub machine: Machine,
    events: TimerHeap,
    policy: Box<dyn Policy>,
    load: Box<dyn Load>,
    orders: Vec<Order>,
    /// Wake-ups of a task that is about to block, by others at that very moment.
    early: Vec<Order>,
    pub recorder: Recorder,
}

impl Engine {
    /// Everything idle at time 0.
    pub fn new(
        topology: Topology,
        costs: Costs,
        mut policy: Box<dyn Policy>,
        mut load: Box<dyn Load>,
        recorder: Recorder,
    ) -> Self {
        let mut machine = Machine::new(topology, costs);
        for spec in load.tasks() {
            let id = machine.add_task(&spec);
            policy.add_task(&machine, id);
        }
        let mut orders = Vec::with_capacity(64);
        load.begin(&mut orders);
        let mut engine = Self {
            events: TimerHeap::new(topology.cpus() as usize + load.timers()),
            machine,
            policy,
            load,
            orders,
            early: vec![],
            recorder,
        };
        engine.follow_orders();
        engine
    }

    /// Run until nothing happens any more, all work is done, or until `end_ns`.
    pub fn run(&mut self, end_ns: u64) {
        while !self.load.is_over() && self.step(end_ns) {}
    }

    /// Handle the next event. False if there is none up to `end_ns`.
    pub fn step(&mut self, end_ns: u64) -> bool {
        let Some((at_ns, slot)) = self.events.first().filter(|e| e.0 <= end_ns) else {
            return false;
        };
        self.events.pop();
        self.machine.now_ns = at_ns;
        self.machine.counts.events += 1;
        match slot.checked_sub(self.machine.topology.cpus()) {
            None => self.cpu_event(slot),
            Some(timer) => {
                self.load.timer(at_ns, timer, &mut self.orders);
                self.follow_orders();
            }
        }
        true
    }

    /// What the policy has to say about the run.
    pub fn notes(&self) -> Vec<(String, f64)> {
        self.policy.notes()
    }

    /// What the workload has to say about it.
    pub fn metrics(&self) -> Vec<(String, f64)> {
        self.load.metrics(&self.machine, &self.recorder)
    }

    /// Do what the workload ordered, then what the policy asked for in consequence.
    fn follow_orders(&mut self) {
        let mut orders = std::mem::take(&mut self.orders);
        for order in orders.drain(..) {
            match order {
                Order::Timer { timer, at_ns } => {
                    let slot = self.machine.topology.cpus() + timer;
                    self.events.set(slot, at_ns.max(self.machine.now_ns));
                }
                Order::Wake { task, .. } if self.machine.task(task).state != State::Blocked => {
                    debug_assert!(self.machine.cpu(self.machine.task(task).cpu).finishing);
                    self.early.push(order);
                }
                Order::Wake {
                    task,
                    work_ns,
                    waker,
                    blocked_in,
                    sync,
                } => {
                    let now_ns = self.machine.now_ns;
                    let t = self.machine.task_mut(task);
                    t.state = State::Waiting;
                    t.wake_ns = now_ns;
                    t.used_ns = 0;
                    t.left_ns = work_ns.max(1);
                    t.waker = waker;
                    t.blocked_in = blocked_in;
                    t.sync = sync;
                    self.machine.counts.decisions += 1;
                    self.policy.wake(&mut self.machine, task);
                    self.waker_pays(waker);
                    self.act();
                }
                Order::Proceed { task, work_ns } => self.proceed(task, work_ns),
            }
        }
        self.orders = orders;
    }

    /// A task that spun works. It may have been taken off its CPU by an order just before.
    fn proceed(&mut self, task: TaskId, work_ns: u64) {
        let t = self.machine.task(task);
        let (cpu, runs) = (t.cpu, t.state == State::Running);
        if !t.spins {
            return;
        }
        if runs {
            self.account(cpu);
        }
        let t = self.machine.task_mut(task);
        t.spins = false;
        t.left_ns = work_ns.max(1);
        if runs {
            self.arm(cpu);
            self.policy.extended(&mut self.machine, cpu, task);
            self.act();
        }
    }

    /// What a CPU runs pays for the time that the policy has taken there; where nothing runs, nobody minds.
    fn pay(&mut self, cpu: CpuId) {
        let owed_ns = std::mem::take(&mut self.machine.owed_ns);
        let c = self.machine.cpu(cpu);
        if owed_ns == 0 || c.current == NO_TASK || c.finishing {
            return;
        }
        self.account(cpu);
        self.machine.counts.policy_ns += owed_ns;
        self.machine.cpus[cpu as usize].accounted_ns += owed_ns;
        self.arm(cpu);
    }

    /// A task that woke another, and still runs, pays for that.
    fn waker_pays(&mut self, waker: Waker) {
        match waker {
            Waker::Task(t) if self.machine.task(t).state == State::Running => {
                self.pay(self.machine.task(t).cpu);
            }
            _ => self.machine.owed_ns = 0,
        }
    }

    /// Do what the policy asked for, and what it asks for while that is done.
    fn act(&mut self) {
        while let Some(action) = self.machine.actions.pop() {
            match action {
                Action::Start(cpu, task) => {
                    debug_assert_eq!(self.machine.cpu(cpu).current, NO_TASK);
                    self.run_on(cpu, task);
                }
                Action::Resched(cpu) => self.reschedule(cpu),
            }
        }
    }

    /// Bring a CPU's accounts up to now.
    fn account(&mut self, cpu: CpuId) {
        let m = &mut self.machine;
        let c = &mut m.cpus[cpu as usize];
        if c.current == NO_TASK || m.now_ns <= c.accounted_ns {
            return;
        }
        let ran_ns = m.now_ns - c.accounted_ns;
        c.accounted_ns = m.now_ns;
        let t = &mut m.tasks[c.current as usize];
        t.used_ns += ran_ns;
        t.exec_ns += ran_ns;
        t.left_ns -= ran_ns;
        if t.spins {
            m.counts.spin_ns += ran_ns;
        }
        if t.slice_ns != FOREVER_NS {
            t.slice_ns = t.slice_ns.saturating_sub(ran_ns);
        }
    }

    /// Set a CPU's timer for what comes next there.
    fn arm(&mut self, cpu: CpuId) {
        let m = &self.machine;
        let c = m.cpu(cpu);
        let t = m.task(c.current);
        let slice_or_tick_ns = if m.costs.tick_ns == 0 {
            c.accounted_ns.saturating_add(t.slice_ns)
        } else {
            c.tick_at_ns
        };
        let at_ns = (c.accounted_ns + t.left_ns).min(slice_or_tick_ns);
        self.events.set(cpu, at_ns);
    }

    fn cpu_event(&mut self, cpu: CpuId) {
        let Some(t) = self.machine.current(cpu) else {
            return;
        };
        self.account(cpu);
        if self.machine.task(t).left_ns == 0 {
            self.burst_ends(cpu, t);
            return;
        }
        let now_ns = self.machine.now_ns;
        let next_tick_ns = self.machine.costs.next_tick_ns(now_ns);
        let c = &mut self.machine.cpus[cpu as usize];
        if c.tick_at_ns <= now_ns {
            c.tick_at_ns = next_tick_ns;
            self.policy.tick(&mut self.machine, cpu, t);
        }
        if self.machine.task(t).slice_ns == 0 {
            self.reschedule(cpu);
        } else {
            self.arm(cpu);
        }
        self.act();
    }

    /// The request is done: the task goes on with another or blocks.
    fn burst_ends(&mut self, cpu: CpuId, t: TaskId) {
        self.machine.cpus[cpu as usize].finishing = true;
        let next = self
            .load
            .done(&self.machine, t, &mut self.orders, &mut self.recorder);
        if let Next::Work(ns) | Next::Yield(ns) = next {
            self.goes_on(cpu, t, ns.max(1));
            let yields = matches!(next, Next::Yield(_));
            let makes_room = yields && self.policy.yields(&mut self.machine, cpu, t);
            if yields && !makes_room {
                self.pay(cpu);
            }
            self.follow_orders();
            // Somebody whom it has just woken may have its CPU already.
            if makes_room && self.machine.current(cpu) == Some(t) {
                self.reschedule(cpu);
            }
            self.act();
            return;
        }
        if next == Next::Spin {
            self.machine.task_mut(t).spins = true;
            self.goes_on(cpu, t, ENDLESS_NS);
            self.follow_orders();
            self.act();
            return;
        }
        // It wakes others while it still runs, as on a real machine; what would preempt it is picked next anyway. But a
        // task cannot wake itself before it has blocked, so timers are set first and wake-ups of itself are none.
        self.follow_orders();
        self.machine.counts.bursts += 1;
        self.machine.counts.decisions += 1;
        self.policy.stopped(&mut self.machine, cpu, t, false);
        self.policy.blocked(&mut self.machine, t);
        self.machine.task_mut(t).state = State::Blocked;
        let c = &mut self.machine.cpus[cpu as usize];
        c.finishing = false;
        c.current = NO_TASK;
        self.events.clear(cpu);
        self.pick(cpu);
        self.act();
        if !self.early.is_empty() {
            self.orders.append(&mut self.early);
            self.follow_orders();
        }
    }

    /// The same burst goes on, with so much to do.
    fn goes_on(&mut self, cpu: CpuId, t: TaskId, ns: u64) {
        self.machine.cpus[cpu as usize].finishing = false;
        self.machine.task_mut(t).left_ns = ns;
        self.arm(cpu);
        self.policy.extended(&mut self.machine, cpu, t);
        // The slice may have ended at the same time.
        if self.machine.task(t).slice_ns == 0 && self.machine.costs.tick_ns == 0 {
            self.machine.resched(cpu);
        }
    }

    /// An empty CPU asks for a task.
    fn pick(&mut self, cpu: CpuId) {
        match self.policy.pick(&mut self.machine, cpu, None) {
            Pick::Run(t) => self.run_on(cpu, t),
            Pick::Keep | Pick::Idle => self.machine.set_idle(cpu),
        }
        self.pay(cpu);
    }

    /// A CPU asks anew what to run.
    fn reschedule(&mut self, cpu: CpuId) {
        let Some(prev) = self.machine.current(cpu) else {
            self.machine.unset_idle(cpu);
            self.pick(cpu);
            return;
        };
        if self.machine.cpu(cpu).finishing {
            return;
        }
        self.account(cpu);
        if self.machine.task(prev).left_ns == 0 {
            // Its own event is due now; it blocks before anything else.
            self.events.clear(cpu);
            self.burst_ends(cpu, prev);
            return;
        }
        self.machine.counts.decisions += 1;
        match self.policy.pick(&mut self.machine, cpu, Some(prev)) {
            Pick::Run(next) => {
                self.machine.counts.preemptions += 1;
                self.policy.stopped(&mut self.machine, cpu, prev, true);
                self.machine.task_mut(prev).state = State::Waiting;
                self.run_on(cpu, next);
                self.policy.requeue(&mut self.machine, prev);
            }
            Pick::Keep | Pick::Idle => {
                let t = self.machine.task_mut(prev);
                if t.slice_ns == 0 {
                    t.slice_ns = SLICE_DEFAULT_NS;
                }
                self.arm(cpu);
            }
        }
        self.pay(cpu);
    }

    fn run_on(&mut self, cpu: CpuId, next: TaskId) {
        let m = &mut self.machine;
        m.unset_idle(cpu);
        let now_ns = m.now_ns;
        let next_tick_ns = m.costs.next_tick_ns(now_ns);
        let from = m.task(next).cpu;
        let mut cold_ns = 0;
        if from != cpu && m.task(next).ran {
            let distance = m.distance(from, cpu) as usize;
            m.counts.migrations[distance] += 1;
            cold_ns = m.costs.migrate_ns[distance];
        }
        let t = m.task_mut(next);
        t.state = State::Running;
        t.ran = true;
        t.cpu = cpu;
        t.left_ns += cold_ns;
        if t.slice_ns == 0 {
            t.slice_ns = SLICE_DEFAULT_NS;
        }
        let c = &mut m.cpus[cpu as usize];
        let switch_ns = if c.last == next { 0 } else { m.costs.switch_ns };
        if c.last != next {
            m.counts.switches += 1;
            m.counts.switch_ns += switch_ns;
        }
        c.current = next;
        c.last = next;
        c.accounted_ns = now_ns + switch_ns;
        c.tick_at_ns = next_tick_ns;
        if m.task(next).spins
            && let Some(work_ns) = self.load.resumes(m, next)
        {
            let t = m.task_mut(next);
            t.spins = false;
            t.left_ns = work_ns.max(1) + cold_ns;
        }
        self.policy.started(&mut self.machine, cpu, next);
        self.arm(cpu);
    }
}
