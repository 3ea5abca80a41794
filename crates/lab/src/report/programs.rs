//! What the BPF programs of each scheduler cost.

use super::number;
use super::page::{esc, put};
use crate::compare::Comparison;
use crate::results::Run;

/// The time per call of each BPF program, over all workloads.
pub fn html(h: &mut String, run: &Run, comparison: &Comparison) {
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
