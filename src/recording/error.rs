//! Why a recording cannot be read.

use std::io;
use std::path::PathBuf;

use scx_ml_text::Show;

use super::format::{FILE_BYTES_MAX, FORMAT};

/// Each names the file, what was found there and what can be done.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot read {}: {source}", .path.shown())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} has no segments of a recording (samples-000000.parquet, …); give the folder that scx_ml --record wrote to", 
        .0.shown()
    )]
    NoSegments(PathBuf),
    #[error(
        "{} has only unfinished segments: the recording was ended by force in its first minute, or has just begun; \
         record again, or wait for a minute",
        .0.shown()
    )]
    Unfinished(PathBuf),
    #[error("{} is not a Parquet file; give a folder or a segment that scx_ml --record wrote", .0.shown())]
    NotParquet(PathBuf),
    #[error("{} ends in the middle: it was cut off; restore it, or move it out of the folder", .0.shown())]
    Truncated(PathBuf),
    #[error(
        "{} is a Parquet file, but not one of scx_ml as it wrote it; give a folder or a segment that scx_ml --record \
         wrote",
        .0.shown()
    )]
    Foreign(PathBuf),
    #[error("{} is damaged ({what}); restore it, or move it out of the folder", .path.shown())]
    Damaged { path: PathBuf, what: String },
    #[error(
        "{} is of format {found}, this scx_ml reads format {FORMAT}; use the version that recorded it ({version})",
        .path.shown()
    )]
    Format {
        path: PathBuf,
        found: String,
        version: String,
    },
    #[error(
        "{} was recorded by scx_ml {version} with other features than this version's; use that version, or record \
         again",
        .path.shown()
    )]
    FeatureSet { path: PathBuf, version: String },
    #[error("{} is a table of {found}, not of {expected}; do not rename the files of a recording", .path.shown())]
    Table {
        path: PathBuf,
        found: String,
        expected: &'static str,
    },
    #[error(
        "{}: column {column} is {found}, not {expected}; it was recorded by scx_ml {version}, use that version",
        .path.shown()
    )]
    Column {
        path: PathBuf,
        column: String,
        found: String,
        expected: String,
        version: String,
    },
    #[error("{}, row {row} (0 is the first): {what}; the file is not as scx_ml writes it", .path.shown())]
    Value {
        path: PathBuf,
        row: u64,
        what: String,
    },
    #[error(
        "{} is of another recording than {}: {what} differs; keep each recording in a folder of its own",
        .path.shown(), .first.shown()
    )]
    Mixed {
        path: PathBuf,
        first: PathBuf,
        what: &'static str,
    },
    #[error(
        "{} brings the recording to {rows} rows, at most {limit} are read; move some of its segments elsewhere",
        .path.shown()
    )]
    TooManyRows {
        path: PathBuf,
        rows: u64,
        limit: u64,
    },
    #[error("{} has {found} bytes, a segment has at most {FILE_BYTES_MAX}; is it one?", .path.shown())]
    TooLarge { path: PathBuf, found: u64 },
}
