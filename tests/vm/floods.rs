//! Floods: of names, and of clients that misbehave. The process stays as small as it was, and answers.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use scx_ml::watch::ask::SOCKET;
use scx_ml::watch::stats::Metrics;
use scx_stats::prelude::StatsClient;

use crate::harness::Running;
use crate::load::{self, Threads};

/// Bad clients of each kind.
const OF_EACH: usize = 50;

/// Memory of its own, KiB.
fn anonymous_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let words = line.expect("the kernel tells").split_whitespace();
    words
        .take(1)
        .find_map(|n| n.parse().ok())
        .expect("a number")
}

/// A client that does this again and again, and comes back when it is cut off.
struct Bad {
    stream: Option<UnixStream>,
    sends: &'static [u8],
    /// Once each time, or without end.
    once: bool,
}

impl Bad {
    fn turn(&mut self, cut_off: &AtomicU64) {
        let Some(stream) = &mut self.stream else {
            let Ok(stream) = UnixStream::connect(SOCKET) else {
                return;
            };
            stream.set_nonblocking(true).expect("set");
            // Half a request, or the first of many.
            let _ = (&stream).write(self.sends);
            self.stream = Some(stream);
            return;
        };
        let gone = match self.once {
            // Nothing is ever said to it.
            true => {
                !matches!(stream.read(&mut [0; 64]), Err(e) if e.kind() == ErrorKind::WouldBlock)
            }
            false => {
                matches!(stream.write(self.sends), Err(e) if e.kind() != ErrorKind::WouldBlock)
            }
        };
        if gone {
            cut_off.fetch_add(1, Ordering::Relaxed);
            self.stream = None;
        }
    }
}

#[test]
fn new_names_and_bad_clients_cost_no_memory_and_keep_nobody_waiting() {
    // A window that is full by the time from which on memory must not grow.
    let mut running = Running::start(&["--refit-interval", "2", "--window", "2000"]);
    let before = anonymous_kib(running.pid());
    let mut threads = Threads::default();
    // A new thread with a new name each time, as a shell script has new processes.
    let names = Arc::new(AtomicU64::new(0));
    for _ in 0..4 {
        let names = names.clone();
        threads.add(
            || (),
            move || {
                let name = format!("n{}", names.fetch_add(1, Ordering::Relaxed));
                let one = std::thread::Builder::new().name(name).spawn(|| {
                    load::burst(Duration::from_micros(100));
                    std::thread::sleep(Duration::from_micros(500));
                });
                one.expect("started").join().expect("no panic");
            },
        );
    }
    let kinds: [(&[u8], bool); 4] = [
        (&[b'x'; 4096], false),
        (b"{\"req\":\"st", true),
        (
            b"{\"req\":\"stats\",\"args\":{\"target\":\"models\"}}\n",
            false,
        ),
        (b"", true),
    ];
    let cut_off: Arc<[AtomicU64; 4]> = Arc::default();
    for (kind, (sends, once)) in kinds.into_iter().enumerate() {
        let cut_off = cut_off.clone();
        let mut clients: Vec<Bad> = (0..OF_EACH)
            .map(|_| Bad {
                stream: None,
                sends,
                once,
            })
            .collect();
        threads.add(
            || (),
            move || {
                clients.iter_mut().for_each(|c| c.turn(&cut_off[kind]));
                std::thread::sleep(Duration::from_millis(20));
            },
        );
    }

    let start = Instant::now();
    let (mut early, mut readings, mut slowest) = (0, vec![], Duration::ZERO);
    // One that stays, and one that is new each time.
    running.stats();
    while start.elapsed() < Duration::from_secs(25) {
        std::thread::sleep(Duration::from_millis(500));
        let asked = Instant::now();
        running.stats();
        let fresh = StatsClient::new().connect(Some(20_000)).expect("let in");
        let mut fresh = fresh;
        let reading = fresh.request::<Metrics>("stats", vec![]);
        reading.expect("a good client is answered");
        slowest = slowest.max(asked.elapsed());
        let kib = anonymous_kib(running.pid());
        readings.push(kib);
        if early == 0 && start.elapsed() >= Duration::from_secs(10) {
            early = kib;
        }
    }
    let late = anonymous_kib(running.pid());
    threads.end();
    let cut_off: Vec<u64> = cut_off.iter().map(|n| n.load(Ordering::Relaxed)).collect();
    let names = names.load(Ordering::Relaxed);
    let log = running.stop();
    println!(
        "RssAnon {before} KiB, after 10 s {early}, after 25 s {late}; {names} names; cut off {cut_off:?}; slowest answer \
         {slowest:.2?}; {} lines of log; {readings:?}",
        log.lines().count()
    );
    assert!(names > 500, "{names} names are no flood");
    assert!(cut_off.iter().all(|&n| n > 10), "{cut_off:?}");
    assert!(
        late < early + 2 * 1024,
        "{early} KiB, then {late}: {readings:?}"
    );
    assert!(late < before + 24 * 1024, "{before} KiB, then {late}");
    assert!(
        log.contains("a client of the statistics socket was cut off"),
        "{log}"
    );
    // Start and end have about twelve.
    assert!(log.lines().count() < 40, "{log}");
}
