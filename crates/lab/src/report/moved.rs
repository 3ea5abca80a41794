//! What moved: how often tasks were switched, preempted and moved, where CPUs idled while tasks waited, and what the
//! scheduler itself took. It is what explains a ratio, and is told beside it, without verdicts.

use super::number;
use super::page::{esc, put};
use crate::compare::Comparison;

/// Heading, and the metrics that tell it with their units; the first that was measured counts. By the piece of work where
/// there are pieces: a scheduler under which more gets done switches more.
const COLUMNS: [(&str, &[(&str, &str)]); 6] = [
    (
        "switches",
        &[
            ("switches_per_request", "/request"),
            ("switches_per_round", "/round"),
            ("context_switches", "/s"),
        ],
    ),
    (
        "preempted",
        &[
            ("preemptions_per_request", "/request"),
            ("preemptions_per_round", "/round"),
            ("preemptions", "/s"),
        ],
    ),
    (
        "migrated",
        &[
            ("migrations_per_request", "/request"),
            ("migrations_per_round", "/round"),
            ("migrations", "/s"),
        ],
    ),
    ("idle", &[("idle_while_runnable", "%")]),
    ("BPF", &[("bpf_cpu", "%")]),
    ("user", &[("user_cpu", "%")]),
];

/// What the columns mean.
pub const LEGEND: &str = "What moved: switches, preemptions and migrations of all tasks of the machine, company included; \
     idle: CPU time idle while a task that could have had it waited; BPF: CPU time in the scheduler's programs, both of the \
     whole machine; user: CPU time of its process, of one CPU. Medians over blocks.";

/// A table of one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// Heading and unit.
    pub columns: Vec<(&'static str, &'static str)>,
    /// Each scheduler's medians; none where there is nothing to state.
    pub lines: Vec<(String, Vec<Option<f64>>)>,
}

/// The table of a workload; none if no cost was measured.
pub fn moved(comparison: &Comparison, workload: &str) -> Option<Moved> {
    let median = |metric: &str, scheduler: &str| {
        let row = comparison.row(workload, &format!("cost.{metric}"), scheduler);
        row.map(|r| r.median)
    };
    let measured = |metric: &str| {
        let mut schedulers = comparison.schedulers.iter();
        schedulers.any(|s| median(metric, s).is_some())
    };
    let (mut columns, mut metrics) = (Vec::new(), Vec::new());
    for (heading, candidates) in COLUMNS {
        if let Some((metric, unit)) = candidates.iter().find(|(metric, _)| measured(metric)) {
            columns.push((heading, *unit));
            metrics.push(*metric);
        }
    }
    let lines = comparison.schedulers.iter().map(|s| {
        let values = metrics.iter().map(|m| median(m, s)).collect();
        (s.clone(), values)
    });
    (!columns.is_empty()).then(|| Moved {
        columns,
        lines: lines.collect(),
    })
}

/// The table as part of a page.
pub fn html(h: &mut String, comparison: &Comparison, workload: &str) {
    let Some(moved) = moved(comparison, workload) else {
        return;
    };
    h.push_str("<div class=scroll><table class=moved><thead><tr><th>");
    for (heading, unit) in &moved.columns {
        put(h, format_args!("<th>{heading}<br><span>{unit}</span>"));
    }
    h.push_str("</tr></thead><tbody>");
    for (scheduler, values) in &moved.lines {
        let name = super::plot::shorten(scheduler, 14);
        put(h, format_args!("<tr><td>{}", esc(&name)));
        for value in values {
            put(h, format_args!("<td>{}", value.map_or("–".into(), number)));
        }
        h.push_str("</tr>");
    }
    h.push_str("</tbody></table></div>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::finished_run;
    use crate::compare::compare;
    use crate::cost::Cost;
    use crate::metric::throughput_def;

    #[test]
    fn what_moved_is_told_by_request_where_there_are_requests() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut run = finished_run(dir.path(), 2);
        assert_eq!(moved(&compare(&run), "timer"), None, "nothing measured");
        for c in &mut run.cells {
            if c.cell.workload == "timer" {
                c.outcome.metrics.push(throughput_def().measured(100.0));
            }
            c.cost = Some(Cost {
                context_switches_per_s: 250.0,
                bpf_cpu: (c.cell.scheduler != "eevdf").then_some(0.01),
                ..Cost::default()
            });
        }
        let comparison = compare(&run);
        let table = moved(&comparison, "timer").expect("measured");
        assert_eq!(table.columns, [("switches", "/request"), ("BPF", "%")]);
        assert_eq!(table.lines[0], ("eevdf".into(), vec![Some(2.5), None]));
        assert_eq!(table.lines[1], ("slow".into(), vec![Some(2.5), Some(1.0)]));
        let other = moved(&comparison, "fairness").expect("measured");
        assert_eq!(other.columns[0], ("switches", "/s"));
        let mut h = String::new();
        html(&mut h, &comparison, "timer");
        assert!(h.contains("<td>2.50<td>–</tr>"), "{h}");
    }
}
