//! Dispatch queues, as the kernel's ordered DSQs: by key, first in first out among equals.

use std::collections::BTreeMap;

use crate::machine::TaskId;
use crate::topology::{CpuId, CpuSet};

/// An ordered queue. Keys do not wrap: virtual clocks start far from either end.
#[derive(Debug, Clone, Default)]
pub struct Dsq {
    /// By key, then by the order of insertion.
    tasks: BTreeMap<(u64, u64), TaskId>,
    order: u64,
}

impl Dsq {
    pub fn insert(&mut self, t: TaskId, key: u64) {
        self.order += 1;
        self.tasks.insert((key, self.order), t);
    }

    pub fn pop(&mut self) -> Option<TaskId> {
        self.tasks.pop_first().map(|(_, t)| t)
    }

    /// Key of the first; u64::MAX when empty.
    pub fn head_key(&self) -> u64 {
        self.head().map_or(u64::MAX, |(_, key)| key)
    }

    /// The first task and its key.
    pub fn head(&self) -> Option<(TaskId, u64)> {
        self.tasks.first_key_value().map(|(&(key, _), &t)| (t, key))
    }

    /// Of the last `nr` tasks, the last one for which `is_it` holds, is put before this key. Whether there was one.
    pub fn put_before(&mut self, key: u64, nr: usize, is_it: impl Fn(TaskId) -> bool) -> bool {
        let found = self.tasks.iter().rev().take(nr).find(|(_, t)| is_it(**t));
        let Some((&place, &t)) = found else {
            return false;
        };
        self.tasks.remove(&place);
        self.insert(t, key - 1);
        true
    }

    /// Of the first `nr` tasks, the first one for which `is_it` holds.
    pub fn find(&self, nr: usize, is_it: impl Fn(TaskId) -> bool) -> Option<TaskId> {
        self.tasks.values().take(nr).copied().find(|&t| is_it(t))
    }

    pub fn remove(&mut self, t: TaskId) {
        self.tasks.retain(|_, &mut other| other != t);
    }

    pub fn len(&self) -> u32 {
        self.tasks.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

/// A lane per CPU.
#[derive(Debug, Clone)]
pub struct Lanes {
    lanes: Vec<Dsq>,
    /// CPUs whose lanes are not empty.
    pub waiting: CpuSet,
}

impl Lanes {
    pub fn new(cpus: usize) -> Self {
        Self {
            lanes: vec![Dsq::default(); cpus],
            waiting: CpuSet::empty(),
        }
    }

    pub fn of(&self, cpu: CpuId) -> &Dsq {
        &self.lanes[cpu as usize]
    }

    pub fn remove(&mut self, cpu: CpuId, t: TaskId) {
        let lane = &mut self.lanes[cpu as usize];
        lane.remove(t);
        if lane.is_empty() {
            self.waiting.remove(cpu);
        }
    }

    pub fn insert(&mut self, cpu: CpuId, t: TaskId, key: u64) {
        self.lanes[cpu as usize].insert(t, key);
        self.waiting.insert(cpu);
    }

    pub fn pop(&mut self, cpu: CpuId) -> Option<TaskId> {
        let lane = &mut self.lanes[cpu as usize];
        let t = lane.pop()?;
        if lane.is_empty() {
            self.waiting.remove(cpu);
        }
        Some(t)
    }

    /// A CPU's lane, which is to be put back with the same tasks in it.
    pub fn take(&mut self, cpu: CpuId) -> Dsq {
        std::mem::take(&mut self.lanes[cpu as usize])
    }

    pub fn put_back(&mut self, cpu: CpuId, lane: Dsq) {
        self.lanes[cpu as usize] = lane;
    }
}
