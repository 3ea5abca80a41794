//! Clients ask servers and wait for the answer: remote procedure calls, a closed loop.
//!
//! A client computes, sends a request, which wakes its server, runs on for a while, and looks for the answer. The server works on
//! what has come, one request after the other, and each answer wakes a client while the server goes on. A client may have several
//! connections, as `wrk` and `redis-benchmark` have: it goes on with the next one that is answered, and waits when none is.

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
    /// Of each client; each has one request on its way.
    pub connections: u32,
    /// CPU time of a client before it asks, varied by ± 5 %.
    pub client_ns: u64,
    /// CPU time of a request for the server, varied by ± 5 %.
    pub server_ns: u64,
    /// CPU time for which a client runs on after it has asked.
    pub run_on_ns: u64,
    /// Pause of a connection between an answer and what its client computes for the next request. 0: none.
    pub think_ns: u64,
    /// CPU time of a wake-up, for who wakes, and of the way back from a system call, for who was woken.
    pub wake_ns: u64,
    /// Wake-ups say that the waker is about to block.
    pub sync: bool,
    pub seed: u64,
}

/// A connection of a client: by these numbers requests are known.
type Connection = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Waits,
    /// Looks for a connection to go on with.
    Looks,
    Computes(Connection),
    /// Has computed.
    Asks(Connection),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Waits,
    /// On the request of this connection.
    Works(Connection),
    /// Has answered, and looks for the next.
    Looks,
}

/// See the module. Tasks: first the clients, then the servers. Timers: of connections.
pub struct Rpc {
    p: RpcParams,
    clients: Vec<Client>,
    servers: Vec<Server>,
    /// Connections of each client that have paused, or been answered.
    ready: Vec<VecDeque<(Connection, Ready)>>,
    /// Connections by which each server has been asked.
    asked: Vec<VecDeque<Connection>>,
    /// When each connection's request was sent.
    sent_ns: Vec<u64>,
    /// When each server was posted that waited.
    posted_ns: Vec<u64>,
    /// Of connections. They draw for both sides, so that requests are the same whenever they are served.
    rngs: Vec<ChaCha8Rng>,
    posts: Posts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    Paused,
    Answered,
}

impl Rpc {
    pub fn new(p: RpcParams) -> Self {
        let connections = p.clients * p.connections;
        Self {
            clients: vec![Client::Waits; p.clients as usize],
            servers: vec![Server::Waits; p.servers as usize],
            ready: vec![VecDeque::new(); p.clients as usize],
            asked: vec![VecDeque::new(); p.servers as usize],
            sent_ns: vec![0; connections as usize],
            posted_ns: vec![0; p.servers as usize],
            rngs: (0..connections).map(|c| stream(p.seed, c)).collect(),
            posts: Posts::new(p.clients + p.servers),
            p,
        }
    }

    fn client_of(&self, connection: Connection) -> TaskId {
        connection / self.p.connections
    }

    /// A task is posted; if it waits, it is woken. Whether it did.
    fn post(&mut self, task: TaskId, waker: Waker, orders: &mut Vec<Order>) -> bool {
        let waits = self.posts.post(task);
        if waits {
            orders.push(Order::Wake {
                task,
                work_ns: self.p.wake_ns,
                waker,
                blocked_in: None,
                sync: self.p.sync && waker != Waker::Nobody,
            });
        }
        waits
    }

    fn make_ready(
        &mut self,
        connection: Connection,
        how: Ready,
        waker: Waker,
        orders: &mut Vec<Order>,
    ) {
        let client = self.client_of(connection);
        self.ready[client as usize].push_back((connection, how));
        self.post(client, waker, orders);
    }

    fn draw(&mut self, connection: Connection, work_ns: u64) -> u64 {
        vary(&mut self.rngs[connection as usize], work_ns)
    }

    fn answered(&mut self, now_ns: u64, connection: Connection, recorder: &mut Recorder) {
        let request = Request {
            at_ns: self.sent_ns[connection as usize],
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
            Client::Waits | Client::Looks => {}
            Client::Computes(connection) => {
                self.clients[i] = Client::Asks(connection);
                return Next::Work(self.p.wake_ns);
            }
            Client::Asks(connection) => {
                let server = task % self.p.servers;
                self.sent_ns[connection as usize] = now_ns;
                self.asked[server as usize].push_back(connection);
                self.clients[i] = Client::Looks;
                if self.post(self.p.clients + server, Waker::Task(task), orders) {
                    self.posted_ns[server as usize] = now_ns;
                }
                return Next::Work(self.p.run_on_ns);
            }
        }
        while let Some((connection, how)) = self.ready[i].pop_front() {
            if how == Ready::Answered {
                self.answered(now_ns, connection, recorder);
                if self.p.think_ns > 0 {
                    let at_ns = now_ns + self.draw(connection, self.p.think_ns);
                    orders.push(Order::Timer {
                        timer: connection,
                        at_ns,
                    });
                    continue;
                }
            }
            self.clients[i] = Client::Computes(connection);
            return Next::Work(self.draw(connection, self.p.client_ns));
        }
        self.clients[i] = Client::Waits;
        self.wait(task)
    }

    /// A task has done all that it was posted for.
    fn wait(&mut self, task: TaskId) -> Next {
        self.posts.take(task);
        self.posts.wait(task);
        Next::Block
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
                let woken = Request {
                    at_ns: self.posted_ns[i],
                    work_ns: self.p.wake_ns,
                    class: 0,
                };
                recorder.done(&woken, now_ns);
            }
            Server::Works(connection) => {
                self.make_ready(connection, Ready::Answered, Waker::Task(task), orders);
                self.servers[i] = Server::Looks;
                return Next::Work(self.p.wake_ns);
            }
            Server::Looks => {}
        }
        if let Some(connection) = self.asked[i].pop_front() {
            self.servers[i] = Server::Works(connection);
            return Next::Work(self.draw(connection, self.p.server_ns) + self.p.wake_ns);
        }
        self.servers[i] = Server::Waits;
        self.wait(task)
    }
}

impl Load for Rpc {
    fn tasks(&self) -> Vec<TaskSpec> {
        let mut tasks = vec![named("rpc-client"); self.p.clients as usize];
        tasks.extend(vec![named("rpc-server"); self.p.servers as usize]);
        tasks
    }

    fn timers(&self) -> usize {
        (self.p.clients * self.p.connections) as usize
    }

    fn classes(&self) -> &'static [&'static str] {
        &["wakeup", "request"]
    }

    fn begin(&mut self, orders: &mut Vec<Order>) {
        for connection in 0..self.p.clients * self.p.connections {
            self.make_ready(connection, Ready::Paused, Waker::Nobody, orders);
        }
    }

    fn timer(&mut self, _now_ns: u64, connection: u32, orders: &mut Vec<Order>) {
        self.make_ready(connection, Ready::Paused, Waker::Nobody, orders);
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
