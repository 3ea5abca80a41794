//! Draining: records from the kernel's ring buffer to whoever wants them. Nothing here ever waits for any of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use crossbeam::channel::{Sender, bounded};
use libbpf_rs::{MapHandle, RingBufferBuilder};
use log::warn;

use crate::kernel::bpf::intf::counters;
use crate::kernel::sample::Sample;

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

    loop {
        // Looked at before reading: whoever stops this has detached the scheduler, so that the last turn reads all.
        let last = stop.load(Ordering::Acquire);
        if !last {
            // The kernel signals only when much is waiting, and a poll reads only what was signalled: read in any case.
            let _ = ring.poll(POLL_INTERVAL);
        }
        ring.consume().context("cannot read the ring buffer")?;
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
        if last {
            return Ok(());
        }
    }
}
