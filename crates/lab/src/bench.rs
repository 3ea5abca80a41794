//! Running an experiment: cell after cell, saved after each, resumable.

use crate::error::{LabError, Result};
use crate::plan::{Cell, plan};
use crate::results::{CellRecord, Folder, Status};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs one cell. The real one starts a scheduler and a workload; tests have others.
pub trait Executor {
    /// Run `cell` and say how it went. A workload or scheduler that fails is a record with that status.
    ///
    /// # Errors
    /// Only if nothing further should be run.
    fn run(&mut self, cell: &Cell) -> Result<CellRecord>;

    /// The boot that cells run in now.
    fn boot_id(&self) -> String;
}

/// Told how far the run is.
pub trait Progress {
    /// `cell` begins; `left` cells are to be run, this one included, out of `total` planned.
    fn begin(&mut self, cell: &Cell, left: usize, total: usize);
    fn end(&mut self, record: &CellRecord);
}

/// Requests to stop: one means after the current cell, two at once.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicU32>);

impl Interrupt {
    pub fn request(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
    pub fn soon(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= 1
    }
    pub fn now(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= 2
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// All cells were run; so many failed.
    Complete { failed: usize },
    /// Asked to stop; so many cells are left.
    Interrupted { left: usize },
    /// The machine was no longer to be trusted.
    Stopped { why: String, left: usize },
}

/// Which planned cells are still to be run, given those saved.
///
/// Failed cells are run again. So are all schedulers under a workload that was begun in another boot and not finished in
/// that block: these are what is compared with each other, and only what was measured in one boot can be compared. Records
/// that the plan does not know make it an error to continue.
pub fn remaining(planned: &[Cell], saved: &[CellRecord], boot_id: &str) -> Result<Vec<Cell>> {
    let by_index: HashMap<usize, &CellRecord> = saved.iter().map(|r| (r.cell.index, r)).collect();
    for r in saved {
        if planned.get(r.cell.index) != Some(&r.cell) {
            return Err(LabError::Fatal(format!(
                "cell {} was saved by another version or experiment; start anew with another --out",
                r.cell.index
            )));
        }
    }
    let done = |c: &Cell| by_index.get(&c.index).is_some_and(|r| r.is_ok());
    let unfinished: HashSet<(u32, &str)> = planned
        .iter()
        .filter(|c| !done(c))
        .map(compared_with)
        .collect();
    let foreign: HashSet<(u32, &str)> = saved
        .iter()
        .filter(|r| r.boot_id != boot_id)
        .map(|r| compared_with(&r.cell))
        .filter(|pair| unfinished.contains(pair))
        .collect();
    Ok(planned
        .iter()
        .filter(|c| !done(c) || foreign.contains(&compared_with(c)))
        .cloned()
        .collect())
}

/// What the cells have in common that are compared with each other: block and workload.
fn compared_with(cell: &Cell) -> (u32, &str) {
    (cell.block, &cell.workload)
}

/// Run what is left of the experiment in `folder`. With `keep_going` a failed cell does not end the run.
///
/// # Errors
/// If results cannot be saved or read.
pub fn run(
    folder: &Folder,
    executor: &mut dyn Executor,
    progress: &mut dyn Progress,
    interrupt: &Interrupt,
    keep_going: bool,
) -> Result<Ending> {
    let experiment = folder.experiment()?;
    let planned = plan(&experiment);
    let todo = remaining(&planned, &folder.cells()?, &executor.boot_id())?;
    let mut failed = 0;
    for (i, cell) in todo.iter().enumerate() {
        let left = todo.len() - i;
        if interrupt.soon() {
            return Ok(Ending::Interrupted { left });
        }
        progress.begin(cell, left, planned.len());
        let record = match executor.run(cell) {
            Ok(record) => record,
            Err(_) if interrupt.now() => return Ok(Ending::Interrupted { left }),
            Err(e) => {
                return Ok(Ending::Stopped {
                    why: e.to_string(),
                    left,
                });
            }
        };
        folder.save_cell(&record)?;
        progress.end(&record);
        if let Status::Failed { why } = &record.status {
            failed += 1;
            if !keep_going {
                return Ok(Ending::Stopped {
                    why: why.clone(),
                    left,
                });
            }
        }
    }
    Ok(Ending::Complete { failed })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::metric::{Better, MetricDef, Outcome};
    use crate::provenance::Provenance;
    use crate::results::Run;
    use crate::settings::{Experiment, Request, SchedulerSpec, WorkloadSpec};
    use std::path::Path;

    /// Gives made-up numbers: `slow` takes twice as long as the others.
    pub struct Fake {
        pub boot: String,
        pub ran: Vec<usize>,
        pub fail_at: Option<usize>,
        pub interrupt_after: Option<(usize, Interrupt)>,
    }

    impl Default for Fake {
        fn default() -> Self {
            Self {
                boot: "boot-1".to_string(),
                ran: Vec::new(),
                fail_at: None,
                interrupt_after: None,
            }
        }
    }

    impl Executor for Fake {
        fn run(&mut self, cell: &Cell) -> Result<CellRecord> {
            self.ran.push(cell.index);
            if let Some((after, interrupt)) = &self.interrupt_after
                && self.ran.len() == *after
            {
                interrupt.request();
            }
            let factor = if cell.scheduler == "slow" { 2.0 } else { 1.0 };
            let noise = 1.0 + ((cell.index * 7919) % 13) as f64 / 200.0;
            let failed = self.fail_at == Some(cell.index);
            Ok(CellRecord {
                cell: cell.clone(),
                status: if failed {
                    Status::Failed {
                        why: "ejected".to_string(),
                    }
                } else {
                    Status::Ok
                },
                started: "2026-01-01T00:00:00Z".to_string(),
                took: 1.0,
                boot_id: self.boot.clone(),
                ops: None,
                outcome: Outcome {
                    metrics: vec![
                        MetricDef::headline("latency_p99", "us", Better::Lower)
                            .measured(100.0 * factor * noise),
                        MetricDef::new("ops", "1/s", Better::Higher)
                            .measured(10.0 / factor / noise),
                    ],
                    ..Outcome::default()
                },
                cost: None,
            })
        }
        fn boot_id(&self) -> String {
            self.boot.clone()
        }
    }

    pub struct Quiet;
    impl Progress for Quiet {
        fn begin(&mut self, _: &Cell, _: usize, _: usize) {}
        fn end(&mut self, _: &CellRecord) {}
    }

    pub fn experiment(blocks: u32) -> Experiment {
        Request {
            blocks: Some(blocks),
            schedulers: ["eevdf", "slow", "same"]
                .iter()
                .map(|s| SchedulerSpec::from_command(s))
                .collect(),
            workloads: ["timer", "fairness"]
                .iter()
                .map(|w| WorkloadSpec::parse(w).expect("valid"))
                .collect(),
            ..Request::default()
        }
        .resolve(|_| Ok(1))
        .expect("valid")
    }

    pub fn finished_run(dir: &Path, blocks: u32) -> Run {
        let folder = Folder::create(&dir.join("run"), &experiment(blocks)).expect("new");
        let ending = run(
            &folder,
            &mut Fake::default(),
            &mut Quiet,
            &Interrupt::default(),
            false,
        )
        .expect("runs");
        assert_eq!(ending, Ending::Complete { failed: 0 });
        folder.load().expect("readable")
    }

    /// The same run, as if it had been measured on so many CPUs.
    pub fn on_cpus(run: Run, cpus: usize) -> Run {
        let mut provenance = Provenance::gather(&run.experiment, None).expect("gathered");
        provenance.cpus = cpus;
        Run {
            provenance: vec![provenance],
            ..run
        }
    }

    pub fn metric_value(record: &CellRecord) -> f64 {
        record.outcome.metrics[0].value
    }

    #[test]
    fn an_interrupted_run_is_resumed_without_losing_or_repeating_a_cell() {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = Folder::create(dir.path(), &experiment(3)).expect("new");
        let interrupt = Interrupt::default();
        let mut fake = Fake {
            interrupt_after: Some((5, interrupt.clone())),
            ..Fake::default()
        };
        let ending = run(&folder, &mut fake, &mut Quiet, &interrupt, false).expect("runs");
        assert_eq!(ending, Ending::Interrupted { left: 13 });
        assert_eq!(folder.cells().expect("readable").len(), 5);

        let mut again = Fake::default();
        let folder = Folder::open(dir.path()).expect("exists");
        let ending = run(
            &folder,
            &mut again,
            &mut Quiet,
            &Interrupt::default(),
            false,
        )
        .expect("runs");
        assert_eq!(ending, Ending::Complete { failed: 0 });
        assert_eq!(again.ran, (5..18).collect::<Vec<_>>());
        assert_eq!(folder.cells().expect("readable").len(), 18);
    }

    #[test]
    fn after_a_reboot_what_is_compared_with_the_unfinished_is_measured_anew_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = Folder::create(dir.path(), &experiment(3)).expect("new");
        let interrupt = Interrupt::default();
        let mut fake = Fake {
            interrupt_after: Some((11, interrupt.clone())),
            ..Fake::default()
        };
        run(&folder, &mut fake, &mut Quiet, &interrupt, false).expect("runs");
        let mut again = Fake {
            boot: "boot-2".to_string(),
            ..Fake::default()
        };
        run(
            &folder,
            &mut again,
            &mut Quiet,
            &Interrupt::default(),
            false,
        )
        .expect("runs");
        assert_eq!(
            again.ran,
            (9..18).collect::<Vec<_>>(),
            "of the second workload of block 1 two cells were from the other boot, the first was complete"
        );
    }

    #[test]
    fn a_run_is_not_gone_on_with_on_another_number_of_cpus() {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = Folder::create(dir.path(), &experiment(1)).expect("new");
        let mut here = Provenance::gather(&experiment(1), None).expect("gathered");
        folder.add_provenance(&here).expect("the first");
        folder.add_provenance(&here).expect("the same");
        here.cpus += 2;
        let err = folder
            .add_provenance(&here)
            .expect_err("another")
            .to_string();
        assert!(
            err.contains(&format!("and here are {}", here.cpus)),
            "{err}"
        );
        assert_eq!(folder.provenance().expect("readable").len(), 2);
    }

    #[test]
    fn a_failure_stops_the_run_is_recorded_and_tried_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = Folder::create(dir.path(), &experiment(1)).expect("new");
        let mut fake = Fake {
            fail_at: Some(2),
            ..Fake::default()
        };
        let ending =
            run(&folder, &mut fake, &mut Quiet, &Interrupt::default(), false).expect("runs");
        assert_eq!(
            ending,
            Ending::Stopped {
                why: "ejected".to_string(),
                left: 4
            }
        );
        assert_eq!(
            folder
                .cells()
                .expect("readable")
                .iter()
                .filter(|c| !c.is_ok())
                .count(),
            1
        );
        let mut again = Fake::default();
        run(
            &folder,
            &mut again,
            &mut Quiet,
            &Interrupt::default(),
            false,
        )
        .expect("runs");
        assert_eq!(again.ran, vec![2, 3, 4, 5]);
        assert!(
            folder
                .cells()
                .expect("readable")
                .iter()
                .all(CellRecord::is_ok)
        );
    }

