//! `cc-build`: a parallel compile of generated C files.

use super::kind::{Context, Kind, Workload, bad, join, spawn};
use crate::error::{LabError, Result};
use crate::metric::{Better, MetricDef, Outcome};
use crate::{stats, strict, sys};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

pub const KIND: Kind = Kind {
    name: "cc-build",
    about: "compile a set of generated C files with as many compilers as CPUs: time",
    measures: "The time to compile all files at -O2, so many at a time, without linking; median over the rounds that fit into \
        the measured time, at least one. The files are the same in every run. A batch job: it shows the cost of too \
        many switches and migrations, not latency.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.files == 0 || p.functions == 0 {
            return Err(bad(place, "`files` and `functions` must be positive"));
        }
        Ok(Box::new(CcBuild(p)))
    },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    files: usize,
    /// Functions in a file: how long one compiler runs.
    functions: usize,
    /// Compilers at a time; 0: one per CPU.
    jobs: usize,
    compiler: String,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            files: 12,
            functions: 20,
            jobs: 0,
            compiler: "cc".to_string(),
        }
    }
}

struct CcBuild(Params);

fn time_def() -> MetricDef {
    MetricDef::headline("build", "s", Better::Lower)
}

/// One C file of loops and branches, enough for an optimiser to chew on.
pub(super) fn source(functions: usize, seed: u64) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut text = String::new();
    for f in 0..functions {
        let (a, b, c) = (
            rng.random_range(3..99),
            rng.random_range(3..99),
            rng.random_range(2..9),
        );
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "int f{f}(const int *v, int n) {{\n  int s = {a};\n  for (int i = 0; i < n; i++) {{\n    \
             for (int j = i; j < n; j += {c})\n      s += (v[i] * {b} ^ v[j]) % ({a} + (i & {c}));\n    \
             switch (s & 7) {{ case 0: s ^= v[i]; break; case 1: s += {b}; break; case 2: s -= i; break; \
             case 5: s *= {c}; break; default: s >>= 1; }}\n  }}\n  return s;\n}}"
        );
    }
    text
}

impl CcBuild {
    fn round(&self, dir: &Path, files: &[PathBuf], jobs: usize) -> Result<()> {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let mut handles = Vec::new();
            for _ in 0..jobs {
                let next = &next;
                handles.push(spawn(scope, "cc-job", move || -> Result<()> {
                    while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let out = Command::new(&self.0.compiler)
                            .args(["-O2", "-c", "-o"])
                            .arg(file.with_extension("o"))
                            .arg(file)
                            .current_dir(dir)
                            .stdin(Stdio::null())
                            .output()
                            .map_err(|e| {
                                LabError::workload(KIND.name, format!("{}: {e}", self.0.compiler))
                            })?;
                        if !out.status.success() {
                            let text = String::from_utf8_lossy(&out.stderr).into_owned();
                            return Err(LabError::workload(
                                KIND.name,
                                format!("the compiler failed: {text}"),
                            ));
                        }
                    }
                    Ok(())
                })?);
            }
            handles.into_iter().try_for_each(|h| join(h, KIND.name)?)
        })
    }
}

impl Workload for CcBuild {
    fn metrics(&self) -> Vec<MetricDef> {
        vec![time_def()]
    }

    fn check(&self) -> Result<()> {
        sys::find_program(&self.0.compiler)
            .map(|_| ())
            .ok_or_else(|| LabError::MissingProgram {
                program: self.0.compiler.clone(),
                needed_by: format!("workload `{}`", KIND.name),
                hint: "install a C compiler, or name it with compiler=…".to_string(),
            })
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let dir = tempfile::tempdir().map_err(|e| LabError::file(std::env::temp_dir(), e))?;
        let mut files = Vec::new();
        for i in 0..self.0.files {
            let path = dir.path().join(format!("unit{i}.c"));
            std::fs::write(&path, source(self.0.functions, i as u64))
                .map_err(|e| LabError::file(&path, e))?;
            files.push(path);
        }
        let jobs = if self.0.jobs == 0 {
            ctx.cpus
        } else {
            self.0.jobs
        };
        // Bring the compiler into the page cache; a warm-up by time would cost whole rounds.
        self.round(dir.path(), &files[..1], 1)?;
        ctx.window.begin();
        let (start, mut times) = (sys::now_ns(), Vec::new());
        while times.is_empty() || (sys::now_ns() - start) as f64 / 1e9 < ctx.seconds {
            let t = sys::now_ns();
            self.round(dir.path(), &files, jobs)?;
            times.push((sys::now_ns() - t) as f64 / 1e9);
        }
        ctx.window.end();
        Ok(Outcome {
            metrics: vec![time_def().measured(stats::median(&times))],
            histograms: Vec::new(),
            notes: vec![format!("{} rounds", times.len())],
        })
    }
}
