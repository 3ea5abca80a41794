//! What numbers on the command line may be, and what is said of one that cannot be.

use crate::learn::row::{SAMPLES_MAX, SAMPLES_MIN};

pub const SECONDS_MIN: f64 = 0.1;
pub const SECONDS_MAX: f64 = 86_400.0;

/// An option that cannot be.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum OptionError {
    #[error("--slice-min-us is 0: a slice must last; give at least 1")]
    SliceMinZero,
    #[error(
        "--slice-min-us {min} is above --slice-max-us {max}: the shortest slice cannot be longer than the longest"
    )]
    SliceOrder { min: u64, max: u64 },
    #[error(
        "--slice-max-us {0} is above 1000000: a slice of more than a second stalls whatever waits for it"
    )]
    SliceMaxTooLong(u64),
    #[error("--window {found} is too small to fit a model on; give {min} to {max}")]
    Window {
        found: usize,
        min: usize,
        max: usize,
    },
    #[error(
        "--window {found} is too large: it would take more memory than learning is worth; give {min} to {max}"
    )]
    WindowTooLarge {
        found: usize,
        min: usize,
        max: usize,
    },
    #[error("--{option} {found} is not a usable number of seconds; give {min} to {max}")]
    Seconds {
        option: &'static str,
        found: f64,
        min: f64,
        max: f64,
    },
    #[error(
        "--sample-rate {0} is not usable; give 1 to 1000000 (--mode base takes no samples at all)"
    )]
    SampleRate(u64),
    #[error("--{0} with --mode base: the base policy uses no model; leave one of the two out")]
    ModelInBase(&'static str),
    #[error("--split {0} leaves nothing to fit on or nothing to judge by; give 0.1 to 0.95")]
    Split(f64),
    #[error(
        "--record cannot be had with --mode base, which takes no samples; --mode shadow takes them and schedules the same"
    )]
    RecordBase,
    #[error("--record-limit {found} is not a usable number of megabytes; give {min} to {max}")]
    RecordLimit { found: u64, min: u64, max: u64 },
}

/// Refuse a window that nothing can be fitted on, or that would not fit into memory.
pub fn check_window(found: usize) -> Result<(), OptionError> {
    let (min, max) = (SAMPLES_MIN, SAMPLES_MAX);
    if found < min {
        return Err(OptionError::Window { found, min, max });
    }
    if found > max {
        return Err(OptionError::WindowTooLarge { found, min, max });
    }
    Ok(())
}
