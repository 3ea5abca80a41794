//! Which threads use the CPUs, from /proc, as top(1) finds out.

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use crate::watch::explain::threads::{Proc, ThreadTime, ticks_per_second};

/// A thread that was busy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Busy {
    pub pid: u32,
    pub tgid: u32,
    pub comm: String,
    /// Share of one CPU since the look before.
    pub cpu_share: f64,
}

/// What the last look has seen.
#[derive(Default)]
pub struct Usage {
    /// By thread id: start and CPU time.
    before: HashMap<u32, (u64, u64)>,
    at: Option<Instant>,
}

impl Usage {
    /// The busiest threads since the last look, the busiest first. The first look knows none.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn busiest(&mut self, limit: usize) -> io::Result<Vec<Busy>> {
        let now = Instant::now();
        let times = Proc::mounted().times()?;
        let seconds = self.at.map(|at| (now - at).as_secs_f64());
        let busy = seconds.map_or_else(Vec::new, |seconds| {
            busiest(
                &self.before,
                &times,
                seconds * ticks_per_second() as f64,
                limit,
            )
        });
        self.before = times.iter().map(|t| (t.pid, (t.start, t.ticks))).collect();
        self.at = Some(now);
        Ok(busy)
    }
}

fn busiest(
    before: &HashMap<u32, (u64, u64)>,
    now: &[ThreadTime],
    span_ticks: f64,
    limit: usize,
) -> Vec<Busy> {
    let mut busy: Vec<(u64, &ThreadTime)> = now
        .iter()
        .map(|t| {
            let used = match before.get(&t.pid) {
                Some(&(start, ticks)) if start == t.start => t.ticks.saturating_sub(ticks),
                // It is new: all of its time is.
                _ => t.ticks,
            };
            (used, t)
        })
        .filter(|(used, _)| *used > 0)
        .collect();
    busy.sort_by_key(|(used, t)| (std::cmp::Reverse(*used), t.pid));
    busy.truncate(limit);
    busy.into_iter()
        .map(|(used, t)| Busy {
            pid: t.pid,
            tgid: t.tgid,
            comm: t.comm.clone(),
            cpu_share: used as f64 / span_ticks.max(1.0),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(pid: u32, start: u64, ticks: u64) -> ThreadTime {
        ThreadTime {
            pid,
            tgid: pid,
            comm: "a".into(),
            ticks,
            start,
        }
    }

    #[test]
    fn shares_are_of_the_time_between_two_looks() {
        let before = HashMap::from([(1, (5, 100)), (2, (5, 10)), (3, (5, 900))]);
        let now = [
            thread(1, 5, 150),
            thread(2, 5, 10),
            // Another thread with the same id.
            thread(3, 80, 25),
            thread(4, 90, 75),
        ];
        let busy = busiest(&before, &now, 100.0, 9);
        let found: Vec<_> = busy.iter().map(|b| (b.pid, b.cpu_share)).collect();
        assert_eq!(found, [(4, 0.75), (1, 0.5), (3, 0.25)]);
        assert_eq!(busiest(&before, &now, 100.0, 1).len(), 1);
    }

    #[test]
    fn the_first_look_knows_none() {
        let mut usage = Usage::default();
        assert!(usage.busiest(5).expect("/proc").is_empty());
    }
}
