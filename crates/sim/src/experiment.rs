//! An experiment: policies side by side on the same arrivals, for several seeds.

use std::time::Duration;

use scx_ml::kernel::clock::thread_cpu_ns;

use crate::engine::Engine;
use crate::machine::{Costs, Counts, Machine};
pub use crate::policy::spec::{PolicySpec, SpecError};
use crate::record::Recorder;
use crate::topology::Topology;
use crate::workload::Load;
use crate::workload::hogs::share_error;
use crate::workload::replay::ReplayError;
pub use crate::workload::spec::WorkloadSpec;

/// Everything but the policy and the seed.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub topology: Topology,
    pub costs: Costs,
    pub workload: WorkloadSpec,
    /// Endless tasks beside it.
    pub hogs: u32,
    /// Simulated time in which requests arrive.
    pub end_ns: u64,
    /// Requests before it are not counted.
    pub warmup_ns: u64,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum RunError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// What came out of one run: names and values, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub metrics: Vec<(String, f64)>,
    pub notes: Vec<(String, f64)>,
    pub counts: Counts,
    /// CPU time that it took. Not part of what the seed determines.
    pub took: Duration,
}

impl Outcome {
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| *v)
    }
}

impl Scenario {
    fn load(&self, seed: u64) -> Result<Box<dyn Load>, RunError> {
        Ok(self.workload.load(seed, self.end_ns, self.hogs)?)
    }

    /// An engine, ready to run.
    ///
    /// # Errors
    /// If policy or recording cannot be.
    pub fn engine(&self, policy: &PolicySpec, seed: u64) -> Result<Engine, RunError> {
        let load = self.load(seed)?;
        let machine = Machine::new(self.topology, self.costs);
        let recorder = Recorder::new(load.classes().len(), self.warmup_ns);
        let policy = policy.build(&machine, seed)?;
        Ok(Engine::new(
            self.topology,
            self.costs,
            policy,
            load,
            recorder,
        ))
    }

    /// Run one policy with one seed.
    ///
    /// # Errors
    /// If policy or recording cannot be.
    pub fn run(&self, policy: &PolicySpec, seed: u64) -> Result<Outcome, RunError> {
        let load = self.load(seed)?;
        let (drains, classes) = (load.drains(), load.classes());
        let mut engine = self.engine(policy, seed)?;
        let started_ns = thread_cpu_ns();
        engine.run(if drains { u64::MAX } else { self.end_ns });
        let took = Duration::from_nanos(thread_cpu_ns() - started_ns);
        let m = &engine.machine;
        let mut metrics = engine.metrics();
        let mut add = |name: String, value: f64| metrics.push((name, value));
        let ms = 1e-6;
        for (name, class) in classes.iter().zip(&engine.recorder.classes) {
            add(format!("{name}_count"), class.count() as f64);
            add(format!("{name}_mean_ms"), ms * class.mean_ns());
            add(format!("{name}_p50_ms"), ms * class.quantile_ns(0.5));
            add(format!("{name}_p99_ms"), ms * class.quantile_ns(0.99));
        }
        let all = &engine.recorder.all;
        add("mean_ms".into(), ms * all.mean_ns());
        add("p99_ms".into(), ms * all.quantile_ns(0.99));
        add("slowdown_mean".into(), all.slowdown_mean());
        add("slowdown_p99".into(), all.slowdown_quantile(0.99));
        let c = &m.counts;
        let per_burst = |n: u64| n as f64 / c.bursts.max(1) as f64;
        add("switches_per_burst".into(), per_burst(c.switches));
        add("preemptions_per_burst".into(), per_burst(c.preemptions));
        add(
            "migrations_per_burst".into(),
            per_burst(c.migrations.iter().sum()),
        );
        let cpu_ns = m.now_ns as f64 * f64::from(m.topology.cpus());
        add("switch_share".into(), c.switch_ns as f64 / cpu_ns);
        add("policy_share".into(), c.policy_ns as f64 / cpu_ns);
        add(
            "looks_per_decision".into(),
            c.looks as f64 / c.decisions.max(1) as f64,
        );
        if matches!(self.workload, WorkloadSpec::Hogs { .. }) {
            add("share_error_points".into(), share_error(m));
        }
        Ok(Outcome {
            metrics,
            notes: engine.notes(),
            counts: *c,
            took,
        })
    }
}
