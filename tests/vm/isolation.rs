//! CPUs that are set apart, by `isolcpus=` or by cpusets, and tasks that are confined to some.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use crate::harness::{Running, SCX_ML, run, state, wait_for};
use crate::load::{self, Threads, hog};
use crate::machine::{self, Cpus};
use crate::shapes::idle_shares;

const CGROUPS: &str = "/sys/fs/cgroup";

/// A cgroup for processes, with CPUs of its own. Removed when dropped, and with it what it set apart.
struct Cpuset(PathBuf);

impl Cpuset {
    fn new(name: &str, cpus: &Cpus) -> Self {
        std::fs::write(format!("{CGROUPS}/cgroup.subtree_control"), "+cpu +cpuset")
            .expect("the cpuset controller");
        let path = Path::new(CGROUPS).join(name);
        std::fs::create_dir(&path).expect("a cgroup");
        let list: Vec<String> = cpus.iter().map(ToString::to_string).collect();
        std::fs::write(path.join("cpuset.cpus"), list.join(",")).expect("its CPUs");
        Self(path)
    }

    /// What becomes of a partition: its CPUs are taken from everybody else.
    fn set_apart(&self, how: &str) {
        let file = self.0.join("cpuset.cpus.partition");
        std::fs::write(&file, how).expect("a partition");
        let now = std::fs::read_to_string(&file).expect("its state");
        assert_eq!(now.trim(), how, "the kernel does not set the CPUs apart");
    }

    /// A shell in it that works for ever. It is there when this returns.
    fn worker(&self) -> Worker {
        let script = "echo 0 >\"$1\" && while :; do :; done";
        let file = self.0.join("cgroup.procs");
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&file);
        let worker = Worker(command.spawn().expect("a shell"));
        let id = worker.0.id().to_string();
        let joined = wait_for(Duration::from_secs(60), || {
            let tasks = std::fs::read_to_string(&file).expect("its tasks");
            tasks.lines().any(|task| task == id)
        });
        assert!(joined, "a shell has not come so far in a minute");
        worker
    }
}

impl Drop for Cpuset {
    fn drop(&mut self) {
        // The kernel needs a moment to let go of what was killed.
        wait_for(Duration::from_secs(5), || {
            std::fs::remove_dir(&self.0).is_ok()
        });
    }
}

/// Killed when dropped.
struct Worker(Child);

