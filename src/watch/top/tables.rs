//! The dashboard's tables: classes, coefficients, tasks.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Text;
use ratatui::widgets::{Cell, Row, Table, Widget};
use scx_ml_text::lines;

use super::answer::{ClassModel, Models};
use super::paint::{Paint, panel};
use super::source::BusyTask;
use crate::watch::units::duration;

/// Rows of a table that hold no data: borders and header.
const FRAME_ROWS: usize = 3;

/// Longest name of a thread.
const COMMAND_WIDTH: u16 = 15;

/// Width that the table of tasks needs for all of its columns, and how many it shows if there is less.
const ALL_COLUMNS_WIDTH: u16 = 100;
const NARROW_COLUMNS: usize = 8;

/// Who steers the tasks of a class, and how that is to be seen.
fn state(models: &Models, class: &ClassModel, paint: Paint) -> (&'static str, Style) {
    let in_fallback = class.watch.as_ref().is_some_and(|w| w.fallback);
    match &class.model {
        None => ("kind's average", paint.emphasis(Modifier::DIM)),
        Some(_) if models.expired => ("model expired", paint.fg(Color::Yellow)),
        Some(_) if in_fallback => ("in fallback", paint.fg(Color::Yellow)),
        Some(_) => ("model", paint.fg(Color::Green)),
    }
}

fn right(text: String) -> Cell<'static> {
    Cell::new(Text::from(text).alignment(Alignment::Right))
}

fn header(names: &[&'static str], paint: Paint) -> Row<'static> {
    let cells = names.iter().enumerate().map(|(i, &name)| {
        let alignment = if i == 0 {
            Alignment::Left
        } else {
            Alignment::Right
        };
        Cell::new(Text::from(name).alignment(alignment))
    });
    Row::new(cells).style(paint.emphasis(Modifier::DIM))
}

/// One row a class: who steers it, and how well.
pub fn classes(models: &Models, paint: Paint, area: Rect, buf: &mut Buffer) {
    let rows = models.classes.iter().map(|class| {
        let (state, style) = state(models, class, paint);
        let octaves = |of: fn(&super::answer::ClassWatch) -> f64| {
            right(
                class
                    .watch
                    .as_ref()
                    .map_or("-".into(), |w| format!("{:.2}", of(w))),
            )
        };
        let turns = class.watch.as_ref();
        Row::new([
            Cell::new(class.class.clone()),
            Cell::new(Text::styled(state, style).alignment(Alignment::Right)),
            octaves(|w| w.error_model),
            octaves(|w| w.error_avg),
            right(
                class
                    .model
                    .as_ref()
                    .map_or("-".into(), |m| m.terms.len().to_string()),
            ),
            right(turns.map_or("-".into(), |w| w.fallbacks.to_string())),
            right(turns.map_or("-".into(), |w| w.returns.to_string())),
        ])
    });
    let widths = [11, 14, 11, 10, 8, 9, 7].map(Constraint::Length);
    let names = [
        "class",
        "steered by",
        "|err| model",
        "kind's avg",
        "features",
        "fallbacks",
        "returns",
    ];
    Table::new(rows, widths)
        .header(header(&names, paint))
        .block(panel("Classes of tasks, as the kernel watches them", paint))
        .render(area, buf);
}

/// Rows of the table of coefficients: everything that any class uses, the weightiest first.
fn coefficients(models: &Models) -> Vec<(String, Vec<Option<f64>>)> {
    let terms = |class: &ClassModel| class.model.clone().unwrap_or_default().terms;
    let mut features: Vec<(f64, String)> = vec![];
    for (feature, coefficient) in models.classes.iter().flat_map(terms) {
        match features.iter_mut().find(|(_, known)| *known == feature) {
            Some((weight, _)) => *weight = weight.max(coefficient.abs()),
            None => features.push((coefficient.abs(), feature)),
        }
    }
    features.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    features
        .into_iter()
        .map(|(_, feature)| {
            let of_classes = models.classes.iter().map(|class| {
                let mut terms = terms(class).into_iter();
                terms.find(|(f, _)| *f == feature).map(|(_, c)| c)
            });
            let values = of_classes.collect();
            (feature, values)
        })
        .collect()
}

/// Coefficients by feature and class.
pub fn models(models: &Models, scroll: usize, paint: Paint, area: Rect, buf: &mut Buffer) {
    let of_classes = |of: &dyn Fn(&ClassModel) -> String| -> Vec<Cell<'static>> {
        models.classes.iter().map(|c| right(of(c))).collect()
    };
    let line = |name: &str, cells: Vec<Cell<'static>>| {
        Row::new(std::iter::once(Cell::new(name.to_string())).chain(cells))
    };
    let of_models = |name: &str, of: fn(&super::answer::Coefficients) -> f64| {
        let cells = of_classes(&|class| {
            class
                .model
                .as_ref()
                .map_or(String::new(), |m| format!("{:+.4}", of(m)))
        });
        line(name, cells)
    };
    let states = models.classes.iter().map(|class| {
        let (state, style) = state(models, class, paint);
        Cell::new(Text::styled(state, style).alignment(Alignment::Right))
    });
    let mut rows = vec![
        line("steered by", states.collect()),
        of_models("intercept", |m| m.intercept),
        of_models("margin to 95 %", |m| m.margin),
    ];
    rows.extend(coefficients(models).into_iter().map(|(feature, values)| {
        let cells = values.into_iter().map(|value| match value {
            None => right(String::new()),
            Some(value) => {
                let style = paint.fg(if value < 0.0 {
                    Color::Magenta
                } else {
                    Color::Reset
                });
                Cell::new(Text::styled(format!("{value:+.4}"), style).alignment(Alignment::Right))
            }
        });
        line(&feature, cells.collect())
    }));

    let names = of_classes(&|class| class.class.clone());
    let widths = std::iter::once(Constraint::Length(16))
        .chain(models.classes.iter().map(|_| Constraint::Length(14)));
    let title = match models.generation {
        0 => "No model is published".to_string(),
        generation => format!(
            "Model {generation}: octaves of burst for each octave of a feature (or for a flag)"
        ),
    };
    let rows = scrolled(rows, scroll, area);
    Table::new(rows, widths)
        .header(line("feature", names).style(paint.emphasis(Modifier::DIM)))
        .block(panel(&title, paint))
        .render(area, buf);
}

