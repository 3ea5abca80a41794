//! The command `scx_ml`.

use std::io;
use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use log::{LevelFilter, info, warn};
use scx_ml_text::lines;
use scx_utils::{build_id, compat};

use scx_ml::cli::SCHEDULER_NAME;
use scx_ml::cli::{Opts, perform};
use scx_ml::kernel::clock::monotonic_ns;
use scx_ml::kernel::host::Host;
use scx_ml::kernel::logging;
use scx_ml::kernel::mode::Mode;
use scx_ml::kernel::preflight::Kernel;
use scx_ml::kernel::privileges;
use scx_ml::kernel::ringbuf::{Archive, DrainCounters, Outlet};
use scx_ml::kernel::trouble::caught;
use scx_ml::learn::backlog::backlog;
use scx_ml::learn::learner::Learner;
use scx_ml::learn::saver::Saver;
use scx_ml::learn::trainer;
use scx_ml::model::file::ModelFile;
use scx_ml::model::publish::MapSink;
use scx_ml::scheduler::{Learning, Scheduler};
use scx_ml::shutdown;
use scx_ml::watch::ask::SOCKET;
use scx_ml::watch::openmetrics::MetricsFile;
use scx_ml::watch::printer::Printer;
use scx_ml::watch::stats;
use scx_ml::watch::verdicts::Verdicts;

