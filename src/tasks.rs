//! What can be done beside scheduling: the subcommands.

use std::io::{IsTerminal, Write};

use anyhow::Result;

use crate::cli::Task;
use crate::model_file::{self, ModelFile};
use crate::recording::Recording;
use crate::{explain, features, offline, shutdown};

/// Do it; results go to standard output.
///
/// # Errors
/// When files cannot be read or written, or a recording is not enough for what is asked.
pub fn perform(task: &Task) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let colour = out.is_terminal();
    match task {
        Task::Features { json: true } => write_json(&mut out, &features::table()),
        Task::Features { json: false } => features::print_table(&mut out),
        Task::Explain(args) => {
            // It locks standard output itself, reading by reading.
            drop(out);
            let shutdown = shutdown::by_signal()?;
            explain::command::run(args, &shutdown)
        }
        Task::Train {
            dir,
            output,
            window,
            json,
        } => {
            model_file::check_writable(output)?;
            let training = offline::train(&Recording::read(dir)?, *window)?;
            if *json {
                write_json(&mut out, &training.report)?;
            } else {
                offline::print::training(&mut out, &training.report, colour)?;
            }
            training.model?.save(output)?;
            if !json {
                writeln!(out, "\nThe model is in {}.", output.display())?;
            }
            Ok(())
        }
        Task::Eval {
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
                return write_json(&mut out, &report);
            }
            offline::print::evaluation(&mut out, &report, colour)
        }
    }
}

fn write_json(out: &mut impl Write, value: &impl serde::Serialize) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}
