//! Starting, watching and ending `scx_ml` from a test.

use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use scx_ml::kernel::fault::{FAULT_VARIABLE, Fault};
use scx_ml::watch::ask::{Connection, SOCKET};
use scx_ml::watch::queues::{QUEUES_TARGET, Queues};
use scx_ml::watch::stats::Metrics;
use scx_stats::prelude::StatsClient;
use serde::de::DeserializeOwned;

pub const SCX_ML: &str = env!("CARGO_BIN_EXE_scx_ml");

/// scx_ml, as a user without rights would run it; a copy, for the checkout may lie in a home that only its owner may enter.
pub fn without_rights() -> Command {
    static COPY: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = COPY.get_or_init(|| {
        let dir = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .expect("a folder");
        std::fs::copy(SCX_ML, dir.path().join("scx_ml")).expect("a copy");
        dir
    });
    let mut command = Command::new(dir.path().join("scx_ml"));
    command.uid(65534).gid(65534);
    command
}

/// Loading takes a few seconds on an emulated machine, more than a minute when its host is busy.
pub const START_TIMEOUT: Duration = Duration::from_secs(240);
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// A running `scx_ml`. Killed when dropped, so that a failed test leaves the kernel's own scheduler.
pub struct Running {
    child: Child,
    client: Option<StatsClient>,
    log: tempfile::NamedTempFile,
}

/// How it ended, and everything it logged.
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
}

impl Running {
    /// Start with these arguments and wait until it schedules.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, |_| ())
    }

    /// The same, where something fails on purpose.
    pub fn start_with_fault(args: &[&str], fault: Fault) -> Self {
        Self::start_with(args, |command| {
            command.env(FAULT_VARIABLE, fault.name());
        })
    }

    /// The same, with a change to the command.
    pub fn start_with(args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        assert_eq!(state(), "disabled", "another scheduler is loaded");
        let log = tempfile::NamedTempFile::new().expect("a file for the log");
        // One place to write at for both, or one would overwrite what the other has written.
        let out = log.reopen().expect("reopened");
        let mut command = Command::new(SCX_ML);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a descriptor"))
            .stderr(out);
        change(&mut command);
        let child = command.spawn().expect("scx_ml starts");
        let mut running = Self {
            child,
            client: None,
            log,
        };
        let ready = wait_for(START_TIMEOUT, || {
            running.has_ended() || running.log().contains("scheduling, mode")
        });
        assert!(
            ready && !running.has_ended(),
            "scx_ml did not get to schedule:\n{}",
            running.log()
        );
        assert_eq!(state(), "enabled");
        running
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).expect("the log can be read")
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waited").is_some()
    }

    /// What the stats server says: counters since the last call (the first call covers next to nothing).
    pub fn stats(&mut self) -> Metrics {
        let client = self
            .client
            .take()
            .unwrap_or_else(|| StatsClient::new().connect(None).expect("the stats socket"));
        let client = self.client.insert(client);
        client
            .request::<Metrics>("stats", vec![])
            .expect("statistics")
    }

    /// Ask the stats server about something else; the error's text if it refuses.
    pub fn ask<T: DeserializeOwned>(
        &self,
        target: &str,
        args: &[(&str, &str)],
    ) -> Result<T, String> {
        let mut connection =
            Connection::open(Path::new(SOCKET), "test").map_err(|e| e.to_string())?;
        connection.ask(target, args).map_err(|e| e.to_string())
    }

    /// The machine as it knows it, and what it counts as waiting.
    pub fn queues(&self) -> Queues {
        self.ask(QUEUES_TARGET, &[]).expect("the queues")
    }

    /// Without a load, nothing waits: every one of the counts of waiting tasks comes out at 0, whatever was before. On one CPU,
    /// whoever asked may wait for it while the scheduler reads them to answer.
    pub fn assert_nothing_is_counted(&self) {
        let asks = u32::from(nr_cpus() == 1);
        let mut last = self.queues();
        let none = wait_for(Duration::from_secs(20), || {
            last = self.queues();
            last.waiting() <= asks.into()
                && last.cpus.iter().all(|cpu| cpu.fresh <= asks)
                && last
                    .llcs
                    .iter()
                    .all(|llc| llc.weight_q10 <= (asks << 10).into())
        });
        assert!(none, "tasks are counted that do not wait: {last:#?}");
    }

    /// Forget the connection: a restarted scheduler has a new stats server.
    pub fn reconnect(&mut self) {
        self.client = None;
    }

    /// Ask for statistics twice a second until they satisfy `enough`.
    pub fn stats_until(&mut self, timeout: Duration, enough: impl Fn(&Metrics) -> bool) -> Metrics {
        let mut last = self.stats();
        let found = wait_for(timeout, || {
            std::thread::sleep(Duration::from_millis(500));
            last = self.stats();
            enough(&last)
        });
        assert!(found, "not within {timeout:?}: {last:#?}\n{}", self.log());
        last
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("sent");
    }

    /// Wait for the end, however it comes.
    pub fn wait(self) -> Ended {
        self.wait_for(END_TIMEOUT)
    }

    /// The same, where it may take so long to come to it.
    pub fn wait_for(mut self, timeout: Duration) -> Ended {
        assert!(
            wait_for(timeout, || self.has_ended()),
            "scx_ml does not end:\n{}",
            self.log()
        );
        let status = self.child.wait().expect("it has ended");
        Ended {
            status,
            log: self.log(),
        }
    }

    /// End it with Ctrl-C: it must still be the scheduler, and exit with 0.
    pub fn stop(self) -> String {
        assert_eq!(state(), "enabled", "ejected:\n{}", self.log());
        self.signal(Signal::INT);
        let ended = self.wait();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
        assert!(
            wait_for(END_TIMEOUT, || state() == "disabled"),
            "still {}",
            state()
        );
        ended.log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Why it was ejected, if it was, stands at the end.
        if std::thread::panicking() {
            eprintln!("its log:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        wait_for(END_TIMEOUT, || state() == "disabled");
    }
}

/// Run `scx_ml` to its end: exit code, standard output, standard error.
pub fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the command starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// The kernel's word on sched_ext: "disabled", "enabled", …
pub fn state() -> String {
    let mut text = String::new();
    std::fs::File::open(Path::new("/sys/kernel/sched_ext/state"))
        .expect("a kernel with sched_ext: run these tests through vng/test")
        .read_to_string(&mut text)
        .expect("read");
    text.trim().to_string()
}

/// Poll until `done` or the timeout; whether it was done.
pub fn wait_for(timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub fn nr_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}
