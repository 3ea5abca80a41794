//! The event queue: an indexed heap of timers.
//!
//! Every source of events (a CPU, a timer of the workload) owns one slot and has at most one event pending. A CPU whose
//! running task is preempted moves its event instead of leaving a stale one behind, so the heap never holds more entries
//! than there are slots and nothing is allocated while the simulation runs.

/// Children of a node. Four keep the heap shallow and a node's children in one or two cache lines.
const ARITY: usize = 4;

const ABSENT: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at_ns: u64,
    /// Order in which events were set: those of the same time fire in it, so that a run has one outcome.
    order: u64,
    slot: u32,
}

/// Timers by slot, the earliest first.
#[derive(Debug, Clone, Default)]
pub struct TimerHeap {
    heap: Vec<Entry>,
    /// Index in `heap` of each slot, or [`ABSENT`].
    place: Vec<u32>,
    next_order: u64,
}

impl TimerHeap {
    /// No timer is set.
    pub fn new(slots: usize) -> Self {
        Self {
            heap: Vec::with_capacity(slots),
            place: vec![ABSENT; slots],
            next_order: 0,
        }
    }

    /// Set or move a slot's timer.
    pub fn set(&mut self, slot: u32, at_ns: u64) {
        let entry = Entry {
            at_ns,
            order: self.next_order,
            slot,
        };
        self.next_order += 1;
        let at = self.place[slot as usize];
        if at == ABSENT {
            self.heap.push(entry);
            self.up(self.heap.len() - 1, entry);
            return;
        }
        let at = at as usize;
        if entry < self.heap[at] {
            self.up(at, entry);
        } else {
            self.down(at, entry);
        }
    }

    /// Unset a slot's timer, if it is set.
    pub fn clear(&mut self, slot: u32) {
        let at = self.place[slot as usize];
        if at == ABSENT {
            return;
        }
        self.place[slot as usize] = ABSENT;
        let Some(last) = self.heap.pop() else { return };
        let at = at as usize;
        if at == self.heap.len() {
            return;
        }
        if last < self.heap[at] {
            self.up(at, last);
        } else {
            self.down(at, last);
        }
    }

    /// The earliest timer: time and slot. It stays set.
    pub fn first(&self) -> Option<(u64, u32)> {
        self.heap.first().map(|e| (e.at_ns, e.slot))
    }

    /// Take the earliest timer.
    pub fn pop(&mut self) -> Option<(u64, u32)> {
        let first = self.first()?;
        self.clear(first.1);
        Some(first)
    }

    fn put(&mut self, at: usize, entry: Entry) {
        self.heap[at] = entry;
        self.place[entry.slot as usize] = at as u32;
    }

    fn up(&mut self, mut at: usize, entry: Entry) {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.heap[parent] <= entry {
                break;
            }
            self.put(at, self.heap[parent]);
            at = parent;
        }
        self.put(at, entry);
    }

    fn down(&mut self, mut at: usize, entry: Entry) {
        loop {
            let first = at * ARITY + 1;
            let children = self.heap.get(first..).unwrap_or_default();
            let Some((child, least)) = children
                .iter()
                .take(ARITY)
                .enumerate()
                .min_by_key(|(_, e)| **e)
                .map(|(i, e)| (first + i, *e))
            else {
                break;
            };
            if entry <= least {
                break;
            }
            self.put(at, least);
            at = child;
        }
        self.put(at, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn equal_times_fire_in_the_order_they_were_set() {
        let mut heap = TimerHeap::new(4);
        for slot in [2, 0, 3, 1] {
            heap.set(slot, 7);
        }
        let fired: Vec<u32> = std::iter::from_fn(|| heap.pop().map(|(_, s)| s)).collect();
        assert_eq!(fired, [2, 0, 3, 1]);
    }

    proptest! {
        #[test]
        fn it_is_a_map_that_gives_the_earliest(steps in proptest::collection::vec((0u32..40, 0u64..1000, 0u8..4), 0..400)) {
            let mut heap = TimerHeap::new(40);
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (slot, at, what) in steps {
                match what {
                    0 => {
                        heap.clear(slot);
                        model.remove(&slot);
                    }
                    1 => {
                        let first = heap.pop();
                        prop_assert_eq!(first.map(|f| f.0), model.values().min().copied());
                        if let Some((at, slot)) = first {
                            prop_assert_eq!(model.remove(&slot), Some(at));
                        }
                    }
                    _ => {
                        heap.set(slot, at);
                        model.insert(slot, at);
                    }
                }
            }
        }
    }
}
