//! The server behind the statistics socket: scx_stats' protocol, with bounds on all that a client can ask of the process.
//!
//! Problem: scx_stats' own server gives each client a thread, reads lines without end, and waits for ever for who reads nothing.
//! How: one thread, which waits for all clients at once and answers one request of each in turn. A request has a length, half of
//! one a time to become whole, and a reply a time to be taken; who exceeds that is cut off, and nobody waits for it. Of more
//! clients than there is room for, the one that misbehaves goes, or else the one that has been silent for the longest time.
//! Possible limitation: whoever asks for much, as for the queues of a machine with thousands of cgroups, delays the others by
//! the milliseconds that it takes.
//!
//! ```text
//! protocol  requests and replies: who answers for which target
//! client    a connection, its limits, and who goes first
//! ```

mod client;
pub mod protocol;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam::channel::unbounded;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use scx_ml_text::Show;

use crate::kernel::news;
use crate::watch::desk::Channels;
use client::Client;
pub use client::Limits;
use protocol::Targets;

/// New clients that are let in before those that are there have their turn.
const ACCEPTED_AT_ONCE: usize = 8;

/// When a client that could not be let in, for want of file descriptors, is tried again.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// A server that runs. Dropping it ends it.
pub struct Server {
    /// To whoever reads the scheduler's counters; None: it is ending.
    channels: Option<Channels>,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answer on a socket at this path, in place of whatever is there. `targets` are given the way to who reads the counters.
    ///
    /// # Errors
    /// When there can be none.
    pub fn start(
        path: &Path,
        limits: Limits,
        targets: impl FnOnce(protocol::Ask) -> Targets,
    ) -> Result<Self> {
        let cannot = |what: &'static str| format!("cannot {what} {}", path.shown());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| cannot("create the folder of"))?;
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(e).with_context(|| cannot("replace the socket"));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).with_context(|| cannot("listen on"))?;
        listener
            .set_nonblocking(true)
            .with_context(|| cannot("listen on"))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).context("cannot make an event")?;
        let (ask, requests) = unbounded();
        let (answers, answered) = unbounded();
        let room = Room {
            listener,
            stop: stop.try_clone().context("cannot make an event")?,
            limits,
            targets: targets(protocol::Ask::new(ask, answered)),
            clients: vec![],
            accept_at: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("ml-socket".into())
            .spawn(move || room.serve())
            .context("cannot start the thread that answers on the statistics socket")?;
        Ok(Self {
            channels: Some((answers, requests)),
            stop,
            thread: Some(thread),
        })
    }

    /// To the server and from it, for who reads the scheduler's counters.
    pub fn channels(&self) -> Option<&Channels> {
        self.channels.as_ref()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be waiting for a reading.
        self.channels = None;
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic was printed.
            let _ = thread.join();
        }
    }
}

/// What the server's thread has.
struct Room {
    listener: UnixListener,
    stop: OwnedFd,
    limits: Limits,
    targets: Targets,
    clients: Vec<Client>,
    /// Not before then.
    accept_at: Instant,
}

impl Room {
    fn serve(mut self) {
        loop {
            let ready = match self.wait() {
                Ok(Some(ready)) => ready,
                Ok(None) => return,
                Err(e) => {
                    news::warn("socket", format_args!("cannot wait for clients: {e}"));
                    std::thread::sleep(ACCEPT_RETRY);
                    continue;
                }
            };
            // First those who are there: they have asked before whoever comes now.
            let (limits, targets, mut turn) = (self.limits, &self.targets, ready.clients.iter());
            self.clients.retain_mut(|client| {
                let ready = turn.next().copied().unwrap_or(PollFlags::empty());
                match client.turn(ready, targets, &limits, Instant::now()) {
                    Ok(()) => true,
                    Err(end) => {
                        tell(&end);
                        false
                    }
                }
            });
            if ready.newcomers {
                self.let_in();
            }
        }
    }

    /// Wait until there is something to do; None: it is the end.
    fn wait(&self) -> io::Result<Option<Ready>> {
        let now = Instant::now();
        let mut until = self
            .clients
            .iter()
            .filter_map(|c| c.deadline(&self.limits))
            .min();
        if self.clients.iter().any(Client::has_request) {
            until = Some(now);
        }
        let listens = now >= self.accept_at;
        if !listens {
            until = Some(until.map_or(self.accept_at, |u| u.min(self.accept_at)));
        }
        let mut fds = vec![
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(
                &self.listener,
                match listens {
                    true => PollFlags::IN,
                    false => PollFlags::empty(),
                },
            ),
        ];
        fds.extend(
            self.clients
                .iter()
                .map(|c| PollFd::from_borrowed_fd(c.as_fd(), c.awaits())),
        );
        let timeout = until.map(|until| {
            // Rounded up: too early would be in vain.
            let left = until.saturating_duration_since(now) + Duration::from_micros(999);
            Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Some(Ready::default())),
            Err(e) => return Err(e.into()),
        }
        let mut flags = fds.iter().map(PollFd::revents);
        if flags.next().is_some_and(|stop| !stop.is_empty()) {
            return Ok(None);
        }
        Ok(Some(Ready {
            newcomers: flags.next().is_some_and(|f| !f.is_empty()),
            clients: flags.collect(),
        }))
    }

    fn let_in(&mut self) {
        for _ in 0..ACCEPTED_AT_ONCE {
            match self.listener.accept() {
                Ok((stream, _)) => match Client::new(stream, Instant::now()) {
                    Ok(client) => {
                        self.make_room();
                        self.clients.push(client);
                    }
                    Err(e) => news::warn("client", format_args!("cannot serve a client: {e}")),
                },
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => {}
                Err(e) => {
                    news::warn("accept", format_args!("cannot let in a client: {e}"));
                    self.accept_at = Instant::now() + ACCEPT_RETRY;
                    return;
                }
            }
        }
    }

    /// Let the least worthy go where there is no room for another.
    fn make_room(&mut self) {
        if self.clients.len() < self.limits.clients {
            return;
        }
        let last = self.clients.iter().enumerate();
        if let Some((index, _)) = last.min_by_key(|(_, client)| client.worth()) {
            self.clients.swap_remove(index);
            tell(&client::End::Crowded);
        }
    }
}

/// What there is to do.
#[derive(Default)]
struct Ready {
    newcomers: bool,
    /// By client.
    clients: Vec<PollFlags>,
}

/// Log that a client was cut off.
fn tell(end: &client::End) {
    if let Some(why) = end.why() {
        news::warn(
            why,
            format_args!("a client of the statistics socket was cut off: {why}"),
        );
    }
}

#[cfg(test)]
mod tests;
