//! The dashboard's state, and what keys do to it.

use std::collections::VecDeque;

use anyhow::{Error, Result};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use scx_ml_text::lines;

use super::source::Reading;

/// Readings whose errors are kept for the chart.
const HISTORY: usize = 600;

/// Rows that a page key scrolls by.
const PAGE_ROWS: usize = 10;

/// What is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Page {
    #[default]
    Overview,
    Models,
    Tasks,
}

impl Page {
    pub const ALL: [Page; 3] = [Page::Overview, Page::Models, Page::Tasks];

    pub fn name(self) -> &'static str {
        match self {
            Page::Overview => "Overview",
            Page::Models => "Models",
            Page::Tasks => "Tasks",
        }
    }

    /// The one so many places on, around the end.
    fn shifted(self, places: usize) -> Self {
        let here = Self::ALL.iter().position(|&p| p == self).unwrap_or(0);
        Self::ALL[(here + places) % Self::ALL.len()]
    }
}

/// Mean |error| of model and kind's average in the time of a reading, octaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// Seconds since the scheduler was attached.
    pub uptime_s: f64,
    pub model: f64,
    pub avg: f64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct App {
    pub page: Page,
    pub paused: bool,
    /// Rows of the page's table that are above the screen.
    pub scroll: usize,
    pub reading: Option<Reading>,
    /// The oldest first.
    pub errors: VecDeque<Errors>,
    /// Why there is no newer reading.
    pub trouble: Option<String>,
    /// Whether to use colours.
    pub colour: bool,
    pub quit: bool,
}

impl App {
    /// Take in what was read. While paused the picture stays as it is.
    pub fn take(&mut self, reading: Result<Reading, Error>) {
        let reading = match reading {
            Ok(reading) => reading,
            Err(e) => {
                self.trouble = Some(lines(&format!("{e:#}")));
                return;
            }
        };
        self.trouble = None;
        if self.paused {
            return;
        }
        let metrics = &reading.metrics;
        let uptime_s = metrics.uptime_s;
        // Another scheduler, or one that was restarted: its time begins anew.
        if self.errors.back().is_some_and(|e| e.uptime_s > uptime_s) {
            self.errors.clear();
        }
        if metrics.judged > 0 {
            if self.errors.len() == HISTORY {
                self.errors.pop_front();
            }
            self.errors.push_back(Errors {
                uptime_s,
                model: metrics.error_model,
                avg: metrics.error_avg,
            });
        }
        self.reading = Some(reading);
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => self.quit = true,
            KeyCode::Char('q') | KeyCode::Esc => self.quit = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Tab | KeyCode::Right => self.turn_to(self.page.shifted(1)),
            KeyCode::BackTab | KeyCode::Left => {
                self.turn_to(self.page.shifted(Page::ALL.len() - 1));
            }
            KeyCode::Char(digit @ '1'..='3') => {
                self.turn_to(Page::ALL[digit as usize - '1' as usize]);
            }
            KeyCode::Down => self.scroll += 1,
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll += PAGE_ROWS,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(PAGE_ROWS),
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
    }

    fn turn_to(&mut self, page: Page) {
        self.page = page;
        self.scroll = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::stats::Metrics;
    use anyhow::anyhow;

    fn press(app: &mut App, code: KeyCode) {
        app.key(KeyEvent::new(code, KeyModifiers::NONE));
    }

    fn reading(uptime_s: f64, judged: u64) -> Reading {
        Reading {
            metrics: Metrics {
                uptime_s,
                judged,
                ..Default::default()
            },
            ..Default::default()
        }
    }

    #[test]
    fn keys_turn_pages_scroll_and_end_it() {
        let mut app = App::default();
        press(&mut app, KeyCode::Up);
        press(&mut app, KeyCode::PageDown);
        assert_eq!(app.scroll, PAGE_ROWS);
        for (code, page) in [
            (KeyCode::Tab, Page::Models),
            (KeyCode::Right, Page::Tasks),
            (KeyCode::Tab, Page::Overview),
            (KeyCode::Left, Page::Tasks),
            (KeyCode::Char('1'), Page::Overview),
            (KeyCode::BackTab, Page::Tasks),
        ] {
            press(&mut app, code);
            assert_eq!((app.page, app.scroll), (page, 0), "{code:?}");
        }
        press(&mut app, KeyCode::Char('c'));
        assert!(!app.quit);
        app.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(app.quit);
    }

    #[test]
    fn a_pause_keeps_the_picture() {
        let mut app = App::default();
        app.take(Ok(reading(1.0, 1)));
        press(&mut app, KeyCode::Char('p'));
        app.take(Ok(reading(2.0, 1)));
        assert_eq!(app.reading, Some(reading(1.0, 1)));
        press(&mut app, KeyCode::Char(' '));
        app.take(Ok(reading(3.0, 1)));
        assert_eq!((app.reading, app.errors.len()), (Some(reading(3.0, 1)), 2));
    }

    #[test]
    fn what_cannot_be_read_is_said_beside_the_last_picture() {
        let mut app = App::default();
        app.take(Ok(reading(1.0, 0)));
        app.take(Err(anyhow!("it has ended")));
        assert_eq!(app.trouble.as_deref(), Some("it has ended"));
        assert!(app.reading.is_some() && app.errors.is_empty());
        app.take(Ok(reading(2.0, 0)));
        assert_eq!(app.trouble, None);
    }

    #[test]
    fn a_restarted_scheduler_begins_a_new_chart_and_an_old_one_is_bounded() {
        let mut app = App::default();
        for second in 0..HISTORY + 5 {
            app.take(Ok(reading(second as f64, 1)));
        }
        assert_eq!(app.errors.len(), HISTORY);
        app.take(Ok(reading(0.5, 1)));
        assert_eq!(app.errors.len(), 1);
    }
}
