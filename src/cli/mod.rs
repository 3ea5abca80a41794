//! The command line: what can be asked for, and what cannot.

mod bounds;
mod commands;
mod json;
pub mod left_out;
pub mod manual;
pub mod perform;
#[cfg(feature = "recording")]
mod recording;
#[cfg(not(feature = "recording"))]
#[path = "no_recording.rs"]
mod recording;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use scx_ml_text::exit_by;
use scx_utils::libbpf_clap_opts::LibbpfOpts;

pub use bounds::OptionError;
use bounds::{SECONDS_MAX, SECONDS_MIN, check_window};
pub use commands::{ExplainArgs, Task, TopArgs};
use recording::{LEFT_OUT, OFFLINE_EXAMPLES, RECORD_EXAMPLE, RecordArgs};

use crate::kernel::mode::Mode;
use crate::learn::learner::{DEFAULT_REFIT_INTERVAL_S, DEFAULT_WINDOW, LearnerConfig};
use crate::learn::profile::KeeperConfig;
use crate::watch::openmetrics::{DEFAULT_INTERVAL, MetricsFile, MetricsFileError};

/// Name under which the scheduler appears to the user.
pub const SCHEDULER_NAME: &str = "scx_ml";

/// What stands below the help.
fn examples() -> String {
    format!(
        "Examples:\n  \
        sudo scx_ml                          learn and schedule until Ctrl-C\n  \
        sudo scx_ml --stats 2                the same, with statistics every two seconds\n  \
        sudo scx_ml --mode shadow            predict, but schedule by the base policy\n  \
        {RECORD_EXAMPLE}\
        sudo scx_ml top                      watch the scheduler that is running: a dashboard\n  \
        sudo scx_ml --monitor 1              the same, line by line\n  \
        scx_ml features                      what is recorded about a task\n  \
        {OFFLINE_EXAMPLES}\
        sudo scx_ml explain cc1              why the running scheduler gave a task the slice it has\n  \
        scx_ml sim --cpus 4                  policies side by side on a simulated machine\n\n\
        Exit status: 0 after Ctrl-C or SIGTERM, 1 on an error (the kernel's own scheduler is back), 2 for bad usage."
    )
}

/// A sched_ext scheduler that learns the machine's own workload.
///
/// Replaces the kernel's CPU scheduling policy until it is ended with Ctrl-C; then, as after any error, the kernel's
/// own policy takes over again. While it schedules, it learns by linear regression how long the next CPU burst of
/// each task will be, and gives slices and deadlines by that.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "scx_ml",
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    after_help = examples()
)]
pub struct Opts {
    #[command(subcommand)]
    pub task: Option<Task>,

    /// What the predictions are used for.
    #[arg(long, value_enum, default_value_t = Mode::Learn, help_heading = "Scheduling")]
    pub mode: Mode,

