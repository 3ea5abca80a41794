//! Output for machines.

use std::io::Write;

use anyhow::Result;

/// As JSON of many lines.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(out: &mut impl Write, value: &impl serde::Serialize) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}
