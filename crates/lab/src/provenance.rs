//! Where a result comes from: enough to judge it and to run it again.

use crate::error::Result;
use crate::settings::{Experiment, SchedulerSpec, WorkloadSpec};
use crate::{calibration::Calibration, kernel, sys};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// A program that took part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    /// The first line of `--version`.
    pub version: Option<String>,
    pub sha256: Option<String>,
}

/// The circumstances of a run, or of one part of an interrupted one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// UTC, RFC 3339.
    pub date: String,
    pub command_line: Vec<String>,
    pub lab: Program,
    pub schedulers: Vec<Program>,
    pub tools: Vec<Program>,
    pub seed: u64,
    pub kernel: String,
    /// SHA-256 of the kernel's configuration, where it can be found.
    pub kernel_config: Option<String>,
    pub hz: Option<u32>,
    pub preemption: Option<String>,
    pub boot_id: String,
    pub cpu_model: String,
    pub cpus: usize,
    pub memory_mib: u64,
    pub clocksource: Option<String>,
    pub governor: Option<String>,
    /// `none`, `KVM`, `emulated by QEMU (TCG)`, …
    pub virtualisation: String,
    pub iterations_per_us: Option<f64>,
}

impl Provenance {
    /// Gather it now.
    pub fn gather(experiment: &Experiment, calibration: Option<Calibration>) -> Result<Self> {
        let read = |p: &str| {
            std::fs::read_to_string(p)
                .ok()
                .map(|s| s.trim().to_string())
        };
        let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
        let config = kernel_config(&release);
        let option = |name: &str| {
            let text = config.as_ref()?;
            text.lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix('=').map(str::to_string))
        };
        let exe = std::env::current_exe().ok();
        Ok(Self {
            date: now(),
            command_line: std::env::args().collect(),
            lab: Program {
                name: "scx_lab".to_string(),
                version: Some(env!("CARGO_PKG_VERSION").to_string()),
                sha256: exe.as_deref().and_then(hash_file),
            },
            schedulers: experiment
                .schedulers
                .iter()
                .filter(|s| !s.is_kernel())
                .map(SchedulerSpec::argv)
                .collect::<Result<Vec<_>>>()?
                .iter()
                .map(|argv| program(&argv[0]))
                .collect::<Vec<_>>(),
            tools: tools(experiment),
            seed: experiment.seed,
            kernel: format!(
                "{release} {}",
                read("/proc/sys/kernel/version").unwrap_or_default()
            ),
            kernel_config: config.as_ref().map(|c| hex(&Sha256::digest(c))),
            hz: option("CONFIG_HZ").and_then(|v| v.parse().ok()),
            preemption: preemption(config.as_deref()),
            boot_id: kernel::boot_id(),
            cpu_model: field(&cpuinfo, "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.to_string()),
            cpus: sys::allowed_cpus().len(),
            memory_mib: field(&read("/proc/meminfo").unwrap_or_default(), "MemTotal")
                .and_then(|v| v.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or(0)
                / 1024,
            clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            virtualisation: virtualisation(&cpuinfo),
            iterations_per_us: calibration.map(|c| c.iterations_per_us),
        })
    }

    /// A few lines for the head of a report.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = vec![
            format!("{}, Linux {}", self.date, self.kernel),
            format!(
                "{} CPUs ({}), virtualisation: {}",
                self.cpus, self.cpu_model, self.virtualisation
            ),
        ];
        for p in std::iter::once(&self.lab)
            .chain(&self.schedulers)
            .chain(&self.tools)
        {
            let hash = p
                .sha256
                .as_deref()
                .map(|h| format!(", sha256 {}", &h[..h.len().min(12)]))
                .unwrap_or_default();
            lines.push(format!(
                "{} {}{hash}",
                p.name,
                p.version.as_deref().unwrap_or("(version unknown)")
            ));
        }
        lines
    }
}

/// The present time, UTC, to the second.
pub fn now() -> String {
    let t = time::OffsetDateTime::now_utc();
    let t = t.replace_nanosecond(0).unwrap_or(t);
    t.format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| t.unix_timestamp().to_string())
}

