//! The server behind real sockets.

use super::protocol::{Conversation, Targets};
use super::*;
use crate::watch::stats::Metrics;
use proptest::prelude::*;
use scx_stats::prelude::StatsClient;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// Short, but longer than a busy host lets a thread wait.
const LIMITS: Limits = Limits {
    line: 1 << 10,
    clients: 8,
    half_request: Duration::from_millis(600),
    unread: Duration::from_millis(600),
};

const TOO_LONG: Duration = Duration::from_secs(30);

/// A server whose scheduler always has a reading, and one target with a long answer.
struct Served {
    // First: its end ends the scheduler.
    #[expect(dead_code, reason = "its end is the server's")]
    server: Server,
    folder: tempfile::TempDir,
}

impl Served {
    fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().expect("created");
        let server = Server::start(&folder.path().join("stats"), limits, |ask| {
            Targets::of_counters(ask).with_shared("long", |_| Ok("x".repeat(4 << 20).into()))
        });
        let server = server.expect("served");
        let (answers, requests) = server.channels().expect("it runs").clone();
        std::thread::spawn(move || {
            while requests.recv().is_ok() {
                let _ = answers.send(Ok(Metrics::default()));
            }
        });
        Self { server, folder }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.folder.path().join("stats")).expect("connected");
        stream
            .set_read_timeout(Some(TOO_LONG))
            .expect("it has a timeout");
        stream
    }

    /// A client as others have it.
    fn client(&self) -> StatsClient {
        let timeout = TOO_LONG.as_millis() as u64;
        StatsClient::new()
            .set_path(self.folder.path().join("stats"))
            .connect(Some(timeout))
            .expect("connected")
    }

    /// A good client is answered.
    fn assert_answers(&self) {
        let reading = self.client().request::<Metrics>("stats", vec![]);
        assert_eq!(reading.expect("answered").bursts, 0);
    }
}

/// Read until the other side closes.
fn assert_cut_off(mut stream: UnixStream) {
    let mut rest = vec![];
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{e}"),
    }
}

const REQUEST: &[u8] = b"{\"req\":\"stats\",\"args\":{\"target\":\"top\"}}\n";

#[test]
fn clients_of_scx_stats_work_unchanged() {
    let served = Served::new(Limits::default());
    let mut client = served.client();
    for _ in 0..3 {
        let reading = client.request::<Metrics>("stats", vec![]);
        assert_eq!(
            reading.expect("answered"),
            Metrics::default().since(&Metrics::default())
        );
    }
    let meta = client.request::<serde_json::Value>("stats_meta", vec![]);
    let fields = &meta.expect("answered")["Metrics"]["fields"];
    assert!(fields["bursts"].is_object(), "{fields}");
    let long = vec![("target".to_string(), "long".to_string())];
    let long = client.request::<String>("stats", long).expect("answered");
    assert_eq!(long.len(), 4 << 20);
    let weather = vec![("target".to_string(), "weather".to_string())];
    let error = client
        .request::<String>("stats", weather)
        .expect_err("unknown");
    assert!(
        format!("{error:#}").contains("unknown stat target"),
        "{error:#}"
    );
    assert!(client.request::<String>("sleep", vec![]).is_err());
}

#[test]
fn several_requests_at_once_and_one_without_an_end_are_answered() {
    let served = Served::new(LIMITS);
    let mut stream = served.connect();
    let last = &REQUEST[..REQUEST.len() - 1];
    stream
        .write_all(&[REQUEST, b"nonsense\n", last].concat())
        .expect("written");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("shut down");
    let replies: Vec<String> = BufReader::new(stream)
        .lines()
        .map(|line| line.expect("text"))
        .collect();
    assert_eq!(replies.len(), 3);
    assert!(replies[0].starts_with("{\"errno\":0,") && replies[2].starts_with("{\"errno\":0,"));
    assert!(replies[1].starts_with("{\"errno\":22,"), "{}", replies[1]);
}

#[test]
fn who_sends_a_line_without_end_is_cut_off() {
    let served = Served::new(LIMITS);
    let mut stream = served.connect();
    let end = (0..1 << 20).find(|_| stream.write_all(&[b'x'; 100]).is_err());
    // What it could send before it was told is a socket's buffer, and a line.
    assert!(end.is_some_and(|times| times < 1 << 14), "{end:?}");
    served.assert_answers();
}