    /// Shortest slice, in microseconds.
    #[arg(
        short = 's',
        long,
        default_value_t = 1_000,
        value_name = "US",
        help_heading = "Scheduling"
    )]
    pub slice_min_us: u64,

    /// Longest slice, in microseconds.
    #[arg(
        short = 'S',
        long,
        default_value_t = 20_000,
        value_name = "US",
        help_heading = "Scheduling"
    )]
    pub slice_max_us: u64,

    /// Schedule only tasks whose policy is SCHED_EXT; the rest stay with the kernel's own scheduler.
    #[arg(short = 'p', long, help_heading = "Scheduling")]
    pub partial: bool,

    /// Leave the CPUs' frequencies alone: they stay as high as schedutil lets them. Otherwise each is asked for what its CPU
    /// uses.
    #[arg(long, help_heading = "Scheduling")]
    pub no_freq_control: bool,

    /// Length of the kernel's dump when it ejects the scheduler, in bytes; 0 is the kernel's default.
    #[arg(
        long,
        default_value_t = 0,
        value_name = "BYTES",
        help_heading = "Scheduling"
    )]
    pub exit_dump_len: u32,

    /// Seconds between two fits of the models; a tenth of that while most of what is known is new.
    #[arg(long, default_value_t = DEFAULT_REFIT_INTERVAL_S, value_name = "SECONDS", help_heading = "Learning")]
    pub refit_interval: f64,

    /// Samples of a class of tasks that its model remembers: what was before those counts for next to nothing.
    #[arg(long, default_value_t = DEFAULT_WINDOW, value_name = "SAMPLES", help_heading = "Learning")]
    pub window: usize,

    /// Samples per second that the kernel sends at most, over all CPUs. A sample stands for the bursts left out.
    #[arg(
        long,
        default_value_t = 1_000,
        value_name = "PER_SECOND",
        help_heading = "Learning"
    )]
    pub sample_rate: u64,

    /// Where what is known about tasks by their name is kept from one run to the next; "none" keeps it in memory only.
    #[arg(
        long,
        default_value = "/var/lib/scx_ml/profiles.json",
        value_name = "FILE",
        help_heading = "Learning"
    )]
    pub profiles: PathBuf,

    /// Let the model see what tasks ask the kernel for: counts system calls by class, which costs every one of them.
    #[arg(long, help_heading = "Learning")]
    pub syscalls: bool,

    /// Begin with the model of this file instead of none.
    #[arg(long, value_name = "FILE", help_heading = "Learning")]
    pub model: Option<PathBuf>,

    /// Take the model even if it was trained on another kernel.
    #[arg(long, requires = "model", help_heading = "Learning")]
    pub model_any_kernel: bool,

    /// Keep the model in this file: written whenever it changes, and at the end.
    #[arg(long, value_name = "FILE", help_heading = "Learning")]
    pub save_model: Option<PathBuf>,

    #[command(flatten)]
    pub recording: RecordArgs,

    /// Print statistics every so many seconds while scheduling.
    #[arg(long, value_name = "SECONDS", help_heading = "Watching")]
    pub stats: Option<f64>,

    /// Print statistics of the scheduler that is already running; schedule nothing.
    #[arg(
        long,
        value_name = "SECONDS",
        conflicts_with = "stats",
        help_heading = "Watching"
    )]
    pub monitor: Option<f64>,

    /// Keep statistics in this file for Prometheus' node_exporter: in its textfile format, written every 15 seconds, or
    /// as often as --stats says. It goes when the scheduler goes.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "monitor",
        help_heading = "Watching"
    )]
    pub metrics: Option<PathBuf>,

    /// Describe the statistics.
    #[arg(long, help_heading = "Watching")]
    pub help_stats: bool,

    /// Log more, libbpf's messages included.
    #[arg(short = 'v', long)]
    pub verbose: bool,

    /// Print the version.
    #[arg(short = 'V', long)]
    pub version: bool,

    #[command(flatten, next_help_heading = "Libbpf Options")]
    pub libbpf: LibbpfOpts,
}

impl Opts {
    /// What the command line says. Ends the program where that cannot be understood, or is a question that clap answers.
    pub fn from_command_line() -> Self {
        Self::try_parse().unwrap_or_else(|e| exit_by(&left_out::explained(e, LEFT_OUT)))
    }

    /// Refuse what clap cannot know to be impossible.
    pub fn check(&self) -> Result<(), OptionError> {
        match &self.task {
            Some(Task::Recording(task)) => return task.check(),
            Some(_) => return Ok(()),
            None => {}
        }
        let (min, max) = (self.slice_min_us, self.slice_max_us);
        if min == 0 {
            return Err(OptionError::SliceMinZero);
        }
        if min > max {
            return Err(OptionError::SliceOrder { min, max });
        }
        if max > 1_000_000 {
            return Err(OptionError::SliceMaxTooLong(max));
        }
        check_window(self.window)?;
        if self.mode == Mode::Base {
            let files = [("model", &self.model), ("save-model", &self.save_model)];
            if let Some((option, _)) = files.iter().find(|(_, file)| file.is_some()) {
                return Err(OptionError::ModelInBase(option));
            }
        }
        if !(1..=1_000_000).contains(&self.sample_rate) {
            return Err(OptionError::SampleRate(self.sample_rate));
        }
        self.recording.check(self.mode)?;
        let seconds = [
            ("refit-interval", Some(self.refit_interval)),
            ("stats", self.stats),
            ("monitor", self.monitor),
        ];
        for (option, found) in seconds {
            let Some(found) = found else { continue };
            if !(SECONDS_MIN..=SECONDS_MAX).contains(&found) {
                return Err(OptionError::Seconds {
                    option,
                    found,
                    min: SECONDS_MIN,
                    max: SECONDS_MAX,
                });
            }
        }
        Ok(())
    }

