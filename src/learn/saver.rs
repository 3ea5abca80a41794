//! Keeps the published model in a file while the scheduler runs.

use std::path::PathBuf;

use log::{debug, info, warn};

use crate::kernel::host::Host;
use crate::learn::learner::{Judged, Published};
use crate::model::file::{ModelFile, ModelFileError, Origin, check_writable};

/// Writes a model whenever it changes, and at the end. A failure is logged, and nothing ends for it.
pub struct Saver {
    path: PathBuf,
    host: Host,
    /// Generation at which the model last changed, of the one in the file; None: not written yet.
    saved: Option<u64>,
}

impl Saver {
    /// Models of this host go to `path`.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn new(path: PathBuf, host: Host) -> Result<Self, ModelFileError> {
        check_writable(&path)?;
        Ok(Self {
            path,
            host,
            saved: None,
        })
    }

    /// Look at what is published; write it if it is another model than the one in the file. A withdrawn model stays
    /// there.
    pub fn look(&mut self, published: Option<&Published>) {
        let Some(published) = published else { return };
        if self.saved != Some(published.since) {
            self.write(published);
        }
    }

    /// The last look: what is published is written with its newest margins.
    pub fn finish(&mut self, published: Option<&Published>) {
        match published {
            Some(published) => {
                if self.write(published) {
                    info!("the model is kept in {}", self.path.display());
                }
            }
            None if self.saved.is_some() => info!(
                "no model is published any more; {} has the last that was",
                self.path.display()
            ),
            None => info!(
                "no model was published: {} is not written",
                self.path.display()
            ),
        }
    }

    fn write(&mut self, published: &Published) -> bool {
        // One that fails is not tried again until the model has changed: the log would be full of it.
        self.saved = Some(published.since);
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
        match file.save(&self.path) {
            Ok(()) => {
                debug!(
                    "model {} written to {}",
                    published.generation,
                    self.path.display()
                );
                true
            }
            Err(e) => {
                warn!("{e}; scheduling goes on, the model is not kept");
                false
            }
        }
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
        saver.look(None);
        assert!(!path.exists());

        let model = file().model;
        saver.look(Some(&published(1, model.clone())));
        let kernel = Host::here().kernel;
        let read = ModelFile::load(&path, Some(&kernel)).expect("a model");
        assert_eq!(read.model, model);
        assert_eq!((read.origin.samples, read.origin.until_ns), (3, 2));

        std::fs::remove_file(&path).expect("removed");
        saver.look(Some(&published(1, model.clone())));
        assert!(!path.exists(), "it has not changed");
        saver.finish(Some(&published(1, model)));
        assert!(path.exists());
    }

    #[test]
    fn a_folder_that_is_gone_stops_nothing() {
        let folder = tempfile::tempdir().expect("created");
        let path = folder.path().join("model.toml");
        let mut saver = Saver::new(path, Host::here()).expect("can be written");
        drop(folder);
        saver.look(Some(&published(1, file().model)));
        saver.finish(Some(&published(1, file().model)));
    }

    #[test]
    fn a_path_that_cannot_be_written_is_refused_at_the_start() {
        for path in ["/nonexistent/model.toml", "/proc"] {
            let error = Saver::new(path.into(), Host::here()).err();
            assert!(error.is_some_and(|e| e.to_string().contains(path)));
        }
    }
}
