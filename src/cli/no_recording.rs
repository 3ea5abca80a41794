//! What stands in place of `recording.rs` in a build without the cargo feature of that name: nothing is offered, and whoever
//! asks for it is told why. docs/recording.md says who builds so.

use std::convert::Infallible;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::bounds::OptionError;
use crate::kernel::mode::Mode;
use crate::kernel::ringbuf::Archive;

pub const RECORD_EXAMPLE: &str = "";
pub const OFFLINE_EXAMPLES: &str = "";

/// What other builds offer.
pub const LEFT_OUT: &[&str] = &["--record", "--record-limit", "train", "eval"];

/// Nothing is recorded.
#[derive(Debug, Clone, Args)]
pub struct RecordArgs {}

impl RecordArgs {
    pub fn folder(&self) -> Option<&Path> {
        None
    }

    pub fn check(&self, _: Mode) -> Result<(), OptionError> {
        Ok(())
    }

    pub fn start(
        &self,
        _: &str,
        _: Mode,
        _: u64,
        _: bool,
    ) -> Result<Option<(Infallible, Arc<dyn Archive>)>> {
        Ok(None)
    }

    pub fn announce(&self) {}
}

/// Nothing can be done with recordings.
#[derive(Debug, Clone, Subcommand)]
pub enum RecordingTask {}

impl RecordingTask {
    pub fn check(&self) -> Result<(), OptionError> {
        match *self {}
    }

    pub fn perform(&self, _: &mut impl Write, _: bool) -> Result<()> {
        match *self {}
    }
}
