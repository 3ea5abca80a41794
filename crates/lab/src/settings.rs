//! What an experiment consists of, from a TOML file and the command line.
//!
//! ```toml
//! seed = 1
//! blocks = 5            # absent: as many as the verdicts need
//! seconds = 10.0        # measured time of a cell
//! warmup = 2.0          # before it, not measured
//! order = "shuffled"    # or "abba": everything twice in a block, the second time in reverse
//! baseline = "eevdf"
//!
//! [[scheduler]]
//! command = "eevdf"     # the kernel's own
//! [[scheduler]]
//! command = "scx_ml --mode base"
//! label = "base"
//!
//! [[workload]]
//! name = "open-loop"
//! load = 0.8            # any parameter `scx_lab list` shows
//! ```

use scx_ml_text::Show;

use crate::error::{LabError, Result};
pub use crate::spec::{KERNEL_SCHEDULER, SchedulerSpec, WorkloadSpec};
use crate::strict;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// In which order the schedulers of a block are measured under a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Each once, shuffled.
    #[default]
    Shuffled,
    /// Shuffled, then once more in reverse: A B B A. What drifts evenly meanwhile does the same to all. The value of a
    /// block is the mean of the two.
    Abba,
}

/// A whole experiment, resolved: what is saved with the results and can be run again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    pub seed: u64,
    pub blocks: u32,
    /// Measured time of a cell, in seconds.
    pub seconds: f64,
    /// Time under load before measuring starts, in seconds.
    pub warmup: f64,
    #[serde(default)]
    pub order: Order,
    /// Label of the scheduler the others are compared with.
    pub baseline: String,
    /// Effects smaller than this share (0.01 = 1 %) are "no difference" however sure they are.
    pub min_effect: f64,
    /// Attach the measuring probe.
    pub probe: bool,
    /// Have the kernel account the run time of BPF programs.
    pub bpf_stats: bool,
    #[serde(rename = "scheduler")]
    pub schedulers: Vec<SchedulerSpec>,
    #[serde(rename = "workload")]
    pub workloads: Vec<WorkloadSpec>,
}

/// What was asked for, before defaults. The command line fills one, a file another; [`Request::over`] joins them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    pub seed: Option<u64>,
    pub blocks: Option<u32>,
    pub seconds: Option<f64>,
    pub warmup: Option<f64>,
    pub order: Option<Order>,
    pub baseline: Option<String>,
    pub min_effect: Option<f64>,
    pub probe: Option<bool>,
    pub bpf_stats: Option<bool>,
    pub schedulers: Vec<SchedulerSpec>,
    pub workloads: Vec<WorkloadSpec>,
}

const FILE_KEYS: [&str; 11] = [
    "seed",
    "blocks",
    "seconds",
    "warmup",
    "order",
    "baseline",
    "min_effect",
    "probe",
    "bpf_stats",
    "scheduler",
    "workload",
];

