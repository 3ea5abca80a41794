//! The recorder: the thread that writes samples to files while scx_ml schedules.
//!
//! It has a channel of its own and nobody waits for it: what does not fit is dropped and counted. Whatever happens to
//! the disk, scheduling and learning go on. A segment gets its name when it is complete and on the disk, so that a
//! crash costs the unfinished one and no other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{error, info, warn};
use scx_ml_text::Show;

use super::schema::Loss;
use super::segments::{Failure, RecorderConfig, Segments, StartError};
use super::tally::Tally;
use super::write::{CreateFile, create_private};
use crate::kernel::bpf::intf::counters;
use crate::kernel::clock::monotonic_ns;
use crate::kernel::fault::{Fault, is_asked_for};
use crate::kernel::ringbuf::{Archive, Batch, Outlet};
use crate::kernel::trouble::caught;

/// Samples that may wait for the recorder: 15 MB of them, a minute's at the usual rate. Among busy tasks it may have to
/// wait for the CPU for seconds.
const WAITING_MAX: u64 = 1 << 16;

/// Messages that may wait. Many batches are small.
const MESSAGES_MAX: usize = 4_096;

/// Longest time without a look at the clock.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// How long the end waits for the recorder to take the last of the counters.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// How long a test's slow recorder takes for each message, until something is lost by that.
const SLOWNESS: Duration = Duration::from_millis(250);

/// What has become of the samples that user space has read, since the start.
#[derive(Debug, Default)]
pub struct RecorderStatus {
    /// Samples in the recording, those of the unfinished segment included.
    pub recorded: AtomicU64,
    /// Samples dropped because the recorder was behind.
    pub channel_dropped: AtomicU64,
    /// Samples that the limit or an error of the disk kept out of the recording.
    pub not_recorded: AtomicU64,
}

impl RecorderStatus {
    /// Samples that are not in the recording for either reason.
    pub fn lost(&self) -> u64 {
        self.channel_dropped.load(Ordering::Relaxed) + self.not_recorded.load(Ordering::Relaxed)
    }
}

enum Message {
    Samples(Batch),
    /// What the kernel has counted in a stretch of time. The recorder adds what it has lost itself.
    Counted(Loss),
    End,
}

/// The way to the recorder.
#[derive(Clone)]
pub struct RecorderHandle {
    messages: Sender<Message>,
    /// Samples in the channel.
    waiting: Arc<AtomicU64>,
    /// How far the recorder was told of the kernel's counters.
    tally: Arc<Mutex<Tally>>,
    pub status: Arc<RecorderStatus>,
}

impl Outlet for RecorderHandle {
    fn offer(&self, batch: &Batch) {
        let len = batch.len() as u64;
        let fits = self.waiting.fetch_add(len, Ordering::Relaxed) + len <= WAITING_MAX;
        if !fits
            || self
                .messages
                .try_send(Message::Samples(batch.clone()))
                .is_err()
        {
            self.waiting.fetch_sub(len, Ordering::Relaxed);
            self.status
                .channel_dropped
                .fetch_add(len, Ordering::Relaxed);
        }
    }
}

impl Archive for RecorderHandle {
    fn begin(&self, now_ns: u64, undecodable: u64) {
        *self.tally() = Tally::new(now_ns, undecodable);
    }

    fn is_due(&self, now_ns: u64) -> bool {
        self.tally().due(now_ns)
    }

    fn account(&self, counted: &counters, undecodable: u64, now_ns: u64, last: bool) {
        let mut tally = self.tally();
        let counted = tally.since(counted, undecodable, now_ns);
        let message = Message::Counted(counted);
        let taken = if last {
            // The scheduler is detached: there is time to wait for room.
            self.messages.send_timeout(message, LAST_WAIT).is_ok()
        } else {
            self.messages.try_send(message).is_ok()
        };
        if taken {
            tally.taken(&counted);
        } else if last {
            warn!("the recorder does not take the last of the counters: its sums do not add up");
        }
    }

