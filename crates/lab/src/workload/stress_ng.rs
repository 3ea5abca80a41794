//! `stress-ng`: throughput of stress-ng's stressors, from its own YAML report.

use super::kind::{Context, Kind, Workload, bad};
use super::real::{Beside, Company, Tool};
use crate::error::{LabError, Result};
use crate::metric::{Better, MetricDef, Outcome};
use crate::strict;
use serde::{Deserialize, Serialize};

pub const KIND: Kind = Kind {
    name: "stress-ng",
    about: "a stress-ng stressor (switch, pipe, futex, yield, cpu, fork, …) or several: bogo operations per second",
    measures: "Bogo operations per second of real time, as stress-ng reports them. They are comparable between schedulers \
        on one machine and one version of stress-ng, and nowhere else. With several stressors side by side each has its \
        own metric, and `total_relative` is their geometric mean: how the CPU was shared between them moves the parts, \
        so look at both. Classes are sets of stressors: `mixed`, `messages` (pipes, queues, semaphores), `births` (new \
        processes and threads) and `sleeps` (timers).",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        let names = p.names();
        if names.is_empty()
            || names
                .iter()
                .any(|n| !n.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        {
            return Err(bad(
                place,
                "`stressor` is a stressor of stress-ng, or several joined by +",
            ));
        }
        Ok(Box::new(StressNg(p)))
    },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// One, several joined by `+`, or one of [`CLASSES`].
    stressor: String,
    /// Instances of each; 0: as many as CPUs.
    instances: usize,
    beside: Beside,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            stressor: "switch".to_string(),
            instances: 0,
            beside: Beside::None,
        }
    }
}

impl Params {
    fn names(&self) -> Vec<&str> {
        let class = CLASSES.iter().find(|(name, _)| *name == self.stressor);
        class
            .map_or(self.stressor.as_str(), |(_, stressors)| stressors)
            .split('+')
            .map(str::trim)
            .filter(|s| !s.is_empty())
            .collect()
    }
}

const STRESS_NG: Tool = Tool::new("stress-ng", "stress-ng");

struct StressNg(Params);

/// What loads a scheduler in the same way, side by side. stress-ng's own class `scheduler` has stressors that change
/// policies and affinities, and such that stop the machine.
const CLASSES: [(&str, &str); 4] = [
    ("mixed", "switch+pipe+futex+yield+cpu+fork"),
    ("messages", "pipe+mq+msg+sem+eventfd"),
    ("births", "fork+vfork+pthread"),
    ("sleeps", "nanosleep+poll"),
];

fn total_def() -> MetricDef {
    MetricDef::headline("total_relative", "1/s", Better::Higher)
}

fn part_def(name: &str, alone: bool) -> MetricDef {
    let def = MetricDef::new(&format!("{name}_ops"), "1/s", Better::Higher);
    MetricDef {
        headline: alone,
        ..def
    }
}

/// A stressor's line in the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Stressed {
    pub stressor: String,
    pub ops_per_s: f64,
}

/// Read the `metrics:` list of a `--yaml` report. Only the two keys needed are looked at, so that versions that add
/// others do not matter.
pub fn parse_yaml(text: &str) -> Vec<Stressed> {
    let mut found: Vec<Stressed> = Vec::new();
    let mut name: Option<String> = None;
    for line in text
        .lines()
        .skip_while(|l| l.trim_end() != "metrics:")
        .skip(1)
    {
        let Some((key, value)) = line.trim().trim_start_matches("- ").split_once(':') else {
            if line.starts_with("...") {
                break;
            }
            continue;
        };
        let value = value.trim();
        match key.trim() {
            "stressor" => name = Some(value.to_string()),
            "bogo-ops-per-second-real-time" => {
                if let (Some(stressor), Ok(ops_per_s)) = (name.take(), value.parse()) {
                    found.push(Stressed {
                        stressor,
                        ops_per_s,
                    });
                }
            }
            _ => {}
        }
    }
    found
}

