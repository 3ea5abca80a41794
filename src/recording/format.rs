//! The format's name and limits.

/// The format of the files, in `scx_ml.format`. Another number means that this reader cannot know what it reads.
pub const FORMAT: &str = "1";

/// What all keys of ours in a file's metadata begin with.
pub const PREFIX: &str = "scx_ml.";

/// Rows that are read at most: 20 million samples take about 5 GB of memory.
pub const ROWS_MAX: u64 = 20_000_000;

/// Bytes that one file may have: several times what the recorder puts into one.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