fn program(name: &str) -> Program {
    let path = sys::find_program(name);
    Program {
        name: Path::new(name)
            .file_name()
            .map_or_else(|| name.to_string(), |n| n.to_string_lossy().into_owned()),
        version: path.as_deref().and_then(version),
        sha256: path.as_deref().and_then(hash_file),
    }
}

/// The first line of `PATH --version`. A program that does not know the option may do anything, a scheduler's wrapper
/// even load it: it gets a few seconds, then all it started is ended.
fn version(path: &Path) -> Option<String> {
    let mut command = Command::new(path);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.process_group(0).spawn().ok()?;
    let deadline = Instant::now() + VERSION_TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            _ => {
                sys::signal_group(child.id(), Signal::KILL);
                // Reaped; what it would have said is of no interest.
                let _ = child.wait();
                return None;
            }
        }
    };
    // One read: a version fits into the pipe, and whoever else holds its other end is not waited for.
    let mut bytes = [0; 4096];
    let length = child.stdout.take()?.read(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes[..length]);
    text.lines()
        .next()
        .map(|l| l.trim().to_string())
        .filter(|l| status.success() && !l.is_empty())
}

/// What each kind of workload runs that is not the lab's, unless its parameters say.
const TOOLS: [(&str, &[&str]); 10] = [
    ("schbench", &["schbench"]),
    ("nginx", &["nginx", "wrk"]),
    ("redis", &["redis-server", "redis-benchmark"]),
    ("memcached", &["memcached"]),
    ("pgbench", &["pgbench"]),
    ("sysbench", &["sysbench"]),
    ("cyclictest", &["cyclictest"]),
    ("rt-hackbench", &["hackbench"]),
    ("perf-bench", &["perf"]),
    ("stress-ng", &["stress-ng"]),
];

/// Programs that say their version and do nothing else when they are asked with --version.
const VERSIONED: [&str; 9] = [
    "cc",
    "clang",
    "gcc",
    "memcached",
    "perf",
    "pgbench",
    "redis-server",
    "stress-ng",
    "sysbench",
];

/// The foreign programs a workload runs.
fn tools_of(w: &WorkloadSpec) -> Vec<String> {
    let param = |key: &str| w.params.get(key).and_then(|v| v.as_str());
    match w.name.as_str() {
        "cc-build" => vec![param("compiler").unwrap_or("cc").to_string()],
        "command" => {
            let argv = param("command").and_then(shlex::split).unwrap_or_default();
            argv.into_iter().take(1).collect()
        }
        name => TOOLS
            .iter()
            .filter(|(kind, _)| *kind == name)
            .flat_map(|(_, programs)| programs.iter().map(ToString::to_string))
            .collect(),
    }
}

/// The foreign programs the workloads run.
fn tools(experiment: &Experiment) -> Vec<Program> {
    let mut names: Vec<String> = experiment.workloads.iter().flat_map(tools_of).collect();
    names.sort();
    names.dedup();
    names
        .iter()
        // Others may do anything when run with --version: only their hash is taken.
        .map(|n| match n.as_str() {
            known if VERSIONED.contains(&known) => program(n),
            _ => Program {
                name: n.clone(),
                version: None,
                sha256: sys::find_program(n).as_deref().and_then(hash_file),
            },
        })
        .collect()
}

/// SHA-256 of a file, in hex.
pub fn hash_file(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|b| hex(&Sha256::digest(b)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The running kernel's configuration, from where distributions and kernels keep it.
fn kernel_config(release: &str) -> Option<String> {
    let plain = [
        format!("/boot/config-{release}"),
        format!("/usr/lib/modules/{release}/config"),
    ];
    plain
        .iter()
        .find_map(|p| std::fs::read_to_string(p).ok())
        .or_else(|| {
            let out = Command::new("gzip")
                .args(["-dc", "/proc/config.gz"])
                .stderr(Stdio::null())
                .output()
                .ok()?;
            String::from_utf8(out.stdout)
                .ok()
                .filter(|t| out.status.success() && !t.is_empty())
        })
}

fn preemption(config: Option<&str>) -> Option<String> {
    // The dynamic choice, where the kernel has one, is in brackets.
    let dynamic = std::fs::read_to_string("/sys/kernel/debug/sched/preempt").ok();
    if let Some(chosen) = dynamic.as_deref().and_then(|t| t.split(['(', ')']).nth(1)) {
        return Some(chosen.to_string());
    }
    let names = [
        "PREEMPT_RT",
        "PREEMPT_LAZY",
        "PREEMPT_VOLUNTARY",
        "PREEMPT_NONE",
        "PREEMPT",
    ];
    names
        .iter()
        .find(|n| config.is_some_and(|c| c.lines().any(|l| l == format!("CONFIG_{n}=y"))))
        .map(ToString::to_string)
}

/// The value of `key` in a file of `key : value` lines.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|l| {
        let (k, v) = l.split_once(':')?;
        (k.trim() == key).then(|| v.trim().to_string())
    })
}

