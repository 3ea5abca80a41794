//! The state that the engine and the policies share: tasks, CPUs, which of them are idle, and what the policy asks of the
//! engine.

use crate::topology::{CpuId, CpuSet, Distance, Topology};

/// Index of a task.
pub type TaskId = u32;

/// No task.
pub const NO_TASK: TaskId = TaskId::MAX;

/// A slice that does not end.
pub const FOREVER_NS: u64 = u64::MAX;

/// More work than any run has time for.
pub const ENDLESS_NS: u64 = 1 << 60;

/// What a machine's operations cost, ns. All of it is CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Costs {
    /// A CPU changes to another task than it ran last.
    pub switch_ns: u64,
    /// Work that a task has more after it changed CPU inside an LLC, between LLCs of a node, between nodes: its caches
    /// are cold. It counts as CPU time of the burst, as on a real machine.
    pub migrate_ns: [u64; 3],
    /// A call of a policy that is a BPF program: a wake-up, a yield, a CPU that looks for a task. Who wakes another and runs on pays
    /// for that, and what a CPU runs next for its search.
    pub call_ns: u64,
    /// A look of such a policy into another CPU's or LLC's queue: [`Counts::looks`].
    pub look_ns: u64,
    /// Between two timer ticks, at which alone slices end; 0: slices end exactly.
    pub tick_ns: u64,
}

impl Costs {
    /// Nothing costs anything and slices are exact: the world of queueing theory.
    pub const NONE: Costs = Costs {
        switch_ns: 0,
        migrate_ns: [0; 3],
        call_ns: 0,
        look_ns: 0,
        tick_ns: 0,
    };

    /// The first tick after a time; [`FOREVER_NS`] without ticks.
    pub fn next_tick_ns(&self, now_ns: u64) -> u64 {
        match now_ns.checked_div(self.tick_ns) {
            Some(ticks) => (ticks + 1) * self.tick_ns,
            None => FOREVER_NS,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Blocked,
    Waiting,
    Running,
}

/// Who woke a task, as far as features tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waker {
    /// An interrupt or the idle task.
    Nobody,
    /// A task of the simulation.
    Task(TaskId),
    /// A task outside the simulation: its name's key and the log2 of its usual burst, Q8.
    Outside { name_key: u32, log_burst_q8: i32 },
}

/// What a task is, from its creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// As the kernel keeps it: at most 15 bytes count.
    pub name: String,
    pub nice: i32,
}

/// A task as the engine sees it.
#[derive(Debug, Clone)]
pub struct Task {
    pub state: State,
    /// Where it runs or ran last.
    pub cpu: CpuId,
    /// Whether it ever ran: a first placement is no migration.
    pub ran: bool,
    /// 100 is nice 0, as sched_ext has it.
    pub weight: u32,
    pub nice: i32,
    pub name: String,
    /// CPU time until it blocks.
    pub left_ns: u64,
    /// CPU time since it woke.
    pub used_ns: u64,
    /// CPU time in all.
    pub exec_ns: u64,
    /// What is left of its slice.
    pub slice_ns: u64,
    pub wake_ns: u64,
    pub waker: Waker,
    /// Class of system call in which it blocked before this wake-up, if the workload tells; see
    /// [`crate::learn::History`].
    pub blocked_in: Option<u8>,
    /// Its waker said that it would block soon itself (WF_SYNC), so that this one could run where it does.
    pub sync: bool,
    /// It burns CPU time and does no work.
    pub spins: bool,
}

/// A CPU as the engine sees it.
#[derive(Debug, Clone)]
pub struct Cpu {
    /// [`NO_TASK`]: it runs none.
    pub current: TaskId,
    /// The last task that it ran: to go on with that costs no switch.
    pub last: TaskId,
    /// Up to when the current task's CPU time has been accounted; in the future while a switch takes its time.
    pub accounted_ns: u64,
    /// The next tick; only while a task runs.
    pub tick_at_ns: u64,
    /// The current task is about to block: what preempts it comes next anyway.
    pub finishing: bool,
}

