//! Shapes of machines: what must hold on each, however many CPUs, threads per core, caches and nodes it has.
//! `vng/shapes` boots them; elsewhere the tests run on whatever there is.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Running, START_TIMEOUT, wait_for};
use crate::load::{self, Threads, allow, burst, here, hog, tid};
use crate::machine::{self, Cpus, ordinary};

/// What the booted machine is meant to be, for example "cpus=8 cores=4 llcs=2 nodes=1".
const SHAPE_VARIABLE: &str = "SCX_ML_SHAPE";

/// Caches, as far as ordinary tasks may use them.
fn ordinary_llcs() -> Vec<Cpus> {
    let llcs = machine::llcs().into_iter();
    llcs.map(|llc| llc.intersection(&ordinary()).copied().collect::<Cpus>())
        .filter(|llc| !llc.is_empty())
        .collect()
}

#[test]
fn the_machine_is_recognised_as_it_is() {
    let (online, cores, llcs, nodes) = (
        machine::online(),
        machine::cores(),
        machine::llcs(),
        machine::nodes(),
    );
    let shape = format!(
        "cpus={} cores={} llcs={} nodes={}",
        online.len(),
        cores.len(),
        llcs.len(),
        nodes.len()
    );
    println!("{shape}");
    if let Ok(wanted) = std::env::var(SHAPE_VARIABLE) {
        assert_eq!(
            shape, wanted,
            "the machine was not booted as it should have been"
        );
    }

    let running = Running::start(&["--mode", "base"]);
    assert_recognised(&running);
    let smt = if cores.len() < online.len() {
        "on"
    } else {
        "off"
    };
    let log = running.stop();
    assert!(log.contains(&format!("SMT {smt}")), "{log}");
}

/// Caches and nodes are known to the scheduler as /sys has them now.
fn assert_recognised(running: &Running) {
    let queues = running.queues();
    let known: Vec<Cpus> = queues
        .llcs
        .iter()
        .map(|llc| llc.cpus.iter().map(|&cpu| cpu as usize).collect())
        .collect();
    let mut sorted = known.clone();
    sorted.sort();
    assert_eq!(sorted, machine::llcs(), "{}", running.log());
    for (index, cpus) in known.iter().enumerate() {
        for &cpu in cpus {
            assert_eq!(queues.cpus[cpu].llc as usize, index);
        }
    }
    let nodes = machine::nodes();
    for (i, a) in queues.llcs.iter().enumerate() {
        for (j, b) in queues.llcs.iter().enumerate() {
            let together = nodes.iter().any(|node| {
                node.contains(&(a.cpus[0] as usize)) && node.contains(&(b.cpus[0] as usize))
            });
            assert_eq!(a.node == b.node, together, "LLCs {i} and {j}");
        }
    }
    let summary = format!("{} CPUs, {} LLCs", machine::online().len(), known.len());
    assert!(running.log().contains(&summary), "{}", running.log());
}

/// The share of a time span for which each CPU was idle.
pub fn idle_shares(cpus: &Cpus, span: Duration) -> Vec<(usize, f64)> {
    let (before, start) = (machine::idle_ticks(), Instant::now());
    std::thread::sleep(span);
    let (after, elapsed) = (machine::idle_ticks(), start.elapsed().as_secs_f64());
    cpus.iter()
        .map(|cpu| (*cpu, (after[cpu] - before[cpu]) as f64 / 100.0 / elapsed))
        .collect()
}

#[test]
fn no_cpu_idles_while_work_waits() {
    let cpus = ordinary();
    let running = Running::start(&["--mode", "base"]);
    let mut threads = Threads::default();
    for _ in 0..2 * cpus.len() {
        threads.add(|| (), hog);
    }
    std::thread::sleep(Duration::from_secs(1));
    let span = Duration::from_secs(4);
    let idle = idle_shares(&cpus, span);
    let used = threads.end();
    println!("idle {idle:.3?}, used {used:.2?}");
    for (cpu, share) in idle {
        assert!(share < 0.1, "CPU {cpu} was idle for {share:.2} of the time");
    }
    assert_even(&used, 3.0);
    running.assert_nothing_is_counted();
    running.stop();
}

