//! Messengers wake workers that work under a lock: what the real `schbench` does, a closed loop.
//!
//! A worker puts itself on its messenger's list, posts the messenger and waits. The messenger takes the whole list and wakes
//! one after the other; meanwhile others list themselves. A worker that was woken sleeps for its think time, takes the lock
//! of the CPU that it is on, spinning for as long as another holds it, works, and lets the lock go.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::futex::Posts;
use super::sizes::noise;
use super::spin::{Scope, SpinLocks};
use super::{Load, Next, Order, named, stream, vary};
use crate::machine::{Machine, TaskId, TaskSpec, Waker};
use crate::record::{Recorder, Request};

/// See the fields.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct SchbenchParams {
    pub messengers: u32,
    /// Workers in all.
    pub workers: u32,
    /// CPU time of a request under the lock, varied by ± 5 %.
    pub work_ns: u64,
    /// Noise on it, octaves: what caches and a host that has other things to do make of equal work.
    pub spread: f64,
    /// Think time before it.
    pub sleep_ns: u64,
    /// How often a worker sleeps for that long before it works.
    pub sleeps: u32,
    /// Share of sleeps that do not block: on a slow machine their timers are there before the task is off its CPU.
    pub missed_sleeps: f64,
    /// CPU time of a wake-up, for who wakes, and of the way back from a system call, for who was woken.
    pub wake_ns: u64,
    pub scope: Scope,
    /// Locks, where they are global.
    pub locks: u32,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// On its messenger's list: it waits, or has been woken.
    Listed,
    /// Asleep or woken from that; it sleeps so many times more.
    Thinks(u32),
    /// Has the lock or spins for it.
    Works,
    /// Has posted its messenger and is about to wait.
    Posts,
}

struct Worker {
    step: Step,
    /// When its messenger began the round in which it woke this one.
    round_ns: u64,
    /// When its request began.
    since_ns: u64,
    work_ns: u64,
    rng: ChaCha8Rng,
}

#[derive(Default)]
struct Messenger {
    listed: Vec<TaskId>,
    /// Those of the list that it took whom it has not woken yet.
    round: Vec<TaskId>,
    round_ns: u64,
}

/// See the module. Tasks: first the workers, then the messengers.
pub struct Schbench {
    p: SchbenchParams,
    workers: Vec<Worker>,
    messengers: Vec<Messenger>,
    posts: Posts,
    locks: SpinLocks,
    go_on: Vec<TaskId>,
}

impl Schbench {
    pub fn new(p: SchbenchParams) -> Self {
        let worker = |task| Worker {
            step: Step::Listed,
            round_ns: 0,
            since_ns: 0,
            work_ns: p.work_ns,
            rng: stream(p.seed, task),
        };
        Self {
            workers: (0..p.workers).map(worker).collect(),
            messengers: (0..p.messengers)
                .map(|i| Messenger {
                    listed: (0..p.workers).filter(|w| w % p.messengers == i).collect(),
                    ..Default::default()
                })
                .collect(),
            posts: Posts::new(p.workers + p.messengers),
            locks: SpinLocks::new(p.scope, p.locks, p.workers),
            go_on: vec![],
            p,
        }
    }

    /// A messenger that runs wakes the next on its list, takes the list anew, or blocks.
    fn messenger(&mut self, now_ns: u64, task: TaskId, orders: &mut Vec<Order>) -> Next {
        let messenger = &mut self.messengers[(task - self.p.workers) as usize];
        if let Some(worker) = messenger.round.pop() {
            self.workers[worker as usize].round_ns = messenger.round_ns;
            if self.posts.post(worker) {
                orders.push(Order::wake(worker, self.p.wake_ns, task));
            }
        }
        if messenger.round.is_empty() {
            if messenger.listed.is_empty() && self.posts.wait(task) {
                return Next::Block;
            }
            self.posts.take(task);
            std::mem::swap(&mut messenger.round, &mut messenger.listed);
            messenger.round_ns = now_ns;
        }
        Next::Work(self.p.wake_ns)
    }

