//! Asks the scheduler that is running, over its stats socket.

use std::io;
use std::path::{Path, PathBuf};

use scx_ml_text::Show;
use scx_stats::StatsErrno;
use scx_stats::prelude::StatsClient;
use serde::de::DeserializeOwned;

use crate::watch::stats::CANNOT_READ;

/// Where the running scheduler answers.
pub const SOCKET: &str = "/var/run/scx/root/stats";

/// Longest wait for an answer: the scheduler's process gets a CPU as late as any other.
const ANSWER_TIMEOUT_MS: u64 = 10_000;

/// Why the running scheduler cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("no scx_ml is scheduling (nobody listens on {}): start it with `sudo scx_ml`", .socket.shown())]
    NoScheduler { socket: PathBuf },
    #[error("only root may use the scheduler's socket {}: run `sudo scx_ml {command}`", .socket.shown())]
    NotPermitted {
        socket: PathBuf,
        command: &'static str,
    },
    #[error(
        "the scheduler that is running does not know what `scx_ml {command}` asks: it is not scx_ml, or another \
         version ({reason})"
    )]
    NotUnderstood {
        command: &'static str,
        reason: String,
    },
    #[error(
        "the running scheduler does not answer ({reason}): it may be ending, or the machine is very busy; try again"
    )]
    NoAnswer { reason: String },
}

/// Of which kind an error of the system is; None: it is no such.
pub(super) fn io_kind(e: &anyhow::Error) -> Option<io::ErrorKind> {
    e.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// Whether there was no connection because no scheduler is there. One that was killed leaves its socket, without a listener.
pub(super) fn nobody_listens(e: &anyhow::Error) -> bool {
    matches!(
        io_kind(e),
        Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    )
}

/// A connection to the running scheduler, on behalf of a subcommand.
pub struct Connection {
    client: StatsClient,
    command: &'static str,
}

impl Connection {
    /// # Errors
    /// When there is none, or we may not.
    pub fn open(socket: &Path, command: &'static str) -> Result<Self, AskError> {
        let client = StatsClient::new()
            .set_path(socket)
            .connect(Some(ANSWER_TIMEOUT_MS))
            .map_err(|e| {
                let socket = socket.to_path_buf();
                match io_kind(&e) {
                    _ if nobody_listens(&e) => AskError::NoScheduler { socket },
                    Some(io::ErrorKind::PermissionDenied) => {
                        AskError::NotPermitted { socket, command }
                    }
                    _ => AskError::NoAnswer {
                        reason: format!("{}: {e:#}", socket.shown()),
                    },
                }
            })?;
        Ok(Self { client, command })
    }

    /// What it answers; `target` names what is asked about.
    ///
    /// # Errors
    /// When it does not answer, or what cannot be read.
    pub fn ask<T: DeserializeOwned>(
        &mut self,
        target: &str,
        args: &[(&str, &str)],
    ) -> Result<T, AskError> {
        let args = std::iter::once(&("target", target))
            .chain(args)
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        self.client.request::<T>("stats", args).map_err(|e| {
            let reason = format!("{e:#}");
            // Either it refuses the request, or it says what we cannot read.
            let refused = e.downcast_ref::<StatsErrno>();
            let understood = refused.is_some_and(|errno| errno.0 == CANNOT_READ.0);
            if !understood && (refused.is_some() || e.is::<serde_json::Error>()) {
                let command = self.command;
                AskError::NotUnderstood { command, reason }
            } else {
                AskError::NoAnswer { reason }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::server::protocol::Targets;
    use crate::watch::server::{Limits, Server};
    use crate::watch::stats::Metrics;

    #[test]
    fn without_a_scheduler_the_error_says_how_to_start_one() {
        let folder = tempfile::tempdir().expect("created");
        let socket = folder.path().join("stats");
        let error = |socket: &Path| match Connection::open(socket, "top") {
            Ok(_) => panic!("nobody listens"),
            Err(e) => e.to_string(),
        };
        assert!(error(&socket).contains("start it with `sudo scx_ml`"));
        // As one that was killed leaves it.
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
        assert!(error(&socket).contains("no scx_ml is scheduling"));
    }
    #[test]
    fn what_cannot_be_read_is_no_misunderstanding() {
        let folder = tempfile::tempdir().expect("created");
        let socket = folder.path().join("stats");
        let server =
            Server::start(&socket, Limits::default(), Targets::of_counters).expect("served");
        let (answers, requests) = server.channels().expect("it runs").clone();
        let scheduler = std::thread::spawn(move || {
            requests.recv().expect("a request");
            answers.send(Err("no memory".into())).expect("a server");
        });
        let mut connection = Connection::open(&socket, "top").expect("connected");
        let error = connection
            .ask::<Metrics>("top", &[])
            .expect_err("no reading");
        scheduler.join().expect("no panic");
        assert!(matches!(&error, AskError::NoAnswer { reason } if reason.contains("no memory")));
        let error = connection.ask::<Metrics>("weather", &[]);
        assert!(matches!(error, Err(AskError::NotUnderstood { .. })));
    }
}
