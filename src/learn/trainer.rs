//! The trainer: the thread that runs the learner, the keeper of the process database and the saver of models. Each may die;
//! scheduling, and what is left of them, goes on without it.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam::channel::RecvTimeoutError;
use log::{debug, error, warn};

use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::clock::monotonic_ns;
use crate::kernel::fault::{Fault, is_asked_for};
use crate::kernel::sample::Sample;
use crate::kernel::trouble::{Trouble, caught};
use crate::learn::backlog::Backlog;
use crate::learn::learner::{Learner, LearnerStatus, Published};
use crate::learn::profile::{Keeper, KeeperConfig};
use crate::learn::saver::Saver;
use crate::model::sink::ModelSink;

/// Longest wait for samples before the clock is looked at again.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// What has come is taken in for so long before it is seen what is due: on a machine that is busy there is always more.
const TAKE_NS: u64 = 100_000_000;

/// Longest wait for its end. A fit takes a fraction of that, even on a busy machine.
const END_WAIT: Duration = Duration::from_secs(10);

/// Start the trainer of `learner`, which reports to `status`; `saver` keeps its models in a file. It ends when
/// the feed of `backlog` is gone.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(
    learner: Learner,
    profiles: KeeperConfig,
    backlog: Backlog,
    sink: Arc<dyn ModelSink>,
    status: Arc<Mutex<LearnerStatus>>,
    saver: Option<Saver>,
) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("ml-trainer".into())
        .spawn(move || {
            be_nice();
            let mut trainer = Trainer {
                learner: Some(learner),
                keeper: None,
                saver,
                sink,
                status,
                clearing: None,
            };
            trainer.begin(profiles);
            trainer.run(&backlog);
        })
        .context("cannot start the trainer's thread")
}

