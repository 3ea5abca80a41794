//! `schbench`: the real one, where it is installed.

use super::kind::{Context, Kind, Workload};
use crate::error::{LabError, Result};
use crate::metric::{Better, MetricDef, Outcome, percentile_defs};
use crate::{strict, sys};
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};

pub const KIND: Kind = Kind {
    name: "schbench",
    about: "the real schbench, if it is on the PATH: its wake-up and request latencies and its rate",
    measures: "The last interval's percentiles and the average rate that schbench prints. Its request latency begins when a \
        worker starts on a request, and its -R mode does not count queueing at all; for queueing see open-loop. Published \
        run-to-run spreads are large: 30 s or more are advisable. schbench warms up only in runs of 30 s and longer.",
    keys: strict::known_keys::<Params>,
    build: |table, place| Ok(Box::new(Schbench(strict::read(table, place)?))),
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    messengers: usize,
    /// Workers per messenger; 0: four per CPU, divided among the messengers.
    workers: usize,
    /// Further arguments, split as a shell would.
    args: String,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            messengers: 1,
            workers: 0,
            args: String::new(),
        }
    }
}

struct Schbench(Params);

fn rps_def() -> MetricDef {
    MetricDef::headline("requests_per_s", "1/s", Better::Higher)
}

/// What schbench printed last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// p50, p99 and p99.9 in µs.
    pub wakeup: [Option<f64>; 3],
    pub request: [Option<f64>; 3],
    pub rps: Option<f64>,
}

/// Read schbench's output. Later intervals replace earlier ones, as they cover more of the run.
pub fn parse(text: &str) -> Parsed {
    enum Section {
        Wakeup,
        Request,
        Other,
    }
    let (mut parsed, mut section) = (Parsed::default(), Section::Other);
    for line in text.lines() {
        let line = line.trim().trim_start_matches('*').trim_start();
        if line.starts_with("Wakeup Latencies") {
            section = Section::Wakeup;
        } else if line.starts_with("Request Latencies") {
            section = Section::Request;
        } else if line.starts_with("RPS percentiles") {
            section = Section::Other;
        } else if let Some(v) = line
            .strip_prefix("average rps:")
            .or_else(|| line.strip_prefix("current rps:"))
        {
            parsed.rps = v.trim().parse().ok().or(parsed.rps);
        } else if let Some((percentile, rest)) = line.split_once("th:") {
            let into = match section {
                Section::Wakeup => &mut parsed.wakeup,
                Section::Request => &mut parsed.request,
                Section::Other => continue,
            };
            let value = rest.split_whitespace().next().and_then(|v| v.parse().ok());
            match percentile.parse::<f64>() {
                Ok(50.0) => into[0] = value,
                Ok(99.0) => into[1] = value,
                Ok(99.9) => into[2] = value,
                _ => {}
            }
        }
    }
    parsed
}

impl Workload for Schbench {
    fn metrics(&self) -> Vec<MetricDef> {
        let mut defs = percentile_defs("wakeup", Some("p99"));
        defs.extend(percentile_defs("request", None));
        defs.push(rps_def());
        defs
    }

    fn check(&self) -> Result<()> {
        if sys::find_program("schbench").is_none() {
            return Err(LabError::MissingProgram {
                program: "schbench".to_string(),
                needed_by: format!("workload `{}`", KIND.name),
                hint: "build it from its sources, or use schbench-like".to_string(),
            });
        }
        shlex::split(&self.0.args)
            .map(|_| ())
            .ok_or_else(|| LabError::BadValue {
                place: format!("workload `{}`", KIND.name),
                why: "the quotes in `args` do not match".to_string(),
            })
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let p = &self.0;
        let failed = |why: String| LabError::workload(KIND.name, why);
        let messengers = p.messengers.max(1);
        let workers = if p.workers == 0 {
            (4 * ctx.cpus).div_ceil(messengers)
        } else {
            p.workers
        };
        let whole = |s: f64| format!("{}", s.ceil().max(1.0));
        // Without -w schbench measures from the start; it ignores -w in short runs, so the warm-up is slept through here.
        let child = Command::new("schbench")
            .args(["-m", &messengers.to_string(), "-t", &workers.to_string()])
            .args([
                "-r",
                &whole(ctx.seconds + ctx.warmup),
                "-i",
                &whole(ctx.seconds + ctx.warmup),
                "-w",
                &whole(ctx.warmup),
            ])
            .args(shlex::split(&p.args).unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| failed(format!("it did not start: {e}")))?;
        std::thread::sleep(std::time::Duration::from_secs_f64(ctx.warmup));
        ctx.window.begin();
        let out = child
            .wait_with_output()
            .map_err(|e| failed(e.to_string()))?;
        ctx.window.end();
        // schbench reports on stderr in some versions and on stdout in others.
        let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        if !out.status.success() {
            return Err(failed(format!(
                "it ended with {}: {}",
                out.status,
                text.trim()
            )));
        }
        let parsed = parse(&text);
        let mut metrics = Vec::new();
        for (prefix, headline, values) in [
            ("wakeup", Some("p99"), parsed.wakeup),
            ("request", None, parsed.request),
        ] {
            for (def, value) in percentile_defs(prefix, headline).into_iter().zip(values) {
                metrics.extend(value.map(|v| def.measured(v)));
            }
        }
        metrics.extend(parsed.rps.map(|v| rps_def().measured(v)));
        if metrics.len() != self.metrics().len() {
            return Err(failed(format!(
                "its output was not understood:\n{}",
                text.trim()
            )));
        }
        Ok(Outcome {
            metrics,
            ..Outcome::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_output_is_read_and_the_last_interval_counts() {
        let p = parse(include_str!("../../fixtures/schbench.txt"));
        assert_eq!(p.wakeup, [Some(69.0), Some(85376.0), Some(262656.0)]);
        assert_eq!(p.request, [Some(81792.0), Some(360960.0), Some(492032.0)]);
        assert_eq!(p.rps, Some(58.24));
    }

    #[test]
    fn foreign_output_gives_nothing() {
        assert_eq!(parse("usage: schbench\n 50.0th: 3\n"), Parsed::default());
    }
}
