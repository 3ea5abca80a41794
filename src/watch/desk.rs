//! The desk: answers whoever asks for statistics on the stats socket, whatever becomes of the reading, or of the server.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use crate::kernel::trouble::{Duty, Trouble};
use crate::watch::stats::{Metrics, Reading};

/// The server's channels: to it and from it.
pub type Channels = (Sender<Reading>, Receiver<()>);

/// When a server that could not be started is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub struct Desk {
    reading: Duty,
    serving: Trouble,
    /// When a server that is gone may be replaced.
    replace_at: Instant,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            reading: Duty::new("the reading of statistics", "statistics are read"),
            serving: Trouble::new("statistics are served"),
            replace_at: Instant::now(),
        }
    }
}

impl Desk {
    /// Wait for a request, for `wait` at most, and answer it with what `read` gives. Whether there is a server.
    pub fn attend(
        &mut self,
        server: Option<&Channels>,
        wait: Duration,
        read: impl FnOnce() -> Result<Metrics>,
    ) -> bool {
        let Some((answers, requests)) = server else {
            std::thread::sleep(wait);
            return false;
        };
        let there = match requests.recv_timeout(wait) {
            Ok(()) => {
                let reading = self.reading.attempt(read).map_err(|e| format!("{e:#}"));
                answers.send(reading).is_ok()
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        };
        if !there {
            self.serving
                .note(Err::<(), _>(anyhow!("the statistics server has ended")));
        }
        there
    }

    /// Another server in place of one that has ended, by `start`. None: it is not time yet, or there cannot be one for now.
    pub fn replace<S>(&mut self, start: impl FnOnce() -> Result<S>) -> Option<S> {
        let now = Instant::now();
        if now < self.replace_at {
            return None;
        }
        self.replace_at = now + RETRY;
        self.serving.note(start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::unbounded;

    const WAIT: Duration = Duration::from_millis(20);

    fn fails() -> Result<Metrics> {
        Err(anyhow!("cannot read the kernel's counters"))
    }

    fn well() -> Result<Metrics> {
        Ok(Metrics::default())
    }

    #[test]
    fn every_request_is_answered_though_readings_fail_or_panic() {
        let mut desk = Desk::default();
        let (ask, requests) = unbounded();
        let (answers, answered) = unbounded();
        let channels = (answers, requests);
        let reads: [fn() -> Result<Metrics>; 4] = [fails, well, || panic!("on purpose"), well];
        for read in reads {
            ask.send(()).expect("the desk is there");
            assert!(desk.attend(Some(&channels), WAIT, read));
        }
        assert!(desk.attend(Some(&channels), WAIT, well), "nobody asks");
        let answers: Vec<Reading> = answered.try_iter().collect();
        let ended = "the reading of statistics has ended";
        assert_eq!(answers.len(), 4);
        assert_eq!(answers[0], Err("cannot read the kernel's counters".into()));
        assert!(answers[1].is_ok());
        assert_eq!(
            answers[2],
            Err(format!("{ended} (it panicked: on purpose)"))
        );
        assert_eq!(answers[3], Err(ended.into()));
    }

    #[test]
    fn a_server_that_has_ended_is_replaced_once_a_second_and_waiting_without_one_is_no_spinning() {
        let mut desk = Desk::default();
        let (ask, requests) = unbounded();
        let (answers, _answered) = unbounded();
        drop(ask);
        assert!(!desk.attend(Some(&(answers, requests)), WAIT, well));
        assert!(desk.serving.lasts());

        let none = || Err::<u32, _>(anyhow!("the socket cannot be bound"));
        assert_eq!(desk.replace(none), None);
        assert_eq!(desk.replace(|| Ok(1)), None, "not at once again");
        let before = Instant::now();
        assert!(!desk.attend(None, WAIT, well));
        assert!(before.elapsed() >= WAIT);
        std::thread::sleep(RETRY);
        assert_eq!(desk.replace(|| Ok(1)), Some(1));
        assert!(!desk.serving.lasts());

        // One that ends between its question and the answer.
        let (ask, requests) = unbounded();
        let (answers, _) = unbounded();
        ask.send(()).expect("the desk is there");
        assert!(!desk.attend(Some(&(answers, requests)), WAIT, well));
    }
}