/// What kind of machine this is, from the CPU itself where it tells.
fn virtualisation(cpuinfo: &str) -> String {
    match hypervisor_signature().as_deref() {
        Some("TCGTCGTCGTCG") => return "emulated by QEMU (TCG)".to_string(),
        Some("KVMKVMKVM") => return "KVM".to_string(),
        Some(other) if !other.is_empty() => return format!("hypervisor {other}"),
        _ => {}
    }
    if cpuinfo.contains("QEMU TCG") {
        "emulated by QEMU (TCG)".to_string()
    } else if field(cpuinfo, "flags")
        .is_some_and(|f| f.split_whitespace().any(|w| w == "hypervisor"))
    {
        "hypervisor, unnamed".to_string()
    } else {
        "none".to_string()
    }
}

#[cfg(target_arch = "x86_64")]
fn hypervisor_signature() -> Option<String> {
    use std::arch::x86_64::__cpuid;
    // cpuid exists on every x86_64 CPU; the leaf is only read if the hypervisor bit is set.
    #[allow(unused_unsafe)]
    // SAFETY: as above.
    let (features, leaf) = unsafe { (__cpuid(1), __cpuid(0x4000_0000)) };
    if features.ecx & (1 << 31) == 0 {
        return None;
    }
    let bytes: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx]
        .iter()
        .flat_map(|r| r.to_le_bytes())
        .collect();
    Some(
        String::from_utf8_lossy(&bytes)
            .trim_matches(char::from(0))
            .trim()
            .to_string(),
    )
}

#[cfg(not(target_arch = "x86_64"))]
fn hypervisor_signature() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 6\nmodel name\t: QEMU TCG CPU version 2.5+\n";
        assert_eq!(
            field(text, "model name").as_deref(),
            Some("QEMU TCG CPU version 2.5+")
        );
        assert_eq!(field(text, "mode"), None);
    }

    #[test]
    fn hashes_are_those_of_sha256() {
        let dir = tempfile::tempdir().expect("tempdir");
        let f = dir.path().join("abc");
        std::fs::write(&f, "abc").expect("write");
        let h = hash_file(&f).expect("readable");
        assert_eq!(
            h,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_program_that_prints_its_version_is_heard_and_one_that_fails_is_not() {
        assert!(version(Path::new("/bin/cat")).is_some_and(|v| v.contains("cat")));
        assert_eq!(version(Path::new("/bin/false")), None);
        assert_eq!(version(Path::new("/nonexistent")), None);
    }

    #[test]
    fn what_a_workload_runs_is_known() {
        for (workload, programs) in [
            ("nginx:beside=hogs", &["nginx", "wrk"][..]),
            ("cc-build:compiler=clang", &["clang"]),
            ("command:command='make -j2'", &["make"]),
            ("timer", &[]),
        ] {
            let spec = WorkloadSpec::parse(workload).expect("valid");
            assert_eq!(tools_of(&spec), programs, "{workload}");
        }
        let known = |kind: &str| crate::workload::kind(kind).is_ok();
        assert!(TOOLS.iter().all(|(kind, _)| known(kind)));
    }

    #[test]
    fn the_date_is_utc_to_the_second() {
        let d = now();
        assert!(d.len() == 20 && d.ends_with('Z'), "{d}");
    }
}
