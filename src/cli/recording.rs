//! What the command line offers of recordings: `--record`, `train` and `eval`. In a build without the cargo feature
//! `recording`, `no_recording.rs` stands here.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, Subcommand};
use log::info;
use scx_ml_text::Show;

use super::bounds::{OptionError, check_window};
use super::json::write_json;
use crate::kernel::mode::Mode;
use crate::kernel::ringbuf::Archive;
use crate::learn::row::SAMPLES_MAX;
use crate::model::file::{self, ModelFile};
use crate::offline;
use crate::recording::{Meta, Recorder, RecorderConfig, Recording};

/// What other builds offer: no more.
pub const LEFT_OUT: &[&str] = &[];

/// Below the help: how to record.
pub const RECORD_EXAMPLE: &str = "sudo scx_ml --record ~/rec           the same as the first, and keep the samples as Parquet files\n  ";

/// Below the help: what to do with a recording.
pub const OFFLINE_EXAMPLES: &str = "scx_ml train rec -o model.toml       fit a model on a recording\n  \
    scx_ml eval rec --model model.toml   judge it, beside other predictors\n  \
    sudo scx_ml --mode frozen --model model.toml   schedule by it, learn nothing\n  ";

/// What `--record-limit` may be.
const RECORD_MIB_MIN: u64 = 1;
const RECORD_MIB_MAX: u64 = 1 << 20;

/// What is recorded.
#[derive(Debug, Clone, Args)]
pub struct RecordArgs {
    /// Write all samples to Parquet files in this folder, which is created if it is not there.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "monitor",
        help_heading = "Recording"
    )]
    pub record: Option<PathBuf>,

    /// Megabytes (2^20) that the recording may take. Then recording ends, with a warning; scheduling goes on.
    #[arg(
        long,
        default_value_t = 1024,
        value_name = "MIB",
        requires = "record",
        help_heading = "Recording"
    )]
    pub record_limit: u64,
}

impl RecordArgs {
    /// Where to, if anything is recorded.
    pub fn folder(&self) -> Option<&Path> {
        self.record.as_deref()
    }

    /// Refuse what clap cannot know to be impossible.
    pub fn check(&self, mode: Mode) -> Result<(), OptionError> {
        if self.record.is_some() && mode == Mode::Base {
            return Err(OptionError::RecordBase);
        }
        let (found, min, max) = (self.record_limit, RECORD_MIB_MIN, RECORD_MIB_MAX);
        if !(min..=max).contains(&found) {
            return Err(OptionError::RecordLimit { found, min, max });
        }
        Ok(())
    }

    /// Prepare the recording, if one is asked for: the recorder, which ends when it is dropped, and the way to it. The other
    /// options are those that a recording tells of itself.
    ///
    /// # Errors
    /// When there can be none.
    pub fn start(
        &self,
        version: &str,
        mode: Mode,
        sample_rate: u64,
        syscalls: bool,
    ) -> Result<Option<(Recorder, Arc<dyn Archive>)>> {
        let Some(dir) = &self.record else {
            return Ok(None);
        };
        let meta = Meta::here(version, mode.name(), sample_rate, syscalls);
        let config = RecorderConfig::new(dir, self.record_limit << 20, meta);
        let (recorder, handle) = Recorder::start(config)?;
        Ok(Some((recorder, Arc::new(handle))))
    }

    /// Log what is recorded.
    pub fn announce(&self) {
        if let Some(dir) = &self.record {
            info!(
                "recording to {}, at most {} MiB",
                dir.shown(),
                self.record_limit
            );
        }
    }
}

/// What can be done with recordings.
#[derive(Debug, Clone, Subcommand)]
pub enum RecordingTask {
    /// Fit a model on a recording and keep it in a file, if it beats the kind's average on the newest fifth.
    Train {
        /// The recording: a folder that `scx_ml --record` wrote.
        dir: PathBuf,

        /// The model file to write.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,

        /// Samples that the model is fitted on and judged by, the newest.
        #[arg(long, default_value_t = SAMPLES_MAX, value_name = "SAMPLES")]
        window: usize,

        /// For machines.
        #[arg(long)]
        json: bool,
    },