#[test]
fn who_sends_half_a_request_is_cut_off_in_time_and_who_is_silent_is_not() {
    let served = Served::new(LIMITS);
    let silent = served.connect();
    let mut half = served.connect();
    half.write_all(&REQUEST[..20]).expect("written");
    assert_cut_off(half);
    // A byte now and then is no request either.
    let mut slow = served.connect();
    let start = Instant::now();
    while slow.write_all(b" ").is_ok() {
        assert!(start.elapsed() < TOO_LONG, "it is still let in");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut silent = silent;
    silent.write_all(REQUEST).expect("written");
    let mut reply = String::new();
    BufReader::new(silent).read_line(&mut reply).expect("text");
    assert!(reply.starts_with("{\"errno\":0,"), "{reply}");
}

#[test]
fn who_does_not_read_is_cut_off_in_time_and_keeps_nobody_waiting() {
    let served = Served::new(LIMITS);
    let mut deaf = served.connect();
    let long = b"{\"req\":\"stats\",\"args\":{\"target\":\"long\"}}\n";
    deaf.write_all(long).expect("written");
    served.assert_answers();
    std::thread::sleep(LIMITS.unread * 3);
    let mut got = vec![];
    // As much as the socket holds, and then its end.
    let _ = deaf.read_to_end(&mut got);
    assert!(got.len() < 4 << 20, "{}", got.len());
    served.assert_answers();
}

#[test]
fn who_does_not_read_a_reply_that_the_kernel_could_hold_is_cut_off_too() {
    let served = Served::new(LIMITS);
    let (mut deaf, mut slow) = (served.connect(), served.connect());
    deaf.write_all(REQUEST).expect("written");
    slow.write_all(REQUEST).expect("written");
    let mut slow = BufReader::new(slow);
    let mut reply = String::new();
    slow.read_line(&mut reply).expect("text");
    std::thread::sleep(LIMITS.unread * 3);
    // The other end is closed: what is written gets nowhere.
    let start = Instant::now();
    while deaf.write_all(REQUEST).is_ok() {
        assert!(start.elapsed() < TOO_LONG, "it is still let in");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Who has read may be silent for as long as it likes.
    slow.get_mut().write_all(REQUEST).expect("written");
    reply.clear();
    slow.read_line(&mut reply).expect("text");
    assert!(reply.starts_with("{\"errno\":0,"), "{reply}");
}

#[test]
fn of_too_many_the_worst_go_and_the_good_stay() {
    let served = Served::new(LIMITS);
    let mut good = served.client();
    let asks = |good: &mut StatsClient| {
        good.request::<Metrics>("stats", vec![])
            .expect("it is not cut off");
    };
    asks(&mut good);
    let mut bad = vec![];
    for i in 0..150 {
        let mut stream = served.connect();
        match i % 3 {
            0 => drop(stream.write_all(&REQUEST[..9])),
            1 => drop(stream.write_all(&[b'x'; 4096])),
            _ => {}
        }
        bad.push(stream);
        if i % 10 == 0 {
            asks(&mut good);
            served.assert_answers();
        }
    }
    asks(&mut good);
    // All but as many as there may be at once go, as soon as they have been let in.
    let start = Instant::now();
    while !bad.is_empty() {
        bad.retain(|stream| {
            stream.set_nonblocking(true).expect("set");
            let outcome = (&*stream).read(&mut [0; 4096]);
            matches!(outcome, Err(e) if e.kind() == ErrorKind::WouldBlock)
        });
        if bad.len() < LIMITS.clients {
            break;
        }
        assert!(start.elapsed() < TOO_LONG, "{} are left", bad.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn its_end_does_not_wait_for_clients_or_for_a_reading() {
    let folder = tempfile::tempdir().expect("created");
    let path = folder.path().join("stats");
    let server = Server::start(&path, LIMITS, Targets::of_counters).expect("served");
    // Nobody reads for it.
    let mut client = UnixStream::connect(&path).expect("connected");
    client.write_all(REQUEST).expect("written");
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < TOO_LONG);
    assert!(UnixStream::connect(&path).is_err(), "nobody listens");
}

#[test]
fn a_target_that_panics_is_an_error_of_the_request() {
    let (ask, _requests) = unbounded();
    let (_answers, answered) = unbounded();
    let targets = Targets::of_counters(protocol::Ask::new(ask, answered))
        .with_shared("panics", |_| panic!("on purpose"))
        .with_shared("works", |_| Ok(7.into()));
    let mut conversation = Conversation::default();
    let mut said = |target: &str| {
        let request = format!("{{\"req\":\"stats\",\"args\":{{\"target\":\"{target}\"}}}}");
        String::from_utf8(conversation.answer(request.as_bytes(), &targets)).expect("text")
    };
    for _ in 0..2 {
        let reply = said("panics");
        assert!(
            reply.contains("\"errno\":5,") && reply.contains("on purpose"),
            "{reply}"
        );
        assert_eq!(said("works"), "{\"errno\":0,\"args\":{\"resp\":7}}\n");
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_the_reply_is_one_printable_line(name in any::<Vec<u8>>(), wrapped in any::<bool>()) {
        let (ask, _requests) = unbounded();
        let (_answers, answered) = unbounded();
        let targets = Targets::of_counters(protocol::Ask::new(ask, answered));
        let text = String::from_utf8_lossy(&name);
        let request = match wrapped {
            true => serde_json::json!({"req": "stats", "args": {"target": text}}).to_string().into_bytes(),
            false => name,
        };
        let reply = Conversation::default().answer(&request, &targets);
        let reply = String::from_utf8(reply).expect("text");
        let line = reply.strip_suffix('\n').expect("a line");
        prop_assert!(line.chars().all(scx_ml_text::is_printable), "{}", line);
        prop_assert!(serde_json::from_str::<serde_json::Value>(line).is_ok());
    }
}
