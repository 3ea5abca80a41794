//! Requests that arrive whether or not the machine keeps up, served by pools of workers: the benchmark's `open-loop`.
//!
//! A request goes to a worker that has been idle for the longest; where none is idle it waits in a backlog, and a worker
//! that finishes takes it without blocking, so that its burst goes on.

use std::collections::VecDeque;

use clap::ValueEnum;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use scx_ml::kernel::native;

use super::sizes::{Sizes, exponential};
use super::{Load, Next, Order};
use crate::machine::{Machine, TaskId, TaskSpec, Waker};
use crate::record::{Recorder, Request};

/// What tells the length of a request to somebody who does not know the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reveal {
    /// Nothing.
    None,
    /// The waker's name: one wakes for short requests, another for long ones.
    Name,
    /// The waker's own usual burst, which differs by two octaves; the names are the same.
    Burst,
    /// The system call in which the worker blocked.
    Syscall,
}

/// See the fields.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct OpenLoopParams {
    pub sizes: Sizes,
    /// Share of all CPUs' time that the requests ask for.
    pub load: f64,
    pub cpus: u32,
    /// Workers in all.
    pub workers: u32,
    /// Probability that a request goes to a worker whose last one was of the same class. 1: dedicated workers, as the
    /// benchmark has them; 0: shared ones. Between the two, a worker changes its mode now and then.
    pub persistence: f64,
    pub reveal: Reveal,
    /// Probability that what is revealed is true.
    pub reveal_accuracy: f64,
    /// CPU time that an ordinary task takes to hand out a request; 0: requests come by interrupts.
    pub generator_ns: u64,
    /// When arrivals end.
    pub arrivals_ns: u64,
    pub seed: u64,
}

/// Names of wakers by what they reveal; the generator of the benchmark is called the same for both.
const WAKER_NAMES: [&str; 2] = ["ol-shorts", "ol-longs"];
const GENERATOR_NAME: &str = "ol-arrivals";

/// Usual burst of wakers outside the simulation, log2(ns) Q8.
const WAKER_BURSTS_Q8: [i32; 2] = [15 * 256, 17 * 256];

/// Classes of system calls, as [`crate::machine::Task::blocked_in`] counts them: futex and file I/O.
const BLOCKED_IN: [u8; 2] = [4, 0];

#[derive(Debug, Clone, Copy)]
struct Arrival {
    request: Request,
    /// The class that is shown to the scheduler.
    shown: u8,
    /// Whether a worker of the same class is looked for.
    sticky: bool,
}

/// A generator that is a task of the simulation.
struct Generator {
    task: TaskId,
    due: VecDeque<Arrival>,
    busy: bool,
}

/// See the module.
pub struct OpenLoop {
    p: OpenLoopParams,
    rng: ChaCha8Rng,
    gap_ns: f64,
    at_ns: f64,
    next: Option<Arrival>,
    /// Idle workers by the class of their last request, the longest idle first, with the time since when.
    free: [VecDeque<(u64, TaskId)>; 2],
    backlog: VecDeque<Arrival>,
    /// What each worker serves.
    serving: Vec<Option<Request>>,
    generators: Vec<Generator>,
    idle_order: u64,
}

impl OpenLoop {
    pub fn new(p: OpenLoopParams) -> Self {
        let gap_ns = p.sizes.mean_ms() * 1e6 / (p.load * f64::from(p.cpus));
        let nr_generators = match (p.generator_ns, p.reveal) {
            (0, _) => 0,
            (_, Reveal::Name | Reveal::Burst) => 2,
            _ => 1,
        };
        Self {
            rng: ChaCha8Rng::seed_from_u64(p.seed),
            gap_ns,
            at_ns: 0.0,
            next: None,
            free: [VecDeque::new(), VecDeque::new()],
            backlog: VecDeque::new(),
            serving: vec![None; p.workers as usize],
            generators: (0..nr_generators)
                .map(|i| Generator {
                    task: p.workers + i,
                    due: VecDeque::new(),
                    busy: false,
                })
                .collect(),
            idle_order: 0,
            p,
        }
    }

    /// Draw the next arrival, if there is one more, and set the timer for it.
    fn draw(&mut self, orders: &mut Vec<Order>) {
        self.at_ns += exponential(&mut self.rng, self.gap_ns);
        let (work_ns, class) = self.p.sizes.draw(&mut self.rng);
        let honest = self.rng.random::<f64>() < self.p.reveal_accuracy;
        let sticky = self.rng.random::<f64>() < self.p.persistence;
        let at_ns = self.at_ns as u64;
        if at_ns >= self.p.arrivals_ns {
            self.next = None;
            return;
        }
        self.next = Some(Arrival {
            request: Request {
                at_ns,
                work_ns: work_ns.max(1),
                class,
            },
            shown: if honest { class } else { 1 - class },
            sticky,
        });
        orders.push(Order::Timer { timer: 0, at_ns });
    }

    fn idle(&mut self, worker: TaskId, class: u8) {
        self.idle_order += 1;
        self.free[usize::from(class)].push_back((self.idle_order, worker));
    }

