//! Which CPU shares its last-level cache with which, numbered densely for the BPF maps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use log::debug;
use scx_utils::{NR_CPU_IDS, Topology};

use crate::kernel::trouble::caught;

/// How often /sys is read before its errors are taken for what they say, and the time between.
const TRIES: u32 = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// The kernel's word for no NUMA node in particular.
const NO_NODE: i32 = -1;

/// Capacity of the CPUs that do most, the kernel's SCHED_CAPACITY_SCALE.
pub const CAPACITY_ONE: u32 = 1024;

/// CPUs of one make differ by a few hundredths, of their dies or of how they are clocked: as the kernel, take those for alike.
const ALIKE: std::ops::RangeInclusive<u32> = CAPACITY_ONE * 19 / 20..=CAPACITY_ONE;

/// How long it must stay as it was read: a CPU that goes takes its files along one by one.
const SETTLE: Duration = Duration::from_millis(20);

/// What tells that CPUs come and go: those that are online, and how often the kernel's sched_ext has seen one come or go.
const SIGNS: [&str; 2] = [
    "/sys/devices/system/cpu/online",
    "/sys/kernel/sched_ext/hotplug_seq",
];

/// CPUs and LLCs of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMap {
    /// LLC index of each CPU id, 0 for ids without a CPU. As long as there are CPU ids.
    pub llc_of_cpu: Vec<u32>,
    /// Number of CPUs of each LLC.
    pub cpus_of_llc: Vec<u32>,
    /// The first CPU of each LLC.
    pub first_of_llc: Vec<u32>,
    /// The CPUs of each LLC as a ring in the order of their ids; an id without a CPU is followed by itself.
    pub next_in_llc: Vec<u32>,
    /// NUMA node of each LLC, numbered densely.
    pub node_of_llc: Vec<u32>,
    /// The same as the kernel numbers them, [`NO_NODE`] where it is not known.
    pub numa_node_of_llc: Vec<i32>,
    /// How much each CPU does in the same time at its highest frequency, where [`CAPACITY_ONE`] is the most; 0 for ids without
    /// a CPU.
    pub capacity_of_cpu: Vec<u32>,
    /// Whether any core has more than one hardware thread.
    pub smt: bool,
}

impl CacheMap {
    /// Read from /sys, when that is at rest; `shutdown` ends the wait for it.
    ///
    /// # Errors
    /// When it cannot be read, or CPUs come and go all the time.
    pub fn detect(shutdown: &AtomicBool) -> Result<Self> {
        let pause = |time| {
            std::thread::sleep(time);
            !shutdown.load(Ordering::Relaxed)
        };
        at_rest(read, || signs(&SIGNS), pause).context("cannot read the CPU topology from /sys")
    }

    /// From (CPU id, LLC id) pairs with arbitrary LLC ids; ids of CPUs at or above `nr_cpu_ids` are left out.
    pub fn from_pairs(
        pairs: impl Iterator<Item = (usize, usize)>,
        nr_cpu_ids: usize,
        smt: bool,
    ) -> Self {
        let mut ids: Vec<usize> = vec![];
        let mut members: Vec<Vec<u32>> = vec![];
        for (cpu, id) in pairs.filter(|&(cpu, _)| cpu < nr_cpu_ids) {
            let index = ids
                .iter()
                .position(|&known| known == id)
                .unwrap_or_else(|| {
                    ids.push(id);
                    members.push(vec![]);
                    ids.len() - 1
                });
            members[index].push(cpu as u32);
        }
        if members.is_empty() {
            members.push((0..nr_cpu_ids as u32).collect());
        }

        let mut llc_of_cpu = vec![0; nr_cpu_ids];
        let mut capacity_of_cpu = vec![0; nr_cpu_ids];
        let mut next_in_llc: Vec<u32> = (0..nr_cpu_ids as u32).collect();
        for (llc, cpus) in members.iter_mut().enumerate() {
            cpus.sort_unstable();
            for (&cpu, &next) in cpus.iter().zip(cpus.iter().cycle().skip(1)) {
                llc_of_cpu[cpu as usize] = llc as u32;
                next_in_llc[cpu as usize] = next;
                capacity_of_cpu[cpu as usize] = CAPACITY_ONE;
            }
        }
        Self {
            node_of_llc: vec![0; members.len()],
            numa_node_of_llc: vec![NO_NODE; members.len()],
            capacity_of_cpu,
            llc_of_cpu,
            cpus_of_llc: members.iter().map(|cpus| cpus.len() as u32).collect(),
            first_of_llc: members.iter().map(|cpus| cpus[0]).collect(),
            next_in_llc,
            smt,
        }
    }

