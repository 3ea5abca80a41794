//! The process database as a file: JSON, by names, so that a person can read it and another version can key it anew.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use scx_ml_text::{Show, json};
use serde::{Deserialize, Serialize};

use super::{CAPACITY, Profile, Profiles, key_of_shown};

/// Version of the file.
const FORMAT: u32 = 1;

/// A file above this size is no database: a full one is about 1.5 MB.
const SIZE_MAX: u64 = 16 << 20;

/// A database file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    #[error("cannot {what} the process database {}: {source}", .path.shown())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not a process database of scx_ml: {why}; move it away to start anew", .path.shown())]
    Damaged { path: PathBuf, why: String },
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    profiles: Vec<Profile>,
}

impl Profiles {
    /// Read a database. A file that does not exist is an empty one.
    ///
    /// # Errors
    /// When it cannot be read, or is not a database.
    pub fn load(path: &Path, now_s: u64) -> Result<Self, ProfilesError> {
        let read = || {
            if path.metadata()?.len() > SIZE_MAX {
                return Err(std::io::Error::other("it is larger than any database"));
            }
            std::fs::read(path)
        };
        let text = match read() {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(ProfilesError::Io {
                    what: "read",
                    path: path.into(),
                    source,
                });
            }
        };
        let damaged = |why: String| ProfilesError::Damaged {
            path: path.into(),
            why,
        };
        let file: File = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if file.format != FORMAT {
            return Err(damaged(format!(
                "it has format {}, this version reads {FORMAT}",
                file.format
            )));
        }
        let mut profiles = Self::default();
        for profile in file.profiles.into_iter().take(CAPACITY) {
            profile.check().map_err(damaged)?;
            for name in std::iter::once(&profile.name).chain(&profile.waker) {
                profiles.names.insert(key_of_shown(name), name.clone());
            }
            profiles.profiles.insert(profile.key(), profile);
        }
        profiles.age(now_s);
        Ok(profiles)
    }

    /// Write the database: whole or not at all, readable by its owner only, for names tell what a machine does.
    ///
    /// # Errors
    /// When it cannot be written; the file before is then still there.
    pub fn save(&self, path: &Path) -> Result<(), ProfilesError> {
        let ordered: BTreeMap<_, _> = self
            .profiles
            .values()
            .map(|p| ((&p.name, &p.waker, p.stage), p))
            .collect();
        let file = File {
            format: FORMAT,
            profiles: ordered.into_values().cloned().collect(),
        };
        let write = || -> std::io::Result<()> {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            let beside = path.with_extension("new");
            let mut out = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            out.write_all(json(&serde_json::to_string(&file)?).as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&beside, path)
        };
        write().map_err(|source| ProfilesError::Io {
            what: "write",
            path: path.into(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{observe, sample};
    use super::*;

    #[test]
    fn the_database_survives_a_restart_and_forgets_with_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sub/profiles.json");
        let mut profiles = Profiles::load(&path, 0).expect("nothing is fine");
        observe(&mut profiles, 1, sample("make", "", 0, 20));
        observe(&mut profiles, 9, sample("cc1", "make", 1, 22));
        profiles.save(&path).expect("written");
        let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().expect("there"));
        assert_eq!(mode & 0o777, 0o600);

        let mut again = Profiles::load(&path, 2_000).expect("read");
        assert_eq!(again.profiles, profiles.profiles);
        assert_eq!(again.changes().len(), 2);
        let aged = Profiles::load(&path, 2_000 + super::super::MAX_AGE_S).expect("read");
        assert_eq!(aged.counts(), (0, 0));
    }

    #[test]
    fn odd_names_survive_a_restart_and_are_printable_in_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("profiles.json");
        let mut profiles = Profiles::default();
        let names: [&[u8]; 4] = [&[0xff; 15], b"\x1b]0;evil\x07\xff", b"a\\b\n\"", b""];
        for name in names {
            let mut odd = sample("", "", 0, 20);
            odd.0.name_key = crate::kernel::native::name_key_of(name);
            for (to, from) in odd.0.comm.iter_mut().zip(name) {
                *to = *from as _;
            }
            observe(&mut profiles, 9, odd);
        }
        assert_eq!(profiles.counts().0, 3, "an empty name says nothing");
        profiles.save(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.chars().all(scx_ml_text::is_printable), "{text}");
        let mut again = Profiles::load(&path, 2_000).expect("read");
        assert_eq!(again.profiles, profiles.profiles);
        let mut told = profiles.changes();
        let mut told_again = again.changes();
        told.sort_unstable();
        told_again.sort_unstable();
        assert_eq!(told_again, told, "the kernel keys them as before");
    }

    #[test]
    fn damaged_files_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("profiles.json");
        let good = r#"{"format":1,"profiles":[{"name":"a","stage":0,"observations":9,"mean":20,"variance":1,"last_seen_s":5}]}"#;
        std::fs::write(&path, good).expect("written");
        assert_eq!(Profiles::load(&path, 5).expect("good").counts().0, 1);
        for (from, to) in [
            ("\"format\":1", "\"format\":2"),
            ("\"mean\":20", "\"mean\":2000"),
            ("\"mean\":20", "\"mean\":1e999"),
            ("\"stage\":0", "\"stage\":77"),
            ("\"name\":\"a\"", "\"name\":\"a name that is too long\""),
            ("\"variance\":1", "\"variance\":-1"),
            ("}]}", "}"),
        ] {
            std::fs::write(&path, good.replace(from, to)).expect("written");
            let error = Profiles::load(&path, 5).expect_err(to);
            assert!(
                error.to_string().contains("not a process database"),
                "{error}"
            );
        }
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("created");
        assert!(matches!(
            Profiles::load(&path, 5),
            Err(ProfilesError::Io { .. })
        ));
    }
}
