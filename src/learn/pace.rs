//! The pace of fitting: when the next fit may be, and of how many samples, so that it is not felt. Pure: the clocks are
//! passed in.

use std::time::Duration;

/// Fitting takes at most one part in so many of a CPU: a slow machine (an emulated one, above all) fits less often.
const MAX_SHARE: u64 = 100;

/// CPU time that one fit may take. However rare fits are, on saturated CPUs each is felt while it lasts.
const BUDGET_NS: u64 = 50_000_000;

/// Samples that a fit is given, if they are there, however long it takes.
const MIN_ROWS: usize = 2_000;

/// See the module.
#[derive(Debug)]
pub struct Pace {
    interval_ns: u64,
    next_ns: u64,
    /// Nothing brings it further forward.
    earliest_ns: u64,
    /// CPU time that the last fit took for a sample; 0 before the first.
    row_ns: u64,
}

impl Pace {
    /// A fit every `interval`, the first at once.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval_ns: interval.as_nanos() as u64,
            next_ns: 0,
            earliest_ns: 0,
            row_ns: 0,
        }
    }

    /// Whether it is time to fit; `hurry` asks for it before the interval has passed.
    pub fn is_due(&self, now_ns: u64, hurry: bool) -> bool {
        now_ns >= self.next_ns || (hurry && now_ns >= self.earliest_ns)
    }

    /// The most samples that a fit may take.
    pub fn affordable_rows(&self) -> usize {
        match BUDGET_NS.checked_div(self.row_ns) {
            Some(rows) => (rows as usize).max(MIN_ROWS),
            None => usize::MAX,
        }
    }

    /// A fit that began at `now_ns` has taken so much CPU time for so many samples.
    pub fn fitted(&mut self, now_ns: u64, used_ns: u64, rows: usize) {
        self.row_ns = used_ns / rows.max(1) as u64;
        self.earliest_ns = now_ns.saturating_add(MAX_SHARE * used_ns);
        self.next_ns = now_ns
            .saturating_add(self.interval_ns)
            .max(self.earliest_ns);
    }

    /// Time from `now_ns` until the next fit; none if it is due or overdue.
    pub fn until_next(&self, now_ns: u64) -> Option<Duration> {
        let left_ns = self.next_ns.saturating_sub(now_ns);
        (left_ns > 0).then(|| Duration::from_nanos(left_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn pace() -> Pace {
        Pace::new(Duration::from_secs(5))
    }

    #[test]
    fn a_fast_machine_fits_at_the_interval_and_the_whole_window() {
        let mut pace = pace();
        assert!(pace.is_due(0, false));
        assert_eq!(pace.affordable_rows(), usize::MAX);
        pace.fitted(S, 10_000_000, 10_000);
        assert_eq!(pace.until_next(S), Some(Duration::from_secs(5)));
        assert!(!pace.is_due(6 * S - 1, false) && pace.is_due(6 * S, false));
        assert!(pace.affordable_rows() >= 10_000);
        assert_eq!(pace.until_next(6 * S), None);
    }

    #[test]
    fn a_slow_machine_fits_less_often_and_fewer_samples() {
        let mut pace = pace();
        pace.fitted(S, 400_000_000, 10_000);
        assert_eq!(pace.affordable_rows(), MIN_ROWS);
        assert!(!pace.is_due(40 * S, true) && pace.is_due(41 * S, false));
        pace.fitted(50 * S, 30_000_000, 2_000);
        assert_eq!(pace.affordable_rows(), 3_333);
    }

    #[test]
    fn a_hurry_waits_for_the_share_only() {
        let mut pace = pace();
        pace.fitted(S, 10_000_000, 1_000);
        assert!(!pace.is_due(2 * S - 1, true) && pace.is_due(2 * S, true));
        assert!(!pace.is_due(2 * S, false));
    }
}
