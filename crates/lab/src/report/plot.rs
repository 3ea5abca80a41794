//! Plots, as SVG with text left as text: no fonts are needed to draw them, and any browser shows them.

use super::number;
use crate::compare::{Comparison, Row};
use crate::error::{LabError, Result};
use crate::metric::{Better, SavedHistogram};
use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints, LogCoord, WithKeyPoints};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Grey for the baseline, Okabe and Ito's colours, which people with colour-blindness can tell apart too, then others.
pub(super) const COLOURS: [RGBColor; 14] = [
    RGBColor(90, 90, 90),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(120, 80, 40),
    RGBColor(0, 60, 60),
    RGBColor(150, 0, 60),
    RGBColor(120, 160, 0),
    RGBColor(110, 80, 200),
    RGBColor(250, 130, 120),
    RGBColor(0, 190, 190),
];
const WIDTH: u32 = 900;
/// Nobody could tell more points apart.
const MOST_NAMED: usize = 24;
const GRID: RGBColor = RGBColor(225, 225, 225);
const INK: RGBColor = RGBColor(50, 50, 50);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn failed(e: impl std::fmt::Display) -> LabError {
    LabError::Report(e.to_string())
}

/// The colour of a scheduler: the baseline's is always the same.
pub fn colour(comparison: &Comparison, scheduler: &str) -> RGBColor {
    if scheduler == comparison.baseline {
        return COLOURS[0];
    }
    let others = comparison
        .schedulers
        .iter()
        .filter(|s| **s != comparison.baseline);
    let at = others.into_iter().position(|s| s == scheduler).unwrap_or(0);
    COLOURS[1 + at % (COLOURS.len() - 1)]
}

fn canvas(height: u32, draw: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        draw(&area)?;
        area.present().map_err(failed)?;
    }
    // Scale with the page.
    Ok(svg.replacen(
        "<svg ",
        "<svg role=\"img\" style=\"max-width:100%;height:auto\" ",
        1,
    ))
}

fn text(size: u32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size).into_font()).color(&INK)
}

/// How far a quantile lies towards 1, in nines: 0 for 0, 1 for 0.9, 2 for 0.99.
fn nines(q: f64) -> f64 {
    -(1.0 - q).max(1e-9).log10()
}

/// Where a logarithmic axis from `low` to `high` gets its labels: powers of ten, with 2 and 5 between them or finer steps
/// where there is room.
pub(super) fn ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let steps: &[f64] = match decades {
        d if d > 4.0 => &[1.0],
        d if d > 1.0 => &[1.0, 2.0, 5.0],
        d if d > 0.4 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
        _ => &[
            1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0,
        ],
    };
    let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
    exponents
        .flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e)))
        .filter(|v| (low..=high).contains(v))
        .collect()
}

/// A logarithmic axis with those labels.
fn log_axis(low: f64, high: f64) -> WithKeyPoints<LogCoord<f64>> {
    (low..high).log_scale().with_key_points(ticks(low, high))
}

/// A number for an axis: without trailing zeros.
pub(super) fn trimmed(v: f64) -> String {
    let text = number(v);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text
    }
}

fn nines_label(v: f64) -> String {
    match v.round() as i32 {
        0 => "0".to_string(),
        1 => "90 %".to_string(),
        2 => "99 %".to_string(),
        n => format!("99.{} %", "9".repeat((n - 2).max(0) as usize)),
    }
}

/// Cumulative distributions of a latency: value on a logarithmic axis, quantile in nines, so that tails are seen.
/// `None` if there is nothing to draw.
pub fn distribution(
    comparison: &Comparison,
    title: &str,
    histograms: &[(String, SavedHistogram)],
) -> Result<Option<String>> {
    let filled: Vec<_> = histograms.iter().filter(|(_, h)| h.total() > 1).collect();
    let ends = filled
        .iter()
        .flat_map(|(_, h)| h.points.iter().map(|p| p.0));
    let (Some(low), Some(high)) = (ends.clone().min(), ends.max()) else {
        return Ok(None);
    };
    let us = |ns: u64| (ns.max(1)) as f64 / 1000.0;
    let most = filled.iter().map(|(_, h)| h.total()).max().unwrap_or(1);
    let top = (most as f64).log10().clamp(1.0, 5.0);
    canvas(340, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(title, text(16))
            .margin(10)
            .x_label_area_size(38)
            .y_label_area_size(64)
            .build_cartesian_2d(log_axis(us(low) * 0.8, us(high) * 1.3), 0.0..top)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(text(12))
            .x_desc("µs")
            .y_labels(top.ceil() as usize + 1)
            .x_label_formatter(&|v| trimmed(*v))
            .y_label_formatter(&|v| {
                if v.fract().abs() < 1e-6 {
                    nines_label(*v)
                } else {
                    String::new()
                }
            })
            .draw()
            .map_err(failed)?;
        for (scheduler, h) in &filled {
            let c = colour(comparison, scheduler);
            let (total, mut seen) = (h.total() as f64, 0.0);
            let mut line = Vec::new();
            for (value, n) in &h.points {
                // A step: the quantile is reached at this value.
                line.push((us(*value), nines(seen / total).min(top)));
                seen += *n as f64;
                // The largest sample of n stands for the quantile 1 - 1/2n.
                line.push((us(*value), nines((seen - 0.5).max(0.0) / total).min(top)));
            }
            chart
                .draw_series(LineSeries::new(line, c.stroke_width(2)))
                .map_err(failed)?
                .label(scheduler.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], c.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .label_font(text(12))
            .draw()
            .map_err(failed)
    })
    .map(Some)
}

