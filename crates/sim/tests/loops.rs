//! What must hold of tasks that hold locks, spin, yield, wake others and run on: nothing is lost, all get on, and it does not cost
//! events to wait.

use clap::Parser;
use proptest::prelude::*;
use scx_ml_sim::cli::{SimArgs, run};
use scx_ml_sim::experiment::{PolicySpec, Scenario, WorkloadSpec};
use scx_ml_sim::machine::{Costs, Machine, NO_TASK, State};
use scx_ml_sim::topology::Topology;
use scx_ml_sim::workload::pipes::PipesParams;
use scx_ml_sim::workload::rpc::RpcParams;
use scx_ml_sim::workload::schbench::SchbenchParams;
use scx_ml_sim::workload::spin::Scope;
use scx_ml_sim::workload::yields::YieldsParams;

const POLICIES: [&str; 9] = [
    "fcfs",
    "rr",
    "las",
    "srpt",
    "eevdf",
    "ml-base",
    "ml-learn+refit_ms=200",
    "ml-noise:2",
    "ml-base+second_turn=on+producers=off+relief=off",
];

const RUN_NS: u64 = 1_000_000_000;

fn spec(policy: &str) -> PolicySpec {
    policy.parse().expect("a policy")
}

fn any_schbench() -> impl Strategy<Value = WorkloadSpec> {
    let scopes = prop_oneof![Just(Scope::None), Just(Scope::PerCpu), Just(Scope::Global)];
    (
        1u32..3,
        1u32..12,
        1_000u64..6_000_000,
        0.0..0.5f64,
        0u64..1_000_000,
        1u32..3,
        prop_oneof![Just(0.0), 0.0..1.0f64],
        scopes,
        1u32..4,
    )
        .prop_map(
            |(
                messengers,
                workers,
                work_ns,
                spread,
                sleep_ns,
                sleeps,
                missed_sleeps,
                scope,
                locks,
            )| {
                WorkloadSpec::Schbench(SchbenchParams {
                    messengers,
                    workers: workers.max(messengers),
                    work_ns,
                    spread,
                    sleep_ns,
                    sleeps,
                    missed_sleeps,
                    wake_ns: 5_000,
                    scope,
                    locks,
                    seed: 0,
                })
            },
        )
}

fn any_rpc() -> impl Strategy<Value = WorkloadSpec> {
    (
        1u32..4,
        1u32..5,
        1u32..5,
        0u64..100_000,
        1u64..3_000_000,
        0u64..50_000,
        0u64..500_000,
        any::<bool>(),
    )
        .prop_map(
            |(servers, clients, connections, client_ns, server_ns, run_on_ns, think_ns, sync)| {
                WorkloadSpec::Rpc(RpcParams {
                    servers,
                    clients: servers * clients,
                    connections,
                    client_ns,
                    server_ns,
                    run_on_ns,
                    think_ns,
                    wake_ns: 5_000,
                    sync,
                    seed: 0,
                })
            },
        )
}

fn any_yields() -> impl Strategy<Value = WorkloadSpec> {
    (1u32..12, 1u32..5, 1u32..50, 1_000u64..50_000).prop_map(|(threads, locks, yields, step_ns)| {
        WorkloadSpec::Yields(YieldsParams {
            threads,
            locks,
            yields,
            step_ns,
            wake_ns: 5_000,
            seed: 0,
        })
    })
}

fn any_machine() -> impl Strategy<Value = (Topology, Costs)> {
    let shapes = prop_oneof![Just((1u32, 1u32)), Just((2, 1)), Just((4, 2)), Just((6, 1))];
    let ticks = prop_oneof![Just(0u64), Just(1_000_000), Just(4_000_000)];
    (shapes, ticks, 0u64..20_000, 0u64..20_000, 0u64..5_000).prop_map(
        |((cpus, llcs), tick_ns, switch_ns, migrate_ns, call_ns)| {
            let costs = Costs {
                switch_ns,
                migrate_ns: [migrate_ns, 2 * migrate_ns, 4 * migrate_ns],
                tick_ns,
                call_ns,
                look_ns: call_ns / 4,
            };
            (Topology::new(cpus, llcs, 1).expect("a shape"), costs)
        },
    )
}

/// Whether a CPU idles while a task waits.
fn idles_beside_work(m: &Machine) -> bool {
    m.cpus.iter().any(|c| c.current == NO_TASK) && m.tasks.iter().any(|t| t.state == State::Waiting)
}