impl Worker {
    /// The CPU that it was last seen on.
    fn cpu(&self) -> usize {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("alive");
        let after_name = stat.rsplit(')').next().expect("fields");
        let field = after_name.split_whitespace().nth(36);
        field.and_then(|f| f.parse().ok()).expect("a CPU")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last CPU, where there is another one.
fn last_cpu() -> Option<usize> {
    let online = machine::online();
    (online.len() > 1).then(|| *online.last().expect("a CPU"))
}

fn hogs(n: usize) -> Threads {
    let mut threads = Threads::default();
    for _ in 0..n {
        threads.add(|| (), hog);
    }
    threads
}

/// The kernel takes no sched_ext scheduler then (as of Linux 6.18): it is to be said why, and what else would do.
#[test]
fn cpus_isolated_at_boot_are_named_as_the_reason_for_a_refusal() {
    let isolated = machine::isolated_at_boot();
    if isolated.is_empty() {
        println!("not booted with isolcpus=");
        return;
    }
    let (code, _, err) = run(Command::new("timeout").args(["-s", "INT", "120", SCX_ML]));
    println!("{}", err.lines().last().unwrap_or_default());
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("booted with isolcpus="), "{err}");
    assert_eq!(state(), "disabled");
}

#[test]
fn an_isolated_partition_is_left_to_its_own_tasks() {
    let Some(cpu) = last_cpu().filter(|_| machine::isolated_at_boot().is_empty()) else {
        return;
    };
    let running = Running::start(&["--mode", "base"]);
    let threads = hogs(2 * machine::online().len());
    std::thread::sleep(Duration::from_secs(1));
    let apart = Cpuset::new("ml-apart", &Cpus::from([cpu]));
    apart.set_apart("isolated");
    std::thread::sleep(Duration::from_millis(500));
    let alone = idle_shares(&Cpus::from([cpu]), Duration::from_secs(3));

    let worker = apart.worker();
    // A process takes its time to start beside so many.
    wait_for(Duration::from_secs(10), || worker.cpu() == cpu);
    std::thread::sleep(Duration::from_millis(500));
    let used = idle_shares(&machine::online(), Duration::from_secs(2));
    let seen_on = worker.cpu();
    drop(worker);
    drop(apart);
    std::thread::sleep(Duration::from_secs(1));
    let given_back = idle_shares(&machine::online(), Duration::from_secs(2));
    threads.end();
    println!("idle: apart {alone:.3?}, with its own task {used:.3?}, given back {given_back:.3?}");
    assert!(alone[0].1 > 0.85, "work of others: {alone:?}");
    assert_eq!(seen_on, cpu);
    for (cpu, share) in used.into_iter().chain(given_back) {
        assert!(share < 0.15, "CPU {cpu} was idle for {share:.2}");
    }
    running.assert_nothing_is_counted();
    running.stop();
}

#[test]
fn tasks_of_a_cpuset_stay_in_it_and_share_its_cpus() {
    let Some(cpu) = last_cpu() else { return };
    // All CPUs but the first: several where there are, of several LLCs where there are.
    let inside: Cpus = machine::online().into_iter().skip(1).collect();
    assert!(inside.contains(&cpu));
    let running = Running::start(&["--mode", "base"]);
    let set = Cpuset::new("ml-inside", &inside);
    let workers: Vec<Worker> = (0..2 * inside.len()).map(|_| set.worker()).collect();
    std::thread::sleep(Duration::from_secs(1));
    let mut seen = Cpus::new();
    for _ in 0..30 {
        seen.extend(workers.iter().map(Worker::cpu));
        std::thread::sleep(Duration::from_millis(50));
    }
    let idle = idle_shares(&inside, Duration::from_secs(2));

    // They change to the first CPU, all of them, while they run or wait.
    std::fs::write(set.0.join("cpuset.cpus"), "0").expect("other CPUs");
    std::thread::sleep(Duration::from_millis(500));
    let later: Cpus = workers.iter().map(Worker::cpu).collect();
    drop(workers);
    drop(set);
    println!("seen on {seen:?}, idle {idle:.3?}, then on {later:?}");
    assert!(seen.is_subset(&inside), "{seen:?} outside of {inside:?}");
    for (cpu, share) in idle {
        assert!(share < 0.15, "CPU {cpu} was idle for {share:.2}");
    }
    assert_eq!(later, Cpus::from([0]));
    running.assert_nothing_is_counted();
    running.stop();
}

#[test]
fn with_partial_the_tasks_of_sched_ext_are_scheduled_and_no_others() {
    const SCHED_EXT: i32 = 7;
    let mut running = Running::start(&["--partial", "--mode", "base"]);
    // Few: the kernel's own class is above sched_ext, and may leave it nothing.
    let ordinary = load::alternating(1);
    let mut threads = Threads::default();
    for _ in 0..2 * machine::online().len() {
        threads.add(
            || assert!(load::class(SCHED_EXT, 0), "a kernel with sched_ext"),
            || {
                load::burst(Duration::from_millis(2));
                std::thread::sleep(Duration::from_millis(1));
            },
        );
    }
    let stats = running.stats_until(Duration::from_secs(20), |s| s.slices_base > 50);
    let used = threads.end();
    // What is left are ordinary tasks: they are the kernel's.
    std::thread::sleep(Duration::from_millis(500));
    running.stats();
    std::thread::sleep(Duration::from_secs(2));
    let after = running.stats();
    ordinary.end();
    println!(
        "slices {} with tasks of sched_ext, {} without",
        stats.slices_base, after.slices_base
    );
    assert!(used.iter().all(|used| *used > Duration::ZERO), "{used:?}");
    assert_eq!(after.slices_base, 0, "{after:#?}");
    running.assert_nothing_is_counted();
    running.stop();
}
