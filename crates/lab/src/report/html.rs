//! The report as one HTML file that needs nothing else: no network, no scripts, no fonts.

use super::table::{direction, verdict_text};
use super::{number, plot, ratio};
use crate::compare::{Comparison, Row};
use crate::error::Result;
use crate::metric::SavedHistogram;
use crate::results::Run;
use crate::stats::Verdict;
use crate::workload;
use scx_ml_text::lines;
use std::fmt::Write;

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;color:#222;background:#fff;max-width:960px;margin:2em auto;padding:0 1em}\
h1{font-size:1.6em;margin-bottom:.2em}h2{font-size:1.25em;margin-top:2em;border-bottom:1px solid #ddd;padding-bottom:.2em}\
h3{font-size:1.02em;margin:1.4em 0 .3em}table{border-collapse:collapse;margin:.6em 0;font-size:.92em}\
th,td{padding:.25em .7em;text-align:left;border-bottom:1px solid #e4e4e4;vertical-align:top}\
th{border-bottom:2px solid #999}td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
.better{background:#d9f2e3}.worse{background:#fbdcd3}.no-difference{background:#f1f1f1}\
.quiet{color:#666;font-size:.92em}.warning{background:#fff3cd;border-left:4px solid #e0a800;padding:.4em .8em;margin:.4em 0}\
details{margin:.6em 0}summary{cursor:pointer;color:#0a58a8}pre{background:#f6f6f6;padding:.7em;overflow-x:auto}\
.scroll{overflow-x:auto}figure{margin:1em 0}figcaption{color:#666;font-size:.9em}";

/// Text made safe for HTML.
fn esc(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn class(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Better) => "better",
        Some(Verdict::Worse) => "worse",
        Some(Verdict::NoDifference) => "no-difference",
        None => "",
    }
}

/// The whole report.
///
/// # Errors
/// If a plot cannot be drawn.
pub fn render(run: &Run, comparison: &Comparison) -> Result<String> {
    let mut h = String::with_capacity(1 << 18);
    head(&mut h, run, comparison);
    for w in &comparison.warnings {
        put(&mut h, format_args!("<p class=warning>{}</p>", esc(w)));
    }
    h.push_str("<h2>Verdicts</h2>");
    verdicts(&mut h, comparison);
    figure(
        &mut h,
        plot::ratios(comparison)?,
        "Left of the line is less than the baseline, right of it more; the arrow after \
        the metric says which is better. Where the interval crosses the line nothing can be said.",
    );
    figure(
        &mut h,
        plot::cost_benefit(comparison)?,
        "Up is better, left is cheaper. Gain is the geometric mean of a \
        workload's headline ratios, turned so that more is better.",
    );
    for w in &run.experiment.workloads {
        section(&mut h, run, comparison, &w.label, &w.name)?;
    }
    costs(&mut h, run, comparison);
    origin(&mut h, run)?;
    h.push_str("</body></html>\n");
    // All markup is our own: what cannot be seen is from a name.
    Ok(lines(&h))
}

/// Append; writing to a String cannot fail.
fn put(h: &mut String, what: std::fmt::Arguments) {
    let _ = h.write_fmt(what);
}

fn head(h: &mut String, run: &Run, comparison: &Comparison) {
    let names: Vec<String> = comparison.schedulers.iter().map(|s| esc(s)).collect();
    put(
        h,
        format_args!(
            "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>scx_lab: {0}</title><style>{STYLE}</style></head><body><h1>Schedulers compared</h1>\
             <p>{0}</p><p class=quiet>Baseline {1}. {2} blocks of {3} s a cell (after {4} s of warm-up), {5} workloads, \
             seed {6}.</p>",
            names.join(" · "),
            esc(&comparison.baseline),
            run.experiment.blocks,
            number(run.experiment.seconds),
            number(run.experiment.warmup),
            comparison.workloads.len(),
            run.experiment.seed
        ),
    );
    if let Some(p) = run.provenance.last() {
        put(
            h,
            format_args!(
                "<p class=quiet>{} · Linux {} · {} CPUs, {} · virtualisation: {}</p>",
                esc(&p.date),
                esc(&p.kernel),
                p.cpus,
                esc(&p.cpu_model),
                esc(&p.virtualisation)
            ),
        );
    }
}

/// A matrix: headlines down, schedulers across.
fn verdicts(h: &mut String, comparison: &Comparison) {
    let others: Vec<&String> = comparison
        .schedulers
        .iter()
        .filter(|s| **s != comparison.baseline)
        .collect();
    h.push_str("<div class=scroll><table><tr><th>workload<th>metric");
    put(h, format_args!("<th>{}", esc(&comparison.baseline)));
    others
        .iter()
        .for_each(|s| put(h, format_args!("<th>{}", esc(s))));
    h.push_str("</tr>");
    for workload in &comparison.workloads {
        let mut shown = "";
        let headlines: Vec<&Row> = comparison
            .rows_of(workload)
            .filter(|r| r.metric.headline)
            .collect();
        for row in &headlines {
            if shown == row.metric.name {
                continue;
            }
            shown = &row.metric.name;
            let base = comparison
                .row(workload, shown, &comparison.baseline)
                .map_or(f64::NAN, |r| r.median);
            put(
                h,
                format_args!(
                    "<tr><td>{}<td>{} {}<td class=n>{} {}",
                    esc(workload),
                    esc(shown),
                    direction(row.metric.better),
                    number(base),
                    esc(&row.metric.unit)
                ),
            );
            for s in &others {
                match comparison
                    .row(workload, shown, s)
                    .map(|r| (r.verdict, r.effect.as_ref()))
                {
                    Some((verdict, Some(e))) => put(
                        h,
                        format_args!(
                            "<td class={}>×{} <span class=quiet>({}–{})</span><br>{}",
                            class(verdict),
                            ratio(e.ratio),
                            ratio(e.low),
                            ratio(e.high),
                            verdict.map_or("too few blocks", verdict_text)
                        ),
                    ),
                    _ => h.push_str("<td>–"),
                }
            }
            h.push_str("</tr>");
        }
    }
    h.push_str(
        "</table></div><p class=quiet>×: median over blocks of scheduler / baseline, with its 95 % bootstrap interval. A \
         verdict takes a corrected p of at most 0.05 (Mann-Whitney, Holm over all headlines of a scheduler), an interval \
         that excludes 1, and an effect above the smallest one asked for.</p>",
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
    put(h, format_args!("<h2>{}</h2>", esc(label)));
    if let Ok(k) = workload::kind(kind) {
        let text = k.measures.split_whitespace().collect::<Vec<_>>().join(" ");
        put(
            h,
            format_args!(
                "<details><summary>What is measured</summary><p>{}: {}</p></details>",
                esc(k.about),
                esc(&text)
            ),
        );
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
    h.push_str("<details><summary>All numbers</summary>");
    rows_table(h, comparison, comparison.rows_of(label));
    h.push_str("</details>");
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

/// The time per call of each BPF program, over all workloads.
fn costs(h: &mut String, run: &Run, comparison: &Comparison) {
    h.push_str("<h2>Cost by BPF program</h2>");
    let mut any = false;
    for s in &comparison.schedulers {
        let mut by_name: std::collections::BTreeMap<&str, (u64, f64)> =
            std::collections::BTreeMap::new();
        let costs = run
            .cells
            .iter()
            .filter(|c| c.is_ok() && c.cell.scheduler == *s)
            .filter_map(|c| c.cost.as_ref());
        for p in costs.flat_map(|c| &c.programs) {
            let entry = by_name.entry(&p.name).or_default();
            entry.0 += p.calls;
            entry.1 += p.calls as f64 * p.ns_per_call;
        }
        if by_name.is_empty() {
            continue;
        }
        any = true;
        put(
            h,
            format_args!(
                "<h3>{}</h3><table><tr><th>program<th>calls<th>ns a call<th>share</tr>",
                esc(s)
            ),
        );
        let total: f64 = by_name.values().map(|v| v.1).sum();
        let mut sorted: Vec<_> = by_name.into_iter().collect();
        sorted.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
        for (name, (calls, ns)) in sorted {
            put(
                h,
                format_args!(
                    "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{:.0} %</tr>",
                    esc(name),
                    number(calls as f64),
                    number(ns / calls.max(1) as f64),
                    100.0 * ns / total
                ),
            );
        }
        h.push_str("</table>");
    }
    if !any {
        h.push_str("<p class=quiet>No run times of BPF programs were recorded.</p>");
    }
}

fn origin(h: &mut String, run: &Run) -> Result<()> {
    h.push_str("<h2>Where this comes from</h2>");
    for p in &run.provenance {
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
    put(
        h,
        format_args!(
            "<details><summary>The experiment, to run it again with --config</summary><pre>{}</pre></details>",
            esc(&run.experiment.to_toml()?)
        ),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::finished_run;
    use crate::compare::compare;

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
        let html = render(&run, &compare(&run)).expect("drawn");
        assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
        assert!(
            html.contains(">worse<") || html.contains("<br>worse"),
            "the slow one is called worse"
        );
        assert!(
            html.contains("no difference")
                && html.contains("Distribution of wakeup")
                && html.contains("x_enqueue")
        );
        assert!(
            html.matches("<svg").count() >= 2 + 2 * 2,
            "ratios, cost, and for each workload CDF and values"
        );
        for outside in ["http://", "https://", "<script", "src=", "@import"] {
            let found = html
                .replace("http://www.w3.org/2000/svg", "")
                .contains(outside);
            assert!(!found, "{outside} reaches outside the file");
        }
    }

    #[test]
    fn names_from_outside_cannot_break_the_page() {
        let dir = tempfile::tempdir().expect("tempdir");
        let run = finished_run(dir.path(), 5);
        let mut comparison = compare(&run);
        comparison.warnings.push("\x1b[2J<b>\u{202e}".into());
        let html = render(&run, &comparison).expect("drawn");
        let odd = |c: char| c != '\n' && !scx_ml_text::is_printable(c);
        assert!(!html.contains(odd), "{:?}", html.find(odd));
        assert!(html.contains("\\x1b[2J&lt;b&gt;\\xe2\\x80\\xae"));
        assert_eq!(esc("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
