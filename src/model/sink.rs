//! Where models go. The learner knows this much of the kernel and no more.

use anyhow::Result;

use crate::kernel::bpf::NR_CLASSES;
use crate::model::Model;

/// What the learner asks of the kernel.
pub trait ModelSink: Send + Sync {
    /// Make `model` the one that predicts, until CLOCK_MONOTONIC reaches `expires_ns`. Returns its generation.
    fn publish(&self, model: &Model, expires_ns: u64) -> Result<u64>;

    /// Leave no model: the kernel schedules by its base policy.
    fn withdraw(&self) -> Result<()>;

    /// Set the first quantum of bursts that are not predicted; None: that of the base policy.
    fn set_first_quantum(&self, quantum_ns: Option<u64>) -> Result<()>;

    /// Of the samples of each class, have one in 2 to the power of this sent.
    fn set_thinning(&self, shifts: [u32; NR_CLASSES]) -> Result<()>;

    /// Set profiles of the process database by their key, or remove them: mean log2(burst in ns), Q8. One that fails
    /// keeps none of the others from being set, and is tried again by the next call, with or without changes.
    fn set_profiles(&self, changes: &[(u32, Option<i32>)]) -> Result<(), NotSet>;
}

/// Some profiles of the kernel are not as they are to be.
#[derive(Debug, thiserror::Error)]
#[error("{first:#}; so it is for {others} other profiles")]
pub struct NotSet {
    /// How many it may not have at all.
    pub missing: usize,
    /// Why the first could not be set or removed, and how many others could not.
    pub first: anyhow::Error,
    pub others: usize,
}
