//! The machine as the kernel describes it in /sys and /proc, read without the library that the scheduler uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// CPU ids.
pub type Cpus = BTreeSet<usize>;

const CPUS: &str = "/sys/devices/system/cpu";

fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_string())
}

/// A list such as "0-3,8"; nothing for an empty one.
pub fn parse_cpus(list: &str) -> Cpus {
    let number = |text: &str| text.parse::<usize>().expect("a CPU id");
    list.trim()
        .split(',')
        .filter(|part| !part.is_empty())
        .flat_map(|part| match part.split_once('-') {
            Some((first, last)) => number(first)..=number(last),
            None => number(part)..=number(part),
        })
        .collect()
}

pub fn online() -> Cpus {
    parse_cpus(&read(format!("{CPUS}/online")).expect("the list of CPUs"))
}

/// What `isolcpus=` keeps from the ordinary tasks.
pub fn isolated_at_boot() -> Cpus {
    parse_cpus(&read(format!("{CPUS}/isolated")).unwrap_or_default())
}

/// CPUs that ordinary tasks may use.
pub fn ordinary() -> Cpus {
    online().difference(&isolated_at_boot()).copied().collect()
}

/// The CPUs that share something, by the list of them that each has in `file`; those without one are all together. Not
/// every list loses a CPU that goes offline (on Linux 6.18, not those of caches whose ids differ, as QEMU's do).
fn sharing(file: &str) -> Vec<Cpus> {
    let online = online();
    let list_of = |cpu| read(format!("{CPUS}/cpu{cpu}/{file}"));
    let lists: BTreeSet<Cpus> = online
        .iter()
        .map(|cpu| list_of(cpu).map_or(online.clone(), |list| &parse_cpus(&list) & &online))
        .collect();
    lists.into_iter().collect()
}

/// Sets of CPUs with a common last-level cache, in the order of their first CPU.
pub fn llcs() -> Vec<Cpus> {
    sharing("cache/index3/shared_cpu_list")
}

/// Sets of hardware threads of a core.
pub fn cores() -> Vec<Cpus> {
    sharing("topology/thread_siblings_list")
}

/// The online CPUs of each NUMA node that has any.
pub fn nodes() -> Vec<Cpus> {
    let folder = std::fs::read_dir("/sys/devices/system/node").expect("NUMA nodes");
    let mut nodes: Vec<Cpus> = folder
        .filter_map(|entry| Some(parse_cpus(&read(entry.ok()?.path().join("cpulist"))?)))
        .map(|cpus| cpus.intersection(&online()).copied().collect())
        .filter(|cpus: &Cpus| !cpus.is_empty())
        .collect();
    nodes.sort();
    nodes
}

/// The file that switches a CPU off and on; CPU 0 has none.
pub fn online_file(cpu: usize) -> PathBuf {
    PathBuf::from(format!("{CPUS}/cpu{cpu}/online"))
}

/// Switch a CPU. Its file says no while the kernel is at another one.
pub fn switch(cpu: usize, on: bool) {
    let value = if on { "1" } else { "0" };
    let switched = crate::harness::wait_for(std::time::Duration::from_secs(20), || {
        std::fs::write(online_file(cpu), value).is_ok()
    });
    assert!(switched, "CPU {cpu} cannot be switched to {value}");
}

/// Switches all CPUs on when dropped, so that what follows a test that failed has its machine.
pub struct AllOn(Cpus);

impl AllOn {
    /// Those that are on now.
    pub fn again() -> Self {
        Self(online())
    }
}

impl Drop for AllOn {
    fn drop(&mut self) {
        for cpu in &self.0 {
            let _ = std::fs::write(online_file(*cpu), "1");
        }
    }
}

/// Time that each CPU was idle since the boot, in ticks of 1/100 s, from /proc/stat; iowait counts as idle.
pub fn idle_ticks() -> BTreeMap<usize, u64> {
    let text = read("/proc/stat").expect("/proc/stat");
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let cpu = words.next()?.strip_prefix("cpu")?.parse().ok()?;
            let ticks: Vec<u64> = words.filter_map(|w| w.parse().ok()).collect();
            Some((cpu, ticks[3] + ticks[4]))
        })
        .collect()
}

/// Memory of a process' own in RAM (heap and stacks, not pages of files, which come and go), in KiB.
pub fn anonymous_kib(pid: i32) -> u64 {
    let status = read(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    kib.expect("its anonymous memory")
}
