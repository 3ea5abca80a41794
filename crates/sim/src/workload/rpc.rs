//! Clients ask servers and wait for the answer: remote procedure calls, a closed loop.
//!
//! A client computes, sends a request, which wakes its server, runs on for a while, and waits. The server works on what has
//! come, one request after the other, and each answer wakes a client while the server goes on.

use std::collections::VecDeque;

use rand_chacha::ChaCha8Rng;

use super::futex::Posts;
use super::{Load, Next, Order, named, stream, vary};
use crate::machine::{Machine, TaskId, TaskSpec, Waker};
use crate::record::{Recorder, Request};

/// See the fields.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct RpcParams {
    pub servers: u32,
    /// Clients in all.
    pub clients: u32,
    /// CPU time of a client before it asks, varied by ± 5 %.
    pub client_ns: u64,
    /// CPU time of a request for the server, varied by ± 5 %.
    pub server_ns: u64,
    /// CPU time for which a client runs on after it has asked.
    pub run_on_ns: u64,
    /// Pause of a client between an answer and what it computes for the next request. 0: none.
    pub think_ns: u64,
    /// CPU time of a wake-up, for who wakes, and of the way back from a system call, for who was woken.
    pub wake_ns: u64,
    /// Wake-ups say that the waker is about to block.
    pub sync: bool,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// Back from its pause.
    Paused,
    Computes,
    Asks,
    /// Has asked and runs on.
    RunsOn,
    Waits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Waits,
    /// On the request of this client.
    Works(TaskId),
    /// Has answered, and looks for the next.
    Looks,
}

/// See the module. Tasks: first the clients, then the servers.
pub struct Rpc {
    p: RpcParams,
    clients: Vec<Client>,
    servers: Vec<Server>,
    /// By whom each server has been asked.
    asked: Vec<VecDeque<TaskId>>,
    /// When each client asked; and when each server was posted that waited.
    since_ns: Vec<u64>,
    rngs: Vec<ChaCha8Rng>,
    posts: Posts,
}

impl Rpc {
    pub fn new(p: RpcParams) -> Self {
        let tasks = p.clients + p.servers;
        Self {
            clients: vec![Client::Paused; p.clients as usize],
            servers: vec![Server::Waits; p.servers as usize],
            asked: vec![VecDeque::new(); p.servers as usize],
            since_ns: vec![0; tasks as usize],
            // A client draws for both, so that its requests are the same whenever they are served.
            rngs: (0..tasks).map(|task| stream(p.seed, task)).collect(),
            posts: Posts::new(tasks),
            p,
        }
    }

    fn post(&mut self, now_ns: u64, task: TaskId, waker: TaskId, orders: &mut Vec<Order>) {
        if !self.posts.post(task) {
            return;
        }
        if task >= self.p.clients {
            self.since_ns[task as usize] = now_ns;
        }
        orders.push(Order::Wake {
            task,
            work_ns: self.p.wake_ns,
            waker: Waker::Task(waker),
            blocked_in: None,
            sync: self.p.sync,
        });
    }

    fn draw(&mut self, client: TaskId, work_ns: u64) -> u64 {
        vary(&mut self.rngs[client as usize], work_ns)
    }

    fn answered(&mut self, now_ns: u64, client: TaskId, recorder: &mut Recorder) {
        let request = Request {
            at_ns: self.since_ns[client as usize],
            work_ns: self.p.server_ns,
            class: 1,
        };
        recorder.done(&request, now_ns);
    }

    fn client(
        &mut self,
        now_ns: u64,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next {
        let i = task as usize;
        match self.clients[i] {
            Client::Paused => {}
            Client::Computes => {
                self.clients[i] = Client::Asks;
                return Next::Work(self.p.wake_ns);
            }
            Client::Asks => {
                let server = task % self.p.servers;
                self.since_ns[i] = now_ns;
                self.asked[server as usize].push_back(task);
                self.clients[i] = Client::RunsOn;
                self.post(now_ns, self.p.clients + server, task, orders);
                return Next::Work(self.p.run_on_ns);
            }
            Client::RunsOn => {
                self.clients[i] = Client::Waits;
                if self.posts.wait(task) {
                    return Next::Block;
                }
                return Next::Work(self.p.wake_ns);
            }
            Client::Waits => {
                self.posts.take(task);
                self.answered(now_ns, task, recorder);
                if self.p.think_ns > 0 {
                    self.clients[i] = Client::Paused;
                    let at_ns = now_ns + self.draw(task, self.p.think_ns);
                    orders.push(Order::Timer { timer: task, at_ns });
                    return Next::Block;
                }
            }
        }
        self.clients[i] = Client::Computes;
        Next::Work(self.draw(task, self.p.client_ns))
    }

    fn server(
        &mut self,
        now_ns: u64,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next {
        let i = (task - self.p.clients) as usize;
        match self.servers[i] {
            Server::Waits => {
                self.posts.take(task);
                let woken = Request {
                    at_ns: self.since_ns[task as usize],
                    work_ns: self.p.wake_ns,
                    class: 0,
                };
                recorder.done(&woken, now_ns);
            }
            Server::Works(client) => {
                self.post(now_ns, client, task, orders);
                self.servers[i] = Server::Looks;
                return Next::Work(self.p.wake_ns);
            }
            Server::Looks => {}
        }
        if let Some(client) = self.asked[i].pop_front() {
            self.servers[i] = Server::Works(client);
            return Next::Work(self.draw(client, self.p.server_ns) + self.p.wake_ns);
        }
        // What was posted for has been done with what came before it.
        self.posts.take(task);
        self.posts.wait(task);
        self.servers[i] = Server::Waits;
        Next::Block
    }
}

impl Load for Rpc {
    fn tasks(&self) -> Vec<TaskSpec> {
        let mut tasks = vec![named("rpc-client"); self.p.clients as usize];
        tasks.extend(vec![named("rpc-server"); self.p.servers as usize]);
        tasks
    }

    fn timers(&self) -> usize {
        self.p.clients as usize
    }

    fn classes(&self) -> &'static [&'static str] {
        &["wakeup", "request"]
    }

    fn begin(&mut self, orders: &mut Vec<Order>) {
        for client in 0..self.p.clients {
            self.posts.post(client);
            self.posts.take(client);
            orders.push(Order::wake_by(client, self.p.wake_ns, Waker::Nobody));
        }
    }

    fn timer(&mut self, _now_ns: u64, client: u32, orders: &mut Vec<Order>) {
        orders.push(Order::wake_by(client, self.p.wake_ns, Waker::Nobody));
    }

    fn done(
        &mut self,
        m: &Machine,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next {
        if task < self.p.clients {
            self.client(m.now_ns, task, orders, recorder)
        } else {
            self.server(m.now_ns, task, orders, recorder)
        }
    }

    fn metrics(&self, m: &Machine, recorder: &Recorder) -> Vec<(String, f64)> {
        vec![("requests_per_s".to_string(), recorder.rate(1, m.now_ns))]
    }

    fn drains(&self) -> bool {
        false
    }
}
