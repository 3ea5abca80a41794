//! From the arguments of `bench` to an experiment that can be run.

use crate::cli::BenchArgs;
use crate::error::{LabError, Result};
use crate::settings::{Experiment, Request, SchedulerSpec, WorkloadSpec};
use crate::{quick, scheduler, suite, workload};
use scx_ml_text::lines;

/// The experiment the command line and the configuration file ask for.
///
/// # Errors
/// If they make no sense.
pub fn experiment(args: &BenchArgs) -> Result<Experiment> {
    let file = match (&args.config, &args.suite) {
        (Some(path), _) => Request::from_file(path)?,
        (None, Some(suite)) => suite::request(suite)?,
        (None, None) if args.quick => quick::request()?,
        (None, None) => Request::default(),
    };
    let cli = Request {
        seed: args.seed,
        blocks: args.blocks,
        seconds: args.seconds,
        warmup: args.warmup,
        order: None,
        baseline: args.baseline.clone(),
        min_effect: args.min_effect,
        probe: args.no_probe.then_some(false),
        bpf_stats: args.no_bpf_stats.then_some(false),
        schedulers: args
            .schedulers
            .iter()
            .map(|s| SchedulerSpec::parse(s))
            .collect(),
        workloads: args
            .workloads
            .iter()
            .map(|w| WorkloadSpec::parse(w))
            .collect::<Result<_>>()?,
    };
    let mut request = cli.over(file);
    if args.skip_missing {
        skip_missing(&mut request)?;
    }
    request.resolve(headlines)
}

/// Leave out the workloads whose programs are not installed.
fn skip_missing(request: &mut Request) -> Result<()> {
    let mut there = Vec::new();
    for spec in std::mem::take(&mut request.workloads) {
        match workload::build(&spec)?.check() {
            Err(e @ LabError::MissingProgram { .. }) => {
                eprintln!(
                    "scx_lab: leaving out {}: {}",
                    lines(&spec.label),
                    lines(&e.to_string())
                );
            }
            _ => there.push(spec),
        }
    }
    request.workloads = there;
    Ok(())
}

/// Find everything that can be found missing before anything runs, all of it at once. Returns whether a workload counts
/// work in calibrated iterations.
///
/// # Errors
/// What is missing, and what to do about it.
pub fn check(experiment: &Experiment) -> Result<bool> {
    let mut calibrate = false;
    let mut wrong: Vec<LabError> = Vec::new();
    for w in &experiment.workloads {
        let built = workload::build(w)?;
        wrong.extend(built.check().err());
        calibrate |= built.needs_calibration();
    }
    let schedulers = experiment.schedulers.iter();
    wrong.extend(schedulers.filter_map(|s| scheduler::check(s).err()));
    if wrong.len() > 1 {
        // Rows of one program lack the same.
        let mut said: Vec<String> = wrong.iter().map(LabError::to_string).collect();
        let mut seen = std::collections::HashSet::new();
        said.retain(|s| seen.insert(s.clone()));
        return Err(LabError::Several(said));
    }
    wrong.pop().map_or(Ok(calibrate), Err)
}

fn headlines(spec: &WorkloadSpec) -> Result<usize> {
    Ok(workload::build(spec)?
        .metrics()
        .iter()
        .filter(|m| m.headline)
        .count())
}
