//! The measuring probe: loading it, reading it.

use crate::bpf_intf::{lab_consts_LAB_BUCKETS, lab_counters};
use crate::error::{LabError, Result};
use crate::probe_skel::{OpenProbeSkel, ProbeSkel, ProbeSkelBuilder};
use crate::sys;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, OpenObject};
use std::mem::MaybeUninit;
use zerocopy::FromBytes;

/// The number of buckets in a delay histogram; bucket i counts delays in [2^i, 2^(i+1)) ns.
pub const BUCKETS: usize = lab_consts_LAB_BUCKETS as usize;

/// What the probe has counted since it was loaded, over all CPUs. Times in ns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counters {
    pub switches: u64,
    pub preemptions: u64,
    pub wakeups: u64,
    pub migrations: u64,
    pub wake_wait_ns: u64,
    pub requeue_wait_ns: u64,
    pub idle_waiting_ns: u64,
    pub untracked: u64,
    pub wake_hist: Vec<u64>,
    pub requeue_hist: Vec<u64>,
}

impl Counters {
    fn add(&mut self, c: &lab_counters) {
        self.switches += c.switches;
        self.preemptions += c.preemptions;
        self.wakeups += c.wakeups;
        self.migrations += c.migrations;
        self.wake_wait_ns += c.wake_wait_ns;
        self.requeue_wait_ns += c.requeue_wait_ns;
        self.idle_waiting_ns += c.idle_waiting_ns;
        self.untracked += c.untracked;
        self.wake_hist.resize(BUCKETS, 0);
        self.requeue_hist.resize(BUCKETS, 0);
        self.wake_hist
            .iter_mut()
            .zip(&c.wake_hist)
            .for_each(|(a, b)| *a += b);
        self.requeue_hist
            .iter_mut()
            .zip(&c.requeue_hist)
            .for_each(|(a, b)| *a += b);
    }

    /// What was counted between `earlier` and this.
    pub fn since(&self, earlier: &Counters) -> Counters {
        let sub = |a: u64, b: u64| a.saturating_sub(b);
        let sub_all = |a: &[u64], b: &[u64]| {
            a.iter()
                .enumerate()
                .map(|(i, v)| sub(*v, b.get(i).copied().unwrap_or(0)))
                .collect()
        };
        Counters {
            switches: sub(self.switches, earlier.switches),
            preemptions: sub(self.preemptions, earlier.preemptions),
            wakeups: sub(self.wakeups, earlier.wakeups),
            migrations: sub(self.migrations, earlier.migrations),
            wake_wait_ns: sub(self.wake_wait_ns, earlier.wake_wait_ns),
            requeue_wait_ns: sub(self.requeue_wait_ns, earlier.requeue_wait_ns),
            idle_waiting_ns: sub(self.idle_waiting_ns, earlier.idle_waiting_ns),
            untracked: sub(self.untracked, earlier.untracked),
            wake_hist: sub_all(&self.wake_hist, &earlier.wake_hist),
            requeue_hist: sub_all(&self.requeue_hist, &earlier.requeue_hist),
        }
    }
}

/// The `q` quantile of a log2 histogram in ns: the upper end of the bucket it falls into, so at most a factor 2 too
/// high. `None` if it is empty.
pub fn log2_quantile(hist: &[u64], q: f64) -> Option<u64> {
    let total: u64 = hist.iter().sum();
    let wanted = (total as f64 * q).ceil().max(1.0) as u64;
    let mut seen = 0;
    hist.iter()
        .position(|n| {
            seen += n;
            total > 0 && seen >= wanted
        })
        .map(|i| 1u64 << (i + 1))
}

/// The probe, attached from [`Probe::load`] until it is dropped.
pub struct Probe {
    skel: ProbeSkel<'static>,
}

impl Probe {
    /// Load and attach it.
    ///
    /// # Errors
    /// Without the privileges, or on a kernel without BTF.
    pub fn load() -> Result<Self> {
        let failed = |what: &str, e: libbpf_rs::Error| LabError::Probe(format!("{what}: {e}"));
        // Lives as long as the program: there is one probe in a run, and the skeleton wants to borrow its object.
        let object: &'static mut MaybeUninit<OpenObject> =
            Box::leak(Box::new(MaybeUninit::uninit()));
        let open: OpenProbeSkel = ProbeSkelBuilder::default()
            .open(object)
            .map_err(|e| failed("opening", e))?;
        let mut skel = open
            .load()
            .map_err(|e| failed("loading (root and a kernel with BTF are needed)", e))?;
        skel.attach().map_err(|e| failed("attaching", e))?;
        let probe = Self { skel };
        probe.visit_cpus();
        Ok(probe)
    }

    /// Run for a moment on every CPU. The probe learns whether a CPU is idle from its next switch; a CPU that sleeps on
    /// would be taken for busy.
    fn visit_cpus(&self) {
        let all = sys::allowed_cpus();
        for cpu in &all {
            if sys::pin_to(&[*cpu]).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        // The set came from the kernel a moment ago; should a CPU be gone, the mask of the others stands.
        let _ = sys::pin_to(&all);
    }

    /// Read the counters.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn read(&self) -> Result<Counters> {
        let failed = |e: libbpf_rs::Error| LabError::Probe(format!("reading: {e}"));
        let values = self
            .skel
            .maps
            .counters
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(failed)?;
        let mut sum = Counters::default();
        for bytes in values.unwrap_or_default() {
            if let Ok((counters, _)) = lab_counters::read_from_prefix(&bytes) {
                sum.add(&counters);
            }
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_log2_histogram_are_bucket_ends() {
        let mut h = vec![0; BUCKETS];
        h[10] = 98; // 1 to 2 us
        h[20] = 2; // 1 to 2 ms
        assert_eq!(log2_quantile(&h, 0.5), Some(2048));
        assert_eq!(log2_quantile(&h, 0.98), Some(2048));
        assert_eq!(log2_quantile(&h, 0.99), Some(1 << 21));
        assert_eq!(log2_quantile(&[0; BUCKETS], 0.5), None);
    }

    #[test]
    fn the_difference_of_two_readings_is_what_happened_between() {
        let before = Counters {
            switches: 10,
            wake_hist: vec![1, 2],
            ..Counters::default()
        };
        let after = Counters {
            switches: 25,
            wake_hist: vec![1, 7],
            ..Counters::default()
        };
        let d = after.since(&before);
        assert_eq!((d.switches, d.wake_hist), (15, vec![0, 5]));
    }
}