/// Steps of a request, each an event.
fn steps(workload: &WorkloadSpec) -> u64 {
    match workload {
        WorkloadSpec::Schbench(p) => u64::from(10 + 2 * p.sleeps),
        WorkloadSpec::Yields(p) => u64::from(4 * p.yields),
        _ => 12,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    /// A wake-up that is lost leaves a task blocked for ever, and soon all those that wait for it. A turn in two seconds is what
    /// the policy promises: half of the run is more than that.
    #[test]
    fn everybody_gets_on_and_waiting_costs_no_events(
        workload in prop_oneof![2 => any_schbench(), 1 => any_rpc(), 1 => any_yields()],
        (topology, costs) in any_machine(),
        hogs in prop_oneof![Just(0u32), Just(2)],
        seed in 0u64..1000,
    ) {
        let run_ns = 5 * RUN_NS;
        let steps = steps(&workload);
        let scenario = Scenario { topology, costs, workload, hogs, end_ns: run_ns, warmup_ns: 0 };
        for policy in POLICIES {
            // Hogs never block, and first come is first served; and who knows how long a hog is does not run it.
            if hogs > 0 && ["fcfs", "srpt"].contains(&policy) {
                continue;
            }
            let mut engine = scenario.engine(&spec(policy), seed).expect("an engine");
            let conserves = policy != "eevdf" || topology.cpus() == 1;
            let mut half: Option<Vec<u64>> = None;
            while engine.step(run_ns) {
                let m = &engine.machine;
                if conserves {
                    prop_assert!(!idles_beside_work(m), "{policy} at {}", m.now_ns);
                }
                if half.is_none() && m.now_ns > run_ns / 2 {
                    half = Some((0..m.tasks.len() as u32).map(|t| m.exec_ns(t)).collect());
                }
            }
            let m = &engine.machine;
            let half = half.expect("it runs for more than half of the time");
            // The oracle and las leave long ones waiting for as long as there are short ones; without relief nobody looks who
            // has been forgotten, and without ticks not in time.
            let promises = !policy.starts_with("ml") || (costs.tick_ns > 0 && !policy.contains("relief=off"));
            if promises && !["srpt", "las"].contains(&policy) {
                for (t, &before) in half.iter().enumerate() {
                    prop_assert!(m.exec_ns(t as u32) > before, "{policy}: task {t} does not get on");
                }
            }
            let done = engine.recorder.classes.last().map_or(0, |c| c.count()) + m.tasks.len() as u64;
            let slices = 8 * u64::from(topology.cpus()) * run_ns / 500_000;
            prop_assert!(m.counts.events < slices + 6 * done * steps, "{policy}: {} events, {done} requests", m.counts.events);
        }
    }

    #[test]
    fn every_message_arrives(
        (groups, pairs, messages, capacity) in (1u32..4, 1u32..6, 1u32..40, 1u32..30),
        (topology, costs) in any_machine(),
        seed in 0u64..1000,
    ) {
        let workload = WorkloadSpec::Pipes(PipesParams {
            groups,
            pairs,
            messages,
            capacity,
            send_ns: 2_000,
            receive_ns: 1_500,
            wake_ns: 5_000,
        });
        let scenario = Scenario { topology, costs, workload, hogs: 0, end_ns: RUN_NS, warmup_ns: 0 };
        for policy in POLICIES {
            let o = scenario.run(&spec(policy), seed).expect("a run");
            prop_assert_eq!(o.metric("messages"), Some(f64::from(groups * pairs * pairs * messages)), "{}", policy);
            prop_assert!(o.metric("total_s").is_some_and(|s| s > 0.0), "{policy}");
            let events = o.counts.events;
            prop_assert!(events < 2_000 + 40 * u64::from(groups * pairs * pairs * messages), "{policy}: {events} events");
        }
    }

    /// However many CPUs there are, one lock is held by one at a time.
    #[test]
    fn a_global_lock_lets_one_work_at_a_time(
        work_ns in 100_000u64..3_000_000,
        (topology, costs) in any_machine(),
        seed in 0u64..1000,
    ) {
        let workload = WorkloadSpec::Schbench(SchbenchParams {
            messengers: 1,
            workers: 8,
            work_ns,
            spread: 0.0,
            sleep_ns: 100_000,
            sleeps: 1,
            missed_sleeps: 0.0,
            wake_ns: 5_000,
            scope: Scope::Global,
            locks: 1,
            seed: 0,
        });
        let scenario = Scenario { topology, costs, workload, hogs: 0, end_ns: RUN_NS, warmup_ns: 0 };
        for policy in POLICIES {
            let o = scenario.run(&spec(policy), seed).expect("a run");
            let done = o.metric("request_count").expect("a count");
            prop_assert!(done * 0.95 * work_ns as f64 <= RUN_NS as f64, "{policy}: {done}");
        }
    }
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    sim: SimArgs,
}

fn report(args: &str) -> String {
    let command = Command::parse_from(["sim"].into_iter().chain(args.split(' ')));
    let mut out = vec![];
    run(&command.sim, &mut out, &mut std::io::sink()).expect("a report");
    String::from_utf8(out).expect("text")
}

/// A metric of the nth policy.
fn metric(args: &str, policy: usize, name: &str) -> f64 {
    let json: serde_json::Value = serde_json::from_str(&report(args)).expect("JSON");
    json["policies"][policy]["metrics"]
        .as_array()
        .and_then(|m| m.iter().find(|m| m["name"] == name))
        .and_then(|m| m["mean"].as_f64())
        .expect("a metric")
}

#[test]
fn loops_give_the_same_bytes_again() {
    for load in [
        "schbench-locks",
        "rpc --sync",
        "pipes --messages 10",
        "yields",
    ] {
        let args =
            format!("--workload {load} --cpus 2 --seconds 3 --warmup 1 --json --beside-hogs 1");
        assert_eq!(report(&args), report(&args), "{load}");
    }
}

/// Who is cut in the middle of its work holds the lock, and others burn their time until it has run.
#[test]
fn a_cut_under_a_lock_costs_others_their_time() {
    let args = "--workload schbench-locks --cpus 2 --seconds 10 --warmup 1 --json --hz 0 --policies rr:1000,fcfs";
    assert!(metric(args, 0, "spin_share") > 0.3);
    assert_eq!(metric(args, 1, "spin_share"), 0.0);
    assert!(metric(args, 0, "requests_per_s") < 0.7 * metric(args, 1, "requests_per_s"));
    let unlocked = format!("{args} --locks none");
    assert!(metric(&unlocked, 0, "requests_per_s") > 0.95 * metric(&unlocked, 1, "requests_per_s"));
}

/// Where nothing waits, a yield costs eevdf nothing, and a policy that is a BPF program its calls.
#[test]
fn calls_of_a_policy_cost_what_they_are_said_to() {
    let args = "--workload yields --cpus 14 --seconds 3 --warmup 1 --json --policies eevdf,ml-base";
    let costly = format!("{args} --call-us 20");
    assert_eq!(
        metric(args, 0, "events_per_s"),
        metric(&costly, 0, "events_per_s")
    );
    assert!(metric(args, 1, "events_per_s") > 3.0 * metric(&costly, 1, "events_per_s"));
}

/// What a policy says of itself.
fn note(args: &str, name: &str) -> f64 {
    let json: serde_json::Value = serde_json::from_str(&report(args)).expect("JSON");
    json["policies"][0]["notes"]
        .as_array()
        .and_then(|notes| notes.iter().find(|n| n[0] == name))
        .and_then(|n| n[1].as_f64())
        .expect("a note")
}

/// Eight threads that yield, on as many CPUs as that or on two.
#[test]
fn a_yield_makes_room_only_where_somebody_waits_and_one_time_in_four() {
    let args = |cpus| {
        format!("--workload yields --seconds 3 --warmup 1 --json --policies ml-base --cpus {cpus}")
    };
    assert!(note(&args(14), "yields") > 10_000.0);
    assert_eq!(note(&args(14), "yields_heeded"), 0.0);
    let (yields, heeded) = (note(&args(2), "yields"), note(&args(2), "yields_heeded"));
    assert!(
        0.05 * yields < heeded && heeded < 0.3 * yields,
        "{heeded} of {yields}"
    );
}

/// Clients and servers that never pause are over their share soon: near their CPU, behind no more than the hogs.
#[test]
fn who_waits_near_its_cpu_has_its_share_beside_hogs() {
    let args = "--workload rpc --wake-us 20 --client-us 50 --server-us 200 --servers 2 --cpus 2 --beside-hogs 2 \
                --seconds 10 --warmup 2 --json --policies";
    let near = note(&format!("{args} ml-base+relief=off"), "queued_near");
    assert!(near > 10.0, "{near}");
    let args = format!("{args} eevdf,ml-base+relief=off");
    assert!(metric(&args, 1, "requests_per_s") > 0.9 * metric(&args, 0, "requests_per_s"));
}
