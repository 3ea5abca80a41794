//! Growth: every headline's ratio to the baseline over the number of CPUs, a small plot each. Each number of CPUs is a machine
//! of its own, compared within itself; here they only stand side by side.

use super::axis::Axis;
use super::matrix::{self, Field, Standing, matrix};
use super::page::{class, esc, put};
use super::plot::{COLOURS, ticks, trimmed};
use super::{brief, direction, number};
use crate::compare::Compared;
use crate::metric::MetricDef;

/// One headline on every machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    pub workload: String,
    pub metric: MetricDef,
    /// The baseline's median on each machine; NaN where it was not measured.
    pub baselines: Vec<f64>,
    /// By scheduler, then by machine.
    pub fields: Vec<Vec<Option<Field>>>,
}

/// All headlines, those of a workload together. What was lost most on any machine comes first.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    pub baseline: String,
    /// Of the machines, ascending.
    pub cpus: Vec<usize>,
    /// All but the baseline.
    pub schedulers: Vec<String>,
    pub panels: Vec<Panel>,
}

/// The growth over these machines; none if there are not at least two whose numbers of CPUs are known.
pub fn growth(machines: &[Compared]) -> Option<Growth> {
    let known = machines.iter().filter_map(|m| Some((m.run.cpus()?, m)));
    let (cpus, machines): (Vec<usize>, Vec<&Compared>) = known.unzip();
    if machines.len() < 2 {
        return None;
    }
    let (mut schedulers, mut about) = (Vec::new(), Vec::new());
    let mut panels: Vec<Panel> = Vec::new();
    for (at, machine) in machines.iter().enumerate() {
        let m = matrix(&machine.comparison);
        let subjects = matrix::subjects(&machine.comparison, &m.schedulers);
        for (s, subject) in m.schedulers.iter().zip(subjects) {
            if !schedulers.contains(s) {
                schedulers.push(s.clone());
                about.push(subject);
            }
        }
        for line in m.lines {
            let same = |p: &Panel| p.workload == line.workload && p.metric.name == line.metric.name;
            let index = panels.iter().position(same).unwrap_or_else(|| {
                panels.push(Panel {
                    workload: line.workload.clone(),
                    metric: line.metric.clone(),
                    baselines: vec![f64::NAN; machines.len()],
                    fields: Vec::new(),
                });
                panels.len() - 1
            });
            let panel = &mut panels[index];
            panel.baselines[at] = line.baseline;
            for (s, field) in m.schedulers.iter().zip(line.fields) {
                let row = schedulers.iter().position(|have| have == s).unwrap_or(0);
                if panel.fields.len() <= row {
                    panel.fields.resize(row + 1, vec![None; machines.len()]);
                }
                panel.fields[row][at] = field;
            }
        }
    }
    for p in &mut panels {
        p.fields
            .resize(schedulers.len(), vec![None; machines.len()]);
    }
    Some(Growth {
        baseline: machines[0].comparison.baseline.clone(),
        cpus,
        schedulers,
        panels: sorted(panels, &about),
    })
}