impl Request {
    /// Read a configuration file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, or has a key or value the lab does not know.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| LabError::file(path, e))?;
        Self::from_toml(&text, &path.shown().to_string())
    }

    /// Read a configuration from its text. `place` names it in errors.
    pub fn from_toml(text: &str, place: &str) -> Result<Self> {
        let bad = |why: String| LabError::BadValue {
            place: place.to_string(),
            why,
        };
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| bad(e.to_string()))?;
        strict::check_keys(&table, &FILE_KEYS, place)?;
        let mut request = Self {
            seed: number(&table, "seed", place)?.map(|s| s as u64),
            blocks: number(&table, "blocks", place)?.map(|b| b as u32),
            seconds: number(&table, "seconds", place)?,
            warmup: number(&table, "warmup", place)?,
            min_effect: number(&table, "min_effect", place)?,
            order: order_at(&table, place)?,
            baseline: text_at(&table, "baseline", place)?,
            probe: flag(&table, "probe", place)?,
            bpf_stats: flag(&table, "bpf_stats", place)?,
            ..Self::default()
        };
        for (i, entry) in tables(&table, "scheduler", place)?.iter().enumerate() {
            let at = format!("{place}, scheduler {}", i + 1);
            strict::check_keys(entry, &["label", "command", "ops"], &at)?;
            let command = text_at(entry, "command", &at)?.ok_or_else(|| LabError::BadValue {
                place: at.clone(),
                why: "`command` is missing".to_string(),
            })?;
            let mut spec = SchedulerSpec::from_command(&command);
            if let Some(label) = text_at(entry, "label", &at)? {
                spec.label = label;
            }
            spec.ops = text_at(entry, "ops", &at)?;
            request.schedulers.push(spec);
        }
        for (i, entry) in tables(&table, "workload", place)?.iter().enumerate() {
            let at = format!("{place}, workload {}", i + 1);
            let name = text_at(entry, "name", &at)?.ok_or_else(|| LabError::BadValue {
                place: at.clone(),
                why: "`name` is missing".to_string(),
            })?;
            let mut params = entry.clone();
            params.remove("name");
            request
                .workloads
                .push(WorkloadSpec::from_params(name, params, &at)?);
        }
        Ok(request)
    }

    /// This request where it says something, `other` where it does not. Lists replace each other whole.
    pub fn over(self, other: Self) -> Self {
        Self {
            seed: self.seed.or(other.seed),
            blocks: self.blocks.or(other.blocks),
            seconds: self.seconds.or(other.seconds),
            warmup: self.warmup.or(other.warmup),
            order: self.order.or(other.order),
            baseline: self.baseline.or(other.baseline),
            min_effect: self.min_effect.or(other.min_effect),
            probe: self.probe.or(other.probe),
            bpf_stats: self.bpf_stats.or(other.bpf_stats),
            schedulers: if self.schedulers.is_empty() {
                other.schedulers
            } else {
                self.schedulers
            },
            workloads: if self.workloads.is_empty() {
                other.workloads
            } else {
                self.workloads
            },
        }
    }

    /// Fill in the defaults and check that the whole makes sense. `headlines` tells how many headline metrics a
    /// workload has, from which the default number of blocks follows.
    ///
    /// # Errors
    /// If there is nothing to run, a number is out of range or the baseline is not among the schedulers.
    pub fn resolve(self, headlines: impl Fn(&WorkloadSpec) -> Result<usize>) -> Result<Experiment> {
        let bad = |place: &str, why: &str| LabError::BadValue {
            place: place.to_string(),
            why: why.to_string(),
        };
        if self.workloads.is_empty() {
            return Err(bad(
                "workloads",
                "none given; name one with --workload (see `scx_lab list`)",
            ));
        }
        let mut schedulers = self.schedulers;
        let baseline = self.baseline.unwrap_or_else(|| {
            let kernels_own = schedulers.iter().find(|s| s.is_kernel());
            kernels_own.map_or_else(|| KERNEL_SCHEDULER.to_string(), |s| s.label.clone())
        });
        // The baseline is in every block, asked for or not.
        if !schedulers.iter().any(|s| s.label == baseline) {
            schedulers.insert(0, SchedulerSpec::from_command(&baseline));
        }
        make_unique(schedulers.iter_mut().map(|s| &mut s.label));
        let mut workloads = self.workloads;
        make_unique(workloads.iter_mut().map(|w| &mut w.label));
        let mut tests = 0;
        for w in &workloads {
            tests += headlines(w)?;
        }
        let experiment = Experiment {
            seed: self.seed.unwrap_or(1),
            blocks: self
                .blocks
                .unwrap_or_else(|| crate::stats::blocks_needed(tests).max(5)),
            seconds: self.seconds.unwrap_or(10.0),
            warmup: self.warmup.unwrap_or(2.0),
            order: self.order.unwrap_or_default(),
            baseline,
            min_effect: self.min_effect.unwrap_or(0.01),
            probe: self.probe.unwrap_or(true),
            bpf_stats: self.bpf_stats.unwrap_or(true),
            schedulers,
            workloads,
        };
        if experiment.blocks == 0 {
            return Err(bad("blocks", "must be at least 1"));
        }
        if !(experiment.seconds > 0.0 && experiment.seconds.is_finite()) {
            return Err(bad("seconds", "must be positive"));
        }
        if !(experiment.warmup >= 0.0 && experiment.warmup.is_finite()) {
            return Err(bad("warmup", "must not be negative"));
        }
        if !(0.0..1.0).contains(&experiment.min_effect) {
            return Err(bad("min_effect", "is a share: at least 0, below 1"));
        }
        for s in &experiment.schedulers {
            s.argv()?;
        }
        Ok(experiment)
    }
}