/// None got more than so many times what another did.
fn assert_even(used: &[Duration], ratio_max: f64) {
    let (min, max) = (used.iter().min(), used.iter().max());
    let ratio = max.expect("some").as_secs_f64() / min.expect("some").as_secs_f64().max(1e-9);
    assert!(ratio < ratio_max, "{ratio:.2}: {used:.2?}");
}

/// Bursts, sleeps and odd affinities come and go: what is counted as waiting comes out even.
#[test]
fn counts_of_waiting_tasks_come_out_even() {
    let cpus: Vec<usize> = ordinary().into_iter().collect();
    let running = Running::start(&[]);
    let mut threads = Threads::default();
    for i in 0..6 * cpus.len() {
        let (cpus, mut round) = (cpus.clone(), i);
        threads.add(
            || (),
            move || {
                round += 1;
                // Each time two other CPUs, of one LLC or of two; at times one, or all.
                let n = cpus.len();
                match round % 8 {
                    0 => allow(0, cpus.iter().copied()),
                    1..=5 => allow(0, [cpus[round % n], cpus[(round * 7 + 3) % n]]),
                    _ => allow(0, [cpus[(round + 1) % n]]),
                }
                burst(Duration::from_micros(200 + 700 * (round % 9) as u64));
                if round % 3 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            },
        );
    }
    let mut most = 0;
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(700));
        let queues = running.queues();
        most = most.max(queues.waiting());
        let tasks = threads.len() as u64 + 500;
        assert!(queues.waiting() < tasks, "a count has wrapped: {queues:#?}");
    }
    threads.end();
    assert!(most > 0, "nothing ever waited");
    running.assert_nothing_is_counted();
    running.stop();
}

/// Pairs that wake each other: they stay where their data is.
#[test]
fn wakeups_stay_in_their_llc() {
    let llcs = ordinary_llcs();
    let running = Running::start(&["--mode", "base"]);
    let crossings = Arc::new(AtomicU64::new(0));
    let wakeups = Arc::new(AtomicU64::new(0));
    let mut threads = Threads::default();
    let llc_of = |llcs: &[Cpus], cpu| llcs.iter().position(|llc| llc.contains(&cpu));
    // One pair an LLC: no reason to leave it. Where there is one CPU only, it is the waker's, and any idle one is better.
    let of_several = llcs.iter().filter(|llc| llc.len() > 1 || llcs.len() == 1);
    for llc in of_several {
        let (mut a, mut b) = UnixStream::pair().expect("a pair of sockets");
        b.set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a timeout");
        a.set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a timeout");
        for mut end in [
            a.try_clone().expect("cloned"),
            b.try_clone().expect("cloned"),
        ] {
            let home = llc.clone();
            let (all, llcs) = (ordinary(), llcs.clone());
            let (crossings, wakeups) = (crossings.clone(), wakeups.clone());
            let mut last = None;
            threads.add(
                move || {
                    allow(0, home);
                    allow(0, all);
                },
                move || {
                    let mut byte = [0];
                    // A timeout is the end of the other side.
                    if end.read_exact(&mut byte).is_err() {
                        return;
                    }
                    burst(Duration::from_micros(100));
                    let now = llc_of(&llcs, here());
                    wakeups.fetch_add(1, Ordering::Relaxed);
                    if last.is_some() && last != Some(now) {
                        crossings.fetch_add(1, Ordering::Relaxed);
                    }
                    last = Some(now);
                    let _ = end.write_all(&byte);
                },
            );
        }
        a.write_all(&[0]).expect("the ball is in play");
        b.flush().expect("flushed");
    }
    std::thread::sleep(Duration::from_secs(5));
    threads.end();
    let (crossings, wakeups) = (
        crossings.load(Ordering::Relaxed),
        wakeups.load(Ordering::Relaxed),
    );
    println!("{crossings} of {wakeups} wake-ups were in another LLC than the one before");
    assert!(wakeups > 200, "only {wakeups} wake-ups");
    assert!(crossings * 10 < wakeups, "{crossings} of {wakeups}");
    running.stop();
}

/// Hogs that are held on some CPUs, and where they may go from a moment on.
struct Held {
    threads: Threads,
    ids: Arc<Mutex<Vec<i32>>>,
    /// CPU time of each, in ns, as it last said.
    used_ns: Vec<Arc<AtomicU64>>,
}

impl Held {
    fn new() -> Self {
        Self {
            threads: Threads::default(),
            ids: Arc::default(),
            used_ns: vec![],
        }
    }