    fn kept(&self) -> u64 {
        self.status.recorded.load(Ordering::Relaxed)
    }

    fn lost(&self) -> u64 {
        self.status.lost()
    }
}

impl RecorderHandle {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The recorder's thread. Dropping it waits until everything is written that was handed over until then.
pub struct Recorder {
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Prepare the folder, begin the first segment, and start the thread.
    ///
    /// # Errors
    /// When the folder cannot be used or the thread cannot be started.
    pub fn start(config: RecorderConfig) -> Result<(Self, RecorderHandle), StartError> {
        Self::start_with(config, create_private)
    }

    /// The same with another way to create files.
    pub(super) fn start_with(
        config: RecorderConfig,
        create: CreateFile,
    ) -> Result<(Self, RecorderHandle), StartError> {
        let status = Arc::new(RecorderStatus::default());
        let segments = Segments::begin(config, create)?;
        let dir = segments.dir().to_path_buf();
        let waiting: Arc<AtomicU64> = Arc::default();
        let (messages, to_record) = bounded(MESSAGES_MAX);
        let thread = std::thread::Builder::new()
            .name("ml-recorder".into())
            .spawn({
                let (status, waiting) = (status.clone(), waiting.clone());
                move || Worker::new(segments, status, waiting).run(&to_record)
            })
            .map_err(|source| StartError::NotWritable { dir, source })?;
        let recorder = Self {
            messages: messages.clone(),
            thread: Some(thread),
        };
        let handle = RecorderHandle {
            messages,
            waiting,
            tally: Arc::default(),
            status,
        };
        Ok((recorder, handle))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Fails if the thread has ended already.
        let _ = self.messages.send(Message::End);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the recorder had panicked");
        }
    }
}

/// The thread's side.
struct Worker {
    segments: Segments,
    status: Arc<RecorderStatus>,
    /// Samples in the channel.
    waiting: Arc<AtomicU64>,
    /// Rows for the next file of losses. One row that grows once the recording has stopped.
    losses: Vec<Loss>,
    /// What the rows so far say of our own losses: dropped by the channel, not recorded.
    told: (u64, u64),
    /// The limit is reached, or the disk does not take any more.
    stopped: bool,
}

impl Worker {
    fn new(segments: Segments, status: Arc<RecorderStatus>, waiting: Arc<AtomicU64>) -> Self {
        Self {
            segments,
            status,
            waiting,
            losses: vec![],
            told: (0, 0),
            stopped: false,
        }
    }

    /// Record until the end is asked for. A panic ends the recording and nothing else.
    fn run(mut self, messages: &Receiver<Message>) {
        let outcome = caught(|| {
            self.record(messages);
            self.end();
        });
        if let Err(e) = outcome {
            error!("the recorder has ended ({e}); complete segments are kept, scheduling goes on");
            let lost = self.segments.abandon();
            self.lose(lost);
            self.stopped = true;
            while let Ok(message) = messages.recv() {
                match message {
                    Message::Samples(batch) => self.samples(&batch),
                    Message::Counted(_) => {}
                    Message::End => break,
                }
            }
        }
    }

    fn record(&mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(self.wait()) {
                Ok(Message::Samples(batch)) => self.samples(&batch),
                Ok(Message::Counted(counted)) => self.counted(counted),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.stopped && self.segments.due_in().is_zero() {
                self.complete();
            }
            if is_asked_for(Fault::RecorderSlow) && self.status.lost() == 0 {
                std::thread::sleep(SLOWNESS);
            }
            if is_asked_for(Fault::RecorderPanic) {
                panic!("it was asked to");
            }
        }
    }

    /// How long to wait for a message: until the segment is due, unless there will be no more of them.
    fn wait(&self) -> Duration {
        if self.stopped {
            IDLE_WAIT
        } else {
            self.segments.due_in().min(IDLE_WAIT)
        }
    }

