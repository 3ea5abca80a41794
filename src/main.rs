//! The command `scx_ml`.

use std::io::{IsTerminal, Write};
use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use crossbeam::channel::bounded;
use log::{info, warn};
use scx_utils::build_id;

use scx_ml::SCHEDULER_NAME;
use scx_ml::cli::{Mode, Opts, Task};
use scx_ml::preflight::Kernel;
use scx_ml::publish::MapSink;
use scx_ml::recording::{Meta, Recorder, RecorderConfig, RecorderHandle};
use scx_ml::ringbuf::{CHANNEL_BATCHES, DrainCounters, LearnerOutlet, Outlet};
use scx_ml::scheduler::{Learning, Scheduler};
use scx_ml::{explain, features, stats, trainer};

fn main() -> ExitCode {
    match run(&Opts::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{SCHEDULER_NAME}: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(opts: &Opts) -> Result<()> {
    let version = build_id::full_version(env!("CARGO_PKG_VERSION"));
    if opts.version {
        println!("{SCHEDULER_NAME} {version}");
        return Ok(());
    }
    match &opts.task {
        Some(Task::Features { json }) => return print_features(*json),
        Some(Task::Explain(args)) => {
            let shutdown = shutdown_by_signal()?;
            return explain::command::run(args, &shutdown);
        }
        None => {}
    }
    if opts.help_stats {
        return stats::server_data().describe_meta(&mut std::io::stdout(), None);
    }
    opts.check()?;
    init_logging(opts.verbose)?;

    let shutdown = shutdown_by_signal()?;
    if let Some(interval) = opts.monitor {
        return stats::monitor(Duration::from_secs_f64(interval), shutdown);
    }

    Kernel::running().check()?;
    // Before anything is loaded: a recording that cannot be is better known then. It ends after all else.
    let (_recorder, recorder) = start_recorder(opts, &version)?.unzip();
    info!("{SCHEDULER_NAME} {version}");
    if let Some(dir) = &opts.record {
        info!(
            "recording to {}, at most {} MiB",
            dir.display(),
            opts.record_limit
        );
    }
    schedule(opts, recorder, &shutdown)
}

fn print_features(json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &features::table())?;
        writeln!(out)?;
        return Ok(());
    }
    features::print_table(&mut out)
}

/// Set by Ctrl-C and SIGTERM.
fn shutdown_by_signal() -> Result<Arc<AtomicBool>> {
    let shutdown = Arc::new(AtomicBool::new(false));
    ctrlc::set_handler({
        let shutdown = shutdown.clone();
        move || shutdown.store(true, Ordering::Relaxed)
    })
    .context("cannot watch for Ctrl-C")?;
    Ok(shutdown)
}

/// Prepare the recording, if one is asked for.
fn start_recorder(opts: &Opts, version: &str) -> Result<Option<(Recorder, RecorderHandle)>> {
    let Some(dir) = &opts.record else {
        return Ok(None);
    };
    let meta = Meta::here(version, opts.mode.name(), opts.sample_rate, opts.syscalls);
    let config = RecorderConfig::new(dir, opts.record_limit << 20, meta);
    Ok(Some(Recorder::start(config)?))
}

/// Schedule until `shutdown`, anew after each CPU hotplug.
fn schedule(
    opts: &Opts,
    recorder: Option<RecorderHandle>,
    shutdown: &Arc<AtomicBool>,
) -> Result<()> {
    let (batches, to_learn) = bounded(CHANNEL_BATCHES);
    let learns = opts.mode != Mode::Base;
    let drain = Arc::<DrainCounters>::default();
    let mut outlets: Vec<Arc<dyn Outlet>> = vec![];
    if learns {
        outlets.push(Arc::new(LearnerOutlet {
            batches,
            counters: drain.clone(),
        }));
    }
    if let Some(recorder) = &recorder {
        outlets.push(Arc::new(recorder.clone()));
    }
    let learning = Learning {
        sink: Arc::new(MapSink::default()),
        outlets,
        recorder,
        status: Arc::default(),
        drain,
    };
    let trainer = if learns {
        Some(trainer::start(
            opts.learner_config(),
            opts.keeper_config(),
            to_learn,
            learning.sink.clone(),
            learning.status.clone(),
        )?)
    } else {
        None
    };

    let mut object = MaybeUninit::uninit();
    let mut print_interval = opts.stats.map(Duration::from_secs_f64);
    loop {
        let mut scheduler = Scheduler::start(opts, &learning, &mut object)?;
        if let Some(interval) = print_interval.take() {
            print_stats(interval, shutdown.clone())?;
        }
        if !scheduler.run(shutdown)?.should_restart() || shutdown.load(Ordering::Relaxed) {
            break;
        }
        info!("the CPUs have changed: restarting, the model is kept");
    }

    drop(learning);
    if trainer.is_some_and(|t| t.join().is_err()) {
        warn!("the trainer had panicked");
    }
    Ok(())
}

/// A client of our own stats server, in a thread.
fn print_stats(interval: Duration, shutdown: Arc<AtomicBool>) -> Result<()> {
    std::thread::Builder::new()
        .name("ml-stats".into())
        .spawn(move || {
            if let Err(e) = stats::monitor(interval, shutdown) {
                warn!("statistics are no longer printed: {e:#}");
            }
        })
        .context("cannot start the thread that prints statistics")?;
    Ok(())
}

fn init_logging(verbose: bool) -> Result<()> {
    use simplelog::{ColorChoice, ConfigBuilder, LevelFilter, TermLogger, TerminalMode};

    let level = if verbose {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    };
    let mut config = ConfigBuilder::new();
    config
        .set_location_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off);
    // Local time where it can be told; UTC otherwise.
    let _ = config.set_time_offset_to_local();
    TermLogger::init(
        level,
        config.build(),
        TerminalMode::Stderr,
        if std::io::stderr().is_terminal() {
            ColorChoice::Auto
        } else {
            ColorChoice::Never
        },
    )
    .context("cannot start logging")?;
    scx_utils::init_libbpf_logging(Some(if verbose {
        libbpf_rs::PrintLevel::Debug
    } else {
        libbpf_rs::PrintLevel::Warn
    }));
    Ok(())
}
