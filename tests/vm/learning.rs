//! Learning: samples arrive and add up, a model is published and used, kernel and user space predict the same.

use std::time::Duration;

use scx_ml::kernel::fault::Fault;

use crate::harness::Running;
use crate::load;

/// The numbers behind these words in the totals that are logged at the end.
fn totals(log: &str, words: &[&str]) -> Vec<u64> {
    let totals = log.split("detached; in all:").nth(1).expect("totals");
    words
        .iter()
        .map(|word| {
            let rest = totals
                .split(word)
                .nth(1)
                .unwrap_or_else(|| panic!("no '{word}' in {totals}"));
            let digits: String = rest
                .trim_start()
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            digits.parse().expect("a number")
        })
        .collect()
}

#[test]
fn samples_add_up_to_the_bursts_that_ended() {
    let running = Running::start(&["--sample-rate", "200"]);
    load::stress_ng("--switch 2 --pipe 2 --cpu 1 -t 5");
    let log = running.stop();
    let numbers = totals(
        &log,
        &["bursts", "samples kept", "sampled out", "ring buffer"],
    );
    let [bursts, kept, sampled_out, dropped] = numbers[..] else {
        panic!("four numbers");
    };
    assert!(bursts > 1_000, "{log}");
    assert!(kept > 100 && sampled_out > 100, "{log}");
    assert_eq!(kept + sampled_out + dropped, bursts, "{log}");
}

#[test]
fn sampling_is_bounded_by_its_rate() {
    let mut running = Running::start(&["--sample-rate", "100", "--mode", "shadow"]);
    let load = std::thread::spawn(|| load::stress_ng("--switch 4 --pipe 2 -t 10"));
    std::thread::sleep(Duration::from_secs(2));
    running.stats();
    std::thread::sleep(Duration::from_secs(6));
    let stats = running.stats();
    load.join().expect("stress-ng ran");
    // The bound is twice the rate; the machine's clock may be off by some.
    assert!(stats.kept <= 100 * 2 * 8, "{stats:#?}");
    assert!(stats.bursts > 20 * stats.kept.min(100), "{stats:#?}");
    running.stop();
}

#[test]
fn a_model_is_published_and_slices_come_from_it() {
    let mut running = Running::start(&["--refit-interval", "2"]);
    let load = load::alternating(4);
    let stats = running.stats_until(Duration::from_secs(90), |s| {
        s.slices_predicted > 100 && s.judged > 100 && s.gate_model < s.gate_avg
    });
    assert!(stats.models_published >= 1, "{stats:#?}");
    load.end();
    let log = running.stop();
    assert!(
        log.contains("tasks are predicted by their model; |error|"),
        "{log}"
    );
}

#[test]
fn the_kernel_predicts_what_user_space_computes_from_the_same_record() {
    let mut running = Running::start(&["--refit-interval", "2"]);
    let load = load::alternating(4);
    let stats = running.stats_until(Duration::from_secs(90), |s| s.parity_checked > 500);
    load.end();
    assert_eq!(stats.parity_errors, 0, "{stats:#?}");
    assert!(
        stats.parity_max > 0.0,
        "integers and floats never agree exactly: {stats:#?}"
    );
    running.stop();
}

#[test]
fn shadow_predicts_but_does_not_steer() {
    let mut running = Running::start(&["--mode", "shadow", "--refit-interval", "2"]);
    let load = load::alternating(4);
    let stats = running.stats_until(Duration::from_secs(90), |s| s.judged > 50);
    load.end();
    assert!(stats.predictions > 0, "{stats:#?}");
    assert_eq!(stats.slices_predicted, 0, "{stats:#?}");
    running.stop();
}

#[test]
fn the_kernel_does_not_use_a_model_that_has_turned_bad() {
    let mut running = Running::start(&["--mode", "frozen"]);
    let load = load::alternating(4);
    running.stats_until(Duration::from_secs(90), |s| s.slices_predicted > 100);
    load.end();

    // A long burst now follows a long one, which the frozen model has learned not to expect; user space will not help.
    let load = load::steady(4, Duration::from_millis(6));
    running.stats_until(Duration::from_secs(60), |s| {
        !s.in_fallback.is_empty() && s.fallback > 50
    });
    load.end();

    let load = load::alternating(4);
    running.stats_until(Duration::from_secs(90), |s| s.returns > 0);
    load.end();
    let log = running.stop();
    assert!(log.contains("has fallen back to that"), "{log}");
    assert!(log.contains("the kernel uses it again"), "{log}");
}

#[test]
fn a_panicking_trainer_leaves_the_scheduler_running_without_a_model() {
    let mut running = Running::start_with_fault(&[], Fault::TrainerPanic);
    let load = load::alternating(4);
    let stats = running.stats_until(Duration::from_secs(30), |s| {
        s.trainer_dead == 1 && s.slices() > 0
    });
    assert_eq!(stats.slices_predicted, 0);
    load.end();
    let log = running.stop();
    assert!(log.contains("the trainer has ended (it panicked"), "{log}");
}
