//! What the subcommands do.

use scx_ml_text::{Show, json, lines};

use crate::bench::{self, Ending, Interrupt};
use crate::calibration::{self, Calibration};
use crate::cell::{self, RealExecutor};
use crate::child::Task;
use crate::cli::{BenchArgs, ListArgs, ReportArgs, RunArgs};
use crate::compare::{Compared, Comparison, by_cpus};
use crate::cost::{Accounting, Meter, Probe};
use crate::error::{LabError, Result};
use crate::experiment;
use crate::plan::plan;
use crate::progress::Bar;
use crate::provenance::{self, Provenance};
use crate::quick::{self, Baseline};
use crate::report::table::{self, Detail};
use crate::report::{direction, growth, html, number};
use crate::results::{Folder, Run, write_json, write_whole};
use crate::settings::{Experiment, WorkloadSpec};
use crate::workload;
use crate::{kernel, scheduler};
use serde::Serialize;
use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

/// How a command ended, for the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    Yes,
    /// Something failed or regressed; it has been said already.
    No,
}

/// `scx_lab list`.
pub fn list(args: &ListArgs) -> Result<Success> {
    if let Some(name) = &args.workload {
        describe(workload::kind(name)?, true);
        return Ok(Success::Yes);
    }
    let sched_ext = kernel::SchedExt::system();
    println!("Schedulers");
    println!("  eevdf (the kernel's own)");
    let found = scheduler::installed();
    found.iter().for_each(|name| println!("  {}", name.shown()));
    match (sched_ext.is_supported(), sched_ext.ops()) {
        (false, _) => println!("  This kernel has no sched_ext: only eevdf can be measured."),
        (true, Some(ops)) => println!("  Loaded now: {}", ops.shown()),
        (true, None) if found.is_empty() => println!("  No scx_* program is on the PATH."),
        (true, None) => {}
    }
    println!("\nWorkloads (`scx_lab list NAME` for what the numbers mean)");
    for k in workload::KINDS {
        describe(k, false);
    }
    Ok(Success::Yes)
}

fn describe(kind: &workload::Kind, full: bool) {
    println!("  {}: {}", kind.name, kind.about);
    if full {
        println!(
            "\n  {}",
            kind.measures
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        );
    }
    let keys: Vec<String> = (kind.keys)()
        .into_iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let mut params = toml::Table::new();
    if kind.name == "command" {
        params.insert("command".to_string(), "true".into());
    }
    if let Ok(w) = (kind.build)(&params, kind.name) {
        let defs: Vec<String> = w
            .metrics()
            .iter()
            .filter(|d| full || d.headline)
            .map(|d| {
                let star = if d.headline && full { "*" } else { "" };
                format!("{}{star} [{}] {}", d.name, d.unit, direction(d.better))
                    .trim_end()
                    .to_string()
            })
            .collect();
        println!(
            "    {}: {}",
            if full {
                "metrics (* verdicts are drawn from)"
            } else {
                "headlines"
            },
            defs.join(", ")
        );
    }
    println!("    parameters: {}", keys.join(", "));
}

/// `scx_lab run`. `interrupt` is asked for only by the process that does not measure by itself.
pub fn run(args: &RunArgs, interrupt: impl FnOnce() -> Result<Interrupt>) -> Result<Success> {
    if let Some(task) = &args.as_cell {
        let task: Task = serde_json::from_str(task).map_err(|e| LabError::BadValue {
            place: "--as-cell".to_string(),
            why: e.to_string(),
        })?;
        return Ok(if cell::perform_as_child(&task) {
            Success::Yes
        } else {
            Success::No
        });
    }
    let spec = WorkloadSpec::parse(args.workload.as_deref().unwrap_or_default())?;
    let built = workload::build(&spec)?;
    built.check()?;
    if !(args.seconds > 0.0 && args.warmup >= 0.0) {
        return Err(LabError::BadValue {
            place: "run".to_string(),
            why: "times must be positive".to_string(),
        });
    }
    let calibration = if built.needs_calibration() {
        calibration::for_this_boot()?
    } else {
        uncalibrated()
    };
    let seconds = spec.seconds.unwrap_or(args.seconds);
    let task = Task {
        spec,
        seconds,
        warmup: args.warmup,
        seed: args.seed,
        calibration,
        shared: None,
    };
    let outcome = cell::perform_apart(&task, &interrupt()?)?;
    if args.json {
        print_json(&outcome)?;
        return Ok(Success::Yes);
    }
    let ops = kernel::SchedExt::system()
        .ops()
        .unwrap_or_else(|| "the kernel's own scheduler".to_string());
    println!("{} under {}", lines(&task.spec.label), ops.shown());
    for m in &outcome.metrics {
        println!(
            "  {:<22} {:>12} {} {}",
            m.def.name,
            number(m.value),
            m.def.unit,
            direction(m.def.better)
        );
    }
    outcome
        .notes
        .iter()
        .for_each(|n| println!("  ({})", lines(n)));
    Ok(Success::Yes)
}

