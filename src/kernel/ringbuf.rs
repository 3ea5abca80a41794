//! Draining: records from the kernel's ring buffer to whoever wants them. Nothing here ever waits for any of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use crossbeam::channel::{Sender, bounded};
use libbpf_rs::{ErrorKind, MapHandle, RingBufferBuilder};
use log::warn;

use crate::kernel::bpf::intf::counters;
use crate::kernel::sample::Sample;
use crate::kernel::trouble::{Duty, Trouble};

/// How often the ring buffer is looked at. The kernel wakes the reader earlier when it is a quarter full.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Samples that were drained together. All who want them share them.
pub type Batch = Arc<Vec<Sample>>;

/// Somebody who wants the samples.
pub trait Outlet: Send + Sync {
    /// Take a batch or count it as lost, without waiting.
    fn offer(&self, batch: &Batch);
}

/// Somebody who keeps the samples, and account of the bursts that are none.
pub trait Archive: Outlet {
    /// A scheduler object is about to be attached, its counters begin at zero. `undecodable` counts since the start of the
    /// program.
    fn begin(&self, now_ns: u64, undecodable: u64);

    /// Whether it wants to be told again what was counted.
    fn is_due(&self, now_ns: u64) -> bool;

    /// Take what the object and the drain have counted so far; without waiting, unless it is the `last` of this object.
    fn account(&self, counted: &counters, undecodable: u64, now_ns: u64, last: bool);

    /// Samples kept, since the start of the program.
    fn kept(&self) -> u64;

    /// Samples that are not among them, since the start of the program.
    fn lost(&self) -> u64;
}

/// What became of the records after the kernel let go of them.
#[derive(Debug, Default)]
pub struct DrainCounters {
    /// Records read.
    pub received: AtomicU64,
    /// Records that could not be decoded.
    pub undecodable: AtomicU64,
    /// Records dropped because the learner was behind.
    pub channel_dropped: AtomicU64,
}

/// The draining thread of one scheduler instance. Dropping it stops it, after it has read what is left.
pub struct Drain {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drain {
    /// Start draining `samples` to `outlets`.
    ///
    /// # Errors
    /// When the thread cannot be started or the ring buffer cannot be mapped.
    pub fn start(
        samples: MapHandle,
        outlets: Vec<Arc<dyn Outlet>>,
        counters: Arc<DrainCounters>,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready_tx, ready_rx) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("ml-samples".into())
            .spawn({
                let stop = stop.clone();
                move || {
                    if let Err(e) = drain(&samples, &outlets, &counters, &stop, &ready_tx) {
                        warn!("samples are no longer read: {e:#}");
                        // Also reaches the caller if it still waits for the thread to be ready.
                        let _ = ready_tx.try_send(Err(e));
                    }
                }
            })?;
        let drain = Self {
            stop,
            thread: Some(thread),
        };
        ready_rx
            .recv()
            .map_err(|_| anyhow!("the sample reader ended before it began"))??;
        Ok(drain)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the sample reader had panicked");
        }
    }
}

fn drain(
    samples: &MapHandle,
    outlets: &[Arc<dyn Outlet>],
    counters: &DrainCounters,
    stop: &AtomicBool,
    ready: &Sender<Result<()>>,
) -> Result<()> {
    let batch = std::cell::RefCell::new(Vec::new());
    let mut builder = RingBufferBuilder::new();
    builder
        .add(samples, |record| {
            match Sample::decode(record) {
                Ok(sample) => batch.borrow_mut().push(sample),
                Err(e) => {
                    if counters.undecodable.fetch_add(1, Ordering::Relaxed) == 0 {
                        warn!("{e}");
                    }
                }
            }
            0
        })
        .context("cannot map the ring buffer of samples")?;
    let ring = builder.build().context("cannot read the ring buffer")?;
    let _ = ready.send(Ok(()));

    let wait = || match ring.poll(POLL_INTERVAL) {
        Err(e) if e.kind() != ErrorKind::Interrupted => Err(e).context("cannot wait for samples"),
        _ => Ok(()),
    };
    turns(stop, wait, || {
        let read = ring.consume().context("cannot read the ring buffer");
        // What was read before it failed is handed on as well.
        let full = batch.take();
        if !full.is_empty() {
            counters
                .received
                .fetch_add(full.len() as u64, Ordering::Relaxed);
            let full = Arc::new(full);
            for outlet in outlets {
                outlet.offer(&full);
            }
        }
        read
    });
    Ok(())
}

/// Wait and read in turns until `stop`. What fails is tried again at the next turn; a panic of the reading ends it.
fn turns(
    stop: &AtomicBool,
    mut wait: impl FnMut() -> Result<()>,
    mut read: impl FnMut() -> Result<()>,
) {
    let mut waiting = Trouble::new("samples are waited for");
    let mut reading = Duty::new("the reader of samples", "samples are read");
    loop {
        // Looked at before reading: whoever stops this has detached the scheduler, so that the last turn reads all.
        let last = stop.load(Ordering::Acquire);
        // The kernel signals only when much is waiting, and a poll reads only what was signalled: read in any case.
        if !last && waiting.note(wait()).is_none() {
            std::thread::sleep(POLL_INTERVAL);
        }
        if last {
            return reading.last_turn("the last samples are lost", read);
        }
        reading.turn(&mut read);
        if reading.has_ended() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn reading_goes_on_after_failures_without_spinning_until_the_last_turn() {
        let stop = AtomicBool::new(false);
        let (mut waits, mut reads) = (0, 0);
        let begin = Instant::now();
        let wait = || {
            waits += 1;
            match waits {
                1..=3 => Err(anyhow!("no poll")),
                _ => Ok(()),
            }
        };
        let read = || {
            reads += 1;
            stop.store(reads == 5, Ordering::Release);
            match reads {
                2 | 3 | 6 => Err(anyhow!("no memory")),
                _ => Ok(()),
            }
        };
        turns(&stop, wait, read);
        assert_eq!((waits, reads), (5, 6), "the last turn only reads");
        assert!(begin.elapsed() >= 3 * POLL_INTERVAL);
    }

    #[test]
    fn a_panic_ends_the_reading_and_goes_no_further() {
        let mut reads = 0;
        let read = || {
            reads += 1;
            panic!("on purpose");
        };
        turns(&AtomicBool::new(false), || Ok(()), read);
        assert_eq!(reads, 1);
    }
}
