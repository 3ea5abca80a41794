//! The wish to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// Set by Ctrl-C and SIGTERM.
///
/// # Errors
/// When they are watched already.
pub fn by_signal() -> Result<Arc<AtomicBool>> {
    let shutdown = Arc::new(AtomicBool::new(false));
    ctrlc::set_handler({
        let shutdown = shutdown.clone();
        move || shutdown.store(true, Ordering::Relaxed)
    })
    .context("cannot watch for Ctrl-C")?;
    Ok(shutdown)
}
