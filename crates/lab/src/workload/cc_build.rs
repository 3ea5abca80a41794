//! `cc-build`: a parallel compile of generated C files.

use super::c_source::source;
use super::kind::{Context, Kind, Workload, bad, join, spawn};
use super::real::{self, Beside, Company, Tool, given_or};
use crate::error::{LabError, Result};
use crate::metric::{Better, MetricDef, Outcome};
use crate::{stats, strict, sys};
use scx_ml_text::Show;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

pub const KIND: Kind = Kind {
    name: "cc-build",
    about: "compile generated C files, or a tree of your own with make, with as many compilers as CPUs: time",
    measures: "The time to compile all files at -O2, so many at a time, without linking; median over the rounds that fit into \
        the measured time, at least one. The files are the same in every run. With `tree` that folder is copied, and \
        `make -j` with the arguments `make` is timed in the copy, with `make clean` between the rounds. A batch job: it \
        shows the cost of too many switches and migrations, not latency.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.functions == 0 {
            return Err(bad(place, "`functions` must be positive"));
        }
        let make =
            shlex::split(&p.make).ok_or_else(|| bad(place, "the quotes in `make` do not match"))?;
        Ok(Box::new(CcBuild { params: p, make }))
    },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// 0: two for each CPU.
    files: usize,
    /// Functions in a file: how long one compiler runs.
    functions: usize,
    /// Compilers at a time; 0: one per CPU.
    jobs: usize,
    compiler: String,
    /// A folder with a Makefile, to be built instead; empty: generated files.
    tree: String,
    /// Arguments for make there, split as a shell would.
    make: String,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            files: 12,
            functions: 20,
            jobs: 0,
            compiler: "cc".to_string(),
            tree: String::new(),
            make: String::new(),
            beside: Beside::None,
        }
    }
}

const MAKE: Tool = Tool::new("make", "make");

struct CcBuild {
    params: Params,
    make: Vec<String>,
}

fn time_def() -> MetricDef {
    MetricDef::headline("build", "s", Better::Lower)
}

/// What is built, in a folder of its own.
enum Job {
    Files(Vec<PathBuf>),
    Tree,
}

impl CcBuild {
    /// Put what is to be built into `dir`.
    fn prepare(&self, dir: &Path, cpus: usize) -> Result<Job> {
        if !self.params.tree.is_empty() {
            let mut copy = Command::new("cp");
            copy.arg("-a")
                .arg(format!("{}/.", self.params.tree))
                .arg(dir);
            return real::run(&mut copy, KIND.name).map(|_| Job::Tree);
        }
        let mut files = Vec::new();
        for i in 0..given_or(self.params.files, 2 * cpus) {
            let path = dir.join(format!("unit{i}.c"));
            std::fs::write(&path, source(self.params.functions, i as u64))
                .map_err(|e| LabError::file(&path, e))?;
            files.push(path);
        }
        // Bring the compiler into the page cache; a warm-up by time would cost whole rounds.
        self.compile(dir, &files[..1], 1)?;
        Ok(Job::Files(files))
    }

    /// One round, in seconds.
    fn round(&self, dir: &Path, job: &Job, jobs: usize) -> Result<f64> {
        if matches!(job, Job::Tree) {
            self.make(dir, &["clean".to_string()])?;
        }
        let start = sys::now_ns();
        match job {
            Job::Files(files) => self.compile(dir, files, jobs)?,
            Job::Tree => {
                let parallel = std::iter::once(format!("-j{jobs}"));
                let args: Vec<String> = parallel.chain(self.make.iter().cloned()).collect();
                self.make(dir, &args)?;
            }
        }
        Ok((sys::now_ns() - start) as f64 / 1e9)
    }

    fn make(&self, dir: &Path, args: &[String]) -> Result<()> {
        let mut make = MAKE.command(KIND.name)?;
        real::run(make.args(args).current_dir(dir), KIND.name).map(|_| ())
    }

    fn compile(&self, dir: &Path, files: &[PathBuf], jobs: usize) -> Result<()> {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let mut handles = Vec::new();
            for _ in 0..jobs {
                let next = &next;
                handles.push(spawn(scope, "cc-job", move || -> Result<()> {
                    while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let out = Command::new(&self.params.compiler)
                            .args(["-O2", "-c", "-o"])
                            .arg(file.with_extension("o"))
                            .arg(file)
                            .current_dir(dir)
                            .stdin(Stdio::null())
                            .output()
                            .map_err(|e| {
                                LabError::workload(
                                    KIND.name,
                                    format!("{}: {e}", self.params.compiler),
                                )
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
        let p = &self.params;
        p.beside.check(KIND.name)?;
        if p.tree.is_empty() {
            return sys::find_program(&p.compiler).map(|_| ()).ok_or_else(|| {
                LabError::MissingProgram {
                    program: p.compiler.clone(),
                    needed_by: format!("workload `{}`", KIND.name),
                    hint: "install a C compiler, or name it with compiler=…".to_string(),
                }
            });
        }
        MAKE.check(KIND.name)?;
        let names = ["GNUmakefile", "makefile", "Makefile"];
        let tree = Path::new(&p.tree);
        if names.iter().any(|name| tree.join(name).is_file()) {
            return Ok(());
        }
        Err(bad(
            &format!("workload `{}`", KIND.name),
            format!("there is no Makefile in `{}`", tree.shown()),
        ))
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let dir = tempfile::tempdir().map_err(|e| LabError::file(std::env::temp_dir(), e))?;
        let jobs = given_or(self.params.jobs, ctx.cpus);
        let job = self.prepare(dir.path(), ctx.cpus)?;
        let mut company = Company::start(self.params.beside, ctx.cpus, KIND.name)?;
        ctx.window.begin();
        let (start, mut times) = (sys::now_ns(), Vec::new());
        while times.is_empty() || (sys::now_ns() - start) as f64 / 1e9 < ctx.seconds {
            times.push(self.round(dir.path(), &job, jobs)?);
        }
        ctx.window.end();
        company.verify()?;
        Ok(Outcome {
            metrics: vec![time_def().measured(stats::median(&times))],
            histograms: Vec::new(),
            notes: vec![format!("{} rounds", times.len())],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_tree(tree: &Path) -> Box<dyn Workload> {
        let table = [("tree".to_string(), tree.shown().to_string().into())];
        (KIND.build)(&table.into_iter().collect(), "here").expect("valid")
    }

    #[test]
    fn a_tree_without_a_makefile_is_refused_before_anything_runs() {
        let dir = tempfile::tempdir().expect("made");
        let err = of_tree(dir.path()).check().expect_err("nothing to make");
        assert!(err.is_usage() && err.to_string().contains("no Makefile"));
        std::fs::write(dir.path().join("Makefile"), "all:\n").expect("written");
        assert!(of_tree(dir.path()).check().is_ok());
    }
}