/// What a policy asks of the engine, done after it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A claimed idle CPU runs this task.
    Start(CpuId, TaskId),
    /// A CPU asks the policy anew what to run.
    Resched(CpuId),
}

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Events that the engine handled.
    pub events: u64,
    /// Bursts that ended.
    pub bursts: u64,
    pub switches: u64,
    /// Starts on another CPU than the last, by distance: in the LLC, in the node, beyond.
    pub migrations: [u64; 3],
    /// Times a task was taken off a CPU while it could have gone on.
    pub preemptions: u64,
    /// CPU time that switches took, ns.
    pub switch_ns: u64,
    /// CPU time that was burnt by spinning, ns.
    pub spin_ns: u64,
    /// CPU time that a policy's calls and looks took, ns.
    pub policy_ns: u64,
    /// Wake-ups, slice ends and blocks: each is a decision of the policy.
    pub decisions: u64,
    /// Queues that the policy looked into in the kernel's loops over CPUs and LLCs, where it has such.
    pub looks: u64,
}

/// The simulated machine.
pub struct Machine {
    pub now_ns: u64,
    pub topology: Topology,
    pub costs: Costs,
    pub tasks: Vec<Task>,
    pub cpus: Vec<Cpu>,
    /// CPUs that run nothing and that nobody has claimed.
    idle: CpuSet,
    pub(crate) actions: Vec<Action>,
    /// CPU time that the policy has taken and nobody has paid for.
    pub(crate) owed_ns: u64,
    pub counts: Counts,
}

impl Machine {
    /// All CPUs idle, no tasks, at time 0.
    pub fn new(topology: Topology, costs: Costs) -> Self {
        let cpu = Cpu {
            current: NO_TASK,
            last: NO_TASK,
            accounted_ns: 0,
            tick_at_ns: 0,
            finishing: false,
        };
        let mut idle = CpuSet::empty();
        (0..topology.cpus()).for_each(|c| idle.insert(c));
        Self {
            now_ns: 0,
            topology,
            costs,
            tasks: vec![],
            cpus: vec![cpu; topology.cpus() as usize],
            idle,
            actions: Vec::with_capacity(64),
            owed_ns: 0,
            counts: Counts::default(),
        }
    }

    pub(crate) fn add_task(&mut self, spec: &TaskSpec) -> TaskId {
        let id = self.tasks.len() as TaskId;
        self.tasks.push(Task {
            state: State::Blocked,
            // Spread, as a fork would.
            cpu: id % self.topology.cpus(),
            ran: false,
            weight: sched_ext_weight(spec.nice),
            nice: spec.nice,
            name: spec.name.clone(),
            left_ns: 0,
            used_ns: 0,
            exec_ns: 0,
            slice_ns: 0,
            wake_ns: 0,
            waker: Waker::Nobody,
            blocked_in: None,
            sync: false,
            spins: false,
        });
        id
    }

    pub fn task(&self, t: TaskId) -> &Task {
        &self.tasks[t as usize]
    }

    pub fn task_mut(&mut self, t: TaskId) -> &mut Task {
        &mut self.tasks[t as usize]
    }

    pub fn cpu(&self, c: CpuId) -> &Cpu {
        &self.cpus[c as usize]
    }

    /// The task that a CPU runs.
    pub fn current(&self, c: CpuId) -> Option<TaskId> {
        let t = self.cpus[c as usize].current;
        (t != NO_TASK).then_some(t)
    }

    /// CPU time of a burst up to now, of a running task too.
    pub fn burst_used_ns(&self, t: TaskId) -> u64 {
        let task = self.task(t);
        task.used_ns + self.unaccounted_ns(t)
    }

    /// CPU time that a task needs until it blocks. Only an oracle may look.
    pub fn burst_left_ns(&self, t: TaskId) -> u64 {
        self.task(t).left_ns - self.unaccounted_ns(t)
    }

    /// CPU time of a task in all, up to now.
    pub fn exec_ns(&self, t: TaskId) -> u64 {
        self.task(t).exec_ns + self.unaccounted_ns(t)
    }

    fn unaccounted_ns(&self, t: TaskId) -> u64 {
        let task = self.task(t);
        if task.state != State::Running {
            return 0;
        }
        let since = self.cpu(task.cpu).accounted_ns;
        self.now_ns.saturating_sub(since).min(task.left_ns)
    }

