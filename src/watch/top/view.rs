//! The dashboard's pages, drawn into a buffer.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph, Widget, Wrap};

use super::app::{App, Page};
use super::histogram::{Bars, EIGHTHS};
use super::paint::{Paint, panel};
use super::source::Reading;
use super::tables;
use super::text::{clock, count};
use crate::watch::stats::Metrics;
use crate::watch::units::duration;

/// Width of the panel of decisions.
const DECISIONS_WIDTH: u16 = 38;

/// Rows of the panel of decisions, and of the one beside it.
const DECISIONS_HEIGHT: u16 = 11;

/// A panel of latencies that has room for one more quantile in its title.
const WIDE_TITLE: u16 = 58;

/// Rows that the chart needs to say anything.
const CHART_HEIGHT_MIN: u16 = 6;

/// The oldest errors that the chart shows.
const CHART_SPAN_S: f64 = 300.0;

/// What can be typed.
const KEYS: &str = "q quit   tab ← → page   ↑ ↓ scroll   p pause";

/// Rows for why there is no newer reading.
const TROUBLE_HEIGHT: u16 = 2;

/// The whole screen.
pub fn draw(app: &App, area: Rect, buf: &mut Buffer) {
    let paint = Paint { colour: app.colour };
    let (text, style) = match &app.trouble {
        Some(trouble) => (
            format!("{trouble} (asking again)"),
            paint.fg(Color::Red).patch(paint.emphasis(Modifier::BOLD)),
        ),
        None => (KEYS.to_string(), paint.emphasis(Modifier::DIM)),
    };
    let status = Paragraph::new(text).style(style).wrap(Wrap { trim: true });
    let status_height = if app.trouble.is_some() {
        TROUBLE_HEIGHT
    } else {
        1
    };
    let [title, tabs, page, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(status_height),
    ])
    .areas(area);
    draw_title(app, paint, title, buf);
    draw_tabs(app, tabs, buf);
    match &app.reading {
        Some(reading) => draw_page(app, reading, page, buf),
        None => Paragraph::new("waiting for the scheduler's first answer").render(page, buf),
    }
    status.render(keys, buf);
}

fn draw_title(app: &App, paint: Paint, area: Rect, buf: &mut Buffer) {
    let mut spans = vec![Span::styled(
        "scx_ml",
        paint.emphasis(Modifier::BOLD).patch(paint.fg(Color::Cyan)),
    )];
    if let Some(Reading {
        metrics, models, ..
    }) = &app.reading
    {
        spans.push(Span::raw(format!(
            " {}   up {}   ",
            metrics.mode,
            clock(metrics.uptime_s)
        )));
        spans.push(match models.generation {
            _ if metrics.trainer_dead != 0 => {
                Span::styled("the trainer is dead, no model", paint.fg(Color::Red))
            }
            0 => Span::raw("no model yet"),
            generation if models.expired => Span::styled(
                format!("model {generation} has expired"),
                paint.fg(Color::Yellow),
            ),
            generation => Span::raw(format!(
                "model {generation} of {} samples",
                metrics.model_samples
            )),
        });
    }
    if app.paused {
        let style = paint.emphasis(Modifier::REVERSED);
        spans.extend([Span::raw("   "), Span::styled("[paused]", style)]);
    }
    Line::from(spans).render(area, buf);
}

fn draw_tabs(app: &App, area: Rect, buf: &mut Buffer) {
    let tabs = Page::ALL.iter().zip(1..).flat_map(|(&page, number)| {
        // Seen without colours too.
        let text = if page == app.page {
            format!("[{number} {}]", page.name())
        } else {
            format!(" {number} {} ", page.name())
        };
        let style = if app.colour && page == app.page {
            Style::new().add_modifier(Modifier::BOLD)
        } else {
            Style::new()
        };
        [Span::styled(text, style), Span::raw(" ")]
    });
    Line::from_iter(tabs).render(area, buf);
}