/// Wait until the trainer has ended, which it does after its channel, and kept what it has learned. But not for ever: the
/// user wants to be rid of us. One that has not ends with the process.
pub fn join(trainer: JoinHandle<()>) {
    let start = Instant::now();
    while !trainer.is_finished() {
        if start.elapsed() > END_WAIT {
            warn!(
                "the trainer has not ended within {} s: what it has learned last may not be kept",
                END_WAIT.as_secs()
            );
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if trainer.join().is_err() {
        warn!("the trainer had panicked");
    }
}

/// What runs in the thread. A part that panics is gone, and the others go on.
struct Trainer {
    learner: Option<Learner>,
    keeper: Option<Keeper>,
    saver: Option<Saver>,
    sink: Arc<dyn ModelSink>,
    status: Arc<Mutex<LearnerStatus>>,
    /// The learner is gone, and what it has told the kernel is not withdrawn yet.
    clearing: Option<Trouble>,
}

impl Trainer {
    /// Load the database.
    fn begin(&mut self, profiles: KeeperConfig) {
        let status = self.status.clone();
        match caught(|| Keeper::new(profiles, status, monotonic_ns())) {
            Ok(keeper) => self.keeper = Some(keeper),
            Err(e) => {
                error!("the process database cannot be used ({e}); scheduling goes on without it")
            }
        }
    }

    fn run(&mut self, backlog: &Backlog) {
        loop {
            let next_due = |l: &Learner| l.next_due(monotonic_ns());
            let wait = self
                .learner
                .as_ref()
                .map_or(IDLE_WAIT, next_due)
                .min(IDLE_WAIT);
            match backlog.take(wait.max(Duration::from_millis(1))) {
                Ok(batch) => self.take(&batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            let until_ns = monotonic_ns().saturating_add(TAKE_NS);
            while monotonic_ns() < until_ns
                && let Ok(batch) = backlog.try_take()
            {
                self.take(&batch);
            }
            self.learn(|_, _| {
                if is_asked_for(Fault::TrainerPanic) {
                    panic!("it was asked to");
                }
                while is_asked_for(Fault::TrainerSpin) {
                    std::hint::spin_loop();
                }
            });
            let now_ns = monotonic_ns();
            self.keep(|keeper, sink| keeper.step(now_ns, sink));
            self.learn(|learner, sink| learner.step(now_ns, sink));
            self.save(|saver, published| saver.look(published, now_ns));
            self.clear();
        }
    }

    fn take(&mut self, batch: &[Sample]) {
        self.learn(|learner, _| learner.add(batch));
        self.keep(|keeper, _| keeper.add(batch));
    }

    /// Keep what was learned.
    fn finish(&mut self) {
        self.keep(|keeper, _| keeper.finish());
        self.save(|saver, published| saver.finish(published));
        self.clear();
    }

    fn learn(&mut self, work: impl FnOnce(&mut Learner, &dyn ModelSink)) {
        let Some(learner) = &mut self.learner else {
            return;
        };
        if let Err(e) = caught(|| work(learner, &*self.sink)) {
            error!("the trainer has ended ({e}); scheduling goes on without a model");
            self.learner = None;
            self.clearing = Some(Trouble::new("models can be withdrawn"));
            let mut status = self.status.lock().unwrap_or_else(|e| e.into_inner());
            status.dead = true;
            status.generation = 0;
        }
    }

    fn keep(&mut self, work: impl FnOnce(&mut Keeper, &dyn ModelSink)) {
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        if let Err(e) = caught(|| work(keeper, &*self.sink)) {
            error!(
                "the process database is not kept any more ({e}); scheduling and learning go on"
            );
            self.keeper = None;
        }
    }

    fn save(&mut self, work: impl FnOnce(&mut Saver, Option<&Published>)) {
        let Some(saver) = &mut self.saver else {
            return;
        };
        let published = self.learner.as_ref().and_then(Learner::published);
        if let Err(e) = caught(|| work(saver, published)) {
            error!("models are not kept any more ({e}); scheduling and learning go on");
            self.saver = None;
        }
    }

    /// Take back what a learner that is gone has told the kernel, and again until it is taken.
    fn clear(&mut self) {
        let Some(clearing) = &mut self.clearing else {
            return;
        };
        let (model, quantum) = (self.sink.withdraw(), self.sink.set_first_quantum(None));
        let thinning = self.sink.set_thinning([0; NR_CLASSES]);
        if clearing.note(model.and(quantum).and(thinning)).is_some() {
            self.clearing = None;
        }
    }
}

/// Fitting can wait for what is urgent. Not nice 19: on a machine that is busy for long it must come to its end before
/// its model expires.
fn be_nice() {
    // Of the calling thread: Linux keeps it per task.
    if let Err(e) = rustix::process::setpriority_process(None, 5) {
        debug!("cannot lower the trainer's priority: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::intf::burst_sample;
    use crate::kernel::native;
    use crate::kernel::ringbuf::Outlet;
    use crate::learn::backlog::{Feed, backlog};
    use crate::learn::learner::LearnerConfig;
    use crate::learn::profile::Profiles;
    use crate::model::Model;
    use crate::model::sink::NotSet;
    use anyhow::anyhow;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// How each call of a sink goes.
    type Way = fn(call: u64) -> Result<()>;

    const WELL: Way = |_| Ok(());
    const BADLY: Way = |_| Err(anyhow!("the sink is broken"));
    const PANIC: Way = |_| panic!("the sink is broken");

    /// A sink that fails on purpose, and counts what it is asked.
    struct Sink {
        publish: Way,
        withdraw: Way,
        profiles: Way,
        published: AtomicU64,
        withdrawn: AtomicU64,
        told: AtomicU64,
    }

    fn sink(publish: Way, withdraw: Way, profiles: Way) -> Arc<Sink> {
        let (published, withdrawn, told) = Default::default();
        Arc::new(Sink {
            publish,
            withdraw,
            profiles,
            published,
            withdrawn,
            told,
        })
    }

    impl ModelSink for Sink {
        fn publish(&self, _: &Model, _: u64) -> Result<u64> {
            let call = self.published.fetch_add(1, Ordering::Relaxed) + 1;
            (self.publish)(call).map(|()| call)
        }

        fn withdraw(&self) -> Result<()> {
            (self.withdraw)(self.withdrawn.fetch_add(1, Ordering::Relaxed) + 1)
        }

        fn set_first_quantum(&self, _: Option<u64>) -> Result<()> {
            Ok(())
        }

        fn set_thinning(&self, _: [u32; NR_CLASSES]) -> Result<()> {
            Ok(())
        }

        fn set_profiles(&self, _: &[(u32, Option<i32>)]) -> Result<(), NotSet> {
            let call = self.told.fetch_add(1, Ordering::Relaxed) + 1;
            (self.profiles)(call).map_err(|first| NotSet {
                missing: 0,
                first,
                others: 0,
            })
        }
    }

    /// A trainer that is fed, and how it is.
    struct Running {
        feed: Feed,
        status: Arc<Mutex<LearnerStatus>>,
        thread: JoinHandle<()>,
    }

    impl Running {
        fn start(sink: &Arc<Sink>, path: Option<PathBuf>) -> Self {
            let (feed, backlog) = backlog(1_000, Arc::default());
            let status = Arc::<Mutex<LearnerStatus>>::default();
            let config = LearnerConfig {
                window: 1_000,
                refit_interval: Duration::from_millis(1),
                max_age: Duration::from_secs(1),
                freeze: false,
                thin: true,
            };
            let thread = start(
                Learner::new(config, status.clone()),
                KeeperConfig { path },
                backlog,
                sink.clone(),
                status.clone(),
                None,
            );
            Self {
                feed,
                status,
                thread: thread.expect("started"),
            }
        }

        /// Feed it until something is the case.
        fn feed_until(&self, is: impl Fn(&LearnerStatus) -> bool) {
            for _ in 0..1_000 {
                if is(&self.status.lock().expect("not poisoned")) {
                    return;
                }
                self.feed.offer(&Arc::new(samples()));
                std::thread::sleep(Duration::from_millis(20));
            }
            panic!("{:?}", self.status.lock());
        }

        fn end(self) -> LearnerStatus {
            drop(self.feed);
            self.thread.join().expect("no panic comes so far");
            self.status.lock().expect("not poisoned").clone()
        }
    }

    /// Bursts that a feature tells apart, of one name.
    fn samples() -> Vec<Sample> {
        (0..900u64)
            .map(|i| {
                let mut record = burst_sample {
                    burst_ns: 1 << (15 + i % 8),
                    repeat: 1,
                    name_key: native::name_key_of("cc1"),
                    ..Default::default()
                };
                for (to, from) in record.comm.iter_mut().zip(b"cc1") {
                    *to = *from as _;
                }
                record.feature_q8[0] = (15 + i as i16 % 8) * 256;
                Sample(record)
            })
            .collect()
    }

    #[test]
    fn the_trainer_ends_with_its_channel() {
        let sink = sink(PANIC, WELL, WELL);
        assert!(!Running::start(&sink, None).end().dead);
    }

    #[test]
    fn what_fails_ends_nothing_and_is_tried_again() {
        let sink = sink(
            |call| if call > 2 { Ok(()) } else { BADLY(call) },
            WELL,
            BADLY,
        );
        let running = Running::start(&sink, None);
        running.feed_until(|s| s.published > 0);
        assert!(!running.end().dead);
        assert!(sink.published.load(Ordering::Relaxed) > 2);
        assert!(sink.told.load(Ordering::Relaxed) > 0);
    }

    #[test]
    fn a_learner_that_panics_is_reported_its_model_withdrawn_at_last_and_the_database_kept() {
        let folder = tempfile::tempdir().expect("created");
        let path = folder.path().join("profiles.json");
        let sink = sink(
            PANIC,
            |call| if call > 2 { Ok(()) } else { BADLY(call) },
            WELL,
        );
        let running = Running::start(&sink, Some(path.clone()));
        running.feed_until(|s| s.dead);
        running.feed_until(|_| sink.withdrawn.load(Ordering::Relaxed) > 2);
        assert!(running.end().dead);
        let calls = [&sink.published, &sink.withdrawn].map(|n| n.load(Ordering::Relaxed));
        assert_eq!(calls, [1, 3], "no more once it has worked");
        let kept = Profiles::load(&path, 0).expect("a database");
        assert_eq!(kept.counts().0, 1);
    }

    #[test]
    fn a_keeper_that_panics_takes_nobody_with_it() {
        let sink = sink(WELL, WELL, PANIC);
        let running = Running::start(&sink, None);
        running.feed_until(|s| s.published > 0 && s.kept > 0);
        assert!(!running.end().dead);
        assert_eq!(sink.told.load(Ordering::Relaxed), 1);
    }
}
