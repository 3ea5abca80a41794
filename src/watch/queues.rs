//! What the scheduler says of the machine as it knows it, and of what waits where by its own count: for whoever looks
//! for a task that was forgotten, and for the tests, to which the counts must come out even.

use serde::{Deserialize, Serialize};

use crate::kernel::bpf::intf::{cpu_ctx, group_ctx, group_idle_GROUP_IDLE_ITSELF, llc_ctx};
use crate::kernel::native;

/// What queues are asked for as.
pub const QUEUES_TARGET: &str = "queues";

/// The machine's CPUs and caches, the counts of what waits there, and the cgroups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    pub llcs: Vec<LlcQueues>,
    /// By CPU id; ids without a CPU that is online too.
    pub cpus: Vec<CpuQueues>,
    pub groups: Vec<GroupLine>,
}

/// CPUs that share a last-level cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LlcQueues {
    /// NUMA node, numbered densely.
    pub node: u32,
    /// As a walk along the ring meets them.
    pub cpus: Vec<u32>,
    /// Tasks in the fresh lanes of its CPUs, in its fair lane, and in its idle lane.
    pub fresh: u32,
    pub fair: u32,
    pub idle: u32,
    /// Sum of the weights of those that wait in the lanes of it and its CPUs, but for the idle ones; 1024 for nice 0.
    pub weight_q10: u64,
}

/// A CPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuQueues {
    pub llc: u32,
    /// Tasks in its fresh lane.
    pub fresh: u32,
    /// A higher class of tasks has it.
    pub taken: bool,
    /// How much it does at its highest frequency, how busy it was of late, and how fast it was told to be: 1024ths of the most
    /// that any CPU does. The last two stay where they are with `--no-freq-control`.
    pub capacity: u32,
    pub utilisation: u32,
    pub speed: u32,
}

/// A cgroup of the cpu controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLine {
    pub id: u64,
    /// 0: a child of the root.
    pub parent_id: u64,
    /// Its cpu.weight.
    pub weight: u32,
    /// Weights of the runnable tasks and of the active groups directly below it; 1024 is nice 0, and a cpu.weight of 100.
    pub active_sum: u64,
    /// What it adds to its parent's sum: its weight while that is not 0, and for a moment longer.
    pub added: u64,
    /// Its own cpu.idle.
    pub idle: bool,
    /// Its own cpu.max; a quota of 0: none.
    pub quota_ns: u64,
    pub period_ns: u64,
    pub burst_ns: u64,
    /// What is left of that; below 0, what it has used beyond it.
    pub runtime_ns: i64,
    /// How often nothing was left, and for how long, all together.
    pub nr_throttled: u64,
    pub throttled_ns: u64,
}

impl Queues {
    /// From the kernel's arrays, and its table of groups.
    pub fn new(cpus: &[cpu_ctx], llcs: &[llc_ctx], groups: &[(u64, group_ctx)]) -> Self {
        let mut groups: Vec<_> = groups
            .iter()
            .map(|(id, g)| GroupLine {
                id: *id,
                parent_id: g.parent_id,
                weight: native::policy_cpu_weight(g.weight),
                active_sum: g.active_sum,
                added: g.added,
                idle: g.idle & group_idle_GROUP_IDLE_ITSELF != 0,
                quota_ns: g.quota_ns,
                period_ns: g.period_ns,
                burst_ns: g.burst_ns,
                runtime_ns: g.runtime_ns,
                nr_throttled: g.nr_throttled,
                throttled_ns: g.throttled_ns,
            })
            .collect();
        groups.sort_unstable_by_key(|g| g.id);
        Self {
            llcs: llcs
                .iter()
                .map(|llc| LlcQueues {
                    node: llc.node,
                    cpus: ring(cpus, llc.first_cpu),
                    fresh: llc.nr_fresh,
                    fair: llc.nr_fair,
                    idle: llc.nr_idle,
                    weight_q10: llc.weight_waiting_q10,
                })
                .collect(),
            cpus: cpus
                .iter()
                .map(|cpu| CpuQueues {
                    llc: cpu.llc,
                    fresh: cpu.nr_fresh,
                    taken: cpu.taken != 0,
                    capacity: cpu.capacity,
                    utilisation: cpu.util_q10 >> 10,
                    speed: cpu.cpuperf,
                })
                .collect(),
            groups,
        }
    }

    /// Tasks that are counted as waiting, in all lanes that are counted.
    pub fn waiting(&self) -> u64 {
        let in_llcs = self
            .llcs
            .iter()
            .map(|l| u64::from(l.fresh) + u64::from(l.fair) + u64::from(l.idle));
        in_llcs.sum()
    }
}

/// The CPUs of a ring from one of them on. It cannot be longer than there are CPUs, whatever its links say.
fn ring(cpus: &[cpu_ctx], first: u32) -> Vec<u32> {
    let mut met = vec![first];
    while met.len() <= cpus.len() {
        match met.last().and_then(|&cpu| cpus.get(cpu as usize)) {
            Some(cpu) if cpu.next_in_llc != first => met.push(cpu.next_in_llc),
            _ => break,
        }
    }
    met
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpus_of_an_llc_are_those_of_its_ring() {
        let cpus = [2, 3, 0, 1].map(|next_in_llc| cpu_ctx {
            next_in_llc,
            ..Default::default()
        });
        let llcs = [0, 1].map(|first_cpu| llc_ctx {
            first_cpu,
            nr_fair: 1 + first_cpu,
            ..Default::default()
        });
        let queues = Queues::new(&cpus, &llcs, &[]);
        assert_eq!(queues.llcs[0].cpus, [0, 2]);
        assert_eq!(queues.llcs[1].cpus, [1, 3]);
        assert_eq!(queues.waiting(), 3);
    }

    #[test]
    fn a_ring_that_does_not_close_ends() {
        let cpus = [1, 1].map(|next_in_llc| cpu_ctx {
            next_in_llc,
            ..Default::default()
        });
        assert!(ring(&cpus, 0).len() <= 3);
    }
}
