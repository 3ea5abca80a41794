//! The report in the terminal.

use super::growth::Growth;
use super::matrix::Field;
use super::{brief, direction, matrix, moved, number, ratio};
use crate::compare::{Comparison, Row};
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
        if let Some(moved) = moved::moved(comparison, workload) {
            out.push_str(&format!("\n{}\n", what_moved(&moved)));
        }
    }
    out.push_str(&format!(
        "\nRatios are medians over blocks of scheduler / {}, with 95 % bootstrap intervals; p is Mann-Whitney's,\n\
         corrected by Holm over a scheduler's headline metrics. ↓ lower is better, ↑ higher is better; + is a verdict\n\
         of better, - of worse, = of no difference. The place is that among all schedulers; 1 is the best.\n\
         {}\n",
        lines(&comparison.baseline),
        wrapped(moved::LEGEND)
    ));
    for w in &comparison.warnings {
        out.push_str(&format!("warning: {}\n", lines(w)));
    }
    out
}

/// A sentence in lines that fit a terminal.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        let n = word.chars().count();
        if width + 1 + n > 118 {
            out.push('\n');
            width = 0;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += n;
    }
    out
}

/// What moved, a line for each scheduler.
fn what_moved(moved: &moved::Moved) -> Table {
    let mut table = plain();
    let columns = moved
        .columns
        .iter()
        .map(|(what, unit)| format!("{what} {unit}"));
    table.set_header(std::iter::once("what moved".to_string()).chain(columns));
    for (scheduler, values) in &moved.lines {
        let values = values.iter().map(|v| right(v.map_or("–".into(), number)));
        table.add_row(std::iter::once(Cell::new(lines(scheduler))).chain(values));
    }
    table
}

/// Every headline's ratios over the numbers of CPUs, as text.
pub fn growth(growth: &Growth, colour: bool) -> String {
    let mut table = plain();
    let header = ["workload".to_string(), "metric".to_string()];
    let columns = growth.schedulers.iter().flat_map(|s| {
        let each = growth.cpus.iter().map(move |n| format!("{} {n}", lines(s)));
        each.collect::<Vec<_>>()
    });
    table.set_header(header.into_iter().chain(columns));
    for panel in &growth.panels {
        let metric = format!("{} {}", panel.metric.name, direction(panel.metric.better));
        let mut row = vec![
            Cell::new(lines(&panel.workload)),
            Cell::new(lines(metric.trim_end())),
        ];
        let fields = panel.fields.iter().flatten();
        row.extend(fields.map(|f| ratio_cell(f.as_ref(), colour)));
        table.add_row(row);
    }
    format!(
        "\n{table}\n\nGrowth: ratios to {}, of each scheduler on machines of {} CPUs. Marks are verdicts on that machine.\n",
        lines(&growth.baseline),
        super::growth::listed(&growth.cpus)
    )
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
    for line in &m.lines {
        let metric = format!("{} {}", line.metric.name, direction(line.metric.better));
        let base = format!("{} {}", number(line.baseline), line.metric.unit);
        let fields = line.fields.iter().map(|f| ratio_cell(f.as_ref(), colour));
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

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// A ratio with the mark of its verdict.
fn ratio_cell(field: Option<&Field>, colour: bool) -> Cell {
    match field {
        Some(f) => {
            let text = format!("{} {}", brief(f.ratio), mark(f.verdict));
            paint(right(text), f.verdict, colour)
        }
        None => right("–  ".to_string()),
    }
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
    fn growth_has_a_column_for_each_scheduler_and_number_of_cpus() {
        let dir = tempfile::tempdir().expect("tempdir");
        let machines = crate::report::growth::tests::machines(dir.path());
        let data = crate::report::growth::growth(&machines).expect("two machines");
        let text = growth(&data, false);
        for column in ["slow 2", "slow 8", "same 2", "same 8"] {
            assert!(text.contains(column), "{text}");
        }
        let timer = text.lines().find(|l| l.contains("timer")).expect("a row");
        assert_eq!(timer.matches(" -").count(), 2, "worse on both: {timer}");
        assert!(timer.contains('–'), "not measured: {timer}");
        assert!(text.contains("2 and 8 CPUs"));
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
