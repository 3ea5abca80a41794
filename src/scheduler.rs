//! The scheduler object: loads the BPF part, attaches it, watches it, and lets go of it.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use libbpf_rs::libbpf_sys::bpf_object_open_opts;
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, OpenObject};
use log::{debug, info, warn};
use scx_ml_text::Show;
use scx_utils::{
    compat, scx_ops_attach, scx_ops_load, scx_ops_open, try_set_rlimit_infinity, uei_exited,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::cli::Opts;
use crate::cli::SCHEDULER_NAME;
use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::bpf::intf::{
    GROUP_DEPTH_MAX, GROUPS_MAX, counters, cpu_ctx, latencies, llc_ctx,
    scx_ml_consts_SAMPLE_WINDOW_NS as SAMPLE_WINDOW_NS, watch,
};
use crate::kernel::bpf::skel::{BpfSkel, BpfSkelBuilder, OpenBpfSkel};
use crate::kernel::clock::monotonic_ns;
use crate::kernel::exit::Exit;
use crate::kernel::features;
use crate::kernel::news;
use crate::kernel::preflight::Kernel;
use crate::kernel::ringbuf::{Archive, Drain, DrainCounters, Outlet};
use crate::kernel::syscalls;
use crate::kernel::topology::{CAPACITY_ONE, CacheMap};
use crate::kernel::trouble::{self, Duty};
use crate::learn::learner::LearnerStatus;
use crate::model::publish::{MapSink, ModelMaps};
use crate::watch::ask::SOCKET;
use crate::watch::desk::Desk;
use crate::watch::latency::Histogram;
use crate::watch::observe::Observer;
use crate::watch::openmetrics::{self, MetricsFile};
use crate::watch::server::protocol::Targets;
use crate::watch::server::{Limits, Server};
use crate::watch::stats::{Metrics, Sources};
use crate::watch::verdicts::Verdicts;

/// How often the run loop looks whether it is to end.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// The kernel's sampling window, in seconds.
const SAMPLE_WINDOW_S: f64 = SAMPLE_WINDOW_NS as f64 / 1e9;

/// What outlives a scheduler object: a restart (CPU hotplug) keeps the learner and its model.
pub struct Learning {
    pub sink: Arc<MapSink>,
    /// Where samples go. Nowhere: nothing is learned (`--mode base`).
    pub outlets: Vec<Arc<dyn Outlet>>,
    /// Who is told of the bursts that are no samples.
    pub recorder: Option<Arc<dyn Archive>>,
    pub status: Arc<Mutex<LearnerStatus>>,
    pub drain: Arc<DrainCounters>,
    /// How predictions turned out; counted where it is among the outlets.
    pub verdicts: Arc<Verdicts>,
    /// What the kernel keeps of tasks, once there is such a map.
    pub histories: Mutex<Option<MapHandle>>,
}

/// A loaded and attached scheduler.
pub struct Scheduler<'a> {
    skel: BpfSkel<'a>,
    link: Option<Link>,
    drain: Option<Drain>,
    /// None while one that has ended is not replaced yet.
    stats_server: Option<Server>,
    opts: &'a Opts,
    learning: &'a Learning,
    attached: Instant,
    /// The kernel's watch over each class's model, as it was seen last.
    watches: [watch; NR_CLASSES],
    /// It has been said that a cgroup was refused.
    refusals_told: bool,
}

/// What libbpf has to be told of the kernel's configuration, if anything: the text of the `--kconfig` file, or what it would not
/// find by itself.
///
/// # Errors
/// When it is nowhere, or not in that file.
fn kernel_config(file: Option<String>) -> Result<Option<CString>> {
    let config = match file {
        Some(file) => Some(std::fs::read_to_string(&file).with_context(|| {
            format!(
                "cannot read the kernel's configuration {} (--kconfig)",
                file.shown()
            )
        })?),
        None => Kernel::running().config()?,
    };
    Ok(config.map(CString::new).transpose()?)
}