impl Workload for StressNg {
    fn metrics(&self) -> Vec<MetricDef> {
        let names = self.0.names();
        let mut defs: Vec<MetricDef> = names
            .iter()
            .map(|n| part_def(n, names.len() == 1))
            .collect();
        if names.len() > 1 {
            defs.push(total_def());
        }
        defs
    }

    fn check(&self) -> Result<()> {
        STRESS_NG.check(KIND.name)?;
        self.0.beside.check(KIND.name)
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let failed = |why: String| LabError::workload(KIND.name, why);
        let dir = tempfile::tempdir().map_err(|e| LabError::file(std::env::temp_dir(), e))?;
        let report = dir.path().join("report.yaml");
        let instances = if self.0.instances == 0 {
            ctx.cpus
        } else {
            self.0.instances
        };
        // stress-ng takes whole seconds. It has no warm-up of its own, so it gets a run of its own for that.
        let ran = |seconds: f64| -> Result<String> {
            let mut cmd = STRESS_NG.command(KIND.name)?;
            for n in self.0.names() {
                cmd.arg(format!("--{n}")).arg(instances.to_string());
            }
            cmd.args([
                "--timeout",
                &format!("{}s", seconds.ceil().max(1.0)),
                "--metrics-brief",
                "--yaml",
            ])
            .arg(&report);
            let out = cmd
                .current_dir(dir.path())
                .output()
                .map_err(|e| failed(format!("stress-ng did not start: {e}")))?;
            if !out.status.success() {
                let text = String::from_utf8_lossy(&out.stderr);
                return Err(failed(format!(
                    "stress-ng ended with {}: {}",
                    out.status,
                    text.trim()
                )));
            }
            std::fs::read_to_string(&report).map_err(|e| LabError::file(&report, e))
        };
        let mut company = Company::start(self.0.beside, ctx.cpus, KIND.name)?;
        if ctx.warmup >= 1.0 {
            ran(ctx.warmup)?;
        }
        ctx.window.begin();
        let text = ran(ctx.seconds)?;
        ctx.window.end();
        company.verify()?;
        let found = parse_yaml(&text);
        let names = self.0.names();
        let mut metrics = Vec::new();
        for n in &names {
            let f = found
                .iter()
                .find(|f| f.stressor == *n)
                .ok_or_else(|| failed(format!("stress-ng's report has no line for `{n}`")))?;
            metrics.push(part_def(n, names.len() == 1).measured(f.ops_per_s));
        }
        if names.len() > 1 {
            let mean_log =
                metrics.iter().map(|m| m.value.max(1e-9).ln()).sum::<f64>() / metrics.len() as f64;
            metrics.push(total_def().measured(mean_log.exp()));
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
    fn a_recorded_report_is_read() {
        let one = parse_yaml(include_str!("../../fixtures/stress-ng-0.15.06-pipe.yaml"));
        assert_eq!(
            one,
            vec![Stressed {
                stressor: "pipe".to_string(),
                ops_per_s: 727_005.135_370
            }]
        );
        let mixed = parse_yaml(include_str!("../../fixtures/stress-ng-0.15.06-mixed.yaml"));
        let names: Vec<&str> = mixed.iter().map(|s| s.stressor.as_str()).collect();
        assert_eq!(names, ["switch", "pipe", "yield"]);
        assert!(mixed.iter().all(|s| s.ops_per_s > 1000.0));
    }

    #[test]
    fn an_empty_report_gives_nothing() {
        assert!(parse_yaml("").is_empty());
        assert!(parse_yaml("---\nmetrics:\n...\n").is_empty());
    }

    #[test]
    fn options_cannot_be_smuggled_in() {
        let table: toml::Table = [("stressor".to_string(), "cpu --pathological".into())]
            .into_iter()
            .collect();
        assert!((KIND.build)(&table, "t").is_err());
    }
}
