//! Threads that take one of few locks and yield while they hold it: sysbench's `threads`, a closed loop.
//!
//! Who finds the lock taken blocks; who lets it go wakes one that waits, and mostly has it again before that one runs.

use rand_chacha::ChaCha8Rng;

use super::futex::Mutex;
use super::{Load, Next, Order, named, stream, vary};
use crate::machine::{Machine, TaskId, TaskSpec, Waker};
use crate::record::{Recorder, Request};

/// See the fields.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct YieldsParams {
    pub threads: u32,
    pub locks: u32,
    /// Yields of an event.
    pub yields: u32,
    /// CPU time of a step, taking a lock or yielding, varied by ± 5 %.
    pub step_ns: u64,
    /// CPU time of a wake-up, for who wakes, and of the way back from a system call, for who was woken.
    pub wake_ns: u64,
    pub seed: u64,
}

struct Thread {
    /// It has the lock and is back from its yield.
    holds: bool,
    yields: u32,
    events: u32,
    since_ns: u64,
    rng: ChaCha8Rng,
}

/// See the module.
pub struct Yields {
    p: YieldsParams,
    threads: Vec<Thread>,
    locks: Vec<Mutex>,
}

impl Yields {
    pub fn new(p: YieldsParams) -> Self {
        let thread = |task| Thread {
            holds: false,
            yields: 0,
            events: 0,
            since_ns: 0,
            rng: stream(p.seed, task),
        };
        Self {
            threads: (0..p.threads).map(thread).collect(),
            locks: vec![Mutex::default(); p.locks as usize],
            p,
        }
    }
}

impl Load for Yields {
    fn tasks(&self) -> Vec<TaskSpec> {
        vec![named("yields"); self.p.threads as usize]
    }

    fn timers(&self) -> usize {
        0
    }

    fn classes(&self) -> &'static [&'static str] {
        &["event"]
    }

    fn begin(&mut self, orders: &mut Vec<Order>) {
        let wake = |task| Order::wake_by(task, self.p.step_ns, Waker::Nobody);
        orders.extend((0..self.p.threads).map(wake));
    }

    fn timer(&mut self, _now_ns: u64, _timer: u32, _orders: &mut Vec<Order>) {}

    fn done(
        &mut self,
        m: &Machine,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next {
        let t = &mut self.threads[task as usize];
        let lock = &mut self.locks[((task + t.events) % self.p.locks) as usize];
        if !t.holds {
            t.holds = lock.lock(task);
            return match t.holds {
                true => Next::Yield(vary(&mut t.rng, self.p.step_ns)),
                false => Next::Block,
            };
        }
        t.holds = false;
        let mut work_ns = vary(&mut t.rng, self.p.step_ns);
        if let Some(next) = lock.unlock(task) {
            orders.push(Order::wake(next, self.p.wake_ns, task));
            work_ns += self.p.wake_ns;
        }
        t.yields += 1;
        if t.yields == self.p.yields {
            let event = Request {
                at_ns: t.since_ns,
                work_ns: 2 * self.p.step_ns * u64::from(self.p.yields),
                class: 0,
            };
            recorder.done(&event, m.now_ns);
            t.since_ns = m.now_ns;
            t.yields = 0;
            t.events = t.events.wrapping_add(1);
        }
        Next::Work(work_ns)
    }

    fn metrics(&self, m: &Machine, recorder: &Recorder) -> Vec<(String, f64)> {
        vec![("events_per_s".to_string(), recorder.rate(0, m.now_ns))]
    }

    fn drains(&self) -> bool {
        false
    }
}
