//! The report as one HTML file that needs nothing else: no network, no scripts, no fonts.

use super::page::{STYLE, class, esc, put};
use super::table::verdict_text;
use super::{brief, direction, growth, matrix, moved, number, plot, programs, ratio, small};
use crate::compare::{Compared, Comparison, Row};
use crate::error::{LabError, Result};
use crate::metric::SavedHistogram;
use crate::provenance::Provenance;
use crate::results::Run;
use crate::workload;
use scx_ml_text::lines;

/// The whole report of one machine, or of several with different numbers of CPUs.
///
/// # Errors
/// If there is none, or a plot cannot be drawn.
pub fn render(machines: &[Compared]) -> Result<String> {
    let mut h = String::with_capacity(1 << 18);
    head(&mut h, machines)?;
    let several = machines.len() > 1;
    warnings(&mut h, machines);
    if let Some(growth) = growth::growth(machines) {
        h.push_str("<h2>Growth</h2>");
        growth::html(&mut h, &growth);
    }
    for m in machines {
        machine(&mut h, m, several)?;
    }
    h.push_str("<h2>Where this comes from</h2>");
    for m in machines {
        origin(&mut h, &m.run)?;
    }
    h.push_str("</body></html>\n");
    // All markup is our own: what cannot be seen is from a name.
    Ok(lines(&h))
}

/// What a reader should know first: once where all machines have it, else with the machine.
fn warnings(h: &mut String, machines: &[Compared]) {
    let mut common: Vec<&String> = Vec::new();
    for m in machines {
        for w in &m.comparison.warnings {
            let shared = machines.iter().all(|m| m.comparison.warnings.contains(w));
            if shared && common.contains(&w) {
                continue;
            }
            common.push(w);
            let place = if shared { String::new() } else { on(m) + ": " };
            put(
                h,
                format_args!("<p class=warning>{}{}</p>", place.trim_start(), esc(w)),
            );
        }
    }
}

/// Which of several machines, as part of a heading.
fn on(machine: &Compared) -> String {
    match machine.run.cpus() {
        Some(1) => " on 1 CPU".to_string(),
        Some(n) => format!(" on {n} CPUs"),
        None => " on an unknown machine".to_string(),
    }
}

fn head(h: &mut String, machines: &[Compared]) -> Result<()> {
    let none = || LabError::Report("nothing to report".to_string());
    let (first, last) = machines.first().zip(machines.last()).ok_or_else(none)?;
    let mut names: Vec<String> = Vec::new();
    for s in machines.iter().flat_map(|m| &m.comparison.schedulers) {
        if !names.contains(&esc(s)) {
            names.push(esc(s));
        }
    }
    let experiment = &first.run.experiment;
    put(
        h,
        format_args!(
            "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>scx_lab: {0}</title><style>{STYLE}</style></head><body><h1>Schedulers compared</h1>\
             <p>{0}</p><p class=quiet>Baseline {1}. {2} blocks of {3} s a cell (after {4} s of warm-up), {5} workloads, \
             seed {6}.</p>",
            names.join(" · "),
            esc(&first.comparison.baseline),
            experiment.blocks,
            number(experiment.seconds),
            number(experiment.warmup),
            first.comparison.workloads.len(),
            experiment.seed
        ),
    );
    if let Some(p) = last.run.provenance.last() {
        let cpus: Vec<usize> = machines.iter().filter_map(|m| m.run.cpus()).collect();
        put(
            h,
            format_args!(
                "<p class=quiet>{} · Linux {} · {} CPUs, {} · virtualisation: {}</p>",
                esc(&p.date),
                esc(&p.kernel),
                growth::listed(&cpus),
                esc(&p.cpu_model),
                esc(&p.virtualisation)
            ),
        );
    }
    Ok(())
}