/// The busiest threads, and what is expected of them.
pub fn tasks(tasks: &[BusyTask], scroll: usize, paint: Paint, area: Rect, buf: &mut Buffer) {
    let time = |ns: Option<u64>| right(ns.map_or("-".into(), duration));
    let columns = if area.width < ALL_COLUMNS_WIDTH {
        NARROW_COLUMNS
    } else {
        usize::MAX
    };
    let rows = tasks.iter().map(|task| {
        let usage = &task.usage;
        let kept = task.kept.as_ref();
        let steered_by = kept.map_or("", |k| k.steered_by.as_str());
        let cells = [
            right(usage.pid.to_string()),
            Cell::new(lines(&usage.comm)),
            right(format!("{:.1}", 100.0 * usage.cpu_share)),
            right(kept.and_then(|k| k.class.clone()).unwrap_or("-".into())),
            time(kept.map(|k| k.last_burst_ns).filter(|&ns| ns > 0)),
            Cell::new(
                Text::styled(
                    kept.and_then(|k| k.predicted_ns)
                        .map_or("-".into(), duration),
                    paint.fg(Color::Cyan),
                )
                .alignment(Alignment::Right),
            ),
            time(kept.and_then(|k| k.average_ns)),
            right(
                kept.and_then(|k| k.error_model)
                    .map_or("-".into(), |e| format!("{e:.2}")),
            ),
            time(kept.map(|k| k.slice_ns).filter(|&ns| ns > 0)),
            right(steered_by.to_string()),
        ];
        Row::new(cells.into_iter().take(columns))
    });
    let command = Constraint::Max(COMMAND_WIDTH);
    let widths = [7, 0, 6, 11, 9, 9, 9, 6, 9, 8].map(|width| match width {
        0 => command,
        width => Constraint::Length(width),
    });
    let names = [
        "PID", "command", "CPU %", "class", "last", "model", "kind avg", "|err|", "slice",
        "steered",
    ];
    let header = Row::new(
        names
            .iter()
            .take(columns)
            .enumerate()
            .map(|(i, &name)| match i {
                1 => Cell::new(name),
                _ => right(name.into()),
            }),
    )
    .style(paint.emphasis(Modifier::DIM));
    let title = if tasks.is_empty() {
        "No busy threads yet"
    } else {
        "Busy threads: last burst, and what was predicted"
    };
    let widths = widths.into_iter().take(columns);
    Table::new(scrolled(rows.collect(), scroll, area), widths)
        .header(header)
        .block(panel(title, paint))
        .render(area, buf);
}

/// Rows of data that the tables have, to be shown whole.
pub fn model_rows(models: &Models) -> usize {
    FRAME_ROWS + 3 + coefficients(models).len()
}

/// The rows from `scroll` on; never so far that the last ones leave blanks.
fn scrolled(rows: Vec<Row<'static>>, scroll: usize, area: Rect) -> Vec<Row<'static>> {
    let visible = usize::from(area.height).saturating_sub(FRAME_ROWS);
    let skip = scroll.min(rows.len().saturating_sub(visible));
    rows.into_iter().skip(skip).collect()
}
