//! The real executor: a scheduler, a workload in a process of its own, and the meter around its measured time.
//!
//! The workload runs in a child process (`scx_lab run --as-cell`) for three reasons: its threads are new to the
//! scheduler in each cell, it can be ended when it hangs under a bad scheduler, and its memory dies with it. It tells on
//! its standard output, one JSON object a line, when the measured time begins and ends, and in the end what it measured.

use crate::bench::{Executor, Interrupt};
use crate::calibration::Calibration;
use crate::cost::{Cost, Meter, Reading};
use crate::error::{LabError, Result};
use crate::metric::Outcome;
use crate::plan::Cell;
use crate::results::{CellRecord, Folder, Status};
use crate::scheduler::Running;
use crate::settings::{Experiment, WorkloadSpec};
use crate::workload::{Context, Window};
use crate::{kernel, provenance, sys, workload};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

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
}

fn say(event: &Event) {
    if let Ok(line) = serde_json::to_string(event) {
        let mut out = std::io::stdout().lock();
        // If the parent is gone there is nobody to tell.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

struct TellParent;

impl Window for TellParent {
    fn begin(&self) {
        say(&Event::WindowBegin);
    }
    fn end(&self) {
        say(&Event::WindowEnd);
    }
}

/// Run a task in this process, with nobody but `window` told.
///
/// # Errors
/// If the workload cannot be built or fails.
pub fn perform(task: &Task, window: &dyn Window) -> Result<Outcome> {
    let context = Context {
        seconds: task.seconds,
        warmup: task.warmup,
        seed: task.seed,
        cpus: sys::allowed_cpus().len(),
        calibration: task.calibration,
        window,
    };
    let mut outcome = workload::build(&task.spec)?.run(&context)?;
    // JSON has no NaN; a metric without a value (a class that had no request) is left out.
    outcome.metrics.retain(|m| m.value.is_finite());
    Ok(outcome)
}

/// The child's side: perform and report. Returns whether it went well.
pub fn perform_as_child(task: &Task) -> bool {
    match perform(task, &TellParent) {
        Ok(outcome) => {
            say(&Event::Done { outcome });
            true
        }
        Err(e) => {
            say(&Event::Failed { why: e.to_string() });
            false
        }
    }
}

/// Runs cells for real.
pub struct RealExecutor {
    experiment: Experiment,
    folder: Folder,
    meter: Meter,
    calibration: Calibration,
    interrupt: Interrupt,
}

/// Time for things to calm down after a scheduler took over.
const SETTLE: Duration = Duration::from_millis(500);

impl RealExecutor {
    pub fn new(
        experiment: Experiment,
        folder: Folder,
        meter: Meter,
        calibration: Calibration,
        interrupt: Interrupt,
    ) -> Self {
        Self {
            experiment,
            folder,
            meter,
            calibration,
            interrupt,
        }
    }

    fn task(&self, cell: &Cell) -> Result<Task> {
        let spec = self
            .experiment
            .workloads
            .iter()
            .find(|w| w.label == cell.workload);
        let spec = spec.ok_or_else(|| {
            LabError::Fatal(format!("no workload `{}` in the experiment", cell.workload))
        })?;
        Ok(Task {
            spec: spec.clone(),
            seconds: spec.seconds.unwrap_or(self.experiment.seconds),
            warmup: self.experiment.warmup,
            seed: cell.seed,
            calibration: self.calibration,
        })
    }

    fn measure(&mut self, cell: &Cell) -> Result<(Option<String>, Outcome, Cost)> {
        let spec = self
            .experiment
            .schedulers
            .iter()
            .find(|s| s.label == cell.scheduler);
        let spec = spec.ok_or_else(|| {
            LabError::Fatal(format!(
                "no scheduler `{}` in the experiment",
                cell.scheduler
            ))
        })?;
        let task = self.task(cell)?;
        self.meter.before_scheduler();
        let mut scheduler = Running::start(spec, &self.folder.log(cell))?;
        std::thread::sleep(SETTLE);
        let result = self.run_workload(&task, scheduler.pid());
        // The scheduler first: if it was ejected, the workload's numbers, or its failure, are of no interest.
        let verified = scheduler.verify();
        let ops = scheduler.ops().map(str::to_string);
        let stopped = scheduler.stop();
        verified?;
        stopped?;
        let (outcome, cost) = result?;
        Ok((ops, outcome, cost))
    }

    fn run_workload(&self, task: &Task, scheduler: Option<u32>) -> Result<(Outcome, Cost)> {
        let name = &task.spec.label;
        let failed = |why: String| LabError::workload(name, why);
        let argument = serde_json::to_string(task).map_err(|e| failed(e.to_string()))?;
        // This very program, even if its file was replaced by a newer build meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("scx_lab")
            .args(["run", "--as-cell", &argument])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // A group of its own, so that Ctrl-C does not reach it and all of it can be ended.
        command.process_group(0);
        sys::dies_with_parent(&mut command, Signal::KILL);
        let mut child = command.spawn().map_err(|source| LabError::Os {
            call: "starting the workload".into(),
            source,
        })?;
        let events = listen(child.stdout.take());
        let result = self.follow(task, scheduler, &events);
        end_group(&mut child);
        result
    }

    /// Take readings as the child tells, until it is done or its time is up.
    fn follow(
        &self,
        task: &Task,
        scheduler: Option<u32>,
        events: &Receiver<Event>,
    ) -> Result<(Outcome, Cost)> {
        let failed = |why: String| LabError::workload(&task.spec.label, why);
        // Generous: starving a workload is something schedulers do, and emulated machines are slow.
        let limit = Duration::from_secs_f64(6.0 * (task.warmup + task.seconds) + 60.0);
        let deadline = Instant::now() + limit;
        let mut before: Reading = self.meter.read(scheduler);
        let mut after: Option<Reading> = None;
        loop {
            match events.recv_timeout(Duration::from_millis(100)) {
                Ok(Event::WindowBegin) => before = self.meter.read(scheduler),
                Ok(Event::WindowEnd) => after = Some(self.meter.read(scheduler)),
                Ok(Event::Done { outcome }) => {
                    let after = after.unwrap_or_else(|| self.meter.read(scheduler));
                    return Ok((
                        outcome,
                        self.meter.cost(&before, &after, sys::allowed_cpus().len()),
                    ));
                }
                Ok(Event::Failed { why }) => return Err(failed(why)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(failed("its process ended without a result".to_string()));
                }
                Err(RecvTimeoutError::Timeout) if self.interrupt.now() => {
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

/// End the child and whatever it started.
fn end_group(child: &mut Child) {
    // A child that reported is about to leave by itself.
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline && !matches!(child.try_wait(), Ok(Some(_))) {
        std::thread::sleep(Duration::from_millis(10));
    }
    if !matches!(child.try_wait(), Ok(Some(_))) {
        sys::signal_group(child.id(), Signal::KILL);
        // Reaped here; if it cannot be, there is nothing more to do about it.
        let _ = child.wait();
    }
}

impl Executor for RealExecutor {
    fn run(&mut self, cell: &Cell) -> Result<CellRecord> {
        let (started, start) = (provenance::now(), Instant::now());
        let result = self.measure(cell);
        let mut record = CellRecord {
            cell: cell.clone(),
            status: Status::Ok,
            started,
            took: start.elapsed().as_secs_f64(),
            boot_id: kernel::boot_id(),
            ops: None,
            outcome: Outcome::default(),
            cost: None,
        };
        match result {
            Ok((ops, outcome, cost)) => {
                (record.ops, record.outcome, record.cost) = (ops, outcome, Some(cost))
            }
            Err(e @ LabError::Fatal(_)) => return Err(e),
            Err(e) => record.status = Status::Failed { why: e.to_string() },
        }
        Ok(record)
    }

    fn boot_id(&self) -> String {
        kernel::boot_id()
    }
}
