//! Starting, watching and stopping the scheduler under test.

use crate::error::{LabError, Result};
use crate::kernel::{SchedExt, ops_matches};
use crate::settings::SchedulerSpec;
use crate::sys;
use rustix::process::Signal;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long loading may take. Emulated machines verify BPF programs slowly; scx_lavd's take them minutes, and more where
/// several emulated CPUs share few real ones. Who fails to load ends, and is not waited for.
const START_TIMEOUT: Duration = Duration::from_secs(900);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// A scheduler that is in charge of the machine. Dropping it stops it.
pub struct Running {
    label: String,
    sched_ext: SchedExt,
    /// None for the kernel's own.
    process: Option<Process>,
}

struct Process {
    child: Child,
    ops: String,
    enable_seq: Option<u64>,
    log: PathBuf,
}

impl Running {
    /// Put `spec` in charge and make sure that it is. Its output goes to `log`. Waiting ends when `stop` says so.
    ///
    /// # Errors
    /// [`LabError::Fatal`] if another scheduler is loaded or it was stopped; [`LabError::Scheduler`] if it does not load.
    pub fn start(spec: &SchedulerSpec, log: &Path, stop: impl Fn() -> bool) -> Result<Self> {
        let sched_ext = SchedExt::system();
        if sched_ext.is_enabled() {
            return Err(LabError::Fatal(format!(
                "a sched_ext scheduler is already loaded ({}, state {}); stop it first",
                sched_ext.ops().unwrap_or_else(|| "unnamed".to_string()),
                sched_ext.state()
            )));
        }
        if spec.is_kernel() {
            return Ok(Self {
                label: spec.label.clone(),
                sched_ext,
                process: None,
            });
        }
        check(spec)?;
        let argv = spec.argv()?;
        let failed = |why: String| LabError::Scheduler {
            scheduler: spec.label.clone(),
            why,
        };
        let seq_before = sched_ext.enable_seq();
        let program = sys::find_program(&argv[0]).ok_or_else(|| missing(spec, &argv[0]))?;
        let out = File::create(log).map_err(|e| LabError::file(log, e))?;
        let err = out.try_clone().map_err(|e| LabError::file(log, e))?;
        let mut command = Command::new(program);
        command
            .args(&argv[1..])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        // Its own process group: Ctrl-C in the terminal is for the lab, which stops the scheduler in its own time.
        command.process_group(0);
        sys::dies_with_parent(&mut command, Signal::INT);
        let child = command
            .spawn()
            .map_err(|e| failed(format!("did not start: {e}")))?;
        let process = Process {
            child,
            ops: String::new(),
            enable_seq: None,
            log: log.to_path_buf(),
        };
        let mut running = Self {
            label: spec.label.clone(),
            sched_ext,
            process: Some(process),
        };
        running.wait_enabled(spec, &argv[0], seq_before, stop)?;
        Ok(running)
    }

