//! A first quantum that is learned: a what-if rule.
//!
//! The first quantum must cover the short bursts, or it does nothing, and no more than them, or long ones hold short ones
//! up. Bursts are counted in quarter octaves; the quantum is the end of the bin, below the longest slice, at which the
//! share of bursts covered less the share of CPU time that they take is greatest, and a
//! quarter octave. For bursts of one
//! length there is no such bin but the one they are in; then the parameter applies, for nothing can be won.

use scx_ml::native;

/// Bins per octave, and bins from 2^10 ns (1 us) to 2^26 ns (67 ms).
const PER_OCTAVE: usize = 4;
const LOWEST: usize = 10 * PER_OCTAVE;
const BINS: usize = 16 * PER_OCTAVE;

/// Bursts between two looks, and after which counts are halved: what was long ago matters less.
const LOOK_EVERY: u32 = 256;
const HALVE_EVERY: u32 = 4096;

/// Least gain in share, bursts less time, for which a quantum is learned at all.
const LEAST_GAIN: f64 = 0.25;

/// See the module.
pub struct QuantumLearner {
    fixed_ns: u64,
    learned_ns: u64,
    bursts: [u64; BINS],
    time_ns: [u64; BINS],
    seen: u32,
}

impl QuantumLearner {
    pub fn new(fixed_ns: u64) -> Self {
        Self {
            fixed_ns,
            learned_ns: fixed_ns,
            bursts: [0; BINS],
            time_ns: [0; BINS],
            seen: 0,
        }
    }

    /// Take a burst in. Returns the first quantum from now on.
    pub fn observe(&mut self, burst_ns: u64) -> u64 {
        let bin = ((native::log2_q16(burst_ns) as usize * PER_OCTAVE) >> 16)
            .clamp(LOWEST, LOWEST + BINS - 1)
            - LOWEST;
        self.bursts[bin] += 1;
        self.time_ns[bin] += burst_ns;
        self.seen += 1;
        if self.seen.is_multiple_of(LOOK_EVERY) {
            self.learned_ns = self.look();
        }
        if self.seen.is_multiple_of(HALVE_EVERY) {
            self.bursts.iter_mut().for_each(|n| *n /= 2);
            self.time_ns.iter_mut().for_each(|n| *n /= 2);
        }
        self.learned_ns
    }

    fn look(&self) -> u64 {
        let bursts: u64 = self.bursts.iter().sum();
        let time_ns: u64 = self.time_ns.iter().sum();
        let (mut n, mut ns) = (0, 0);
        let (mut best, mut best_bin) = (LEAST_GAIN, None);
        for bin in 0..BINS {
            n += self.bursts[bin];
            ns += self.time_ns[bin];
            let gain = n as f64 / bursts as f64 - ns as f64 / time_ns as f64;
            if gain > best {
                (best, best_bin) = (gain, Some(bin));
            }
        }
        let Some(bin) = best_bin else {
            return self.fixed_ns;
        };
        // The end of the next bin: what is in this one fits with some slack for switches and cold caches.
        let end = ((LOWEST + bin + 2) << 16) / PER_OCTAVE;
        native::exp2_q16(end as i64)
    }
}
