//! The process database: short-lived programs get a prior, which outlives the scheduler.

use std::time::Duration;

use crate::harness::Running;
use crate::load;

/// A storm of short-lived programs of a few names.
fn fork_storm(seconds: u32) {
    let script = format!(
        "end=$(($(date +%s) + {seconds})); while [ $(date +%s) -lt $end ]; do ls / | wc -l >/dev/null; true; done"
    );
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .status()
        .expect("a shell");
    assert!(status.success());
}

#[test]
fn names_get_profiles_that_the_kernel_uses_and_the_next_run_knows() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("state/profiles.json");
    let path = file.to_str().expect("plain text");

    let mut running = Running::start(&["--profiles", path]);
    fork_storm(8);
    let stats = running.stats_until(Duration::from_secs(30), |s| s.profiles_told > 5);
    assert!(stats.profiles >= stats.profiles_told, "{stats:#?}");
    running.stop();
    let text = std::fs::read_to_string(&file).expect("the database was saved");
    assert!(text.contains("\"name\":\"ls\""), "{text}");

    let mut running = Running::start(&["--profiles", path]);
    let stats = running.stats_until(Duration::from_secs(30), |s| s.profiles_told > 5);
    let log = running.stop();
    assert!(
        log.contains("profiles of tasks' names from"),
        "{log}\n{stats:#?}"
    );
}

#[test]
fn a_damaged_database_is_set_aside_and_scheduling_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("profiles.json");
    std::fs::write(&file, "{\"format\":1,\"profiles\":[{\"na").expect("written");
    let running = Running::start(&["--profiles", file.to_str().expect("plain text")]);
    load::stress_ng("--switch 1 -t 2");
    let log = running.stop();
    assert!(log.contains("is not a process database"), "{log}");
    assert!(dir.path().join("profiles.damaged").exists(), "{log}");
}