fn main() -> ExitCode {
    let opts = Opts::from_command_line();
    match run(&opts) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output, head for example, has read enough.
        Err(e) if opts.task.is_some() && is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{SCHEDULER_NAME}: {}", lines(&format!("{e:#}")));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn run(opts: &Opts) -> Result<()> {
    let version = build_id::full_version(env!("CARGO_PKG_VERSION"));
    if opts.version {
        println!("{SCHEDULER_NAME} {version}");
        return Ok(());
    }
    opts.check()?;
    #[cfg(feature = "fault-injection")]
    scx_ml::kernel::fault::asked_for()?;
    if let Some(task) = &opts.task {
        logging::init(LevelFilter::Warn)?;
        return perform::perform(task, shutdown::by_signal);
    }
    if opts.help_stats {
        return stats::server_data().describe_meta(&mut std::io::stdout(), None);
    }
    logging::init(if opts.verbose {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    })?;

    if let Some(interval) = opts.monitor {
        return stats::monitor(Duration::from_secs_f64(interval), shutdown::by_signal()?);
    }

    let host = Host::here();
    let model = match &opts.model {
        Some(path) => {
            let here = (!opts.model_any_kernel).then_some(host.kernel.as_str());
            Some(ModelFile::load(path, here)?)
        }
        None => None,
    };
    let saver = match &opts.save_model {
        Some(path) => Some(Saver::new(path.clone(), host)?),
        None => None,
    };
    let kernel = Kernel::running();
    kernel.check()?;
    kernel.check_functions(&compat::malformed_scx_kfuncs())?;
    // Before the first thread.
    privileges::reduce(&opts.outputs())?;
    let shutdown = shutdown::by_signal()?;
    let metrics = opts.metrics_file()?;
    // Before anything is loaded: a recording that cannot be is better known then. It ends after all else.
    let (_recorder, recorder) = opts
        .recording
        .start(&version, opts.mode, opts.sample_rate, opts.syscalls)?
        .unzip();
    info!("{SCHEDULER_NAME} {version}");
    opts.recording.announce();
    schedule(opts, model, saver, recorder, metrics, &shutdown)
}

/// Samples that may wait for the learner, however few are taken a second.
const BACKLOG_MIN: usize = 200;

/// Schedule, and learn where the mode says so, until `shutdown`.
fn schedule(
    opts: &Opts,
    model: Option<ModelFile>,
    saver: Option<Saver>,
    recorder: Option<Arc<dyn Archive>>,
    mut metrics: Option<MetricsFile>,
    shutdown: &Arc<AtomicBool>,
) -> Result<()> {
    let learns = opts.mode != Mode::Base;
    let drain = Arc::<DrainCounters>::default();
    // A learner that is behind by more had better know what is now. More than a window would be forgotten at once.
    let second = usize::try_from(opts.sample_rate).unwrap_or(usize::MAX);
    let waiting_max = second.max(BACKLOG_MIN).min(opts.window);
    let (feed, to_learn) = backlog(waiting_max, drain.clone());
    let verdicts = Arc::<Verdicts>::default();
    let mut outlets: Vec<Arc<dyn Outlet>> = vec![];
    if learns {
        outlets.push(Arc::new(feed));
        outlets.push(verdicts.clone());
    }
    if let Some(recorder) = &recorder {
        outlets.push(recorder.clone());
    }
    let learning = Learning {
        sink: Arc::new(MapSink::default()),
        outlets,
        recorder,
        status: Arc::default(),
        drain,
        verdicts,
        histories: Mutex::default(),
    };
    let trainer = if learns {
        let mut learner = Learner::new(opts.learner_config(), learning.status.clone());
        if let Some(model) = model {
            learner.adopt(model, monotonic_ns(), &*learning.sink)?;
        }
        Some(trainer::start(
            learner,
            opts.keeper_config(),
            to_learn,
            learning.sink.clone(),
            learning.status.clone(),
            saver,
        )?)
    } else {
        None
    };

    let outcome = schedule_with(opts, &learning, metrics.as_mut(), shutdown);
    // However it ended, what was learned is kept.
    drop(learning);
    if let Some(trainer) = trainer {
        trainer::join(trainer);
    }
    outcome
}

/// How often a start is tried after CPUs have come or gone, while others may, and the time between.
const RESTART_TRIES: u32 = 5;
const RESTART_RETRY: Duration = Duration::from_secs(1);

/// Load, attach and watch the scheduler until `shutdown`; again after each CPU hotplug.
fn schedule_with(
    opts: &Opts,
    learning: &Learning,
    mut metrics: Option<&mut MetricsFile>,
    shutdown: &Arc<AtomicBool>,
) -> Result<()> {
    let mut print_interval = opts.stats.map(Duration::from_secs_f64);
    // The first start has one try: what is wrong with it is better known at once.
    let mut tries = 1;
    loop {
        let mut object = MaybeUninit::uninit();
        let mut scheduler = match Scheduler::start(opts, learning, &mut object, shutdown) {
            Ok(scheduler) => scheduler,
            Err(_) if shutdown.load(Ordering::Relaxed) => return Ok(()),
            Err(e) if tries > 1 => {
                tries -= 1;
                warn!("the scheduler cannot be started again: {e:#}; trying again");
                std::thread::sleep(RESTART_RETRY);
                if shutdown.load(Ordering::Relaxed) {
                    return Ok(());
                }
                continue;
            }
            Err(e) => return Err(e),
        };
        tries = RESTART_TRIES;
        if let Some(interval) = print_interval.take() {
            print_stats(interval, shutdown.clone())?;
        }
        let exit = scheduler.run(shutdown, metrics.as_deref_mut())?;
        if !exit.should_restart() || shutdown.load(Ordering::Relaxed) {
            return Ok(());
        }
        info!("the CPUs have changed: restarting, the model is kept, and what is known of tasks");
    }
}

/// A client of our own stats server, in a thread.
fn print_stats(interval: Duration, shutdown: Arc<AtomicBool>) -> Result<()> {
    let mut printer = Printer::new(SOCKET.into());
    std::thread::Builder::new()
        .name("ml-stats".into())
        .spawn(move || {
            let print = || printer.run(interval, &shutdown, &mut io::stdout());
            if let Err(e) = caught(print).unwrap_or_else(|e| Err(e.into())) {
                warn!("statistics are no longer printed: {e:#}");
            }
        })
        .context("cannot start the thread that prints statistics")?;
    Ok(())
}
