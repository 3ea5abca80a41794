//! The command line of the simulator.

#[cfg(feature = "recording")]
mod replay;
#[cfg(not(feature = "recording"))]
#[path = "no_replay.rs"]
mod replay;

mod args;
mod loads;

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser};
use scx_ml::cli::left_out::explained;
use scx_ml_text::{exit_by, json, lines};
use serde::Serialize;

use replay::{LEFT_OUT, REPLAY_EXAMPLE, ReplayArgs};

use crate::experiment::{PolicySpec, Scenario, WorkloadSpec};
use crate::machine::Costs;
use crate::report::{PolicyRuns, PolicySummary, summarise, table};
use crate::topology::Topology;
pub use loads::{LoadArgs, WorkloadName};
use loads::{not_negative, ns, positive};

/// What stands below the help.
fn examples() -> String {
    format!(
        "Examples:\n  \
        scx_sim                                                  the benchmark's default mix on one CPU\n  \
        scx_sim --workers shared --reveal syscall --seeds 5      the mode shown by a system call\n  \
        scx_sim --policies ml-base,eevdf --sweep first_quantum_us=500,1000,2000\n  \
        scx_sim --policies ml-learn,ml-learn+own_quantum=off     a rule as it is and switched off\n  \
        scx_sim --cpus 1024 --llcs 64 --nodes 8 --seconds 5      a machine that nobody here has\
        {REPLAY_EXAMPLE}"
    )
}

/// Try scheduling policies on a simulated machine.
#[derive(Debug, Clone, Args)]
#[command(after_help = examples())]
pub struct SimArgs {
    /// Policies, side by side: ml-base, ml-learn, ml-oracle, ml-noise:OCTAVES, ml-avg, eevdf[:US], srpt, las[:US],
    /// rr[:US], fcfs, ps[:US]; those of ml with +KEY=VALUE for each setting.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "eevdf,ml-base,ml-learn,ml-oracle,las,srpt"
    )]
    pub policies: Vec<String>,

    /// A setting of all ml policies: KEY=VALUE. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Run the ml policies with each of the values of a setting.
    #[arg(long, value_name = "KEY=VALUE,VALUE")]
    pub sweep: Option<String>,

    /// Ratios are to this policy.
    #[arg(long, default_value = "eevdf")]
    pub baseline: String,

    #[arg(long, default_value_t = 1)]
    pub cpus: u32,

    /// Last-level caches.
    #[arg(long, default_value_t = 1)]
    pub llcs: u32,

    /// NUMA nodes.
    #[arg(long, default_value_t = 1)]
    pub nodes: u32,

    /// Timer ticks a second, at which alone slices end; 0: slices end exactly.
    #[arg(long, default_value_t = 250)]
    pub hz: u64,

    /// Cost of a context switch, in microseconds.
    #[arg(long, default_value_t = 3.0, value_name = "US")]
    pub switch_us: f64,

    /// Cost of a migration inside an LLC, between LLCs of a node, and between nodes, in microseconds.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "2,10,30",
        value_name = "US,US,US"
    )]
    pub migrate_us: Vec<f64>,

    /// Cost of a call of an ml policy, which is a BPF program where eevdf is the kernel's own, in microseconds.
    #[arg(long, default_value_t = 0.0, value_name = "US")]
    pub call_us: f64,

    /// Cost of a look of an ml policy into another CPU's or LLC's queue, in microseconds.
    #[arg(long, default_value_t = 0.0, value_name = "US")]
    pub look_us: f64,

    #[command(flatten)]
    pub replay: ReplayArgs,

    /// Simulated seconds in which requests arrive, the warm-up included. A replay runs to its end.
    #[arg(long, default_value_t = 300.0)]
    pub seconds: f64,

    /// Simulated seconds that are not counted. 30 unless told otherwise, 0 in a replay.
    #[arg(long, value_name = "SECONDS")]
    pub warmup: Option<f64>,

    /// Different seeds, each a run of every policy.
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,

    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub load: LoadArgs,
}

impl SimArgs {
    fn warmup_s(&self) -> f64 {
        let otherwise = if self.replay.is_asked_for() {
            0.0
        } else {
            self.load.warmup_s()
        };
        self.warmup.unwrap_or(otherwise)
    }

    fn check(&self) -> Result<()> {
        self.load.check()?;
        positive("seconds", self.seconds)?;
        for (name, value) in [
            ("warmup", self.warmup_s()),
            ("switch-us", self.switch_us),
            ("call-us", self.call_us),
            ("look-us", self.look_us),
        ] {
            not_negative(name, value)?;
        }
        if !self.replay.is_asked_for() && self.warmup_s() >= self.seconds {
            bail!(
                "--warmup {} leaves nothing of --seconds {} to measure",
                self.warmup_s(),
                self.seconds
            );
        }
        if self.seeds == 0 {
            bail!("--seeds must be at least 1");
        }
        if self.hz > 1_000_000_000 {
            bail!("--hz {} is more than a tick every nanosecond", self.hz);
        }
        Ok(())
    }

