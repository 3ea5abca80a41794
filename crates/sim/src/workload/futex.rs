//! Waiting and being woken, as programs do it on Linux.

use std::collections::VecDeque;

use crate::machine::TaskId;

/// A word per task that says whether there is something for it: who posts sets it, who waits takes it, and blocks only where it is
/// not set. So nothing is lost that is posted while the other is about to block.
#[derive(Debug, Clone)]
pub struct Posts {
    posted: Vec<bool>,
    parked: Vec<bool>,
}

impl Posts {
    /// All tasks are blocked, and nothing is there for them.
    pub fn new(tasks: u32) -> Self {
        Self {
            posted: vec![false; tasks as usize],
            parked: vec![true; tasks as usize],
        }
    }

    /// There is something for a task. True: it is blocked, and is to be woken.
    pub fn post(&mut self, task: TaskId) -> bool {
        self.posted[task as usize] = true;
        std::mem::take(&mut self.parked[task as usize])
    }

    /// A task waits. True: it blocks. False: there was something for it.
    pub fn wait(&mut self, task: TaskId) -> bool {
        let blocks = !self.take(task);
        self.parked[task as usize] = blocks;
        blocks
    }

    /// A task takes what is there, and goes on in any case. Whether there was something.
    pub fn take(&mut self, task: TaskId) -> bool {
        std::mem::take(&mut self.posted[task as usize])
    }
}

/// A mutex whose waiters block, first come, first woken. It is not handed over: who comes by while the one that was woken is on its
/// way takes it, and that one blocks once more.
#[derive(Debug, Clone, Default)]
pub struct Mutex {
    holder: Option<TaskId>,
    waiters: VecDeque<TaskId>,
}

impl Mutex {
    /// Whether the task has it now. If not, it blocks, until [`Mutex::unlock`] names it.
    pub fn lock(&mut self, task: TaskId) -> bool {
        let free = self.holder.is_none();
        if free {
            self.holder = Some(task);
        } else {
            assert_ne!(self.holder, Some(task), "it holds the lock already");
            self.waiters.push_back(task);
        }
        free
    }

    /// Who is to be woken, to try again.
    pub fn unlock(&mut self, task: TaskId) -> Option<TaskId> {
        assert_eq!(self.holder, Some(task), "another holds the lock");
        self.holder = None;
        self.waiters.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted_before_the_wait_is_not_lost() {
        let mut p = Posts::new(1);
        assert!(p.post(0), "it was blocked");
        assert!(!p.post(0), "it is on its way");
        assert!(!p.wait(0), "there is something");
        assert!(p.wait(0), "and now nothing more");
        assert!(p.post(0));
        assert!(p.take(0));
        assert!(p.wait(0));
    }

    #[test]
    fn a_mutex_has_one_holder_and_wakes_in_order() {
        let mut l = Mutex::default();
        assert!(l.lock(1));
        assert!(!l.lock(2));
        assert!(!l.lock(3));
        assert_eq!(l.unlock(1), Some(2));
        assert!(l.lock(4), "it is not handed over");
        assert!(!l.lock(2));
        assert_eq!(l.unlock(4), Some(3));
    }

    #[test]
    #[should_panic(expected = "another holds")]
    fn nobody_unlocks_what_another_holds() {
        let mut l = Mutex::default();
        assert!(l.lock(1));
        l.unlock(2);
    }
}
