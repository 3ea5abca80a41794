//! `pgbench`: PostgreSQL, asked by its own benchmark.

use super::postgres::{self, Database};
use super::served::{self, Served};
use super::{Beside, Company, Roles, given_or, whole_seconds};
use super::{server, tool};
use crate::error::Result;
use crate::metric::{MetricDef, Outcome, SavedHistogram};
use crate::strict;
use crate::workload::kind::{Context, Kind, Workload, bad};
use scx_ml_text::Show;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const KIND: Kind = Kind {
    name: "pgbench",
    about: "PostgreSQL answers pgbench: transactions and their latency",
    measures: "With rate=0 each client begins the next transaction when the last one has ended: a closed loop. With a rate \
        transactions are due at random times, and latency runs from when one was due: an open loop, in which what waits \
        for a client counts. Scripts: `select` reads one row, `tpcb` changes four tables. The server has a process for each \
        client. Nothing is forced to disk (fsync=off): disks are not what is compared.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.scale == 0 || !p.rate.is_finite() || p.rate < 0.0 {
            return Err(bad(place, "`scale` must be positive, `rate` not negative"));
        }
        Ok(Box::new(Pgbench(p)))
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Script {
    Select,
    Tpcb,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    script: Script,
    /// 0: four per CPU.
    clients: usize,
    /// Threads of pgbench; 0: one per CPU, but no more than clients.
    threads: usize,
    /// Transactions due each second; 0: as many as are answered.
    rate: f64,
    /// Size of the tables: 100 000 rows for each. Transactions of tpcb wait for each other if it is less than clients.
    scale: usize,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            script: Script::Select,
            clients: 0,
            threads: 0,
            rate: 0.0,
            scale: 2,
            beside: Beside::None,
        }
    }
}

struct Pgbench(Params);

/// The rate in what pgbench prints, which leaves it out if it is 0.
fn parse_rate(text: &str) -> Option<f64> {
    let number = |key: &str| -> Option<f64> {
        let line = text.lines().find_map(|l| l.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let none = number("number of transactions actually processed:") == Some(0.0);
    number("tps =").or(none.then_some(0.0))
}

impl Pgbench {
    /// Ask for `seconds`; the log of what was answered goes to `log`, if there is one.
    fn ask(
        &self,
        database: &Database,
        cpus: usize,
        seconds: f64,
        log: Option<&Path>,
    ) -> Result<f64> {
        let p = &self.0;
        let clients = given_or(p.clients, 4 * cpus);
        let threads = given_or(p.threads, cpus).min(clients);
        let mut command = database.pgbench()?;
        command.args(["-n", "-T", &whole_seconds(seconds)]).args([
            "-c",
            &clients.to_string(),
            "-j",
            &threads.to_string(),
        ]);
        if p.script == Script::Select {
            command.arg("-S");
        }
        if p.rate > 0.0 {
            command.args(["-R", &p.rate.to_string()]);
        }
        if let Some(log) = log {
            command.arg("-l");
            command.arg(format!("--log-prefix={}", log.join("log").shown()));
        }
        let text = tool::run(command.arg("postgres"), KIND.name)?.stdout;
        parse_rate(&text).ok_or_else(|| tool::not_understood(KIND.name, &text))
    }
}

impl Workload for Pgbench {
    fn metrics(&self) -> Vec<MetricDef> {
        served::defs()
            .into_iter()
            // With a rate as many are answered as are due, unless the server is overloaded.
            .map(|def| MetricDef {
                headline: def.headline && (self.0.rate == 0.0 || def.name != "requests_per_s"),
                ..def
            })
            .chain(Roles::defs(true))
            .filter(|def| def.name != "server_switches")
            .collect()
    }

    fn check(&self) -> Result<()> {
        postgres::check()?;
        self.0.beside.check(KIND.name)
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let database = Database::with_tables(self.0.scale, ctx.shared)?;
        let logs = server::folder()?;
        let postgres = database.serve()?;
        let mut company = Company::start(self.0.beside, ctx.cpus, KIND.name)?;
        if ctx.warmup > 0.0 {
            self.ask(&database, ctx.cpus, ctx.warmup, None)?;
        }
        let (rate, roles) =
            Roles::forking(&postgres, &company).measure(ctx, &mut company, || {
                self.ask(&database, ctx.cpus, ctx.seconds, Some(logs.path()))
            })?;
        let latencies = super::pgbench_log::read(logs.path())?;
        let mut outcome = Served::from_histogram(rate, &latencies)
            .outcome(roles, vec![format!("{} transactions", latencies.len())]);
        for (metric, def) in outcome.metrics.iter_mut().zip(self.metrics()) {
            metric.def = def;
        }
        outcome.histograms = vec![SavedHistogram::from_hdr("latency", "ns", &latencies)];
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read() {
        let text = include_str!("../../../fixtures/pgbench-15.18.txt");
        assert_eq!(parse_rate(text), Some(23684.668532));
        let starved = "duration: 1 s\nnumber of transactions actually processed: 0\n\
             number of failed transactions: 0 (NaN%)\n";
        assert_eq!(parse_rate(starved), Some(0.0));
        assert_eq!(parse_rate("pgbench: error: connection failed\n"), None);
    }

    #[test]
    fn an_open_loop_is_not_judged_by_its_rate() {
        let open = Pgbench(Params {
            rate: 100.0,
            ..Params::default()
        });
        let headlines: Vec<String> = open
            .metrics()
            .into_iter()
            .filter(|d| d.headline)
            .map(|d| d.name)
            .collect();
        assert_eq!(headlines, ["latency_p99"]);
    }
}
