//! What a scheduler costs, read over the same time as what it brings.
//!
//! The probe and the BPF accounting are on under every scheduler alike. The accounting itself makes each BPF program a
//! little slower (two clock reads a call), which the kernel's own scheduler does not pay: it is a bias against sched_ext
//! schedulers, small on real hardware, and can be turned off.

mod bpf;
mod probe;
mod process;

pub use bpf::Accounting;
pub use probe::{BUCKETS, Counters, Probe, log2_quantile};
pub use process::ticks_per_second;

use crate::metric::{Better, Metric, MetricDef, Pieces, SavedHistogram};
use crate::sys;
use bpf::ProgramTime;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Run time of one BPF program of the scheduler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgramCost {
    pub name: String,
    pub calls: u64,
    pub ns_per_call: f64,
}

/// The cost of a cell, over its measured time. Absent values could not be read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    pub seconds: f64,
    /// How long the scheduler took to load.
    pub load_s: Option<f64>,
    pub context_switches_per_s: f64,
    /// Share of all CPU time.
    pub cpu_idle: f64,
    pub cpu_steal: f64,
    pub preemptions_per_s: Option<f64>,
    pub wakeups_per_s: Option<f64>,
    pub migrations_per_s: Option<f64>,
    /// Share of all CPU time in which a CPU was idle while a movable task waited. The time an idle CPU takes to wake up
    /// for a task is part of it, so a load of many short sleeps never shows 0.
    pub idle_while_runnable: Option<f64>,
    /// From wake-up to running, over all tasks of the machine, in µs; log2 resolution.
    pub delay_p50_us: Option<f64>,
    pub delay_p99_us: Option<f64>,
    /// Events the probe lost.
    pub probe_lost: Option<u64>,
    pub bpf_ns_per_switch: Option<f64>,
    /// Share of all CPU time spent in the scheduler's BPF programs.
    pub bpf_cpu: Option<f64>,
    pub programs: Vec<ProgramCost>,
    /// CPU time of the scheduler's process as a share of one CPU.
    pub user_cpu: Option<f64>,
    pub rss_kib: Option<u64>,
    /// Records its ring buffers dropped, where it says so.
    pub ring_lost: Option<u64>,
    pub histograms: Vec<SavedHistogram>,
}

impl Cost {
    /// As metrics, for tables and files; `pieces` is what got done meanwhile, where that is known. None of them is a
    /// headline: cost is shown beside benefit, not traded for it.
    pub fn metrics(&self, pieces: Option<Pieces>) -> Vec<Metric> {
        let mut all = Vec::new();
        let mut push = |name: &str, unit: &str, better, value: Option<f64>| {
            let value = value.filter(|v| v.is_finite());
            all.extend(
                value.map(|v| MetricDef::new(&format!("cost.{name}"), unit, better).measured(v)),
            );
        };
        push(
            "context_switches",
            "1/s",
            Better::Neither,
            Some(self.context_switches_per_s),
        );
        push(
            "preemptions",
            "1/s",
            Better::Neither,
            self.preemptions_per_s,
        );
        push("wakeups", "1/s", Better::Neither, self.wakeups_per_s);
        push("migrations", "1/s", Better::Neither, self.migrations_per_s);
        if let Some(Pieces { name, per_s }) = pieces {
            for (what, rate) in [
                ("switches", Some(self.context_switches_per_s)),
                ("preemptions", self.preemptions_per_s),
                ("migrations", self.migrations_per_s),
            ] {
                let each = rate.map(|r| r / per_s);
                push(&format!("{what}_per_{name}"), "1", Better::Neither, each);
            }
        }
        push(
            "idle_while_runnable",
            "%",
            Better::Lower,
            self.idle_while_runnable.map(|v| 100.0 * v),
        );
        push("delay_p50", "us", Better::Lower, self.delay_p50_us);
        push("delay_p99", "us", Better::Lower, self.delay_p99_us);
        push(
            "bpf_per_switch",
            "ns",
            Better::Lower,
            self.bpf_ns_per_switch,
        );
        push(
            "bpf_cpu",
            "%",
            Better::Lower,
            self.bpf_cpu.map(|v| 100.0 * v),
        );
        push(
            "user_cpu",
            "%",
            Better::Lower,
            self.user_cpu.map(|v| 100.0 * v),
        );
        push("load", "s", Better::Lower, self.load_s);
        push("rss", "KiB", Better::Lower, self.rss_kib.map(|v| v as f64));
        push(
            "ring_lost",
            "records",
            Better::Lower,
            self.ring_lost.map(|v| v as f64),
        );
        push(
            "cpu_idle",
            "%",
            Better::Neither,
            Some(100.0 * self.cpu_idle),
        );
        push("steal", "%", Better::Neither, Some(100.0 * self.cpu_steal));
        all
    }
}

