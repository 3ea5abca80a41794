//! `sysbench`: its tests of threads, mutexes and the CPU.

use super::served::{self, Served};
use super::tool::{self, Tool};
use super::{Beside, Company, Roles, given_or, rounds, whole_seconds};
use crate::error::Result;
use crate::metric::{MetricDef, Outcome, latency_histogram, round_def};
use crate::strict;
use crate::workload::kind::{Context, Kind, Workload, bad};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::process::Command;

pub const KIND: Kind = Kind {
    name: "sysbench",
    about: "sysbench's threads, mutex or cpu: events and their latency, or the time of a round",
    measures: "Each thread begins the next event when the last one has ended: a closed loop. `threads`: an event locks one of \
        `locks` mutexes, yields the CPU and unlocks it, `yields` times; a scheduler that goes on running who yields lets \
        the others wait for the lock. `mutex`: the time of a round in which each thread takes one of `locks` mutexes 20 000 times, with some work in \
        between, median over the rounds that fit into the measured time. \
        `cpu`: an event finds prime numbers, so that it is shares and company that count. Percentiles are from sysbench's \
        histogram, whose steps are of 1.8 %.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.locks == 0 || p.yields == 0 {
            return Err(bad(place, "`locks` and `yields` must be positive"));
        }
        Ok(Box::new(Sysbench(p)))
    },
};

const SYSBENCH: Tool = Tool::new("sysbench", "sysbench");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Test {
    Threads,
    Mutex,
    Cpu,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    test: Test,
    /// 0: four per CPU, or one for the test of the CPU.
    threads: usize,
    locks: usize,
    /// Of each event of the test of threads.
    yields: usize,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            test: Test::Threads,
            threads: 0,
            locks: 4,
            yields: 200,
            beside: Beside::None,
        }
    }
}

struct Sysbench(Params);

/// The seconds all of it took, as sysbench printed them.
fn parse_total(text: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|l| l.trim().strip_prefix("total time:"))?;
    let seconds = line.trim().strip_suffix('s')?.parse().ok()?;
    (seconds > 0.0).then_some(seconds)
}

/// How long each event took in ns, and the seconds all of it took.
fn parse_histogram(text: &str) -> Option<(Histogram<u64>, f64)> {
    let seconds = parse_total(text)?;
    let mut latencies = latency_histogram();
    for line in text
        .lines()
        .skip_while(|l| !l.trim_start().starts_with("value  ---"))
        .skip(1)
        .map_while(|l| l.split_once('|'))
    {
        let ms: f64 = line.0.trim().parse().ok()?;
        let count = line.1.split_whitespace().last()?.parse().ok()?;
        latencies.saturating_record_n(((ms * 1e6) as u64).max(1), count);
    }
    (!latencies.is_empty()).then_some((latencies, seconds))
}

impl Sysbench {
    fn command(&self, cpus: usize) -> Result<Command> {
        let p = &self.0;
        let (test, per_cpu) = match p.test {
            Test::Threads => ("threads", 4),
            Test::Mutex => ("mutex", 4),
            Test::Cpu => ("cpu", 1),
        };
        let mut command = SYSBENCH.command(KIND.name)?;
        command
            .arg(test)
            .arg(format!("--threads={}", given_or(p.threads, per_cpu * cpus)));
        Ok(command)
    }

    /// Events for `seconds`.
    fn ask(&self, cpus: usize, seconds: f64) -> Result<Served> {
        let mut command = self.command(cpus)?;
        command
            .arg("--histogram")
            .arg(format!("--time={}", whole_seconds(seconds)));
        if self.0.test == Test::Threads {
            command.arg(format!("--thread-yields={}", self.0.yields));
            command.arg(format!("--thread-locks={}", self.0.locks));
        }
        let text = tool::run(command.arg("run"), KIND.name)?.stdout;
        let (latencies, seconds) =
            parse_histogram(&text).ok_or_else(|| tool::not_understood(KIND.name, &text))?;
        let rate = latencies.len() as f64 / seconds;
        Ok(Served::from_histogram(rate, &latencies))
    }

    /// One round of the mutexes, in seconds.
    fn round(&self, cpus: usize) -> Result<f64> {
        let mut command = self.command(cpus)?;
        command
            .args(["--mutex-locks=20000", "--mutex-loops=1000"])
            .arg(format!("--mutex-num={}", self.0.locks));
        let text = tool::run(command.arg("run"), KIND.name)?.stdout;
        parse_total(&text).ok_or_else(|| tool::not_understood(KIND.name, &text))
    }
}

impl Workload for Sysbench {
    fn metrics(&self) -> Vec<MetricDef> {
        let defs = match self.0.test {
            Test::Mutex => vec![round_def()],
            Test::Threads | Test::Cpu => served::defs(),
        };
        defs.into_iter().chain(Roles::defs(false)).collect()
    }

    fn check(&self) -> Result<()> {
        SYSBENCH.check(KIND.name)?;
        self.0.beside.check(KIND.name)
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let mut company = Company::start(self.0.beside, ctx.cpus, KIND.name)?;
        if self.0.test == Test::Mutex {
            return rounds::run(ctx, &mut company, || self.round(ctx.cpus));
        }
        if ctx.warmup > 0.0 {
            self.ask(ctx.cpus, ctx.warmup)?;
        }
        let (served, roles) = Roles::new(None, &company)
            .measure(ctx, &mut company, || self.ask(ctx.cpus, ctx.seconds))?;
        Ok(served.outcome(roles, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_histogram_is_read() {
        let text = include_str!("../../../fixtures/sysbench-1.0.20.txt");
        let (latencies, seconds) = parse_histogram(text).expect("understood");
        assert_eq!(latencies.len(), 2077, "as many as it says itself");
        assert_eq!(seconds, 2.0031);
        let p95 = latencies.value_at_quantile(0.95) as f64 / 1e6;
        assert!((9.8..10.1).contains(&p95), "sysbench says 9.91: {p95}");
    }

    #[test]
    fn without_a_histogram_nothing_is_read() {
        let text = include_str!("../../../fixtures/sysbench-1.0.20.txt");
        assert!(parse_histogram(&text.replace('|', " ")).is_none());
        assert!(parse_total("FATAL: no such test\n").is_none());
    }
}
