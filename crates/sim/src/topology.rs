//! The simulated machine's shape: CPUs in last-level caches in NUMA nodes. Ids are contiguous, as on real machines.

use std::ops::Range;

/// Index of a CPU.
pub type CpuId = u32;

/// Most CPUs that can be simulated.
pub const CPUS_MAX: u32 = 1024;

/// A shape that cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TopologyError {
    #[error("a machine of {0} CPUs cannot be simulated; give 1 to {CPUS_MAX}")]
    Cpus(u32),
    #[error("{cpus} CPUs cannot be divided evenly among {llcs} LLCs; give a divisor of {cpus}")]
    Llcs { cpus: u32, llcs: u32 },
    #[error(
        "{llcs} LLCs cannot be divided evenly among {nodes} NUMA nodes; give a divisor of {llcs}"
    )]
    Nodes { llcs: u32, nodes: u32 },
}

/// How far apart two CPUs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// They share the last-level cache.
    Llc,
    /// They share the memory.
    Node,
    /// They share nothing.
    Machine,
}

/// CPUs, LLCs and nodes, all of the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    cpus: u32,
    per_llc: u32,
    per_node: u32,
}

impl Topology {
    /// `cpus` CPUs in `llcs` LLCs in `nodes` nodes.
    ///
    /// # Errors
    /// If they cannot be divided evenly.
    pub fn new(cpus: u32, llcs: u32, nodes: u32) -> Result<Self, TopologyError> {
        if !(1..=CPUS_MAX).contains(&cpus) {
            return Err(TopologyError::Cpus(cpus));
        }
        if llcs == 0 || !cpus.is_multiple_of(llcs) {
            return Err(TopologyError::Llcs { cpus, llcs });
        }
        if nodes == 0 || !llcs.is_multiple_of(nodes) {
            return Err(TopologyError::Nodes { llcs, nodes });
        }
        Ok(Self {
            cpus,
            per_llc: cpus / llcs,
            per_node: cpus / nodes,
        })
    }

    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    pub fn llcs(&self) -> u32 {
        self.cpus / self.per_llc
    }

    pub fn per_llc(&self) -> u32 {
        self.per_llc
    }

    pub fn llc_of(&self, cpu: CpuId) -> u32 {
        cpu / self.per_llc
    }

    /// The CPUs of an LLC.
    pub fn llc(&self, llc: u32) -> Range<CpuId> {
        llc * self.per_llc..(llc + 1) * self.per_llc
    }

    /// The CPUs of the node that a CPU is in.
    pub fn node_around(&self, cpu: CpuId) -> Range<CpuId> {
        let start = cpu / self.per_node * self.per_node;
        start..start + self.per_node
    }

    pub fn distance(&self, a: CpuId, b: CpuId) -> Distance {
        if self.llc_of(a) == self.llc_of(b) {
            Distance::Llc
        } else if a / self.per_node == b / self.per_node {
            Distance::Node
        } else {
            Distance::Machine
        }
    }
}

/// A set of CPUs with a word that tells which words are not empty: a search looks at a handful of words, however many
/// CPUs there are.
#[derive(Debug, Clone)]
pub struct CpuSet {
    words: [u64; CPUS_MAX as usize / 64],
    /// Bit w: `words[w]` is not 0.
    summary: u64,
}

impl CpuSet {
    pub fn empty() -> Self {
        Self {
            words: [0; CPUS_MAX as usize / 64],
            summary: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.summary == 0
    }

    pub fn contains(&self, cpu: CpuId) -> bool {
        self.words[cpu as usize / 64] >> (cpu % 64) & 1 == 1
    }

    pub fn insert(&mut self, cpu: CpuId) {
        self.words[cpu as usize / 64] |= 1 << (cpu % 64);
        self.summary |= 1 << (cpu / 64);
    }

    pub fn remove(&mut self, cpu: CpuId) {
        let word = &mut self.words[cpu as usize / 64];
        *word &= !(1 << (cpu % 64));
        if *word == 0 {
            self.summary &= !(1 << (cpu / 64));
        }
    }

    /// The first CPU of the set in a range.
    pub fn first_in(&self, range: Range<CpuId>) -> Option<CpuId> {
        if range.is_empty() || self.summary == 0 {
            return None;
        }
        let (first, last) = (range.start / 64, (range.end - 1) / 64);
        let mut words = self.summary & (u64::MAX << first);
        while words != 0 {
            let w = words.trailing_zeros();
            if w > last {
                return None;
            }
            let mut word = self.words[w as usize];
            if w == first {
                word &= u64::MAX << (range.start % 64);
            }
            if word != 0 {
                let cpu = w * 64 + word.trailing_zeros();
                return (cpu < range.end).then_some(cpu);
            }
            words &= words - 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distances_follow_the_shape() {
        let t = Topology::new(16, 4, 2).expect("a shape");
        assert_eq!(t.distance(0, 3), Distance::Llc);
        assert_eq!(t.distance(0, 4), Distance::Node);
        assert_eq!(t.distance(0, 8), Distance::Machine);
        assert_eq!(t.llc(3), 12..16);
        assert_eq!(t.node_around(9), 8..16);
    }

    #[test]
    fn uneven_shapes_are_refused() {
        assert_eq!(Topology::new(0, 1, 1), Err(TopologyError::Cpus(0)));
        assert_eq!(
            Topology::new(6, 4, 1),
            Err(TopologyError::Llcs { cpus: 6, llcs: 4 })
        );
        assert_eq!(
            Topology::new(6, 3, 2),
            Err(TopologyError::Nodes { llcs: 3, nodes: 2 })
        );
    }

    proptest! {
        #[test]
        fn the_first_in_a_range_is_the_least(cpus in proptest::collection::btree_set(0u32..1024, 0..50), a in 0u32..1024, b in 0u32..=1024) {
            let mut set = CpuSet::empty();
            cpus.iter().for_each(|&c| set.insert(c));
            let least = if a < b { cpus.range(a..b).next().copied() } else { None };
            prop_assert_eq!(set.first_in(a..b), least);
            cpus.iter().for_each(|&c| set.remove(c));
            prop_assert!(set.is_empty());
        }
    }
}