    /// The worker for a request.
    fn claim(&mut self, a: &Arrival) -> Option<TaskId> {
        let own = usize::from(a.request.class);
        let list = if a.sticky {
            if self.p.persistence >= 1.0 || !self.free[own].is_empty() {
                own
            } else {
                1 - own
            }
        } else {
            // The longest idle of all.
            let head = |i: usize| self.free[i].front().map_or(u64::MAX, |f| f.0);
            usize::from(head(1) < head(0))
        };
        self.free[list].pop_front().map(|(_, w)| w)
    }

    /// Hand a request to a worker.
    fn deliver(&mut self, a: Arrival, waker: Waker, orders: &mut Vec<Order>) {
        let Some(worker) = self.claim(&a) else {
            self.backlog.push_back(a);
            return;
        };
        self.serving[worker as usize] = Some(a.request);
        orders.push(Order::Wake {
            task: worker,
            work_ns: a.request.work_ns,
            waker,
            blocked_in: match self.p.reveal {
                Reveal::Syscall => Some(BLOCKED_IN[usize::from(a.shown)]),
                _ => None,
            },
            sync: false,
        });
    }

    fn outside_waker(&self, shown: u8) -> Waker {
        let shown = usize::from(shown);
        match self.p.reveal {
            Reveal::Name => Waker::Outside {
                name_key: native::name_key_of(WAKER_NAMES[shown]),
                log_burst_q8: WAKER_BURSTS_Q8[0],
            },
            Reveal::Burst => Waker::Outside {
                name_key: native::name_key_of(GENERATOR_NAME),
                log_burst_q8: WAKER_BURSTS_Q8[shown],
            },
            Reveal::None | Reveal::Syscall => Waker::Nobody,
        }
    }

    fn generator_of(&self, shown: u8) -> usize {
        usize::from(shown).min(self.generators.len() - 1)
    }

    /// CPU time that a generator takes; where wakers' bursts tell, that of long requests takes four times as long.
    fn generator_ns(&self, generator: usize) -> u64 {
        match self.p.reveal {
            Reveal::Burst => self.p.generator_ns << (2 * generator),
            _ => self.p.generator_ns,
        }
    }
}

impl Load for OpenLoop {
    fn tasks(&self) -> Vec<TaskSpec> {
        let worker = TaskSpec {
            name: "ol-worker".to_string(),
            nice: 0,
        };
        let mut tasks = vec![worker; self.p.workers as usize];
        for waker in WAKER_NAMES.into_iter().take(self.generators.len()) {
            let name = match self.p.reveal {
                Reveal::Name => waker,
                _ => GENERATOR_NAME,
            };
            tasks.push(TaskSpec {
                name: name.to_string(),
                nice: 0,
            });
        }
        tasks
    }

    fn timers(&self) -> usize {
        1
    }

    fn classes(&self) -> &'static [&'static str] {
        self.p.sizes.classes()
    }

    fn begin(&mut self, orders: &mut Vec<Order>) {
        for worker in 0..self.p.workers {
            // Dedicated workers are half and half, as the benchmark's.
            let class = if self.classes().len() > 1 {
                worker % 2
            } else {
                0
            };
            self.idle(worker, class as u8);
        }
        self.draw(orders);
    }

    fn timer(&mut self, _now_ns: u64, _timer: u32, orders: &mut Vec<Order>) {
        let Some(arrival) = self.next.take() else {
            return;
        };
        if self.generators.is_empty() {
            let waker = self.outside_waker(arrival.shown);
            self.deliver(arrival, waker, orders);
        } else {
            let i = self.generator_of(arrival.shown);
            let work_ns = self.generator_ns(i);
            let g = &mut self.generators[i];
            g.due.push_back(arrival);
            if !g.busy {
                g.busy = true;
                orders.push(Order::Wake {
                    task: g.task,
                    work_ns,
                    waker: Waker::Nobody,
                    blocked_in: None,
                    sync: false,
                });
            }
        }
        self.draw(orders);
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
            let i = (task - self.p.workers) as usize;
            if let Some(arrival) = self.generators[i].due.pop_front() {
                self.deliver(arrival, Waker::Task(task), orders);
            }
            let work_ns = self.generator_ns(i);
            let g = &mut self.generators[i];
            g.busy = !g.due.is_empty();
            return if g.busy {
                Next::Work(work_ns)
            } else {
                Next::Block
            };
        }
        let Some(request) = self.serving[task as usize].take() else {
            return Next::Block;
        };
        recorder.done(&request, now_ns);
        // A dedicated worker takes only what is its own.
        let own = |a: &Arrival| self.p.persistence < 1.0 || a.request.class == request.class;
        if let Some(at) = self.backlog.iter().position(own)
            && let Some(a) = self.backlog.remove(at)
        {
            self.serving[task as usize] = Some(a.request);
            return Next::Work(a.request.work_ns);
        }
        self.idle(task, request.class);
        Next::Block
    }
}
