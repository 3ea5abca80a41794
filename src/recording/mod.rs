//! Recordings: the samples of a run as Parquet files, for training and for looking at later.
//!
//! ```text
//! schema    columns and units, generated from record.h
//! meta      what a recording says about itself
//! name      names of tasks as text
//! seal      a checksum over the whole file, looked at before anything else of it is
//! write     a segment: one Parquet file, complete or not there
//! read      a folder of segments, or one of them, back into samples
//! decode    one file, distrusted
//! error     why it cannot be read
//! ```
//!
//! The files are described in `docs/recording.md`.

mod decode;
mod error;
mod meta;
mod name;
pub mod read;
pub mod schema;
mod seal;
pub mod write;

pub use error::RecordingError;
pub use meta::Meta;
pub use read::Recording;
pub use schema::Loss;

#[cfg(test)]
mod tests;
