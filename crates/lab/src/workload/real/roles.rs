//! Who used the CPUs: the server, its clients, or the company.
//!
//! They are told apart as processes and their children, not as cgroups: groups of their own would change what is measured,
//! because each gets a share.

use super::{Company, server::Server};
use crate::cost::ticks_per_second;
use crate::error::Result;
use crate::metric::{Better, Metric, MetricDef};
use crate::sys;
use crate::workload::kind::{Context, Phase};
use std::collections::HashMap;
use std::time::Duration;

/// The processes of a run that are not clients. Clients are this process and the programs it runs to their end.
#[derive(Default)]
pub struct Roles {
    server: Option<u32>,
    /// Whether the server has a process for each client, which is gone before its switches can be read.
    forks: bool,
    company: Vec<u32>,
}

/// CPU time in seconds, and switches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Used {
    cpu: f64,
    switches: u64,
}

struct Reading {
    at_ns: u64,
    server: Used,
    client: Used,
    company: Used,
}

fn cpu_def(role: &str) -> MetricDef {
    MetricDef::new(&format!("{role}_cpu"), "%", Better::Neither)
}

fn switches_def(role: &str) -> MetricDef {
    MetricDef::new(&format!("{role}_switches"), "1/s", Better::Neither)
}

impl Roles {
    pub fn new(server: Option<&Server>, company: &Company) -> Self {
        Self {
            server: server.map(Server::pid),
            forks: false,
            company: company.pids(),
        }
    }

    /// The same for a server that has a process for each client: its switches are not known.
    pub fn forking(server: &Server, company: &Company) -> Self {
        Self {
            forks: true,
            ..Self::new(Some(server), company)
        }
    }

    /// What [`Roles::measure`] gives for a workload with a server, or without.
    pub fn defs(server: bool) -> Vec<MetricDef> {
        let mut defs = Vec::new();
        if server {
            defs.extend([cpu_def("server"), switches_def("server")]);
        }
        defs.extend([
            cpu_def("client"),
            switches_def("client"),
            cpu_def("company"),
        ]);
        defs
    }

    /// Run `body` as the measured part, and say what each role used meanwhile.
    ///
    /// # Errors
    /// Those of `body`, and if company left before the end.
    pub fn measure<T>(
        &self,
        ctx: &Context,
        company: &mut Company,
        body: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Vec<Metric>)> {
        ctx.window.begin();
        let before = self.read();
        let result = body()?;
        let after = self.read();
        ctx.window.end();
        company.verify()?;
        Ok((result, self.between(&before, &after, ctx.cpus)))
    }

    /// The same for threads of this process that look at a phase: conduct them through warm-up and measured time, and
    /// say how many seconds that took, too.
    ///
    /// # Errors
    /// If company left before the end.
    pub fn conduct(
        &self,
        ctx: &Context,
        company: &mut Company,
        phase: &Phase,
    ) -> Result<(f64, Vec<Metric>)> {
        std::thread::sleep(Duration::from_secs_f64(ctx.warmup));
        let measured = self.measure(ctx, company, || {
            let start = sys::now_ns();
            phase.set(Phase::MEASURE);
            std::thread::sleep(Duration::from_secs_f64(ctx.seconds));
            phase.set(Phase::STOP);
            Ok((sys::now_ns() - start) as f64 / 1e9)
        });
        // Threads that go on would be waited for without end.
        phase.set(Phase::STOP);
        measured
    }

    fn read(&self) -> Reading {
        let processes = Processes::now();
        let used = |roots: &[u32]| processes.used(roots);
        let (cpu, switches) = sys::used_with_children();
        Reading {
            at_ns: sys::now_ns(),
            server: used(self.server.as_slice()),
            client: Used { cpu, switches },
            company: used(&self.company),
        }
    }

    fn between(&self, before: &Reading, after: &Reading, cpus: usize) -> Vec<Metric> {
        let seconds = (after.at_ns - before.at_ns) as f64 / 1e9;
        let share = |b: Used, a: Used| 100.0 * (a.cpu - b.cpu).max(0.0) / seconds / cpus as f64;
        let rate = |b: Used, a: Used| a.switches.saturating_sub(b.switches) as f64 / seconds;
        let (s, c) = ((before.server, after.server), (before.client, after.client));
        let mut metrics = Vec::new();
        if self.server.is_some() {
            metrics.push(cpu_def("server").measured(share(s.0, s.1)));
        }
        if self.server.is_some() && !self.forks {
            metrics.push(switches_def("server").measured(rate(s.0, s.1)));
        }
        metrics.push(cpu_def("client").measured(share(c.0, c.1)));
        metrics.push(switches_def("client").measured(rate(c.0, c.1)));
        metrics.push(cpu_def("company").measured(share(before.company, after.company)));
        metrics
    }
}

/// A process as /proc/PID/stat has it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Process {
    parent: u32,
    /// Its own CPU time and that of the children it has waited for, in clock ticks.
    ticks: u64,
}

/// Read /proc/PID/stat's text. The name in it may hold spaces and brackets.
fn parse_stat(text: &str) -> Option<Process> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
    Some(Process {
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
    })
}

/// The switches in /proc/PID/task/TID/status's text, voluntary and not.
fn parse_switches(text: &str) -> u64 {
    text.lines()
        .filter_map(|l| l.split_once(':'))
        .filter(|(key, _)| key.ends_with("voluntary_ctxt_switches"))
        .filter_map(|(_, n)| n.trim().parse::<u64>().ok())
        .sum()
}

/// All processes there are.
struct Processes(HashMap<u32, Process>);

impl Processes {
    fn now() -> Self {
        let entries = std::fs::read_dir("/proc").into_iter().flatten();
        Self(
            entries
                .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
                .filter_map(|pid: u32| {
                    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                    Some((pid, parse_stat(&stat)?))
                })
                .collect(),
        )
    }

    /// These processes and all below them.
    fn tree(&self, roots: &[u32]) -> Vec<u32> {
        let mut tree = roots.to_vec();
        let mut at = 0;
        while let Some(parent) = tree.get(at).copied() {
            tree.extend(
                self.0
                    .iter()
                    .filter(|(_, p)| p.parent == parent)
                    .map(|(pid, _)| *pid),
            );
            at += 1;
        }
        tree
    }

    fn used(&self, roots: &[u32]) -> Used {
        let mut used = Used::default();
        for pid in self.tree(roots) {
            let ticks = self.0.get(&pid).map_or(0, |p| p.ticks);
            used.cpu += ticks as f64 / ticks_per_second();
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
            used.switches += tasks
                .into_iter()
                .flatten()
                .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("status")).ok())
                .map(|text| parse_switches(&text))
                .sum::<u64>();
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_times_and_switches_are_read() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194304 100 0 0 0 30 12 5 3 20 0 1 0 100 1000 10";
        let want = Process {
            parent: 7,
            ticks: 50,
        };
        assert_eq!(parse_stat(line), Some(want));
        assert_eq!(parse_stat("garbage"), None);
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(parse_switches(status), 15);
    }

    #[test]
    fn a_tree_is_its_root_and_all_below() {
        let process = |parent| Process { parent, ticks: 1 };
        let all = Processes(HashMap::from([
            (1, process(0)),
            (2, process(1)),
            (3, process(2)),
            (4, process(1)),
        ]));
        let mut tree = all.tree(&[2]);
        tree.sort_unstable();
        assert_eq!(tree, [2, 3]);
        assert!(all.tree(&[]).is_empty());
    }
}
