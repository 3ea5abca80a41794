//! Storms: what has ejected schedulers before. Passing means that it is still loaded and exits with 0.

use std::time::Duration;

use crate::harness::{Running, nr_cpus};
use crate::load::stress_ng;

#[test]
fn a_fork_storm() {
    let running = Running::start(&[]);
    stress_ng("--fork 4 --vfork 2 --exec 2 -t 10");
    running.stop();
}

/// The check that the scx project runs on every one of its schedulers.
#[test]
fn an_affinity_storm() {
    let running = Running::start(&[]);
    let n = nr_cpus();
    stress_ng(&format!(
        "--aggressive -c {n} -f {n} --affinity 1 --affinity-delay 1 --affinity-pin -t 30"
    ));
    running.stop();
}

#[test]
fn changes_of_class_priority_and_group() {
    let running = Running::start(&[]);
    stress_ng("--resched 2 --schedpolicy 2 --yield 2 -t 10");
    running.stop();
}

#[test]
fn a_thousand_threads() {
    let mut running = Running::start(&[]);
    let mut threads = crate::load::Threads::default();
    for _ in 0..1_000 {
        threads.add(
            || (),
            || {
                crate::load::burst(Duration::from_micros(50));
                std::thread::sleep(Duration::from_millis(100));
            },
        );
    }
    std::thread::sleep(Duration::from_secs(5));
    assert!(!running.has_ended(), "{}", running.log());
    let used = threads.end();
    assert!(
        used.iter().all(|t| *t > Duration::ZERO),
        "somebody never ran"
    );
    running.stop();
}
