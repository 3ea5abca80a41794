//! Coming and going: attach, detach, hotplug, modes, what the user sees.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use scx_ml::watch::explain::Explanation;

use crate::harness::{Running, SCX_ML, START_TIMEOUT, nr_cpus, run, state, wait_for};
use crate::load::{self, Threads};

#[test]
fn it_attaches_under_its_name_and_detaches_on_ctrl_c() {
    let running = Running::start(&[]);
    let ops = std::fs::read_to_string("/sys/kernel/sched_ext/root/ops").expect("the ops' name");
    assert!(ops.starts_with("ml_"), "{ops}");
    let log = running.stop();
    assert!(log.contains("EXIT: unregistered from user space"), "{log}");
    assert!(!log.contains('\u{1b}'), "colour in a file:\n{log}");
}

#[test]
fn sigterm_unloads_cleanly_too() {
    let running = Running::start(&["--mode", "base"]);
    running.signal(Signal::TERM);
    let ended = running.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert_eq!(state(), "disabled");
}

#[test]
fn base_mode_takes_no_samples_and_uses_no_model() {
    let mut running = Running::start(&["--mode", "base"]);
    let load = load::alternating(4);
    running.stats();
    std::thread::sleep(Duration::from_secs(3));
    let stats = running.stats();
    load.end();
    assert!(stats.slices_base > 0, "{stats:#?}");
    assert_eq!((stats.slices_predicted, stats.slices_average), (0, 0));
    assert_eq!((stats.bursts, stats.kept, stats.predictions), (0, 0, 0));
    running.stop();
}

#[test]
fn partial_leaves_ordinary_tasks_to_the_kernel() {
    let mut running = Running::start(&["--partial", "--mode", "base"]);
    let load = load::alternating(4);
    running.stats();
    std::thread::sleep(Duration::from_secs(2));
    let stats = running.stats();
    load.end();
    assert_eq!(stats.slices_base, 0, "{stats:#?}");
    running.stop();
}

#[test]
fn a_hotplug_restarts_it_and_the_model_is_kept() {
    let cpu = nr_cpus() - 1;
    let online = format!("/sys/devices/system/cpu/cpu{cpu}/online");
    assert!(
        Path::new(&online).exists(),
        "needs a VM with two CPUs or more"
    );
    let mut running = Running::start(&["--mode", "frozen"]);
    let load = load::alternating(4);
    let before = running.stats_until(Duration::from_secs(90), |s| s.slices_predicted > 0);
    assert_eq!(before.generation, 1);

    for value in ["0", "1"] {
        let restarts = running.log().matches("scheduling, mode").count();
        std::fs::write(&online, value).expect("the CPU can be switched");
        assert!(
            wait_for(START_TIMEOUT, || {
                running.log().matches("scheduling, mode").count() > restarts
            }),
            "no restart:\n{}",
            running.log()
        );
        // The stats server is a new one; the model is the old one.
        running.reconnect();
        let after = running.stats_until(Duration::from_secs(30), |s| s.slices_predicted > 0);
        assert_eq!((after.generation, after.models_published), (1, 1));
    }
    load.end();
    running.stop();
}

#[test]
fn what_is_known_of_a_task_outlives_a_hotplug() {
    let mut running = Running::start(&[]);
    let mut threads = Threads::default();
    threads.add(
        || load::name(c"long-lived"),
        || {
            load::burst(Duration::from_millis(1));
            std::thread::sleep(Duration::from_millis(20));
        },
    );
    let seen = || -> Option<(u32, u64)> {
        let (code, out, _) = run(Command::new(SCX_ML).args(["explain", "long-lived", "--json"]));
        let found: Vec<Explanation> = serde_json::from_str(&out).ok()?;
        (code == Some(0)).then(|| (found[0].history.seen, found[0].history.log_burst_ns))
    };
    let enough = || seen().is_some_and(|(seen, _)| seen >= 400);
    assert!(wait_for(Duration::from_secs(120), enough), "{:?}", seen());
    let (before, _) = seen().expect("explained");
    let file = format!("/sys/devices/system/cpu/cpu{}/online", nr_cpus() - 1);
    for online in ["0", "1"] {
        let restarts = running.log().matches("scheduling, mode").count();
        std::fs::write(&file, online).expect("a second CPU");
        let again = wait_for(START_TIMEOUT, || {
            running.has_ended() || running.log().matches("scheduling, mode").count() > restarts
        });
        assert!(again && !running.has_ended(), "{}", running.log());
        // Fifty a second at most: what was lost could not be there again yet.
        let mut after = None;
        wait_for(Duration::from_secs(10), || {
            after = seen();
            after.is_some()
        });
        let (after, burst_ns) = after.expect("explained");
        assert!(after >= before, "{before} bursts, then {after}");
        assert!((200_000..50_000_000).contains(&burst_ns), "{burst_ns} ns");
    }
    threads.end();
    running.assert_nothing_is_counted();
    let log = running.stop();
    assert!(!log.contains("what was known of tasks is lost"), "{log}");
}

#[test]
fn monitor_shows_a_running_scheduler_and_disturbs_nothing() {
    let running = Running::start(&[]);
    let load = load::alternating(2);
    let (_, out, err) =
        run(Command::new("timeout").args(["-s", "INT", "12", SCX_ML, "--monitor", "1"]));
    assert!(out.contains("[scx_ml learn] bursts"), "{out}{err}");
    load.end();
    running.stop();
}

#[test]
fn an_ejection_is_reported_with_its_reason() {
    let running = Running::start(&[]);
    // SysRq-S is the kernel's emergency exit from any sched_ext scheduler.
    std::fs::write("/proc/sysrq-trigger", "S").expect("SysRq is there");
    let ended = running.wait();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.log);
    assert!(
        ended.log.contains("EXIT: disabled by sysrq-S"),
        "{}",
        ended.log
    );
    assert_eq!(state(), "disabled");
}
