//! A sample as the fit sees it.

use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::features::Features;
use crate::kernel::sample::Sample;

/// Fewest samples that a model is fitted on and judged by.
pub const SAMPLES_MIN: usize = 500;

/// Most samples that are looked at, the newest: more would take gigabytes of memory and tell no more.
pub const SAMPLES_MAX: usize = 1_000_000;

/// A row never counts for more than this many bursts: one thinned-out CPU must not drown the others.
pub const WEIGHT_MAX: u32 = 64;

/// One sample as the fit sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    pub x: Features,
    /// log2(burst in ns), the target.
    pub y: f64,
    /// What the moving average predicted, log2(ns).
    pub avg: f64,
    /// Bursts that the row stands for.
    pub weight: f64,
    /// Class of the task, an index into [`crate::kernel::native::CLASSES`].
    pub class: usize,
    /// When the burst ended, CLOCK_MONOTONIC ns.
    pub end_ns: u64,
}

impl From<&Sample> for Row {
    fn from(sample: &Sample) -> Self {
        Self {
            x: sample.features(),
            y: sample.log_burst(),
            avg: sample.avg_prediction(),
            weight: f64::from(sample.0.repeat.clamp(1, WEIGHT_MAX)),
            class: sample.class().min(NR_CLASSES - 1),
            end_ns: sample.0.end_ns,
        }
    }
}
