//! Wake-to-run latencies as a histogram by powers of two, as the kernel part counts them (`latency.bpf.h`).

use crate::kernel::bpf::intf::{latencies, scx_ml_consts_LATENCY_BUCKETS as LATENCY_BUCKETS};

/// Number of buckets.
pub const BUCKETS: usize = LATENCY_BUCKETS as usize;

/// How many latencies there were of each size: bucket i counts those from 2^i ns to below 2^(i+1) ns, the first one
/// 0 ns too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    pub counts: Vec<u64>,
    /// All of them together.
    pub sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            sum_ns: 0,
        }
    }
}

impl Histogram {
    /// The sum over CPUs.
    pub fn sum(per_cpu: impl IntoIterator<Item = latencies>) -> Self {
        let mut sum = Self::default();
        for cpu in per_cpu {
            for (count, more) in sum.counts.iter_mut().zip(cpu.buckets) {
                *count = count.wrapping_add(more);
            }
            sum.sum_ns = sum.sum_ns.wrapping_add(cpu.sum_ns);
        }
        sum
    }
}

/// How many there are in all.
pub fn total(counts: &[u64]) -> u64 {
    counts.iter().sum()
}

/// The time that a share `q` of them stays below, ns. Inside a bucket they are taken to be spread evenly over its
/// logarithm. None without any.
pub fn quantile_ns(counts: &[u64], q: f64) -> Option<f64> {
    let total = total(counts);
    if total == 0 {
        return None;
    }
    let rank = q.clamp(0.0, 1.0) * total as f64;
    let mut below = 0.0;
    for (i, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = count as f64;
        if below + count >= rank {
            return Some((i as f64 + (rank - below) / count).exp2());
        }
        below += count;
    }
    // Rounding: the rank is a hair above the sum.
    let last = counts.iter().rposition(|&count| count > 0)?;
    Some((last as f64 + 1.0).exp2())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::native;

    #[test]
    fn the_kernels_buckets_are_powers_of_two() {
        for (i, ns) in [(0, 0), (0, 1), (1, 2), (1, 3), (10, 1024), (63, u64::MAX)] {
            assert_eq!(native::ilog2_u64(ns), i, "{ns} ns");
        }
    }

    #[test]
    fn quantiles_lie_in_the_right_bucket() {
        let mut counts = vec![0; BUCKETS];
        assert_eq!(quantile_ns(&counts, 0.5), None);
        (counts[10], counts[20]) = (90, 10);
        let at = |q| quantile_ns(&counts, q).expect("not empty");
        assert!((1024.0..2048.0).contains(&at(0.5)), "{}", at(0.5));
        assert_eq!(at(0.9), 2048.0);
        assert!((1e6..2.1e6).contains(&at(0.99)), "{}", at(0.99));
        assert_eq!(at(1.0), 2_097_152.0);
        assert!(at(0.0) >= 1024.0 && at(7.0) == at(1.0));
        assert!(quantile_ns(&[u64::MAX >> 1, 1], 1.0).is_some_and(f64::is_finite));
    }

    #[test]
    fn cpus_are_summed() {
        let mut cpu = latencies::default();
        (cpu.buckets[3], cpu.buckets[63], cpu.sum_ns) = (2, 1, 50);
        let sum = Histogram::sum([cpu, cpu]);
        assert_eq!((sum.counts[3], sum.counts[63], sum.sum_ns), (4, 2, 100));
        assert_eq!((total(&sum.counts), sum.counts.len()), (6, BUCKETS));
    }
}