    /// Where the process database is kept.
    pub fn keeper_config(&self) -> KeeperConfig {
        let path = (self.profiles != Path::new("none")).then(|| self.profiles.clone());
        KeeperConfig { path }
    }

    /// The file of metrics, if one is asked for.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn metrics_file(&self) -> Result<Option<MetricsFile>, MetricsFileError> {
        let interval = self.stats.map_or(DEFAULT_INTERVAL, Duration::from_secs_f64);
        let file = |path: &PathBuf| MetricsFile::new(path, interval);
        self.metrics.as_ref().map(file).transpose()
    }

    /// Files and folders that are written to while scheduling.
    pub fn outputs(&self) -> Vec<&Path> {
        let profiles = (self.profiles != Path::new("none")).then_some(&*self.profiles);
        let others = [
            self.recording.folder(),
            self.save_model.as_deref(),
            self.metrics.as_deref(),
        ];
        profiles
            .into_iter()
            .chain(others.into_iter().flatten())
            .collect()
    }

    /// The learner's share of the options.
    pub fn learner_config(&self) -> LearnerConfig {
        let refit_interval = Duration::from_secs_f64(self.refit_interval);
        LearnerConfig {
            // A recording is for others to learn from.
            thin: self.recording.folder().is_none(),
            ..LearnerConfig::new(self.window, refit_interval, self.mode == Mode::Frozen)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn opts(args: &str) -> Opts {
        Opts::try_parse_from(std::iter::once("scx_ml").chain(args.split_whitespace()))
            .expect("clap accepts")
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Opts::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_possible() {
        assert_eq!(opts("").check(), Ok(()));
    }

    #[test]
    fn impossible_options_are_named() {
        use OptionError::*;
        let bad = |args: &str| opts(args).check().expect_err(args);
        assert_eq!(
            bad("--slice-min-us 3000 --slice-max-us 2000"),
            SliceOrder {
                min: 3000,
                max: 2000
            }
        );
        assert_eq!(bad("-s 0"), SliceMinZero);
        assert_eq!(bad("-S 2000000"), SliceMaxTooLong(2_000_000));
        assert!(matches!(bad("--window 0"), Window { found: 0, .. }));
        assert!(matches!(bad("--window 2000000"), WindowTooLarge { .. }));
        assert_eq!(bad("--sample-rate 0"), SampleRate(0));
        assert_eq!(bad("--mode base --model m"), ModelInBase("model"));
        assert_eq!(bad("--mode base --save-model m"), ModelInBase("save-model"));
        for args in [
            "--refit-interval 0",
            "--stats nan",
            "--monitor=-1",
            "--stats 1e99",
        ] {
            assert!(matches!(bad(args), Seconds { .. }), "{args}");
        }
    }

    #[test]
    fn arguments_of_the_simulator_are_left_to_it() {
        let Some(Task::Sim { arguments }) = opts("sim --cpus 4 --json -h --mode base").task else {
            panic!("not the simulator");
        };
        assert_eq!(arguments, ["--cpus", "4", "--json", "-h", "--mode", "base"]);
    }

    #[test]
    fn a_model_outlives_several_fits() {
        let config = opts("--refit-interval 60").learner_config();
        assert_eq!(config.max_age, Duration::from_secs(600));
        assert_eq!(
            opts("--refit-interval 0.5").learner_config().max_age,
            Duration::from_secs(30)
        );
    }
}
