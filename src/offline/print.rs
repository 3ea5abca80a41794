//! The reports of training and evaluation for people.

use std::io::Write;

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Color, Table, TableComponent, presets};
use scx_ml_text::{Show, lines};

use super::Source;
use super::eval::{CEILING, Evaluation, LIVE, Line, ONLINE, Span, YARDSTICK};
use super::train::{ClassReport, TrainingReport};
use crate::model::Dropped;

/// What training came to.
pub fn training(w: &mut impl Write, report: &TrainingReport, colour: bool) -> Result<()> {
    source(w, &report.recording)?;
    writeln!(
        w,
        "fitted on the older {} samples, judged on the newer {}; |error| {:.3} octaves, the kind's average's {:.3}\n",
        report.fitted_samples,
        report.judging_samples,
        report.error_model,
        report.error_kind_average
    )?;
    let mut table = table(&[
        "class",
        "fitted on",
        "judged on",
        "|error|",
        "kind's average",
        "",
    ]);
    for class in &report.classes {
        table.add_row(vec![
            Cell::new(class.class),
            right(class.fitted_samples),
            right(class.judging_samples),
            paint(
                right(number(class.error_model, 3)),
                share(class.error_model, class.error_kind_average),
                colour,
            ),
            right(number(class.error_kind_average, 3)),
            Cell::new(class.outcome.words()),
        ]);
    }
    writeln!(w, "{table}")?;
    for class in report.classes.iter().filter(|c| !c.dropped.is_empty()) {
        features_of(w, class)?;
    }
    Ok(())
}

/// The features of a class's model, in the order of choice, and those that it does without.
fn features_of(w: &mut impl Write, class: &ClassReport) -> Result<()> {
    writeln!(w, "\n{}", class.class)?;
    let mut table = table(&["feature", "coefficient", "explains"]);
    for c in &class.chosen {
        table.add_row(vec![
            Cell::new(c.feature),
            right(format!("{:+.4}", c.coefficient)),
            right(format!("{:.2} %", 100.0 * c.explains)),
        ]);
    }
    writeln!(w, "{table}")?;
    for why in [Dropped::Useless, Dropped::Collinear, Dropped::Constant] {
        let names: Vec<&str> = class
            .dropped
            .iter()
            .filter(|d| d.reason == why.word())
            .map(|d| d.feature)
            .collect();
        if !names.is_empty() {
            writeln!(w, "{}: {}", why.word(), names.join(" "))?;
        }
    }
    Ok(())
}

/// Predictors side by side.
pub fn evaluation(w: &mut impl Write, report: &Evaluation, colour: bool) -> Result<()> {
    source(w, &report.recording)?;
    writeln!(
        w,
        "models fitted on the oldest {} samples, all judged on the newest {}",
        report.fitted_samples, report.judged_samples
    )?;
    for group in &report.groups {
        let bursts = group.predictors.iter().map(|l| l.metrics.bursts);
        writeln!(
            w,
            "\n{}, {:.0} bursts",
            group.group,
            bursts.fold(0.0, f64::max)
        )?;
        let mut table = table(&[
            "predictor",
            "|error|",
            "ratio",
            "rank corr.",
            "R²",
            "below q95",
            "own",
            "samples",
        ]);
        for line in &group.predictors {
            table.add_row(cells(line, colour));
        }
        writeln!(w, "{table}")?;
    }
    over_time(w, report, colour)?;
    writeln!(
        w,
        "\n|error|: mean of |log2 predicted - log2 actual|, octaves. ratio: to the kind's average on the same samples,\n\
         which steers where no model does; below 1 is better. rank corr.: Spearman's. below q95: bursts within the predicted 95 % quantile.\n\
         own: share that the predictor predicted itself; for the others the kind's average stands in.\n\
         noise ceiling: its R² is about the most that a prediction from task and context can reach; in hindsight, see\n\
         docs/offline.md."
    )?;
    for note in &report.notes {
        writeln!(w, "note: {}", lines(note))?;
    }
    Ok(())
}

/// What is shown of each span of time beside the kind's average, as a share of that.
const OVER_TIME: [&str; 6] = [
    ONLINE,
    LIVE,
    "last value",
    "moving average 1/4",
    "task mean",
    CEILING,
];

