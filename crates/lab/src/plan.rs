//! The order in which an experiment is run.
//!
//! Blocks × workloads × schedulers. Within a block the workloads are shuffled, and within a workload the schedulers, so
//! that what will be compared is measured close together and nobody always comes first; with ABBA order each is measured
//! once more, in reverse. The order follows from the seed alone: an interrupted experiment is planned again and goes on where it stopped.

use crate::settings::{Experiment, Order};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// One scheduler under one workload, once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cell {
    /// Place in the order, from 0.
    pub index: usize,
    pub block: u32,
    /// Labels of the experiment's scheduler and workload.
    pub scheduler: String,
    pub workload: String,
    /// The workload's own seed. The same for all schedulers of a block, so that they face the same arrivals.
    pub seed: u64,
}

/// All cells in the order to run them in.
pub fn plan(experiment: &Experiment) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(experiment.cells());
    for block in 0..experiment.blocks {
        // A stream of its own for each block, so that more blocks do not reorder the earlier ones.
        let mut rng = ChaCha8Rng::seed_from_u64(experiment.seed);
        rng.set_stream(u64::from(block) + 1);
        let mut workloads: Vec<usize> = (0..experiment.workloads.len()).collect();
        workloads.shuffle(&mut rng);
        for w in workloads {
            let mut schedulers: Vec<usize> = (0..experiment.schedulers.len()).collect();
            schedulers.shuffle(&mut rng);
            if experiment.order == Order::Abba {
                schedulers.extend(schedulers.clone().into_iter().rev());
            }
            for s in schedulers {
                cells.push(Cell {
                    index: cells.len(),
                    block,
                    scheduler: experiment.schedulers[s].label.clone(),
                    workload: experiment.workloads[w].label.clone(),
                    seed: cell_seed(experiment.seed, block, w),
                });
            }
        }
    }
    cells
}

/// A seed for the workload from the experiment's, mixed by SplitMix64.
fn cell_seed(seed: u64, block: u32, workload: usize) -> u64 {
    let mut z = seed
        .wrapping_add(u64::from(block).wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add((workload as u64).wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    // Kept within what JSON and TOML readers hold exactly.
    (z ^ (z >> 31)) >> 11
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Request, SchedulerSpec, WorkloadSpec};
    use std::collections::{HashMap, HashSet};

    fn experiment(seed: u64, blocks: u32) -> Experiment {
        Request {
            seed: Some(seed),
            blocks: Some(blocks),
            schedulers: ["eevdf", "a", "b"]
                .iter()
                .map(|s| SchedulerSpec::from_command(s))
                .collect(),
            workloads: ["timer", "fairness"]
                .iter()
                .map(|w| WorkloadSpec::parse(w).expect("valid"))
                .collect(),
            ..Request::default()
        }
        .resolve(|_| Ok(1))
        .expect("valid")
    }

    #[test]
    fn every_combination_occurs_once_a_block_and_blocks_come_in_turn() {
        let cells = plan(&experiment(1, 4));
        assert_eq!(cells.len(), 24);
        let all: HashSet<_> = cells
            .iter()
            .map(|c| (c.block, &c.scheduler, &c.workload))
            .collect();
        assert_eq!(all.len(), 24);
        assert!(cells.is_sorted_by_key(|c| c.block));
        assert!(cells.iter().enumerate().all(|(i, c)| c.index == i));
    }

    #[test]
    fn the_order_follows_from_the_seed_and_differs_between_blocks() {
        assert_eq!(plan(&experiment(1, 4)), plan(&experiment(1, 4)));
        assert_ne!(plan(&experiment(1, 4)), plan(&experiment(2, 4)));
        let order = |b| -> Vec<String> {
            plan(&experiment(1, 8))
                .into_iter()
                .filter(|c| c.block == b)
                .map(|c| c.scheduler + &c.workload)
                .collect()
        };
        assert!((1..8).any(|b| order(b) != order(0)));
    }

    #[test]
    fn abba_measures_each_twice_around_the_middle() {
        let abba = Experiment {
            order: Order::Abba,
            ..experiment(1, 3)
        };
        let cells = plan(&abba);
        assert_eq!(cells.len(), abba.cells());
        for turn in cells.chunks(6) {
            let names: Vec<&String> = turn.iter().map(|c| &c.scheduler).collect();
            let reversed: Vec<&String> = names.iter().rev().copied().collect();
            assert_eq!(names, reversed);
            assert!(turn.iter().all(|c| c.workload == turn[0].workload));
            assert_eq!(names[..3].iter().collect::<HashSet<_>>().len(), 3);
        }
    }

    #[test]
    fn more_blocks_leave_the_earlier_ones_as_they_were() {
        assert_eq!(plan(&experiment(1, 2))[..], plan(&experiment(1, 5))[..12]);
    }

    #[test]
    fn schedulers_of_a_block_share_the_workloads_seed() {
        let mut seeds: HashMap<(u32, String), HashSet<u64>> = HashMap::new();
        for c in plan(&experiment(1, 3)) {
            seeds
                .entry((c.block, c.workload))
                .or_default()
                .insert(c.seed);
        }
        assert!(seeds.values().all(|s| s.len() == 1));
        assert_eq!(seeds.values().flatten().collect::<HashSet<_>>().len(), 6);
    }
}
