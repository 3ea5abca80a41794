//! What loads the machine beside a workload: processes that have nothing to do with it.

use super::tool::{Tool, tie};
use crate::error::{LabError, Result};
use crate::workload::c_source;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const SHELL: Tool = Tool::new("sh", "dash");
const COMPILER: Tool = Tool::new("cc", "gcc");
const HACKBENCH: Tool = Tool::new("hackbench", "rt-tests");

/// Functions in each file of the build: a compiler runs for some hundred milliseconds.
const FUNCTIONS: usize = 20;
/// Senders, and as many receivers, in a group of pipes.
const PAIRS: &str = "4";

/// The company a workload can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Beside {
    #[default]
    None,
    /// A process for each CPU that only computes.
    Hogs,
    /// A compiler for each CPU, one file after the other.
    Build,
    /// For every two CPUs a group of threads that pass messages through pipes.
    Pipes,
}

impl Beside {
    /// That what it takes is installed.
    ///
    /// # Errors
    /// If something is not, with its package.
    pub fn check(self, workload: &str) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Hogs => SHELL.check(workload),
            Self::Build => SHELL
                .check(workload)
                .and_then(|()| COMPILER.check(workload)),
            Self::Pipes => HACKBENCH.check(workload),
        }
    }
}

/// Company that is there. Dropping it sends it away.
pub struct Company {
    members: Vec<Child>,
    workload: &'static str,
    /// What the build compiles.
    _files: Option<TempDir>,
}

impl Company {
    /// Start it.
    ///
    /// # Errors
    /// If a part of it does not start.
    pub fn start(beside: Beside, cpus: usize, workload: &'static str) -> Result<Self> {
        let mut company = Self {
            members: Vec::new(),
            workload,
            _files: None,
        };
        match beside {
            Beside::None => {}
            Beside::Hogs => {
                for _ in 0..cpus {
                    let mut hog = SHELL.command(workload)?;
                    company.join(hog.args(["-c", "while :; do :; done"]))?;
                }
            }
            Beside::Build => {
                let dir = super::server::folder()?;
                for i in 0..cpus {
                    let name = format!("unit{i}.c");
                    super::server::write(dir.path(), &name, c_source::source(FUNCTIONS, i as u64))?;
                    let mut job = SHELL.command(workload)?;
                    let forever = format!("while cc -O2 -c -o unit{i}.o {name}; do :; done");
                    company.join(job.args(["-c", &forever]).current_dir(dir.path()))?;
                }
                company._files = Some(dir);
            }
            Beside::Pipes => {
                let mut pipes = HACKBENCH.command(workload)?;
                let groups = cpus.div_ceil(2).to_string();
                // So many messages that it does not end by itself.
                pipes.args(["-p", "-T", "-f", PAIRS, "-g", &groups, "-l", "1000000000"]);
                company.join(&mut pipes)?;
            }
        }
        Ok(company)
    }

    fn join(&mut self, command: &mut Command) -> Result<()> {
        let child = tie(command, Signal::KILL)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| {
                LabError::workload(self.workload, format!("its company did not start: {e}"))
            })?;
        self.members.push(child);
        Ok(())
    }

    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Child::id).collect()
    }

    /// That all of it is still there: what was measured in less company is something else.
    ///
    /// # Errors
    /// If a part of it has ended.
    pub fn verify(&mut self) -> Result<()> {
        for member in &mut self.members {
            if let Ok(Some(status)) = member.try_wait() {
                return Err(LabError::workload(
                    self.workload,
                    format!("a part of its company ended during the measurement ({status})"),
                ));
            }
        }
        Ok(())
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Both fail only if it has gone already. A compiler it was waiting for ends by itself.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hogs_come_one_a_cpu_and_go() {
        let mut company = Company::start(Beside::Hogs, 2, "w").expect("starts");
        let pids = company.pids();
        assert_eq!(pids.len(), 2);
        company.verify().expect("all there");
        drop(company);
        assert!(
            pids.iter()
                .all(|p| !std::path::Path::new(&format!("/proc/{p}")).exists())
        );
    }

    #[test]
    fn company_that_left_is_noticed() {
        let mut company = Company::start(Beside::Hogs, 1, "w").expect("starts");
        crate::sys::signal(company.pids()[0], Signal::TERM);
        while company.verify().is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let err = company.verify().expect_err("gone").to_string();
        assert!(err.contains("ended during the measurement"), "{err}");
    }
}
