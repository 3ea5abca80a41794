//! The workloads: each one file, each saying in its `measures` what its numbers mean and what they do not.

mod c_source;
mod cc_build;
mod command;
mod fairness;
mod fork_exec;
mod frames;
mod hackbench;
mod kind;
mod open_loop;
mod real;
mod recorder;
mod schbench_like;
mod stress_ng;
mod timer;

use crate::error::{LabError, Result};
use crate::settings::WorkloadSpec;
use crate::strict;

pub use kind::{Context, Kind, Window, Workload};

/// All kinds, in the order to list them in.
pub const KINDS: &[Kind] = &[
    schbench_like::KIND,
    real::schbench::KIND,
    real::nginx::KIND,
    real::redis::KIND,
    real::memcached::KIND,
    real::pgbench::KIND,
    real::sysbench::KIND,
    real::cyclictest::KIND,
    real::rt_hackbench::KIND,
    real::perf_bench::KIND,
    open_loop::KIND,
    timer::KIND,
    frames::KIND,
    fairness::KIND,
    hackbench::KIND,
    stress_ng::KIND,
    fork_exec::KIND,
    cc_build::KIND,
    command::KIND,
];

/// The kind called `name`.
///
/// # Errors
/// If there is none, with the nearest.
pub fn kind(name: &str) -> Result<&'static Kind> {
    KINDS
        .iter()
        .find(|k| k.name == name)
        .ok_or_else(|| LabError::UnknownWorkload {
            name: name.to_string(),
            nearest: strict::nearest(name, KINDS.iter().map(|k| k.name)),
        })
}

/// The workload a spec describes.
///
/// # Errors
/// If its kind or a parameter is unknown, or a value is out of range.
pub fn build(spec: &WorkloadSpec) -> Result<Box<dyn Workload>> {
    (kind(&spec.name)?.build)(&spec.params, &format!("workload `{}`", spec.label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_builds_with_its_defaults_and_has_a_headline() {
        for k in KINDS {
            let mut params = toml::Table::new();
            if k.name == "command" {
                params.insert("command".into(), "echo 1".into());
                params.insert("regex".into(), "([0-9]+)".into());
            }
            let w = (k.build)(&params, k.name).unwrap_or_else(|e| panic!("{}: {e}", k.name));
            let defs = w.metrics();
            assert!(
                defs.iter().any(|d| d.headline),
                "{} has no headline",
                k.name
            );
            let names: HashSet<_> = defs.iter().map(|d| &d.name).collect();
            assert_eq!(names.len(), defs.len(), "{} repeats a metric", k.name);
            assert!(
                !k.about.is_empty() && k.measures.len() > 40,
                "{} explains too little",
                k.name
            );
        }
    }

    #[test]
    fn every_parameter_is_accepted_with_its_default_and_a_misspelt_one_is_not() {
        for k in KINDS {
            let table: toml::Table =
                [("definitely_not_a_key".to_string(), toml::Value::Integer(1))]
                    .into_iter()
                    .collect();
            let err = (k.build)(&table, "here")
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default();
            assert!(err.starts_with("unknown key"), "{}: {err}", k.name);
            assert!(!(k.keys)().is_empty(), "{} lists no parameters", k.name);
        }
    }

    #[test]
    fn an_unknown_workload_names_the_nearest() {
        let err = build(&WorkloadSpec::parse("open-lop").expect("syntax"))
            .err()
            .map(|e| e.to_string());
        assert_eq!(
            err.as_deref(),
            Some("no workload is called `open-lop`; did you mean `open-loop`?")
        );
    }
}
