//! `scx_ml explain`: asks the running scheduler about threads and prints what it says.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use scx_ml_text::{Show, json, name_of};

use super::render::Style;
use super::threads::Proc;
use super::{Answer, Explanation, Refusal, TARGET};
use crate::watch::ask::{AskError, Connection, SOCKET};

/// Threads of a name that are asked about at most, to find those that woke last.
const CANDIDATES_MAX: usize = 256;

/// How often a wait for the next reading looks whether it is to end.
const NAP: Duration = Duration::from_millis(100);

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error("there is no thread called '{}', nor one whose name begins so", .0.shown())]
    NoThreadCalled(OsString),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What is to be explained, and how.
#[derive(Debug, Clone)]
pub struct Asked {
    /// A thread's id, or the name of threads; if no thread is called so, the beginning of their names.
    pub task: OsString,
    /// It is a name, though it looks like an id.
    pub is_name: bool,
    /// A list of explanations for machines; one line each time where it is asked again.
    pub json: bool,
    /// Look again after so long, until the end.
    pub every: Option<Duration>,
    /// Threads of a name to explain at most, those that woke last.
    pub limit: usize,
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
/// See [`AskError`] and [`ExplainError`].
pub fn run(asked: &Asked, shutdown: &AtomicBool) -> Result<()> {
    let out = io::stdout();
    let style = Style {
        colour: out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    };
    let start = Instant::now();
    let mut printed = 0;
    while printed == 0 || !shutdown.load(Ordering::Relaxed) {
        let reading = read(asked)?;
        let mut out = out.lock();
        if asked.json {
            print_json(&mut out, &reading, asked.every.is_some())?;
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
        let Some(every) = asked.every else { break };
        let next = Instant::now() + every;
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
    let text = if one_line {
        serde_json::to_string(&reading.explanations)?
    } else {
        serde_json::to_string_pretty(&reading.explanations)?
    };
    writeln!(out, "{}", json(&text))?;
    Ok(())
}

fn read(asked: &Asked) -> Result<Reading> {
    let mut scheduler = Connection::open(Path::new(SOCKET), "explain")?;
    // What consists of digits is an id, unless it is said to be a name, or there is no such thread.
    let mut no_task = None;
    let id = asked.task.to_str().filter(|_| !asked.is_name);
    if let Some(id) = id.filter(|id| id.bytes().all(|b| b.is_ascii_digit())) {
        match explain(&mut scheduler, id)? {
            Ok(explanation) => {
                return Ok(Reading {
                    explanations: vec![explanation],
                    left_out: 0,
                });
            }
            Err(refusal @ (Refusal::NoTask { .. } | Refusal::NotAnId(_))) => {
                no_task = Some(refusal)
            }
            Err(refusal) => return Err(ExplainError::Refused(refusal).into()),
        }
    }

    let mut pids = threads_called(&asked.task)?;
    if pids.is_empty() {
        return Err(match no_task {
            Some(refusal) => ExplainError::Refused(refusal),
            None => ExplainError::NoThreadCalled(asked.task.clone()),
        }
        .into());
    }
    let beyond = pids.len().saturating_sub(CANDIDATES_MAX);
    pids.truncate(CANDIDATES_MAX);

    let (mut explanations, mut refused) = (vec![], None);
    for pid in pids {
        match explain(&mut scheduler, &pid.to_string())? {
            Ok(explanation) => explanations.push(explanation),
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    if let (true, Some(refusal)) = (explanations.is_empty(), refused) {
        return Err(ExplainError::Refused(refusal).into());
    }
    explanations.sort_by_key(|e| e.burst.woke_ago_ns.unwrap_or(u64::MAX));
    let left_out = beyond + explanations.len().saturating_sub(asked.limit);
    explanations.truncate(asked.limit);
    Ok(Reading {
        explanations,
        left_out,
    })
}

/// Threads of a name, given as it is or, where there are none of that, as it is shown.
fn threads_called(name: &OsStr) -> Result<Vec<u32>> {
    let named = |name: &[u8]| {
        Proc::mounted()
            .named(name, std::process::id())
            .context("cannot look for threads in /proc")
    };
    let pids = named(name.as_bytes())?;
    match name.to_str().and_then(name_of) {
        Some(shown) if pids.is_empty() && !shown.is_empty() => named(&shown),
        _ => Ok(pids),
    }
}

/// What the scheduler says of a thread.
fn explain(
    scheduler: &mut Connection,
    pid: &str,
) -> Result<Result<Explanation, Refusal>, AskError> {
    Ok(match scheduler.ask::<Answer>(TARGET, &[("pid", pid)])? {
        Answer::Explanation(explanation) => Ok(*explanation),
        Answer::Refusal(refusal) => Err(refusal),
    })
}
