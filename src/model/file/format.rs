//! The format's version and limits.

/// Version of the format that this version writes, and the only one that it reads.
pub const FORMAT: i64 = 1;

/// Larger files are not read: a model has a few kilobytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// Version of the program that writes.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
