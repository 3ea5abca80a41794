//! Handing requests to worker threads without locks.
//!
//! A lock would put the workers' scheduling between an arrival and its dispatch: a preempted holder would hold up the
//! generator, and arrivals would no longer come when they are meant to. So an idle worker offers itself in a queue, the
//! waker claims it with one exchange, writes the request into its slot and wakes it. Only when no worker is idle does a
//! request go to the backlog, from which workers help themselves; such requests are counted, since they waited for a
//! worker and not for a CPU.

use crate::sys;
use crossbeam::queue::SegQueue;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const BUSY: u32 = 0;
const IDLE: u32 = 1;
const CLAIMED: u32 = 2;
const READY: u32 = 3;
const ENDED: u32 = 4;

/// How a worker blocks. The two differ in the system call a scheduler sees last before the burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    Futex,
    Read,
}

/// One worker's mailbox.
pub struct Slot {
    state: AtomicU32,
    request: AtomicU32,
    event: Option<OwnedFd>,
    blocks_in_read: AtomicU32,
}

impl Slot {
    /// A slot; `with_read` prepares it for blocking in read(2) too.
    pub fn new(with_read: bool) -> std::io::Result<Self> {
        let event = if with_read {
            Some(eventfd(0, EventfdFlags::CLOEXEC)?)
        } else {
            None
        };
        Ok(Self {
            state: AtomicU32::new(BUSY),
            request: AtomicU32::new(0),
            event,
            blocks_in_read: AtomicU32::new(0),
        })
    }

    fn deliver(&self, request: u32) {
        self.request.store(request, Ordering::Relaxed);
        self.state.store(READY, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        match &self.event {
            Some(fd) if self.blocks_in_read.load(Ordering::Acquire) == 1 => {
                // Could fail, or block, only with 2^64 - 2 events in it.
                let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
            }
            _ => sys::futex_wake(&self.state, 1),
        }
    }

    /// Wake the worker if it waits, once `stop` says so: it has no time-out to find that out by itself, since wake-ups
    /// that are no requests would be part of the load.
    pub fn end(&self) {
        let waits = self
            .state
            .compare_exchange(IDLE, ENDED, Ordering::SeqCst, Ordering::Relaxed);
        if waits.is_ok() {
            self.wake();
        }
    }

    /// Block until a request is delivered or `stop` says so.
    fn wait(&self, block: Block, stop: &dyn Fn() -> bool) -> Option<u32> {
        loop {
            match self.state.load(Ordering::Acquire) {
                READY => {
                    self.state.store(BUSY, Ordering::Release);
                    if let (Block::Read, Some(fd)) = (block, &self.event) {
                        // Take the event that was, or is about to be, written with the request.
                        let _ = rustix::io::read(fd, &mut [0; 8]);
                    }
                    return Some(self.request.load(Ordering::Relaxed));
                }
                ENDED => return None,
                state => {
                    // After the state was stored as idle, in one total order with end(): one of the two sees the other.
                    if stop()
                        && self
                            .state
                            .compare_exchange(IDLE, BUSY, Ordering::SeqCst, Ordering::Relaxed)
                            .is_ok()
                    {
                        return None;
                    }
                    match (block, &self.event) {
                        (Block::Read, Some(fd)) => {
                            // Whether it is there, the state will say.
                            let _ = poll(&mut [PollFd::new(fd, PollFlags::IN)], None);
                        }
                        _ => sys::futex_wait(&self.state, state, None),
                    }
                }
            }
        }
    }
}

/// Workers that may take each other's place.
#[derive(Default)]
pub struct Pool {
    free: SegQueue<usize>,
    backlog: SegQueue<u32>,
    /// Requests that found no idle worker.
    pub queued: AtomicU64,
}

impl Pool {
    /// Give `request` to an idle worker of the pool, or queue it. Called by wakers.
    pub fn dispatch(&self, slots: &[Slot], request: u32) {
        if let Some(w) = self.claim(slots) {
            slots[w].deliver(request);
            return;
        }
        self.queued.fetch_add(1, Ordering::Relaxed);
        self.backlog.push(request);
        // A worker may have gone idle between the look and the push; it then saw an empty backlog.
        if let Some(w) = self.claim(slots) {
            match self.backlog.pop() {
                Some(r) => slots[w].deliver(r),
                None => self.offer(slots, w),
            }
        }
    }

    fn claim(&self, slots: &[Slot]) -> Option<usize> {
        // An entry is stale if its worker helped itself to the backlog since: skip it.
        std::iter::from_fn(|| self.free.pop()).find(|w| {
            slots[*w]
                .state
                .compare_exchange(IDLE, CLAIMED, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        })
    }

    /// Put a claimed worker back.
    fn offer(&self, slots: &[Slot], w: usize) {
        slots[w].state.store(IDLE, Ordering::Release);
        sys::futex_wake(&slots[w].state, 1);
        self.free.push(w);
    }

    /// Worker `me`'s next request: from the backlog, or by going idle. `None` when `stop` says so.
    pub fn next(
        &self,
        slots: &[Slot],
        me: usize,
        block: Block,
        stop: &dyn Fn() -> bool,
    ) -> Option<u32> {
        let slot = &slots[me];
        loop {
            if let Some(r) = self.backlog.pop() {
                return Some(r);
            }
            if stop() {
                return None;
            }
            slot.blocks_in_read
                .store(u32::from(block == Block::Read), Ordering::Release);
            slot.state.store(IDLE, Ordering::SeqCst);
            self.free.push(me);
            // The other half of the race in `dispatch`.
            if !self.backlog.is_empty()
                && slot
                    .state
                    .compare_exchange(IDLE, BUSY, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                continue;
            }
            return slot.wait(block, stop);
        }
    }

    /// About how many workers wait for a request.
    pub fn idle(&self) -> usize {
        self.free.len()
    }

    /// Whether requests wait for a worker.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    /// Every request is handled exactly once, whatever the interleaving, with both ways to block.
    #[test]
    fn no_request_is_lost_or_done_twice() {
        const REQUESTS: u32 = 20_000;
        for block in [Block::Futex, Block::Read] {
            let slots: Vec<Slot> = (0..4).map(|_| Slot::new(true).expect("eventfd")).collect();
            let (pool, done) = (Pool::default(), AtomicBool::new(false));
            let counts: Vec<AtomicU32> = (0..REQUESTS).map(|_| AtomicU32::new(0)).collect();
            std::thread::scope(|s| {
                for me in 0..slots.len() {
                    let (pool, slots, done, counts) = (&pool, &slots, &done, &counts);
                    s.spawn(move || {
                        while let Some(r) =
                            pool.next(slots, me, block, &|| done.load(Ordering::SeqCst))
                        {
                            counts[r as usize].fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                for half in 0..2 {
                    let (pool, slots) = (&pool, &slots);
                    s.spawn(move || {
                        (half..REQUESTS)
                            .step_by(2)
                            .for_each(|r| pool.dispatch(slots, r))
                    });
                }
                while counts.iter().any(|c| c.load(Ordering::Relaxed) == 0) {
                    std::thread::yield_now();
                }
                done.store(true, Ordering::SeqCst);
                slots.iter().for_each(Slot::end);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
        }
    }
}
