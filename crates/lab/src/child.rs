//! The process that a workload runs in, with all it starts and all it writes.
//!
//! A process of its own (`scx_lab run --as-cell`) for three reasons: its threads are new to the scheduler in each cell, it
//! can be ended when it hangs under a bad scheduler, and its memory dies with it. It tells on its standard output, one JSON
//! object a line, when the measured time begins and ends, and in the end what it measured. What it starts is in its process
//! group, and what it writes to a temporary folder in one that it is given, so that both go when it does, however it ends.

use crate::calibration::Calibration;
use crate::error::{LabError, Result};
use crate::metric::Outcome;
use crate::settings::WorkloadSpec;
use crate::sys;
use crate::workload::Window;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
    WindowBegin,
    WindowEnd,
    Done { outcome: Outcome },
    Failed { why: String },
}

/// What the child is asked to do, handed over as one JSON argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    pub spec: WorkloadSpec,
    pub seconds: f64,
    pub warmup: f64,
    pub seed: u64,
    pub calibration: Calibration,
    /// A folder for what the workloads of a run may prepare once for all.
    #[serde(default)]
    pub shared: Option<PathBuf>,
}

/// The ends of the measured time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Begin,
    End,
}

fn say(event: &Event) {
    if let Ok(line) = serde_json::to_string(event) {
        let mut out = std::io::stdout().lock();
        // If the parent is gone there is nobody to tell.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

/// The child's side: tell the parent.
pub struct TellParent;

impl Window for TellParent {
    fn begin(&self) {
        say(&Event::WindowBegin);
    }
    fn end(&self) {
        say(&Event::WindowEnd);
    }
}

impl TellParent {
    /// The last word. Returns whether it went well.
    pub fn conclude(&self, result: Result<Outcome>) -> bool {
        let well = result.is_ok();
        say(&match result {
            Ok(outcome) => Event::Done { outcome },
            Err(e) => Event::Failed { why: e.to_string() },
        });
        well
    }
}

/// A workload that runs. Dropping it ends it.
pub struct Running {
    child: Child,
    events: Receiver<Event>,
    // After the child: its files go when nobody uses them any more.
    _scratch: TempDir,
}

impl Running {
    /// Start a process that performs `task`.
    ///
    /// # Errors
    /// If it cannot be started, or there is no room for its files.
    pub fn start(task: &Task) -> Result<Self> {
        let argument = serde_json::to_string(task)
            .map_err(|e| LabError::workload(&task.spec.label, e.to_string()))?;
        let scratch = scratch(&std::env::temp_dir())?;
        // This very program, even if its file was replaced by a newer build meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("scx_lab")
            .args(["run", "--as-cell", &argument])
            .env("TMPDIR", scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // A group of its own, so that Ctrl-C does not reach it and all of it can be ended.
        command.process_group(0);
        sys::dies_with_parent(&mut command, Signal::KILL);
        let mut child = command.spawn().map_err(|source| LabError::Os {
            call: "starting the workload".into(),
            source,
        })?;
        Ok(Self {
            events: listen(child.stdout.take()),
            child,
            _scratch: scratch,
        })
    }

    /// Wait until it is done or its time is up, telling `mark` of the measured time.
    ///
    /// # Errors
    /// What it failed of; [`LabError::Fatal`] if `interrupted` says so.
    pub fn follow(
        &self,
        task: &Task,
        interrupted: impl Fn() -> bool,
        mut mark: impl FnMut(Mark),
    ) -> Result<Outcome> {
        let failed = |why: String| LabError::workload(&task.spec.label, why);
        // Generous: starving a workload is something schedulers do, and emulated machines are slow.
        let limit = Duration::from_secs_f64(6.0 * (task.warmup + task.seconds) + 120.0);
        let deadline = Instant::now() + limit;
        loop {
            match self.events.recv_timeout(Duration::from_millis(100)) {
                Ok(Event::WindowBegin) => mark(Mark::Begin),
                Ok(Event::WindowEnd) => mark(Mark::End),
                Ok(Event::Done { outcome }) => return Ok(outcome),
                // It is named already.
                Ok(Event::Failed { why }) => return Err(failed(unnamed(&task.spec.name, why))),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(failed("its process ended without a result".to_string()));
                }
                Err(RecvTimeoutError::Timeout) if interrupted() => {
                    return Err(LabError::Fatal("interrupted".to_string()));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    return Err(failed(format!(
                        "was not done after {:.0} s and was ended",
                        limit.as_secs_f64()
                    )));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// An error without the name of the workload it begins with.
fn unnamed(workload: &str, why: String) -> String {
    match why.strip_prefix(&format!("workload `{workload}`: ")) {
        Some(rest) => rest.to_string(),
        None => why,
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A child that reported is about to leave by itself. It is not waited for yet: its id stands for the group.
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline && !sys::has_ended(self.child.id()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        sys::signal_group(self.child.id(), Signal::KILL);
        // If it cannot be reaped, there is nothing more to do about it.
        let _ = self.child.wait();
    }
}

/// Read the child's lines in a thread of their own, so that waiting for them can have a limit.
fn listen(stdout: Option<ChildStdout>) -> Receiver<Event> {
    let (send, receive) = channel();
    if let Some(stdout) = stdout {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(|l| l.ok()) {
                // Lines that are no events come from programs the workload runs.
                if let Ok(event) = serde_json::from_str(&line)
                    && send.send(event).is_err()
                {
                    return;
                }
            }
        });
    }
    receive
}

const PREFIX: &str = "scx_lab.";

/// A folder that lasts as long as a run of many workloads.
///
/// # Errors
/// If it cannot be made.
pub fn shared_folder() -> Result<TempDir> {
    scratch(&std::env::temp_dir())
}

/// A folder for what a workload writes, in which users without privileges find what is theirs. Folders that a killed
/// scx_lab left behind are removed on this occasion.
fn scratch(parent: &Path) -> Result<TempDir> {
    let failed = |e| LabError::file(parent, e);
    for left in std::fs::read_dir(parent).map_err(failed)?.flatten() {
        if is_left_behind(&left.file_name().to_string_lossy()) {
            // Somebody else's stays; so does one that another scx_lab removes just now.
            let _ = std::fs::remove_dir_all(left.path());
        }
    }
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}.", std::process::id()))
        .permissions(std::fs::Permissions::from_mode(0o711))
        .tempdir_in(parent)
        .map_err(failed)
}

/// Whether a folder of this name is of an scx_lab that is no more.
fn is_left_behind(name: &str) -> bool {
    let pid = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split('.').next())
        .and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_dead_are_removed_and_of_the_living_kept() {
        let parent = tempfile::tempdir().expect("made");
        let made = |name: &str| {
            let path = parent.path().join(name);
            std::fs::create_dir(&path).expect("made");
            path
        };
        // No process has the highest id: the kernel gives out lower ones.
        let dead = made("scx_lab.4194304.abc");
        let other = made("scx_lab.other");
        let mine = scratch(parent.path()).expect("made");
        let next = scratch(parent.path()).expect("made");
        assert!(!dead.exists() && other.exists() && mine.path().exists());
        let mode = next.path().metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o711);
    }

    #[test]
    fn a_name_is_not_said_twice() {
        let why = || "workload `nginx`: it failed".to_string();
        assert_eq!(unnamed("nginx", why()), "it failed");
        assert_eq!(unnamed("redis", why()), why());
    }
}