    fn costs(&self) -> Result<Costs> {
        let migrate_ns: Vec<u64> = self.migrate_us.iter().map(|&us| ns(us)).collect();
        let Ok(migrate_ns) = migrate_ns.try_into() else {
            bail!("--migrate-us wants three costs: inside an LLC, inside a node, between nodes");
        };
        Ok(Costs {
            switch_ns: ns(self.switch_us),
            migrate_ns,
            call_ns: ns(self.call_us),
            look_ns: ns(self.look_us),
            tick_ns: 1_000_000_000u64.checked_div(self.hz).unwrap_or(0),
        })
    }

    /// The scenario that is asked for.
    ///
    /// # Errors
    /// If an option cannot be.
    pub fn scenario(&self) -> Result<Scenario> {
        self.check()?;
        Ok(Scenario {
            topology: Topology::new(self.cpus, self.llcs, self.nodes)?,
            costs: self.costs()?,
            workload: match self.replay.workload()? {
                Some(recorded) => recorded,
                None => self.load.spec(self.cpus),
            },
            hogs: self.load.beside_hogs,
            end_ns: (self.seconds * 1e9) as u64,
            warmup_ns: (self.warmup_s() * 1e9) as u64,
        })
    }

    /// The policies, the sweep's values among them.
    ///
    /// # Errors
    /// If one cannot be.
    pub fn specs(&self) -> Result<Vec<PolicySpec>> {
        let mut specs: Vec<PolicySpec> = vec![];
        for text in &self.policies {
            let mut spec: PolicySpec = text.parse()?;
            if spec.is_ml() {
                for setting in &self.set {
                    spec.set(setting)?;
                }
            }
            specs.push(spec);
        }
        let Some(sweep) = &self.sweep else {
            return Ok(specs);
        };
        let (key, values) = sweep
            .split_once('=')
            .with_context(|| format!("--sweep {sweep} must be KEY=VALUE,VALUE"))?;
        let mut swept = vec![];
        for spec in specs {
            if !spec.is_ml() {
                swept.push(spec);
                continue;
            }
            for value in values.split(',') {
                swept.push(spec.with(&format!("{key}={value}"))?);
            }
        }
        Ok(swept)
    }
}

/// What the command line says. Ends the program where that cannot be understood, or is a question that clap answers.
pub fn from_command_line<Command: Parser>() -> Command {
    Command::try_parse().unwrap_or_else(|e| exit_by(&explained(e, LEFT_OUT)))
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    cpus: u32,
    llcs: u32,
    nodes: u32,
    costs: Costs,
    seconds: f64,
    warmup: f64,
    seed: u64,
    seeds: u64,
    baseline: &'a str,
    policies: &'a [PolicySummary],
}

/// Run what is asked for and print the report to `out`; how fast it went goes to `log`.
///
/// # Errors
/// If an option cannot be, or nothing can be printed.
pub fn run(args: &SimArgs, out: &mut impl Write, log: &mut impl Write) -> Result<()> {
    let scenario = args.scenario()?;
    let specs = args.specs()?;
    if let WorkloadSpec::Replay { bursts, .. } = &scenario.workload {
        let stood_for: u64 = bursts.iter().map(|b| u64::from(b.repeat)).sum();
        writeln!(
            log,
            "{} recorded bursts, which stand for {stood_for}: sampling has left the others out",
            bursts.len()
        )?;
    }
    let (mut events, mut decisions, mut seconds) = (0, 0, 0.0);
    let mut runs = vec![];
    for spec in &specs {
        let mut outcomes = vec![];
        for seed in args.seed..args.seed + args.seeds {
            let outcome = scenario.run(spec, seed)?;
            events += outcome.counts.events;
            decisions += outcome.counts.decisions;
            seconds += outcome.took.as_secs_f64();
            outcomes.push(outcome);
        }
        runs.push(PolicyRuns {
            label: spec.label.clone(),
            outcomes,
        });
    }
    let summaries = summarise(&runs, &args.baseline, "srpt");
    if args.json {
        let report = Report {
            cpus: args.cpus,
            llcs: args.llcs,
            nodes: args.nodes,
            costs: scenario.costs,
            seconds: args.seconds,
            warmup: args.warmup_s(),
            seed: args.seed,
            seeds: args.seeds,
            baseline: &args.baseline,
            policies: &summaries,
        };
        writeln!(out, "{}", json(&serde_json::to_string_pretty(&report)?))?;
    } else {
        let text = table(&summaries, &args.baseline).to_string();
        writeln!(out, "{}", lines(&text))?;
    }
    writeln!(
        log,
        "{events} events in {seconds:.2} s of CPU time: {:.2} million a second, {:.0} ns a decision",
        events as f64 / seconds.max(1e-9) / 1e6,
        1e9 * seconds / decisions.max(1) as f64
    )?;
    Ok(())
}
