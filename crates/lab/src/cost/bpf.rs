//! The run time of BPF programs, as the kernel accounts it.

use crate::error::{LabError, Result};
use libbpf_rs::libbpf_sys;
use libbpf_rs::query::ProgInfoIter;
use std::collections::{BTreeMap, HashSet};
use std::os::fd::{FromRawFd, OwnedFd};

/// Keeps the kernel accounting run times for as long as it lives.
pub struct Accounting {
    _fd: OwnedFd,
}

impl Accounting {
    /// Turn it on. The kernel turns it off when the last holder is gone, also after a crash.
    ///
    /// # Errors
    /// Without the privileges.
    pub fn enable() -> Result<Self> {
        // SAFETY: takes a number and returns a descriptor or a negative error.
        let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
        if fd < 0 {
            return Err(LabError::Unsupported {
                what: "accounting BPF run time".to_string(),
                why: format!(
                    "{}; run as root, or without it (--no-bpf-stats)",
                    std::io::Error::from_raw_os_error(-fd)
                ),
            });
        }
        // SAFETY: fd is fresh, valid and owned by nobody else.
        Ok(Self {
            _fd: unsafe { OwnedFd::from_raw_fd(fd) },
        })
    }
}

/// Run time and calls of one program.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramTime {
    pub name: String,
    pub run_ns: u64,
    pub calls: u64,
}

/// All programs loaded now, by id. Empty where the caller may not ask.
pub fn programs() -> BTreeMap<u32, ProgramTime> {
    ProgInfoIter::default()
        .map(|p| {
            let name = p.name.to_string_lossy().into_owned();
            (
                p.id,
                ProgramTime {
                    name,
                    run_ns: p.run_time_ns,
                    calls: p.run_cnt,
                },
            )
        })
        .collect()
}

/// What the programs loaded since `known` was taken (those of the scheduler under test) did between two readings.
pub fn between(
    before: &BTreeMap<u32, ProgramTime>,
    after: &BTreeMap<u32, ProgramTime>,
    known: &HashSet<u32>,
) -> Vec<ProgramTime> {
    let mut by_name: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (_, p) in after.iter().filter(|(id, _)| !known.contains(id)) {
        let entry = by_name.entry(&p.name).or_default();
        entry.0 += p.run_ns;
        entry.1 += p.calls;
    }
    for (_, p) in before
        .iter()
        .filter(|(id, _)| !known.contains(id) && after.contains_key(id))
    {
        if let Some(entry) = by_name.get_mut(p.name.as_str()) {
            entry.0 = entry.0.saturating_sub(p.run_ns);
            entry.1 = entry.1.saturating_sub(p.calls);
        }
    }
    by_name
        .into_iter()
        .filter(|(_, (_, calls))| *calls > 0)
        .map(|(name, (run_ns, calls))| ProgramTime {
            name: name.to_string(),
            run_ns,
            calls,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(name: &str, run_ns: u64, calls: u64) -> ProgramTime {
        ProgramTime {
            name: name.to_string(),
            run_ns,
            calls,
        }
    }

    #[test]
    fn only_programs_that_came_with_the_scheduler_count() {
        let known = HashSet::from([1]);
        let before = BTreeMap::from([(1, p("other", 50, 5)), (7, p("ml_enqueue", 100, 2))]);
        let after = BTreeMap::from([
            (1, p("other", 90, 9)),
            (7, p("ml_enqueue", 400, 5)),
            (8, p("ml_enqueue", 30, 1)),
            (9, p("ml_exit", 0, 0)),
        ]);
        assert_eq!(
            between(&before, &after, &known),
            vec![p("ml_enqueue", 330, 4)]
        );
    }
}
