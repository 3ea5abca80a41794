//! Experiments that the lab knows by name.

use crate::error::{LabError, Result};
use crate::settings::{KERNEL_SCHEDULER, Request, SchedulerSpec};
use crate::{scheduler, strict};

/// An experiment with a name.
struct Suite {
    name: &'static str,
    /// In the form of a configuration file, without schedulers.
    file: &'static str,
}

const SUITES: [Suite; 1] = [Suite {
    name: "real",
    file: include_str!("../suites/real.toml"),
}];

/// What is measured unless the command line says otherwise: the kernel's own scheduler, both modes of scx_ml, and the
/// other schedulers that are installed, without what their names have in common.
fn schedulers(installed: &[String]) -> Vec<SchedulerSpec> {
    let own = [
        KERNEL_SCHEDULER,
        "base=scx_ml --mode base",
        "learn=scx_ml --mode learn",
    ];
    let peers = installed
        .iter()
        .filter(|name| *name != "scx_ml")
        .map(|name| SchedulerSpec {
            label: name.strip_prefix("scx_").unwrap_or(name).to_string(),
            ..SchedulerSpec::from_command(name)
        });
    own.iter()
        .map(|s| SchedulerSpec::parse(s))
        .chain(peers)
        .collect()
}

/// The experiment called `name`.
///
/// # Errors
/// If there is none, with the nearest.
pub fn request(name: &str) -> Result<Request> {
    let suite = SUITES.iter().find(|s| s.name == name).ok_or_else(|| {
        let names: Vec<&str> = SUITES.iter().map(|s| s.name).collect();
        let nearest = strict::nearest(name, names.iter().copied());
        LabError::BadValue {
            place: "--suite".to_string(),
            why: format!(
                "no suite is called `{name}`; {}",
                nearest.map_or(format!("there is: {}", names.join(", ")), |n| format!(
                    "did you mean `{n}`?"
                ))
            ),
        }
    })?;
    Ok(Request {
        schedulers: schedulers(&scheduler::installed()),
        ..Request::from_toml(suite.file, &format!("suite `{name}`"))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn every_row_can_be_built_and_seven_blocks_carry_all_headlines() {
        for suite in &SUITES {
            let request = request(suite.name).expect("valid");
            let mut headlines = 0;
            for row in &request.workloads {
                let built = workload::build(row).unwrap_or_else(|e| panic!("{}: {e}", row.label));
                headlines += built.metrics().iter().filter(|m| m.headline).count();
            }
            let labels: std::collections::HashSet<_> =
                request.workloads.iter().map(|w| &w.label).collect();
            assert_eq!(labels.len(), request.workloads.len(), "labels are unique");
            let needed = crate::stats::blocks_needed(headlines);
            assert!(Some(needed) <= request.blocks, "{headlines} headlines");
        }
    }

    #[test]
    fn peers_have_short_names() {
        let specs = schedulers(&["scx_bpfland".to_string(), "scx_ml".to_string()]);
        let named: Vec<(&str, &str)> = specs
            .iter()
            .map(|s| (s.label.as_str(), s.command.as_str()))
            .collect();
        let want = [
            ("eevdf", "eevdf"),
            ("base", "scx_ml --mode base"),
            ("learn", "scx_ml --mode learn"),
            ("bpfland", "scx_bpfland"),
        ];
        assert_eq!(named, want);
    }

    #[test]
    fn an_unknown_suite_names_the_nearest() {
        let err = request("rael").expect_err("unknown").to_string();
        assert_eq!(
            err,
            "--suite: no suite is called `rael`; did you mean `real`?"
        );
    }
}
