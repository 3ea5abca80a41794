//! Endless tasks compete: the benchmark's `fairness`.

use super::{Load, Next, Order};
use crate::machine::{ENDLESS_NS, Machine, TaskId, TaskSpec, Waker, load_weight};
use crate::record::Recorder;

/// Tasks that never block, with the nice values given in turn.
pub struct Hogs {
    nice: Vec<i32>,
}

impl Hogs {
    pub fn new(tasks: u32, nice: &[i32]) -> Self {
        let nice = nice.iter().copied().cycle().take(tasks as usize).collect();
        Self { nice }
    }
}

impl Load for Hogs {
    fn tasks(&self) -> Vec<TaskSpec> {
        let spec = |&nice: &i32| TaskSpec {
            name: "fa-hog".to_string(),
            nice,
        };
        self.nice.iter().map(spec).collect()
    }

    fn timers(&self) -> usize {
        0
    }

    fn classes(&self) -> &'static [&'static str] {
        &["hog"]
    }

    fn begin(&mut self, orders: &mut Vec<Order>) {
        orders.extend((0..self.nice.len()).map(|task| Order::Wake {
            task: task as TaskId,
            work_ns: ENDLESS_NS,
            waker: Waker::Nobody,
            blocked_in: None,
            sync: false,
        }));
    }

    fn timer(&mut self, _now_ns: u64, _timer: u32, _orders: &mut Vec<Order>) {}

    fn done(&mut self, _: &Machine, _: TaskId, _: &mut Vec<Order>, _: &mut Recorder) -> Next {
        Next::Block
    }

    fn drains(&self) -> bool {
        false
    }
}

/// The largest deviation of a task's share of CPU time from the ideal, in percentage points of all time given out. The
/// ideal honours weights, and gives no task more than one CPU (water filling).
pub fn share_error(m: &Machine) -> f64 {
    let weights: Vec<f64> = m
        .tasks
        .iter()
        .map(|t| f64::from(load_weight(t.nice)))
        .collect();
    let ideal = ideal_shares(&weights, f64::from(m.topology.cpus()));
    let received: Vec<f64> = (0..m.tasks.len() as TaskId)
        .map(|t| m.exec_ns(t) as f64)
        .collect();
    let total: f64 = received.iter().sum();
    if total == 0.0 {
        return f64::NAN;
    }
    let error = received
        .iter()
        .zip(&ideal)
        .map(|(r, i)| (r / total - i).abs());
    100.0 * error.fold(0.0, f64::max)
}

fn ideal_shares(weights: &[f64], cpus: f64) -> Vec<f64> {
    let mut given = vec![0.0; weights.len()];
    let mut open: Vec<usize> = (0..weights.len()).collect();
    let mut left = cpus.min(weights.len() as f64);
    loop {
        let weight: f64 = open.iter().map(|&i| weights[i]).sum();
        let (capped, rest): (Vec<usize>, Vec<usize>) = open
            .iter()
            .partition(|&&i| left * weights[i] / weight > 1.0);
        if capped.is_empty() {
            for &i in &rest {
                given[i] = left * weights[i] / weight;
            }
            break;
        }
        for &i in &capped {
            given[i] = 1.0;
            left -= 1.0;
        }
        open = rest;
    }
    let total: f64 = given.iter().sum();
    given.into_iter().map(|g| g / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heavy_task_is_owed_one_cpu_at_most() {
        assert_eq!(ideal_shares(&[9.0, 0.5, 0.5], 2.0), [0.5, 0.25, 0.25]);
        assert_eq!(ideal_shares(&[1.0, 3.0], 1.0), [0.25, 0.75]);
    }
}
