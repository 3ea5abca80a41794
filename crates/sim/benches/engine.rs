//! How fast the engine is: events a second, and the time per decision against the number of CPUs.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scx_ml_sim::experiment::{PolicySpec, Scenario, WorkloadSpec};
use scx_ml_sim::machine::Costs;
use scx_ml_sim::topology::Topology;
use scx_ml_sim::workload::open_loop::{OpenLoopParams, Reveal};
use scx_ml_sim::workload::sizes::Sizes;

/// The default mix on a machine with 16 CPUs an LLC and 8 LLCs a node.
fn scenario(cpus: u32) -> Scenario {
    let llcs = (cpus / 16).max(1);
    Scenario {
        topology: Topology::new(cpus, llcs, (llcs / 8).max(1)).unwrap_or_else(|e| panic!("{e}")),
        costs: Costs {
            switch_ns: 3_000,
            migrate_ns: [2_000, 10_000, 30_000],
            tick_ns: 4_000_000,
            ..Costs::NONE
        },
        workload: WorkloadSpec::OpenLoop(OpenLoopParams {
            sizes: Sizes::default(),
            load: 0.8,
            cpus,
            workers: 48 * cpus,
            persistence: 1.0,
            reveal: Reveal::None,
            reveal_accuracy: 1.0,
            generator_ns: 0,
            arrivals_ns: 0,
            seed: 0,
        }),
        hogs: 0,
        end_ns: 200_000_000_000 / u64::from(cpus),
        warmup_ns: 0,
    }
}

fn engine(c: &mut Criterion) {
    for policy in ["ml-base", "eevdf", "srpt"] {
        let spec: PolicySpec = policy.parse().unwrap_or_else(|e| panic!("{e}"));
        let mut group = c.benchmark_group(policy);
        group.sample_size(10);
        for cpus in [1, 16, 128, 1024] {
            let scenario = scenario(cpus);
            // Creating 48 workers a CPU is not what is measured.
            let engine = || scenario.engine(&spec, 1).unwrap_or_else(|e| panic!("{e}"));
            let mut counted = engine();
            counted.run(u64::MAX);
            group.throughput(Throughput::Elements(counted.machine.counts.events));
            group.bench_function(BenchmarkId::new("events", cpus), |b| {
                b.iter_batched_ref(engine, |e| e.run(u64::MAX), BatchSize::PerIteration)
            });
        }
        group.finish();
    }
}

criterion_group!(benches, engine);
criterion_main!(benches);
