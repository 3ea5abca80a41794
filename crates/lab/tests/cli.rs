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
        (vec!["bench", "--suite", "rael"], "did you mean `real`?"),
        (vec!["run", "nginx:beside=hog"], "expected one of"),
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
fn all_programs_that_are_missing_are_named_with_their_packages_at_once() {
    let out = Command::new(env!("CARGO_BIN_EXE_scx_lab"))
        .args(["bench", "--suite", "real", "--sched", "eevdf"])
        .env("PATH", "/nonexistent")
        .output()
        .expect("scx_lab runs");
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    // Those that Debian does not keep beside the servers; several rows need each.
    for says in [
        "`redis-server` was not found, and workload `redis` needs it; install the package redis-server",
        "`sysbench` was not found, and workload `sysbench` needs it; install the package sysbench",
    ] {
        assert_eq!(stderr(&out).matches(says).count(), 1, "{}", stderr(&out));
    }
}

#[test]
fn a_suite_is_run_with_short_names_and_in_abba_order() {
    let suite = ["bench", "--suite", "real", "--sched", "own=eevdf"];
    let rest = ["--sched", "eevdf", "--workload", "timer", "--dry-run"];
    let out = lab(&[&suite[..], &rest[..]].concat());
    assert!(out.status.success(), "{}", stderr(&out));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("order = \"abba\""), "{text}");
    assert_eq!(text.matches("timer  under own\n").count(), 7 * 2, "{text}");
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut child = Command::new(env!("CARGO_BIN_EXE_scx_lab"))
        .args(["run", "command:command=sleep 1234567"])
        .env("TMPDIR", dir.path())
        .stderr(Stdio::null())
        .spawn()
        .expect("scx_lab runs");
    let sleeps = || {
        let processes = std::fs::read_dir("/proc").expect("there").flatten();
        let lines = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
        lines
            .filter(|line| line.ends_with(b"sleep\x001234567\x00"))
            .count()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while sleeps() == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(sleeps(), 1);
    assert!(sys::signal(child.id(), Signal::INT));
    let status = child.wait().expect("ends");
    assert_eq!(status.code(), Some(1));
    assert_eq!(sleeps(), 0);
    let left = std::fs::read_dir(dir.path()).expect("there").count();
    assert_eq!(left, 0);
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
    another_machine(&out_dir, &dir.path().join("larger"));
}

/// `from` is copied to `to` as if it came from a machine with a hundred CPUs more: that is shown beside it, and not gone on with.
fn another_machine(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.is_ok_and(|s| s.success()));
    let file = to.join("provenance.json");
    let text = std::fs::read_to_string(&file).expect("written");
    let larger = text.replace("\"cpus\": ", "\"cpus\": 10");
    assert_ne!(text, larger);
    std::fs::write(&file, larger).expect("writable");
    let (from, to) = (from.to_str().expect("utf-8"), to.to_str().expect("utf-8"));
    let html = Path::new(to).join("report.html");
    let report = lab(&["report", to, from, "--html", html.to_str().expect("utf-8")]);
    assert!(report.status.success(), "{}", stderr(&report));
    assert!(String::from_utf8_lossy(&report.stdout).contains("Growth: "));
    let html = std::fs::read_to_string(html).expect("written");
    assert!(html.contains("<h2>Growth") && html.contains("3 blocks of"));
    let json = lab(&["report", to, from, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(2));
    let resumed = lab(&["bench", "--resume", to]);
    assert_eq!(resumed.status.code(), Some(2), "{}", stderr(&resumed));
    assert!(
        stderr(&resumed).contains("was begun on 10"),
        "{}",
        stderr(&resumed)
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
