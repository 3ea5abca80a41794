//! `scx_ml explain`: asks the running scheduler about threads and prints what it says.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use scx_stats::StatsErrno;
use scx_stats::prelude::StatsClient;

use super::render::Style;
use super::threads::Proc;
use super::{Answer, Explanation, Refusal, TARGET};
use crate::cli::ExplainArgs;

/// Where the running scheduler answers.
const SOCKET: &str = "/var/run/scx/root/stats";

/// Longest wait for an answer: the scheduler's process gets a CPU as late as any other.
const ANSWER_TIMEOUT_MS: u64 = 10_000;

/// Threads of a name that are asked about at most, to find those that woke last.
const CANDIDATES_MAX: usize = 256;

/// How often a wait for the next reading looks whether it is to end.
const NAP: Duration = Duration::from_millis(100);

/// Why the running scheduler cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(
        "no scx_ml is scheduling that could explain anything (nobody listens on {socket}): start it with `sudo scx_ml`"
    )]
    NoScheduler { socket: PathBuf },
    #[error("only root may use the scheduler's socket {socket}: run `sudo scx_ml explain`")]
    NotPermitted { socket: PathBuf },
    #[error(
        "the scheduler that is running cannot explain: it is not scx_ml, or an older one ({reason})"
    )]
    NotUnderstood { reason: String },
    #[error(
        "the running scheduler does not answer ({reason}): it may be ending, or the machine is very busy; try again"
    )]
    NoAnswer { reason: String },
    #[error("there is no thread called '{0}', nor one whose name begins so")]
    NoThreadCalled(String),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What one look at the task has found.
struct Reading {
    explanations: Vec<Explanation>,
    /// Threads of that name beyond the limit.
    left_out: usize,
}

/// Print explanations, once or until `shutdown`.
///
/// # Errors
/// See [`AskError`].
pub fn run(args: &ExplainArgs, shutdown: &AtomicBool) -> Result<()> {
    let out = io::stdout();
    let style = Style {
        colour: out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    };
    let start = Instant::now();
    let mut printed = 0;
    while printed == 0 || !shutdown.load(Ordering::Relaxed) {
        let reading = read(args)?;
        let mut out = out.lock();
        if args.json {
            print_json(&mut out, &reading, args.watch.is_some())?;
        } else {
            if printed > 0 {
                let after = start.elapsed().as_secs_f64();
                let rule = format!("──── after {after:.0} s {}", "─".repeat(60));
                writeln!(out, "\n{}\n", style.faint(&rule))?;
            }
            print_text(&mut out, &reading, style)?;
        }
        out.flush()?;
        drop(out);
        printed += 1;
        let Some(interval) = args.watch else { break };
        let next = Instant::now() + Duration::from_secs_f64(interval);
        while Instant::now() < next && !shutdown.load(Ordering::Relaxed) {
            std::thread::sleep(NAP.min(next - Instant::now().min(next)));
        }
    }
    Ok(())
}

fn print_text(out: &mut impl Write, reading: &Reading, style: Style) -> io::Result<()> {
    for (i, explanation) in reading.explanations.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        explanation.render(out, style)?;
    }
    if reading.left_out > 0 {
        let rest = match reading.left_out {
            1 => "1 more thread has that name".into(),
            n => format!("{n} more threads have that name"),
        };
        writeln!(out, "\n{}", style.faint(&format!("{rest}: --limit")))?;
    }
    Ok(())
}

/// A list; in one line where others follow.
fn print_json(out: &mut impl Write, reading: &Reading, one_line: bool) -> Result<()> {
    if one_line {
        serde_json::to_writer(&mut *out, &reading.explanations)?;
    } else {
        serde_json::to_writer_pretty(&mut *out, &reading.explanations)?;
    }
    writeln!(out)?;
    Ok(())
}

fn read(args: &ExplainArgs) -> Result<Reading> {
    let mut scheduler = Connection::open(Path::new(SOCKET))?;
    // Names that consist of digits cannot be asked for: an id is meant.
    if args.task.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Reading {
            explanations: vec![scheduler.explain(&args.task)??],
            left_out: 0,
        });
    }

    let mut pids = Proc::mounted()
        .named(&args.task, std::process::id())
        .context("cannot look for threads in /proc")?;
    if pids.is_empty() {
        return Err(AskError::NoThreadCalled(args.task.clone()).into());
    }
    let beyond = pids.len().saturating_sub(CANDIDATES_MAX);
    pids.truncate(CANDIDATES_MAX);

    let (mut explanations, mut refused) = (vec![], None);
    for pid in pids {
        match scheduler.explain(&pid.to_string())? {
            Ok(explanation) => explanations.push(explanation),
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    if let (true, Some(refusal)) = (explanations.is_empty(), refused) {
        return Err(AskError::Refused(refusal).into());
    }
    explanations.sort_by_key(|e| e.burst.woke_ago_ns.unwrap_or(u64::MAX));
    let left_out = beyond + explanations.len().saturating_sub(args.limit);
    explanations.truncate(args.limit);
    Ok(Reading {
        explanations,
        left_out,
    })
}

/// A connection to the running scheduler.
struct Connection {
    client: StatsClient,
}

impl Connection {
    fn open(socket: &Path) -> Result<Self, AskError> {
        let client = StatsClient::new()
            .set_path(socket)
            .connect(Some(ANSWER_TIMEOUT_MS))
            .map_err(|e| {
                let socket = socket.to_path_buf();
                match e.downcast_ref::<io::Error>().map(io::Error::kind) {
                    // A scheduler that was killed leaves its socket, without a listener.
                    Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                        AskError::NoScheduler { socket }
                    }
                    Some(io::ErrorKind::PermissionDenied) => AskError::NotPermitted { socket },
                    _ => AskError::NoAnswer {
                        reason: format!("{}: {e:#}", socket.display()),
                    },
                }
            })?;
        Ok(Self { client })
    }

    /// What the scheduler says of a thread.
    fn explain(&mut self, pid: &str) -> Result<Result<Explanation, Refusal>, AskError> {
        let args = vec![
            ("target".to_string(), TARGET.to_string()),
            ("pid".to_string(), pid.to_string()),
        ];
        match self.client.request::<Answer>("stats", args) {
            Ok(Answer::Explanation(explanation)) => Ok(Ok(*explanation)),
            Ok(Answer::Refusal(refusal)) => Ok(Err(refusal)),
            Err(e) => {
                let reason = format!("{e:#}");
                // Either it refuses the request, or it says what we cannot read.
                if e.is::<StatsErrno>() || e.is::<serde_json::Error>() {
                    Err(AskError::NotUnderstood { reason })
                } else {
                    Err(AskError::NoAnswer { reason })
                }
            }
        }
    }
}
