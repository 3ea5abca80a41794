//! `command`: any program of the user's, with a regular expression for its metric.

use super::kind::{Context, Kind, Workload, bad};
use crate::error::{LabError, Result};
use crate::metric::{Better, MetricDef, Outcome};
use crate::{strict, sys};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};

pub const KIND: Kind = Kind {
    name: "command",
    about: "a program of your own; a regular expression finds the metric in its output",
    measures: "The number that the first group of `regex` captures in what the program prints, the last match if there are \
        several; without a regex, how long it ran. `{seconds}`, `{cpus}` and `{seed}` in the command are replaced. It is \
        run once, without a warm-up run.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        let argv = shlex::split(&p.command).filter(|a| !a.is_empty());
        let argv =
            argv.ok_or_else(|| bad(place, "`command` is missing or its quotes do not match"))?;
        let regex = match p.regex.as_str() {
            "" => None,
            r => Some(Regex::new(r).map_err(|e| bad(place, format!("`regex`: {e}")))?),
        };
        if regex.as_ref().is_some_and(|r| r.captures_len() < 2) {
            return Err(bad(
                place,
                "`regex` needs a group that captures the number, such as ([0-9.]+)",
            ));
        }
        Ok(Box::new(UserCommand {
            argv,
            regex,
            params: p,
        }))
    },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    command: String,
    regex: String,
    metric: String,
    unit: String,
    better: Better,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            command: String::new(),
            regex: String::new(),
            metric: "time".to_string(),
            unit: "s".to_string(),
            better: Better::Lower,
        }
    }
}

struct UserCommand {
    argv: Vec<String>,
    regex: Option<Regex>,
    params: Params,
}

/// The number the last match of `regex` captured.
fn extract(regex: &Regex, text: &str) -> Option<f64> {
    regex
        .captures_iter(text)
        .last()
        .and_then(|c| c.get(1))
        .and_then(|m| m.as_str().replace(',', "").parse().ok())
}

impl UserCommand {
    fn def(&self) -> MetricDef {
        MetricDef::headline(&self.params.metric, &self.params.unit, self.params.better)
    }
}

impl Workload for UserCommand {
    fn metrics(&self) -> Vec<MetricDef> {
        vec![self.def()]
    }

    fn check(&self) -> Result<()> {
        sys::find_program(&self.argv[0])
            .map(|_| ())
            .ok_or_else(|| LabError::MissingProgram {
                program: self.argv[0].clone(),
                needed_by: format!("workload `{}`", KIND.name),
                hint: "check its name and the PATH".to_string(),
            })
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let failed = |why: String| LabError::workload(KIND.name, why);
        let fill = |a: &String| {
            a.replace("{seconds}", &ctx.seconds.ceil().to_string())
                .replace("{cpus}", &ctx.cpus.to_string())
                .replace("{seed}", &ctx.seed.to_string())
        };
        let mut cmd = Command::new(
            sys::find_program(&self.argv[0]).unwrap_or_else(|| (&self.argv[0]).into()),
        );
        cmd.args(self.argv[1..].iter().map(fill))
            .stdin(Stdio::null());
        ctx.window.begin();
        let start = sys::now_ns();
        let out = cmd
            .output()
            .map_err(|e| failed(format!("`{}` did not start: {e}", self.argv[0])))?;
        let took = (sys::now_ns() - start) as f64 / 1e9;
        ctx.window.end();
        let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        if !out.status.success() {
            return Err(failed(format!(
                "`{}` ended with {}: {}",
                self.params.command,
                out.status,
                text.trim()
            )));
        }
        let value = match &self.regex {
            None => took,
            Some(r) => extract(r, &text).ok_or_else(|| {
                failed(format!(
                    "`{}` matches no number in the output:\n{}",
                    r,
                    text.trim()
                ))
            })?,
        };
        Ok(Outcome {
            metrics: vec![self.def().measured(value)],
            ..Outcome::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_match_counts_and_thousands_may_be_separated() {
        let r = Regex::new(r"rate: ([0-9.,]+)").expect("valid");
        assert_eq!(extract(&r, "rate: 3\nrate: 1,234.5 ops"), Some(1234.5));
        assert_eq!(extract(&r, "nothing"), None);
    }

    #[test]
    fn a_regex_without_a_group_is_refused() {
        let t: toml::Table = "command = 'true'\nregex = 'x+'".parse().expect("valid");
        let err = (KIND.build)(&t, "w")
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(err.contains("group"), "{err}");
    }
}
