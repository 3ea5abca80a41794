//! Storms: what has ejected schedulers before. Passing means that it is still loaded and exits with 0, and that nobody
//! waited for more than a second.

use std::time::Duration;

use crate::harness::nr_cpus;
use crate::load::stress_ng;
use crate::torture::{CROWD_DELAY_MAX, Tortured, span};

#[test]
fn a_fork_storm() {
    let tortured = Tortured::start(&[]);
    let seconds = span(Duration::from_secs(10), 0.1).as_secs();
    stress_ng(&format!("--fork 4 --vfork 2 --exec 2 -t {seconds}"));
    tortured.end();
}

/// The check that the scx project runs on every one of its schedulers.
#[test]
fn an_affinity_storm() {
    let tortured = Tortured::start(&[]);
    let n = nr_cpus();
    stress_ng(&format!(
        "--aggressive -c {n} -f {n} --affinity 1 --affinity-delay 1 --affinity-pin -t 20"
    ));
    tortured.end();
}

#[test]
fn changes_of_class_priority_and_group() {
    let tortured = Tortured::start(&[]);
    let seconds = span(Duration::from_secs(10), 0.1).as_secs();
    stress_ng(&format!(
        "--resched 2 --schedpolicy 2 --yield 2 -t {seconds}"
    ));
    tortured.end();
}

#[test]
fn thousands_of_threads() {
    let mut tortured = Tortured::start(&[]);
    let mut threads = crate::load::Threads::default();
    // So seldom, and started so slowly, that an emulated machine can run them in time: where all are runnable at once, each
    // waits for all others, and rightly so.
    for i in 0..3_000 {
        threads.add(
            || (),
            || {
                crate::load::burst(Duration::from_micros(50));
                std::thread::sleep(Duration::from_secs(5));
            },
        );
        if i % 10 == 9 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    std::thread::sleep(span(Duration::from_secs(5), 0.05));
    assert!(!tortured.running.has_ended(), "{}", tortured.running.log());
    let used = threads.end();
    assert!(
        used.iter().all(|t| *t > Duration::ZERO),
        "somebody never ran"
    );
    tortured.end_within(CROWD_DELAY_MAX);
}
