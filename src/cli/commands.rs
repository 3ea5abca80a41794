//! What can be done beside scheduling: the subcommands and their options.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::bounds::{SECONDS_MAX, SECONDS_MIN};
use super::recording::RecordingTask;
use crate::watch::explain::command::Asked;

/// What can be done beside scheduling.
#[derive(Debug, Clone, Subcommand)]
pub enum Task {
    /// List everything that is recorded about a burst: type, unit, scale, where it comes from, and whether the model
    /// may use it.
    Features {
        /// For machines.
        #[arg(long)]
        json: bool,
    },

    /// Say why a task got the slice it got: ask the scheduler that is running about a thread.
    Explain(ExplainArgs),

    /// Watch the scheduler that is running: what it decides, how long tasks wait, how well it predicts, its models, and
    /// the busiest threads.
    Top(TopArgs),

    /// What the scheduler that is running has come to since it was attached: how well it predicts, and what came of that.
    Totals {
        /// For machines: all of its statistics.
        #[arg(long)]
        json: bool,
    },

    #[command(flatten)]
    Recording(RecordingTask),

    /// Print the completions of a shell, to be put where it looks for them.
    Completions {
        /// The shell.
        shell: Shell,
    },

    /// Print the manual page of scx_ml, or write all pages into a folder.
    Man {
        /// The folder.
        dir: Option<PathBuf>,
    },

    /// Try policies on a simulated machine: runs the command scx_sim, which has options of its own.
    #[command(disable_help_flag = true)]
    Sim {
        /// For scx_sim; --help describes them.
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "ARGUMENTS"
        )]
        arguments: Vec<OsString>,
    },
}

/// What is to be explained, and how.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
        sudo scx_ml explain 4711               the thread with this id\n  \
        sudo scx_ml explain cc1 --limit 1      of the threads with this name, the one that woke last\n  \
        sudo scx_ml explain kworker --watch 2  of the threads whose name begins so, every two seconds\n\n\
        Exit status: 0, 1 if there is nothing to explain, 2 for bad usage.")]
pub struct ExplainArgs {
    /// A thread's id, or the name of threads; if no thread is called so, the beginning of their names.
    ///
    /// A name that begins with a hyphen stands behind `--`. Odd bytes may be given as they are, or as `\xNN`, as they are shown.
    #[arg(value_name = "PID|COMM", value_parser = not_empty())]
    pub task: OsString,

    /// It is a name, though it looks like an id.
    #[arg(long)]
    pub name: bool,

    /// For machines: a list of explanations; with --watch one line each time.
    #[arg(long)]
    pub json: bool,

    /// Look again every so many seconds until Ctrl-C.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub watch: Option<f64>,

    /// Threads of a name to explain at most, those that woke last.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = at_least_one)]
    pub limit: usize,
}

impl ExplainArgs {
    /// The same without clap.
    pub fn asked(&self) -> Asked {
        Asked {
            task: self.task.clone(),
            is_name: self.name,
            json: self.json,
            every: self.watch.map(Duration::from_secs_f64),
            limit: self.limit,
        }
    }
}

/// How to watch.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Keys: q quits, tab and the arrows turn pages and scroll, p pauses.\n\n\
        Examples:\n  \
        sudo scx_ml top                 until q; the socket of the scheduler is root's\n  \
        sudo scx_ml top --once          one frame of plain text, for scripts"
)]
pub struct TopArgs {
    /// Seconds between two readings; with --once, seconds that the frame covers.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    pub interval: f64,

    /// Print one frame as plain text and end.
    #[arg(long)]
    pub once: bool,
}

/// Any bytes, but some.
fn not_empty() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|name| match name.is_empty() {
        true => Err("give a thread's id, or a name"),
        false => Ok(name),
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(s) if (SECONDS_MIN..=SECONDS_MAX).contains(&s) => Ok(s),
        _ => Err(format!("give {SECONDS_MIN} to {SECONDS_MAX} seconds")),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("give a number from 1 on".into()),
    }
}
