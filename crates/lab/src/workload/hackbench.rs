//! `hackbench`: groups of senders and receivers that pass small messages, all to all within a group.

use super::kind::{Context, Kind, Workload, bad, join, spawn};
use crate::error::{LabError, Result};
use crate::metric::{MetricDef, Outcome, round_def};
use crate::{stats, strict, sys};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

pub const KIND: Kind = Kind {
    name: "hackbench",
    about: "groups of senders and receivers pass messages over pipes or sockets: time of a round",
    measures: "The time to pass a fixed number of 100-byte messages, all senders of a group to all its receivers, median \
        over the rounds that fit into the measured time. It weighs the raw cost of wake-ups and switches under very \
        many runnable tasks; with pipes it also weighs their mutex. Rounds include starting the tasks, as hackbench's \
        do not; with the default number of messages that is a few per cent.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.groups == 0 || p.pairs == 0 || p.messages == 0 {
            return Err(bad(
                place,
                "`groups`, `pairs` and `messages` must be positive",
            ));
        }
        Ok(Box::new(Hackbench(p)))
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Channel {
    Pipe,
    Socket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tasks {
    Threads,
    Processes,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    groups: usize,
    /// Senders, and as many receivers, in a group (hackbench's own: 20).
    pairs: usize,
    /// Messages each sender passes to each receiver in a round.
    messages: usize,
    channel: Channel,
    tasks: Tasks,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            groups: 1,
            pairs: 10,
            messages: 200,
            channel: Channel::Pipe,
            tasks: Tasks::Threads,
        }
    }
}

struct Hackbench(Params);

const MESSAGE: usize = 100;

impl Params {
    /// The two ends of one receiver's channel.
    fn ends(&self) -> Result<(OwnedFd, OwnedFd)> {
        let failed = |source| LabError::Os {
            call: "making a channel".to_string(),
            source,
        };
        match self.channel {
            Channel::Pipe => std::io::pipe()
                .map(|(r, w)| (r.into(), w.into()))
                .map_err(failed),
            Channel::Socket => UnixStream::pair()
                .map(|(r, w)| (r.into(), w.into()))
                .map_err(failed),
        }
    }

    fn receive(&self, end: OwnedFd) -> std::io::Result<()> {
        let mut file = std::fs::File::from(end);
        let mut buf = [0; MESSAGE];
        (0..self.pairs * self.messages).try_for_each(|_| file.read_exact(&mut buf))
    }

    fn send(&self, ends: &[OwnedFd]) -> std::io::Result<()> {
        let mut files = ends
            .iter()
            .map(|e| e.try_clone().map(std::fs::File::from))
            .collect::<std::io::Result<Vec<_>>>()?;
        let buf = [7; MESSAGE];
        (0..self.messages).try_for_each(|_| files.iter_mut().try_for_each(|f| f.write_all(&buf)))
    }

    fn round_of_threads(&self) -> Result<()> {
        let mut groups = Vec::new();
        for _ in 0..self.groups {
            let (readers, writers): (Vec<_>, Vec<_>) = (0..self.pairs)
                .map(|_| self.ends())
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .unzip();
            groups.push((readers, writers));
        }
        std::thread::scope(|scope| {
            let mut handles = Vec::new();
            for (readers, writers) in &mut groups {
                for r in readers.drain(..) {
                    handles.push(spawn(scope, "hb-receiver", move || self.receive(r))?);
                }
                for _ in 0..self.pairs {
                    let writers = &*writers;
                    handles.push(spawn(scope, "hb-sender", move || self.send(writers))?);
                }
            }
            for h in handles {
                join(h, KIND.name)?
                    .map_err(|e| LabError::workload(KIND.name, format!("a task failed: {e}")))?;
            }
            Ok(())
        })
    }

    fn round_of_processes(&self) -> Result<()> {
        let mut children = Vec::new();
        for _ in 0..self.groups {
            let (mut readers, writers): (Vec<_>, Vec<_>) = (0..self.pairs)
                .map(|_| self.ends())
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .unzip();
            for r in readers.drain(..) {
                children.push(fork_child(|| self.receive(r))?);
            }
            for _ in 0..self.pairs {
                children.push(fork_child(|| self.send(&writers))?);
            }
        }
        let failed = children.into_iter().filter(|pid| !wait_ok(*pid)).count();
        if failed > 0 {
            Err(LabError::workload(
                KIND.name,
                format!("{failed} processes failed"),
            ))
        } else {
            Ok(())
        }
    }
}

/// Run `body` in a forked child. Only for callers without other threads: the child may then do anything.
fn fork_child(body: impl FnOnce() -> std::io::Result<()>) -> Result<Pid> {
    // No library forks safely, or ends a process without its exit handlers.
    // SAFETY: this workload runs in a process of its own whose other threads, if any, hold no locks the body takes; the
    // child only reads and writes its descriptors and leaves by _exit.
    let forked = unsafe { libc::fork() };
    if forked < 0 {
        return Err(LabError::os("fork", std::io::Error::last_os_error()));
    }
    match Pid::from_raw(forked) {
        None => {
            let _ = sys::die_with_parent(Signal::KILL);
            let code = i32::from(body().is_err());
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        Some(pid) => Ok(pid),
    }
}

fn wait_ok(pid: Pid) -> bool {
    let ended = waitpid(Some(pid), WaitOptions::empty());
    matches!(ended, Ok(Some((_, status))) if status.exit_status() == Some(0))
}

impl Workload for Hackbench {
    fn metrics(&self) -> Vec<MetricDef> {
        vec![round_def()]
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let round = || match self.0.tasks {
            Tasks::Threads => self.0.round_of_threads(),
            Tasks::Processes => self.0.round_of_processes(),
        };
        let start = sys::now_ns();
        let passed = |since: u64| (sys::now_ns() - since) as f64 / 1e9;
        while passed(start) < ctx.warmup {
            round()?;
        }
        ctx.window.begin();
        let (start, mut times) = (sys::now_ns(), Vec::new());
        while times.is_empty() || passed(start) < ctx.seconds {
            let t = sys::now_ns();
            round()?;
            times.push(passed(t));
        }
        ctx.window.end();
        let total = self.0.groups * self.0.pairs * self.0.pairs * self.0.messages;
        Ok(Outcome {
            metrics: vec![round_def().measured(stats::median(&times))],
            histograms: Vec::new(),
            notes: vec![format!("{} rounds of {total} messages", times.len())],
        })
    }
}
