//! What can go wrong in the library. Each variant carries the value at fault and, where there is one, the next step.

use scx_ml_text::Show;
use std::path::PathBuf;

/// An error of the lab. `is_usage` tells mistakes of the caller from failures of the world.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A key that no configuration knows.
    #[error("unknown key `{key}` in {place}{}", suggestion(.nearest))]
    UnknownKey {
        key: String,
        place: String,
        nearest: Option<String>,
    },
    /// A value that is of the wrong type or out of range.
    #[error("{place}: {why}")]
    BadValue { place: String, why: String },
    /// A workload the lab does not have.
    #[error("no workload is called `{name}`{}", or_list(.nearest))]
    UnknownWorkload {
        name: String,
        nearest: Option<String>,
    },
    /// A program that is needed and is not installed.
    #[error("`{program}` was not found, and {needed_by} needs it; {hint}")]
    MissingProgram {
        program: String,
        needed_by: String,
        hint: String,
    },
    /// Several mistakes at once, each with what can be done about it.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
    /// The kernel or the machine lacks something.
    #[error("{what}: {why}")]
    Unsupported { what: String, why: String },
    /// The scheduler under test failed: did not load, was ejected, did not go away.
    #[error("scheduler `{scheduler}`: {why}")]
    Scheduler { scheduler: String, why: String },
    /// The machine is in a state in which no further cell can be trusted.
    #[error("cannot go on: {0}")]
    Fatal(String),
    /// The workload failed to run or its output made no sense.
    #[error("workload `{workload}`: {why}")]
    Workload { workload: String, why: String },
    /// A file could not be read or written.
    #[error("{}: {source}", .path.shown())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A saved result cannot be understood.
    #[error("{}: {why}", .path.shown())]
    Damaged { path: PathBuf, why: String },
    /// A system call failed.
    #[error("{call} failed: {source}")]
    Os {
        call: String,
        source: std::io::Error,
    },
    /// The probe could not be loaded or read.
    #[error("measuring probe: {0}")]
    Probe(String),
    /// A plot or a report could not be drawn.
    #[error("report: {0}")]
    Report(String),
}

/// The result of most functions here.
pub type Result<T> = std::result::Result<T, LabError>;

impl LabError {
    /// Whether the caller asked for something impossible, as opposed to something that failed. Decides the exit code.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::UnknownKey { .. }
                | Self::BadValue { .. }
                | Self::UnknownWorkload { .. }
                | Self::MissingProgram { .. }
                | Self::Several(_)
                | Self::Unsupported { .. }
        )
    }

    /// A system call that failed.
    pub fn os(call: &str, source: impl Into<std::io::Error>) -> Self {
        Self::Os {
            call: call.to_string(),
            source: source.into(),
        }
    }

    /// A failed workload.
    pub fn workload(workload: &str, why: impl std::fmt::Display) -> Self {
        Self::Workload {
            workload: workload.to_string(),
            why: why.to_string(),
        }
    }

    /// An I/O error of a known file.
    pub fn file(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File {
            path: path.into(),
            source,
        }
    }
}

fn or_list(nearest: &Option<String>) -> String {
    match nearest {
        Some(_) => suggestion(nearest),
        None => "; `scx_lab list` shows all".to_string(),
    }
}

fn suggestion(nearest: &Option<String>) -> String {
    match nearest {
        Some(n) => format!("; did you mean `{n}`?"),
        None => String::new(),
    }
}
