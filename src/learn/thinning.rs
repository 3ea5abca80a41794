//! How many of a class's samples are wanted: all of them while it learns; a part once it has come to rest, enough to notice
//! that what predicts errs more than it did. Then it learns again.

use crate::kernel::bpf::intf::THIN_SHIFT_MAX;
use crate::learn::mean::Mean;

/// A class learns for so long, seconds of activity, and from as many rows as tell what the error is at rest.
const LEARNING_S: f64 = 2.0;

/// Samples a second of a class at rest: twice as few are taken where there are more than the one, and twice as many where
/// there are fewer than the other.
const RATE_HIGH: f64 = 100.0;
const RATE_LOW: f64 = 30.0;

/// The rate is measured over so long.
const LOOK_NS: u64 = 500_000_000;

/// Rows that tell what the error is at rest, and what it is now.
const REST_ROWS: f64 = 1_000.0;
const NOW_ROWS: f64 = 50.0;

/// Rows of equal weight to have seen of either.
const REST_ROWS_MIN: f64 = 100.0;
const NOW_ROWS_MIN: f64 = 20.0;

/// It errs more than it did where the error is greater by so many standard errors, by this share, and by so many octaves:
/// what is next to nothing may double.
const PROOF: f64 = 4.0;
const MORE: f64 = 1.25;
const MORE_OCTAVES: f64 = 0.05;

/// See the module.
#[derive(Debug, Clone)]
pub struct Thinning {
    /// Of the samples, one in 2^shift is taken.
    shift: u32,
    /// Seconds of activity since it began to learn.
    active_s: f64,
    /// |error| of what predicts, octaves: since it began to learn, and of late.
    rest: Mean,
    now: Mean,
    /// Rows since this moment of their clock, CLOCK_MONOTONIC ns; None: before the first look.
    rows: u32,
    since_ns: Option<u64>,
}

impl Default for Thinning {
    fn default() -> Self {
        Self {
            shift: 0,
            active_s: 0.0,
            rest: Mean::remembering(REST_ROWS),
            now: Mean::remembering(NOW_ROWS),
            rows: 0,
            since_ns: None,
        }
    }
}

impl Thinning {
    /// A row of `weight` bursts that ended at `end_ns`, after `pause_s` of activity, which what predicts missed by so many
    /// octaves. Whether it was at rest, and errs more than it did.
    pub fn add(&mut self, missed: f64, weight: f64, end_ns: u64, pause_s: f64) -> bool {
        self.rows += u32::from(self.since_ns.is_some_and(|since_ns| end_ns >= since_ns));
        self.active_s += pause_s;
        self.rest.add(missed.abs(), weight);
        self.now.add(missed.abs(), weight);
        self.rests() && self.errs_more()
    }

    fn errs_more(&self) -> bool {
        let (rest, now) = (&self.rest, &self.now);
        let more = now.mean() - rest.mean();
        more > (MORE - 1.0) * rest.mean() + MORE_OCTAVES
            && now.rows() >= NOW_ROWS_MIN
            && more > PROOF * rest.deviation() / now.rows().sqrt()
    }

    /// Another world, or another predictor: all samples are wanted, and the error is to be found anew.
    pub fn begin(&mut self) {
        *self = Self::default();
    }

    /// Whether it has learned for long enough, and from enough.
    pub fn rests(&self) -> bool {
        self.active_s >= LEARNING_S && self.rest.rows() >= REST_ROWS_MIN
    }

    /// Look at the rate of the rows, now that their clock is at `now_ns`.
    pub fn look(&mut self, now_ns: u64) {
        let Some(since_ns) = self.since_ns else {
            self.since_ns = Some(now_ns);
            return;
        };
        let passed_ns = now_ns.saturating_sub(since_ns);
        if now_ns >= since_ns && passed_ns < LOOK_NS {
            return;
        }
        let mut rate = f64::from(self.rows) * 1e9 / passed_ns.max(LOOK_NS) as f64;
        self.rows = 0;
        self.since_ns = Some(now_ns);
        if !self.rests() {
            return;
        }
        while rate > RATE_HIGH && self.shift < THIN_SHIFT_MAX {
            self.shift += 1;
            rate /= 2.0;
        }
        while rate < RATE_LOW && self.shift > 0 {
            self.shift -= 1;
            rate *= 2.0;
        }
    }