impl<'a> Scheduler<'a> {
    /// Load and attach. From then on this is the machine's scheduler.
    ///
    /// # Errors
    /// When the kernel refuses; its own scheduler then stays.
    pub fn start(
        opts: &'a Opts,
        learning: &'a Learning,
        object: &'a mut MaybeUninit<OpenObject>,
        shutdown: &AtomicBool,
    ) -> Result<Self> {
        try_set_rlimit_infinity();
        let mut builder = BpfSkelBuilder::default();
        builder.obj_builder.debug(opts.verbose);
        // Not by into_bpf_open_opts(), which passes over a file that it cannot read, and all other options with it.
        let mut libbpf = opts.libbpf.clone();
        let config = kernel_config(libbpf.kconfig.take())?;
        let mut open_opts = libbpf.into_bpf_open_opts();
        if let Some(config) = &config {
            let open_opts = open_opts.get_or_insert_with(|| bpf_object_open_opts {
                sz: size_of::<bpf_object_open_opts>() as _,
                ..Default::default()
            });
            // Copied when the object is opened.
            open_opts.kconfig = config.as_ptr();
        }
        let mut skel = scx_ops_open!(builder, object, ml_ops, open_opts)
            .context("cannot open the BPF scheduler")?;
        // After the object was opened, which notes how often CPUs have come and gone: a change since then restarts us.
        let caches = CacheMap::detect(shutdown)?;
        info!(
            "{} CPUs, {} LLCs, {}SMT {}",
            caches.cpus_of_llc.iter().sum::<u32>(),
            caches.cpus_of_llc.len(),
            match caches.nr_nodes() {
                1 => String::new(),
                n => format!("{n} NUMA nodes, "),
            },
            if caches.smt { "on" } else { "off" }
        );
        configure(&mut skel, opts, &caches)?;
        let histories = || learning.histories.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(kept) = &*histories()
            && let Err(e) = skel.maps.task_ctxs.reuse_fd(kept.as_fd())
        {
            warn!("what was known of tasks is lost: its map cannot be used again: {e}");
        }
        debug!("ops flags: {:#x}", skel.struct_ops.ml_ops().flags);

        let mut skel = scx_ops_load!(skel, ml_ops, uei).context(
            "the kernel refuses the BPF scheduler; run with -v for what its verifier says",
        )?;
        *histories() = Some(MapHandle::try_from(&skel.maps.task_ctxs)?);
        describe_machine(&skel, &caches)?;

        learning.sink.connect(ModelMaps {
            models: MapHandle::try_from(&skel.maps.models)?,
            ctl: MapHandle::try_from(&skel.maps.model_ctl)?,
            profiles: MapHandle::try_from(&skel.maps.profiles)?,
            learned: MapHandle::try_from(&skel.maps.data_learned)?,
        })?;
        let drain = if learning.outlets.is_empty() {
            None
        } else {
            Some(Drain::start(
                MapHandle::try_from(&skel.maps.samples)?,
                learning.outlets.clone(),
                learning.drain.clone(),
            )?)
        };
        if let Some(recorder) = &learning.recorder {
            let undecodable = learning.drain.undecodable.load(Ordering::Relaxed);
            recorder.begin(monotonic_ns(), undecodable);
        }

        let link = scx_ops_attach!(skel, ml_ops).with_context(|| {
            let advice = Kernel::running().attach_advice();
            format!("the kernel refuses to attach the scheduler{advice}")
        })?;
        report_misplaced(&skel);
        let stats_server = serve(&skel, opts)?;
        info!("scheduling, mode {}", opts.mode.name());
        Ok(Self {
            skel,
            link: Some(link),
            drain,
            stats_server: Some(stats_server),
            opts,
            learning,
            attached: Instant::now(),
            watches: Default::default(),
            refusals_told: false,
        })
    }

    /// Watch until `shutdown` or until the kernel ends it; then detach and report. What fails meanwhile is tried again in the
    /// next round.
    ///
    /// # Errors
    /// When the kernel has ejected the scheduler: the error says why.
    pub fn run(
        &mut self,
        shutdown: &AtomicBool,
        mut metrics_file: Option<&mut MetricsFile>,
    ) -> Result<Exit> {
        let mut desk = Desk::default();
        let mut watching = Duty::new("the look at the watches", "the kernel's watches are read");
        let mut refusing = Duty::new("the look at refused cgroups", "refused cgroups are seen");
        let mut telling = Duty::new("the word to the recorder", "the recorder is told");
        while !shutdown.load(Ordering::Relaxed) && !uei_exited!(&self.skel, uei) {
            let channels = self.stats_server.as_ref().and_then(Server::channels);
            if !desk.attend(channels, WATCH_INTERVAL, || self.metrics()) {
                self.stats_server = None;
                self.stats_server = desk.replace(|| serve(&self.skel, self.opts));
            }
            news::turn();
            watching.turn(|| self.report_watches());
            refusing.turn(|| self.report_refusals());
            telling.turn(|| self.tell_recorder(false));
            if let Some(file) = metrics_file.as_deref_mut().filter(|file| file.is_due()) {
                let version = env!("CARGO_PKG_VERSION");
                file.write(|| Ok(openmetrics::text(&self.metrics()?, &self.watches, version)));
            }
        }

        self.link = None;
        // Nothing ends a burst any more: what is read and counted now is all.
        self.drain = None;
        telling.last_turn("the recording's sums do not add up", || {
            self.tell_recorder(true)
        });
        Duty::new("the last reading", "the totals are read")
            .last_turn("there are no totals", || self.report_totals());
        news::end();
        let exit = Exit::read(&self.skel)?;
        exit.report(&mut std::io::stderr().lock())?;
        Ok(exit)
    }

