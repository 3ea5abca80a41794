//! The report in the terminal.

use super::{brief, matrix, number, ratio};
use crate::compare::{Comparison, Row};
use crate::metric::Better;
use crate::stats::Verdict;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, TableComponent, presets};
use scx_ml_text::lines;

/// Which rows to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Headline metrics.
    Headlines,
    /// All metrics of the workloads, and the costs.
    All,
}

/// How a verdict is written.
pub fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::NoDifference => "no difference",
    }
}

/// The direction that is better, as an arrow.
pub fn direction(better: Better) -> &'static str {
    match better {
        Better::Lower => "↓",
        Better::Higher => "↑",
        Better::Neither => "",
    }
}

/// The comparison as text, one table a workload. `colour` for terminals.
pub fn render(comparison: &Comparison, detail: Detail, colour: bool) -> String {
    let mut out = String::new();
    if comparison.workloads.len() > 1 && comparison.schedulers.len() > 1 {
        out.push_str(&format!("\n{}\n", summary(comparison, colour)));
    }
    for workload in &comparison.workloads {
        let rows: Vec<&Row> = comparison
            .rows_of(workload)
            .filter(|r| detail == Detail::All || r.metric.headline)
            .collect();
        if rows.is_empty() {
            continue;
        }
        out.push_str(&format!(
            "\n{}\n{}\n",
            lines(workload),
            table(&rows, &comparison.baseline, colour)
        ));
    }
    out.push_str(&format!(
        "\nRatios are medians over blocks of scheduler / {}, with 95 % bootstrap intervals; p is Mann-Whitney's,\n\
         corrected by Holm over a scheduler's headline metrics. ↓ lower is better, ↑ higher is better; + is a verdict\n\
         of better, - of worse, = of no difference. The place is that among all schedulers; 1 is the best.\n",
        lines(&comparison.baseline)
    ));
    for w in &comparison.warnings {
        out.push_str(&format!("warning: {}\n", lines(w)));
    }
    out
}

/// The mark of a verdict in the summary.
fn mark(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Better) => "+",
        Some(Verdict::Worse) => "-",
        Some(Verdict::NoDifference) => "=",
        None => " ",
    }
}

/// All headlines in one table, lost ones first.
fn summary(comparison: &Comparison, colour: bool) -> Table {
    let m = matrix::matrix(comparison);
    let mut table = plain();
    let names = std::iter::once(&m.baseline).chain(&m.schedulers);
    let header = ["workload".to_string(), "metric".to_string()];
    table.set_header(header.into_iter().chain(names.map(|n| lines(n))));
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for line in &m.lines {
        let metric = format!("{} {}", line.metric.name, direction(line.metric.better));
        let base = format!("{} {}", number(line.baseline), line.metric.unit);
        let fields = line.fields.iter().map(|f| match f {
            Some(f) => {
                let text = format!("{} {}", brief(f.ratio), mark(f.verdict));
                paint(right(text), f.verdict, colour)
            }
            None => right("–  ".to_string()),
        });
        let mut row = vec![
            Cell::new(lines(&line.workload)),
            Cell::new(lines(metric.trim_end())),
            right(lines(&base)),
        ];
        row.extend(fields);
        table.add_row(row);
    }
    let mut foot = vec![Cell::new("mean place"), Cell::new("")];
    foot.extend(m.ranks.iter().map(|r| right(format!("{}  ", brief(*r)))));
    table.add_row(foot);
    table
}

/// A table with nothing but a line below its header.
fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table
        .set_style(TableComponent::HeaderLines, '─')
        .set_style(TableComponent::MiddleHeaderIntersections, '─');
    table
}

fn table(rows: &[&Row], baseline: &str, colour: bool) -> Table {
    let mut table = plain();
    table.set_header([
        "metric",
        "scheduler",
        "median",
        "±iqr",
        "ratio",
        "95 %",
        "p",
        "verdict",
    ]);
    let mut last = "";
    for r in rows {
        let name = format!(
            "{} [{}] {}",
            r.metric.name,
            r.metric.unit,
            direction(r.metric.better)
        );
        let first_of_metric = last != r.metric.name;
        last = &r.metric.name;
        let (ratio_text, interval) = match &r.effect {
            Some(e) => (
                ratio(e.ratio),
                format!("{}–{}", ratio(e.low), ratio(e.high)),
            ),
            None if r.scheduler == baseline => ("1".to_string(), String::new()),
            None => ("–".to_string(), String::new()),
        };
        let spread = if r.spread.is_finite() {
            format!("{:.0} %", 100.0 * r.spread)
        } else {
            "–".to_string()
        };
        let verdict = match r.verdict {
            Some(v) => verdict_text(v),
            None if r.scheduler == baseline => "(baseline)",
            None if r.p_corrected.is_some() => "(too few blocks)",
            None => "",
        };
        table.add_row(vec![
            Cell::new(lines(if first_of_metric { name.trim_end() } else { "" })),
            Cell::new(lines(&r.scheduler)),
            Cell::new(number(r.median)).set_alignment(CellAlignment::Right),
            Cell::new(spread).set_alignment(CellAlignment::Right),
            Cell::new(ratio_text).set_alignment(CellAlignment::Right),
            Cell::new(interval),
            Cell::new(r.p_corrected.map(|p| format!("{p:.3}")).unwrap_or_default()),
            paint(Cell::new(verdict), r.verdict, colour),
        ]);
    }
    table
}

fn paint(cell: Cell, verdict: Option<Verdict>, colour: bool) -> Cell {
    match verdict {
        Some(Verdict::Better) if colour => cell.fg(Color::Green).add_attribute(Attribute::Bold),
        Some(Verdict::Worse) if colour => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::finished_run;
    use crate::compare::compare;

    #[test]
    fn odd_names_are_shown_escaped() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut c = compare(&finished_run(dir.path(), 5));
        let odd = "\x1b]0;x\x07\u{9b}";
        c.warnings.push(odd.into());
        for row in &mut c.rows {
            row.scheduler.push_str(odd);
        }
        let text = render(&c, Detail::All, false);
        let harms = |c: char| c != '\n' && !scx_ml_text::is_printable(c);
        assert!(!text.contains(harms), "{}", text.escape_debug());
        assert!(text.matches("\\x1b]0;x\\x07").count() > 2, "{text}");
    }

    #[test]
    fn headlines_and_verdicts_are_shown_and_details_on_demand() {
        let dir = tempfile::tempdir().expect("tempdir");
        let c = compare(&finished_run(dir.path(), 5));
        let short = render(&c, Detail::Headlines, false);
        assert!(
            short.contains("latency_p99 [us] ↓")
                && short.contains("worse")
                && short.contains("no difference")
        );
        assert!(
            short.contains("(baseline)") && !short.contains("ops [1/s]"),
            "{short}"
        );
        assert!(render(&c, Detail::All, false).contains("ops [1/s] ↑"));
    }
}
