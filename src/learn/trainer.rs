//! The trainer: the thread that runs the learner. It may die; scheduling goes on without it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam::channel::RecvTimeoutError;
use log::{debug, error, warn};

use crate::kernel::clock::monotonic_ns;
use crate::kernel::fault::{Fault, is_asked_for, panic_message};
use crate::kernel::sample::Sample;
use crate::learn::backlog::Backlog;
use crate::learn::learner::{Learner, LearnerStatus};
use crate::learn::profile::{Keeper, KeeperConfig};
use crate::learn::saver::Saver;
use crate::model::sink::ModelSink;

/// Longest wait for samples before the clock is looked at again.
const IDLE_WAIT: Duration = Duration::from_secs(1);

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
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let keeper = Keeper::new(profiles, status.clone(), monotonic_ns());
                train(learner, keeper, &backlog, &*sink, saver)
            }));
            let what = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(e)) => format!("{e:#}"),
                Err(panic) => format!("it panicked: {}", panic_message(&*panic)),
            };
            error!("the trainer has ended ({what}); scheduling goes on without a model");
            if let Err(e) = sink.withdraw() {
                warn!("{e:#}; the model in the kernel expires by itself");
            }
            if let Err(e) = sink.set_first_quantum(None) {
                warn!("{e:#}; the last one stays");
            }
            let mut status = status.lock().unwrap_or_else(|e| e.into_inner());
            status.dead = true;
            status.generation = 0;
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

fn train(
    mut learner: Learner,
    mut keeper: Keeper,
    backlog: &Backlog,
    sink: &dyn ModelSink,
    mut saver: Option<Saver>,
) -> Result<()> {
    loop {
        let wait = learner.next_due(monotonic_ns()).min(IDLE_WAIT);
        match backlog.take(wait.max(Duration::from_millis(1))) {
            Ok(batch) => take(&mut learner, &mut keeper, &batch),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                keeper.save();
                if let Some(saver) = &mut saver {
                    saver.finish(learner.published());
                }
                return Ok(());
            }
        }
        while let Ok(batch) = backlog.try_take() {
            take(&mut learner, &mut keeper, &batch);
        }
        if is_asked_for(Fault::TrainerPanic) {
            panic!("it was asked to");
        }
        while is_asked_for(Fault::TrainerSpin) {
            std::hint::spin_loop();
        }
        let now_ns = monotonic_ns();
        keeper.step(now_ns, sink)?;
        learner.step(now_ns, sink)?;
        if let Some(saver) = &mut saver {
            saver.look(learner.published());
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

fn take(learner: &mut Learner, keeper: &mut Keeper, batch: &[Sample]) {
    learner.add(batch);
    keeper.add(batch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ringbuf::Outlet;
    use crate::learn::backlog::backlog;
    use crate::learn::learner::LearnerConfig;
    use crate::model::Model;

    /// A sink that cannot be written to, and remembers a withdrawal.
    #[derive(Default)]
    struct Broken {
        withdrawn: Mutex<bool>,
    }

    impl ModelSink for Broken {
        fn publish(&self, _: &Model, _: u64) -> Result<u64> {
            panic!("the sink is broken");
        }

        fn withdraw(&self) -> Result<()> {
            *self.withdrawn.lock().expect("not poisoned") = true;
            Ok(())
        }

        fn set_first_quantum(&self, _: Option<u64>) -> Result<()> {
            Ok(())
        }

        fn set_profiles(&self, _: &[(u32, Option<i32>)]) -> Result<()> {
            Ok(())
        }
    }

    fn learner(status: &Arc<Mutex<LearnerStatus>>) -> Learner {
        let config = LearnerConfig {
            window: 1_000,
            refit_interval: Duration::from_millis(1),
            max_age: Duration::from_secs(1),
            freeze: false,
        };
        Learner::new(config, status.clone())
    }

    #[test]
    fn the_trainer_ends_with_its_channel() {
        let (feed, backlog) = backlog(1_000, Arc::default());
        let status = Arc::new(Mutex::new(LearnerStatus::default()));
        let sink = Arc::new(Broken::default());
        let profiles = KeeperConfig::default();
        let thread = start(
            learner(&status),
            profiles,
            backlog,
            sink,
            status.clone(),
            None,
        );
        drop(feed);
        thread.expect("started").join().expect("no panic");
        assert!(!status.lock().expect("not poisoned").dead);
    }

    #[test]
    fn a_panic_withdraws_the_model_and_is_reported() {
        let (feed, backlog) = backlog(1_000, Arc::default());
        let sink = Arc::new(Broken::default());
        let status = Arc::new(Mutex::new(LearnerStatus::default()));
        let thread = start(
            learner(&status),
            KeeperConfig::default(),
            backlog,
            sink.clone(),
            status.clone(),
            None,
        )
        .expect("started");
        let samples = (0..900u64)
            .map(|i| {
                let mut record = crate::kernel::bpf::intf::burst_sample {
                    burst_ns: 1 << (15 + i % 8),
                    repeat: 1,
                    ..Default::default()
                };
                record.feature_q8[0] = (15 + i as i16 % 8) * 256;
                Sample(record)
            })
            .collect();
        feed.offer(&Arc::new(samples));
        thread.join().expect("the panic is caught");
        assert!(status.lock().expect("not poisoned").dead);
        assert!(*sink.withdrawn.lock().expect("not poisoned"));
    }
}