/// For workloads that do not count work.
fn uncalibrated() -> Calibration {
    Calibration {
        iterations_per_us: 1.0,
    }
}

fn print_json<T: Serialize>(value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| LabError::Report(e.to_string()))?;
    println!("{}", json(&text));
    Ok(())
}

/// `scx_lab report`.
pub fn report(args: &ReportArgs) -> Result<Success> {
    let runs = args
        .folders
        .iter()
        .map(|f| Folder::open(f)?.load())
        .collect::<Result<Vec<_>>>()?;
    let machines = by_cpus(runs)?;
    if args.json {
        json_report(&machines)?;
    } else {
        text_report(&machines, detail(args.all));
    }
    if let Some(path) = &args.html {
        write_whole(path, html::render(&machines)?.as_bytes())?;
    }
    #[cfg(feature = "parquet")]
    if let Some(path) = &args.parquet {
        let runs: Vec<&Run> = machines.iter().map(|m| &m.run).collect();
        crate::parquet_file::write(&runs, path)?;
    }
    Ok(Success::Yes)
}

/// The comparison, or of several machines a list with each one's number of CPUs.
fn json_report(machines: &[Compared]) -> Result<()> {
    #[derive(Serialize)]
    struct Machine<'a> {
        cpus: Option<usize>,
        comparison: &'a Comparison,
    }
    if let [only] = machines {
        return print_json(&only.comparison);
    }
    let all = machines.iter().map(|m| Machine {
        cpus: m.run.cpus(),
        comparison: &m.comparison,
    });
    print_json(&all.collect::<Vec<_>>())
}

fn text_report(machines: &[Compared], detail: Detail) {
    if let Some(data) = growth::growth(machines) {
        println!("{}", table::growth(&data, colour()));
    }
    for m in machines {
        // One that was often gone on with says most of it each time.
        let mut said = HashSet::new();
        let summaries = m.run.provenance.iter().flat_map(|p| p.summary());
        summaries
            .filter(|l| said.insert(l.clone()))
            .for_each(|l| println!("{}", lines(&l)));
        print!("{}", table::render(&m.comparison, detail, colour()));
    }
}

fn detail(all: bool) -> Detail {
    if all { Detail::All } else { Detail::Headlines }
}

fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// `scx_lab bench`.
pub fn bench(args: &BenchArgs, interrupt: &Interrupt) -> Result<Success> {
    let resumed = args.resume.as_deref().map(Folder::open).transpose()?;
    let experiment = match &resumed {
        Some(folder) => folder.experiment()?,
        None => experiment::experiment(args)?,
    };
    let calibrate = experiment::check(&experiment)?;
    if args.dry_run {
        print!("{}", experiment.to_toml()?);
        for c in plan(&experiment) {
            println!(
                "# {:>4}  block {}  {}  under {}",
                c.index, c.block, c.workload, c.scheduler
            );
        }
        return Ok(Success::Yes);
    }
    let calibration = if calibrate {
        calibration::for_this_boot()?
    } else {
        uncalibrated()
    };
    let folder = match resumed {
        Some(folder) => folder,
        None => Folder::create(&out_dir(args), &experiment)?,
    };
    folder.add_provenance(&Provenance::gather(
        &experiment,
        calibrate.then_some(calibration),
    )?)?;
    let meter = meter(&experiment);
    let mut executor = RealExecutor::new(
        experiment.clone(),
        folder.clone(),
        meter,
        calibration,
        interrupt.clone(),
    )?;
    let mut progress = Bar::new(&experiment);
    let ending = bench::run(
        &folder,
        &mut executor,
        &mut progress,
        interrupt,
        // A suite takes hours: one that fails under some scheduler is a result, too.
        args.keep_going || args.suite.is_some(),
    );
    progress.finish();
    let Compared { run, comparison } = save_reports(&folder)?;
    let text = table::render(&comparison, detail(args.all), colour());
    // The results are saved; a reader that is gone is no reason to fail.
    let _ = writeln!(
        std::io::stdout(),
        "{text}Results are in {}.",
        folder.path("").shown()
    );
    let success = conclude(&folder, &run, ending?)?;
    if args.quick && success == Success::Yes {
        check_quick(args, &comparison)
    } else {
        Ok(success)
    }
}

