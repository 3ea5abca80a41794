//! One scheduler, and one workload, as they are named on the command line and in files.

use crate::error::{LabError, Result};
use serde::{Deserialize, Serialize};

/// The scheduler name that stands for the kernel's own.
pub const KERNEL_SCHEDULER: &str = "eevdf";

/// One scheduler to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchedulerSpec {
    /// Unique in the experiment; defaults to the command.
    pub label: String,
    /// `eevdf`, or a program with arguments as a shell would split them.
    pub command: String,
    /// The start of the name the kernel must show in `root/ops`. Absent: derived from the program's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops: Option<String>,
}

impl SchedulerSpec {
    /// A scheduler from its command alone.
    pub fn from_command(command: &str) -> Self {
        Self {
            label: command.trim().to_string(),
            command: command.trim().to_string(),
            ops: None,
        }
    }

    /// Parse a command, or `NAME=COMMAND` with the name to use in tables. A name has letters, digits and `_.+-`.
    pub fn parse(text: &str) -> Self {
        let is_name = |name: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
            !name.is_empty() && name.chars().all(allowed)
        };
        match text.trim().split_once('=') {
            Some((name, command)) if is_name(name) => Self {
                label: name.to_string(),
                ..Self::from_command(command)
            },
            _ => Self::from_command(text),
        }
    }

    /// Whether this is the kernel's own scheduler, for which nothing has to be started.
    pub fn is_kernel(&self) -> bool {
        self.command == KERNEL_SCHEDULER
    }

    /// Whether this is scx_ml, in whatever mode.
    pub fn is_scx_ml(&self) -> bool {
        let argv = self.argv().unwrap_or_default();
        let program = argv.first().map(std::path::Path::new);
        program.and_then(|p| p.file_name()) == Some("scx_ml".as_ref())
    }

    /// Program and arguments.
    ///
    /// # Errors
    /// If the command is empty or its quotes do not match.
    pub fn argv(&self) -> Result<Vec<String>> {
        shlex::split(&self.command)
            .filter(|v| !v.is_empty())
            .ok_or_else(|| LabError::BadValue {
                place: format!("scheduler `{}`", self.label),
                why: format!(
                    "cannot split `{}` into a command and its arguments",
                    self.command
                ),
            })
    }
}

/// One workload with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSpec {
    /// Unique in the experiment; defaults to name and parameters.
    pub label: String,
    /// The workload's kind, as `scx_lab list` shows it.
    pub name: String,
    /// Measured seconds, where they differ from the experiment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    #[serde(default)]
    pub params: toml::Table,
}

impl WorkloadSpec {
    /// Parse `name` or `name:key=value,key=value`. A value is read as TOML (number, boolean, quoted string) if it is
    /// that, and as plain text otherwise.
    ///
    /// # Errors
    /// If a parameter has no `=`.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut params = toml::Table::new();
        for pair in rest.split(',').filter(|p| !p.trim().is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| LabError::BadValue {
                place: format!("workload `{text}`"),
                why: format!("`{pair}` is not key=value"),
            })?;
            params.insert(key.trim().to_string(), parse_value(value.trim()));
        }
        let mut spec = Self {
            label: text.trim().to_string(),
            name: name.trim().to_string(),
            seconds: None,
            params,
        };
        spec.take_common(text)?;
        Ok(spec)
    }

    /// From a table of a file: `params` are all its keys but the name.
    ///
    /// # Errors
    /// If a key that every workload has is of the wrong type.
    pub fn from_params(name: String, params: toml::Table, place: &str) -> Result<Self> {
        let mut spec = Self {
            label: String::new(),
            name,
            seconds: None,
            params,
        };
        // The resolved form, as saved with results, has the parameters in a table of their own.
        if let Some(toml::Value::Table(nested)) = spec.params.remove("params") {
            spec.params.extend(nested);
        }
        spec.take_common(place)?;
        if spec.label.is_empty() {
            spec.label = default_label(&spec);
        }
        Ok(spec)
    }

    /// Move the keys every workload has out of the parameters.
    fn take_common(&mut self, place: &str) -> Result<()> {
        let bad = |why: &str| LabError::BadValue {
            place: format!("workload `{place}`"),
            why: why.to_string(),
        };
        if let Some(v) = self.params.remove("seconds") {
            let s = v
                .as_float()
                .or_else(|| v.as_integer().map(|i| i as f64))
                .filter(|s| *s > 0.0);
            self.seconds = Some(s.ok_or_else(|| bad("`seconds` must be a positive number"))?);
        }
        if let Some(v) = self.params.remove("label") {
            self.label = v
                .as_str()
                .ok_or_else(|| bad("`label` must be text"))?
                .to_string();
        }
        Ok(())
    }
}

fn parse_value(text: &str) -> toml::Value {
    format!("v = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(text.to_string()))
}

fn default_label(spec: &WorkloadSpec) -> String {
    let params: Vec<String> = spec
        .params
        .iter()
        .map(|(k, v)| match v {
            toml::Value::String(s) => format!("{k}={s}"),
            other => format!("{k}={other}"),
        })
        .collect();
    if params.is_empty() {
        spec.name.clone()
    } else {
        format!("{}:{}", spec.name, params.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_may_be_given_a_short_name() {
        for (text, label, command) in [
            ("learn=scx_ml --mode learn", "learn", "scx_ml --mode learn"),
            ("scx_ml --slice=3", "scx_ml --slice=3", "scx_ml --slice=3"),
            (" eevdf ", "eevdf", "eevdf"),
            ("p2dq-2.1= scx_p2dq", "p2dq-2.1", "scx_p2dq"),
        ] {
            let spec = SchedulerSpec::parse(text);
            assert_eq!(
                (spec.label.as_str(), spec.command.as_str()),
                (label, command)
            );
        }
        assert!(SchedulerSpec::parse("own=eevdf").is_kernel());
        assert!(SchedulerSpec::parse("a=target/scx_ml --mode base").is_scx_ml());
        assert!(!SchedulerSpec::parse("scx_mlx").is_scx_ml());
    }
}