fn draw_page(app: &App, reading: &Reading, area: Rect, buf: &mut Buffer) {
    let paint = Paint { colour: app.colour };
    match app.page {
        Page::Overview => draw_overview(app, reading, area, buf),
        Page::Models => tables::models(&reading.models, app.scroll, paint, area, buf),
        Page::Tasks => tables::tasks(&reading.tasks, app.scroll, paint, area, buf),
    }
}

fn draw_overview(app: &App, reading: &Reading, area: Rect, buf: &mut Buffer) {
    let paint = Paint { colour: app.colour };
    let classes_height = reading.models.classes.len() as u16 + 3;
    let left = area
        .height
        .saturating_sub(DECISIONS_HEIGHT + classes_height);
    // The chart gets what it needs, then the tasks, then it grows.
    let chart_height = match left {
        0..CHART_HEIGHT_MIN => left,
        CHART_HEIGHT_MIN..20 => left.min(CHART_HEIGHT_MIN + 2),
        _ => left / 2,
    };
    let [top, chart, classes, tasks] = Layout::vertical([
        Constraint::Length(DECISIONS_HEIGHT),
        Constraint::Length(chart_height),
        Constraint::Length(classes_height),
        Constraint::Min(0),
    ])
    .areas(area);
    draw_top(&reading.metrics, paint, top, buf);
    draw_errors(app, &reading.metrics, paint, chart, buf);
    tables::classes(&reading.models, paint, classes, buf);
    if tasks.height > 3 {
        tables::tasks(&reading.tasks, 0, paint, tasks, buf);
    }
}

/// Decisions beside latencies; one above the other where there is no room for both.
pub fn draw_top(metrics: &Metrics, paint: Paint, area: Rect, buf: &mut Buffer) {
    let [decisions, latency] =
        Layout::horizontal([Constraint::Length(DECISIONS_WIDTH), Constraint::Min(20)]).areas(area);
    draw_decisions(metrics, paint, decisions, buf);
    draw_latency(metrics, paint, latency, buf);
}

fn draw_decisions(metrics: &Metrics, paint: Paint, area: Rect, buf: &mut Buffer) {
    let rate = |n: u64| {
        if metrics.span_s > 0.0 {
            count(n as f64 / metrics.span_s)
        } else {
            "-".into()
        }
    };
    let share = |part: u64, whole: u64| {
        if whole == 0 {
            "-".into()
        } else {
            format!("{:.1} %", 100.0 * part as f64 / whole as f64)
        }
    };
    let wakeups = metrics.wakeups;
    let preemptions = metrics.preempt_kicks + metrics.tick_preempts;
    let steals = metrics.neighbour_steals + metrics.llc_steals;
    let rows = [
        ("wake-ups", rate(wakeups), String::new()),
        ("to an idle CPU", rate(metrics.direct_idle), String::new()),
        ("fresh lane", rate(metrics.queued_fresh), String::new()),
        ("fair lane", rate(metrics.queued_fair), String::new()),
        ("preemptions", rate(preemptions), String::new()),
        ("steals", rate(steals), String::new()),
        (
            "slices by model",
            rate(metrics.slices_predicted),
            share(metrics.slices_predicted, metrics.slices()),
        ),
        (
            "slices by average",
            rate(metrics.slices_average),
            share(metrics.slices_average, metrics.slices()),
        ),
        (
            "slices by base",
            rate(metrics.slices_base),
            share(metrics.slices_base, metrics.slices()),
        ),
    ];
    let lines = rows.map(|(name, rate, share)| Line::raw(format!("{name:18}{rate:>7}{share:>10}")));
    Paragraph::new(lines.to_vec())
        .block(panel("Decisions per second", paint))
        .render(area, buf);
}

fn draw_latency(metrics: &Metrics, paint: Paint, area: Rect, buf: &mut Buffer) {
    let at = |q| {
        metrics
            .latency_quantile_ns(q)
            .map_or("-".into(), |ns| duration(ns as u64))
    };
    let mut title = format!("Wake-to-run p50 {}, p99 {}", at(0.5), at(0.99));
    if area.width >= WIDE_TITLE {
        title += &format!(", p99.9 {}", at(0.999));
    }
    let block = panel(&title, paint);
    let inner = block.inner(area);
    block.render(area, buf);
    Bars {
        counts: &metrics.latencies_log2,
        colour: paint.colour,
    }
    .render(inner, buf);
}

