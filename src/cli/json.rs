//! Output for machines.

use std::io::Write;

use anyhow::Result;
use scx_ml_text::json;

/// As JSON of many lines, without characters that cannot be seen.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(out: &mut impl Write, value: &impl serde::Serialize) -> Result<()> {
    writeln!(out, "{}", json(&serde_json::to_string_pretty(value)?))?;
    Ok(())
}