    #[test]
    fn with_keep_going_the_rest_is_run_and_the_failures_counted() {
        let dir = tempfile::tempdir().expect("tempdir");
        let folder = Folder::create(dir.path(), &experiment(1)).expect("new");
        let mut fake = Fake {
            fail_at: Some(2),
            ..Fake::default()
        };
        let ending =
            run(&folder, &mut fake, &mut Quiet, &Interrupt::default(), true).expect("runs");
        assert_eq!(ending, Ending::Complete { failed: 1 });
    }

    #[test]
    fn a_folder_is_not_overwritten_and_a_foreign_one_not_opened() {
        let dir = tempfile::tempdir().expect("tempdir");
        Folder::create(dir.path(), &experiment(1)).expect("new");
        assert!(Folder::create(dir.path(), &experiment(1)).is_err());
        assert!(Folder::open(&dir.path().join("cells")).is_err());
    }

    #[test]
    fn what_is_saved_reads_back_the_same() {
        let dir = tempfile::tempdir().expect("tempdir");
        let loaded = finished_run(dir.path(), 1);
        let folder = Folder::open(&dir.path().join("run")).expect("exists");
        let mut cell = loaded.cells[0].clone();
        cell.cost = Some(crate::cost::Cost {
            seconds: 1.5,
            ring_lost: Some(3),
            ..Default::default()
        });
        folder.save_cell(&cell).expect("writable");
        assert_eq!(folder.cells().expect("readable")[0], cell);
        assert_eq!(loaded.experiment, experiment(1));
    }
}