    /// Of the samples of the class, one in 2 to the power of this is wanted.
    pub fn shift(&self) -> u32 {
        self.shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::row::tests::noise;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    /// A class of `rate` samples a second of which as many are taken as it wants, the simulated kernel being told every
    /// 200 ms.
    struct Stream {
        thinning: Thinning,
        now_ns: u64,
        told: u32,
        taken: u32,
        sampled: usize,
    }

    impl Stream {
        fn new() -> Self {
            Self {
                thinning: Thinning::default(),
                now_ns: 0,
                told: 0,
                taken: 0,
                sampled: 0,
            }
        }

        /// For so long; missed by about `error` octaves. Samples taken a second, and when it began anew.
        fn run(&mut self, seconds: f64, rate: u64, error: f64) -> (f64, Vec<u64>) {
            let (mut anew, taken) = (vec![], self.taken);
            let mut pause_s = 0.0;
            let samples = (seconds * rate as f64) as u64;
            for i in 0..samples {
                self.now_ns += S / rate;
                self.sampled += 1;
                pause_s += 1.0 / rate as f64;
                if noise(7, self.sampled) + 0.5 < 0.5f64.powi(self.told as i32) {
                    let missed = 2.0 * error * (noise(8, self.sampled) + 0.5);
                    let weight = f64::from(1u32 << self.told);
                    if self.thinning.add(missed, weight, self.now_ns, pause_s) {
                        self.thinning.begin();
                        anew.push(self.now_ns);
                    }
                    self.taken += 1;
                    pause_s = 0.0;
                }
                if i % (rate / 5).max(1) == 0 {
                    self.thinning.look(self.now_ns);
                    self.told = self.thinning.shift();
                }
            }
            (f64::from(self.taken - taken) / seconds, anew)
        }
    }

    #[test]
    fn all_samples_are_wanted_for_two_seconds_and_few_later() {
        for rate in [1_000, 20_000] {
            let mut stream = Stream::new();
            assert_eq!(stream.run(1.9, rate, 0.5).0, rate as f64, "while it learns");
            stream.run(2.0, rate, 0.5);
            let (taken, anew) = stream.run(20.0, rate, 0.5);
            assert!((RATE_LOW..RATE_HIGH).contains(&taken), "{rate}: {taken}");
            assert!(anew.is_empty(), "{rate}: {anew:?}");
        }
    }

    #[test]
    fn a_slow_class_loses_none_and_one_that_slows_down_gets_them_back() {
        let mut stream = Stream::new();
        assert_eq!(stream.run(20.0, 60, 0.5).0, 60.0);
        stream.run(10.0, 1_000, 0.5);
        assert!(stream.thinning.shift() > 1);
        stream.run(2.0, 60, 0.5);
        assert_eq!(stream.run(5.0, 60, 0.5).0, 60.0);
    }

    #[test]
    fn what_errs_more_than_it_did_is_noticed_at_once() {
        for (error, within_ns) in [(0.75, 2 * S), (1.0, S), (4.0, S / 2)] {
            let mut stream = Stream::new();
            stream.run(10.0, 1_000, 0.5);
            assert!(stream.thinning.rests());
            let from_ns = stream.now_ns;
            let (_, anew) = stream.run(2.0, 1_000, error);
            assert!(anew[0] - from_ns < within_ns, "{error}: {anew:?}");
            assert_eq!(stream.thinning.shift(), 0);
        }
    }

    #[test]
    fn what_errs_less_or_ever_so_little_more_is_no_news() {
        for error in [0.1, 0.55] {
            let mut stream = Stream::new();
            stream.run(10.0, 1_000, 0.5);
            assert!(stream.run(10.0, 1_000, error).1.is_empty(), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_the_share_is_one_that_the_kernel_takes(
            rows in proptest::collection::vec((any::<f64>(), 1.0..1e9, any::<u64>(), 0.0..0.1), 0..300),
        ) {
            let mut thinning = Thinning::default();
            for (missed, weight, end_ns, pause_s) in rows {
                if missed.is_finite() && thinning.add(missed, weight, end_ns, pause_s) {
                    thinning.begin();
                    prop_assert_eq!(thinning.shift(), 0);
                }
                thinning.look(end_ns);
                prop_assert!(thinning.shift() <= THIN_SHIFT_MAX);
            }
        }
    }
}
