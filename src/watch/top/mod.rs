//! `scx_ml top`: a dashboard of the scheduler that is running.
//!
//! ```text
//! answer      what the scheduler says of models and tasks: types, made in its process by observe (watch/)
//! source      asks its stats socket; usage finds the busy threads in /proc
//! app         state, keys
//! view        pages drawn into a buffer; tables, histogram, paint and text are parts of it
//! ```
//!
//! It reads only: that socket, whose server answers in threads of its own, and /proc.

pub mod answer;
pub mod app;
pub mod histogram;
pub mod paint;
pub mod source;
pub mod tables;
pub mod text;
pub mod usage;
pub mod view;

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossbeam::channel::{TryRecvError, bounded};
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event};
use ratatui::layout::Rect;

use crate::watch::ask::SOCKET;
use app::App;
use source::{Reading, Source};

/// How often keys and readings are looked for.
const TICK: Duration = Duration::from_millis(100);

/// Width of a frame that is printed.
const PRINTED_WIDTH: u16 = 100;

/// Height of the rows above the tables of such a frame.
const PRINTED_TOP: u16 = 11;

/// Busy threads of a frame that is printed.
const PRINTED_TASKS: usize = 15;

/// Show the dashboard until q or `shutdown`, with a reading every `interval`; `once`: print one frame, which covers one.
///
/// # Errors
/// When no scheduler answers, or there is no terminal.
pub fn run(interval: Duration, once: bool, shutdown: &Arc<AtomicBool>) -> Result<()> {
    if !once && !io::stdout().is_terminal() {
        bail!("standard output is no terminal: `scx_ml top --once` prints one frame");
    }
    // Before the terminal changes: why there is no scheduler must stay on it.
    let mut source = Source::open(Path::new(SOCKET).to_path_buf())?;
    if once {
        // The first reading covers no time.
        source.read()?;
        if !source::wait_until(Instant::now() + interval, shutdown) {
            return Ok(());
        }
        return print(&mut io::stdout().lock(), &source.read()?);
    }

    let (to, readings) = bounded(1);
    std::thread::Builder::new()
        .name("ml-top".into())
        .spawn({
            let shutdown = shutdown.clone();
            move || source::read_until(shutdown, source, interval, &to)
        })
        .context("cannot start the thread that asks the scheduler")?;
    let app = App {
        colour: std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        ..Default::default()
    };
    // It restores the terminal in a panic too.
    let mut terminal = ratatui::try_init().context("cannot take over the terminal")?;
    let shown = show(&mut terminal, app, &readings, shutdown);
    ratatui::try_restore().context("cannot restore the terminal; type `reset`")?;
    shown
}

/// Draw whenever something has changed.
fn show(
    terminal: &mut DefaultTerminal,
    mut app: App,
    readings: &crossbeam::channel::Receiver<Result<Reading>>,
    shutdown: &AtomicBool,
) -> Result<()> {
    let mut changed = true;
    while !app.quit && !shutdown.load(Ordering::Relaxed) {
        match readings.try_recv() {
            Ok(reading) => {
                app.take(reading);
                changed = true;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                bail!("the thread that asks the scheduler has ended")
            }
        }
        if changed {
            terminal
                .draw(|frame| view::draw(&app, frame.area(), frame.buffer_mut()))
                .context("cannot draw on the terminal")?;
        }
        changed = false;
        if event::poll(TICK).context("cannot read the terminal's keys")? {
            match event::read().context("cannot read the terminal's keys")? {
                Event::Key(key) => {
                    app.key(key);
                    changed = true;
                }
                Event::Resize(..) => changed = true,
                _ => {}
            }
        }
    }
    Ok(())
}

/// One frame as plain text: what the pages show, one below the other.
///
/// # Errors
/// When it cannot be written.
pub fn print(out: &mut impl Write, reading: &Reading) -> Result<()> {
    let paint = paint::Paint { colour: false };
    let metrics = &reading.metrics;
    let tasks = &reading.tasks[..reading.tasks.len().min(PRINTED_TASKS)];
    let frame = |height: usize, draw: &dyn Fn(Rect, &mut Buffer)| {
        let area = Rect::new(0, 0, PRINTED_WIDTH, height as u16);
        let mut buf = Buffer::empty(area);
        draw(area, &mut buf);
        text::lines(&buf).join("\n")
    };
    metrics.format(out)?;
    let classes = reading.models.classes.len();
    let parts = [
        frame(PRINTED_TOP.into(), &|area, buf| {
            view::draw_top(metrics, paint, area, buf);
        }),
        frame(classes + 3, &|area, buf| {
            tables::classes(&reading.models, paint, area, buf);
        }),
        frame(tables::model_rows(&reading.models), &|area, buf| {
            tables::models(&reading.models, 0, paint, area, buf);
        }),
        frame(tasks.len() + 3, &|area, buf| {
            tables::tasks(tasks, 0, paint, area, buf);
        }),
    ];
    for part in parts {
        writeln!(out, "{part}")?;
    }
    Ok(())
}
