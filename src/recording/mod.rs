//! Recordings: the samples of a run as Parquet files, for training and for looking at later.
//!
//! ```text
//! format    the format's name and limits
//! schema    columns and units, generated from record.h
//! meta      what a recording says about itself
//! name      names of tasks as text
//! seal      a checksum over the whole file, looked at before anything else of it is
//! write     one Parquet file, complete or not there
//! segments  the folder, up to a limit
//! recorder  the thread that fills it
//! tally     what the kernel counts, second by second
//! read      a folder of segments, or one of them, back into samples
//! decode    one file, distrusted
//! error     why it cannot be read
//! ```
//!
//! The files are described in `docs/recording.md`.

mod decode;
mod error;
mod format;
mod meta;
mod name;
pub mod read;
pub mod recorder;
pub mod schema;
mod seal;
mod segments;
mod tally;
pub mod write;

pub use error::RecordingError;
pub use meta::Meta;
pub use read::Recording;
pub use recorder::{Recorder, RecorderHandle};
pub use schema::Loss;
#[cfg(fuzzing)]
pub use seal::reseal;
pub use segments::{RecorderConfig, StartError};

#[cfg(test)]
mod recorder_tests;
#[cfg(test)]
mod tests;
