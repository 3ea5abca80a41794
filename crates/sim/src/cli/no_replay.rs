//! What stands in place of `replay.rs` in a build without the cargo feature `recording`: nothing is offered.

use anyhow::Result;
use clap::Args;

use crate::experiment::WorkloadSpec;

/// What other builds offer.
pub const LEFT_OUT: &[&str] = &["--replay", "--pace"];

pub const REPLAY_EXAMPLE: &str = "";

/// Nothing is replayed.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {}

impl ReplayArgs {
    pub fn is_asked_for(&self) -> bool {
        false
    }

    pub fn workload(&self) -> Result<Option<WorkloadSpec>> {
        Ok(None)
    }
}