/// What was measured on one machine; of several, the details are folded.
fn machine(h: &mut String, machine: &Compared, several: bool) -> Result<()> {
    let Compared { run, comparison } = machine;
    let place = if several { on(machine) } else { String::new() };
    put(h, format_args!("<h2>Verdicts{place}</h2>"));
    verdicts(h, comparison);
    figure(
        h,
        plot::cost_benefit(comparison)?,
        "Up is better, left is cheaper. Gain is the geometric mean of a \
        workload's headline ratios, turned so that more is better.",
    );
    let details = |h: &mut String, what: &str| {
        let tags = if several {
            ("<details><summary>", "</summary>")
        } else {
            ("<h2>", "</h2>")
        };
        put(h, format_args!("{}{what}{place}{}", tags.0, tags.1));
    };
    let end = if several { "</details>" } else { "" };
    details(h, "Workloads");
    put(
        h,
        format_args!(
            "<p class=quiet>Left of the line is less than the baseline, right of it more; the arrow after the metric says \
             which is better. Where the interval crosses the line nothing can be said.</p><p class=quiet>{}</p>\
             <div class=cards>",
            moved::LEGEND
        ),
    );
    for w in &run.experiment.workloads {
        section(h, run, comparison, &w.label, &w.name)?;
    }
    put(h, format_args!("</div>{end}"));
    details(h, "Cost by BPF program");
    programs::html(h, run, comparison);
    h.push_str(end);
    Ok(())
}

/// All headlines and schedulers in one table.
fn verdicts(h: &mut String, comparison: &Comparison) {
    let m = matrix::matrix(comparison);
    h.push_str("<div class=scroll><table class=matrix><thead><tr><th>workload<th>metric");
    put(h, format_args!("<th>{}", esc(&m.baseline)));
    m.schedulers
        .iter()
        .for_each(|s| put(h, format_args!("<th>{}", esc(s))));
    h.push_str("</tr></thead><tbody>");
    for line in &m.lines {
        put(
            h,
            format_args!(
                "<tr><td>{}<td>{} {}<td>{} {}",
                esc(&line.workload),
                esc(&line.metric.name),
                direction(line.metric.better),
                number(line.baseline),
                esc(&line.metric.unit)
            ),
        );
        for field in &line.fields {
            match field {
                Some(f) => put(
                    h,
                    format_args!(
                        "<td class=\"{}\" title=\"{}–{}, {}\">{}",
                        class(f.verdict),
                        ratio(f.low),
                        ratio(f.high),
                        f.verdict
                            .map_or("too few blocks for a verdict", verdict_text),
                        brief(f.ratio)
                    ),
                ),
                None => h.push_str("<td>–"),
            }
        }
        h.push_str("</tr>");
    }
    h.push_str("</tbody><tfoot><tr><td>mean place<td>");
    for rank in &m.ranks {
        put(h, format_args!("<td>{}", brief(*rank)));
    }
    h.push_str(
        "</tr></tfoot></table></div><p class=quiet>Median over blocks of scheduler / baseline; the 95 % bootstrap interval \
         shows when pointed at. Lost rows come first. Green is better, red is worse, grey is no difference: a verdict takes \
         a corrected p of at most 0.05 (Mann-Whitney, Holm over all headlines of a scheduler), an interval that excludes 1, \
         and an effect above the smallest one asked for. The place is that among all schedulers, the baseline included; 1 \
         is the best.</p>",
    );
}

fn figure(h: &mut String, svg: Option<String>, caption: &str) {
    if let Some(svg) = svg {
        put(
            h,
            format_args!("<figure>{svg}<figcaption>{caption}</figcaption></figure>"),
        );
    }
}