/// A text of no more characters than `most`, with both its ends.
pub(super) fn shorten(text: &str, most: usize) -> String {
    let n = text.chars().count();
    if n <= most {
        return text.to_string();
    }
    let head = most / 2;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(n - (most - head - 1)).collect();
    format!("{start}…{end}")
}

/// What the headlines of a workload improved by, all together: the geometric mean of the ratios, turned so that above 1 is
/// better.
pub fn improvement(comparison: &Comparison, workload: &str, scheduler: &str) -> Option<f64> {
    let logs: Vec<f64> = comparison
        .rows_of(workload)
        .filter(|r| r.scheduler == scheduler && r.metric.headline)
        .filter_map(|r| {
            let effect = r.effect.as_ref()?;
            let matters = effect.difference.abs() >= r.metric.tolerance;
            let log = if matters { effect.ratio.ln() } else { 0.0 };
            match r.metric.better {
                Better::Lower => Some(-log),
                Better::Higher => Some(log),
                Better::Neither => None,
            }
        })
        .collect();
    (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
}

/// A point of cost and benefit.
#[derive(Debug, Clone, PartialEq)]
struct Point<'a> {
    /// CPU time in BPF programs, % of the machine.
    cost: f64,
    gain: f64,
    scheduler: &'a str,
    name: String,
}

/// A point for each scheduler and workload, or where nobody could tell those apart one for each scheduler: the geometric
/// means over its workloads. The second value says whether they are means.
fn points(comparison: &Comparison) -> (Vec<Point<'_>>, bool) {
    let others = comparison.schedulers.iter();
    let mut all = Vec::new();
    for scheduler in others.filter(|s| **s != comparison.baseline) {
        for workload in &comparison.workloads {
            let cost = comparison.row(workload, "cost.bpf_cpu", scheduler);
            let gain = improvement(comparison, workload, scheduler);
            if let (Some(cost), Some(gain)) = (cost, gain) {
                all.push(Point {
                    cost: cost.median.max(0.001),
                    gain,
                    scheduler: scheduler.as_str(),
                    name: shorten(workload, 30),
                });
            }
        }
    }
    if all.len() <= MOST_NAMED {
        return (all, false);
    }
    let mean = |values: &mut dyn Iterator<Item = f64>| {
        let logs: Vec<f64> = values.map(f64::ln).collect();
        (logs.iter().sum::<f64>() / logs.len() as f64).exp()
    };
    let means = all
        .chunk_by(|a, b| a.scheduler == b.scheduler)
        .map(|mine| Point {
            cost: mean(&mut mine.iter().map(|p| p.cost)),
            gain: mean(&mut mine.iter().map(|p| p.gain)),
            scheduler: mine[0].scheduler,
            name: shorten(mine[0].scheduler, 30),
        })
        .collect();
    (means, true)
}

/// Cost against benefit. `None` if no cost was measured.
pub fn cost_benefit(comparison: &Comparison) -> Result<Option<String>> {
    let (points, means) = points(comparison);
    if points.is_empty() {
        return Ok(None);
    }
    let caption = if means {
        "Cost and benefit, geometric means over the workloads"
    } else {
        "Cost and benefit, a point for each workload"
    };
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)))
    };
    let (x0, x1) = range(&mut points.iter().map(|p| p.cost));
    let (y0, y1) = range(&mut points.iter().map(|p| p.gain));
    canvas(380, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(caption, text(16))
            .margin(10)
            .x_label_area_size(38)
            .y_label_area_size(64)
            .build_cartesian_2d(
                log_axis(x0 * 0.6, x1 * 2.5),
                log_axis(y0.min(0.9) * 0.9, y1.max(1.1) * 1.15),
            )
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(text(12))
            .x_desc("CPU time in the scheduler's BPF programs, % of the machine")
            .y_desc("headlines' gain, ×")
            .x_label_formatter(&|v| trimmed(*v))
            .y_label_formatter(&|v| trimmed(*v))
            .draw()
            .map_err(failed)?;
        chart
            .draw_series([PathElement::new(
                [(x0 * 0.6, 1.0), (x1 * 2.5, 1.0)],
                INK.stroke_width(1),
            )])
            .map_err(failed)?;
        for scheduler in comparison
            .schedulers
            .iter()
            .filter(|s| **s != comparison.baseline)
        {
            let c = colour(comparison, scheduler);
            let mine = || points.iter().filter(|p| p.scheduler == scheduler);
            chart
                .draw_series(mine().map(|p| Circle::new((p.cost, p.gain), 5, c.filled())))
                .map_err(failed)?
                .label(scheduler.as_str())
                .legend(move |(x, y)| Circle::new((x + 8, y), 5, c.filled()));
            chart
                .draw_series(mine().map(|p| {
                    let at = EmptyElement::at((p.cost, p.gain));
                    at + Text::new(p.name.clone(), (8, -6), text(11))
                }))
                .map_err(failed)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .label_font(text(12))
            .draw()
            .map_err(failed)
    })
    .map(Some)
}