/// Those of a workload together, by how the worst of them stands for those that the comparison is about.
fn sorted(mut panels: Vec<Panel>, about: &[bool]) -> Vec<Panel> {
    let standing = |p: &Panel| {
        let mine = p.fields.iter().zip(about).filter(|(_, about)| **about);
        Standing::of(mine.flat_map(|(fields, _)| fields.iter().flatten()))
    };
    panels.sort_by(|a, b| standing(a).order(&standing(b)));
    let mut workloads: Vec<String> = Vec::new();
    for p in &panels {
        if !workloads.contains(&p.workload) {
            workloads.push(p.workload.clone());
        }
    }
    panels.sort_by_key(|p| workloads.iter().position(|w| *w == p.workload));
    panels
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 150.0;
/// Where the plot begins and ends.
const LEFT: f64 = 34.0;
const RIGHT: f64 = 344.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 130.0;
/// Between the points of two schedulers on one machine, so that their intervals can be told apart.
const APART: f64 = 4.0;

impl Panel {
    fn draw(&self, h: &mut String, growth: &Growth) {
        let fields = self.fields.iter().flatten().flatten();
        let axis = Axis::of(fields.flat_map(|f| [f.low, f.high, f.ratio])).with_margin();
        let y = |ratio: f64| BOTTOM - axis.share(ratio) * (BOTTOM - TOP);
        let (first, last) = (
            growth.cpus[0] as f64,
            growth.cpus[growth.cpus.len() - 1] as f64,
        );
        let room = APART * growth.schedulers.len() as f64 / 2.0 + 8.0;
        let x = |cpus: usize, scheduler: usize| {
            let share = (cpus as f64 / first).ln() / (last / first).ln();
            let middle = (growth.schedulers.len() as f64 - 1.0) / 2.0;
            let aside = APART * (scheduler as f64 - middle);
            LEFT + room + share * (RIGHT - LEFT - 2.0 * room) + aside
        };
        let bases: Vec<String> = self.baselines.iter().map(|b| number(*b)).collect();
        put(
            h,
            format_args!(
                "<svg class=\"small growth\" role=img viewBox=\"0 0 {WIDTH} {HEIGHT}\"><text x=0 y=13>{} {} \
                 <tspan class=q>{} {} {}</tspan></text>",
                esc(&self.metric.name),
                direction(self.metric.better),
                esc(&growth.baseline),
                bases.join(" · "),
                esc(&self.metric.unit)
            ),
        );
        let labels = ticks(axis.low, axis.high);
        let every = labels.len().div_ceil(6).max(1);
        for tick in labels.iter().filter(|t| **t != 1.0).step_by(every) {
            put(
                h,
                format_args!(
                    "<line class=grid x1={LEFT} x2={RIGHT} y1={0:.1} y2={0:.1} /><text class=\"r q\" x={1} y={2:.1}>{3}</text>",
                    y(*tick),
                    LEFT - 4.0,
                    y(*tick) + 4.0,
                    trimmed(*tick)
                ),
            );
        }
        put(
            h,
            format_args!(
                "<line class=one x1={LEFT} x2={RIGHT} y1={0:.1} y2={0:.1} /><text class=r x={1} y={2:.1}>1</text>",
                y(1.0),
                LEFT - 4.0,
                y(1.0) + 4.0
            ),
        );
        let middle = growth.schedulers.len() / 2;
        for cpus in &growth.cpus {
            let at = x(*cpus, middle);
            put(
                h,
                format_args!("<text class=\"m q\" x={at:.1} y=146>{cpus}</text>"),
            );
        }
        for (i, (scheduler, fields)) in growth.schedulers.iter().zip(&self.fields).enumerate() {
            let points: Vec<(f64, usize, &Field)> = growth
                .cpus
                .iter()
                .zip(fields)
                .filter_map(|(cpus, f)| Some((x(*cpus, i), *cpus, f.as_ref()?)))
                .collect();
            if points.is_empty() {
                continue;
            }
            put(h, format_args!("<g class=s{}>", i % (COLOURS.len() - 1)));
            let line: Vec<String> = points
                .iter()
                .map(|(x, _, f)| format!("{x:.1},{:.1}", y(f.ratio)))
                .collect();
            put(
                h,
                format_args!("<polyline points=\"{}\" />", line.join(" ")),
            );
            for (x, cpus, f) in &points {
                put(
                    h,
                    format_args!(
                        "<line class=range x1={x:.1} x2={x:.1} y1={:.1} y2={:.1} /><circle class=\"{}\" cx={x:.1} cy={:.1} r=3.5>\
                         <title>{}, {cpus} CPUs: {} ({}–{})</title></circle>",
                        y(f.low),
                        y(f.high),
                        class(f.verdict),
                        y(f.ratio),
                        esc(scheduler),
                        brief(f.ratio),
                        brief(f.low),
                        brief(f.high)
                    ),
                );
            }
            h.push_str("</g>");
        }
        h.push_str("</svg>");
    }
}

/// The colours of the lines: those of the plots on a light page, and paler ones on a dark page.
fn style(h: &mut String, schedulers: usize) {
    let each = |pale: f64| -> String {
        let shade = |v: u8| (f64::from(v) + pale * (255.0 - f64::from(v))).round() as u8;
        let colours = COLOURS[1..].iter().take(schedulers).enumerate();
        colours
            .map(|(i, c)| {
                let (r, g, b) = (shade(c.0), shade(c.1), shade(c.2));
                format!(".s{i}{{--c:#{r:02x}{g:02x}{b:02x}}}")
            })
            .collect()
    };
    put(
        h,
        format_args!(
            "<style>{}@media(prefers-color-scheme:dark){{{}}}</style>",
            each(0.0),
            each(0.4)
        ),
    );
}

/// All of it as part of a page.
pub fn html(h: &mut String, growth: &Growth) {
    style(h, growth.schedulers.len());
    h.push_str("<p class=legend>");
    for (i, s) in growth.schedulers.iter().enumerate() {
        let series = i % (COLOURS.len() - 1);
        put(h, format_args!("<span class=s{series}>{}</span> ", esc(s)));
    }
    put(
        h,
        format_args!(
            "</p><p class=quiet>Ratio to {} on machines of {} CPUs, each compared within itself, with 95 % intervals; the arrow says \
             which direction is better, the grey numbers are {}'s own. A full point is a verdict of better or worse on that \
             machine. What was lost on any of them comes first.</p><div class=cards>",
            esc(&growth.baseline),
            listed(&growth.cpus),
            esc(&growth.baseline)
        ),
    );
    for panels in growth.panels.chunk_by(|a, b| a.workload == b.workload) {
        put(
            h,
            format_args!("<div class=card><h3>{}</h3>", esc(&panels[0].workload)),
        );
        panels.iter().for_each(|p| p.draw(h, growth));
        h.push_str("</div>");
    }
    h.push_str("</div>");
}

/// Numbers as a list: 2, 4 and 8.
pub fn listed(numbers: &[usize]) -> String {
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    match texts.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bench::tests::{finished_run, on_cpus};
    use crate::compare::by_cpus;
    use crate::stats::Verdict;

    /// Two machines, of two and of eight CPUs; on the larger nothing but `slow` was measured, under one workload.
    pub fn machines(dir: &std::path::Path) -> Vec<Compared> {
        let two = on_cpus(finished_run(&dir.join("two"), 6), 2);
        let mut eight = on_cpus(finished_run(&dir.join("eight"), 6), 8);
        eight.experiment.workloads.retain(|w| w.label == "timer");
        eight.experiment.schedulers.retain(|s| s.label != "same");
        by_cpus(vec![eight, two]).expect("same baseline")
    }

    #[test]
    fn every_headline_has_its_ratios_over_the_cpus() {
        let dir = tempfile::tempdir().expect("tempdir");
        let machines = machines(dir.path());
        assert_eq!(growth(&machines[..1]), None, "one machine does not grow");
        let growth = growth(&machines).expect("two machines");
        assert_eq!(growth.cpus, [2, 8]);
        assert_eq!(growth.schedulers, ["slow", "same"]);
        assert_eq!(growth.panels.len(), 2);
        let timer = growth.panels.iter().find(|p| p.workload == "timer");
        let timer = timer.expect("measured on both");
        for field in &timer.fields[0] {
            let field = field.as_ref().expect("measured on both");
            assert!((1.8..2.2).contains(&field.ratio), "{field:?}");
            assert_eq!(field.verdict, Some(Verdict::Worse));
        }
        assert!(timer.fields[1][0].is_some() && timer.fields[1][1].is_none());
        let other = growth.panels.iter().find(|p| p.workload == "fairness");
        let other = other.expect("measured on the small one");
        assert!(other.baselines[0].is_finite() && other.baselines[1].is_nan());
    }

    #[test]
    fn the_plots_lie_within_their_pictures_and_name_no_machine_that_was_not_measured() {
        let dir = tempfile::tempdir().expect("tempdir");
        let growth = growth(&machines(dir.path())).expect("two machines");
        let mut h = String::new();
        html(&mut h, &growth);
        assert_eq!(h.matches("<svg").count(), 2);
        // slow on both and same on one under timer, both on one under fairness.
        assert_eq!(h.matches("<circle class=\"worse\"").count(), 3, "{h}");
        assert_eq!(h.matches("<circle").count(), 5);
        assert_eq!(h.matches("<title>slow, 8 CPUs").count(), 1);
        for (name, most) in [("cx=", WIDTH), ("cy=", HEIGHT)] {
            for rest in h.split(name).skip(1) {
                let value = rest.split(' ').next().and_then(|v| v.parse::<f64>().ok());
                let value = value.expect("a number");
                assert!((0.0..most).contains(&value), "{name}{value}");
            }
        }
    }

    #[test]
    fn numbers_are_listed_as_people_do() {
        assert_eq!(listed(&[2]), "2");
        assert_eq!(listed(&[2, 4, 8]), "2, 4 and 8");
        assert_eq!(listed(&[]), "");
    }
}
