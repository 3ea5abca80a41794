//! The simulator against queueing theory, where closed forms exist: within 2 %.

use scx_ml_sim::experiment::{Outcome, Scenario, WorkloadSpec};
use scx_ml_sim::machine::Costs;
use scx_ml_sim::topology::Topology;
use scx_ml_sim::workload::open_loop::{OpenLoopParams, Reveal};
use scx_ml_sim::workload::sizes::{Shape, Sizes};

const TOLERANCE: f64 = 0.02;

/// A queue without costs and with as many workers as it takes.
fn scenario(sizes: Sizes, load: f64, cpus: u32, requests: f64) -> Scenario {
    let gap_ms = sizes.mean_ms() / (load * f64::from(cpus));
    Scenario {
        topology: Topology::new(cpus, 1, 1).expect("a shape"),
        costs: Costs::NONE,
        workload: WorkloadSpec::OpenLoop(OpenLoopParams {
            sizes,
            load,
            cpus,
            workers: 4096,
            persistence: 0.0,
            reveal: Reveal::None,
            reveal_accuracy: 1.0,
            generator_ns: 0,
            arrivals_ns: 0,
            seed: 0,
        }),
        hogs: 0,
        end_ns: (requests * gap_ms * 1e6) as u64,
        warmup_ns: 1_000_000_000,
    }
}

fn run(policy: &str, sizes: Sizes, load: f64, cpus: u32, requests: f64) -> Outcome {
    scenario(sizes, load, cpus, requests)
        .run(&policy.parse().expect("a policy"), 1)
        .expect("a run")
}

fn exponential() -> Sizes {
    Sizes {
        shape: Shape::Exponential,
        mean_ms: 1.0,
        ..Sizes::default()
    }
}

fn bimodal() -> Sizes {
    Sizes {
        short_ms: 1.0,
        long_ms: 10.0,
        long_share: 0.1,
        ..Sizes::default()
    }
}

fn assert_near(what: &str, outcome: &Outcome, metric: &str, theory: f64) {
    let found = outcome.metric(metric).expect("a metric");
    let off = found / theory - 1.0;
    println!(
        "{what}, {metric}: {found:.4}, theory {theory:.4}, {:+.2} %",
        100.0 * off
    );
    assert!(
        off.abs() < TOLERANCE,
        "{what}, {metric}: {found} for {theory}"
    );
}

/// Integral over 0 … 60 means by Simpson's rule.
fn integral(f: impl Fn(f64) -> f64, from: f64, to: f64) -> f64 {
    let n = 2000;
    let h = (to - from) / f64::from(n);
    let inner: f64 = (1..n)
        .map(|i| f(from + f64::from(i) * h) * if i % 2 == 1 { 4.0 } else { 2.0 })
        .sum();
    (f(from) + inner + f(to)) * h / 3.0
}

/// Mean time in system, 1 / (mu - lambda).
#[test]
fn mm1_first_come_first_served() {
    for load in [0.5, 0.7] {
        let o = run("fcfs", exponential(), load, 1, 2e6);
        assert_near(
            &format!("M/M/1 FCFS at {load}"),
            &o,
            "mean_ms",
            1.0 / (1.0 - load),
        );
    }
}

/// The same mean as FCFS, and a slowdown that does not depend on the size: 1 / (1 - rho).
#[test]
fn mm1_processor_sharing() {
    let o = run("ps:50", exponential(), 0.7, 1, 1e6);
    assert_near("M/M/1 PS at 0.7", &o, "mean_ms", 1.0 / 0.3);
}

/// Pollaczek and Khinchine: E[T] = E[S] + lambda E[S^2] / (2 (1 - rho)).
#[test]
fn mg1_first_come_first_served() {
    let (sizes, load) = (bimodal(), 0.7);
    let lambda = load / sizes.mean_ms();
    let square = 0.9 * 1.0 + 0.1 * 100.0;
    let theory = sizes.mean_ms() + lambda * square / (2.0 * (1.0 - load));
    let o = run("fcfs", sizes, load, 1, 2e6);
    assert_near("M/G/1 FCFS at 0.7", &o, "mean_ms", theory);
}

