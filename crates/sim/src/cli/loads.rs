//! What runs, on the command line.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::args::{ClosedArgs, OpenArgs, PipesArgs, RpcArgs, Workers};
use crate::experiment::WorkloadSpec;
use crate::workload::closed::ClosedParams;
use crate::workload::open_loop::OpenLoopParams;
use crate::workload::pipes::PipesParams;
use crate::workload::rpc::RpcParams;
use crate::workload::schbench::SchbenchParams;
use crate::workload::sizes::Sizes;
use crate::workload::yields::YieldsParams;

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadName {
    /// Requests that arrive whether or not the machine keeps up.
    OpenLoop,
    /// Messengers wake workers that compute: a closed loop.
    Schbench,
    /// The same as the real schbench has it: who works holds its CPU's lock, and others spin for it.
    SchbenchLocks,
    /// Clients ask servers and wait for the answer.
    Rpc,
    /// Groups of senders and receivers: hackbench.
    Pipes,
    /// Threads that yield while they hold one of few locks: sysbench threads.
    Yields,
    /// Endless tasks compete for shares.
    Hogs,
}

/// The workload and its parts.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    #[arg(long, value_enum, default_value_t = WorkloadName::OpenLoop)]
    pub workload: WorkloadName,

    /// Endless tasks of nice 0 beside the workload.
    #[arg(long, default_value_t = 0, value_name = "TASKS")]
    pub beside_hogs: u32,

    /// Nice values of the hogs, in turn.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0,5,10",
        allow_hyphen_values = true
    )]
    pub nice: Vec<i32>,

    /// Hogs per CPU.
    #[arg(long, default_value_t = 3)]
    pub hogs_per_cpu: u32,

    #[command(flatten)]
    pub open: OpenArgs,

    #[command(flatten)]
    pub closed: ClosedArgs,

    #[command(flatten)]
    pub rpc: RpcArgs,

    #[command(flatten)]
    pub pipes: PipesArgs,
}

impl LoadArgs {
    /// # Errors
    /// If an option cannot be.
    pub fn check(&self) -> Result<()> {
        let (o, c, r, p) = (&self.open, &self.closed, &self.rpc, &self.pipes);
        for (name, value) in [
            ("load", o.load),
            ("short-ms", o.short_ms),
            ("long-ms", o.long_ms),
            ("mean-ms", o.mean_ms),
            ("work-us", c.work_us),
            ("wake-us", c.wake_us),
            ("server-us", r.server_us),
            ("send-us", p.send_us),
            ("receive-us", p.receive_us),
            ("step-us", p.step_us),
        ] {
            positive(name, value)?;
        }
        share("long-share", o.long_share)?;
        share("reveal-accuracy", o.reveal_accuracy)?;
        share("persistence", o.persistence.unwrap_or(0.0))?;
        share("missed-sleeps", c.missed_sleeps)?;
        for (name, value) in [
            ("generator-us", o.generator_us),
            ("sleep-us", c.sleep_us),
            ("spread", o.spread),
            ("client-us", r.client_us),
            ("run-on-us", r.run_on_us),
            ("think-us", r.think_us),
        ] {
            not_negative(name, value)?;
        }
        if o.alpha.is_nan() || o.alpha <= 1.0 {
            bail!(
                "--alpha {} must be above 1, or bursts have no mean",
                o.alpha
            );
        }
        if self.nice.is_empty() {
            bail!("--nice must not be empty");
        }
        for (name, number) in [
            ("threads-per-cpu", o.threads_per_cpu),
            ("messengers", c.messengers),
            ("workers-per-cpu", c.workers_per_cpu),
            ("sleeps", c.sleeps),
            ("nr-locks", c.nr_locks),
            ("servers", r.servers),
            ("clients-per-server", r.clients_per_server),
            ("groups", p.groups),
            ("pairs", p.pairs),
            ("messages", p.messages),
            ("pipe-capacity", p.pipe_capacity),
            ("yielders", p.yielders),
            ("yields", p.yields),
        ] {
            if number == 0 {
                bail!("--{name} must be at least 1");
            }
        }
        Ok(())
    }

