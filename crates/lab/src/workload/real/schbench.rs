//! `schbench`: Chris Mason's, where it is on the PATH.

use super::tool::{self, Printed};
use super::{Beside, Company, Roles, given_or, whole_seconds};
use crate::error::{LabError, Result};
use crate::metric::{MetricDef, Outcome, percentile_defs, throughput_def};
use crate::workload::kind::{Context, Kind, Workload, bad};
use crate::{strict, sys};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::process::Command;

pub const KIND: Kind = Kind {
    name: "schbench",
    about: "schbench itself, if it is on the PATH: its wake-up and request latencies and its rate",
    measures: "The percentiles over the whole measured time and the average rate that schbench prints in the end. A request \
        is a short sleep and `operations` multiplications of matrices, done while its worker holds the lock of the CPU it \
        is on: a worker that is preempted makes those that come to that CPU wait. Request latency begins when a worker \
        *starts* on a request. The loop is closed: a slow scheduler also gets fewer requests. Published spreads between \
        runs are large: 30 s or more are advisable.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        let args =
            shlex::split(&p.args).ok_or_else(|| bad(place, "the quotes in `args` do not match"))?;
        if p.messengers == 0 || p.operations == 0 || p.footprint_kib == 0 {
            return Err(bad(
                place,
                "`messengers`, `operations` and `footprint_kib` must be positive",
            ));
        }
        Ok(Box::new(Schbench { params: p, args }))
    },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    messengers: usize,
    /// Workers of each messenger; 0: four per CPU, divided among the messengers.
    workers: usize,
    /// Multiplications in a request (schbench's own default: 5).
    operations: usize,
    /// Memory the matrices of a worker take (schbench's own default: 256).
    footprint_kib: usize,
    /// Further arguments, split as a shell would.
    args: String,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            messengers: 1,
            workers: 0,
            operations: 2,
            footprint_kib: 64,
            args: String::new(),
            beside: Beside::None,
        }
    }
}

struct Schbench {
    params: Params,
    args: Vec<String>,
}

/// What schbench printed last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// p50, p99 and p99.9 in µs.
    pub wakeup: [Option<f64>; 3],
    pub request: [Option<f64>; 3],
    pub rps: Option<f64>,
}

/// Read schbench's output. Later reports replace earlier ones, as they cover more of the run; the last one has the
/// average rate.
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
        } else if let Some(v) = line.strip_prefix("average rps:") {
            parsed.rps = v.trim().parse().ok();
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

impl Schbench {
    fn command(&self, cpus: usize, seconds: f64) -> Command {
        let p = &self.params;
        let workers = given_or(p.workers, (4 * cpus).div_ceil(p.messengers));
        let mut command = Command::new("schbench");
        tool::tie(&mut command, Signal::KILL);
        for (option, value) in [
            ("-m", p.messengers),
            ("-t", workers),
            ("-n", p.operations),
            ("-F", p.footprint_kib),
        ] {
            command.args([option, &value.to_string()]);
        }
        // One report, at the end, over all of the time: schbench's own warm-up would leave the rate's average alone.
        let seconds = whole_seconds(seconds);
        command.args(["-r", &seconds, "-i", &seconds, "-w", "0"]);
        command.args(&self.args);
        command
    }
}

impl Workload for Schbench {
    fn metrics(&self) -> Vec<MetricDef> {
        let mut defs = percentile_defs("wakeup", Some("p99"));
        defs.extend(percentile_defs("request", Some("p99")));
        defs.push(throughput_def());
        defs.extend(Roles::defs(false));
        defs
    }

    fn check(&self) -> Result<()> {
        if sys::find_program("schbench").is_none() {
            return Err(LabError::MissingProgram {
                program: "schbench".to_string(),
                needed_by: format!("workload `{}`", KIND.name),
                hint: "Debian has no package of it: build it from its source (github.com/masoncl/schbench) and put it on \
                    the PATH, or use schbench-like"
                    .to_string(),
            });
        }
        self.params.beside.check(KIND.name)
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let mut company = Company::start(self.params.beside, ctx.cpus, KIND.name)?;
        if ctx.warmup > 0.0 {
            tool::run(&mut self.command(ctx.cpus, ctx.warmup), KIND.name)?;
        }
        let (printed, roles) = Roles::new(None, &company).measure(ctx, &mut company, || {
            tool::run(&mut self.command(ctx.cpus, ctx.seconds), KIND.name)
        })?;
        // It reports on stderr; older versions did in part on stdout.
        let Printed { stdout, stderr } = printed;
        let text = stdout + &stderr;
        let parsed = parse(&text);
        let values = parsed.wakeup.into_iter().chain(parsed.request);
        let values = values.chain([parsed.rps]).collect::<Option<Vec<f64>>>();
        let values = values.ok_or_else(|| tool::not_understood(KIND.name, &text))?;
        let metrics = self.metrics().into_iter().zip(values);
        Ok(Outcome {
            metrics: metrics
                .map(|(def, v)| def.measured(v))
                .chain(roles)
                .collect(),
            ..Outcome::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_is_read_and_the_last_report_counts() {
        let parsed = parse(include_str!("../../../fixtures/schbench.txt"));
        assert_eq!(
            parsed,
            Parsed {
                wakeup: [Some(18.0), Some(382.0), Some(3916.0)],
                request: [Some(549.0), Some(15760.0), Some(23776.0)],
                rps: Some(2588.67),
            }
        );
    }

    #[test]
    fn a_run_that_was_cut_off_has_no_rate() {
        let whole = include_str!("../../../fixtures/schbench.txt");
        let cut = &whole[..whole.len() / 2];
        assert_eq!(parse(cut).rps, None);
        assert_eq!(parse("setting worker threads to 8\n"), Parsed::default());
    }

    #[test]
    fn workers_are_four_a_cpu_and_each_option_is_passed() {
        let params = Params {
            messengers: 2,
            ..Params::default()
        };
        let schbench = Schbench {
            params,
            args: vec!["--pipe".to_string()],
        };
        let command = schbench.command(4, 2.5);
        let args: Vec<_> = command.get_args().filter_map(|a| a.to_str()).collect();
        let want = "-m 2 -t 8 -n 2 -F 64 -r 3 -i 3 -w 0 --pipe";
        assert_eq!(args.join(" "), want);
    }
}
