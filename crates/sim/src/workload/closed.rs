//! Messengers wake workers that compute: the benchmark's `schbench-like`, a closed loop.
//!
//! A worker that is woken runs for a moment, sleeps, works, puts itself on its messenger's list and wakes that. The
//! messenger wakes everybody on its list, one after the other.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Load, Next, Order};
use crate::machine::{Machine, TaskId, TaskSpec, Waker};
use crate::record::{Recorder, Request};

/// See the fields.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct ClosedParams {
    pub messengers: u32,
    /// Workers in all.
    pub workers: u32,
    /// CPU time of a request, varied by ± 5 % so that the loop does not lock into step.
    pub work_ns: u64,
    /// Sleep before it, standing for network or disk.
    pub sleep_ns: u64,
    /// CPU time of one wake-up for the messenger, and of what a woken worker does before it sleeps.
    pub wake_ns: u64,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// On its messenger's list.
    Listed,
    /// Woken by the messenger, which began its round at this time.
    Woken(u64),
    /// Asleep; it starts on its request when it was meant to wake.
    Asleep(u64),
    Working(u64),
}

struct Messenger {
    list: Vec<TaskId>,
    round_ns: u64,
    busy: bool,
}

/// See the module. Tasks: first the workers, then the messengers.
pub struct Closed {
    p: ClosedParams,
    rng: ChaCha8Rng,
    steps: Vec<Step>,
    work_ns: Vec<u64>,
    messengers: Vec<Messenger>,
}

impl Closed {
    pub fn new(p: ClosedParams) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(p.seed),
            steps: vec![Step::Listed; p.workers as usize],
            work_ns: vec![p.work_ns; p.workers as usize],
            messengers: (0..p.messengers)
                .map(|i| Messenger {
                    list: (0..p.workers).filter(|w| w % p.messengers == i).collect(),
                    round_ns: 0,
                    busy: false,
                })
                .collect(),
            p,
        }
    }

    fn start_round(&mut self, now_ns: u64, i: u32, waker: Waker, orders: &mut Vec<Order>) {
        let m = &mut self.messengers[i as usize];
        if m.busy {
            return;
        }
        m.busy = true;
        m.round_ns = now_ns;
        orders.push(Order::Wake {
            task: self.p.workers + i,
            work_ns: self.p.wake_ns,
            waker,
            blocked_in: None,
            sync: false,
        });
    }
}

impl Load for Closed {
    fn tasks(&self) -> Vec<TaskSpec> {
        let spec = |name: &str| TaskSpec {
            name: name.to_string(),
            nice: 0,
        };
        let mut tasks = vec![spec("sb-worker"); self.p.workers as usize];
        tasks.extend(vec![spec("sb-messenger"); self.p.messengers as usize]);
        tasks
    }

    fn timers(&self) -> usize {
        self.p.workers as usize
    }

    fn classes(&self) -> &'static [&'static str] {
        &["wakeup", "request"]
    }

    fn begin(&mut self, orders: &mut Vec<Order>) {
        for i in 0..self.p.messengers {
            self.start_round(0, i, Waker::Nobody, orders);
        }
    }

    fn timer(&mut self, now_ns: u64, worker: u32, orders: &mut Vec<Order>) {
        let jitter = 0.95 + 0.1 * self.rng.random::<f64>();
        let work_ns = (self.p.work_ns as f64 * jitter) as u64;
        self.work_ns[worker as usize] = work_ns;
        self.steps[worker as usize] = Step::Working(now_ns);
        orders.push(Order::Wake {
            task: worker,
            work_ns,
            waker: Waker::Nobody,
            blocked_in: None,
            sync: false,
        });
    }

    fn done(
        &mut self,
        m: &Machine,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next {
        let now_ns = m.now_ns;
        if let Some(i) = task.checked_sub(self.p.workers) {
            let m = &mut self.messengers[i as usize];
            if let Some(worker) = m.list.pop() {
                self.steps[worker as usize] = Step::Woken(m.round_ns);
                orders.push(Order::Wake {
                    task: worker,
                    work_ns: self.p.wake_ns,
                    waker: Waker::Task(task),
                    blocked_in: None,
                    sync: false,
                });
            }
            m.busy = !m.list.is_empty();
            return if m.busy {
                Next::Work(self.p.wake_ns)
            } else {
                Next::Block
            };
        }
        let record = |recorder: &mut Recorder, at_ns, work_ns, class| {
            let request = Request {
                at_ns,
                work_ns,
                class,
            };
            recorder.done(&request, now_ns);
        };
        match self.steps[task as usize] {
            Step::Woken(since_ns) => {
                record(recorder, since_ns, self.p.wake_ns, 0);
                let at_ns = now_ns + self.p.sleep_ns;
                self.steps[task as usize] = Step::Asleep(at_ns);
                orders.push(Order::Timer { timer: task, at_ns });
            }
            Step::Working(since_ns) => {
                record(recorder, since_ns, self.work_ns[task as usize], 1);
                self.steps[task as usize] = Step::Listed;
                let i = task % self.p.messengers;
                self.messengers[i as usize].list.push(task);
                self.start_round(now_ns, i, Waker::Task(task), orders);
            }
            Step::Listed | Step::Asleep(_) => {}
        }
        Next::Block
    }

    fn drains(&self) -> bool {
        false
    }
}
