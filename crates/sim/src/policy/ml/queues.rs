//! Dispatch queues, as the kernel's ordered DSQs: by key, first in first out among equals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::machine::TaskId;

/// An ordered queue. Keys do not wrap: virtual clocks start far from either end.
#[derive(Debug, Clone, Default)]
pub struct Dsq {
    heap: BinaryHeap<Reverse<(u64, u64, TaskId)>>,
    order: u64,
}

impl Dsq {
    pub fn insert(&mut self, t: TaskId, key: u64) {
        self.order += 1;
        self.heap.push(Reverse((key, self.order, t)));
    }

    pub fn pop(&mut self) -> Option<TaskId> {
        self.heap.pop().map(|Reverse((.., t))| t)
    }

    /// Key of the first; u64::MAX when empty.
    pub fn head_key(&self) -> u64 {
        self.head().map_or(u64::MAX, |(_, key)| key)
    }

    /// The first task and its key.
    pub fn head(&self) -> Option<(TaskId, u64)> {
        self.heap.peek().map(|Reverse((key, _, t))| (*t, *key))
    }

    pub fn len(&self) -> u32 {
        self.heap.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}
