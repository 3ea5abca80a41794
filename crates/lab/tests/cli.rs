//! The program from outside: exit statuses, messages, and a real run of the kernel's own scheduler against itself.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use scx_lab::sys;

fn lab(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scx_lab"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("scx_lab runs")
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn cells(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("cells")).map_or(0, |d| {
        d.filter_map(|e| e.ok())
            .filter(|e| e.path().extension().is_some_and(|x| x == "json"))
            .count()
    })
}

/// Two schedulers that are the same, one workload, three blocks, as short as it goes.
fn bench_args(out: &str) -> Vec<&str> {
    vec![
        "bench",
        "--sched",
        "eevdf",
        "--sched",
        "eevdf",
        "--workload",
        "timer:hogs_per_cpu=0",
        "--blocks",
        "3",
        "--seconds",
        "0.3",
        "--warmup",
        "0",
        "--out",
        out,
    ]
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_runs() {
    for (args, says) in [
        (
            vec!["bench", "--sched", "scx_nonsuch", "--workload", "timer"],
            "`scx_nonsuch` was not found",
        ),
        (
            vec!["bench", "--workload", "tmier"],
            "did you mean `timer`?",
        ),
        (
            vec!["bench", "--workload", "timer:perod_us=3"],
            "did you mean `period_us`?",
        ),
        (
            vec!["bench", "--workload", "open-loop:reveal=waker"],
            "needs workers=shared",
        ),
        (vec!["bench"], "none given"),
        (
            vec!["run", "command:command=no-such-program"],
            "`no-such-program` was not found",
        ),
        (vec!["report", "/nonexistent"], "no results of scx_lab here"),
        (vec!["bench", "--frobnicate"], "unexpected argument"),
    ] {
        let out = lab(&args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", stderr(&out));
        assert!(stderr(&out).contains(says), "{args:?}: {}", stderr(&out));
    }
}

#[test]
fn the_list_names_every_workload_and_explains_one() {
    let all = String::from_utf8_lossy(&lab(&["list"]).stdout).into_owned();
    for name in [
        "eevdf",
        "schbench-like",
        "open-loop",
        "stress-ng",
        "fairness",
        "command",
    ] {
        assert!(all.contains(name), "{name} is missing");
    }
    let one = String::from_utf8_lossy(&lab(&["list", "frames"]).stdout).into_owned();
    assert!(
        one.contains("missed* [%] ↓") && one.contains("Frame latency"),
        "{one}"
    );
}

#[test]
fn a_run_leaves_everything_and_can_be_reported_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let out_dir = dir.path().join("r");
    let out = lab(&bench_args(out_dir.to_str().expect("utf-8")));
    assert!(out.status.success(), "{}", stderr(&out));
    assert!(String::from_utf8_lossy(&out.stdout).contains("latency_p99"));
    assert_eq!(cells(&out_dir), 6);
    for file in [
        "experiment.toml",
        "provenance.json",
        "results.json",
        #[cfg(feature = "parquet")]
        "results.parquet",
        "report.html",
    ] {
        assert!(
            out_dir.join(file).metadata().is_ok_and(|m| m.len() > 100),
            "{file}"
        );
    }
    let html = dir.path().join("both.html");
    let folder = out_dir.to_str().expect("utf-8");
    let report = lab(&[
        "report",
        folder,
        folder,
        "--html",
        html.to_str().expect("utf-8"),
    ]);
    assert!(report.status.success(), "{}", stderr(&report));
    assert!(
        std::fs::read_to_string(html)
            .expect("written")
            .contains("6 blocks of")
    );

    let again = lab(&bench_args(folder));
    assert_eq!(
        again.status.code(),
        Some(2),
        "results are never overwritten"
    );
}

#[test]
fn an_interrupt_ends_after_the_cell_and_resume_does_the_rest() {
    let dir = tempfile::tempdir().expect("tempdir");
    let out_dir = dir.path().join("r");
    let folder = out_dir.to_str().expect("utf-8");
    let child = Command::new(env!("CARGO_BIN_EXE_scx_lab"))
        .args(bench_args(folder))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("scx_lab runs");
    let deadline = Instant::now() + Duration::from_secs(60);
    while cells(&out_dir) == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(sys::signal(child.id(), Signal::INT));
    let out = child.wait_with_output().expect("ends");
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stderr(&out).contains("--resume"), "{}", stderr(&out));
    let done = cells(&out_dir);
    assert!((1..6).contains(&done), "{done} cells");

    let first = std::fs::read(out_dir.join("cells/000000.json")).expect("saved");
    let out = lab(&["bench", "--resume", folder]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert_eq!(cells(&out_dir), 6);
    assert_eq!(
        std::fs::read(out_dir.join("cells/000000.json")).expect("kept"),
        first
    );
}

#[test]
fn a_workload_that_fails_ends_the_run_with_its_reason() {
    let dir = tempfile::tempdir().expect("tempdir");
    let out_dir = dir.path().join("r");
    let folder = out_dir.to_str().expect("utf-8");
    let bench = [
        "bench",
        "--workload",
        "command:command=false",
        "--blocks",
        "2",
        "--out",
        folder,
    ];
    let out = lab(&bench);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        stderr(&out).contains("`false` ended with exit status: 1"),
        "{}",
        stderr(&out)
    );
    let ending = std::fs::read_to_string(out_dir.join("ending.json")).expect("written");
    assert!(ending.contains("stopped with 2 cells left"), "{ending}");
}
