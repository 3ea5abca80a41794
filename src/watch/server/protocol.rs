//! scx_stats' protocol: a request is a line of JSON, and so is its reply. Its clients work with it unchanged.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use crossbeam::channel::{Receiver, Sender};
use scx_ml_text::json;
use scx_stats::prelude::{Meta, StatsErrno, StatsMeta, StatsRequest, StatsResponse};
use serde_json::Value;

use crate::kernel::trouble::caught;
use crate::watch::stats::{CANNOT_READ, Metrics, Reading};
use crate::watch::totals;

/// A request's arguments.
pub type Arguments = BTreeMap<String, String>;

/// Answers one client's requests for a target. It may remember what it has said before.
pub type Reader = Box<dyn FnMut(&Arguments) -> Result<Value> + Send>;

/// The way to the scheduler's thread, which reads its counters when it is asked.
#[derive(Clone)]
pub struct Ask {
    requests: Sender<()>,
    answers: Receiver<Reading>,
}

impl Ask {
    pub fn new(requests: Sender<()>, answers: Receiver<Reading>) -> Self {
        Self { requests, answers }
    }

    /// A reading of everything since the start.
    ///
    /// # Errors
    /// When there is none, which is an error of the request; the next one is another.
    pub fn reading(&self) -> Result<Metrics> {
        self.requests.send(())?;
        let reading = self.answers.recv()?;
        reading.map_err(|why| anyhow!(why).context(CANNOT_READ))
    }
}

/// Reads the scheduler's counters for one client: each time those since it last asked.
fn counters(ask: &Ask) -> Result<Reader> {
    let (ask, mut before) = (ask.clone(), ask.reading()?);
    Ok(Box::new(move |_| {
        let now = ask.reading()?;
        let delta = now.since(&before);
        before = now;
        Ok(serde_json::to_value(delta)?)
    }))
}

/// Reads the same for one client: each time those since the scheduler was attached.
fn totals_reader(ask: &Ask) -> Result<Reader> {
    let ask = ask.clone();
    Ok(Box::new(move |_| Ok(serde_json::to_value(ask.reading()?)?)))
}

type Opener = Box<dyn Fn() -> Result<Reader> + Send>;

/// Who answers for what.
pub struct Targets {
    openers: BTreeMap<&'static str, Opener>,
    meta: BTreeMap<String, StatsMeta>,
}

impl Targets {
    /// The scheduler's counters, and what they mean.
    pub fn of_counters(ask: Ask) -> Self {
        let meta = Metrics::meta();
        let targets = Self {
            openers: BTreeMap::new(),
            meta: [(meta.name.clone(), meta)].into(),
        };
        let top = ask.clone();
        targets
            .with("top", move || counters(&top))
            .with(totals::TARGET, move || totals_reader(&ask))
    }

    /// Each client has a reader of its own, which `open` makes when it first asks for the target.
    pub fn with(
        mut self,
        target: &'static str,
        open: impl Fn() -> Result<Reader> + Send + 'static,
    ) -> Self {
        self.openers.insert(target, Box::new(open));
        self
    }

    /// The same where all are told the same. What fails is said to be a failure of reading.
    pub fn with_shared(
        self,
        target: &'static str,
        answer: impl Fn(&Arguments) -> Result<Value> + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        self.with(target, move || {
            let answer = answer.clone();
            Ok(Box::new(move |args| {
                answer(args).map_err(|e| e.context(CANNOT_READ))
            }))
        })
    }
}

/// What a client has asked for so far.
#[derive(Default)]
pub struct Conversation {
    readers: BTreeMap<&'static str, Reader>,
}

impl Conversation {
    /// The reply to a request, with the end of its line.
    pub fn answer(&mut self, request: &[u8], targets: &Targets) -> Vec<u8> {
        // After a panic its readers are used no more.
        let outcome = caught(|| self.respond(request, targets)).unwrap_or_else(|e| {
            self.readers.clear();
            Err(anyhow!(e).context(CANNOT_READ))
        });
        let (errno, reply) = match outcome {
            Ok(reply) => (0, reply),
            Err(e) => {
                let errno = e.downcast_ref::<StatsErrno>().map_or(0, |errno| errno.0);
                let errno = if errno == 0 { libc::EINVAL } else { errno };
                (errno, Value::String(format!("{e:#}")))
            }
        };
        let response = StatsResponse {
            errno,
            args: [("resp".to_string(), reply)].into(),
        };
        // Text as keys, numbers and text as values: that is JSON.
        let text = serde_json::to_string(&response).unwrap_or_default();
        (json(&text) + "\n").into_bytes()
    }

    fn respond(&mut self, request: &[u8], targets: &Targets) -> Result<Value> {
        let refused = |why: String| anyhow!(why).context(StatsErrno(libc::EINVAL));
        let request: StatsRequest = serde_json::from_slice(request)?;
        match request.req.as_str() {
            "stats" => {}
            "stats_meta" => return Ok(serde_json::to_value(&targets.meta)?),
            other => return Err(refused(format!("unknown command {other:?}"))),
        }
        let target = request.args.get("target").map_or("top", String::as_str);
        let Some((&target, open)) = targets.openers.get_key_value(target) else {
            return Err(refused(format!("unknown stat target {target:?}")));
        };
        if !self.readers.contains_key(target) {
            self.readers.insert(target, open()?);
        }
        match self.readers.get_mut(target) {
            Some(read) => read(&request.args),
            None => Err(refused(format!("nobody answers for {target:?}"))),
        }
    }
}