    /// With the NUMA nodes, whose ids may have gaps. An LLC that spans several is where its first CPU is.
    fn with_nodes(mut self, node_of: impl Fn(u32) -> usize) -> Self {
        let mut ids: Vec<usize> = self.first_of_llc.iter().map(|&cpu| node_of(cpu)).collect();
        let of_llc = ids.clone();
        ids.sort_unstable();
        ids.dedup();
        self.node_of_llc = of_llc
            .iter()
            .map(|id| ids.partition_point(|known| known < id) as u32)
            .collect();
        self.numa_node_of_llc = of_llc
            .iter()
            .map(|&id| id.try_into().unwrap_or(NO_NODE))
            .collect();
        self
    }

    /// With the capacities that the kernel tells, if it tells those of all CPUs and they differ by more than CPUs of one make.
    fn with_capacities(mut self, capacity_of: impl Fn(u32) -> Option<usize>) -> Self {
        let told: Option<Vec<u32>> = (0..)
            .zip(&self.capacity_of_cpu)
            .map(|(cpu, &there)| match there {
                0 => Some(0),
                _ => Some(capacity_of(cpu)?.clamp(1, CAPACITY_ONE as usize) as u32),
            })
            .collect();
        if let Some(told) = told
            && told.iter().any(|c| *c > 0 && !ALIKE.contains(c))
        {
            self.capacity_of_cpu = told;
        }
        self
    }

    /// From what capacity on a CPU is one of the big ones; None: all are alike.
    pub fn big_capacity(&self) -> Option<u32> {
        let there = || self.capacity_of_cpu.iter().copied().filter(|&c| c > 0);
        let big = there().max()? * 19 / 20;
        there().any(|c| c < big).then_some(big)
    }

    /// NUMA nodes that have CPUs.
    pub fn nr_nodes(&self) -> u32 {
        self.node_of_llc.iter().max().map_or(1, |max| max + 1)
    }
}

fn read() -> Result<CacheMap> {
    // It takes some files for granted. Whoever takes a CPU away takes them along.
    let topology = caught(Topology::new)??;
    let pairs = topology.all_cpus.values().map(|cpu| (cpu.id, cpu.llc_id));
    let map = CacheMap::from_pairs(pairs, *NR_CPU_IDS, topology.smt_enabled);
    let node_of = |cpu: u32| {
        topology
            .all_cpus
            .get(&(cpu as usize))
            .map_or(0, |c| c.node_id)
    };
    // Not what is guessed from frequencies: the kernel's own.
    let capacity_of = |cpu: u32| topology.all_cpus.get(&(cpu as usize))?.kernel_cpu_capacity;
    Ok(map.with_nodes(node_of).with_capacities(capacity_of))
}

/// What stands in these files; one that is not there says nothing.
fn signs(files: &[&str]) -> Vec<Option<Vec<u8>>> {
    files.iter().map(|file| std::fs::read(file).ok()).collect()
}

