//! What can be done beside scheduling: the subcommands.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use scx_ml_text::Show;

use crate::cli::commands::Task;
use crate::cli::json::write_json;
use crate::cli::manual;
use crate::kernel::features;
use crate::watch::{explain, top, totals};

/// Do it; results go to standard output. What goes on until it is ended asks for `shutdown`.
///
/// # Errors
/// When files cannot be read or written, or a recording is not enough for what is asked.
pub fn perform(task: &Task, shutdown: fn() -> Result<Arc<AtomicBool>>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let colour = out.is_terminal();
    match task {
        Task::Features { json: true } => write_json(&mut out, &features::table()),
        Task::Features { json: false } => features::print_table(&mut out),
        Task::Explain(args) => {
            // It locks standard output itself, reading by reading.
            drop(out);
            let shutdown = shutdown()?;
            explain::command::run(&args.asked(), &shutdown)
        }
        Task::Top(args) => {
            drop(out);
            let shutdown = shutdown()?;
            top::run(Duration::from_secs_f64(args.interval), args.once, &shutdown)
        }
        Task::Totals { json } => {
            drop(out);
            totals::run(*json)
        }
        Task::Recording(task) => task.perform(&mut out, colour),
        Task::Completions { shell } => {
            manual::print_completions(*shell, &mut out);
            Ok(())
        }
        Task::Man { dir: None } => manual::print_page(&mut out),
        Task::Man { dir: Some(dir) } => {
            for path in manual::write_pages(dir)? {
                writeln!(out, "{}", path.shown())?;
            }
            Ok(())
        }
        Task::Sim { arguments } => match simulate(&simulator()?, arguments)? {},
    }
}

/// The command that simulates. It is built on this library, so this library cannot be built on it.
const SIMULATOR: &str = "scx_sim";

/// The simulator beside this executable, or else as it is found in PATH.
fn simulator() -> Result<PathBuf> {
    let here = std::env::current_exe().context("cannot tell where this executable is")?;
    let beside = here.with_file_name(SIMULATOR);
    Ok(if beside.is_file() {
        beside
    } else {
        SIMULATOR.into()
    })
}

/// Become the simulator. Returns only if that fails.
fn simulate(simulator: &Path, arguments: &[OsString]) -> Result<Infallible> {
    let e = Command::new(simulator).args(arguments).exec();
    if e.kind() == io::ErrorKind::NotFound {
        return Err(anyhow!(
            "{SIMULATOR} is neither beside this executable nor in PATH; `cargo build --release --workspace` builds it"
        ));
    }
    Err(e).with_context(|| format!("cannot run {}", simulator.shown()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulator_that_is_not_there_is_named_with_what_builds_it() {
        let message = |path: &str| {
            simulate(Path::new(path), &[])
                .expect_err("nothing to run")
                .to_string()
        };
        let missing = message("/nonexistent/scx_sim");
        assert!(missing.contains("`cargo build --release --workspace` builds it"));
        assert_eq!(message("/"), "cannot run /");
    }
}
