//! Prints statistics while the scheduler runs (`--stats`): a client of its own stats socket.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use scx_stats::prelude::StatsClient;

use crate::kernel::trouble::Trouble;
use crate::watch::ask::{io_kind, nobody_listens};
use crate::watch::stats::Metrics;

/// See the module.
pub struct Printer {
    socket: PathBuf,
    client: Option<StatsClient>,
    printing: Trouble,
}

impl Printer {
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            client: None,
            printing: Trouble::new("statistics are printed"),
        }
    }

    /// Print to `out` every `interval`, until `shutdown`.
    ///
    /// # Errors
    /// When nobody reads it any more. Any other failure is tried again at the next turn.
    pub fn run(
        &mut self,
        interval: Duration,
        shutdown: &AtomicBool,
        out: &mut impl Write,
    ) -> Result<()> {
        while !shutdown.load(Ordering::Relaxed) {
            let outcome = match self.ask() {
                // The scheduler has ended, and its server with it.
                Err(_) if shutdown.load(Ordering::Relaxed) => break,
                Err(e) => Err(e),
                Ok(None) => Ok(()),
                Ok(Some(metrics)) => match metrics.format(out) {
                    Err(e) if io_kind(&e) == Some(io::ErrorKind::BrokenPipe) => return Err(e),
                    outcome => outcome,
                },
            };
            self.printing.note(outcome);
            std::thread::sleep(interval);
        }
        Ok(())
    }

    /// What has happened since it was asked last. None: nobody listens, as while the scheduler restarts; were that to last,
    /// it is the server's failure and said there.
    fn ask(&mut self) -> Result<Option<Metrics>> {
        // A connection ends with the scheduler that it was made to.
        if let Some(mut client) = self.client.take()
            && let Ok(metrics) = client.request::<Metrics>("stats", vec![])
        {
            self.client = Some(client);
            return Ok(Some(metrics));
        }
        let mut client = match StatsClient::new().set_path(&self.socket).connect(None) {
            Ok(client) => client,
            Err(e) if nobody_listens(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        let metrics = client.request::<Metrics>("stats", vec![])?;
        self.client = Some(client);
        Ok(Some(metrics))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::desk::Desk;
    use crate::watch::server::protocol::Targets;
    use crate::watch::server::{Limits, Server};
    use anyhow::anyhow;

    /// What is printed to; the first lines fail in these ways, and the first that does not ends the test.
    struct Out<'a> {
        fails: Vec<io::ErrorKind>,
        text: String,
        end: &'a AtomicBool,
    }

    impl Write for Out<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(kind) = self.fails.pop() {
                return Err(kind.into());
            }
            self.end.store(true, Ordering::Relaxed);
            self.text.push_str(&String::from_utf8_lossy(bytes));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Print to something that fails in these ways, what a scheduler serves whose first two readings fail.
    fn print(fails: Vec<io::ErrorKind>) -> (String, Result<()>) {
        let folder = tempfile::tempdir().expect("created");
        let socket = folder.path().join("stats");
        let server =
            Server::start(&socket, Limits::default(), Targets::of_counters).expect("served");
        let channels = server.channels().expect("it runs");
        let end = AtomicBool::new(false);
        let mut out = Out {
            fails,
            text: String::new(),
            end: &end,
        };
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut desk = Desk::default();
                let mut reads = 0;
                while !end.load(Ordering::Relaxed) {
                    desk.attend(Some(channels), Duration::from_millis(10), || {
                        reads += 1;
                        match reads {
                            1 | 2 => Err(anyhow!("cannot read the kernel's counters")),
                            _ => Ok(Metrics::default()),
                        }
                    });
                }
            });
            let mut printer = Printer::new(socket);
            let outcome = printer.run(Duration::from_millis(1), &end, &mut out);
            end.store(true, Ordering::Relaxed);
            outcome
        });
        (out.text, outcome)
    }

    #[test]
    fn readings_and_lines_that_fail_for_a_while_are_tried_again() {
        let (text, outcome) = print(vec![io::ErrorKind::StorageFull; 3]);
        assert!(outcome.is_ok() && text.contains("no model"), "{text}");
    }

    #[test]
    fn it_ends_when_nobody_reads_it() {
        let (text, outcome) = print(vec![io::ErrorKind::BrokenPipe]);
        assert!(outcome.is_err() && text.is_empty(), "{text}");
    }
}
