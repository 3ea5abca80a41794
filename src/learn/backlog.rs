//! The backlog: samples on their way from the reader of the ring buffer to the learner. The reader never waits; a learner that
//! is behind loses the oldest, which it would forget first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};

use crate::kernel::ringbuf::{Batch, DrainCounters, Outlet};

/// What both ends know.
#[derive(Debug)]
struct Shared {
    /// Samples in the channel.
    waiting: AtomicUsize,
    /// Most that may wait. A single batch may be larger.
    samples_max: usize,
    /// Nobody takes any more.
    closed: AtomicBool,
    counters: Arc<DrainCounters>,
}

impl Shared {
    fn taken(&self, batch: &Batch) {
        self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
    }

    fn lost(&self, batch: &Batch) {
        self.counters
            .channel_dropped
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}

/// The reader's end, an [`Outlet`].
pub struct Feed {
    batches: Sender<Batch>,
    /// The other end, to make room.
    oldest: Receiver<Batch>,
    shared: Arc<Shared>,
}

/// The learner's end.
pub struct Backlog {
    batches: Receiver<Batch>,
    shared: Arc<Shared>,
}

/// A channel in which at most `samples_max` samples wait, or one batch. What is lost is counted in `counters`.
pub fn backlog(samples_max: usize, counters: Arc<DrainCounters>) -> (Feed, Backlog) {
    let (batches, oldest) = unbounded();
    let shared = Arc::new(Shared {
        waiting: AtomicUsize::new(0),
        samples_max,
        closed: AtomicBool::new(false),
        counters,
    });
    let backlog = Backlog {
        batches: oldest.clone(),
        shared: shared.clone(),
    };
    let feed = Feed {
        batches,
        oldest,
        shared,
    };
    (feed, backlog)
}

impl Outlet for Feed {
    fn offer(&self, batch: &Batch) {
        let shared = &self.shared;
        shared.waiting.fetch_add(batch.len(), Ordering::Relaxed);
        if shared.closed.load(Ordering::Acquire) || self.batches.send(batch.clone()).is_err() {
            shared.taken(batch);
            shared.lost(batch);
            return;
        }
        let most = shared.samples_max.max(batch.len());
        while shared.waiting.load(Ordering::Relaxed) > most {
            // The learner may have been faster.
            let Ok(old) = self.oldest.try_recv() else {
                return;
            };
            shared.taken(&old);
            shared.lost(&old);
        }
    }
}

impl Backlog {
    /// The oldest batch, or wait for one.
    ///
    /// # Errors
    /// After `timeout`, and when all is taken and the feed is gone.
    pub fn take(&self, timeout: Duration) -> Result<Batch, RecvTimeoutError> {
        let batch = self.batches.recv_timeout(timeout)?;
        self.shared.taken(&batch);
        Ok(batch)
    }

    /// The oldest batch, if there is one.
    ///
    /// # Errors
    /// When none waits.
    pub fn try_take(&self) -> Result<Batch, TryRecvError> {
        let batch = self.batches.try_recv()?;
        self.shared.taken(&batch);
        Ok(batch)
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        while let Ok(batch) = self.try_take() {
            self.shared.lost(&batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::intf::burst_sample;
    use crate::kernel::sample::Sample;

    /// A batch of `len` samples whose bursts lasted `burst_ns`.
    fn batch(len: usize, burst_ns: u64) -> Batch {
        let record = burst_sample {
            burst_ns,
            ..Default::default()
        };
        Arc::new((0..len).map(|_| Sample(record)).collect())
    }

    fn dropped(counters: &DrainCounters) -> u64 {
        counters.channel_dropped.load(Ordering::Relaxed)
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let counters = Arc::<DrainCounters>::default();
        let (feed, backlog) = backlog(100, counters.clone());
        for i in 0..10 {
            feed.offer(&batch(30, i));
        }
        assert_eq!(dropped(&counters), 7 * 30);
        let left: Vec<u64> = std::iter::from_fn(|| backlog.try_take().ok())
            .map(|b| b[0].0.burst_ns)
            .collect();
        assert_eq!(left, [7, 8, 9]);
        assert_eq!(backlog.shared.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_batch_that_is_too_large_is_taken_alone() {
        let counters = Arc::<DrainCounters>::default();
        let (feed, backlog) = backlog(100, counters.clone());
        feed.offer(&batch(10, 1));
        feed.offer(&batch(500, 2));
        assert_eq!(dropped(&counters), 10);
        assert_eq!(backlog.try_take().map(|b| b.len()), Ok(500));
    }

    #[test]
    fn what_nobody_takes_is_lost_and_counted() {
        let counters = Arc::<DrainCounters>::default();
        let (feed, backlog) = backlog(100, counters.clone());
        feed.offer(&batch(10, 1));
        drop(backlog);
        assert_eq!(dropped(&counters), 10);
        feed.offer(&batch(20, 2));
        assert_eq!(dropped(&counters), 30);
        assert_eq!(feed.shared.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn it_ends_with_its_feed_when_all_is_taken() {
        let (feed, backlog) = backlog(100, Arc::default());
        feed.offer(&batch(1, 1));
        drop(feed);
        let wait = Duration::from_secs(1);
        assert!(backlog.take(wait).is_ok());
        assert_eq!(
            backlog.take(wait).map(|b| b.len()),
            Err(RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn every_sample_is_taken_or_counted_whoever_is_faster() {
        let counters = Arc::<DrainCounters>::default();
        let (feed, backlog) = backlog(50, counters.clone());
        let reader = std::thread::spawn(move || {
            for i in 0..20_000 {
                feed.offer(&batch(i % 7 + 1, i as u64));
            }
        });
        let mut taken = 0;
        while let Ok(batch) = backlog.take(Duration::from_secs(10)) {
            taken += batch.len() as u64;
        }
        reader.join().expect("no panic");
        let offered: u64 = (0..20_000).map(|i| i % 7 + 1).sum();
        assert_eq!(taken + dropped(&counters), offered);
        assert_eq!(backlog.shared.waiting.load(Ordering::Relaxed), 0);
    }
}
