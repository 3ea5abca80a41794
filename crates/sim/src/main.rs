//! `scx_sim`: the simulator on its own.

use clap::Parser;
use scx_ml_sim::cli::{SimArgs, run};

#[derive(Parser)]
#[command(name = "scx_sim", version)]
struct Opts {
    #[command(flatten)]
    sim: SimArgs,
}

fn main() -> anyhow::Result<()> {
    let opts = Opts::parse();
    run(&opts.sim, &mut std::io::stdout(), &mut std::io::stderr())
}