    /// Whether nothing is idle: a search can be spared.
    pub fn all_busy(&self) -> bool {
        self.idle.is_empty()
    }

    /// Share of all CPU time up to now that was burnt by spinning.
    pub fn spin_share(&self) -> f64 {
        self.counts.spin_ns as f64 / (self.now_ns as f64 * f64::from(self.topology.cpus()))
    }

    /// Claim an idle CPU for a task that ran on `near`: that one, or one of its LLC, its node, the machine. As the
    /// kernel's own selection does on a machine without hyper-threads.
    pub fn claim_idle(&mut self, near: CpuId) -> Option<CpuId> {
        if self.idle.is_empty() {
            return None;
        }
        let t = self.topology;
        let cpu = if self.idle.contains(near) {
            near
        } else {
            let llc = t.llc(t.llc_of(near));
            self.idle
                .first_in(llc)
                .or_else(|| self.idle.first_in(t.node_around(near)))
                .or_else(|| self.idle.first_in(0..t.cpus()))?
        };
        self.idle.remove(cpu);
        Some(cpu)
    }

    /// Claim an idle CPU of `near`'s LLC, `near` itself before others.
    pub fn claim_idle_in_llc(&mut self, near: CpuId) -> Option<CpuId> {
        let cpu = if self.idle.contains(near) {
            near
        } else {
            let t = self.topology;
            self.idle.first_in(t.llc(t.llc_of(near)))?
        };
        self.idle.remove(cpu);
        Some(cpu)
    }

    pub(crate) fn set_idle(&mut self, cpu: CpuId) {
        self.idle.insert(cpu);
    }

    pub(crate) fn unset_idle(&mut self, cpu: CpuId) {
        self.idle.remove(cpu);
    }

    /// Have a claimed idle CPU run a task.
    pub fn start(&mut self, cpu: CpuId, task: TaskId) {
        self.actions.push(Action::Start(cpu, task));
    }

    /// Have a CPU ask the policy anew: a claimed idle one, or one whose task is to be preempted.
    pub fn resched(&mut self, cpu: CpuId) {
        self.actions.push(Action::Resched(cpu));
    }

    /// A policy that is a BPF program is called.
    pub fn call(&mut self) {
        self.owed_ns += self.costs.call_ns;
    }

    /// Such a policy looks into so many queues.
    pub fn look(&mut self, queues: u64) {
        self.counts.looks += queues;
        self.owed_ns += queues * self.costs.look_ns;
    }

    /// How far apart two CPUs are.
    pub fn distance(&self, from: CpuId, to: CpuId) -> Distance {
        self.topology.distance(from, to)
    }
}

/// The kernel's weights of nice -20 to 19 (sched_prio_to_weight), 1024 for nice 0.
const NICE_WEIGHTS: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904,
    3906, 3121, 2501, 1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87,
    70, 56, 45, 36, 29, 23, 18, 15,
];

/// The kernel's weight of a nice value, which is limited to -20 … 19. 1024 is nice 0.
pub fn load_weight(nice: i32) -> u32 {
    NICE_WEIGHTS[(nice.clamp(-20, 19) + 20) as usize]
}

/// The weight as sched_ext gives it to a scheduler: sched_weight_to_cgroup(), 100 is nice 0, rounded to the nearest.
pub fn sched_ext_weight(nice: i32) -> u32 {
    ((load_weight(nice) * 100 + 512) / 1024).clamp(1, 10_000)
}

/// The nice value whose weight, as sched_ext has it, is nearest to this one.
pub fn nice_of_weight(weight: u32) -> i32 {
    (-20..20)
        .min_by_key(|&nice| sched_ext_weight(nice).abs_diff(weight))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_tells_its_nice_value() {
        for nice in -20..20 {
            let weight = sched_ext_weight(nice);
            // At the far end, where weights are small, two nice values share one.
            let told = nice_of_weight(weight);
            assert_eq!(sched_ext_weight(told), weight);
            assert!(told == nice || nice > 10, "{nice}: {told}");
        }
    }
}