    fn report_totals(&self) -> Result<()> {
        let mut totals = vec![];
        self.metrics()?.format(&mut totals)?;
        info!(
            "detached; in all:\n{}",
            String::from_utf8_lossy(&totals).trim_end()
        );
        Ok(())
    }

    fn metrics(&self) -> Result<Metrics> {
        let status = self
            .learning
            .status
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone();
        let recorder = self.learning.recorder.as_ref();
        Ok(Metrics::read(Sources {
            mode: self.opts.mode.name(),
            uptime_s: self.attached.elapsed().as_secs_f64(),
            latencies: self.latencies()?,
            watches: &self.watches,
            classes: self.learning.verdicts.read(),
            counters: &self.counters()?,
            drain: &self.learning.drain,
            learner: &status,
            recorded: recorder.map_or(0, |r| r.kept()),
            record_lost: recorder.map_or(0, |r| r.lost()),
            troubles: trouble::failures(),
        }))
    }

    /// Tell the recorder, about once a second and at the end, what the kernel has counted.
    fn tell_recorder(&self, last: bool) -> Result<()> {
        let Some(recorder) = &self.learning.recorder else {
            return Ok(());
        };
        let now_ns = monotonic_ns();
        if last || recorder.is_due(now_ns) {
            let undecodable = self.learning.drain.undecodable.load(Ordering::Relaxed);
            recorder.account(&self.counters()?, undecodable, now_ns, last);
        }
        Ok(())
    }

    /// Log where the kernel has fallen back from a model to the kind's average, or returned to it.
    fn report_watches(&mut self) -> Result<()> {
        for class in 0..NR_CLASSES {
            let now = self.read_watch(class)?;
            let before = std::mem::replace(&mut self.watches[class], now);
            if (now.fallbacks, now.returns) == (before.fallbacks, before.returns) {
                continue;
            }
            let name = features::class_name(class);
            let (model, avg) = now.errors();
            let text = format!(
                "{name} tasks: the model errs by {model:.3} octaves, the kind's average by {avg:.3}; the kernel"
            );
            if now.fallback != 0 {
                news::warn(
                    name,
                    format_args!(
                        "{text} has fallen back to that ({} times so far)",
                        now.fallbacks
                    ),
                );
            } else {
                news::info(name, format_args!("{text} uses it again"));
            }
        }
        Ok(())
    }

    /// Log once why somebody could not make a cgroup: mkdir tells no more than that there is no space.
    fn report_refusals(&mut self) -> Result<()> {
        if !self.refusals_told && self.counters()?.groups_refused > 0 {
            self.refusals_told = true;
            warn!(
                "a cgroup could not be made (no space left): {SCHEDULER_NAME} keeps account of {} levels of cgroups below the \
                 root, and of {} cgroups; the statistics count refusals as groups_refused",
                GROUP_DEPTH_MAX, GROUPS_MAX
            );
        }
        Ok(())
    }

    fn read_watch(&self, class: usize) -> Result<watch> {
        let bytes = self
            .skel
            .maps
            .watches
            .lookup(&(class as u32).to_ne_bytes(), MapFlags::ANY)
            .context("cannot read the kernel's watch over the model")?;
        bytes
            .and_then(|bytes| watch::read_from_bytes(&bytes).ok())
            .ok_or_else(|| anyhow!("the kernel's watch over the model is missing"))
    }

    /// The kernel's histogram of wake-to-run latencies, summed over CPUs.
    fn latencies(&self) -> Result<Histogram> {
        let per_cpu = self
            .skel
            .maps
            .latency_map
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
            .context("cannot read the kernel's latencies")?
            .ok_or_else(|| anyhow!("the kernel's latencies are missing"))?;
        let per_cpu = per_cpu
            .iter()
            .filter_map(|bytes| latencies::read_from_bytes(bytes).ok());
        Ok(Histogram::sum(per_cpu))
    }

    /// The kernel's counters, summed over CPUs.
    fn counters(&self) -> Result<counters> {
        let per_cpu = self
            .skel
            .maps
            .counter_map
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
            .context("cannot read the kernel's counters")?
            .ok_or_else(|| anyhow!("the kernel's counters are missing"))?;
        Ok(per_cpu
            .iter()
            .filter_map(|bytes| counters::read_from_bytes(bytes).ok())
            .sum())
    }
}

/// Say so if CPUs do not have cache lines of their own, which costs time but nothing else.
fn report_misplaced(skel: &BpfSkel) {
    let Some(bss) = skel.maps.bss_data.as_ref() else {
        return;
    };
    let (cpus, llcs) = (bss.misplaced_cpus, bss.misplaced_llcs);
    if (cpus, llcs) != (0, 0) {
        warn!(
            "this kernel places the states of {cpus} CPUs and {llcs} LLCs within cache lines of others; please report it"
        );
    }
}

