//! How far a run is, for the terminal.

use crate::bench::Progress;
use crate::plan::Cell;
use crate::results::{CellRecord, Status};
use crate::settings::Experiment;
use indicatif::{ProgressBar, ProgressStyle};
use scx_ml_text::lines;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Progress on the terminal, or a line a cell where there is none.
pub struct Bar {
    bar: Option<ProgressBar>,
    started: Instant,
    done: u32,
    expected_cell: f64,
    left: usize,
}

impl Bar {
    pub fn new(experiment: &Experiment) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(experiment.cells() as u64);
            if let Ok(style) = ProgressStyle::with_template("[{pos}/{len}] {wide_bar} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        let expected_cell = experiment.warmup + experiment.seconds + 2.0;
        Self {
            bar,
            started: Instant::now(),
            done: 0,
            expected_cell,
            left: 0,
        }
    }

    /// Time left, from what the cells so far took.
    fn remaining(&self) -> Duration {
        let mean = if self.done > 0 {
            self.started.elapsed().as_secs_f64() / f64::from(self.done)
        } else {
            self.expected_cell
        };
        Duration::from_secs_f64(mean * self.left as f64)
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn begin(&mut self, cell: &Cell, left: usize, total: usize) {
        self.left = left;
        let secs = self.remaining().as_secs();
        let text = lines(&format!(
            "block {} · {} under {} · {}:{:02} left",
            cell.block + 1,
            cell.workload,
            cell.scheduler,
            secs / 60,
            secs % 60
        ));
        match &self.bar {
            Some(bar) => {
                bar.set_position((total - left) as u64);
                bar.set_message(text);
            }
            None => eprintln!("[{}/{total}] {text}", total - left + 1),
        }
    }

    fn end(&mut self, record: &CellRecord) {
        self.done += 1;
        if let Status::Failed { why } = &record.status {
            let line = lines(&format!(
                "{} under {} failed: {why}",
                record.cell.workload, record.cell.scheduler
            ));
            match &self.bar {
                Some(bar) => bar.println(line),
                None => eprintln!("{line}"),
            }
        }
    }
}
