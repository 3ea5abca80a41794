//! CPUs' speeds and capacities, and where in memory their states lie. No VM has CPUs that differ or change their frequency: the
//! first is pretended to the scheduler by a /sys of the test's own, of the second the kernel takes orders all the same.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rustix::process::getpid;
use scx_ml::watch::explain::Explanation;
use scx_ml::watch::queues::CpuQueues;

use crate::harness::{Running, SCX_ML, run, wait_for};
use crate::load::{self, Threads, hog};
use crate::machine;

fn busy() -> Threads {
    let mut threads = Threads::default();
    for _ in machine::online() {
        threads.add(|| (), hog);
    }
    threads
}

/// Wait until all CPUs are as they should be.
fn all(running: &Running, what: &str, is: impl Fn(&CpuQueues) -> bool) {
    let mut last = vec![];
    let found = wait_for(Duration::from_secs(30), || {
        last = running.queues().cpus;
        last.iter().filter(|cpu| cpu.capacity > 0).all(&is)
    });
    assert!(found, "not {what}: {last:#?}");
}

#[test]
fn busy_cpus_are_told_to_be_fast_and_idle_ones_to_be_slow() {
    let mut running = Running::start(&[]);
    running.stats();
    let threads = busy();
    all(&running, "fast", |cpu| {
        cpu.speed == 1024 && cpu.utilisation > 700
    });
    threads.end();
    // A thing or two goes on in an idle system, and the test asks.
    all(&running, "slow", |cpu| cpu.speed < 512);
    let sets = running.stats().cpuperf_sets;
    assert!(sets >= 2, "{sets}");
    running.stop();
}

#[test]
fn without_frequency_control_nothing_is_told() {
    let mut running = Running::start(&["--no-freq-control"]);
    running.stats();
    let threads = busy();
    std::thread::sleep(Duration::from_secs(2));
    threads.end();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(running.stats().cpuperf_sets, 0);
    assert!(running.queues().cpus.iter().all(|cpu| cpu.speed == 1024));
    running.stop();
}

#[test]
fn states_of_cpus_begin_cache_lines() {
    let log = Running::start(&[]).stop();
    assert!(!log.contains("within cache lines of others"), "{log}");
}

/// A /sys that is this machine's, but for the capacities of CPUs.
fn sys_with_capacities(root: &Path, capacity_of: impl Fn(usize) -> usize) {
    let link = |name: &Path, to: &Path| {
        let there = root.join(name.strip_prefix("/").expect("absolute"));
        std::fs::create_dir_all(there.parent().expect("below the root")).expect("made");
        symlink(to, there).expect("linked");
    };
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).expect("in /sys");
        entries.map(|e| e.expect("read").path()).collect::<Vec<_>>()
    };
    for entry in entries(Path::new("/sys/devices/system")) {
        if entry.file_name().is_some_and(|name| name != "cpu") {
            link(&entry, &entry);
        }
    }
    let cpus = Path::new("/sys/devices/system/cpu");
    for entry in entries(cpus) {
        let id = entry
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("cpu")?.parse().ok());
        match id {
            Some(cpu) => {
                let file = entry.join("cpu_capacity");
                for other in entries(&entry).iter().filter(|other| **other != file) {
                    link(other, other);
                }
                let there = root.join(file.strip_prefix("/").expect("absolute"));
                std::fs::write(there, format!("{}\n", capacity_of(cpu))).expect("written");
            }
            None => link(&entry, &entry),
        }
    }
}

/// Mean length of the bursts of a thread, as the scheduler has it.
fn mean_burst(name: &str) -> Duration {
    let (code, out, err) =
        run(std::process::Command::new(SCX_ML).args(["explain", name, "--json"]));
    assert_eq!(code, Some(0), "{out}{err}");
    let explained: Vec<Explanation> = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        explained[0].task.tgid,
        getpid().as_raw_nonzero().get() as u32
    );
    Duration::from_nanos(explained[0].history.avg_burst_ns)
}

#[test]
fn a_burst_is_as_long_on_a_slow_cpu_as_on_a_fast_one() {
    let cpus: Vec<usize> = machine::ordinary().into_iter().collect();
    let [fast, slow, ..] = cpus[..] else {
        println!("not tested: one CPU");
        return;
    };
    let root = tempfile::tempdir().expect("a folder");
    sys_with_capacities(root.path(), |cpu| if cpu == slow { 256 } else { 1024 });
    let running = Running::start_with(&[], |command| {
        command.env("SCX_SYSFS_PREFIX", root.path());
    });
    let cpus = running.queues().cpus;
    assert_eq!((cpus[fast].capacity, cpus[slow].capacity), (1024, 256));

    // As much time on each, in which the slow one is taken to do a quarter.
    let mut threads = Threads::default();
    for (cpu, name) in [(fast, c"on-a-fast-cpu"), (slow, c"on-a-slow-cpu")] {
        threads.add(
            move || {
                load::name(name);
                load::pin(cpu);
            },
            || {
                load::burst(Duration::from_millis(20));
                std::thread::sleep(Duration::from_millis(20));
            },
        );
    }
    let mut roaming = Threads::default();
    roaming.add(
        || (),
        || {
            load::burst(Duration::from_millis(30));
            std::thread::sleep(Duration::from_millis(5));
        },
    );
    let mut last = (Duration::ZERO, Duration::ZERO);
    let found = wait_for(Duration::from_secs(60), || {
        last = (mean_burst("on-a-fast-cpu"), mean_burst("on-a-slow-cpu"));
        let ratio = last.1.as_secs_f64() / last.0.as_secs_f64();
        (0.2..0.3).contains(&ratio)
    });
    assert!(found, "mean bursts {last:?}, and not four to one");
    println!("mean bursts: {last:?}");
    threads.end();
    roaming.end();
    running.assert_nothing_is_counted();
    running.stop();
}