/// Takes readings. One for the whole run, so that everything is attached once and alike.
pub struct Meter {
    probe: Option<Probe>,
    _accounting: Option<Accounting>,
    known_programs: HashSet<u32>,
}

/// One reading.
pub struct Reading {
    at_ns: u64,
    machine: process::Machine,
    counters: Option<Counters>,
    programs: BTreeMap<u32, ProgramTime>,
    process: Option<(u64, u64)>,
    ring_lost: Option<u64>,
}

impl Meter {
    /// A meter with the given parts.
    pub fn new(probe: Option<Probe>, accounting: Option<Accounting>) -> Self {
        let mut meter = Self {
            probe,
            _accounting: accounting,
            known_programs: HashSet::new(),
        };
        meter.before_scheduler();
        meter
    }

    /// To be called before each scheduler starts: programs already there are not its own.
    pub fn before_scheduler(&mut self) {
        self.known_programs = bpf::programs().into_keys().collect();
    }

    /// Read everything. `scheduler` is the process to account, if there is one.
    pub fn read(&self, scheduler: Option<u32>) -> Reading {
        Reading {
            at_ns: sys::now_ns(),
            machine: process::machine(),
            counters: self.probe.as_ref().and_then(|p| p.read().ok()),
            programs: if self._accounting.is_some() {
                bpf::programs()
            } else {
                BTreeMap::new()
            },
            process: scheduler.and_then(process::process),
            ring_lost: scheduler.and_then(|_| ring_losses()),
        }
    }

    /// The cost between two readings on a machine of `cpus` CPUs.
    pub fn cost(&self, before: &Reading, after: &Reading, cpus: usize) -> Cost {
        let seconds = after.at_ns.saturating_sub(before.at_ns).max(1) as f64 / 1e9;
        let cpu_ns = seconds * 1e9 * cpus as f64;
        let delta = |f: fn(&process::Machine) -> u64| {
            f(&after.machine).saturating_sub(f(&before.machine)) as f64
        };
        let (busy, idle, steal) = (delta(|m| m.busy), delta(|m| m.idle), delta(|m| m.steal));
        let ticks = (busy + idle + steal).max(1.0);
        let switches = delta(|m| m.context_switches);
        let mut cost = Cost {
            seconds,
            context_switches_per_s: switches / seconds,
            cpu_idle: idle / ticks,
            cpu_steal: steal / ticks,
            ..Cost::default()
        };
        if let (Some(a), Some(b)) = (&after.counters, &before.counters) {
            let d = a.since(b);
            cost.preemptions_per_s = Some(d.preemptions as f64 / seconds);
            cost.wakeups_per_s = Some(d.wakeups as f64 / seconds);
            cost.migrations_per_s = Some(d.migrations as f64 / seconds);
            cost.idle_while_runnable = Some(d.idle_waiting_ns as f64 / cpu_ns);
            cost.delay_p50_us = log2_quantile(&d.wake_hist, 0.5).map(|ns| ns as f64 / 1000.0);
            cost.delay_p99_us = log2_quantile(&d.wake_hist, 0.99).map(|ns| ns as f64 / 1000.0);
            cost.probe_lost = Some(d.untracked);
            cost.histograms = vec![
                saved("wake_to_run", &d.wake_hist),
                saved("preempted_to_run", &d.requeue_hist),
            ];
        }
        if self._accounting.is_some() {
            let programs = bpf::between(&before.programs, &after.programs, &self.known_programs);
            // The kernel's own scheduler has no programs, and then there is nothing to state.
            if !programs.is_empty() {
                let total: u64 = programs.iter().map(|p| p.run_ns).sum();
                cost.bpf_ns_per_switch = Some(total as f64 / switches.max(1.0));
                cost.bpf_cpu = Some(total as f64 / cpu_ns);
            }
            cost.programs = programs
                .into_iter()
                .map(|p| ProgramCost {
                    name: p.name,
                    calls: p.calls,
                    ns_per_call: p.run_ns as f64 / p.calls as f64,
                })
                .collect();
        }
        if let (Some((b, _)), Some((a, rss))) = (before.process, after.process) {
            cost.user_cpu =
                Some(a.saturating_sub(b) as f64 / process::ticks_per_second() / seconds);
            cost.rss_kib = Some(rss);
        }
        cost.ring_lost = match (before.ring_lost, after.ring_lost) {
            (Some(b), Some(a)) => Some(a.saturating_sub(b)),
            (None, a) => a,
            (Some(_), None) => None,
        };
        cost
    }
}

