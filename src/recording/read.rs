//! Reading a recording. The files come from a disk, so nothing in them is taken for granted.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use log::warn;
use scx_ml_text::Show;

use super::decode::decode;
use super::error::RecordingError;
use super::format::FILE_BYTES_MAX;
use super::meta::Meta;
use super::schema::{Loss, Row};
use super::seal::{self, Broken};
use super::write::{file_name, unfinished};
use crate::kernel::sample::Sample;

/// CPU time of a burst above which the record is taken to be wrong: eleven days.
const BURST_NS_MAX: u64 = 1_000_000_000_000_000;

/// A recording, or a segment of one.
#[derive(Clone)]
pub struct Recording {
    pub meta: Meta,
    /// Sorted by `end_ns`.
    pub samples: Vec<Sample>,
    /// Sorted by `start_ns`. Empty for a single segment.
    pub losses: Vec<Loss>,
    /// Samples left out because they cannot be true: they block before they wake, or run for weeks.
    pub implausible: u64,
}

impl Recording {
    /// Read all segments of a folder, or a single segment of samples.
    ///
    /// # Errors
    /// When there are none, or one of them is not as this version of scx_ml writes them.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let kind = std::fs::metadata(path).map_err(|e| at(path, e))?;
        let (segments, loss_files) = if kind.is_dir() {
            let segments = files::<Sample>(path)?;
            if segments.is_empty() {
                return Err(no_segments(path)?);
            }
            (segments, files::<Loss>(path)?)
        } else {
            (vec![path.to_path_buf()], vec![])
        };

        let mut origin = None;
        let mut samples: Vec<Sample> = read_all(&segments, &mut origin)?;
        let mut losses: Vec<Loss> = read_all(&loss_files, &mut origin)?;
        let Some((_, meta)) = origin else {
            return Err(RecordingError::NoSegments(path.to_path_buf()));
        };

        let all = samples.len();
        samples.retain(plausible);
        let implausible = (all - samples.len()) as u64;
        if implausible > 0 {
            warn!(
                "{}: {implausible} of {all} samples cannot be true and are left out",
                path.shown()
            );
        }
        samples.sort_by_key(|s| s.0.end_ns);
        losses.sort_by_key(|l| l.start_ns);
        Ok(Self {
            meta,
            samples,
            losses,
            implausible,
        })
    }

    /// What became of all bursts: the sum of the losses.
    pub fn total(&self) -> Loss {
        let mut total = Loss::default();
        self.losses.iter().for_each(|l| total.add(l));
        total
    }
}

fn plausible(sample: &Sample) -> bool {
    let s = &sample.0;
    s.wake_ns <= s.end_ns && s.burst_ns <= BURST_NS_MAX && s.repeat > 0
}

fn at(path: &Path, source: io::Error) -> RecordingError {
    RecordingError::Io {
        path: path.to_path_buf(),
        source,
    }
}

/// The files of one table in a folder, by number.
fn files<R: Row>(dir: &Path) -> Result<Vec<PathBuf>, RecordingError> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).map_err(|e| at(dir, e))? {
        let name = entry.map_err(|e| at(dir, e))?.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.strip_prefix(R::TABLE)?.strip_prefix('-'))
            .and_then(|n| n.strip_suffix(".parquet"))
            .filter(|n| n.len() >= 6 && n.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|n| n.parse::<u32>().ok());
        if let Some(number) = number {
            found.push((number, dir.join(name)));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Whether a folder holds anything of a recording, complete or not.
///
/// # Errors
/// When it cannot be listed.
pub fn holds_recording(dir: &Path) -> io::Result<bool> {
    let tables = [Sample::TABLE, Loss::TABLE];
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let ours = tables
            .iter()
            .filter_map(|t| name.strip_prefix(t)?.strip_prefix('-'))
            .any(|rest| rest.ends_with(".parquet") || rest.ends_with(".parquet.tmp"));
        if ours {
            return Ok(true);
        }
    }
    Ok(false)
}

fn no_segments(dir: &Path) -> Result<RecordingError, RecordingError> {
    let first = dir.join(file_name::<Sample>(0));
    Ok(if unfinished(&first).exists() {
        RecordingError::Unfinished(dir.to_path_buf())
    } else {
        RecordingError::NoSegments(dir.to_path_buf())
    })
}

/// Read the files of a table; all must be of the recording that the first file of all is of.
fn read_all<R: Row>(
    files: &[PathBuf],
    origin: &mut Option<(PathBuf, Meta)>,
) -> Result<Vec<R>, RecordingError> {
    let mut rows = vec![];
    for path in files {
        let meta = read_file(path, &mut rows)?;
        match origin {
            None => *origin = Some((path.clone(), meta)),
            Some((first, expected)) => {
                let differs = expected
                    .pairs()
                    .into_iter()
                    .zip(meta.pairs())
                    .find(|(a, b)| a != b);
                if let Some(((what, _), _)) = differs {
                    return Err(RecordingError::Mixed {
                        path: path.clone(),
                        first: first.clone(),
                        what,
                    });
                }
            }
        }
    }
    Ok(rows)
}

/// Read one file; its rows go behind `rows`.
fn read_file<R: Row>(path: &Path, rows: &mut Vec<R>) -> Result<Meta, RecordingError> {
    let file = File::open(path).map_err(|e| at(path, e))?;
    let found = file.metadata().map_err(|e| at(path, e))?.len();
    if found > FILE_BYTES_MAX {
        return Err(RecordingError::TooLarge {
            path: path.to_path_buf(),
            found,
        });
    }
    let mut bytes = Vec::with_capacity(found as usize);
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|e| at(path, e))?;
    seal::check(&bytes).map_err(|broken| match broken {
        Broken::NotParquet => RecordingError::NotParquet(path.to_path_buf()),
        Broken::Truncated => RecordingError::Truncated(path.to_path_buf()),
        Broken::Foreign => RecordingError::Foreign(path.to_path_buf()),
        Broken::Damaged => RecordingError::Damaged {
            path: path.to_path_buf(),
            what: "its checksum is not that of its content".into(),
        },
    })?;
    decode(path, bytes, rows)
}
