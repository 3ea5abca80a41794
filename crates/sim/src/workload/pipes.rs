//! Groups of senders and receivers that pass small messages through pipes, all to all within a group: `hackbench`.
//!
//! A sender writes, which wakes a receiver that waits, and runs on; it blocks where a pipe is full. A receiver reads what is there
//! in one go. The run ends with the last message.

use std::collections::VecDeque;

use super::futex::Posts;
use super::{Load, Next, Order, named};
use crate::machine::{Machine, TaskId, TaskSpec, Waker};
use crate::record::{Recorder, Request};

/// See the fields.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct PipesParams {
    pub groups: u32,
    /// Senders of a group, and as many receivers.
    pub pairs: u32,
    /// Messages that each sender passes to each receiver of its group.
    pub messages: u32,
    /// Messages that a pipe takes.
    pub capacity: u32,
    /// CPU time of a message for its sender.
    pub send_ns: u64,
    /// And for its receiver.
    pub receive_ns: u64,
    /// CPU time of a wake-up, for who wakes, and of the way back from a system call, for who was woken.
    pub wake_ns: u64,
}

struct Sender {
    /// Messages sent.
    sent: u32,
    /// It has been woken because a pipe has room again.
    had_to_wait: bool,
}

struct Receiver {
    queued: u32,
    received: u32,
    /// Of what it reads now; 0: it waits or has just been woken.
    reads: u32,
    /// Senders that found the pipe full.
    full_for: VecDeque<TaskId>,
    posted_ns: u64,
}

/// See the module. Tasks: group by group, first the senders, then the receivers.
pub struct Pipes {
    p: PipesParams,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    posts: Posts,
    /// Receivers that wait for more.
    open: u32,
    over_ns: u64,
}

impl Pipes {
    pub fn new(p: PipesParams) -> Self {
        let each = p.groups * p.pairs;
        let sender = |_| Sender {
            sent: 0,
            had_to_wait: false,
        };
        let receiver = |_| Receiver {
            queued: 0,
            received: 0,
            reads: 0,
            full_for: VecDeque::new(),
            posted_ns: 0,
        };
        Self {
            senders: (0..each).map(sender).collect(),
            receivers: (0..each).map(receiver).collect(),
            posts: Posts::new(2 * each),
            open: each,
            over_ns: 0,
            p,
        }
    }

    /// Messages for each receiver, and of each sender.
    fn each(&self) -> u32 {
        self.p.pairs * self.p.messages
    }

    /// Group of a task, and its number in the group.
    fn place(&self, task: TaskId) -> (u32, u32) {
        (task / (2 * self.p.pairs), task % (2 * self.p.pairs))
    }

    fn receiver_task(&self, receiver: u32) -> TaskId {
        let (group, nr) = (receiver / self.p.pairs, receiver % self.p.pairs);
        (2 * group + 1) * self.p.pairs + nr
    }

    /// Wake the first that waits for room in a pipe; the CPU time that it takes.
    fn wake_sender(&mut self, receiver: u32, waker: TaskId, orders: &mut Vec<Order>) -> u64 {
        let Some(sender) = self.receivers[receiver as usize].full_for.pop_front() else {
            return 0;
        };
        orders.push(Self::wake(sender, self.p.wake_ns, waker));
        self.p.wake_ns
    }

    /// A pipe tells that its reader or writer is about to block.
    fn wake(task: TaskId, work_ns: u64, waker: TaskId) -> Order {
        Order::Wake {
            task,
            work_ns,
            waker: Waker::Task(waker),
            blocked_in: None,
            sync: true,
        }
    }

    fn sender(&mut self, now_ns: u64, task: TaskId, orders: &mut Vec<Order>) -> Next {
        let (group, nr) = self.place(task);
        let sender = group * self.p.pairs + nr;
        let sent = self.senders[sender as usize].sent;
        if sent == self.each() {
            return Next::Block;
        }
        let receiver = group * self.p.pairs + sent % self.p.pairs;
        let pipe = &mut self.receivers[receiver as usize];
        if pipe.queued >= self.p.capacity {
            pipe.full_for.push_back(task);
            self.senders[sender as usize].had_to_wait = true;
            return Next::Block;
        }
        pipe.queued += 1;
        let room = pipe.queued < self.p.capacity;
        let s = &mut self.senders[sender as usize];
        s.sent += 1;
        let mut wakes_ns = 0;
        if std::mem::take(&mut s.had_to_wait) && room {
            wakes_ns += self.wake_sender(receiver, task, orders);
        }
        let reader = self.receiver_task(receiver);
        if self.posts.post(reader) {
            self.receivers[receiver as usize].posted_ns = now_ns;
            orders.push(Self::wake(reader, self.p.wake_ns, task));
            wakes_ns += self.p.wake_ns;
        }
        Next::Work(self.p.send_ns + wakes_ns)
    }

    fn receiver(
        &mut self,
        now_ns: u64,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next {
        let (group, nr) = self.place(task);
        let receiver = group * self.p.pairs + nr - self.p.pairs;
        let each = self.each();
        self.posts.take(task);
        let r = &mut self.receivers[receiver as usize];
        r.received += r.reads;
        if r.reads == 0 {
            let woken = Request {
                at_ns: r.posted_ns,
                work_ns: self.p.wake_ns,
                class: 0,
            };
            recorder.done(&woken, now_ns);
        }
        r.reads = std::mem::take(&mut r.queued);
        if r.reads > 0 {
            let work_ns = u64::from(r.reads) * self.p.receive_ns;
            return Next::Work(work_ns + self.wake_sender(receiver, task, orders));
        }
        if r.received < each {
            self.posts.wait(task);
        } else {
            self.open -= 1;
            self.over_ns = now_ns;
        }
        Next::Block
    }
}

impl Load for Pipes {
    fn tasks(&self) -> Vec<TaskSpec> {
        let pairs = self.p.pairs as usize;
        let mut group = vec![named("hb-sender"); pairs];
        group.extend(vec![named("hb-receiver"); pairs]);
        let groups = (0..self.p.groups).flat_map(|_| group.clone());
        groups.collect()
    }

    fn timers(&self) -> usize {
        0
    }

    fn classes(&self) -> &'static [&'static str] {
        &["wakeup"]
    }

    fn begin(&mut self, orders: &mut Vec<Order>) {
        for task in 0..2 * self.p.groups * self.p.pairs {
            if self.place(task).1 < self.p.pairs {
                orders.push(Order::wake_by(task, self.p.send_ns, Waker::Nobody));
            }
        }
    }

    fn timer(&mut self, _now_ns: u64, _timer: u32, _orders: &mut Vec<Order>) {}

    fn done(
        &mut self,
        m: &Machine,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next {
        if self.place(task).1 < self.p.pairs {
            self.sender(m.now_ns, task, orders)
        } else {
            self.receiver(m.now_ns, task, orders, recorder)
        }
    }

    fn is_over(&self) -> bool {
        self.open == 0
    }

    fn metrics(&self, _m: &Machine, _recorder: &Recorder) -> Vec<(String, f64)> {
        let total_s = match self.is_over() {
            true => self.over_ns as f64 * 1e-9,
            false => f64::NAN,
        };
        let messages: u32 = self.receivers.iter().map(|r| r.received).sum();
        vec![
            ("total_s".to_string(), total_s),
            ("messages".to_string(), f64::from(messages)),
        ]
    }
}