    /// A worker that was woken begins a request. Whether it sleeps.
    fn begin_request(
        &mut self,
        now_ns: u64,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> bool {
        let w = &mut self.workers[task as usize];
        let woken = Request {
            at_ns: w.round_ns,
            work_ns: self.p.wake_ns,
            class: 0,
        };
        recorder.done(&woken, now_ns);
        w.since_ns = now_ns;
        let noise = noise(&mut w.rng, self.p.spread);
        w.work_ns = (vary(&mut w.rng, self.p.work_ns) as f64 * noise) as u64;
        let missed = self.p.missed_sleeps > 0.0 && w.rng.random::<f64>() < self.p.missed_sleeps;
        if !missed {
            self.sleep(now_ns, task, self.p.sleeps.max(1), orders);
        }
        !missed
    }

    /// A worker takes its lock, or spins for it.
    fn work(&mut self, m: &Machine, task: TaskId) -> Next {
        let w = &mut self.workers[task as usize];
        w.step = Step::Works;
        let work_ns = w.work_ns;
        match self.locks.lock(m, task) {
            true => Next::Work(work_ns),
            false => Next::Spin,
        }
    }

    fn sleep(&mut self, now_ns: u64, task: TaskId, times: u32, orders: &mut Vec<Order>) {
        self.workers[task as usize].step = Step::Thinks(times - 1);
        let at_ns = now_ns + self.p.sleep_ns;
        orders.push(Order::Timer { timer: task, at_ns });
    }

    /// A worker's work is done: it lets the lock go, lists itself and posts its messenger.
    fn end_request(
        &mut self,
        m: &Machine,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next {
        self.locks.unlock(m, task, &mut self.go_on);
        for spinner in self.go_on.drain(..) {
            let work_ns = self.workers[spinner as usize].work_ns;
            orders.push(Order::Proceed {
                task: spinner,
                work_ns,
            });
        }
        let w = &mut self.workers[task as usize];
        let request = Request {
            at_ns: w.since_ns,
            work_ns: w.work_ns,
            class: 1,
        };
        recorder.done(&request, m.now_ns);
        w.step = Step::Posts;
        let i = task % self.p.messengers;
        self.messengers[i as usize].listed.push(task);
        let messenger = self.p.workers + i;
        if self.posts.post(messenger) {
            orders.push(Order::wake(messenger, self.p.wake_ns, task));
        }
        Next::Work(self.p.wake_ns)
    }
}

impl Load for Schbench {
    fn tasks(&self) -> Vec<TaskSpec> {
        let mut tasks = vec![named("schbench-worker"); self.p.workers as usize];
        tasks.extend(vec![named("schbench-msg"); self.p.messengers as usize]);
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
            let messenger = self.p.workers + i;
            self.posts.post(messenger);
            let wake = Order::wake_by(messenger, self.p.wake_ns, Waker::Nobody);
            orders.push(wake);
        }
    }

    fn timer(&mut self, _now_ns: u64, worker: u32, orders: &mut Vec<Order>) {
        orders.push(Order::wake_by(worker, self.p.wake_ns, Waker::Nobody));
    }

    fn done(
        &mut self,
        m: &Machine,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next {
        let now_ns = m.now_ns;
        if task >= self.p.workers {
            return self.messenger(now_ns, task, orders);
        }
        match self.workers[task as usize].step {
            Step::Listed => {
                self.posts.take(task);
                match self.begin_request(now_ns, task, orders, recorder) {
                    true => Next::Block,
                    false => self.work(m, task),
                }
            }
            Step::Thinks(0) => self.work(m, task),
            Step::Thinks(times) => {
                self.sleep(now_ns, task, times, orders);
                Next::Block
            }
            Step::Works => self.end_request(m, task, orders, recorder),
            Step::Posts => {
                self.workers[task as usize].step = Step::Listed;
                if !self.posts.wait(task) && !self.begin_request(now_ns, task, orders, recorder) {
                    return self.work(m, task);
                }
                Next::Block
            }
        }
    }

    fn resumes(&mut self, m: &Machine, task: TaskId) -> Option<u64> {
        let work_ns = self.workers[task as usize].work_ns;
        self.locks.resume(m, task).then_some(work_ns)
    }

    fn metrics(&self, m: &Machine, recorder: &Recorder) -> Vec<(String, f64)> {
        let mut metrics = vec![("requests_per_s".to_string(), recorder.rate(1, m.now_ns))];
        if self.p.scope != Scope::None {
            metrics.push(("spin_share".to_string(), m.spin_share()));
        }
        metrics
    }

    fn drains(&self) -> bool {
        false
    }
}