fn section(
    h: &mut String,
    run: &Run,
    comparison: &Comparison,
    label: &str,
    kind: &str,
) -> Result<()> {
    put(h, format_args!("<div class=card><h3>{}</h3>", esc(label)));
    small::ratios(h, comparison, label);
    moved::html(h, comparison, label);
    h.push_str("<details><summary>Distributions, every block, all numbers</summary>");
    if let Ok(k) = workload::kind(kind) {
        let text = k.measures.split_whitespace().collect::<Vec<_>>().join(" ");
        put(h, format_args!("<p>{}: {}</p>", esc(k.about), esc(&text)));
    }
    for name in histogram_names(run, label) {
        let histograms = joined(run, comparison, label, &name);
        figure(
            h,
            plot::distribution(comparison, &format!("Distribution of {name}"), &histograms)?,
            "All blocks together.",
        );
    }
    let mut shown = String::new();
    for row in comparison.rows_of(label).filter(|r| r.metric.headline) {
        if row.metric.name != shown {
            shown = row.metric.name.clone();
            let rows: Vec<&Row> = comparison
                .rows_of(label)
                .filter(|r| r.metric.name == shown)
                .collect();
            figure(
                h,
                plot::values(comparison, &rows)?,
                "Each point is a block, the bar the median.",
            );
        }
    }
    rows_table(h, comparison, comparison.rows_of(label));
    h.push_str("</details></div>");
    Ok(())
}

fn rows_table<'a>(h: &mut String, comparison: &Comparison, rows: impl Iterator<Item = &'a Row>) {
    h.push_str(
        "<div class=scroll><table><tr><th>metric<th>scheduler<th>median<th>±iqr<th>ratio<th>95 %<th>p<th>p, corrected\
         <th>p, paired<th>verdict</tr>",
    );
    for r in rows {
        let e = r.effect.as_ref();
        let show = |f: &dyn Fn(&crate::stats::Effect) -> String| e.map(f).unwrap_or_default();
        let spread = if r.spread.is_finite() {
            format!("{:.0} %", 100.0 * r.spread)
        } else {
            "–".to_string()
        };
        put(
            h,
            format_args!(
                "<tr class=\"{}\"><td>{} [{}] {}<td>{}<td class=n>{}<td class=n>{spread}<td class=n>{}<td class=n>{}\
                 <td class=n>{}<td class=n>{}<td class=n>{}<td>{}</tr>",
                class(r.verdict),
                esc(&r.metric.name),
                esc(&r.metric.unit),
                direction(r.metric.better),
                esc(&r.scheduler),
                number(r.median),
                if r.scheduler == comparison.baseline {
                    "1".to_string()
                } else {
                    show(&|e| ratio(e.ratio))
                },
                show(&|e| format!("{}–{}", ratio(e.low), ratio(e.high))),
                show(&|e| format!("{:.3}", e.p)),
                r.p_corrected.map(|p| format!("{p:.3}")).unwrap_or_default(),
                show(&|e| format!("{:.3}", e.p_paired)),
                r.verdict.map_or("", verdict_text)
            ),
        );
    }
    h.push_str("</table></div>");
}

fn histogram_names(run: &Run, workload: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for c in run
        .cells
        .iter()
        .filter(|c| c.is_ok() && c.cell.workload == workload)
    {
        for hist in &c.outcome.histograms {
            if !names.contains(&hist.name) {
                names.push(hist.name.clone());
            }
        }
    }
    names
}

/// A histogram of a workload for each scheduler, over all blocks.
fn joined(
    run: &Run,
    comparison: &Comparison,
    workload: &str,
    name: &str,
) -> Vec<(String, SavedHistogram)> {
    comparison
        .schedulers
        .iter()
        .filter_map(|s| {
            run.cells
                .iter()
                .filter(|c| c.is_ok() && c.cell.workload == workload && c.cell.scheduler == *s)
                .filter_map(|c| {
                    c.outcome
                        .histograms
                        .iter()
                        .find(|x| x.name == name)
                        .cloned()
                })
                .reduce(|mut a, b| {
                    a.merge(&b);
                    a
                })
                .map(|all| (s.clone(), all))
        })
        .collect()
}

fn origin(h: &mut String, run: &Run) -> Result<()> {
    if let Some((last, earlier)) = run.provenance.split_last() {
        start(h, last);
        if !earlier.is_empty() {
            put(
                h,
                format_args!(
                    "<details><summary>{} earlier starts</summary>",
                    earlier.len()
                ),
            );
            earlier.iter().for_each(|p| start(h, p));
            h.push_str("</details>");
        }
    }
    put(
        h,
        format_args!(
            "<details><summary>The experiment, to run it again with --config</summary><pre>{}</pre></details>",
            esc(&run.experiment.to_toml()?)
        ),
    );
    Ok(())
}

