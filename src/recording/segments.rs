//! A recording's folder: one segment after the other, up to a limit.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::warn;
use scx_ml_text::Show;

use super::meta::Meta;
use super::read::holds_recording;
use super::schema::{Loss, Row};
use super::write::{
    CreateFile, GROUP_ROWS, Writer, complete, file_name, unfinished, write_file_with,
};
use crate::kernel::sample::Sample;

/// What a segment takes beside its rows, at most: the metadata, and a file of losses.
const SEGMENT_BYTES: u64 = 96 * 1024;

/// What a group of rows takes beside them, at most.
const GROUP_BYTES: u64 = 32 * 1024;

/// A group smaller than this is not worth its overhead: then the limit counts as reached.
const GROUP_ROWS_MIN: u64 = 512;

/// What to record, and where to.
#[derive(Debug, Clone)]
pub struct RecorderConfig {
    /// Folder, which is created if it is not there.
    pub dir: PathBuf,
    /// Bytes that the recording may take on the disk.
    pub limit_bytes: u64,
    /// Rows of samples after which a segment is complete.
    pub segment_rows: u64,
    /// Time after which it is.
    pub segment_time: Duration,
    pub meta: Meta,
}

impl RecorderConfig {
    pub fn new(dir: &Path, limit_bytes: u64, meta: Meta) -> Self {
        Self {
            dir: dir.to_path_buf(),
            limit_bytes,
            segment_rows: 200_000,
            segment_time: Duration::from_secs(60),
            meta,
        }
    }
}