impl Experiment {
    /// As TOML, in the form [`Request::from_toml`] reads.
    ///
    /// # Errors
    /// If a parameter cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| LabError::BadValue {
            place: "experiment".to_string(),
            why: e.to_string(),
        })
    }

    /// How many cells there are in all.
    pub fn cells(&self) -> usize {
        let each = match self.order {
            Order::Shuffled => 1,
            Order::Abba => 2,
        };
        each * self.blocks as usize * self.schedulers.len() * self.workloads.len()
    }
}

/// Number repeated labels: `eevdf`, `eevdf#2`. Comparing a scheduler with itself is a fair thing to ask for.
fn make_unique<'a>(labels: impl Iterator<Item = &'a mut String>) {
    let mut seen: std::collections::HashMap<String, u32> = std::collections::HashMap::new();
    for label in labels {
        let n = seen.entry(label.clone()).or_default();
        *n += 1;
        if *n > 1 {
            *label = format!("{label}#{n}");
        }
    }
}

fn wrong(place: &str, key: &str, want: &str) -> LabError {
    LabError::BadValue {
        place: place.to_string(),
        why: format!("`{key}` must be {want}"),
    }
}

fn number(table: &toml::Table, key: &str, place: &str) -> Result<Option<f64>> {
    match table.get(key) {
        None => Ok(None),
        Some(toml::Value::Integer(i)) if *i >= 0 => Ok(Some(*i as f64)),
        Some(toml::Value::Float(f)) if *f >= 0.0 => Ok(Some(*f)),
        Some(_) => Err(wrong(place, key, "a number, not negative")),
    }
}

fn text_at(table: &toml::Table, key: &str, place: &str) -> Result<Option<String>> {
    match table.get(key) {
        None => Ok(None),
        Some(toml::Value::String(s)) => Ok(Some(s.clone())),
        Some(_) => Err(wrong(place, key, "text")),
    }
}

fn order_at(table: &toml::Table, place: &str) -> Result<Option<Order>> {
    let value = table.get("order").cloned();
    value
        .map(toml::Value::try_into)
        .transpose()
        .map_err(|_| wrong(place, "order", "\"shuffled\" or \"abba\""))
}

fn flag(table: &toml::Table, key: &str, place: &str) -> Result<Option<bool>> {
    match table.get(key) {
        None => Ok(None),
        Some(toml::Value::Boolean(b)) => Ok(Some(*b)),
        Some(_) => Err(wrong(place, key, "true or false")),
    }
}

fn tables(table: &toml::Table, key: &str, place: &str) -> Result<Vec<toml::Table>> {
    match table.get(key) {
        None => Ok(Vec::new()),
        Some(toml::Value::Array(a)) => a
            .iter()
            .map(|v| {
                v.as_table()
                    .cloned()
                    .ok_or_else(|| wrong(place, key, "a list of tables: [[…]]"))
            })
            .collect(),
        Some(_) => Err(wrong(place, key, "a list of tables: [[…]]")),
    }
}