/// Answer on the stats socket.
fn serve(skel: &BpfSkel, opts: &Opts) -> Result<Server> {
    let observer = Observer::new(skel, opts.mode, opts.partial)?;
    Server::start(Path::new(SOCKET), Limits::default(), |ask| {
        observer.serve(Targets::of_counters(ask))
    })
    .context("cannot serve statistics")
}

impl Drop for Scheduler<'_> {
    fn drop(&mut self) {
        self.learning.sink.disconnect();
        debug!("{SCHEDULER_NAME} scheduler unloaded");
    }
}

/// Options and machine into the object before it is loaded.
fn configure(skel: &mut OpenBpfSkel, opts: &Opts, caches: &CacheMap) -> Result<()> {
    let nr_cpus = caches.llc_of_cpu.len() as u32;
    let nr_llcs = caches.cpus_of_llc.len() as u32;

    let rodata = skel
        .maps
        .rodata_data
        .as_mut()
        .ok_or_else(|| anyhow!("the BPF object has no read-only data"))?;
    rodata.params.slice_min_ns = opts.slice_min_us * 1000;
    rodata.params.slice_max_ns = opts.slice_max_us * 1000;
    rodata.mode = opts.mode.kernel_mode();
    rodata.nr_cpus = nr_cpus;
    rodata.nr_llcs = nr_llcs;
    rodata.nr_nodes = caches.nr_nodes();
    rodata.own_tgid = std::process::id();
    rodata.freq_control = !opts.no_freq_control;
    rodata.big_capacity = caches.big_capacity().unwrap_or(0);
    rodata.sample_budget =
        ((opts.sample_rate as f64 * SAMPLE_WINDOW_S / f64::from(nr_cpus)).round() as u64).max(1);

    if opts.syscalls {
        syscalls::fill_classes(&mut rodata.syscall_class);
    }
    skel.progs.ml_sys_enter.set_autoload(opts.syscalls);

    skel.maps.cpu_ctxs.set_max_entries(nr_cpus)?;
    skel.maps.llc_ctxs.set_max_entries(nr_llcs)?;

    let ops = skel.struct_ops.ml_ops_mut();
    ops.exit_dump_len = opts.exit_dump_len;
    // What older kernels do not tell of is read from their task groups instead: nothing to warn of at each start.
    if !compat::struct_has_field("sched_ext_ops", "cgroup_set_bandwidth").unwrap_or(false) {
        ops.cgroup_set_bandwidth = std::ptr::null_mut();
    }
    if !compat::struct_has_field("sched_ext_ops", "cgroup_set_idle").unwrap_or(false) {
        ops.cgroup_set_idle = std::ptr::null_mut();
    }
    ops.flags = *compat::SCX_OPS_ENQ_EXITING
        | *compat::SCX_OPS_KEEP_BUILTIN_IDLE
        | *compat::SCX_OPS_ENQ_MIGRATION_DISABLED
        // Else what has used up its cpu.max goes on where nobody else wants to.
        | *compat::SCX_OPS_ENQ_LAST
        | if opts.partial {
            *compat::SCX_OPS_SWITCH_PARTIAL
        } else {
            0
        };
    Ok(())
}

/// The machine's caches into the maps of the loaded object.
fn describe_machine(skel: &BpfSkel, caches: &CacheMap) -> Result<()> {
    for (cpu, &llc) in caches.llc_of_cpu.iter().enumerate() {
        let state = cpu_ctx {
            llc,
            next_in_llc: caches.next_in_llc[cpu],
            capacity: caches.capacity_of_cpu[cpu],
            slowness_q10: CAPACITY_ONE * CAPACITY_ONE / caches.capacity_of_cpu[cpu].max(1),
            // As the kernel has it when a scheduler begins.
            util_q10: CAPACITY_ONE << 10,
            cpuperf: CAPACITY_ONE,
            ..Default::default()
        };
        skel.maps
            .cpu_ctxs
            .update(&(cpu as u32).to_ne_bytes(), state.as_bytes(), MapFlags::ANY)
            .with_context(|| format!("cannot describe CPU {cpu} to the kernel"))?;
    }
    for (llc, &nr_cpus) in caches.cpus_of_llc.iter().enumerate() {
        let state = llc_ctx {
            nr_cpus,
            first_cpu: caches.first_of_llc[llc],
            node: caches.node_of_llc[llc],
            numa_node: caches.numa_node_of_llc[llc],
            ..Default::default()
        };
        skel.maps
            .llc_ctxs
            .update(&(llc as u32).to_ne_bytes(), state.as_bytes(), MapFlags::ANY)
            .with_context(|| format!("cannot describe LLC {llc} to the kernel"))?;
    }
    Ok(())
}
