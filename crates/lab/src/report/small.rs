//! A small plot for each workload: every headline's ratios, a line for each scheduler. As SVG whose colours are the page's, so
//! that it is at home on a dark one, too.

use super::axis::Axis;
use super::matrix::headlines;
use super::page::{class, esc, put};
use super::{brief, direction, number};
use crate::compare::{Comparison, Row};

const WIDTH: f64 = 360.0;
const LINE: f64 = 15.0;
const TITLE: f64 = 20.0;
/// Where names end, the plot begins and ends, and ratios begin.
const NAMES: f64 = 92.0;
const LEFT: f64 = 100.0;
const RIGHT: f64 = 316.0;
const RATIOS: f64 = 322.0;

/// Of these rows' ratios and their intervals.
fn axis_of(rows: &[&Row]) -> Axis {
    let effects = rows.iter().filter_map(|r| r.effect.as_ref());
    Axis::of(effects.flat_map(|e| [e.low, e.high, e.ratio]))
}

fn x(axis: &Axis, ratio: f64) -> f64 {
    LEFT + axis.share(ratio) * (RIGHT - LEFT)
}

/// Draw a workload's headlines; nothing if there is nothing to compare.
pub fn ratios(h: &mut String, comparison: &Comparison, workload: &str) {
    let plots: Vec<(&crate::metric::MetricDef, Vec<&Row>)> = headlines(comparison, workload)
        .into_iter()
        .map(|def| {
            let rows = comparison
                .rows_of(workload)
                .filter(|r| r.metric.name == def.name && r.effect.is_some());
            (def, rows.collect::<Vec<_>>())
        })
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    if plots.is_empty() {
        return;
    }
    let height: f64 = plots
        .iter()
        .map(|(_, rows)| TITLE + LINE * rows.len() as f64 + 6.0)
        .sum();
    put(
        h,
        format_args!("<svg class=small role=img viewBox=\"0 0 {WIDTH} {height:.0}\">"),
    );
    let mut top = 0.0;
    for (def, rows) in plots {
        let base = comparison.row(workload, &def.name, &comparison.baseline);
        let base = base.map_or(f64::NAN, |r| r.median);
        put(
            h,
            format_args!(
                "<text x=0 y={:.1}>{} {} <tspan class=q>{} {} {}</tspan></text>",
                top + 13.0,
                esc(&def.name),
                direction(def.better),
                esc(&comparison.baseline),
                number(base),
                esc(&def.unit)
            ),
        );
        top += TITLE;
        let axis = axis_of(&rows);
        put(
            h,
            format_args!(
                "<line class=one x1={0:.1} x2={0:.1} y1={1:.1} y2={2:.1} />",
                x(&axis, 1.0),
                top,
                top + LINE * rows.len() as f64
            ),
        );
        for row in &rows {
            let Some(e) = &row.effect else { continue };
            let y = top + LINE / 2.0;
            put(
                h,
                format_args!(
                    "<g class=\"{}\"><text class=r x={NAMES} y={:.1}>{}</text><line x1={:.1} x2={:.1} y1={y:.1} y2={y:.1} />\
                     <circle cx={:.1} cy={y:.1} r=3.5 /><text x={RATIOS} y={:.1}>{}</text></g>",
                    class(row.verdict),
                    y + 4.0,
                    esc(&super::plot::shorten(&row.scheduler, 14)),
                    x(&axis, e.low),
                    x(&axis, e.high),
                    x(&axis, e.ratio),
                    y + 4.0,
                    brief(e.ratio)
                ),
            );
            top += LINE;
        }
        top += 6.0;
    }
    h.push_str("</svg>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::finished_run;
    use crate::compare::compare;

    #[test]
    fn every_scheduler_has_its_line_within_the_picture() {
        let dir = tempfile::tempdir().expect("tempdir");
        let c = compare(&finished_run(dir.path(), 6));
        let mut h = String::new();
        ratios(&mut h, &c, "timer");
        assert!(h.starts_with("<svg") && h.ends_with("</svg>"));
        assert_eq!(h.matches("<circle").count(), 2);
        assert!(h.contains("class=\"worse\""), "{h}");
        let mut none = String::new();
        ratios(&mut none, &c, "no such workload");
        assert!(none.is_empty());
    }

    #[test]
    fn the_axis_has_room_for_one_and_for_all() {
        let axis = axis_of(&[]);
        assert!(x(&axis, 1.0) > LEFT && x(&axis, 1.0) < RIGHT);
        assert_eq!((x(&axis, 0.0), x(&axis, 1e6)), (LEFT, RIGHT));
    }
}
