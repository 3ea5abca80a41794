//! What numbers on the command line may be.

use crate::offline;

pub const WINDOW_MIN: usize = offline::SAMPLES_MIN;
pub const WINDOW_MAX: usize = offline::SAMPLES_MAX;
pub const RECORD_MIB_MIN: u64 = 1;
pub const RECORD_MIB_MAX: u64 = 1 << 20;
pub const SECONDS_MIN: f64 = 0.1;
pub const SECONDS_MAX: f64 = 86_400.0;