/// The circumstances of one start.
fn start(h: &mut String, p: &Provenance) {
    let lines: Vec<String> = p.summary().iter().map(|l| esc(l)).collect();
    put(
        h,
        format_args!(
            "<p>{}<br>kernel configuration: sha256 {}, HZ {}, {}; clock {}; boot {}</p><pre>{}</pre>",
            lines.join("<br>"),
            esc(p.kernel_config.as_deref().unwrap_or("unknown")),
            p.hz.map_or("unknown".to_string(), |v| v.to_string()),
            esc(p.preemption.as_deref().unwrap_or("preemption unknown")),
            esc(p.clocksource.as_deref().unwrap_or("unknown")),
            esc(&p.boot_id),
            esc(&p.command_line.join(" "))
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::finished_run;

    #[test]
    fn the_report_is_whole_self_contained_and_says_the_verdicts() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut run = finished_run(dir.path(), 5);
        for c in &mut run.cells {
            c.outcome.histograms = vec![SavedHistogram {
                name: "wakeup".into(),
                unit: "ns".into(),
                points: vec![(1000, 90), (50_000, 10)],
            }];
            c.cost = Some(crate::cost::Cost {
                bpf_cpu: (c.cell.scheduler != "eevdf").then_some(0.01),
                programs: vec![crate::cost::ProgramCost {
                    name: "x_enqueue".into(),
                    calls: 5,
                    ns_per_call: 300.0,
                }],
                ..Default::default()
            });
        }
        let html = render(&[Compared::new(run)]).expect("drawn");
        assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
        assert!(
            html.contains("<td class=\"worse\"") && html.contains("<td>worse"),
            "the slow one is called worse"
        );
        assert!(
            html.contains("no difference")
                && html.contains("Distribution of wakeup")
                && html.contains("x_enqueue")
        );
        assert!(
            html.matches("<svg").count() > 2 * 3,
            "cost, and for each workload ratios, CDF and values"
        );
        for outside in ["http://", "https://", "<script", "src=", "@import"] {
            let found = html
                .replace("http://www.w3.org/2000/svg", "")
                .contains(outside);
            assert!(!found, "{outside} reaches outside the file");
        }
    }

    #[test]
    fn machines_stand_side_by_side_with_their_growth_first() {
        let dir = tempfile::tempdir().expect("tempdir");
        let html = render(&growth::tests::machines(dir.path())).expect("drawn");
        let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("no {text}"));
        assert!(at("<h2>Growth") < at("<h2>Verdicts on 2 CPUs"));
        assert!(at("<h2>Verdicts on 2 CPUs") < at("<h2>Verdicts on 8 CPUs"));
        assert!(html.contains("2 and 8 CPUs"));
        let mut machines = growth::tests::machines(&dir.path().join("again"));
        for m in &mut machines {
            m.comparison.warnings = vec!["shared".to_string()];
        }
        machines[1].comparison.warnings.push("own".to_string());
        let warned = render(&machines).expect("drawn");
        assert_eq!(warned.matches("<p class=warning>shared<").count(), 1);
        assert_eq!(
            warned.matches("<p class=warning>on 8 CPUs: own<").count(),
            1
        );
        assert_eq!(
            html.matches("<details").count(),
            html.matches("</details").count()
        );
        assert!(render(&[]).is_err());
    }

    #[test]
    fn names_from_outside_cannot_break_the_page() {
        let dir = tempfile::tempdir().expect("tempdir");
        let run = finished_run(dir.path(), 5);
        let mut compared = Compared::new(run);
        let warnings = &mut compared.comparison.warnings;
        warnings.push("\x1b[2J<b>\u{202e}".into());
        let html = render(&[compared]).expect("drawn");
        let odd = |c: char| c != '\n' && !scx_ml_text::is_printable(c);
        assert!(!html.contains(odd), "{:?}", html.find(odd));
        assert!(html.contains("\\x1b[2J&lt;b&gt;\\xe2\\x80\\xae"));
        assert_eq!(esc("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
