//! What the kernel counts, stretch by stretch, for the table of losses.

use std::time::Duration;

use super::schema::Loss;
use crate::kernel::bpf::intf::counters;

/// Length of a stretch.
const STRETCH: Duration = Duration::from_secs(1);

/// Remembers how far the counters of one scheduler object were told. They begin at zero with it.
#[derive(Default)]
pub struct Tally {
    told: Loss,
}

impl Tally {
    /// Of a scheduler object that is attached at `now_ns`. `undecodable` counts since the start of the program.
    pub fn new(now_ns: u64, undecodable: u64) -> Self {
        Self {
            told: Loss {
                end_ns: now_ns,
                undecodable,
                ..Default::default()
            },
        }
    }

    /// Whether the stretch is long enough to be told.
    pub fn due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.told.end_ns) >= STRETCH.as_nanos() as u64
    }

    /// What was counted since the last time that somebody took it.
    pub fn since(&self, now: &counters, undecodable: u64, now_ns: u64) -> Loss {
        let told = &self.told;
        Loss {
            start_ns: told.end_ns,
            end_ns: now_ns.max(told.end_ns),
            bursts: now.bursts - told.bursts,
            kept: now.kept - told.kept,
            ring_dropped: now.dropped - told.ring_dropped,
            sampled_out: now.sampled_out - told.sampled_out,
            excluded: now.excluded - told.excluded,
            undecodable: undecodable - told.undecodable,
            ..Default::default()
        }
    }

    /// Somebody took it.
    pub fn taken(&mut self, counted: &Loss) {
        self.told.add(counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_took_is_told_again() {
        let mut tally = Tally::new(5_000_000_000, 2);
        assert!(!tally.due(5_900_000_000));
        assert!(tally.due(6_000_000_000));
        let at = |bursts, kept| counters {
            bursts,
            kept,
            ..Default::default()
        };
        let first = tally.since(&at(10, 4), 2, 6_000_000_000);
        assert_eq!((first.bursts, first.kept, first.undecodable), (10, 4, 0));
        let both = tally.since(&at(15, 5), 3, 7_000_000_000);
        assert_eq!((both.start_ns, both.end_ns), (5_000_000_000, 7_000_000_000));
        assert_eq!((both.bursts, both.kept, both.undecodable), (15, 5, 1));
        tally.taken(&both);
        let later = tally.since(&at(16, 5), 3, 8_000_000_000);
        assert_eq!(
            (later.start_ns, later.bursts, later.kept),
            (7_000_000_000, 1, 0)
        );
    }
}
