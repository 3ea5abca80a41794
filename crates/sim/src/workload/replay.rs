//! Bursts as they were recorded on a real machine, scheduled anew.
//!
//! Open: every burst arrives when it was recorded to arrive, however late its task's last one is; what has not been
//! served by then waits, and the burst goes on. Closed: a task sleeps for as long as it slept then, counted from when it
//! blocks here.

use std::collections::{BTreeMap, VecDeque};

use clap::ValueEnum;
use scx_ml::kernel::sample::Sample;

use super::{Load, Next, Order};
use crate::machine::{Machine, TaskId, TaskSpec, Waker, nice_of_weight};
use crate::record::{Recorder, Request};

/// One recorded burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub pid: u32,
    pub name: String,
    pub nice: i32,
    pub wake_ns: u64,
    /// When it blocked.
    pub end_ns: u64,
    pub burst_ns: u64,
    /// Thread that woke it; 0: none.
    pub waker_pid: u32,
    /// Bursts that it stands for: above 1, sampling has left the others out.
    pub repeat: u32,
}

impl From<&Sample> for Recorded {
    fn from(sample: &Sample) -> Self {
        let record = &sample.0;
        Self {
            pid: record.pid,
            name: sample.comm(),
            nice: nice_of_weight(record.weight),
            wake_ns: record.wake_ns,
            end_ns: record.end_ns,
            burst_ns: record.burst_ns,
            waker_pid: record.waker_pid,
            repeat: record.repeat.max(1),
        }
    }
}

/// When bursts arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// When they were recorded to.
    Open,
    /// After the recorded sleep.
    Closed,
}

/// A recording that cannot be replayed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReplayError {
    #[error("the recording holds no bursts: there is nothing to replay")]
    Empty,
    #[error(
        "the burst of thread {pid} that woke at {wake_ns} ns ended before that, at {end_ns} ns"
    )]
    EndsBeforeWake { pid: u32, wake_ns: u64, end_ns: u64 },
}

/// Bursts below this count as short in the report: the default mix's two modes are on its two sides.
const SHORT_NS: u64 = 4_000_000;

#[derive(Debug, Clone, Copy)]
struct Burst {
    /// Since the start of the recording.
    at_ns: u64,
    /// Sleep before it; 0 for the task's first.
    slept_ns: u64,
    work_ns: u64,
    waker: Waker,
}

struct Thread {
    name: String,
    nice: i32,
    to_come: VecDeque<Burst>,
    /// Arrived and not served.
    due: VecDeque<Burst>,
    serving: Option<Request>,
}

/// See the module.
pub struct Replay {
    pace: Pace,
    threads: Vec<Thread>,
}

impl Replay {
    /// Bursts in any order.
    ///
    /// # Errors
    /// If there are none, or one is impossible.
    pub fn new(mut bursts: Vec<Recorded>, pace: Pace) -> Result<Self, ReplayError> {
        bursts.sort_by_key(|b| (b.wake_ns, b.pid));
        let first_ns = bursts.first().ok_or(ReplayError::Empty)?.wake_ns;
        let mut ids: BTreeMap<u32, TaskId> = BTreeMap::new();
        for b in &bursts {
            let next = ids.len() as TaskId;
            ids.entry(b.pid).or_insert(next);
        }
        let mut threads: Vec<Thread> = vec![];
        let mut ended_ns: Vec<u64> = vec![];
        for b in &bursts {
            if b.end_ns < b.wake_ns {
                return Err(ReplayError::EndsBeforeWake {
                    pid: b.pid,
                    wake_ns: b.wake_ns,
                    end_ns: b.end_ns,
                });
            }
            let id = ids[&b.pid] as usize;
            if id == threads.len() {
                threads.push(Thread {
                    name: b.name.clone(),
                    nice: b.nice,
                    to_come: VecDeque::new(),
                    due: VecDeque::new(),
                    serving: None,
                });
                ended_ns.push(b.wake_ns);
            }
            threads[id].to_come.push_back(Burst {
                at_ns: b.wake_ns - first_ns,
                slept_ns: b.wake_ns.saturating_sub(ended_ns[id]),
                work_ns: b.burst_ns.max(1),
                waker: ids
                    .get(&b.waker_pid)
                    .map_or(Waker::Nobody, |&t| Waker::Task(t)),
            });
            ended_ns[id] = b.end_ns;
        }
        Ok(Self { pace, threads })
    }