    fn samples(&mut self, batch: &Batch) {
        let len = batch.len() as u64;
        self.waiting.fetch_sub(len, Ordering::Relaxed);
        if self.stopped {
            self.status.not_recorded.fetch_add(len, Ordering::Relaxed);
            return;
        }
        self.status.recorded.fetch_add(len, Ordering::Relaxed);
        if let Err(failure) = self.segments.append(batch) {
            self.stop(failure);
        }
    }

    fn counted(&mut self, mut counted: Loss) {
        let lost = (
            self.status.channel_dropped.load(Ordering::Relaxed),
            self.status.not_recorded.load(Ordering::Relaxed),
        );
        counted.channel_dropped = lost.0 - self.told.0;
        counted.not_recorded = lost.1 - self.told.1;
        self.told = lost;
        match self.losses.last_mut() {
            Some(last) if self.stopped => last.add(&counted),
            _ => self.losses.push(counted),
        }
    }

    /// Complete the segment.
    fn complete(&mut self) {
        if let Err(failure) = self.segments.complete(&mut self.losses) {
            self.stop(failure);
        }
    }

    /// Record no more samples; what of them could not be kept is counted.
    fn stop(&mut self, failure: Failure) {
        self.stopped = true;
        match failure {
            Failure::Limit { limit_bytes } => {
                let lost = self.segments.abandon_buffer();
                self.lose(lost);
                warn!(
                    "the recording has reached its limit of {} MiB (--record-limit): what comes now is not recorded; \
                     scheduling goes on",
                    limit_bytes >> 20
                );
                // There is room left for this.
                self.complete();
            }
            Failure::Disk { .. } => {
                let lost = self.segments.abandon();
                self.lose(lost);
                error!(
                    "{failure}: the recording has ended, {lost} samples of the unfinished segment are lost; \
                     scheduling goes on"
                );
            }
        }
    }

    fn lose(&self, samples: u64) {
        self.status.recorded.fetch_sub(samples, Ordering::Relaxed);
        self.status
            .not_recorded
            .fetch_add(samples, Ordering::Relaxed);
    }

    /// Write what there is, after the last message.
    fn end(&mut self) {
        if self.segments.is_untouched() && self.losses.is_empty() && self.status.lost() == 0 {
            // It never came to scheduling. Dropping the segments removes what was prepared.
            return;
        }
        if !self.stopped {
            self.complete();
        }
        // What was lost after the last of the counters, or by completing.
        let lost = self.status.lost();
        if lost > self.told.0 + self.told.1 {
            let now = monotonic_ns();
            self.counted(Loss {
                start_ns: now,
                end_ns: now,
                ..Default::default()
            });
        }
        if let Err(failure) = self.segments.write_losses(&mut self.losses) {
            error!("{failure}: what was lost last is not in the recording");
        }
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let (segments, bytes) = self.segments.completed();
        info!(
            "recorded {} samples in {segments} segments of {}, {:.1} MiB; lost {} (recorder behind {}, limit or disk {})",
            count(&self.status.recorded),
            self.segments.dir().shown(),
            bytes as f64 / f64::from(1 << 20),
            self.status.lost(),
            count(&self.status.channel_dropped),
            count(&self.status.not_recorded),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorder_that_has_stopped_does_not_spin() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = RecorderConfig {
            segment_time: Duration::ZERO,
            ..RecorderConfig::new(dir.path(), 1 << 20, super::super::tests::meta())
        };
        let segments = Segments::begin(config, create_private).expect("begun");
        let mut worker = Worker::new(segments, Arc::default(), Arc::default());
        assert_eq!(worker.wait(), Duration::ZERO);
        worker.stop(Failure::Limit {
            limit_bytes: 1 << 20,
        });
        assert_eq!(worker.wait(), IDLE_WAIT);
    }
}
