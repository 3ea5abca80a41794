//! `cyclictest`: how late threads wake up that ordinary scheduling wakes at fixed times.

use super::tool::{self, Tool};
use super::{Beside, Company, Roles, given_or, whole_seconds};
use crate::error::Result;
use crate::metric::{
    MetricDef, Outcome, SavedHistogram, latency_histogram, percentile_defs, percentiles_us,
};
use crate::strict;
use crate::workload::kind::{Context, Kind, Workload, bad};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub const KIND: Kind = Kind {
    name: "cyclictest",
    about: "cyclictest of rt-tests under the ordinary policy: how late its threads wake up",
    measures: "Each thread sleeps until its next time, which is fixed beforehand, and notes how late it runs: an open loop, \
        although a thread that missed times goes on with the next one that is still to come. With --policy=other, so that \
        it is the scheduler under test that is measured and not the real-time classes. What is later than 50 ms is \
        counted as 50 ms, and said.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        if p.interval_us == 0 {
            return Err(bad(place, "`interval_us` must be positive"));
        }
        Ok(Box::new(Cyclictest(p)))
    },
};

const CYCLICTEST: Tool = Tool::new("cyclictest", "rt-tests");
/// Where its histogram ends.
const LATEST_US: usize = 50_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// 0: one per CPU.
    threads: usize,
    interval_us: u64,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            threads: 0,
            interval_us: 3000,
            beside: Beside::None,
        }
    }
}

struct Cyclictest(Params);

/// What cyclictest printed.
struct Parsed {
    /// All threads' latencies in ns.
    latencies: Histogram<u64>,
    /// How many were later than the histogram reaches; they are in it with its end.
    beyond: u64,
}

/// Read the histogram: a line for each µs with a count for each thread, then sums.
fn parse(text: &str) -> Option<Parsed> {
    let mut parsed = Parsed {
        latencies: latency_histogram(),
        beyond: 0,
    };
    let mut end = 0;
    let counts = |words: &str| -> u64 {
        words
            .split_whitespace()
            .filter_map(|w| w.parse::<u64>().ok())
            .sum()
    };
    for line in text.lines() {
        if let Some(beyond) = line.strip_prefix("# Histogram Overflows:") {
            parsed.beyond = counts(beyond);
        } else if !line.starts_with('#')
            && let Some((us, rest)) = line.split_once(' ')
            && let Ok(us) = us.parse::<u64>()
        {
            end = us + 1;
            parsed
                .latencies
                .saturating_record_n((1000 * us).max(1), counts(rest));
        }
    }
    parsed
        .latencies
        .saturating_record_n(1000 * end.max(1), parsed.beyond);
    (!parsed.latencies.is_empty()).then_some(parsed)
}

impl Cyclictest {
    fn measure(&self, cpus: usize, seconds: f64) -> Result<Parsed> {
        let mut command = CYCLICTEST.command(KIND.name)?;
        command
            .args(["--policy=other", "--default-system", "-q"])
            .args(["-t", &given_or(self.0.threads, cpus).to_string()])
            .args(["-i", &self.0.interval_us.to_string()])
            .args(["-D", &whole_seconds(seconds)])
            .args(["-h", &LATEST_US.to_string()]);
        let text = tool::run(&mut command, KIND.name)?.stdout;
        parse(&text).ok_or_else(|| tool::not_understood(KIND.name, &text))
    }
}

impl Workload for Cyclictest {
    fn metrics(&self) -> Vec<MetricDef> {
        percentile_defs("latency", Some("p99"))
            .into_iter()
            .chain(Roles::defs(false))
            .collect()
    }

    fn check(&self) -> Result<()> {
        CYCLICTEST.check(KIND.name)?;
        self.0.beside.check(KIND.name)
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let mut company = Company::start(self.0.beside, ctx.cpus, KIND.name)?;
        if ctx.warmup > 0.0 {
            self.measure(ctx.cpus, ctx.warmup)?;
        }
        let (parsed, roles) = Roles::new(None, &company)
            .measure(ctx, &mut company, || self.measure(ctx.cpus, ctx.seconds))?;
        let Parsed { latencies, beyond } = parsed;
        let late = format!("{beyond} wake-ups were later than {} ms", LATEST_US / 1000);
        Ok(Outcome {
            metrics: percentiles_us("latency", &latencies, Some("p99"))
                .into_iter()
                .chain(roles)
                .collect(),
            histograms: vec![SavedHistogram::from_hdr("latency", "ns", &latencies)],
            notes: (beyond > 0).then_some(late).into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_histogram_is_read_with_what_is_beyond_it() {
        let parsed = parse(include_str!("../../../fixtures/cyclictest-2.40.txt")).expect("read");
        // It says how many each thread had that are in the histogram, and how many are not.
        assert_eq!(parsed.beyond, 162 + 62);
        assert_eq!(parsed.latencies.len(), 172 + 271 + parsed.beyond);
        assert!(
            parsed.latencies.max() >= 100_000,
            "the end of the histogram"
        );
    }

    #[test]
    fn nothing_is_made_of_no_histogram() {
        assert!(parse("cyclictest: unknown option\n").is_none());
    }
}
