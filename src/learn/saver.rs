//! Keeps the published model in a file while the scheduler runs.

use std::path::PathBuf;
use std::time::Duration;

use log::{debug, info, warn};
use scx_ml_text::Show;

use crate::kernel::host::Host;
use crate::kernel::trouble::Trouble;
use crate::learn::learner::{Judged, Published};
use crate::model::file::{ModelFile, ModelFileError, Origin, check_writable};

/// When a model that could not be written is tried again, if it is still the same.
const RETRY: Duration = Duration::from_secs(60);

/// Writes a model whenever it changes, and at the end.
pub struct Saver {
    path: PathBuf,
    host: Host,
    /// Generation at which the model last changed, of the one in the file; None: not written yet.
    saved: Option<u64>,
    /// The same of a model that could not be written, and when it is tried again, CLOCK_MONOTONIC ns.
    failed: Option<(u64, u64)>,
    writing: Trouble,
}

impl Saver {
    /// Models of this host go to `path`.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn new(path: PathBuf, host: Host) -> Result<Self, ModelFileError> {
        check_writable(&path)?;
        Ok(Self {
            writing: Trouble::new(format!("the model is kept in {}", path.shown())),
            path,
            host,
            saved: None,
            failed: None,
        })
    }

    /// Look at what is published; write it if it is another model than the one in the file. A withdrawn model stays
    /// there.
    pub fn look(&mut self, published: Option<&Published>, now_ns: u64) {
        let Some(published) = published else { return };
        let since = published.since;
        if self.saved == Some(since)
            || matches!(self.failed, Some((failed, again_ns)) if failed == since && now_ns < again_ns)
        {
            return;
        }
        let outcome = self.write(published);
        self.failed = match self.writing.note(outcome) {
            Some(()) => None,
            None => Some((since, now_ns.saturating_add(RETRY.as_nanos() as u64))),
        };
    }

    /// The last look: what is published is written with its newest margins.
    pub fn finish(&mut self, published: Option<&Published>) {
        match published {
            Some(published) => {
                let outcome = self.write(published);
                if self
                    .writing
                    .note_last(outcome, "the model is not kept")
                    .is_some()
                {
                    info!("the model is kept in {}", self.path.shown());
                }
            }
            None if self.failed.is_some() => warn!(
                "no model is published any more; the last that was could not be written to {}",
                self.path.shown()
            ),
            None if self.saved.is_some() => info!(
                "no model is published any more; {} has the last that was",
                self.path.shown()
            ),
            None => info!(
                "no model was published: {} is not written",
                self.path.shown()
            ),
        }
    }

    fn write(&mut self, published: &Published) -> Result<(), ModelFileError> {
        let origin = match &published.judged {
            Judged::Here {
                from_ns,
                until_ns,
                samples,
                error_model,
                error_avg,
            } => Origin {
                kernel: self.host.kernel.clone(),
                machine: self.host.machine.clone(),
                boot_id: self.host.boot_id.clone(),
                from_ns: *from_ns,
                until_ns: *until_ns,
                monotonic_to_unix_ns: self.host.monotonic_to_unix_ns,
                samples: *samples,
                error_model: *error_model,
                error_avg: *error_avg,
            },
            Judged::Elsewhere(origin) => origin.clone(),
        };
        let file = ModelFile {
            origin,
            model: published.model.clone(),
        };
        file.save(&self.path)?;
        self.saved = Some(published.since);
        debug!(
            "model {} written to {}",
            published.generation,
            self.path.shown()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::model::file::tests::file;

    fn published(since: u64, model: Model) -> Published {
        Published {
            generation: since + 1,
            since,
            model,
            judged: Judged::Here {
                from_ns: 1,
                until_ns: 2,
                samples: 3,
                error_model: 0.5,
                error_avg: 1.0,
            },
        }
    }

    #[test]
    fn each_change_is_written_and_the_end_and_nothing_between() {
        let folder = tempfile::tempdir().expect("created");
        let path = folder.path().join("model.toml");
        let mut saver = Saver::new(path.clone(), Host::here()).expect("can be written");
        saver.look(None, 0);
        assert!(!path.exists());

        let model = file().model;
        saver.look(Some(&published(1, model.clone())), 0);
        let kernel = Host::here().kernel;
        let read = ModelFile::load(&path, Some(&kernel)).expect("a model");
        assert_eq!(read.model, model);
        assert_eq!((read.origin.samples, read.origin.until_ns), (3, 2));

        std::fs::remove_file(&path).expect("removed");
        saver.look(Some(&published(1, model.clone())), u64::MAX);
        assert!(!path.exists(), "it has not changed");
        saver.finish(Some(&published(1, model)));
        assert!(path.exists());
    }

    #[test]
    fn a_folder_that_is_gone_for_a_while_is_tried_again_after_a_minute_with_another_model_and_at_the_end()
     {
        let parent = tempfile::tempdir().expect("created");
        let folder = parent.path().join("folder");
        let path = folder.join("model.toml");
        let here = |is: bool| match is {
            true => std::fs::create_dir(&folder).expect("created"),
            false => std::fs::remove_dir_all(&folder).expect("removed"),
        };
        here(true);
        let mut saver = Saver::new(path.clone(), Host::here()).expect("can be written");
        here(false);
        let first = published(1, file().model);
        saver.look(Some(&first), 0);
        here(true);
        saver.look(Some(&first), RETRY.as_nanos() as u64 - 1);
        assert!(!path.exists() && saver.writing.lasts());
        saver.look(Some(&first), RETRY.as_nanos() as u64);
        assert!(path.exists() && !saver.writing.lasts());

        here(false);
        saver.look(Some(&published(2, file().model)), 0);
        here(true);
        saver.look(Some(&published(3, file().model)), 1);
        assert!(path.exists(), "another model is tried at once");

        here(false);
        saver.finish(Some(&first));
        assert!(saver.writing.lasts());
        here(true);
        saver.finish(Some(&first));
        assert!(path.exists());
    }

    #[test]
    fn a_path_that_cannot_be_written_is_refused_at_the_start() {
        for path in ["/nonexistent/model.toml", "/proc"] {
            let error = Saver::new(path.into(), Host::here()).err();
            assert!(error.is_some_and(|e| e.to_string().contains(path)));
        }
    }
}