    fn add(&mut self, cpus: &Cpus) {
        let (ids, cpus) = (self.ids.clone(), cpus.clone());
        let used = Arc::new(AtomicU64::new(0));
        self.used_ns.push(used.clone());
        self.threads.add(
            move || {
                allow(0, cpus);
                ids.lock().expect("not poisoned").push(tid());
            },
            move || {
                hog();
                used.store(load::thread_cpu_time().as_nanos() as u64, Ordering::Relaxed);
            },
        );
    }

    fn release(&self, to: &Cpus) {
        for id in self.ids.lock().expect("not poisoned").iter() {
            allow(*id, to.iter().copied());
        }
    }

    /// CPU time of each in a span from now.
    fn used_in(&self, span: Duration) -> Vec<Duration> {
        let read = || -> Vec<u64> {
            let used = self.used_ns.iter();
            used.map(|ns| ns.load(Ordering::Relaxed)).collect()
        };
        let before = read();
        std::thread::sleep(span);
        let after = read();
        let pairs = after.iter().zip(&before);
        pairs
            .map(|(after, before)| Duration::from_nanos(after - before))
            .collect()
    }
}

#[test]
fn an_idle_llc_takes_work_from_a_busy_one() {
    let (llcs, all) = (ordinary_llcs(), ordinary());
    let mut running = Running::start(&["--mode", "base"]);
    let mut held = Held::new();
    for _ in 0..2 * all.len() {
        held.add(&llcs[0]);
    }
    std::thread::sleep(Duration::from_secs(1));
    running.stats();
    held.release(&all);
    std::thread::sleep(Duration::from_millis(500));
    let idle = idle_shares(&all, Duration::from_secs(3));
    let used = held.used_in(Duration::from_secs(4));
    let stats = running.stats();
    held.threads.end();
    println!(
        "idle {idle:.3?}, stolen {}, used {used:.2?}",
        stats.llc_steals
    );
    for (cpu, share) in idle {
        assert!(share < 0.1, "CPU {cpu} was idle for {share:.2} of the time");
    }
    // Whether a CPU that ran dry stole, or an idle one was found for a task that was queued anew, is chance.
    assert_even(&used, 3.0);
    running.assert_nothing_is_counted();
    running.stop();
}

