//! Tests with real schedulers on a real kernel with sched_ext, as root: `cargo test -p scx_lab --test lab_vm` in a VM.
//! They change the machine's scheduling and need `scx_ml` beside `scx_lab`; run them one at a time.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use scx_lab::sys;
use scx_ml_text::Show;

const PATIENCE: Duration = Duration::from_secs(120);

fn state() -> String {
    std::fs::read_to_string("/sys/kernel/sched_ext/state")
        .map_or_else(|_| String::new(), |s| s.trim().to_string())
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lab(out: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scx_lab"));
    command.arg("bench").args(args).arg("--out").arg(out);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The program beside `scx_lab`.
fn scx_ml() -> std::path::PathBuf {
    Path::new(env!("CARGO_BIN_EXE_scx_lab")).with_file_name("scx_ml")
}

/// Children of `parent` called `name`.
fn children(parent: u32, name: &str) -> Vec<u32> {
    let Ok(dir) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    dir.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let (head, tail) = stat.split_at(stat.rfind(')').unwrap_or(0));
            head.ends_with(&format!("({name}"))
                && tail.split_whitespace().nth(2) == Some(&parent.to_string())
        })
        .collect()
}

/// Start a bench of scx_ml with a long cell and wait until scx_ml is in charge.
fn bench_in_progress(out: &Path) -> Child {
    assert_eq!(state(), "disabled", "a scheduler is loaded already");
    let args = [
        "--sched",
        "scx_ml --mode base",
        "--baseline",
        "scx_ml --mode base",
        "--workload",
        "timer",
    ];
    let child = lab(out, &args)
        .args(["--blocks", "1", "--seconds", "20"])
        .spawn()
        .expect("scx_lab runs");
    wait_for("scx_ml in charge", || state() == "enabled");
    std::thread::sleep(Duration::from_secs(2));
    child
}

#[test]
fn a_scheduler_that_goes_away_ends_the_run_which_says_why() {
    let dir = tempfile::tempdir().expect("tempdir");
    let child = bench_in_progress(&dir.path().join("r"));
    let schedulers = children(child.id(), "scx_ml");
    assert_eq!(schedulers.len(), 1);
    assert!(sys::signal(schedulers[0], Signal::KILL));
    let out = child.wait_with_output().expect("ends");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("was ejected or left"), "{text}");
    assert_eq!(state(), "disabled");
}

#[test]
fn a_scheduler_that_is_loaded_already_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let quiet = || Stdio::null();
    let mut other = Command::new(scx_ml())
        .args(["--mode", "base"])
        .stdout(quiet())
        .stderr(quiet())
        .spawn()
        .expect("scx_ml runs");
    wait_for("scx_ml in charge", || state() == "enabled");
    let out = lab(&dir.path().join("r"), &["--workload", "timer"])
        .output()
        .expect("scx_lab runs");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("already loaded"), "{text}");
    assert_eq!(
        state(),
        "enabled",
        "what was loaded is not the lab's to stop"
    );
    assert!(sys::signal(other.id(), Signal::INT));
    assert!(other.wait().is_ok());
    wait_for("the kernel's own scheduler", || state() == "disabled");
}

#[test]
fn killing_the_lab_gives_the_machine_back() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut child = bench_in_progress(&dir.path().join("r"));
    assert!(sys::signal(child.id(), Signal::KILL));
    assert!(child.wait().is_ok());
    wait_for("the kernel's own scheduler", || state() == "disabled");
}

#[test]
fn a_loaded_scheduler_is_measured_with_its_costs() {
    let dir = tempfile::tempdir().expect("tempdir");
    let out_dir = dir.path().join("r");
    let args = [
        "--sched",
        "scx_ml --mode base",
        "--workload",
        "timer",
        "--blocks",
        "1",
        "--seconds",
        "2",
    ];
    let out = lab(&out_dir, &args).output().expect("scx_lab runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = std::fs::read_to_string(out_dir.join("results.json")).expect("written");
    let results: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let cells = results["run"]["cells"].as_array().expect("cells");
    let of = |s: &str| {
        cells
            .iter()
            .find(|c| c["scheduler"] == s)
            .expect("measured")
    };
    let (kernel, ml) = (of("eevdf"), of("scx_ml --mode base"));
    assert!(kernel["ops"].is_null() && ml["ops"].as_str().is_some_and(|o| o.starts_with("ml")));
    for c in [kernel, ml] {
        assert!(
            c["cost"]["wakeups_per_s"]
                .as_f64()
                .is_some_and(|v| v > 100.0),
            "{c}"
        );
        assert_eq!(c["cost"]["probe_lost"], 0);
    }
    assert!(
        ml["cost"]["bpf_ns_per_switch"]
            .as_f64()
            .is_some_and(|v| v > 0.0)
    );
    assert!(
        ml["cost"]["programs"]
            .as_array()
            .is_some_and(|p| p.len() > 3)
    );
    assert!(ml["cost"]["rss_kib"].as_u64().is_some_and(|v| v > 1000));
    assert!(kernel["cost"]["bpf_ns_per_switch"].is_null() && kernel["cost"]["user_cpu"].is_null());
}

/// scx_ml behind a script that also starts hogs: everything under it has less CPU. The kernel's own scheduler measured
/// twice beside it must come out as no different from itself.
#[test]
fn a_slow_scheduler_is_found_worse_and_the_same_one_twice_is_not() {
    // The hogs start when scx_ml is loaded: loading is slow enough on an emulated machine.
    const HOGGING: &str = "#!/bin/bash\n\
        [[ $1 != --version ]] || exec SCX_ML --version\n\
        SCX_ML --mode base & scx=$!\n\
        trap 'kill -TERM $scx $hogs' INT TERM\n\
        until grep -q enabled /sys/kernel/sched_ext/state; do sleep 0.1; done\n\
        for i in 1 2 3 4; do while :; do :; done & hogs+=\" $!\"; done\n\
        wait $scx; wait $scx\n";
    let dir = tempfile::tempdir().expect("tempdir");
    let script = dir.path().join("scx_ml");
    std::fs::write(
        &script,
        HOGGING.replace("SCX_ML", &scx_ml().shown().to_string()),
    )
    .expect("written");
    assert!(
        Command::new("chmod")
            .arg("+x")
            .arg(&script)
            .status()
            .is_ok_and(|s| s.success())
    );
    let slow = script.shown().to_string();
    let out_dir = dir.path().join("r");
    let schedulers = ["--sched", "eevdf", "--sched", "eevdf", "--sched", &slow];
    let rest = [
        "--workload",
        "stress-ng:stressor=cpu",
        "--blocks",
        "4",
        "--seconds",
        "2",
        "--warmup",
        "0",
    ];
    let out = lab(&out_dir, &schedulers)
        .args(rest)
        .output()
        .expect("scx_lab runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = std::fs::read_to_string(out_dir.join("results.json")).expect("written");
    let results: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let rows = results["comparison"]["rows"].as_array().expect("rows");
    let verdict = |scheduler: &str| {
        let row = rows
            .iter()
            .find(|r| r["scheduler"] == scheduler && r["metric"]["name"] == "cpu_ops");
        row.expect("measured")["verdict"]
            .as_str()
            .expect("a verdict")
            .to_string()
    };
    let table = String::from_utf8_lossy(&out.stdout).into_owned();
    println!("{table}");
    assert_eq!(verdict(&slow), "worse", "{table}");
    assert_eq!(verdict("eevdf#2"), "no-difference", "{table}");
}