/// Processor sharing is insensitive to the distribution: E[T(x)] = x / (1 - rho) for each size x.
#[test]
fn mg1_processor_sharing() {
    let o = run("ps:20", bimodal(), 0.7, 1, 2e5);
    assert_near("M/G/1 PS at 0.7", &o, "short_mean_ms", 1.0 / 0.3);
    assert_near("M/G/1 PS at 0.7", &o, "long_mean_ms", 10.0 / 0.3);
}

/// Schrage and Miller 1966: with f, F of the sizes and rho(x) = lambda * integral of t f(t) up to x,
/// E[T(x)] = lambda (integral of t^2 f(t) up to x + x^2 (1 - F(x))) / (2 (1 - rho(x))^2) + integral of
/// dt / (1 - rho(t)) up to x.
#[test]
fn mm1_shortest_remaining_processing_time() {
    for load in [0.7, 0.9] {
        let density = |t: f64| (-t).exp();
        // Closed forms of the two inner integrals for the exponential distribution of mean 1.
        let work = |x: f64| 1.0 - (1.0 + x) * (-x).exp();
        let square = |x: f64| 2.0 - (x * x + 2.0 * x + 2.0) * (-x).exp();
        let rho = |x: f64| load * work(x);
        let time = |x: f64| {
            let wait = load * (square(x) + x * x * (-x).exp()) / (2.0 * (1.0 - rho(x)).powi(2));
            wait + integral(|t| 1.0 / (1.0 - rho(t)), 0.0, x)
        };
        let theory = integral(|x| time(x) * density(x), 0.0, 40.0);
        let o = run("srpt", exponential(), load, 1, 2e6);
        assert_near(&format!("M/M/1 SRPT at {load}"), &o, "mean_ms", theory);
    }
}

/// The same for two sizes a < b of probabilities p and q. An a is delayed by a's, and by b's with less than a left; a b
/// is delayed by all work that is there, grows by the a's that come, and by the b's never.
#[test]
fn mg1_shortest_remaining_processing_time() {
    let (sizes, load) = (bimodal(), 0.7);
    let (a, b, p, q) = (1.0, 10.0, 0.9, 0.1);
    let lambda = load / sizes.mean_ms();
    let rho_a = lambda * p * a;
    let short = lambda * (p * a * a + q * a * a) / (2.0 * (1.0 - rho_a)) + a;
    // E[T(b)] by the formula above, taken just below b for the residence and at b for the wait (equal sizes are served
    // in order of arrival: only those that came before count twice).
    let wait_b = lambda * (p * a * a + q * b * b) / (2.0 * (1.0 - rho_a) * (1.0 - load));
    let long = wait_b + a + (b - a) / (1.0 - rho_a);
    let o = run("srpt", sizes, load, 1, 2e6);
    assert_near("M/G/1 SRPT at 0.7", &o, "short_mean_ms", short);
    assert_near("M/G/1 SRPT at 0.7", &o, "long_mean_ms", long);
}

/// Erlang's C formula: E[T] = 1 / mu + C(c, a) / (c mu - lambda).
#[test]
fn mmc_first_come_first_served() {
    let (cpus, load) = (16u32, 0.9);
    let offered = load * f64::from(cpus);
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..cpus {
        term *= offered / f64::from(k);
        sum += term;
    }
    let last = term * offered / f64::from(cpus) / (1.0 - load);
    let waits = last / (sum + last);
    let theory = 1.0 + waits / (f64::from(cpus) - offered);
    let o = run("fcfs", exponential(), load, cpus, 2e6);
    assert_near("M/M/16 FCFS at 0.9", &o, "mean_ms", theory);
}
