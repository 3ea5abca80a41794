//! `scx_ml explain`: what it says of live tasks is what the kernel did, and what cannot be explained is named.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use scx_ml::model::QUANTISATION_BOUND;
use scx_ml::watch::explain::threads::Proc;
use scx_ml::watch::explain::{Explanation, Predicted, Prediction};

use crate::bad_days::refused;
use crate::harness::{Running, SCX_ML, run, wait_for, without_rights};
use crate::load::{self, Threads};

fn explain(args: &[&str]) -> Command {
    let mut command = Command::new(SCX_ML);
    command.arg("explain").args(args);
    command
}

/// The explanations of a command that succeeds.
fn explanations(args: &[&str]) -> Vec<Explanation> {
    let (code, out, err) = run(explain(args).arg("--json"));
    assert_eq!(code, Some(0), "{out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

/// Ids of the threads of load::alternating.
fn alternating() -> Vec<u32> {
    let name = load::ALTERNATING.to_bytes();
    Proc::mounted().named(name, 0).expect("/proc can be read")
}

#[test]
fn a_predicted_task_is_explained_by_id_and_by_name() {
    let mut running = Running::start(&["--refit-interval", "2"]);
    let load = load::alternating(3);
    running.stats_until(Duration::from_secs(120), |s| {
        s.slices_predicted > 100 && s.judged > 100
    });
    let pids = alternating();
    assert_eq!(pids.len(), 3);
    let pid = pids[0].to_string();

    // Bytes are copied without a lock, and models are replaced: now and then a sum does not fit, and says so.
    let mut last = vec![];
    let found = wait_for(Duration::from_secs(60), || {
        last = explanations(&[&pid]);
        predicted(&last[0]).is_some_and(|p| p.agrees) && last[0].outcomes.last.len() == 8
    });
    assert!(found, "{last:#?}");
    let e = &last[0];
    let p = predicted(e).expect("predicted");
    assert!(!p.terms.is_empty(), "{p:#?}");
    let sum: f64 = p.intercept + p.terms.iter().map(|t| t.contribution).sum::<f64>();
    assert!((sum - p.log2).abs() <= QUANTISATION_BOUND, "{p:#?}");
    assert!(p.quantile_ns >= p.burst_ns, "{p:#?}");
    assert_eq!(e.task.pid.to_string(), pid);
    assert_eq!(e.task.tgid, std::process::id());
    assert!(e.history.seen > 8 && e.class.is_some(), "{e:#?}");
    let slice = e.slice.as_ref().expect("a slice");
    assert!(
        (1_000_000..=20_000_000).contains(&slice.granted_ns),
        "{e:#?}"
    );
    // 300 us and 6 ms, and now and then more or less than that on an emulated machine.
    let mean = e.outcomes.error_model.expect("judged");
    assert!(mean.is_finite() && e.outcomes.judged >= 8, "{e:#?}");

    let (code, out, err) = run(&mut explain(&["alternating", "--limit", "2"]));
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(out.matches("alternating (thread ").count(), 2, "{out}");
    assert!(out.contains("1 more thread has that name"), "{out}");
    assert!(!out.contains('\u{1b}'), "colour in a pipe:\n{out}");
    println!("{out}");

    // By the beginning of the name, those that woke last first.
    let all = explanations(&["alternat"]);
    assert_eq!(all.len(), 3);
    let ago: Vec<_> = all
        .iter()
        .map(|e| e.burst.woke_ago_ns.expect("known"))
        .collect();
    assert!(ago.is_sorted(), "{ago:?}");

    watch_until_ctrl_c(&pid);

    refused(&mut explain(&["4194303"]), "there is no thread 4194303");
    refused(&mut explain(&["no-such-name"]), "called 'no-such-name'");
    refused(
        &mut explain(&["migration/0"]),
        "is not under sched_ext: its policy is SCHED_FIFO",
    );
    refused(
        without_rights().args(["explain", &pid]),
        "run `sudo scx_ml explain`",
    );
    let (code, _, err) = run(&mut explain(&[&pid, "--watch", "0"]));
    assert_eq!(code, Some(2), "{err}");

    load.end();
    running.stop();
}

fn predicted(e: &Explanation) -> Option<&Prediction> {
    match &e.prediction {
        Predicted::Burst(p) => Some(p),
        Predicted::None(_) => None,
    }
}

/// --watch prints readings until Ctrl-C, and that is no error.
fn watch_until_ctrl_c(pid: &str) {
    let log = tempfile::NamedTempFile::new().expect("a file for the output");
    let shown = || std::fs::read_to_string(log.path()).expect("the output can be read");
    let mut child = explain(&[pid, "--watch", "0.5"])
        .stdin(Stdio::null())
        .stdout(log.reopen().expect("reopened"))
        .spawn()
        .expect("scx_ml starts");
    let twice = wait_for(Duration::from_secs(60), || shown().contains("──── after"));
    kill_process(Pid::from_child(&child), Signal::INT).expect("sent");
    let status = child.wait().expect("it ends");
    assert!(twice, "one reading at most:\n{}", shown());
    assert_eq!(status.code(), Some(0), "{}", shown());
}

/// Names that a user may give a thread, and how they are shown.
const ODD_NAMES: [(&CStr, &str); 5] = [
    (c"\x1b]0;evil\x07\xff", "\\x1b]0;evil\\x07\\xff"),
    (c"a\nb \"q\\", "a\\x0ab \"q\\\\"),
    (c"--json", "--json"),
    (c"4194302", "4194302"),
    (c"x\xe2\x80\xaey\xc2\x9b", "x\\xe2\\x80\\xaey\\xc2\\x9b"),
];

/// Whether a terminal does nothing but show it.
fn assert_printable(text: &str) {
    let harms = |c: char| c != '\n' && !scx_ml_text::is_printable(c);
    assert!(!text.contains(harms), "{}", text.escape_debug());
}

#[test]
fn a_name_that_attacks_a_terminal_is_shown_escaped_and_can_be_asked_for() {
    let running = Running::start(&["--mode", "base"]);
    let mut threads = Threads::default();
    for (odd, _) in ODD_NAMES {
        threads.add(
            move || load::name(odd),
            || {
                load::burst(Duration::from_micros(300));
                std::thread::sleep(Duration::from_millis(10));
            },
        );
    }
    let pid_of = |name: &CStr| {
        let found = Proc::mounted().named(name.to_bytes(), 0);
        found.expect("/proc can be read").first().copied()
    };
    let named = || ODD_NAMES.iter().all(|(odd, _)| pid_of(odd).is_some());
    assert!(wait_for(Duration::from_secs(30), named));
    let said = |command: &mut Command| {
        let output = command.output().expect("scx_ml starts");
        let (out, err) = (output.stdout, output.stderr);
        let text = String::from_utf8([out, err].concat()).expect("text");
        assert_printable(&text);
        text
    };
    for (odd, shown) in ODD_NAMES {
        let pid = pid_of(odd).expect("it is there");
        let title = format!("{shown} (thread {pid} of process {})", std::process::id());
        let as_it_is = OsStr::from_bytes(odd.to_bytes());
        let by_id = said(&mut explain(&[&pid.to_string()]));
        let by_name = said(explain(&["--name", "--"]).arg(as_it_is));
        let without = said(explain(&["--"]).arg(as_it_is));
        let as_shown = said(&mut explain(&["--name", "--", shown]));
        for text in [by_id, by_name, without, as_shown] {
            assert!(text.starts_with(&title), "{title}:\n{text}");
        }
        let text = said(explain(&["--json", "--"]).arg(as_it_is));
        let found: Vec<Explanation> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(found[0].task.comm, shown);
    }
    let shown = said(Command::new(SCX_ML).args(["top", "--once"]));
    assert!(shown.contains("\\x1b]0;evil\\x07"), "{shown}");
    // What is not there is cited, too.
    for args in [
        &["explain", "no\x1b[2J\u{202e}"][..],
        &["eval", "no\x1b[2J\u{9b}"],
        &["--\x07\u{202e}"],
        &["--metrics", "/no\x1b[2J/where\x07"],
    ] {
        assert!(!said(Command::new(SCX_ML).args(args)).is_empty());
    }
    threads.end();
    running.stop();
}

#[test]
fn the_base_policy_is_explained_too() {
    let running = Running::start(&["--mode", "base"]);
    let load = load::alternating(4);
    std::thread::sleep(Duration::from_secs(2));
    for e in explanations(&["alternating"]) {
        assert_eq!(
            e.prediction,
            Predicted::None("in base mode nothing is predicted".into())
        );
        assert_eq!(
            e.slice.as_ref().map(|s| s.source.as_str()),
            Some("base"),
            "{e:#?}"
        );
        assert!(e.queueing.is_some(), "{e:#?}");
    }
    load.end();
    running.stop();
}

#[test]
fn a_task_that_partial_leaves_to_the_kernel_is_named() {
    let running = Running::start(&["--partial", "--mode", "base"]);
    let own = std::process::id().to_string();
    refused(&mut explain(&[&own]), "with --partial");
    running.stop();
}

#[test]
fn without_a_scheduler_nothing_is_explained() {
    refused(&mut explain(&["1"]), "start it with `sudo scx_ml`");
}
