//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Compare CPU schedulers by measurement.
///
/// Exit status: 0 all went well, 1 a run failed or something regressed, 2 the request made no sense.
#[derive(Debug, Parser)]
#[command(name = "scx_lab", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Action,
}

const EXAMPLES: &str = "\
Examples:
  scx_lab list
  scx_lab bench --sched 'scx_ml --mode base' --workload schbench-like --workload fairness --out results/first
  scx_lab bench --sched scx_bpfland --workload open-loop:load=0.7,workers=shared --blocks 8 --seconds 20
  scx_lab bench --suite real --out results/real
  scx_lab bench --resume results/real
  scx_lab report results/first results/second --html both.html
  scx_lab run timer:hogs_per_cpu=4 --seconds 5";

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Measure schedulers side by side, in blocks of randomised order
    Bench(BenchArgs),
    /// Show the schedulers found and the workloads with their metrics and parameters
    List(ListArgs),
    /// Make the report of one or more results again, merged
    Report(ReportArgs),
    /// Run one workload under whatever scheduler is loaded and print its metrics
    Run(RunArgs),
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Scheduler to measure: `eevdf` (the kernel's own) or a command such as 'scx_ml --mode base', with a short name for
    /// the tables where wanted: base='scx_ml --mode base'; may be repeated
    #[arg(long = "sched", value_name = "[NAME=]COMMAND")]
    pub schedulers: Vec<String>,
    /// Workload to measure under, as NAME or NAME:key=value,…; may be repeated
    #[arg(long = "workload", value_name = "WORKLOAD")]
    pub workloads: Vec<String>,
    /// How often everything is repeated, each time in another order [default: 5, or more if the verdicts need it]
    #[arg(long)]
    pub blocks: Option<u32>,
    /// Measured seconds of a cell [default: 10]
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Seconds under load before that [default: 2]
    #[arg(long)]
    pub warmup: Option<f64>,
    /// Fixes the order and the workloads' random numbers [default: 1]
    #[arg(long)]
    pub seed: Option<u64>,
    /// The scheduler the others are compared with; it is added if it is not given [default: eevdf]
    #[arg(long)]
    pub baseline: Option<String>,
    /// Effects below this share are no difference [default: 0.01]
    #[arg(long, value_name = "SHARE")]
    pub min_effect: Option<f64>,
    /// Folder for the results [default: results-DATE]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,
    /// A set of workloads by name: `real`, programs from packages, alone and in company. Schedulers, unless given: eevdf,
    /// scx_ml in base and learn mode, and all others that are installed. A cell that fails does not end it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["config", "quick"])]
    pub suite: Option<String>,
    /// Leave out workloads whose programs are not installed, and say so
    #[arg(long)]
    pub skip_missing: bool,
    /// Read the experiment from a TOML file; the command line goes over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Continue the experiment in this folder
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["schedulers", "workloads", "blocks", "seconds", "warmup", "seed", "baseline", "min_effect", "quick", "suite", "skip_missing"]
    )]
    pub resume: Option<PathBuf>,
    /// A short fixed set for a deterministic one-CPU VM, checked against stored ratios
    #[arg(long, conflicts_with_all = ["schedulers", "workloads", "config"])]
    pub quick: bool,
    /// Write the ratios of a --quick run into this file instead of checking them
    #[arg(long, value_name = "FILE", requires = "quick")]
    pub store_quick: Option<PathBuf>,
    /// Go on when a scheduler or a workload failed
    #[arg(long)]
    pub keep_going: bool,
    /// Measure without the BPF probe (no delays, migrations and preemptions)
    #[arg(long)]
    pub no_probe: bool,
    /// Do not have the kernel account the run time of BPF programs
    #[arg(long)]
    pub no_bpf_stats: bool,
    /// Show all metrics and costs, not only the headlines
    #[arg(long)]
    pub all: bool,
    /// Show what would be run, and run nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this workload, with everything about it
    pub workload: Option<String>,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Result folders
    #[arg(required = true, value_name = "DIR")]
    pub folders: Vec<PathBuf>,
    /// Write the HTML report here
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the Parquet file here
    #[cfg(feature = "parquet")]
    #[arg(long, value_name = "FILE")]
    pub parquet: Option<PathBuf>,
    /// Print the comparison as JSON
    #[arg(long)]
    pub json: bool,
    /// Show all metrics and costs, not only the headlines
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// NAME or NAME:key=value,…
    #[arg(required_unless_present = "as_cell")]
    pub workload: Option<String>,
    /// Measured seconds
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds under load before that
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Fixes the workload's random numbers
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
    /// Used by `bench`: perform a task given as JSON and report as JSON lines
    #[arg(long, hide = true, value_name = "TASK")]
    pub as_cell: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
