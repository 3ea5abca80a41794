//! Recordings: the samples of a run as Parquet files, for training and for looking at later.
//!
//! ```text
//! schema    columns and units, generated from record.h; what a recording says about itself
//! seal      a checksum over the whole file, looked at before anything else of it is
//! write     a segment: one Parquet file, complete or not there
//! read      a folder of segments, or one of them, back into samples
//! ```
//!
//! The files are described in `docs/recording.md`.

pub mod read;
pub mod schema;
mod seal;
pub mod write;

pub use read::{Recording, RecordingError};
pub use schema::{Loss, Meta};

#[cfg(test)]
mod tests;
