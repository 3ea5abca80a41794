//! What fails while scheduling: counted, said once, tried again. The rule stands in docs/architecture.md, "When something
//! fails".

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow};
use log::{debug, error, warn};

use crate::kernel::fault::panic_message;
use crate::kernel::news;

/// Like the log, it belongs to the process: whoever can warn can count.
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// Failures that the process went on after, since its start; panics included.
pub fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// A panic that went no further.
#[derive(Debug, thiserror::Error)]
#[error("it panicked: {0}")]
pub struct Panicked(String);

/// Do it, and come back even from a panic. Whatever `work` had in hand is not to be used after one.
///
/// # Errors
/// After a panic, which counts as a failure.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        FAILURES.fetch_add(1, Ordering::Relaxed);
        Panicked(panic_message(&*panic).to_string())
    })
}

/// What a turn is in the row of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Works,
    /// The first failure in a row.
    Begins,
    /// Another one, and which.
    GoesOn(u64),
    /// It works again, after so many.
    Over(u64),
}

/// Something that is done turn by turn and may fail for a while: each failure is counted, the first in a row is a warning,
/// and so is its end known.
#[derive(Debug)]
pub struct Trouble {
    works: String,
    in_a_row: u64,
}

impl Trouble {
    /// `works` says what happens as long as there is none, as in "metrics are written".
    pub fn new(works: impl Into<String>) -> Self {
        Self {
            works: works.into(),
            in_a_row: 0,
        }
    }

    /// Whether the last turn failed.
    pub fn lasts(&self) -> bool {
        self.in_a_row > 0
    }

    /// Take note of how a turn went. None: it has failed, and is to be tried again at the next.
    pub fn note<T, E: Display>(&mut self, outcome: Result<T, E>) -> Option<T> {
        let turn = self.turn(outcome.is_err());
        match (&outcome, turn) {
            (Err(e), Turn::Begins) => {
                news::warn(&self.works, format_args!("{e:#}; trying again"));
            }
            (Err(e), Turn::GoesOn(failed)) => {
                debug!("{e:#}: failure {failed} in a row");
            }
            (_, Turn::Over(failed)) => {
                let text = format_args!("{} again; failures: {failed}", self.works);
                news::info(&self.works, text);
            }
            _ => {}
        }
        outcome.ok()
    }

    /// The same for a turn that has no next, always said: `lost` is what a failure costs.
    pub fn note_last<T, E: Display>(&mut self, outcome: Result<T, E>, lost: &str) -> Option<T> {
        match outcome {
            Ok(done) => self.note(Ok::<T, E>(done)),
            Err(e) => {
                self.turn(true);
                warn!("{e:#}; {lost}");
                None
            }
        }
    }

    fn turn(&mut self, failed: bool) -> Turn {
        if !failed {
            return match std::mem::take(&mut self.in_a_row) {
                0 => Turn::Works,
                failed => Turn::Over(failed),
            };
        }
        FAILURES.fetch_add(1, Ordering::Relaxed);
        self.in_a_row += 1;
        match self.in_a_row {
            1 => Turn::Begins,
            failed => Turn::GoesOn(failed),
        }
    }
}

/// A part of the process with turns of its own. A failure ends a turn of it, a panic all of it, and neither anything else.
#[derive(Debug)]
pub struct Duty {
    name: &'static str,
    trouble: Trouble,
    ended: bool,
}

impl Duty {
    /// `name` is for whom it ends, `works` as in [`Trouble::new`].
    pub fn new(name: &'static str, works: impl Into<String>) -> Self {
        Self {
            name,
            trouble: Trouble::new(works),
            ended: false,
        }
    }

    /// Whether it has panicked: there are no more turns.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// One turn.
    pub fn turn(&mut self, work: impl FnOnce() -> Result<()>) {
        // Noted.
        let _ = self.attempt(work);
    }

    /// One turn, for whose outcome somebody waits.
    ///
    /// # Errors
    /// What is noted already.
    pub fn attempt<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let outcome = self.work(work)?;
        self.trouble.note(outcome.as_ref());
        outcome
    }

    /// The last turn: `lost` is what a failure costs.
    pub fn last_turn(&mut self, lost: &str, work: impl FnOnce() -> Result<()>) {
        if let Ok(outcome) = self.work(work) {
            self.trouble.note_last(outcome, lost);
        }
    }

    /// The outcome of the work; an error where there is no part any more that could do it.
    fn work<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<Result<T>> {
        if self.ended {
            return Err(anyhow!("{} has ended", self.name));
        }
        caught(work).map_err(|e| {
            self.ended = true;
            error!("{} has ended ({e}); scheduling goes on", self.name);
            anyhow!("{} has ended ({e})", self.name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_failures_has_a_beginning_and_an_end() {
        let mut trouble = Trouble::new("it works");
        let turns =
            [false, true, true, true, false, false, true].map(|failed| trouble.turn(failed));
        use Turn::*;
        assert_eq!(
            turns,
            [Works, Begins, GoesOn(2), GoesOn(3), Over(3), Works, Begins]
        );
        assert!(trouble.lasts());
    }

    #[test]
    fn every_failure_counts_and_what_works_is_handed_on() {
        let mut trouble = Trouble::new("it works");
        // Other tests fail at the same time.
        let before = failures();
        for _ in 0..3 {
            assert_eq!(trouble.note(Err::<u8, _>("no")), None);
        }
        assert_eq!(trouble.note_last(Err::<u8, _>("no"), "all is lost"), None);
        assert!(failures() >= before + 4);
        assert_eq!(trouble.in_a_row, 4);
        assert_eq!(
            trouble.note_last(Ok::<_, String>(7), "all is lost"),
            Some(7)
        );
        assert!(!trouble.lasts());
    }

    #[test]
    fn a_duty_survives_failures_and_ends_with_a_panic() {
        let mut duty = Duty::new("the test", "it works");
        let fails = || Err::<u8, _>(anyhow!("no"));
        assert_eq!(
            duty.attempt(fails).map_err(|e| e.to_string()),
            Err("no".into())
        );
        assert_eq!(duty.attempt(|| Ok(7)).ok(), Some(7));
        assert!(!duty.has_ended());
        let error = duty.attempt(|| -> Result<u8> { panic!("on purpose") });
        let text = error.map_err(|e| e.to_string());
        assert_eq!(
            text,
            Err("the test has ended (it panicked: on purpose)".into())
        );
        assert!(duty.has_ended());
        assert!(duty.attempt(|| Ok(7)).is_err(), "nothing is done after it");
        duty.turn(|| unreachable!("it has ended"));
        duty.last_turn("nothing", || unreachable!("it has ended"));
    }
}
