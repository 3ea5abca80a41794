//! Programs of the distribution: finding them, naming the package of one that is missing, running them to their end.

use crate::error::{LabError, Result};
use crate::sys;
use rustix::process::Signal;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program and the package that holds it.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    pub program: &'static str,
    pub package: &'static str,
}

impl Tool {
    pub const fn new(program: &'static str, package: &'static str) -> Self {
        Self { program, package }
    }

    /// Where it is. Debian keeps servers in folders that are not on everybody's PATH.
    pub fn find(&self) -> Option<PathBuf> {
        sys::find_program(self.program).or_else(|| {
            ["/usr/sbin", "/usr/local/sbin", "/sbin"]
                .iter()
                .find_map(|dir| sys::find_program(&format!("{dir}/{}", self.program)))
        })
    }

    /// That it is installed.
    ///
    /// # Errors
    /// If it is not, with the package to install.
    pub fn check(&self, workload: &str) -> Result<()> {
        self.located(workload).map(|_| ())
    }

    fn located(&self, workload: &str) -> Result<PathBuf> {
        self.find().ok_or_else(|| LabError::MissingProgram {
            program: self.program.to_string(),
            needed_by: format!("workload `{workload}`"),
            hint: format!(
                "install the package {}; `vng/setup --workloads` installs all of them",
                self.package
            ),
        })
    }

    /// A command that starts it, reads nothing and ends with this process.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn command(&self, workload: &str) -> Result<Command> {
        let mut command = Command::new(self.located(workload)?);
        tie(&mut command, Signal::KILL);
        Ok(command)
    }

    /// A command that starts it as a server, which is tied to this process when it is started.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn server(&self, workload: &str) -> Result<Command> {
        self.located(workload).map(Command::new)
    }
}

/// Have `command` read nothing, and get `signal` when this process dies.
pub fn tie(command: &mut Command, signal: Signal) -> &mut Command {
    command.stdin(Stdio::null());
    sys::dies_with_parent(command, signal)
}

/// What a program printed.
pub struct Printed {
    pub stdout: String,
    pub stderr: String,
}

/// Run `command` to its end.
///
/// # Errors
/// If it does not start, or fails: with what it printed.
pub fn run(command: &mut Command, workload: &str) -> Result<Printed> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command
        .output()
        .map_err(|e| LabError::workload(workload, format!("{name} did not start: {e}")))?;
    let printed = Printed {
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    };
    if out.status.success() {
        return Ok(printed);
    }
    Err(LabError::workload(
        workload,
        format!(
            "{name} ended with {}: {}",
            out.status,
            last_lines(&format!("{}{}", printed.stdout, printed.stderr))
        ),
    ))
}

/// The error for output that holds no result.
pub fn not_understood(workload: &str, text: &str) -> LabError {
    LabError::workload(
        workload,
        format!("its output was not understood:\n{}", last_lines(text)),
    )
}

/// The end of a text: what went wrong is said last.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let err = Tool::new("no-such-server", "no-such-package")
            .check("w")
            .expect_err("missing");
        assert!(err.is_usage());
        assert_eq!(
            err.to_string(),
            "`no-such-server` was not found, and workload `w` needs it; install the package no-such-package; \
             `vng/setup --workloads` installs all of them"
        );
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let mut command = Tool::new("sh", "dash").command("w").expect("there");
        let err = run(
            command.args(["-c", "echo first; echo last >&2; exit 3"]),
            "w",
        )
        .err()
        .map(|e| e.to_string())
        .unwrap_or_default();
        assert!(
            err.contains("exit status: 3") && err.contains("first") && err.contains("last"),
            "{err}"
        );
    }
}
