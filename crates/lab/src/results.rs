//! What is kept of a run: a folder that is complete after every cell.
//!
//! ```text
//! DIR/experiment.toml       what was run, readable by --config
//! DIR/provenance.json       where and with what; one entry for each time it was (re)started
//! DIR/cells/000017.json     one cell: its metrics, histograms and cost
//! DIR/logs/000017.log       what the scheduler printed meanwhile
//! DIR/results.json          all of it and the comparisons, for programs
//! DIR/results.parquet       one row for each metric of each cell
//! DIR/report.html           for people
//! ```
//! A cell is written to a temporary name and renamed, so a file that is there is whole.

use scx_ml_text::{Show, json};

use crate::cost::Cost;
use crate::error::{LabError, Result};
use crate::metric::{Metric, Outcome, Pieces};
use crate::plan::Cell;
use crate::provenance::Provenance;
use crate::settings::{Experiment, Request, WorkloadSpec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How a cell went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Status {
    Ok,
    Failed { why: String },
}

/// One cell with its results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    #[serde(flatten)]
    pub cell: Cell,
    #[serde(flatten)]
    pub status: Status,
    /// UTC, RFC 3339.
    pub started: String,
    /// All of the cell, with starting and stopping the scheduler, in seconds.
    pub took: f64,
    pub boot_id: String,
    /// The name the kernel had for the scheduler; none for its own.
    pub ops: Option<String>,
    pub outcome: Outcome,
    pub cost: Option<Cost>,
}

impl CellRecord {
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }

    /// The workload's metrics and those of the cost.
    pub fn metrics(&self) -> Vec<Metric> {
        let pieces = Pieces::of(&self.outcome.metrics);
        let cost = self.cost.iter().flat_map(|c| c.metrics(pieces));
        self.outcome.metrics.iter().cloned().chain(cost).collect()
    }
}

/// A run as read back: experiment, provenance and cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub experiment: Experiment,
    pub provenance: Vec<Provenance>,
    pub cells: Vec<CellRecord>,
}

impl Run {
    /// The CPUs of the machine that it was measured on. None for a run that never began.
    pub fn cpus(&self) -> Option<usize> {
        self.provenance.last().map(|p| p.cpus)
    }
}

/// A result folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Make a new one for `experiment`.
    ///
    /// # Errors
    /// If there already is an experiment, or it cannot be written.
    pub fn create(root: &Path, experiment: &Experiment) -> Result<Self> {
        let folder = Self {
            root: root.to_path_buf(),
        };
        if folder.experiment_file().exists() {
            return Err(LabError::BadValue {
                place: root.shown().to_string(),
                why: "there is an experiment here already; continue it with --resume, or give another --out".to_string(),
            });
        }
        for dir in [
            folder.root.clone(),
            folder.root.join("cells"),
            folder.root.join("logs"),
        ] {
            std::fs::create_dir_all(&dir).map_err(|e| LabError::file(&dir, e))?;
        }
        write_whole(&folder.experiment_file(), experiment.to_toml()?.as_bytes())?;
        Ok(folder)
    }

    /// Open one that exists.
    ///
    /// # Errors
    /// If there is no experiment in it.
    pub fn open(root: &Path) -> Result<Self> {
        let folder = Self {
            root: root.to_path_buf(),
        };
        if !folder.experiment_file().is_file() {
            return Err(LabError::BadValue {
                place: root.shown().to_string(),
                why: "no results of scx_lab here (experiment.toml is missing)".to_string(),
            });
        }
        Ok(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn experiment_file(&self) -> PathBuf {
        self.path("experiment.toml")
    }

    /// Where the scheduler's output of a cell goes.
    pub fn log(&self, cell: &Cell) -> PathBuf {
        self.path("logs").join(format!("{:06}.log", cell.index))
    }

    fn cell_file(&self, index: usize) -> PathBuf {
        self.path("cells").join(format!("{index:06}.json"))
    }

    /// The experiment as it was resolved when it began.
    pub fn experiment(&self) -> Result<Experiment> {
        // Blocks are in the file, so the number of headlines does not matter.
        Request::from_file(&self.experiment_file())?.resolve(|_: &WorkloadSpec| Ok(1))
    }

    /// Save a cell. A cell measured again replaces the earlier one.
    pub fn save_cell(&self, record: &CellRecord) -> Result<()> {
        write_json(&self.cell_file(record.cell.index), record)
    }

    /// All cells saved so far, in order.
    ///
    /// # Errors
    /// If one cannot be read or understood.
    pub fn cells(&self) -> Result<Vec<CellRecord>> {
        let dir = self.path("cells");
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)
            .map_err(|e| LabError::file(&dir, e))?
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "json"))
            .collect();
        paths.sort();
        paths.iter().map(|p| read_json(p)).collect()
    }

    /// Note the circumstances of this start, after those of earlier ones.
    ///
    /// # Errors
    /// If those were on another number of CPUs: what the blocks say would no longer be about one machine.
    pub fn add_provenance(&self, provenance: &Provenance) -> Result<()> {
        let mut all = self.provenance()?;
        if let Some(before) = all.last().filter(|p| p.cpus != provenance.cpus) {
            return Err(LabError::BadValue {
                place: self.root.shown().to_string(),
                why: format!(
                    "was begun on {} CPUs, and here are {}; go on with it there, or begin another with --out",
                    before.cpus, provenance.cpus
                ),
            });
        }
        all.push(provenance.clone());
        write_json(&self.path("provenance.json"), &all)
    }

    pub fn provenance(&self) -> Result<Vec<Provenance>> {
        let path = self.path("provenance.json");
        if path.exists() {
            read_json(&path)
        } else {
            Ok(Vec::new())
        }
    }

    /// Everything.
    pub fn load(&self) -> Result<Run> {
        Ok(Run {
            experiment: self.experiment()?,
            provenance: self.provenance()?,
            cells: self.cells()?,
        })
    }
}

/// Write a value as JSON, whole or not at all.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| LabError::Damaged {
        path: path.to_path_buf(),
        why: e.to_string(),
    })?;
    write_whole(path, json(&text).as_bytes())
}

/// Write a file under a temporary name and rename it.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    std::fs::write(&partial, bytes).map_err(|e| LabError::file(&partial, e))?;
    std::fs::rename(&partial, path).map_err(|e| LabError::file(path, e))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| LabError::file(path, e))?;
    serde_json::from_str(&text).map_err(|e| LabError::Damaged {
        path: path.to_path_buf(),
        why: e.to_string(),
    })
}
