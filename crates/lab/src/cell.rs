//! The real executor: a scheduler, a workload in a process of its own, and the meter around its measured time.

use crate::bench::{Executor, Interrupt};
use crate::calibration::Calibration;
use crate::child::{self, Mark, Task, TellParent};
use crate::cost::{Cost, Meter, Reading};
use crate::error::{LabError, Result};
use crate::metric::Outcome;
use crate::plan::Cell;
use crate::results::{CellRecord, Folder, Status};
use crate::scheduler::Running;
use crate::settings::Experiment;
use crate::workload::{Context, Window};
use crate::{kernel, provenance, sys, workload};
use std::time::{Duration, Instant};
use tempfile::TempDir;

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
        shared: task.shared.as_deref(),
        window,
    };
    let mut outcome = workload::build(&task.spec)?.run(&context)?;
    // JSON has no NaN; a metric without a value (a class that had no request) is left out.
    outcome.metrics.retain(|m| m.value.is_finite());
    Ok(outcome)
}

/// The child's side: perform and report. Returns whether it went well.
pub fn perform_as_child(task: &Task) -> bool {
    TellParent.conclude(perform(task, &TellParent))
}

/// Run a task in a process of its own, without a meter, until it is done or `interrupt` says to stop.
///
/// # Errors
/// If it cannot be started or fails, or [`LabError::Fatal`] if it was interrupted.
pub fn perform_apart(task: &Task, interrupt: &Interrupt) -> Result<Outcome> {
    child::Running::start(task)?.follow(task, || interrupt.soon(), |_| {})
}

/// Runs cells for real.
pub struct RealExecutor {
    experiment: Experiment,
    folder: Folder,
    meter: Meter,
    calibration: Calibration,
    interrupt: Interrupt,
    shared: TempDir,
}

/// Time for things to calm down after a scheduler took over.
const SETTLE: Duration = Duration::from_millis(500);

impl RealExecutor {
    /// # Errors
    /// If there is no room for files that last as long as the run.
    pub fn new(
        experiment: Experiment,
        folder: Folder,
        meter: Meter,
        calibration: Calibration,
        interrupt: Interrupt,
    ) -> Result<Self> {
        Ok(Self {
            experiment,
            folder,
            meter,
            calibration,
            interrupt,
            shared: child::shared_folder()?,
        })
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
            shared: Some(self.shared.path().to_path_buf()),
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
        let start = Instant::now();
        let log = self.folder.log(cell);
        let mut scheduler = Running::start(spec, &log, || self.interrupt.now())?;
        let load_s = scheduler.pid().map(|_| start.elapsed().as_secs_f64());
        std::thread::sleep(SETTLE);
        let result = self.run_workload(&task, scheduler.pid());
        // The scheduler first: if it was ejected, the workload's numbers, or its failure, are of no interest.
        let verified = scheduler.verify();
        let ops = scheduler.ops().map(str::to_string);
        let stopped = scheduler.stop();
        verified?;
        stopped?;
        let (outcome, cost) = result?;
        Ok((ops, outcome, Cost { load_s, ..cost }))
    }

    /// Run the task, with readings taken as its measured time begins and ends.
    fn run_workload(&self, task: &Task, scheduler: Option<u32>) -> Result<(Outcome, Cost)> {
        let child = child::Running::start(task)?;
        let mut before: Reading = self.meter.read(scheduler);
        let mut after: Option<Reading> = None;
        let outcome = child.follow(
            task,
            || self.interrupt.now(),
            |mark| {
                let reading = self.meter.read(scheduler);
                match mark {
                    Mark::Begin => before = reading,
                    Mark::End => after = Some(reading),
                }
            },
        )?;
        let after = after.unwrap_or_else(|| self.meter.read(scheduler));
        let cost = self.meter.cost(&before, &after, sys::allowed_cpus().len());
        Ok((outcome, cost))
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