    /// Take what is due next as the burst that begins.
    fn serve(&mut self, task: TaskId) -> Option<Burst> {
        let thread = &mut self.threads[task as usize];
        let burst = thread.due.pop_front()?;
        thread.serving = Some(Request {
            at_ns: burst.at_ns,
            work_ns: burst.work_ns,
            class: u8::from(burst.work_ns >= SHORT_NS),
        });
        Some(burst)
    }
}

impl Load for Replay {
    fn tasks(&self) -> Vec<TaskSpec> {
        let spec = |t: &Thread| TaskSpec {
            name: t.name.clone(),
            nice: t.nice,
        };
        self.threads.iter().map(spec).collect()
    }

    fn timers(&self) -> usize {
        self.threads.len()
    }

    fn classes(&self) -> &'static [&'static str] {
        &["short", "long"]
    }

    fn begin(&mut self, orders: &mut Vec<Order>) {
        for (i, thread) in self.threads.iter().enumerate() {
            if let Some(b) = thread.to_come.front() {
                orders.push(Order::Timer {
                    timer: i as u32,
                    at_ns: b.at_ns,
                });
            }
        }
    }

    fn timer(&mut self, now_ns: u64, timer: u32, orders: &mut Vec<Order>) {
        let thread = &mut self.threads[timer as usize];
        let Some(mut burst) = thread.to_come.pop_front() else {
            return;
        };
        // In the closed loop a burst is meant to arrive when its sleep ends here.
        burst.at_ns = now_ns;
        thread.due.push_back(burst);
        if self.pace == Pace::Open
            && let Some(next) = thread.to_come.front()
        {
            orders.push(Order::Timer {
                timer,
                at_ns: next.at_ns,
            });
        }
        if thread.serving.is_none()
            && let Some(burst) = self.serve(timer)
        {
            orders.push(Order::Wake {
                task: timer,
                work_ns: burst.work_ns,
                waker: burst.waker,
                blocked_in: None,
                sync: false,
            });
        }
    }

    fn done(
        &mut self,
        m: &Machine,
        task: TaskId,
        orders: &mut Vec<Order>,
        recorder: &mut Recorder,
    ) -> Next {
        let now_ns = m.now_ns;
        let thread = &mut self.threads[task as usize];
        if let Some(request) = thread.serving.take() {
            recorder.done(&request, now_ns);
        }
        if self.pace == Pace::Closed
            && let Some(next) = thread.to_come.front()
        {
            orders.push(Order::Timer {
                timer: task,
                at_ns: now_ns + next.slept_ns,
            });
        }
        match self.serve(task) {
            Some(burst) => Next::Work(burst.work_ns),
            None => Next::Block,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(pid: u32, wake_ns: u64, end_ns: u64) -> Recorded {
        Recorded {
            pid,
            name: "x".to_string(),
            nice: 0,
            wake_ns,
            end_ns,
            burst_ns: 10,
            waker_pid: 0,
            repeat: 1,
        }
    }

    #[test]
    fn impossible_recordings_are_refused() {
        assert_eq!(
            Replay::new(vec![], Pace::Open).err(),
            Some(ReplayError::Empty)
        );
        assert_eq!(
            Replay::new(vec![burst(7, 100, 90)], Pace::Open).err(),
            Some(ReplayError::EndsBeforeWake {
                pid: 7,
                wake_ns: 100,
                end_ns: 90
            })
        );
    }

    #[test]
    fn sleeps_are_from_block_to_wake() {
        let r = Replay::new(
            vec![burst(7, 100, 120), burst(7, 150, 160), burst(9, 130, 140)],
            Pace::Closed,
        )
        .expect("a recording");
        let slept: Vec<Vec<u64>> = r
            .threads
            .iter()
            .map(|t| t.to_come.iter().map(|b| b.slept_ns).collect())
            .collect();
        assert_eq!(slept, [vec![0, 30], vec![0]]);
    }
}
