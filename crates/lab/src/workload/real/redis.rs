//! `redis`: redis-server, asked by redis-benchmark.

use super::served::{self, Served};
use super::server::{self, Server};
use super::tool::{self, Tool};
use super::{Beside, Company, Roles, given_or};
use crate::error::Result;
use crate::metric::{MetricDef, Outcome};
use crate::workload::kind::{Context, Kind, Workload, bad};
use crate::{strict, sys};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const KIND: Kind = Kind {
    name: "redis",
    about: "redis-server answers redis-benchmark: requests and their latency",
    measures: "redis-benchmark has `clients` connections and sends the next request on each, or the next `pipeline` requests \
        at once, when it has the answers to the last: a closed loop. One thread serves and one asks, so beyond two CPUs \
        it is wake-ups and company that count. redis-benchmark makes a fixed number of requests: so many that they take \
        the measured time at the rate it had before. Its percentiles go by powers of two: p99.9 is its 99.902 %.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.pipeline == 0 {
            return Err(bad(place, "`pipeline` must be positive"));
        }
        Ok(Box::new(Redis(p)))
    },
};

const SERVER: Tool = Tool::new("redis-server", "redis-server");
const BENCHMARK: Tool = Tool::new("redis-benchmark", "redis-tools");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Test {
    Get,
    Set,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    test: Test,
    /// Connections; 0: four per CPU.
    clients: usize,
    /// Requests sent at once on a connection.
    pipeline: usize,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            test: Test::Get,
            clients: 0,
            pipeline: 1,
            beside: Beside::None,
        }
    }
}

struct Redis(Params);

const KEYS: &str = "1000";
/// How many requests the rate is first found with.
const FIRST_REQUESTS: u64 = 1000;

/// Read redis-benchmark's report of one test.
fn parse(text: &str) -> Option<Served> {
    let rate = text
        .lines()
        .find_map(|l| l.trim().strip_prefix("throughput summary:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    // The first list is by percentile, the second by latency.
    let by_percentile: Vec<(f64, f64)> = text
        .lines()
        .skip_while(|l| !l.starts_with("Latency by percentile distribution"))
        .skip(1)
        .map_while(|l| {
            let (percent, rest) = l.split_once("% <= ")?;
            let ms = rest.split_whitespace().next()?;
            Some((percent.trim().parse().ok()?, ms.parse::<f64>().ok()?))
        })
        .collect();
    // p50 and p99 are in the summary: avg, min, p50, p95, p99, max.
    let summary = text
        .lines()
        .skip_while(|l| !l.trim_start().starts_with("latency summary"))
        .nth(2)?;
    let ms = summary
        .split_whitespace()
        .map(|w| w.parse().ok())
        .collect::<Option<Vec<f64>>>()?;
    let p999 = by_percentile.iter().find(|(p, _)| *p >= 99.9)?.1;
    Some(Served {
        requests_per_s: rate,
        latency_us: [*ms.get(2)?, *ms.get(4)?, p999].map(|ms| 1000.0 * ms),
    })
}

impl Redis {
    fn serve(&self, dir: &Path, port: u16) -> Result<Server> {
        let mut command = SERVER.server(KIND.name)?;
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(dir);
        Server::start(command, KIND.name, dir, Signal::TERM, || {
            server::answers(port)
        })
    }

    /// Give nearly all keys a value, so that there is something to get.
    fn fill(&self, port: u16, cpus: usize) -> Result<()> {
        let filling = Params {
            test: Test::Set,
            pipeline: 16,
            ..self.0.clone()
        };
        Redis(filling)
            .ask(port, cpus, 5 * FIRST_REQUESTS)
            .map(|_| ())
    }

    fn ask(&self, port: u16, cpus: usize, requests: u64) -> Result<Served> {
        let test = match self.0.test {
            Test::Get => "get",
            Test::Set => "set",
        };
        let mut command = BENCHMARK.command(KIND.name)?;
        command
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", test])
            .args(["-c", &given_or(self.0.clients, 4 * cpus).to_string()])
            .args(["-P", &self.0.pipeline.to_string()])
            // Over many keys, each with a value of a hundred bytes.
            .args(["-r", KEYS, "-d", "100", "-n", &requests.to_string()]);
        let text = tool::run(&mut command, KIND.name)?.stdout;
        // Progress is written over itself.
        let text = text.replace('\r', "\n");
        parse(&text).ok_or_else(|| tool::not_understood(KIND.name, &text))
    }

    /// Ask for `seconds`, and return the rate in the end.
    fn warm_up(&self, port: u16, cpus: usize, seconds: f64) -> Result<f64> {
        let start = sys::now_ns();
        let passed = || (sys::now_ns() - start) as f64 / 1e9;
        let mut rate = self.ask(port, cpus, FIRST_REQUESTS)?.requests_per_s;
        while passed() < seconds {
            rate = self
                .ask(port, cpus, requests_in(rate, seconds - passed()))?
                .requests_per_s;
        }
        Ok(rate)
    }
}

/// So many requests that they take `seconds` at `rate`, but not so few that percentiles mean nothing.
fn requests_in(rate: f64, seconds: f64) -> u64 {
    (rate * seconds).max(FIRST_REQUESTS as f64) as u64
}

impl Workload for Redis {
    fn metrics(&self) -> Vec<MetricDef> {
        served::of_a_server()
    }

    fn check(&self) -> Result<()> {
        SERVER.check(KIND.name)?;
        BENCHMARK.check(KIND.name)?;
        self.0.beside.check(KIND.name)
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let dir = server::folder()?;
        let port = server::free_port()?;
        let redis = self.serve(dir.path(), port)?;
        self.fill(port, ctx.cpus)?;
        let mut company = Company::start(self.0.beside, ctx.cpus, KIND.name)?;
        let rate = self.warm_up(port, ctx.cpus, ctx.warmup)?;
        let requests = requests_in(rate, ctx.seconds);
        let (served, roles) =
            Roles::new(Some(&redis), &company)
                .measure(ctx, &mut company, || self.ask(port, ctx.cpus, requests))?;
        Ok(served.outcome(roles, vec![format!("{requests} requests")]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_report_is_read() {
        let text = include_str!("../../../fixtures/redis-benchmark-7.0.15.txt").replace('\r', "\n");
        let want = Served {
            requests_per_s: 37_313.43,
            latency_us: [119.0, 239.0, 559.0],
        };
        assert_eq!(parse(&text), Some(want));
    }

    #[test]
    fn nothing_is_made_of_half_a_report() {
        assert_eq!(parse("GET: rps=0.0 (overall: 0.0)\n"), None);
        let text = include_str!("../../../fixtures/redis-benchmark-7.0.15.txt").replace('\r', "\n");
        let half = text.split("Summary:").next().expect("a part");
        assert_eq!(parse(half), None);
    }

    #[test]
    fn requests_follow_the_rate() {
        assert_eq!(requests_in(5000.0, 10.0), 50_000);
        assert_eq!(requests_in(10.0, 1.0), FIRST_REQUESTS);
    }
}
