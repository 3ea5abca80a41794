//! `fairness`: do tasks get the shares they are owed?

use super::kind::{Context, Kind, Phase, Workload, bad, join, spawn};
use crate::calibration::burn;
use crate::error::{LabError, Result};
use crate::metric::{Better, MetricDef, Outcome};
use crate::{strict, sys};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub const KIND: Kind = Kind {
    name: "fairness",
    about: "endless tasks compete: equal ones, nice values, or cgroup weights; error from the ideal share",
    measures: "Each task's CPU time over the measured time, against the share that is ideal when weights are honoured and no \
        task can use more than one CPU. `share_error` is the largest deviation of a task (or cgroup), in percentage \
        points of all CPU time given out; `jain` is Jain's index of time received over ideal time, 1 if all are equal. \
        Nice weights are the kernel's own table. Fairness over seconds says nothing about latency.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        let w = p.groups(1, place)?;
        if w.len() < 2 || p.tasks_per_cpu == 0 {
            return Err(bad(place, "at least two tasks are needed"));
        }
        Ok(Box::new(Fairness(p)))
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Among {
    /// Tasks of nice 0.
    Equal,
    /// Tasks of the `nice` values, in turn.
    Nice,
    /// Cgroups of the `weights`, each with the same number of tasks.
    Cgroup,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    among: Among,
    /// Tasks per CPU, in each cgroup where there are some.
    tasks_per_cpu: usize,
    nice: Vec<i32>,
    weights: Vec<u32>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            among: Among::Equal,
            tasks_per_cpu: 3,
            nice: vec![0, 5, 10],
            weights: vec![100, 300],
        }
    }
}

/// The kernel's weights of nice -20 to 19 (sched_prio_to_weight), 1024 for nice 0.
const NICE_WEIGHTS: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904,
    3906, 3121, 2501, 1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87,
    70, 56, 45, 36, 29, 23, 18, 15,
];

/// Competitors: the weight of each and the most CPUs it can use.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Competitor {
    weight: f64,
    cap: f64,
    nice: i32,
}

impl Params {
    fn groups(&self, cpus: usize, place: &str) -> Result<Vec<Competitor>> {
        let tasks = self.tasks_per_cpu * cpus;
        match self.among {
            Among::Equal => Ok(vec![
                Competitor {
                    weight: 1.0,
                    cap: 1.0,
                    nice: 0
                };
                tasks
            ]),
            Among::Nice => (0..tasks.max(self.nice.len()))
                .map(|i| {
                    let nice = *self
                        .nice
                        .get(i % self.nice.len().max(1))
                        .ok_or_else(|| bad(place, "`nice` is empty"))?;
                    let weight = usize::try_from(nice + 20)
                        .ok()
                        .and_then(|n| NICE_WEIGHTS.get(n));
                    let weight =
                        weight.ok_or_else(|| bad(place, format!("{nice} is no nice value")))?;
                    Ok(Competitor {
                        weight: f64::from(*weight),
                        cap: 1.0,
                        nice,
                    })
                })
                .collect(),
            Among::Cgroup => self
                .weights
                .iter()
                .map(|w| match w {
                    1..=10_000 => Ok(Competitor {
                        weight: f64::from(*w),
                        cap: tasks as f64,
                        nice: 0,
                    }),
                    _ => Err(bad(place, format!("{w} is no cgroup weight: 1 to 10000"))),
                })
                .collect(),
        }
    }
}

struct Fairness(Params);

fn error_def() -> MetricDef {
    MetricDef::headline("share_error", "points", Better::Lower).tolerating(1.0)
}
fn jain_def() -> MetricDef {
    MetricDef::new("jain", "index", Better::Higher).tolerating(0.001)
}

/// The ideal share of each competitor, summing to 1: proportional to weight, none above its cap, what capped ones cannot
/// use going to the others (water filling).
fn ideal_shares(competitors: &[Competitor], cpus: f64) -> Vec<f64> {
    let mut given = vec![0.0; competitors.len()];
    let mut open: Vec<usize> = (0..competitors.len()).collect();
    let mut left = cpus.min(competitors.iter().map(|c| c.cap).sum());
    loop {
        let weight: f64 = open.iter().map(|i| competitors[*i].weight).sum();
        let (capped, rest): (Vec<usize>, Vec<usize>) = open
            .iter()
            .partition(|i| left * competitors[**i].weight / weight > competitors[**i].cap);
        if capped.is_empty() {
            for i in &rest {
                given[*i] = left * competitors[*i].weight / weight;
            }
            break;
        }
        for i in &capped {
            given[*i] = competitors[*i].cap;
            left -= competitors[*i].cap;
        }
        open = rest;
    }
    let total: f64 = given.iter().sum();
    given.into_iter().map(|g| g / total).collect()
}