/// Every value of a metric, by scheduler, block after block: the spread a median hides.
pub fn values(comparison: &Comparison, rows: &[&Row]) -> Result<Option<String>> {
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let all: Vec<f64> = rows.iter().flat_map(|r| r.values.iter().copied()).collect();
    let (low, high) = all
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(*v), h.max(*v))
        });
    if !(low.is_finite() && high.is_finite()) {
        return Ok(None);
    }
    let room = ((high - low) * 0.08).max(high.abs() * 0.02).max(1e-9);
    let line_height = 24;
    canvas(70 + line_height * rows.len() as u32, |area| {
        let mut chart = ChartBuilder::on(area)
            .caption(
                format!("{} [{}], every block", first.metric.name, first.metric.unit),
                text(14),
            )
            .margin(8)
            .x_label_area_size(26)
            .y_label_area_size(220)
            .build_cartesian_2d((low - room)..(high + room), 0.0..rows.len() as f64)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(text(12))
            .x_label_formatter(&|v| trimmed(*v))
            .draw()
            .map_err(failed)?;
        for (i, row) in rows.iter().enumerate() {
            let y = (rows.len() - i) as f64 - 0.5;
            let c = colour(comparison, &row.scheduler);
            chart
                .draw_series(
                    row.values
                        .iter()
                        .map(|v| Circle::new((*v, y), 4, c.mix(0.5).filled())),
                )
                .map_err(failed)?;
            chart
                .draw_series([PathElement::new(
                    [(row.median, y - 0.35), (row.median, y + 0.35)],
                    c.stroke_width(3),
                )])
                .map_err(failed)?;
            let style = text(12).pos(Pos::new(HPos::Right, VPos::Center));
            let at = chart.backend_coord(&(low - room, y));
            area.draw(&Text::new(
                shorten(&row.scheduler, 34),
                (at.0 - 8, at.1),
                style,
            ))
            .map_err(failed)?;
        }
        Ok(())
    })
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nines_are_named_as_people_write_them() {
        let labels: Vec<String> = (0..5).map(|n| nines_label(f64::from(n))).collect();
        assert_eq!(labels, ["0", "90 %", "99 %", "99.9 %", "99.99 %"]);
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn logarithmic_axes_have_labels_on_both_sides_of_one() {
        assert_eq!(ticks(0.15, 6.0), vec![0.2, 0.5, 1.0, 2.0, 5.0]);
        let narrow = ticks(0.85, 1.3);
        assert!(narrow.contains(&0.9) && narrow.contains(&1.1), "{narrow:?}");
        assert_eq!(ticks(1.0, 1e6).len(), 7);
        assert_eq!(
            (trimmed(1.0), trimmed(1.1), trimmed(0.0)),
            ("1".into(), "1.1".into(), "0".into())
        );
    }

    #[test]
    fn many_points_become_one_for_each_scheduler() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut run = crate::bench::tests::finished_run(dir.path(), 5);
        for c in &mut run.cells {
            c.cost = Some(crate::cost::Cost {
                bpf_cpu: (c.cell.scheduler != "eevdf").then_some(0.01),
                ..Default::default()
            });
        }
        let mut comparison = crate::compare::compare(&run);
        assert_eq!(points(&comparison).0.len(), 2 * 2);
        // The same workloads under further names.
        let rows = comparison.rows.clone();
        for i in 0..20 {
            comparison.workloads.push(format!("timer {i}"));
            let copies = rows.iter().filter(|r| r.workload == "timer").cloned();
            comparison.rows.extend(copies.map(|r| Row {
                workload: format!("timer {i}"),
                ..r
            }));
        }
        let (means, are_means) = points(&comparison);
        assert!(are_means);
        let schedulers: Vec<&str> = means.iter().map(|p| p.scheduler).collect();
        assert_eq!(schedulers, ["slow", "same"]);
        assert!((means[0].cost - 1.0).abs() < 1e-6, "{:?}", means[0]);
        assert!((0.45..0.55).contains(&means[0].gain), "{:?}", means[0]);
    }

    #[test]
    fn long_labels_keep_both_ends() {
        let s = shorten(
            "open-loop:workers=shared,reveal=syscall,load=0.9 short_p99 · scx_ml --mode learn",
            40,
        );
        assert!(
            s.chars().count() <= 40
                && s.starts_with("open-loop:workers=sh…")
                && s.ends_with("learn"),
            "{s}"
        );
        assert_eq!(shorten("short", 40), "short");
    }
}
