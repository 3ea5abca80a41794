//! Watching a scheduler: latencies, the dashboard, metrics.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use scx_ml::watch::stats::Metrics;
use scx_ml::watch::top::answer::{MODELS_TARGET, Models, TASKS_TARGET, Tasks};

use crate::bad_days::refused;
use crate::harness::{Running, SCX_ML, run, wait_for};
use crate::load;

fn top(args: &[&str]) -> Command {
    let mut command = Command::new(SCX_ML);
    command.arg("top").args(args);
    command
}

#[test]
fn without_a_scheduler_top_says_so() {
    refused(&mut top(&["--once"]), "start it with `sudo scx_ml`");
    refused(&mut top(&[]), "scx_ml top --once");
}

#[test]
fn top_shows_models_tasks_and_latencies() {
    let mut running = Running::start(&["--refit-interval", "2"]);
    let load = load::alternating(4);
    running.stats_until(Duration::from_secs(120), |s| {
        s.slices_predicted > 100 && s.judged > 100
    });
    let mut shown = String::new();
    let found = wait_for(Duration::from_secs(90), || {
        let (code, out, err) = run(&mut top(&["--once", "--interval", "2"]));
        assert_eq!(code, Some(0), "{out}{err}");
        shown = out;
        ["intercept", "alternating", "interactive", "wake-to-run p50"]
            .iter()
            .all(|text| shown.contains(text))
    });
    assert!(found, "{shown}");
    assert!(!shown.contains('\u{1b}'), "colour in a pipe:\n{shown}");
    println!("{shown}");

    load.end();
    running.stop();
}

fn totals(args: &[&str]) -> Command {
    let mut command = Command::new(SCX_ML);
    command.arg("totals").args(args);
    command
}

#[test]
fn totals_are_of_the_whole_run_whoever_asks_and_tell_what_the_models_are_worth() {
    refused(&mut totals(&[]), "start it with `sudo scx_ml`");
    let mut running = Running::start(&["--refit-interval", "2"]);
    let load = load::alternating(4);
    running.stats_until(Duration::from_secs(120), |s| s.judged > 200);
    let read = || -> Metrics {
        let (code, out, err) = run(&mut totals(&["--json"]));
        assert_eq!(code, Some(0), "{out}{err}");
        serde_json::from_str(&out).expect("statistics")
    };
    let (first, second) = (read(), read());
    assert!(first.judged > 200 && second.judged >= first.judged);
    assert!(second.bursts > 0 && second.span_s >= first.span_s);
    // By class they are of the samples, which are drained a little later than the kernel counts.
    let sum: u64 = second.classes.values().map(|c| c.judged).sum();
    let share = sum as f64 / second.judged as f64;
    assert!((0.5..1.5).contains(&share), "{second:#?}");
    let (code, out, _) = run(&mut totals(&[]));
    println!("{out}");
    assert!(code == Some(0) && out.contains("kind's average") && out.contains(" % less"));
    load.end();
    running.stop();
}

/// Enters and leaves the terminal's other screen.
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

#[test]
fn the_dashboard_leaves_the_terminal_as_it_was() {
    let running = Running::start(&["--mode", "base"]);
    let log = tempfile::NamedTempFile::new().expect("a file for the output");
    let shown = || std::fs::read_to_string(log.path()).expect("the output can be read");
    // script(1) gives it a terminal, which has no size as long as nobody gives it one.
    let command = format!("stty rows 30 cols 100 && {SCX_ML} top --interval 0.5");
    let mut child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(log.reopen().expect("reopened"))
        .spawn()
        .expect("script starts");
    let mut keys = child.stdin.take().expect("piped");
    let drawn = wait_for(Duration::from_secs(60), || shown().contains("Decisions"));
    keys.write_all(b"2q").expect("it listens");
    let status = child.wait().expect("it ends");
    let shown = shown();
    assert!(drawn, "{shown}");
    assert_eq!(status.code(), Some(0), "{shown}");
    let (enter, leave) = (shown.find(ENTER), shown.rfind(LEAVE));
    assert!(enter.is_some() && enter < leave, "{shown}");
    running.stop();
}

#[test]
fn what_top_asks_for_is_served_and_bounded() {
    let mut running = Running::start(&[]);
    let load = load::alternating(2);
    running.stats();
    std::thread::sleep(Duration::from_secs(2));
    let stats = running.stats();
    // Four wakes of threads that sleep 2 ms, at least, in two seconds; each has its place in the histogram.
    assert!(stats.wakeups > 20, "{stats:#?}");
    assert_eq!(stats.wakeups, stats.latencies_log2.iter().sum::<u64>());
    assert!(stats.latency_p50_us > 0.0 && stats.latency_p50_us <= stats.latency_p99_us);
    // No wake-up waits longer than tasks wait in all; those that preemption makes wait come on top.
    assert!(stats.wakeups <= stats.waits + 50, "{stats:#?}");
    assert!((1.0..60.0).contains(&stats.span_s), "{stats:#?}");

    let models: Models = running.ask(MODELS_TARGET, &[]).expect("answered");
    let classes: Vec<_> = models.classes.iter().map(|c| c.class.as_str()).collect();
    assert_eq!(classes, ["kthread", "young", "interactive", "batch"]);
    let own = std::process::id().to_string();
    let pids = format!("{own},4194303");
    let ask = |pids: &str| {
        running
            .ask(TASKS_TARGET, &[("pids", pids)])
            .expect("answered")
    };
    let tasks = match ask(&pids) {
        Tasks::Known(tasks) => tasks,
        Tasks::Refused(reason) => panic!("{reason}"),
    };
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    assert_eq!(tasks[0].pid.to_string(), own);
    match ask(&"1,".repeat(65)) {
        Tasks::Refused(reason) => assert!(reason.contains("up to 64"), "{reason}"),
        Tasks::Known(tasks) => panic!("{} tasks", tasks.len()),
    }
    load.end();
    running.stop();
}

#[test]
fn metrics_are_kept_while_it_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("scx_ml.prom");
    let path = file.to_str().expect("plain text");
    let running = Running::start(&["--metrics", path, "--stats", "1"]);
    load::stress_ng("--switch 1 -t 2");
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    let wakeups = || -> Option<f64> {
        let text = read();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("scx_ml_wake_to_run_seconds_count "))?;
        line.parse().ok()
    };
    assert!(
        wait_for(Duration::from_secs(30), || wakeups()
            .is_some_and(|n| n > 100.0)),
        "{}",
        read()
    );
    assert!(read().ends_with("# EOF\n"));
    let mode = file.metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    running.stop();
    assert!(!file.exists(), "stale metrics are left");

    let nowhere = dir.path().join("none/scx_ml.prom");
    refused(
        Command::new(SCX_ML).arg("--metrics").arg(nowhere),
        "cannot write metrics",
    );
}
