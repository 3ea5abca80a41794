//! What the dashboard shows, asked of the running scheduler's stats socket; which threads are busy is read from /proc.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossbeam::channel::Sender;

use super::answer::{MODELS_TARGET, Models, TASKS_MAX, TASKS_TARGET, TaskLine, Tasks};
use super::usage::{Busy, Usage};
use crate::watch::ask::{AskError, Connection};
use crate::watch::stats::Metrics;

/// How often a wait looks whether it is to end.
const NAP: Duration = Duration::from_millis(50);

/// Everything that a frame shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Of the time since the reading before.
    pub metrics: Metrics,
    pub models: Models,
    /// The busiest first.
    pub tasks: Vec<BusyTask>,
}

/// A thread that was busy, and what the kernel keeps of it; None: nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BusyTask {
    pub usage: Busy,
    pub kept: Option<TaskLine>,
}

/// A connection to the scheduler, and what was seen before.
pub struct Source {
    socket: PathBuf,
    connection: Option<Connection>,
    usage: Usage,
}

impl Source {
    /// Connect.
    ///
    /// # Errors
    /// When no scheduler answers.
    pub fn open(socket: PathBuf) -> Result<Self, AskError> {
        let connection = Connection::open(&socket, "top")?;
        Ok(Self {
            socket,
            connection: Some(connection),
            usage: Usage::default(),
        })
    }

    /// Ask for everything. After an error the next call connects anew: schedulers come back.
    ///
    /// # Errors
    /// When no scheduler answers, or /proc cannot be read.
    pub fn read(&mut self) -> Result<Reading> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.socket, "top")?,
        };
        let metrics = connection.ask::<Metrics>("top", &[])?;
        let models = connection.ask::<Models>(MODELS_TARGET, &[])?;
        let busy = self
            .usage
            .busiest(TASKS_MAX)
            .context("cannot look for busy threads in /proc")?;
        let pids: Vec<String> = busy.iter().map(|b| b.pid.to_string()).collect();
        let kept = match connection.ask(TASKS_TARGET, &[("pids", &pids.join(","))])? {
            Tasks::Known(kept) => kept,
            Tasks::Refused(reason) => bail!("the scheduler refuses to tell of tasks: {reason}"),
        };
        let mut kept: HashMap<u32, TaskLine> = kept.into_iter().map(|t| (t.pid, t)).collect();
        self.connection = Some(connection);
        Ok(Reading {
            metrics,
            models,
            tasks: busy
                .into_iter()
                .map(|usage| BusyTask {
                    kept: kept.remove(&usage.pid),
                    usage,
                })
                .collect(),
        })
    }
}

/// Ask every `interval` until `end` and hand on what is found, or why there is nothing.
pub fn read_until(
    end: Arc<AtomicBool>,
    mut source: Source,
    interval: Duration,
    to: &Sender<Result<Reading>>,
) {
    loop {
        let next = Instant::now() + interval;
        // Whoever watches is gone.
        if to.send(source.read()).is_err() {
            return;
        }
        if !wait_until(next, &end) {
            return;
        }
    }
}

/// Sleep until `next`; false: it was cut short by `end`.
pub fn wait_until(next: Instant, end: &AtomicBool) -> bool {
    while !end.load(Ordering::Relaxed) {
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(NAP.min(left));
    }
    false
}