/// The predictors from the recording's start on, which is where the online learner starts.
fn over_time(w: &mut impl Write, report: &Evaluation, colour: bool) -> Result<()> {
    let of = |span: &Span, name: &str| {
        span.predictors
            .iter()
            .find(|l| l.predictor == name)
            .cloned()
    };
    let all = report.over_time.last();
    let shown: Vec<&str> = OVER_TIME
        .into_iter()
        .filter(|name| all.is_some_and(|span| of(span, name).is_some()))
        .collect();
    writeln!(
        w,
        "\nover time: |error| of the kind's average, and of the others as a share of that"
    )?;
    let mut header = vec!["seconds", "bursts", YARDSTICK];
    header.extend(&shown);
    header.extend(["online's own", "below its q95"]);
    let mut table = table(&header);
    for span in &report.over_time {
        let until = span.until_s.map_or("end".into(), |s| format!("{s:.0}"));
        let average = of(span, YARDSTICK).map(|l| l.metrics.log_mae);
        let mut row = vec![
            Cell::new(format!("{:.0} to {until}", span.from_s)),
            right(format!("{:.0}", span.bursts)),
            right(number(average, 3)),
        ];
        row.extend(shown.iter().map(|name| {
            let ratio = of(span, name).and_then(|l| l.ratio);
            paint(right(number(ratio, 3)), ratio, colour)
        }));
        let online = of(span, ONLINE).map(|l| l.metrics);
        row.push(right(percent(online.as_ref().map(|m| m.own_share))));
        row.push(right(percent(online.and_then(|m| m.coverage))));
        table.add_row(row);
    }
    writeln!(w, "{table}")?;
    Ok(())
}

fn cells(line: &Line, colour: bool) -> Vec<Cell> {
    let m = &line.metrics;
    let name = match &line.file {
        Some(path) => format!("{} {path}", line.predictor),
        None => line.predictor.to_string(),
    };
    vec![
        Cell::new(name),
        right(format!("{:.3}", m.log_mae)),
        paint(right(number(line.ratio, 3)), line.ratio, colour),
        right(number(m.spearman, 3)),
        right(number(m.r2, 3)),
        right(percent(m.coverage)),
        right(percent(Some(m.own_share))),
        right(m.samples),
    ]
}

/// Where the samples come from, and what is missing among them.
fn source(w: &mut impl Write, source: &Source) -> Result<()> {
    writeln!(
        w,
        "recorded on Linux {}, {}, mode {}, {} to {}",
        source.kernel.shown(),
        source.machine.shown(),
        source.mode.shown(),
        source.from_utc,
        source.until_utc
    )?;
    if source.bursts == 0 {
        writeln!(
            w,
            "{} samples; what was lost is not recorded",
            source.samples
        )?;
    } else {
        writeln!(
            w,
            "{} bursts: {} kept, {} sampled out, {} lost",
            source.bursts, source.kept, source.sampled_out, source.lost
        )?;
    }
    if source.implausible > 0 {
        writeln!(
            w,
            "{} samples cannot be true and are left out",
            source.implausible
        )?;
    }
    Ok(())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table
        .set_style(TableComponent::HeaderLines, '─')
        .set_style(TableComponent::MiddleHeaderIntersections, '─');
    let mut cells: Vec<Cell> = header.iter().map(|h| right(*h)).collect();
    cells[0] = Cell::new(header[0]);
    table.set_header(cells);
    table
}

fn right(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |v| format!("{v:.digits$}"))
}

fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |s| format!("{:.1} %", 100.0 * s))
}

fn share(part: Option<f64>, whole: Option<f64>) -> Option<f64> {
    Some(part? / whole?)
}

/// Green for a ratio below 1, red above.
fn paint(cell: Cell, ratio: Option<f64>, colour: bool) -> Cell {
    match ratio {
        Some(r) if colour && r < 0.995 => cell.fg(Color::Green),
        Some(r) if colour && r > 1.005 => cell.fg(Color::Red),
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::tests::{recording, samples};
    use crate::offline::{evaluate, train};
    use crate::recording::Loss;

    #[test]
    fn reports_name_losses_features_and_predictors_without_colour() {
        let mut recording = recording(samples(2_000));
        recording.losses.push(Loss {
            bursts: 9_000,
            kept: 2_000,
            sampled_out: 6_900,
            ring_dropped: 60,
            not_recorded: 40,
            ..Default::default()
        });
        let mut text = vec![];
        let trained = train(&recording, 2_000).expect("enough");
        training(&mut text, &trained.report, false).expect("printed");
        let evaluated = evaluate(&recording, &[], 0.7).expect("enough");
        evaluation(&mut text, &evaluated, false).expect("printed");
        let text = String::from_utf8(text).expect("text");
        for part in [
            "9000 bursts: 2000 kept, 6900 sampled out, 100 lost",
            "waker_ran",
            "constant: ",
            "none: too few samples",
            "moving average 1/2",
            "noise ceiling",
            "over time: |error| of the kind's average",
            "5 to end",
            "note: live is left out",
        ] {
            assert!(text.contains(part), "no '{part}' in\n{text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("NaN"), "{text}");
    }
}