/// Why a recording cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "cannot create the folder {} for the recording: {source}; give --record a folder that can be written to",
        .dir.shown()
    )]
    NotCreated {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a folder; give --record one, or a name that is not taken", .0.shown())]
    NotFolder(PathBuf),
    #[error(
        "{} holds a recording already; give --record another folder, or move that one elsewhere",
        .0.shown()
    )]
    Taken(PathBuf),
    #[error(
        "cannot record to {}: {source}; give --record a folder that can be written to",
        .dir.shown()
    )]
    NotWritable {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Why a recording cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the limit of {limit_bytes} bytes is reached")]
    Limit { limit_bytes: u64 },
    #[error("cannot write {}: {source}", .path.shown())]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The segment in the making.
struct Open {
    writer: Writer<File, Sample>,
    /// The name that it will have.
    path: PathBuf,
}

/// The segments of a recording that is going on.
pub struct Segments {
    config: RecorderConfig,
    create: CreateFile,
    open: Option<Open>,
    /// Samples for the next group of rows.
    buffer: Vec<Sample>,
    /// Rows written to the unfinished segment.
    unfinished_rows: u64,
    /// When the segment began.
    since: Instant,
    /// Number of the segment.
    number: u32,
    /// Complete segments, and the bytes of all complete files.
    segments: u32,
    bytes: u64,
    /// The folder is ours to remove if nothing gets into it.
    dir_created: bool,
}

impl Segments {
    /// Prepare the folder and begin the first segment, which shows whether it can be written to.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn begin(config: RecorderConfig, create: CreateFile) -> Result<Self, StartError> {
        let dir_created = prepare(&config.dir)?;
        let mut segments = Self {
            config,
            create,
            open: None,
            buffer: Vec::with_capacity(GROUP_ROWS),
            unfinished_rows: 0,
            since: Instant::now(),
            number: 0,
            segments: 0,
            bytes: 0,
            dir_created,
        };
        if let Err(source) = segments.open_next() {
            segments.abandon();
            return Err(StartError::NotWritable {
                dir: segments.config.dir.clone(),
                source,
            });
        }
        Ok(segments)
    }

    pub fn dir(&self) -> &Path {
        &self.config.dir
    }

    /// Number of complete segments, and the bytes of their files.
    pub fn completed(&self) -> (u32, u64) {
        (self.segments, self.bytes)
    }

    /// Whether there is nothing in the folder yet.
    pub fn is_untouched(&self) -> bool {
        self.unfinished_rows == 0 && self.buffer.is_empty() && self.bytes == 0
    }

    /// Time until the segment is to be completed.
    pub fn due_in(&self) -> Duration {
        let rows = self.unfinished_rows + self.buffer.len() as u64;
        if rows >= self.config.segment_rows {
            return Duration::ZERO;
        }
        self.config
            .segment_time
            .saturating_sub(self.since.elapsed())
    }

    /// Take samples, and write what makes a group.
    ///
    /// # Errors
    /// When the limit is reached, the buffer then holds what is beyond it; or when a file cannot be written.
    pub fn append(&mut self, mut samples: &[Sample]) -> Result<(), Failure> {
        while !samples.is_empty() {
            let room = GROUP_ROWS - self.buffer.len();
            let (now, later) = samples.split_at(room.min(samples.len()));
            self.buffer.extend_from_slice(now);
            samples = later;
            if self.buffer.len() == GROUP_ROWS
                && let Err(failure) = self.write_buffer()
            {
                // Whoever counts what is lost finds it there.
                self.buffer.extend_from_slice(samples);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Complete the segment if there is anything in it, and write the losses of its time, which are then empty.
    ///
    /// # Errors
    /// As for [`Segments::append`].
    pub fn complete(&mut self, losses: &mut Vec<Loss>) -> Result<(), Failure> {
        if self.unfinished_rows == 0 && self.buffer.is_empty() && losses.is_empty() {
            // Nothing has happened: no file of its own for that.
            self.since = Instant::now();
            return Ok(());
        }
        self.write_buffer()?;
        if let Some(Open { writer, path }) = self.open.take() {
            match writer.finish().and_then(|file| complete(file, &path)) {
                Ok(bytes) => self.bytes += bytes,
                Err(source) => {
                    remove(&unfinished(&path));
                    return Err(Failure::Disk { path, source });
                }
            }
            self.segments += 1;
            self.unfinished_rows = 0;
        }
        self.write_losses(losses)?;
        self.number += 1;
        self.since = Instant::now();
        Ok(())
    }

    /// Write losses, which are then empty.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_losses(&mut self, losses: &mut Vec<Loss>) -> Result<(), Failure> {
        if losses.is_empty() {
            return Ok(());
        }
        let path = self.config.dir.join(file_name::<Loss>(self.number));
        match write_file_with(&path, &self.config.meta, losses, self.create) {
            Ok(bytes) => self.bytes += bytes,
            Err(source) => return Err(Failure::Disk { path, source }),
        }
        losses.clear();
        Ok(())
    }

    /// Give up the unfinished segment, and remove what there is of it; how many samples are lost by that.
    pub fn abandon(&mut self) -> u64 {
        if let Some(Open { writer, path }) = self.open.take() {
            drop(writer);
            remove(&unfinished(&path));
        }
        std::mem::take(&mut self.unfinished_rows) + self.abandon_buffer()
    }

    /// Give up what is not written yet; how many samples are lost by that.
    pub fn abandon_buffer(&mut self) -> u64 {
        std::mem::take(&mut self.buffer).len() as u64
    }

    /// Write the buffer into the segment, in smaller groups where the limit is near.
    fn write_buffer(&mut self) -> Result<(), Failure> {
        while !self.buffer.is_empty() {
            let wanted = self.buffer.len() as u64;
            let rows = self.rows_that_fit().min(wanted);
            if rows < wanted.min(GROUP_ROWS_MIN) {
                return Err(Failure::Limit {
                    limit_bytes: self.config.limit_bytes,
                });
            }
            let at = |source, path: &Path| Failure::Disk {
                path: path.to_path_buf(),
                source,
            };
            if self.open.is_none() {
                self.open_next()
                    .map_err(|source| at(source, &self.segment_path()))?;
            }
            let Some(Open { writer, path }) = &mut self.open else {
                continue;
            };
            writer
                .write(&self.buffer[..rows as usize])
                .map_err(|source| at(source, path))?;
            self.buffer.drain(..rows as usize);
            self.unfinished_rows += rows;
        }
        Ok(())
    }

    /// Rows that can be written without passing the limit, however badly they compress.
    fn rows_that_fit(&self) -> u64 {
        let row_bytes: u64 = Sample::columns().iter().map(|c| c.kind.bytes_max()).sum();
        let used = self.bytes + self.open.as_ref().map_or(0, |o| o.writer.bytes());
        let room = self
            .config
            .limit_bytes
            .saturating_sub(used + SEGMENT_BYTES + GROUP_BYTES);
        room / row_bytes
    }

    fn segment_path(&self) -> PathBuf {
        self.config.dir.join(file_name::<Sample>(self.number))
    }

    fn open_next(&mut self) -> io::Result<()> {
        let path = self.segment_path();
        let temporary = unfinished(&path);
        let file = (self.create)(&temporary)?;
        match Writer::new(file, &self.config.meta) {
            Ok(writer) => self.open = Some(Open { writer, path }),
            Err(e) => {
                remove(&temporary);
                return Err(e);
            }
        }
        Ok(())
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.abandon();
        if self.dir_created {
            // Fails, as it should, if there is anything in it.
            let _ = std::fs::remove_dir(&self.config.dir);
        }
    }
}

fn remove(path: &Path) {
    if let Err(e) = std::fs::remove_file(path) {
        warn!("cannot remove the unfinished {}: {e}", path.shown());
    }
}

/// Make sure of a folder without a recording in it; whether it was created.
fn prepare(dir: &Path) -> Result<bool, StartError> {
    let not_created = |source| StartError::NotCreated {
        dir: dir.to_path_buf(),
        source,
    };
    let created = match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut builder = DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(not_created)?;
            true
        }
        Err(e) => return Err(not_created(e)),
    };
    if !dir.is_dir() {
        return Err(StartError::NotFolder(dir.to_path_buf()));
    }
    match holds_recording(dir) {
        Ok(false) => Ok(created),
        Ok(true) => Err(StartError::Taken(dir.to_path_buf())),
        Err(source) => Err(StartError::NotWritable {
            dir: dir.to_path_buf(),
            source,
        }),
    }
}
