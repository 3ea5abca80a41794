//! Which CPU shares its last-level cache with which, numbered densely for the BPF maps.

use anyhow::{Context, Result};
use scx_utils::{NR_CPU_IDS, Topology};

/// CPUs and LLCs of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMap {
    /// LLC index of each CPU id, 0 for ids without a CPU. As long as there are CPU ids.
    pub llc_of_cpu: Vec<u32>,
    /// Number of CPUs of each LLC.
    pub cpus_of_llc: Vec<u32>,
    /// Whether any core has more than one hardware thread.
    pub smt: bool,
}

impl CacheMap {
    /// Read from /sys.
    pub fn detect() -> Result<Self> {
        let topology = Topology::new().context("cannot read the CPU topology from /sys")?;
        let pairs = topology.all_cpus.values().map(|cpu| (cpu.id, cpu.llc_id));
        Ok(Self::from_pairs(pairs, *NR_CPU_IDS, topology.smt_enabled))
    }

    /// From (CPU id, LLC id) pairs with arbitrary LLC ids; ids of CPUs at or above `nr_cpu_ids` are left out.
    pub fn from_pairs(
        pairs: impl Iterator<Item = (usize, usize)>,
        nr_cpu_ids: usize,
        smt: bool,
    ) -> Self {
        let mut llc_of_cpu = vec![0; nr_cpu_ids];
        let mut ids: Vec<usize> = vec![];
        let mut cpus_of_llc: Vec<u32> = vec![];
        for (cpu, id) in pairs.filter(|&(cpu, _)| cpu < nr_cpu_ids) {
            let index = ids
                .iter()
                .position(|&known| known == id)
                .unwrap_or_else(|| {
                    ids.push(id);
                    cpus_of_llc.push(0);
                    ids.len() - 1
                });
            llc_of_cpu[cpu] = index as u32;
            cpus_of_llc[index] += 1;
        }
        if cpus_of_llc.is_empty() {
            cpus_of_llc.push(nr_cpu_ids as u32);
        }
        Self {
            llc_of_cpu,
            cpus_of_llc,
            smt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llcs_are_numbered_in_the_order_of_their_first_cpu() {
        let map = CacheMap::from_pairs([(0, 70), (1, 70), (2, 9), (3, 9)].into_iter(), 5, true);
        assert_eq!(map.llc_of_cpu, [0, 0, 1, 1, 0]);
        assert_eq!(map.cpus_of_llc, [2, 2]);
    }

    #[test]
    fn cpus_beyond_the_ids_are_left_out() {
        let map = CacheMap::from_pairs([(0, 0), (7, 1)].into_iter(), 2, false);
        assert_eq!(map.llc_of_cpu, [0, 0]);
        assert_eq!(map.cpus_of_llc, [1]);
    }
}
