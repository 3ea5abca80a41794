//! A server of somebody else's, up for as long as a workload asks it things.

use super::tool::{last_lines, tie};
use crate::error::{LabError, Result};
use crate::sys;
use rustix::process::Signal;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long a server may take until it answers. Emulated machines are slow, and so are schedulers that starve it.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A running server. Dropping it stops it.
pub struct Server {
    child: Child,
    /// The signal at which it goes at once and in good order.
    stop: Signal,
}

impl Server {
    /// Start `command` in `dir`, where its log goes, too, and wait until it is `ready`.
    ///
    /// # Errors
    /// If it does not start, ends, or is not ready in time: with the end of its log.
    pub fn start(
        mut command: Command,
        workload: &str,
        dir: &Path,
        stop: Signal,
        ready: impl Fn() -> bool,
    ) -> Result<Self> {
        let log = dir.join("server.log");
        let out = File::create(&log).map_err(|e| LabError::file(&log, e))?;
        let err = out.try_clone().map_err(|e| LabError::file(&log, e))?;
        let name = command.get_program().to_string_lossy().into_owned();
        // Killed, a server could not end the processes it has started.
        tie(&mut command, stop)
            .current_dir(dir)
            .stdout(out)
            .stderr(err);
        let child = command
            .spawn()
            .map_err(|e| LabError::workload(workload, format!("{name} did not start: {e}")))?;
        let mut server = Self { child, stop };
        let failed = |why: String| {
            let log = std::fs::read(&log).unwrap_or_default();
            let words = last_lines(&String::from_utf8_lossy(&log));
            LabError::workload(workload, format!("{name} {why}; its last words:\n{words}"))
        };
        let deadline = Instant::now() + READY_WITHIN;
        while !ready() {
            if let Some(status) = server.exited() {
                return Err(failed(format!("ended before it answered ({status})")));
            }
            if Instant::now() > deadline {
                return Err(failed(format!(
                    "did not answer within {} s",
                    READY_WITHIN.as_secs()
                )));
            }
            std::thread::sleep(POLL);
        }
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for signal in [self.stop, Signal::KILL] {
            if self.exited().is_some() {
                return;
            }
            sys::signal(self.child.id(), signal);
            let deadline = Instant::now() + STOPPED_WITHIN;
            while self.exited().is_none() && Instant::now() < deadline {
                std::thread::sleep(POLL);
            }
        }
    }
}

/// A TCP port on the loopback that nobody uses now.
///
/// # Errors
/// If there is none, or no loopback.
pub fn free_port() -> Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .map_err(|e| LabError::os("binding a port of 127.0.0.1", e))
}

/// Where a server with this port answers.
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Whether something accepts connections on the port.
pub fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(&local(port), Duration::from_secs(1)).is_ok()
}

/// A new folder for a server's files, in which users without privileges find what is theirs; removed when dropped.
///
/// # Errors
/// If it cannot be made.
pub fn folder() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |e| LabError::file(std::env::temp_dir(), e);
    let dir = tempfile::tempdir().map_err(failed)?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    Ok(dir)
}

/// Make a folder for a server's files.
///
/// # Errors
/// If it cannot be made.
pub fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir(path).map_err(|e| LabError::file(path, e))
}

/// Write a file of a server's.
///
/// # Errors
/// If it cannot be written.
pub fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
    let path = dir.join(name);
    std::fs::write(&path, text).map_err(|e| LabError::file(&path, e))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_waited_for_and_stopped() {
        let dir = folder().expect("made");
        let sign = dir.path().join("ready");
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.1; touch ready; exec sleep 60"]);
        let server = Server::start(command, "w", dir.path(), Signal::TERM, || sign.exists())
            .expect("comes up");
        let pid = server.pid();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn one_that_ends_is_quoted() {
        let dir = folder().expect("made");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck; exit 1"]);
        let err = Server::start(command, "w", dir.path(), Signal::TERM, || false)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(
            err.contains("ended before it answered") && err.contains("no such luck"),
            "{err}"
        );
    }

    #[test]
    fn a_free_port_can_be_bound_and_answers_then() {
        let port = free_port().expect("loopback");
        assert!(!answers(port));
        let listener = TcpListener::bind(local(port)).expect("free");
        assert!(answers(port));
        drop(listener);
    }
}
