//! Where models go. The learner knows this much of the kernel and no more.

use anyhow::Result;

use crate::model::Model;

/// What the learner asks of the kernel.
pub trait ModelSink: Send + Sync {
    /// Make `model` the one that predicts, until CLOCK_MONOTONIC reaches `expires_ns`. Returns its generation.
    fn publish(&self, model: &Model, expires_ns: u64) -> Result<u64>;

    /// Leave no model: the kernel schedules by its base policy.
    fn withdraw(&self) -> Result<()>;

    /// Set the first quantum of bursts that are not predicted; None: that of the base policy.
    fn set_first_quantum(&self, quantum_ns: Option<u64>) -> Result<()>;

    /// Set profiles of the process database by their key, or remove them: mean log2(burst in ns), Q8.
    fn set_profiles(&self, changes: &[(u32, Option<i32>)]) -> Result<()>;
}