/// Nobody runs dry, but in one LLC many more wait for a CPU than in the others.
#[test]
fn busy_llcs_even_out_what_waits() {
    let (llcs, all) = (ordinary_llcs(), ordinary());
    let mut running = Running::start(&["--mode", "base"]);
    let mut held = Held::new();
    for (i, llc) in llcs.iter().enumerate() {
        for _ in 0..llc.len() * if i == 0 { 4 } else { 1 } {
            held.add(llc);
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    running.stats();
    held.release(&all);
    std::thread::sleep(Duration::from_secs(1));
    let used = held.used_in(Duration::from_secs(8));
    let stats = running.stats();
    held.threads.end();
    println!("evened {}, used {used:.2?}", stats.evenings);
    assert_even(&used, 2.5);
    running.assert_nothing_is_counted();
    running.stop();
}

/// A higher class has all CPUs of an LLC but the tasks that waited there may run elsewhere.
#[test]
fn work_leaves_cpus_that_a_higher_class_has() {
    let (llcs, all) = (ordinary_llcs(), ordinary());
    // All but one CPU: where there are several LLCs, the whole first one is among them.
    let left = *all.last().expect("a CPU");
    if all.len() == 1 {
        return;
    }
    let running = Running::start(&["--mode", "base"]);
    let mut held = Held::new();
    for llc in &llcs {
        for _ in 0..2 * llc.len() {
            held.add(llc);
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    held.release(&all);
    let mut hogs = Threads::default();
    for cpu in all.iter().copied().filter(|cpu| *cpu != left) {
        hogs.add(
            move || {
                load::pin(cpu);
                assert!(load::class(libc::SCHED_FIFO, 10), "root may");
            },
            hog,
        );
    }
    let used = held.used_in(Duration::from_secs(6));
    hogs.end();
    held.threads.end();
    println!("used beside the higher class {used:.2?}");
    for used in &used {
        assert!(*used > Duration::from_millis(20), "starved: {used:?}");
    }
    running.assert_nothing_is_counted();
    running.stop();
}

#[test]
fn cpus_come_and_go_under_load_and_the_model_is_kept() {
    let switchable: Vec<usize> = machine::online()
        .into_iter()
        .filter(|cpu| machine::online_file(*cpu).exists())
        .collect();
    if switchable.is_empty() {
        return;
    }
    let _all_on = machine::AllOn::again();
    let mut running = Running::start(&["--mode", "frozen"]);
    // To be loaded on one CPU beside more than eight takes minutes when that is emulated.
    let tasks = 2 * machine::online().len();
    let load = load::alternating(tasks.min(8));
    let more = load::alternating(tasks.saturating_sub(8));
    running.stats_until(Duration::from_secs(180), |s| s.predictions > 0);

    // As fast as the kernel does it: in the middle of restarts too.
    for cpu in &switchable {
        machine::switch(*cpu, false);
        machine::switch(*cpu, true);
    }
    settled(&mut running);

    // The last LLC, or where there is one only all but the first CPU; and back.
    let llcs = machine::llcs();
    let (gone, more): (Vec<usize>, _) = match llcs.len() {
        1 => {
            more.end();
            (switchable.clone(), None)
        }
        n => (llcs[n - 1].iter().copied().collect(), Some(more)),
    };
    for on in [false, true] {
        for cpu in &gone {
            machine::switch(*cpu, on);
        }
        settled(&mut running);
        let idle = idle_shares(&ordinary(), Duration::from_secs(2));
        println!("{} CPUs on {on}: idle {idle:.2?}", gone.len());
    }
    load.end();
    more.map(Threads::end);
    running.assert_nothing_is_counted();
    running.stop();
}

/// It schedules the machine as that is now, by the model that it had.
fn settled(running: &mut Running) {
    let summary = format!(
        "{} CPUs, {} LLCs",
        machine::online().len(),
        machine::llcs().len()
    );
    let settled = wait_for(START_TIMEOUT, || {
        let log = running.log();
        let last = log.rfind("scheduling, mode").unwrap_or(0);
        let restart = log.rfind("restarting, the model is kept").unwrap_or(0);
        let shape = log.rfind(&summary).unwrap_or(0);
        running.has_ended()
            || (last > restart && last > shape && shape >= restart && {
                // Not about to be told of another change.
                std::thread::sleep(Duration::from_millis(1_500));
                running.log().len() == log.len()
            })
    });
    assert!(settled && !running.has_ended(), "{}", running.log());
    running.reconnect();
    assert_recognised(running);
    // Whether they steer is the watch's matter: on emulated CPUs bursts last as long as the host pleases.
    let stats = running.stats_until(Duration::from_secs(120), |s| s.predictions > 0);
    assert_eq!((stats.generation, stats.models_published), (1, 1));
}

/// A thread of each CPU's own: it runs there however busy the rest is.
#[test]
fn pinned_wakeups_run_on_every_cpu() {
    let cpus = machine::online();
    let running = Running::start(&["--mode", "base"]);
    let mut threads = Threads::default();
    for _ in 0..3 * cpus.len() {
        threads.add(|| (), hog);
    }
    let wrong = Arc::new(AtomicI32::new(-1));
    let counts: Vec<Arc<AtomicU64>> = cpus.iter().map(|_| Arc::default()).collect();
    for (cpu, count) in cpus.iter().copied().zip(&counts) {
        let (wrong, count) = (wrong.clone(), count.clone());
        threads.add(
            move || load::pin(cpu),
            move || {
                if here() != cpu {
                    wrong.store(cpu as i32, Ordering::Relaxed);
                }
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            },
        );
    }
    let counts = || -> Vec<u64> { counts.iter().map(|c| c.load(Ordering::Relaxed)).collect() };
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(5));
    // How fast they come, the host decides where it has fewer CPUs; none may be left behind.
    wait_for(Duration::from_secs(55), || {
        counts().iter().sum::<u64>() >= 40 * cpus.len() as u64
    });
    threads.end();
    let (counts, span) = (counts(), start.elapsed());
    println!("wake-ups by CPU in {span:.1?}: {counts:?}");
    assert_eq!(wrong.load(Ordering::Relaxed), -1, "it ran elsewhere");
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
    running.assert_nothing_is_counted();
    running.stop();
}
