//! The keeper of the process database: takes samples in, tells the kernel, and saves. Runs in the trainer's thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use log::{info, warn};

use super::{Profiles, ProfilesError};
use crate::kernel::clock::unix_s;
use crate::kernel::sample::Sample;
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
}

impl Keeper {
    /// Load the database. One that cannot be used is set aside, and learning starts anew: a prior is no reason not to
    /// schedule.
    pub fn new(config: KeeperConfig, status: Arc<Mutex<LearnerStatus>>, now_ns: u64) -> Self {
        let profiles = match &config.path {
            None => Profiles::default(),
            Some(path) => Profiles::load(path, unix_s()).unwrap_or_else(|e| {
                warn!("{e}; starting with an empty one");
                if let ProfilesError::Damaged { path, .. } = &e {
                    let aside = path.with_extension("damaged");
                    if std::fs::rename(path, &aside).is_ok() {
                        warn!("the damaged file is now {}", aside.display());
                    }
                }
                Profiles::default()
            }),
        };
        if let (Some(path), (count @ 1.., _)) = (&config.path, profiles.counts()) {
            info!("{count} profiles of tasks' names from {}", path.display());
        }
        let mut keeper = Self {
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

    /// Tell the kernel what has changed, and save, if it is time.
    ///
    /// # Errors
    /// When the sink fails. A database that cannot be saved is logged, once.
    pub fn step(&mut self, now_ns: u64, sink: &dyn ModelSink) -> Result<()> {
        if now_ns >= self.next_tell_ns {
            self.next_tell_ns = now_ns + TELL_INTERVAL.as_nanos() as u64;
            let changes = self.profiles.changes();
            if !changes.is_empty() {
                sink.set_profiles(&changes)?;
            }
            let (count, told) = self.profiles.counts();
            let mut status = self.status.lock().unwrap_or_else(|e| e.into_inner());
            (status.profiles, status.profiles_told) = (count, told);
        }
        if now_ns >= self.next_save_ns {
            self.next_save_ns = now_ns + SAVE_INTERVAL.as_nanos() as u64;
            self.profiles.age(unix_s());
            self.save();
        }
        Ok(())
    }

    /// Save the database, if it has a file.
    pub fn save(&mut self) {
        let Some(path) = &self.config.path else {
            return;
        };
        if let Err(e) = self.profiles.save(path) {
            warn!("{e}; the profiles will be forgotten at the end");
            self.config.path = None;
        }
    }
}