/// Jain's fairness index: 1 for all equal, 1/n if one has everything.
fn jain(x: &[f64]) -> f64 {
    let (sum, squares): (f64, f64) = (x.iter().sum(), x.iter().map(|v| v * v).sum());
    if squares > 0.0 {
        sum * sum / (x.len() as f64 * squares)
    } else {
        1.0
    }
}

/// The metrics from the CPU time each got.
fn judge(received: &[f64], ideal: &[f64]) -> Outcome {
    let total: f64 = received.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let error = received
        .iter()
        .zip(ideal)
        .map(|(r, i)| (r / total - i).abs())
        .fold(0.0, f64::max);
    let relative: Vec<f64> = received.iter().zip(ideal).map(|(r, i)| r / i).collect();
    let shares: Vec<String> = received
        .iter()
        .zip(ideal)
        .map(|(r, i)| format!("{:.1} ({:.1})", 100.0 * r / total, 100.0 * i))
        .collect();
    Outcome {
        metrics: vec![
            error_def().measured(100.0 * error),
            jain_def().measured(jain(&relative)),
        ],
        histograms: Vec::new(),
        notes: vec![format!("shares received (ideal), %: {}", shares.join(", "))],
    }
}

impl Fairness {
    /// Threads compete, each with its nice value. Returns their CPU times.
    fn threads(&self, ctx: &Context, competitors: &[Competitor]) -> Result<Vec<f64>> {
        let phase = Phase::default();
        std::thread::scope(|scope| {
            let mut handles = Vec::new();
            for c in competitors {
                let phase = &phase;
                handles.push(spawn(scope, "fa-hog", move || -> Result<f64> {
                    if c.nice != 0 {
                        sys::set_nice(c.nice)?;
                    }
                    let mut start = None;
                    while !phase.stopped() {
                        std::hint::black_box(burn(10_000));
                        if start.is_none() && phase.measuring() {
                            start = Some(sys::thread_cpu_ns());
                        }
                    }
                    // A task that never ran while measuring got nothing.
                    Ok(start.map_or(0.0, |s| (sys::thread_cpu_ns() - s) as f64))
                })?);
            }
            ctx.conduct(&phase);
            handles.into_iter().map(|h| join(h, KIND.name)?).collect()
        })
    }

    /// Cgroups of processes compete. Returns their CPU times.
    fn cgroups(&self, ctx: &Context) -> Result<Vec<f64>> {
        let root = cgroup_root()?;
        let groups = self
            .0
            .weights
            .iter()
            .enumerate()
            .map(|(i, w)| Group::create(&root, i, *w))
            .collect::<Result<Vec<_>>>()?;
        let mut hogs = Vec::new();
        for g in &groups {
            for _ in 0..self.0.tasks_per_cpu * ctx.cpus {
                hogs.push(g.start_hog()?);
            }
        }
        std::thread::sleep(std::time::Duration::from_secs_f64(ctx.warmup));
        let usage = || {
            groups
                .iter()
                .map(Group::usage_us)
                .collect::<Result<Vec<f64>>>()
        };
        ctx.window.begin();
        let before = usage()?;
        std::thread::sleep(std::time::Duration::from_secs_f64(ctx.seconds));
        let after = usage()?;
        ctx.window.end();
        drop(hogs);
        Ok(after.iter().zip(&before).map(|(a, b)| a - b).collect())
    }
}

/// Where cgroups can be made that share the CPU by weight.
fn cgroup_root() -> Result<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let unsupported = |why: String| LabError::Unsupported {
        what: "fairness:among=cgroup".to_string(),
        why,
    };
    let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).map_err(|_| {
        unsupported("/sys/fs/cgroup is not a cgroup v2 tree; mount one there".to_string())
    })?;
    if !controllers.split_whitespace().any(|c| c == "cpu") {
        return Err(unsupported(
            "the cpu controller is not available in /sys/fs/cgroup".to_string(),
        ));
    }
    let control = root.join("cgroup.subtree_control");
    let on = std::fs::read_to_string(&control).map_err(|e| LabError::file(&control, e))?;
    if !on.split_whitespace().any(|c| c == "cpu") {
        std::fs::write(&control, "+cpu").map_err(|e| {
            unsupported(format!(
                "the cpu controller is off and cannot be turned on: {e}; run as root"
            ))
        })?;
    }
    Ok(root.to_path_buf())
}