/// Hold the run to the stored ratios, or store its own.
fn check_quick(args: &BenchArgs, comparison: &Comparison) -> Result<Success> {
    let stored = Baseline::parse(quick::STORED, "quick-baseline.toml")?;
    if let Some(path) = &args.store_quick {
        write_whole(
            path,
            Baseline::from_comparison(comparison, stored.margin)
                .to_toml()?
                .as_bytes(),
        )?;
        return Ok(Success::Yes);
    }
    if stored.expectations.is_empty() {
        return Err(LabError::Report(
            "no ratios are stored to check against".to_string(),
        ));
    }
    let regressions = stored.check(comparison);
    regressions
        .iter()
        .for_each(|r| eprintln!("scx_lab: regression: {}", lines(&r.0)));
    let _ = writeln!(
        std::io::stdout(),
        "{} of {} stored ratios hold.",
        stored.expectations.len() - regressions.len(),
        stored.expectations.len()
    );
    Ok(if regressions.is_empty() {
        Success::Yes
    } else {
        Success::No
    })
}

fn out_dir(args: &BenchArgs) -> PathBuf {
    args.out.clone().unwrap_or_else(|| {
        PathBuf::from(format!(
            "results-{}",
            provenance::now().replace([':', 'Z'], "").replace('T', "-")
        ))
    })
}

/// The meter, as complete as this machine and user allow; what is missing is said once.
fn meter(experiment: &Experiment) -> Meter {
    let warn = |e: LabError| {
        eprintln!(
            "scx_lab: going on without part of the cost: {}",
            lines(&e.to_string())
        )
    };
    let probe = if experiment.probe {
        Probe::load().map_err(warn).ok()
    } else {
        None
    };
    let accounting = if experiment.bpf_stats {
        Accounting::enable().map_err(warn).ok()
    } else {
        None
    };
    Meter::new(probe, accounting)
}

/// Write everything that is derived from the cells.
fn save_reports(folder: &Folder) -> Result<Compared> {
    let compared = Compared::new(folder.load()?);
    write_json(&folder.path("results.json"), &compared)?;
    #[cfg(feature = "parquet")]
    crate::parquet_file::write(&[&compared.run], &folder.path("results.parquet"))?;
    write_whole(
        &folder.path("report.html"),
        html::render(std::slice::from_ref(&compared))?.as_bytes(),
    )?;
    Ok(compared)
}

/// Say how it ended, leave it in the folder, and turn it into success or failure.
fn conclude(folder: &Folder, run: &Run, ending: Ending) -> Result<Success> {
    let resume = || {
        format!(
            "continue with `scx_lab bench --resume {}`",
            folder.path("").shown()
        )
    };
    let (text, success) = match ending {
        Ending::Complete { failed: 0 } => {
            (format!("complete: {} cells", run.cells.len()), Success::Yes)
        }
        Ending::Complete { failed } => (
            format!(
                "complete, but {failed} cells failed; {} to try them again",
                resume()
            ),
            Success::No,
        ),
        Ending::Interrupted { left } => (
            format!("interrupted with {left} cells left; {}", resume()),
            Success::No,
        ),
        Ending::Stopped { why, left } => (
            format!("stopped with {left} cells left: {why}\n{}", resume()),
            Success::No,
        ),
    };
    write_json(
        &folder.path("ending.json"),
        &serde_json::json!({ "date": provenance::now(), "ending": text }),
    )?;
    if success == Success::No {
        eprintln!("scx_lab: {}", lines(&text));
    }
    Ok(success)
}