fn saved(name: &str, hist: &[u64]) -> SavedHistogram {
    let points = hist
        .iter()
        .enumerate()
        .filter(|(_, n)| **n > 0)
        .map(|(i, n)| (1u64 << (i + 1), *n))
        .collect();
    SavedHistogram {
        name: name.to_string(),
        unit: "ns".to_string(),
        points,
    }
}

/// Records lost by the scheduler's ring buffers, from its scx_stats socket. Any number whose name speaks of loss counts;
/// schedulers without such a number, or without a socket, give `None`.
fn ring_losses() -> Option<u64> {
    let mut client = scx_stats::StatsClient::new().connect(Some(500)).ok()?;
    let stats: serde_json::Value = client.request("stats", Vec::new()).ok()?;
    let mut total = None;
    lost_in(&stats, &mut total);
    total
}

fn lost_in(value: &serde_json::Value, total: &mut Option<u64>) {
    let serde_json::Value::Object(map) = value else {
        return;
    };
    for (name, v) in map {
        let speaks_of_loss = ["lost", "dropped", "losses", "drops"]
            .iter()
            .any(|w| name.split('_').any(|n| n == *w));
        match v.as_u64() {
            Some(n) if speaks_of_loss => *total = Some(total.unwrap_or(0) + n),
            _ => lost_in(v, total),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_found_by_name_at_any_depth() {
        let v =
            serde_json::json!({"nr_lost": 3, "sub": {"ring_dropped": 4, "lostness": 100}, "x": 9});
        let mut total = None;
        lost_in(&v, &mut total);
        assert_eq!(total, Some(7));
        let mut none = None;
        lost_in(&serde_json::json!({"x": 1}), &mut none);
        assert_eq!(none, None);
    }

    #[test]
    fn what_moved_is_told_by_the_piece_of_work_where_there_are_any() {
        let cost = Cost {
            context_switches_per_s: 300.0,
            preemptions_per_s: Some(20.0),
            ..Cost::default()
        };
        let pieces = Pieces {
            name: "request",
            per_s: 100.0,
        };
        let all = cost.metrics(Some(pieces));
        let value = |name: &str| all.iter().find(|m| m.def.name == name).map(|m| m.value);
        assert_eq!(value("cost.switches_per_request"), Some(3.0));
        assert_eq!(value("cost.preemptions_per_request"), Some(0.2));
        assert_eq!(value("cost.migrations_per_request"), None, "not measured");
        assert!(
            !cost
                .metrics(None)
                .iter()
                .any(|m| m.def.name.contains("_per_request"))
        );
    }

    #[test]
    fn a_meter_without_parts_still_tells_switches_and_time() {
        let meter = Meter::new(None, None);
        let a = meter.read(Some(std::process::id()));
        std::thread::sleep(std::time::Duration::from_millis(50));
        let b = meter.read(Some(std::process::id()));
        let c = meter.cost(&a, &b, 2);
        assert!(c.seconds >= 0.05 && c.context_switches_per_s > 0.0);
        assert!(
            c.rss_kib.is_some() && c.bpf_ns_per_switch.is_none() && c.preemptions_per_s.is_none()
        );
        assert!(
            c.metrics(None)
                .iter()
                .all(|m| m.def.name.starts_with("cost.") && !m.def.headline)
        );
    }
}
