//! `scx_sim`: the simulator on its own.

use std::process::ExitCode;

use clap::Parser;
use scx_ml_sim::cli::{SimArgs, from_command_line, run};
use scx_ml_text::lines;

#[derive(Parser)]
#[command(name = "scx_sim", version)]
struct Opts {
    #[command(flatten)]
    sim: SimArgs,
}

fn main() -> ExitCode {
    let opts = from_command_line::<Opts>();
    match run(&opts.sim, &mut std::io::stdout(), &mut std::io::stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("scx_sim: {}", lines(&format!("{e:#}")));
            ExitCode::FAILURE
        }
    }
}