    fn wait_enabled(
        &mut self,
        spec: &SchedulerSpec,
        program: &str,
        seq_before: Option<u64>,
        stop: impl Fn() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.exited() {
                return Err(self.failure(&format!("ended before it was loaded ({status})")));
            }
            if self.sched_ext.state() == "enabled"
                && let Some(ops) = self.sched_ext.ops()
            {
                let expected = match &spec.ops {
                    Some(prefix) => ops.starts_with(prefix.as_str()),
                    None => ops_matches(&ops, program),
                };
                let seq = self.sched_ext.enable_seq();
                if seq.is_some() && seq == seq_before && Instant::now() < deadline {
                    // The kernel counts just after it shows the state.
                    std::thread::sleep(POLL);
                    continue;
                }
                // Enabled once since we looked, or it was not (only) ours.
                let once = seq
                    .zip(seq_before)
                    .is_none_or(|(now, before)| now == before + 1);
                if !expected || !once {
                    return Err(self.failure(&format!(
                        "the loaded scheduler calls itself `{ops}`{}; if that is the right one, give its name as `ops` \
                         in a configuration file",
                        if once { "" } else { ", and more than one was loaded meanwhile" }
                    )));
                }
                if let Some(p) = &mut self.process {
                    (p.ops, p.enable_seq) = (ops, seq);
                }
                return Ok(());
            }
            if stop() {
                return Err(LabError::Fatal("interrupted".to_string()));
            }
            if Instant::now() > deadline {
                return Err(self.failure(&format!(
                    "was not loaded within {} s",
                    START_TIMEOUT.as_secs()
                )));
            }
            std::thread::sleep(POLL);
        }
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.process
            .as_mut()
            .and_then(|p| p.child.try_wait().ok().flatten())
    }

    /// An error with the end of the scheduler's output.
    fn failure(&self, why: &str) -> LabError {
        let tail = self
            .process
            .as_ref()
            .map(|p| tail(&p.log))
            .unwrap_or_default();
        let why = if tail.is_empty() {
            why.to_string()
        } else {
            format!("{why}; its last words:\n{tail}")
        };
        LabError::Scheduler {
            scheduler: self.label.clone(),
            why,
        }
    }

    /// The scheduler's process, if it has one.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|p| p.child.id())
    }

    /// The name the kernel has for it.
    pub fn ops(&self) -> Option<&str> {
        self.process.as_ref().map(|p| p.ops.as_str())
    }

    /// Make sure that it is still in charge, and was all the time.
    ///
    /// # Errors
    /// If it was ejected, restarted or replaced.
    pub fn verify(&mut self) -> Result<()> {
        let state = self.sched_ext.state();
        let Some(p) = &self.process else {
            return if state == "disabled" {
                Ok(())
            } else {
                Err(LabError::Fatal(format!(
                    "a sched_ext scheduler ({}) was loaded while the kernel's own was measured",
                    self.sched_ext
                        .ops()
                        .unwrap_or_else(|| "unnamed".to_string())
                )))
            };
        };
        if state != "enabled" {
            return Err(self.failure(&format!("was ejected or left (state {state})")));
        }
        if self.sched_ext.ops().as_deref() != Some(p.ops.as_str())
            || self.sched_ext.enable_seq() != p.enable_seq
        {
            return Err(self.failure("was reloaded or replaced during the measurement"));
        }
        if let Some(status) = self.exited() {
            return Err(self.failure(&format!(
                "its process ended during the measurement ({status})"
            )));
        }
        Ok(())
    }

    /// Give the machine back to the kernel's own scheduler.
    ///
    /// # Errors
    /// [`LabError::Fatal`] if sched_ext does not become disabled.
    pub fn stop(mut self) -> Result<()> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<()> {
        let Some(mut p) = self.process.take() else {
            return Ok(());
        };
        for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
            if matches!(p.child.try_wait(), Ok(Some(_))) {
                break;
            }
            sys::signal(p.child.id(), signal);
            let deadline = Instant::now() + STOP_TIMEOUT;
            while Instant::now() < deadline && !matches!(p.child.try_wait(), Ok(Some(_))) {
                std::thread::sleep(POLL);
            }
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.sched_ext.is_enabled() {
            if Instant::now() > deadline {
                return Err(LabError::Fatal(format!(
                    "`{}` was stopped, but sched_ext is still {} ({})",
                    self.label,
                    self.sched_ext.state(),
                    self.sched_ext.ops().unwrap_or_default()
                )));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // On the way out of an error: the first one is what the caller hears of.
        let _ = self.shut_down();
    }
}

/// Whether `spec` could be started at all, before anything runs.
///
/// # Errors
/// If its program is missing or the kernel has no sched_ext.
pub fn check(spec: &SchedulerSpec) -> Result<()> {
    if spec.is_kernel() {
        return Ok(());
    }
    let argv = spec.argv()?;
    if sys::find_program(&argv[0]).is_none() {
        return Err(missing(spec, &argv[0]));
    }
    if !SchedExt::system().is_supported() {
        return Err(LabError::Unsupported {
            what: format!("scheduler `{}`", spec.label),
            why: "this kernel has no sched_ext (CONFIG_SCHED_CLASS_EXT); use one that has, for instance in a VM"
                .to_string(),
        });
    }
    Ok(())
}

fn missing(spec: &SchedulerSpec, program: &str) -> LabError {
    LabError::MissingProgram {
        program: program.to_string(),
        needed_by: format!("scheduler `{}`", spec.label),
        hint: format!(
            "install it, for instance by `cargo install {program}`, or write `eevdf` for the kernel's own"
        ),
    }
}

/// Schedulers found on the PATH and beside this program: names that begin with `scx_`.
pub fn installed() -> Vec<String> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|p| p.parent().map(Path::to_path_buf));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut names: Vec<String> = beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        // Tools of the family that schedule nothing.
        .filter(|n| {
            n.starts_with("scx_") && !["scx_lab", "scx_sim", "scx_loader"].contains(&n.as_str())
        })
        .filter(|n| !n.contains('.') && !n.contains('-') && sys::find_program(n).is_some())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log)
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_scheduler_is_a_clear_error_before_anything_runs() {
        let err = check(&SchedulerSpec::from_command("scx_nonsuch --fast")).expect_err("must fail");
        assert!(err.is_usage());
        assert!(
            err.to_string().starts_with("`scx_nonsuch` was not found"),
            "{err}"
        );
    }

    #[test]
    fn the_kernels_own_needs_nothing() {
        assert!(check(&SchedulerSpec::from_command("eevdf")).is_ok());
    }

    #[test]
    fn only_the_end_of_a_log_is_quoted() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = dir.path().join("log");
        std::fs::write(
            &log,
            (0..100).map(|i| format!("line {i}\n")).collect::<String>(),
        )
        .expect("write");
        let t = tail(&log);
        assert!(t.starts_with("line 88") && t.ends_with("line 99"));
    }
}
