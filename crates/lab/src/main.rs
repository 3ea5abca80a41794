//! `scx_lab`: the command line over the library.

use clap::Parser;
use scx_lab::bench::Interrupt;
use scx_lab::cli::{Action, Cli};
use scx_lab::commands::{self, Success};
use scx_lab::error::LabError;
use scx_lab::sys;
use scx_ml_text::{exit_by, lines};
use std::process::ExitCode;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|e| exit_by(&e));
    match dispatch(&cli) {
        Ok(Success::Yes) => ExitCode::SUCCESS,
        Ok(Success::No) => ExitCode::from(FAILED),
        Err(e) => {
            eprintln!("scx_lab: {}", lines(&format!("{e:#}")));
            let usage = e.downcast_ref::<LabError>().is_some_and(|e| e.is_usage());
            ExitCode::from(if usage { USAGE } else { FAILED })
        }
    }
}

fn dispatch(cli: &Cli) -> anyhow::Result<Success> {
    // A bench goes on to save its results even if nobody reads what it prints.
    if !matches!(cli.command, Action::Bench(_)) {
        sys::end_on_broken_pipe();
    }
    Ok(match &cli.command {
        Action::Bench(args) => commands::bench(args, &on_interrupt()?)?,
        Action::List(args) => commands::list(args)?,
        Action::Report(args) => commands::report(args)?,
        Action::Run(args) => commands::run(args, on_interrupt_at_once)?,
    })
}

/// The first Ctrl-C ends a single run.
fn on_interrupt_at_once() -> Result<Interrupt, LabError> {
    let interrupt = Interrupt::default();
    let seen = interrupt.clone();
    ctrlc::set_handler(move || {
        seen.request();
    })
    .map_err(|e| LabError::Unsupported {
        what: "ending a run by a signal".to_string(),
        why: e.to_string(),
    })?;
    Ok(interrupt)
}

/// The first Ctrl-C lets the current cell end, the second does not.
fn on_interrupt() -> anyhow::Result<Interrupt> {
    let interrupt = Interrupt::default();
    let seen = interrupt.clone();
    ctrlc::set_handler(move || match seen.request() {
        1 => eprintln!("\nscx_lab: stopping after this cell; once more to stop at once"),
        _ => eprintln!("\nscx_lab: stopping"),
    })?;
    Ok(interrupt)
}
