//! The keeper of the process database: takes samples in, tells the kernel, and saves. Runs in the trainer's thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::{info, warn};
use scx_ml_text::Show;

use super::Profiles;
use crate::kernel::clock::unix_s;
use crate::kernel::sample::Sample;
use crate::kernel::trouble::Trouble;
use crate::learn::learner::LearnerStatus;
use crate::model::sink::ModelSink;

/// How often the kernel is told of changes.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// How often the database is saved, so that a crash loses little.
const SAVE_INTERVAL: Duration = Duration::from_secs(300);

/// Where the database is kept.
#[derive(Debug, Clone, Default)]
pub struct KeeperConfig {
    /// None: in memory only.
    pub path: Option<PathBuf>,
}

/// See the module.
pub struct Keeper {
    config: KeeperConfig,
    profiles: Profiles,
    status: Arc<Mutex<LearnerStatus>>,
    next_tell_ns: u64,
    next_save_ns: u64,
    telling: Trouble,
    saving: Trouble,
}

impl Keeper {
    /// Load the database. One that cannot be used is set aside, and learning starts anew: a prior is no reason not to
    /// schedule.
    pub fn new(config: KeeperConfig, status: Arc<Mutex<LearnerStatus>>, now_ns: u64) -> Self {
        let profiles = match &config.path {
            None => Profiles::default(),
            Some(path) => Profiles::load(path, unix_s()).unwrap_or_else(|e| {
                warn!("{e}; starting with an empty one");
                // One that could not be read for a moment would be lost as well if the empty one were saved over it.
                let aside = path.with_extension("damaged");
                if path.is_file() && std::fs::rename(path, &aside).is_ok() {
                    warn!("the damaged file is now {}", aside.shown());
                }
                Profiles::default()
            }),
        };
        if let (Some(path), (count @ 1.., _)) = (&config.path, profiles.counts()) {
            info!("{count} profiles of tasks' names from {}", path.shown());
        }
        let mut keeper = Self {
            telling: Trouble::new("the kernel is told of profiles"),
            saving: Trouble::new("the process database is saved"),
            config,
            profiles,
            status,
            next_tell_ns: 0,
            next_save_ns: now_ns + SAVE_INTERVAL.as_nanos() as u64,
        };
        // A place that cannot be written to is better known now than at the end.
        keeper.save();
        keeper
    }

    /// Take samples in, oldest first.
    pub fn add(&mut self, samples: &[Sample]) {
        let now_s = unix_s();
        for sample in samples {
            self.profiles.observe(sample, now_s);
        }
    }

    /// Tell the kernel what has changed, and save, if it is time. What fails is tried again when it is time again.
    pub fn step(&mut self, now_ns: u64, sink: &dyn ModelSink) {
        if now_ns >= self.next_tell_ns {
            self.next_tell_ns = now_ns + TELL_INTERVAL.as_nanos() as u64;
            // Without changes too: something may have failed before.
            let outcome = sink.set_profiles(&self.profiles.changes());
            let missing = outcome.as_ref().err().map_or(0, |e| e.missing);
            self.telling.note(outcome);
            let (count, told) = self.profiles.counts();
            let told = told.saturating_sub(missing);
            let mut status = self.status.lock().unwrap_or_else(|e| e.into_inner());
            (status.profiles, status.profiles_told) = (count, told);
        }
        if now_ns >= self.next_save_ns {
            self.next_save_ns = now_ns + SAVE_INTERVAL.as_nanos() as u64;
            self.profiles.age(unix_s());
            self.save();
        }
    }

    /// Save the database for the last time.
    pub fn finish(&mut self) {
        if let Some(path) = &self.config.path {
            let lost = "what was learned since it was saved last is forgotten";
            self.saving.note_last(self.profiles.save(path), lost);
        }
    }

    /// Save the database, if it has a file.
    fn save(&mut self) {
        if let Some(path) = &self.config.path {
            self.saving.note(self.profiles.save(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::NR_CLASSES;
    use crate::learn::profile::tests::{observe, sample};
    use crate::model::Model;
    use crate::model::sink::NotSet;
    use anyhow::{Result, anyhow};

    const S: u64 = 1_000_000_000;

    /// A sink that takes no profiles as long as it is said so, and counts the calls.
    #[derive(Default)]
    struct Moody {
        refuses: Mutex<bool>,
        calls: Mutex<usize>,
    }

    impl ModelSink for Moody {
        fn publish(&self, _: &Model, _: u64) -> Result<u64> {
            Ok(1)
        }

        fn withdraw(&self) -> Result<()> {
            Ok(())
        }

        fn set_first_quantum(&self, _: Option<u64>) -> Result<()> {
            Ok(())
        }

        fn set_thinning(&self, _: [u32; NR_CLASSES]) -> Result<()> {
            Ok(())
        }

        fn set_profiles(&self, _: &[(u32, Option<i32>)]) -> Result<(), NotSet> {
            *self.calls.lock().expect("not poisoned") += 1;
            if *self.refuses.lock().expect("not poisoned") {
                return Err(NotSet {
                    missing: 1,
                    first: anyhow!("no memory"),
                    others: 0,
                });
            }
            Ok(())
        }
    }

    fn keeper(path: Option<PathBuf>) -> Keeper {
        let mut keeper = Keeper::new(KeeperConfig { path }, Arc::default(), 0);
        observe(&mut keeper.profiles, 6, sample("cc1", "", 0, 24));
        keeper
    }

    #[test]
    fn a_kernel_that_takes_no_profiles_for_a_while_is_told_again_once_a_second() {
        let (mut keeper, sink) = (keeper(None), Moody::default());
        let told = |keeper: &Keeper| keeper.status.lock().expect("not poisoned").profiles_told;
        *sink.refuses.lock().expect("not poisoned") = true;
        for tenth in 0..30 {
            keeper.step(S + tenth * S / 10, &sink);
        }
        assert_eq!(*sink.calls.lock().expect("not poisoned"), 3);
        assert!(keeper.telling.lasts());
        assert_eq!(told(&keeper), 0);
        *sink.refuses.lock().expect("not poisoned") = false;
        keeper.step(4 * S, &sink);
        assert!(!keeper.telling.lasts());
        assert_eq!(told(&keeper), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_for_a_while_is_tried_again_at_the_interval_and_at_the_end() {
        let folder = tempfile::tempdir().expect("created");
        // A file where a folder is to be.
        let between = folder.path().join("between");
        std::fs::write(&between, "").expect("written");
        let path = between.join("profiles.json");
        let (mut keeper, sink) = (keeper(Some(path.clone())), Moody::default());
        assert!(keeper.saving.lasts());
        std::fs::remove_file(&between).expect("removed");
        keeper.step(S, &sink);
        assert!(!path.exists(), "not before its time");
        keeper.step(SAVE_INTERVAL.as_nanos() as u64, &sink);
        assert!(path.exists() && !keeper.saving.lasts());
        std::fs::remove_file(&path).expect("removed");
        keeper.finish();
        assert!(path.exists());
    }

    #[test]
    fn a_database_that_cannot_be_used_is_not_saved_over() {
        let folder = tempfile::tempdir().expect("created");
        let path = folder.path().join("profiles.json");
        // Too large to be one: an error of reading, as one of the disk is.
        let large = std::fs::File::create(&path).expect("created");
        large.set_len(1 << 30).expect("enlarged");
        keeper(Some(path.clone())).finish();
        let aside = path.with_extension("damaged");
        assert_eq!(aside.metadata().expect("set aside").len(), 1 << 30);
        assert!(Profiles::load(&path, 2_000).is_ok());
    }
}
