//! Locks for which tasks spin: CPU time that does no work.

use clap::ValueEnum;

use crate::machine::{Machine, State, TaskId};
use crate::topology::CpuId;

/// Which lock a task takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// None.
    None,
    /// That of the CPU on which it runs.
    PerCpu,
    /// One of a few that belong to no CPU, always the same.
    Global,
}

/// Spin locks. A task holds one at a time.
#[derive(Debug, Clone)]
pub struct SpinLocks {
    scope: Scope,
    holders: Vec<Option<TaskId>>,
    /// In the order in which they came, whether or not they run.
    spinners: Vec<Vec<TaskId>>,
    /// What each task holds.
    held: Vec<Option<usize>>,
}

impl SpinLocks {
    /// `locks`: how many, where they are global.
    pub fn new(scope: Scope, locks: u32, tasks: u32) -> Self {
        let global = if scope == Scope::Global { locks } else { 0 };
        Self {
            scope,
            holders: vec![None; global as usize],
            spinners: vec![vec![]; global as usize],
            held: vec![None; tasks as usize],
        }
    }

    /// The lock that a task wants where it runs.
    fn wanted(&mut self, m: &Machine, task: TaskId) -> usize {
        match self.scope {
            Scope::Global => task as usize % self.holders.len(),
            _ => {
                self.make(m.task(task).cpu);
                m.task(task).cpu as usize
            }
        }
    }

    fn make(&mut self, cpu: CpuId) {
        let locks = self.holders.len().max(cpu as usize + 1);
        self.holders.resize(locks, None);
        self.spinners.resize(locks, vec![]);
    }

    /// A running task wants its lock. Whether it has it; if not, it spins.
    pub fn lock(&mut self, m: &Machine, task: TaskId) -> bool {
        if self.scope == Scope::None {
            return true;
        }
        let lock = self.wanted(m, task);
        if self.holders[lock].is_some() {
            self.spinners[lock].push(task);
            return false;
        }
        self.take(lock, task);
        true
    }

    fn take(&mut self, lock: usize, task: TaskId) {
        assert_eq!(self.holders[lock], None, "the lock is held");
        assert_eq!(self.held[task as usize], None, "the task holds another");
        self.holders[lock] = Some(task);
        self.held[task as usize] = Some(lock);
    }

    /// A task that spun when it was taken off its CPU runs again. Whether it has a lock now. It spins for the lock that it was
    /// after, also on another CPU, and sees only with that in its hands that it has moved.
    pub fn resume(&mut self, m: &Machine, task: TaskId) -> bool {
        if self.held[task as usize].is_some() {
            return true;
        }
        let spins_for = |s: &Vec<TaskId>| s.contains(&task);
        let Some(lock) = self.spinners.iter().position(spins_for) else {
            return false;
        };
        if self.holders[lock].is_some() {
            return false;
        }
        self.spinners[lock].retain(|&s| s != task);
        self.lock(m, task)
    }

    /// A task lets its lock go. Pushes whoever has a lock by that: at most one gets this one, but whoever finds itself on another
    /// CPU than when it began to spin lets it go at once, for that CPU's.
    pub fn unlock(&mut self, m: &Machine, task: TaskId, go_on: &mut Vec<TaskId>) {
        let Some(lock) = self.held[task as usize].take() else {
            assert_eq!(self.scope, Scope::None, "the task holds no lock");
            return;
        };
        assert_eq!(self.holders[lock], Some(task), "another holds the lock");
        self.holders[lock] = None;
        let runs = |t: TaskId| m.task(t).state == State::Running;
        while let Some(i) = self.spinners[lock].iter().position(|&s| runs(s)) {
            let next = self.spinners[lock].remove(i);
            if self.lock(m, next) {
                go_on.push(next);
            }
            if self.holders[lock].is_some() {
                break;
            }
        }
    }

    /// How many hold a lock.
    pub fn held(&self) -> usize {
        self.holders.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Costs;
    use crate::topology::Topology;
    use crate::workload::named;

    /// Tasks 0 to 3 run on CPUs 0, 0, 1, 1. That two run on a CPU is as if one had been taken off and not told yet.
    fn machine() -> Machine {
        let mut m = Machine::new(Topology::new(2, 1, 1).expect("a shape"), Costs::NONE);
        for t in 0..4 {
            m.add_task(&named("t"));
            m.task_mut(t).cpu = t / 2;
            m.task_mut(t).state = State::Running;
        }
        m
    }

    #[test]
    fn a_cpus_lock_goes_to_one_that_spins_there() {
        let (mut m, mut l) = (machine(), SpinLocks::new(Scope::PerCpu, 0, 4));
        assert!(l.lock(&m, 0));
        assert!(!l.lock(&m, 1));
        assert!(l.lock(&m, 2), "another CPU's");
        let mut go_on = vec![];
        m.task_mut(1).state = State::Waiting;
        l.unlock(&m, 0, &mut go_on);
        assert!(go_on.is_empty(), "who does not run does not see it");
        m.task_mut(1).state = State::Running;
        assert!(l.resume(&m, 1));
        assert!(l.resume(&m, 1), "it has it still");
        assert_eq!(l.held(), 2);
    }

    #[test]
    fn who_has_moved_lets_the_lock_go() {
        let (mut m, mut l) = (machine(), SpinLocks::new(Scope::PerCpu, 0, 4));
        assert!(l.lock(&m, 0));
        assert!(!l.lock(&m, 1));
        m.task_mut(1).cpu = 1;
        let mut go_on = vec![];
        l.unlock(&m, 0, &mut go_on);
        assert_eq!(go_on, [1], "it takes that of CPU 1");
        assert!(l.lock(&m, 0), "and that of CPU 0 is free");
        assert!(!l.lock(&m, 2));
    }

    #[test]
    fn global_locks_are_shared_by_all() {
        let (m, mut l) = (machine(), SpinLocks::new(Scope::Global, 2, 4));
        assert!(l.lock(&m, 0));
        assert!(l.lock(&m, 1));
        assert!(!l.lock(&m, 2));
        let mut go_on = vec![];
        l.unlock(&m, 0, &mut go_on);
        assert_eq!(go_on, [2]);
        assert_eq!(l.held(), 2);
    }
}