/// A cgroup that is removed when dropped.
struct Group(PathBuf);

impl Group {
    fn create(root: &Path, index: usize, weight: u32) -> Result<Self> {
        let path = root.join(format!("scx_lab-{}-{index}", std::process::id()));
        std::fs::create_dir(&path).map_err(|e| LabError::file(&path, e))?;
        let group = Self(path);
        let file = group.0.join("cpu.weight");
        std::fs::write(&file, weight.to_string()).map_err(|e| LabError::file(&file, e))?;
        Ok(group)
    }

    fn start_hog(&self) -> Result<Hog> {
        // A shell loop is work enough, and needs no helper program of ours.
        let child = Command::new("/bin/sh")
            .args(["-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| LabError::workload(KIND.name, format!("/bin/sh: {e}")))?;
        let hog = Hog(child);
        let file = self.0.join("cgroup.procs");
        std::fs::write(&file, hog.0.id().to_string()).map_err(|e| LabError::file(&file, e))?;
        Ok(hog)
    }

    fn usage_us(&self) -> Result<f64> {
        let file = self.0.join("cpu.stat");
        let text = std::fs::read_to_string(&file).map_err(|e| LabError::file(&file, e))?;
        text.lines()
            .find_map(|l| l.strip_prefix("usage_usec "))
            .and_then(|v| v.trim().parse().ok())
            .ok_or_else(|| LabError::Damaged {
                path: file,
                why: "no usage_usec".to_string(),
            })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Processes take a moment to leave. What cannot be removed stays empty and does no harm.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// A process that is ended when dropped.
struct Hog(Child);

impl Drop for Hog {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Workload for Fairness {
    fn metrics(&self) -> Vec<MetricDef> {
        vec![error_def(), jain_def()]
    }

    fn check(&self) -> Result<()> {
        if self.0.among == Among::Cgroup {
            cgroup_root()?;
        }
        Ok(())
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let competitors = self.0.groups(ctx.cpus, KIND.name)?;
        let received = match self.0.among {
            Among::Cgroup => self.cgroups(ctx)?,
            _ => self.threads(ctx, &competitors)?,
        };
        Ok(judge(
            &received,
            &ideal_shares(&competitors, ctx.cpus as f64),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(weight: f64, cap: f64) -> Competitor {
        Competitor {
            weight,
            cap,
            nice: 0,
        }
    }

    #[test]
    fn weights_are_shared_out_in_proportion() {
        assert_eq!(
            ideal_shares(&[c(100.0, 9.0), c(300.0, 9.0)], 2.0),
            [0.25, 0.75]
        );
    }

    #[test]
    fn a_task_cannot_use_more_than_one_cpu_and_the_rest_goes_to_the_others() {
        // On two CPUs the heavy task is owed 1.8 of them and can use one; the light ones share the other.
        let s = ideal_shares(&[c(9.0, 1.0), c(0.5, 1.0), c(0.5, 1.0)], 2.0);
        assert_eq!(s, [0.5, 0.25, 0.25]);
    }

    #[test]
    fn fewer_tasks_than_cpus_all_get_one() {
        assert_eq!(ideal_shares(&[c(1.0, 1.0), c(5.0, 1.0)], 8.0), [0.5, 0.5]);
    }

    #[test]
    fn jains_index_of_known_cases() {
        assert_eq!(jain(&[1.0, 1.0, 1.0]), 1.0);
        assert_eq!(jain(&[1.0, 0.0, 0.0, 0.0]), 0.25);
        assert!((jain(&[1.0, 2.0]) - 0.9).abs() < 1e-12);
    }

    #[test]
    fn the_error_is_the_largest_deviation_in_points() {
        let o = judge(&[60.0, 40.0], &[0.5, 0.5]);
        assert!((o.metrics[0].value - 10.0).abs() < 1e-9);
    }
}