/// Read until nothing has moved meanwhile, nor in the moment after that. `pause` waits for so long, and says whether to go on.
fn at_rest<T, S: PartialEq>(
    mut read: impl FnMut() -> Result<T>,
    mut signs: impl FnMut() -> S,
    mut pause: impl FnMut(Duration) -> bool,
) -> Result<T> {
    let mut tries = 1..TRIES;
    loop {
        let before = signs();
        let outcome = read().and_then(|found| {
            let goes_on = pause(SETTLE);
            match signs() == before {
                true => Ok(found),
                false if goes_on => Err(anyhow!("CPUs come and go while it is read")),
                false => Err(anyhow!("it is to end")),
            }
        });
        match outcome {
            Err(e) if tries.next().is_some() => {
                debug!("the CPU topology cannot be read, trying again: {e:#}");
                if !pause(BETWEEN_TRIES) {
                    return Err(e);
                }
            }
            Err(e) => return Err(e.context(format!("tried {TRIES} times"))),
            found => return found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as /sys is while CPUs come and go: `moves` is what happens at each reading of it.
    fn in_motion(moves: &[&str], end_after: usize) -> (Result<String>, usize) {
        let folder = tempfile::tempdir().expect("created");
        let online = folder.path().join("online");
        std::fs::write(&online, "0-3").expect("written");
        let (mut reads, mut pauses) = (0, 0);
        let found = at_rest(
            || {
                let before = std::fs::read_to_string(&online)?;
                match moves.get(reads.min(moves.len() - 1)) {
                    Some(&"vanishes") => std::fs::remove_file(&online)?,
                    Some(&"panics") => caught(|| -> () { panic!("a file is missing") })?,
                    Some(&"") | None => {}
                    Some(now) => std::fs::write(&online, format!("{now} {reads}"))?,
                }
                reads += 1;
                Ok(before)
            },
            || signs(&[online.to_str().expect("text"), "/nonexistent"]),
            |_| {
                pauses += 1;
                // Somebody brings it back.
                if !online.exists() {
                    std::fs::write(&online, "0-2").expect("written");
                }
                pauses < end_after
            },
        );
        (found, reads)
    }

    #[test]
    fn what_is_read_in_motion_is_read_again_until_it_rests() {
        let (found, reads) = in_motion(&[""], usize::MAX);
        assert_eq!((found.expect("at rest").as_str(), reads), ("0-3", 1));
        let (found, reads) = in_motion(&["0-2", "vanishes", "0,2", ""], usize::MAX);
        assert_eq!(
            (found.expect("it comes to rest").as_str(), reads),
            ("0,2 2", 4)
        );
    }

    #[test]
    fn what_never_rests_is_an_error_and_whoever_wants_to_end_need_not_wait() {
        let (found, reads) = in_motion(&["0-2"], usize::MAX);
        let error = format!("{:#}", found.expect_err("it never rests"));
        assert_eq!(reads, TRIES as usize);
        assert!(
            error.contains("tried 50 times: CPUs come and go"),
            "{error}"
        );
        let (found, reads) = in_motion(&["0-2"], 4);
        assert!(found.is_err() && reads == 2, "{reads}");
    }

    #[test]
    fn this_machine_is_read() {
        let map = CacheMap::detect(&AtomicBool::new(false)).expect("read");
        assert!(map.cpus_of_llc.iter().sum::<u32>() >= 1);
    }

    #[test]
    fn llcs_are_numbered_in_the_order_of_their_first_cpu() {
        let map = CacheMap::from_pairs([(0, 70), (1, 70), (2, 9), (3, 9)].into_iter(), 5, true);
        assert_eq!(map.llc_of_cpu, [0, 0, 1, 1, 0]);
        assert_eq!(map.cpus_of_llc, [2, 2]);
    }

    #[test]
    fn a_walk_over_an_llc_meets_its_cpus_and_no_others() {
        // Hyper-threads: the second half of the ids are the siblings of the first. 4 is an id without a CPU.
        let pairs = [(0, 0), (1, 0), (2, 1), (3, 1), (7, 0), (5, 0), (6, 1)];
        let map = CacheMap::from_pairs(pairs.into_iter(), 8, true);
        assert_eq!(map.first_of_llc, [0, 2]);
        assert_eq!(map.next_in_llc, [1, 5, 3, 6, 4, 7, 2, 0]);
    }

    #[test]
    fn nodes_are_numbered_densely() {
        let map = CacheMap::from_pairs((0..6).map(|cpu| (cpu, cpu / 2)), 6, false);
        assert_eq!(map.nr_nodes(), 1);
        let map = map.with_nodes(|cpu| if cpu < 2 { 8 } else { 3 });
        assert_eq!(map.node_of_llc, [1, 0, 0]);
        assert_eq!(map.numa_node_of_llc, [8, 3, 3]);
        assert_eq!(map.nr_nodes(), 2);
    }

    #[test]
    fn cpus_are_alike_unless_the_kernel_says_what_each_is_worth() {
        let map = || CacheMap::from_pairs([(0, 0), (1, 0), (3, 1)].into_iter(), 4, false);
        let alike = [1024, 1024, 0, 1024];
        assert_eq!(map().capacity_of_cpu, alike);
        assert_eq!(map().numa_node_of_llc, [NO_NODE, NO_NODE]);
        for told in [
            [None, None, None],
            [Some(400), None, Some(1024)],
            [Some(1024), Some(1000), Some(980)],
        ] {
            let told = move |cpu: u32| told[cpu.min(2) as usize];
            let map = map().with_capacities(told);
            assert_eq!(map.capacity_of_cpu, alike);
            assert_eq!(map.big_capacity(), None);
        }
    }

    #[test]
    fn big_cpus_are_those_near_the_most_capable() {
        let map = CacheMap::from_pairs((0..4).map(|cpu| (cpu, 0)), 4, false);
        let told = [446, 871, 1024, 1000];
        let map = map.with_capacities(|cpu| Some(told[cpu as usize]));
        assert_eq!(map.capacity_of_cpu, [446, 871, 1024, 1000]);
        assert_eq!(map.big_capacity(), Some(972));
        // The kernel's most capable may be offline, or never have been there.
        let map = CacheMap::from_pairs((0..2).map(|cpu| (cpu, 0)), 2, false);
        let map = map.with_capacities(|cpu| Some(told[cpu as usize]));
        assert_eq!(map.big_capacity(), Some(827));
    }

    #[test]
    fn without_a_topology_all_cpus_are_one_llc() {
        let map = CacheMap::from_pairs([].into_iter(), 3, false);
        assert_eq!(map.cpus_of_llc, [3]);
        assert_eq!(map.next_in_llc, [1, 2, 0]);
    }

    #[test]
    fn cpus_beyond_the_ids_are_left_out() {
        let map = CacheMap::from_pairs([(0, 0), (7, 1)].into_iter(), 2, false);
        assert_eq!(map.llc_of_cpu, [0, 0]);
        assert_eq!(map.cpus_of_llc, [1]);
    }
}