    /// Simulated seconds that are not counted, unless told otherwise: a run that has an end is counted from its beginning.
    pub fn warmup_s(&self) -> f64 {
        match self.workload {
            WorkloadName::Pipes => 0.0,
            _ => 30.0,
        }
    }

    /// The workload, on so many CPUs.
    pub fn spec(&self, cpus: u32) -> WorkloadSpec {
        let (o, c, r, p) = (&self.open, &self.closed, &self.rpc, &self.pipes);
        match self.workload {
            WorkloadName::OpenLoop => {
                let sizes = Sizes {
                    shape: o.shape,
                    short_ms: o.short_ms,
                    long_ms: o.long_ms,
                    long_share: o.long_share,
                    mean_ms: o.mean_ms,
                    alpha: o.alpha,
                    spread: o.spread,
                };
                let dedicated = o.workers == Workers::Dedicated && o.persistence.is_none();
                let pools = if dedicated {
                    sizes.classes().len() as u32
                } else {
                    1
                };
                WorkloadSpec::OpenLoop(OpenLoopParams {
                    sizes,
                    load: o.load,
                    cpus,
                    workers: o.threads_per_cpu * cpus * pools,
                    persistence: o.persistence.unwrap_or(f64::from(u8::from(dedicated))),
                    reveal: o.reveal,
                    reveal_accuracy: o.reveal_accuracy,
                    generator_ns: ns(o.generator_us),
                    arrivals_ns: 0,
                    seed: 0,
                })
            }
            WorkloadName::Schbench => WorkloadSpec::Closed(ClosedParams {
                messengers: c.messengers,
                workers: c.workers_per_cpu * cpus,
                work_ns: ns(c.work_us),
                sleep_ns: ns(c.sleep_us),
                wake_ns: ns(c.wake_us).max(1),
                seed: 0,
            }),
            WorkloadName::SchbenchLocks => WorkloadSpec::Schbench(SchbenchParams {
                messengers: c.messengers,
                workers: c.workers_per_cpu * cpus,
                work_ns: ns(c.work_us),
                sleep_ns: ns(c.sleep_us),
                sleeps: c.sleeps,
                missed_sleeps: c.missed_sleeps,
                wake_ns: ns(c.wake_us).max(1),
                spread: o.spread,
                scope: c.locks,
                locks: c.nr_locks,
                seed: 0,
            }),
            WorkloadName::Rpc => WorkloadSpec::Rpc(RpcParams {
                servers: r.servers,
                clients: r.servers * r.clients_per_server,
                connections: r.connections,
                client_ns: ns(r.client_us),
                server_ns: ns(r.server_us),
                run_on_ns: ns(r.run_on_us),
                think_ns: ns(r.think_us),
                wake_ns: ns(c.wake_us).max(1),
                sync: r.sync,
                seed: 0,
            }),
            WorkloadName::Pipes => WorkloadSpec::Pipes(PipesParams {
                groups: p.groups,
                pairs: p.pairs,
                messages: p.messages,
                capacity: p.pipe_capacity,
                send_ns: ns(p.send_us),
                receive_ns: ns(p.receive_us),
                wake_ns: ns(c.wake_us).max(1),
            }),
            WorkloadName::Yields => WorkloadSpec::Yields(YieldsParams {
                threads: p.yielders,
                locks: c.nr_locks,
                yields: p.yields,
                step_ns: ns(p.step_us).max(1),
                wake_ns: ns(c.wake_us).max(1),
                seed: 0,
            }),
            WorkloadName::Hogs => WorkloadSpec::Hogs {
                tasks: self.hogs_per_cpu * cpus,
                nice: self.nice.clone(),
            },
        }
    }
}

/// Microseconds in nanoseconds.
pub fn ns(us: f64) -> u64 {
    (us * 1000.0) as u64
}

/// # Errors
/// If it is not.
pub fn positive(name: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    bail!("--{name} {value} must be a positive number");
}

fn share(name: &str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    bail!("--{name} {value} is a probability: give 0 to 1");
}

/// # Errors
/// If it is one.
pub fn not_negative(name: &str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    bail!("--{name} {value} must be at least 0");
}