    /// Judge predictors on the newest part of a recording, and over its time: models, what scx_ml would have learned and
    /// what it did predict, the kind's average, which steers where no model does, others, and how far any could go.
    Eval {
        /// The recording: a folder that `scx_ml --record` wrote.
        dir: PathBuf,

        /// Judge this model file too. May be repeated.
        #[arg(long = "model", value_name = "FILE")]
        models: Vec<PathBuf>,

        /// Judge models of other kernels too.
        #[arg(long)]
        model_any_kernel: bool,

        /// Share of the samples, the oldest, that models are fitted on; the others judge.
        #[arg(long, default_value_t = 0.7, value_name = "SHARE")]
        split: f64,

        /// For machines.
        #[arg(long)]
        json: bool,
    },
}

impl RecordingTask {
    /// Refuse what clap cannot know to be impossible.
    pub fn check(&self) -> Result<(), OptionError> {
        match self {
            Self::Train { window, .. } => check_window(*window),
            Self::Eval { split, .. } if !(0.1..=0.95).contains(split) => {
                Err(OptionError::Split(*split))
            }
            Self::Eval { .. } => Ok(()),
        }
    }

    /// Do it; results go to `out`.
    ///
    /// # Errors
    /// When files cannot be read or written, or a recording is not enough for what is asked.
    pub fn perform(&self, out: &mut impl Write, colour: bool) -> Result<()> {
        match self {
            Self::Train {
                dir,
                output,
                window,
                json,
            } => {
                file::check_writable(output)?;
                let training = offline::train(&Recording::read(dir)?, *window)?;
                if *json {
                    write_json(out, &training.report)?;
                } else {
                    offline::print::training(out, &training.report, colour)?;
                }
                training.model?.save(output)?;
                if !json {
                    writeln!(out, "\nThe model is in {}.", output.shown())?;
                }
                Ok(())
            }
            Self::Eval {
                dir,
                models,
                model_any_kernel,
                split,
                json,
            } => {
                let recording = Recording::read(dir)?;
                let here = (!model_any_kernel).then_some(recording.meta.kernel.as_str());
                let models = models
                    .iter()
                    .map(|path| Ok((path.clone(), ModelFile::load(path, here)?)))
                    .collect::<Result<Vec<_>>>()?;
                let report = offline::evaluate(&recording, &models, *split)?;
                if *json {
                    return write_json(out, &report);
                }
                offline::print::evaluation(out, &report, colour)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Opts;
    use crate::cli::manual::write_pages;
    use clap::Parser;

    fn check(args: &str) -> Result<(), OptionError> {
        Opts::try_parse_from(std::iter::once("scx_ml").chain(args.split_whitespace()))
            .expect("clap accepts")
            .check()
    }

    #[test]
    fn impossible_options_are_named() {
        use OptionError::*;
        assert_eq!(check("--record x --mode shadow"), Ok(()));
        let bad = |args: &str| check(args).expect_err(args);
        assert!(matches!(
            bad("train rec -o m --window 10"),
            Window { found: 10, .. }
        ));
        assert_eq!(bad("eval rec --split 1"), Split(1.0));
        assert!(matches!(bad("eval rec --split nan"), Split(_)));
        assert_eq!(bad("--record x --mode base"), RecordBase);
        for found in [0, 1 << 21] {
            let args = format!("--record x --record-limit {found}");
            assert!(matches!(bad(&args), RecordLimit { found: f, .. } if f == found));
        }
    }

    #[test]
    fn training_and_evaluation_have_a_page_each() {
        let folder = tempfile::tempdir().expect("created");
        write_pages(folder.path()).expect("written");
        for name in ["scx_ml-train.8", "scx_ml-eval.8"] {
            assert!(folder.path().join(name).is_file(), "no {name}");
        }
    }
}