/// Mean |error| of both predictors over the last minutes.
fn draw_errors(app: &App, metrics: &Metrics, paint: Paint, area: Rect, buf: &mut Buffer) {
    if area.height < CHART_HEIGHT_MIN {
        return draw_error_lines(app, metrics, paint, area, buf);
    }
    let newest_s = app.errors.back().map_or(metrics.uptime_s, |e| e.uptime_s);
    let shown = || {
        app.errors
            .iter()
            .filter(|e| newest_s - e.uptime_s <= CHART_SPAN_S)
    };
    let model: Vec<_> = shown().map(|e| (e.uptime_s - newest_s, e.model)).collect();
    let avg: Vec<_> = shown().map(|e| (e.uptime_s - newest_s, e.avg)).collect();
    let oldest = model.first().map_or(-10.0, |(x, _)| x.min(-10.0));
    let top = shown()
        .map(|e| e.model.max(e.avg))
        .fold(1.0, f64::max)
        .ceil();
    // Told apart without colours too: dots against lines.
    let datasets = vec![
        Dataset::default()
            .marker(Marker::Dot)
            .graph_type(GraphType::Line)
            .style(paint.fg(Color::Yellow))
            .data(&avg),
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(paint.fg(Color::Cyan))
            .data(&model),
    ];
    let title = Line::from(vec![
        Span::raw(" |error|, octaves: "),
        Span::styled(
            format!("⠤⠤ model {}", octaves(metrics, metrics.error_model)),
            paint.fg(Color::Cyan),
        ),
        Span::raw("  "),
        Span::styled(
            format!("•• kind's average {} ", octaves(metrics, metrics.error_avg)),
            paint.fg(Color::Yellow),
        ),
    ]);
    let dim = paint.emphasis(Modifier::DIM);
    Chart::new(datasets)
        .block(Block::bordered().border_style(dim).title(title))
        .legend_position(None)
        .x_axis(
            Axis::default()
                .bounds([oldest, 0.0])
                .style(dim)
                .labels([format!("{oldest:.0} s"), "now".into()]),
        )
        .y_axis(
            Axis::default()
                .bounds([0.0, top])
                .style(dim)
                .labels(["0".to_string(), format!("{top:.0}")]),
        )
        .render(area, buf);
}

/// A mean error, if there is one.
fn octaves(metrics: &Metrics, error: f64) -> String {
    if metrics.judged == 0 {
        "-".into()
    } else {
        format!("{error:.2}")
    }
}

/// The same as a row each, where there is no room for a chart.
fn draw_error_lines(app: &App, metrics: &Metrics, paint: Paint, area: Rect, buf: &mut Buffer) {
    let top = app
        .errors
        .iter()
        .map(|e| e.model.max(e.avg))
        .fold(1.0, f64::max);
    let row = |name: &str, now: f64, of: fn(&super::app::Errors) -> f64, colour: Color| {
        let label = format!(
            " |error|, octaves: {name:14} {:>5}  ",
            octaves(metrics, now)
        );
        let room = usize::from(area.width).saturating_sub(label.chars().count() + 1);
        let skip = app.errors.len().saturating_sub(room);
        let line = app.errors.iter().skip(skip).map(|e| {
            let eighths = (of(e) / top * 8.0).ceil() as usize;
            EIGHTHS[eighths.clamp(1, 8)]
        });
        Line::from(vec![
            Span::raw(label),
            Span::styled(line.collect::<String>(), paint.fg(colour)),
        ])
    };
    let rows = vec![
        row("model", metrics.error_model, |e| e.model, Color::Cyan),
        row(
            "kind's average",
            metrics.error_avg,
            |e| e.avg,
            Color::Yellow,
        ),
    ];
    Paragraph::new(rows).render(area, buf);
}
