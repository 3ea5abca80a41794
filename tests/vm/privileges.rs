//! What the process may still do once it schedules.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::harness::{Running, SCX_ML};
use crate::load;

const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// A line of a thread's status in /proc, in hexadecimal.
fn status(text: &str, name: &str) -> u64 {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    u64::from_str_radix(value, 16).expect("a number")
}

/// Capabilities of all threads of a process, which must have the same everywhere.
fn capabilities(pid: i32) -> u64 {
    let folder = format!("/proc/{pid}/task");
    let mut threads = 0;
    let mut found = None;
    for thread in std::fs::read_dir(folder).expect("it runs") {
        let path = thread.expect("read").path();
        let text = std::fs::read_to_string(path.join("status")).expect("read");
        let effective = status(&text, "CapEff");
        for set in ["CapPrm", "CapBnd"] {
            assert_eq!(status(&text, set), effective, "{set}\n{text}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(status(&text, set), 0, "{set}\n{text}");
        }
        assert_eq!(status(&text, "NoNewPrivs"), 1, "{text}");
        assert_eq!(*found.get_or_insert(effective), effective, "{text}");
        threads += 1;
    }
    // Signals, trainer, samples, statistics.
    assert!(threads >= 4, "{threads} threads");
    found.expect("a thread at least")
}

#[test]
fn it_keeps_only_what_loading_needs() {
    let mut running = Running::start(&["-v", "--syscalls"]);
    assert_eq!(capabilities(running.pid()), CAP_BPF | CAP_PERFMON);
    let load = load::alternating(3);
    // All that goes on later goes on.
    running.stats_until(Duration::from_secs(120), |s| s.slices_predicted > 0);
    load.end();
    let log = running.stop();
    let says = "capabilities kept: CAP_BPF, CAP_PERFMON; all others are given up";
    assert!(log.contains(says), "{log}");
}

#[test]
fn a_folder_of_another_user_can_still_be_recorded_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("home");
    std::fs::create_dir(&home).expect("created");
    std::fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).expect("changed");
    std::os::unix::fs::chown(&home, Some(1000), Some(1000)).expect("changed");
    let recording = home.join("rec");
    let running = Running::start(&["-v", "--record", recording.to_str().expect("plain text")]);
    let expected = CAP_BPF | CAP_PERFMON | CAP_DAC_OVERRIDE;
    assert_eq!(capabilities(running.pid()), expected, "{SCX_ML}");
    load::stress_ng("--switch 1 -t 2");
    let log = running.stop();
    assert!(
        log.contains("CAP_DAC_OVERRIDE is kept, to write to"),
        "{log}"
    );
    let files = std::fs::read_dir(&recording).expect("a folder").count();
    assert!(files > 0, "{log}");
}

#[test]
fn what_names_tasks_is_readable_by_root_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("profiles.json");
    let running = Running::start(&["--profiles", file.to_str().expect("plain text")]);
    let socket = std::fs::metadata("/var/run/scx/root/stats").expect("the stats socket");
    assert_eq!(socket.permissions().mode() & 0o022, 0, "others may connect");
    running.stop();
    let mode = file.metadata().expect("saved").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
