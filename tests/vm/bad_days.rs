//! Bad days: one clear line, exit code 1, and the machine's scheduling as it was.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use scx_ml::kernel::fault::FAULT_VARIABLE;

use crate::harness::{Running, SCX_ML, run, state, wait_for, without_rights};

/// Run it; expect exit code 1, one line with `needle`, and nothing loaded that was not before.
pub fn refused(command: &mut Command, needle: &str) {
    let before = state();
    let (code, out, err) = run(command);
    assert_eq!(code, Some(1), "{out}{err}");
    assert_eq!(
        err.trim_end().lines().count(),
        1,
        "more than one line:\n{err}"
    );
    assert!(err.starts_with("scx_ml: ") && err.contains(needle), "{err}");
    assert_eq!(state(), before);
}

/// A shell command in a mount namespace of its own.
fn unshared(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh", SCX_ML]);
    command
}

#[test]
fn without_root() {
    refused(&mut without_rights(), "sudo scx_ml");
}

#[test]
fn without_sched_ext() {
    let hide = "mount -t tmpfs none /sys/kernel && exec \"$1\"";
    refused(&mut unshared(hide), "has no sched_ext");
}

#[test]
fn without_btf() {
    let hide = "mount -t tmpfs none /sys/kernel/btf && exec \"$1\"";
    refused(&mut unshared(hide), "has no BTF");
}

#[test]
fn beside_another_scheduler() {
    let running = Running::start(&["--mode", "base"]);
    refused(&mut Command::new(SCX_ML), "is already loaded");
    running.stop();
}

#[test]
fn with_impossible_options() {
    for (args, needle) in [
        (
            &["--slice-min-us", "9000", "--slice-max-us", "1000"][..],
            "is above --slice-max-us",
        ),
        (&["--window", "0"], "too small to fit a model on"),
        (&["--sample-rate", "0"], "--sample-rate 0"),
        (&["--refit-interval", "-1"], "number of seconds"),
    ] {
        let mut command = Command::new(SCX_ML);
        // "-1" would look like an option.
        if args[1].starts_with('-') {
            command.arg(format!("{}={}", args[0], args[1]));
        } else {
            command.args(args);
        }
        refused(&mut command, needle);
    }
}

#[test]
fn with_a_fault_that_there_is_not() {
    let mut command = Command::new(SCX_ML);
    command.env(FAULT_VARIABLE, "trainer-nap");
    refused(&mut command, "'trainer-nap', which is no fault");
}

#[test]
fn killed_outright_it_leaves_the_kernels_own_scheduler() {
    let running = Running::start(&[]);
    running.signal(Signal::KILL);
    running.wait();
    assert!(
        wait_for(Duration::from_secs(20), || state() == "disabled"),
        "{}",
        state()
    );
}
