//! What must be true before anything is loaded, each with what to do when it is not.

use std::path::{Path, PathBuf};

/// The kernel's functions that the scheduler calls and has no other for, of those that take the program's own state as
/// an argument which only the kernel itself passes.
const NEEDED_FUNCTIONS: [&str; 6] = [
    "scx_bpf_create_dsq",
    "scx_bpf_dsq_nr_queued",
    "scx_bpf_kick_cpu",
    "scx_bpf_pick_idle_cpu",
    "scx_bpf_select_cpu_dfl",
    "scx_bpf_test_and_clear_cpu_idle",
];

/// Options of the kernel that the BPF part asks libbpf for (`__kconfig`).
const ASKED_OPTIONS: [&str; 2] = ["CONFIG_PREEMPT_RCU", "CONFIG_PREEMPT_RT"];

/// A reason why no scheduler can be loaded here and now.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PreflightError {
    #[error("loading a scheduler needs root: run `sudo scx_ml`")]
    NotRoot,
    #[error(
        "this kernel ({release}) has no sched_ext: boot one with CONFIG_SCHED_CLASS_EXT (Linux 6.12 or newer), \
         or try `./vng/run`, which boots one in a VM"
    )]
    NoSchedExt { release: String },
    #[error(
        "this kernel ({release}) has no BTF at /sys/kernel/btf/vmlinux: boot one with CONFIG_DEBUG_INFO_BTF"
    )]
    NoBtf { release: String },
    #[error("the sched_ext scheduler '{name}' is already loaded: stop it first (only one can be)")]
    AnotherScheduler { name: String },
    #[error(
        "this kernel's BPF JIT is off (net.core.bpf_jit_enable = 0): sched_ext needs it, \
         run `sysctl net.core.bpf_jit_enable=1`"
    )]
    NoJit,
    #[error(
        "this build of the kernel ({release}) lets no program call {functions}: in its BTF they still have the argument \
         that the kernel passes itself, an error of the pahole it was built with; boot another build of it, or an \
         earlier Linux such as 6.18, or try `./vng/run`, which boots one in a VM"
    )]
    UncallableFunctions { release: String, functions: String },
    #[error(
        "the configuration of this kernel ({release}) cannot be found, and libbpf asks it for options that the scheduler \
         depends on: looked for {looked}; put it there, or name it with --kconfig FILE"
    )]
    NoConfig { release: String, looked: String },
}

/// The kernel's files that tell; a folder of the test's own in tests.
pub struct Kernel {
    root: PathBuf,
    euid: u32,
}

impl Kernel {
    /// The running one.
    pub fn running() -> Self {
        Self {
            root: PathBuf::from("/"),
            euid: rustix::process::geteuid().as_raw(),
        }
    }

    /// Whether a scheduler can be loaded.
    pub fn check(&self) -> Result<(), PreflightError> {
        let release = || self.release();
        let sched_ext = self.path("sys/kernel/sched_ext");
        if !sched_ext.is_dir() {
            return Err(PreflightError::NoSchedExt { release: release() });
        }
        if !self.path("sys/kernel/btf/vmlinux").exists() {
            return Err(PreflightError::NoBtf { release: release() });
        }
        if self.euid != 0 {
            return Err(PreflightError::NotRoot);
        }
        if self.read("proc/sys/net/core/bpf_jit_enable").as_deref() == Some("0") {
            return Err(PreflightError::NoJit);
        }
        match self.read("sys/kernel/sched_ext/state").as_deref() {
            None | Some("disabled") => Ok(()),
            Some(_) => Err(PreflightError::AnotherScheduler {
                name: self
                    .read("sys/kernel/sched_ext/root/ops")
                    .unwrap_or_else(|| "unknown".into()),
            }),
        }
    }

    /// What may be the reason that the kernel does not attach a scheduler that it has loaded, as far as that can be seen.
    /// Whether it is one, later kernels may see differently: so it is not asked before.
    pub fn attach_advice(&self) -> &'static str {
        let cmdline = self.read("proc/cmdline").unwrap_or_default();
        // "isolcpus=1,3" or "isolcpus=domain,managed_irq,1,3"; with other flags alone the CPUs stay in their domains.
        let isolates = |list: &str| {
            let flags: Vec<&str> = list
                .split(',')
                .filter(|word| word.starts_with(char::is_alphabetic))
                .collect();
            flags.is_empty() || flags.contains(&"domain")
        };
        let isolated = cmdline
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("isolcpus="))
            .any(isolates);
        if isolated {
            " (it was booted with isolcpus=, which sched_ext does not work with: set CPUs apart by a cpuset partition instead)"
        } else {
            ""
        }
    }

    /// Whether the scheduler can call what it must, given the functions whose types in BTF are not those that programs
    /// call them by (`scx_utils::compat::malformed_scx_kfuncs`). Since Linux 7.0 the verifier looks a function's true
    /// type up under a second name, and where the build did not split the two, it refuses every caller: nothing that is
    /// declared otherwise on our side could help.
    pub fn check_functions(&self, malformed: &[String]) -> Result<(), PreflightError> {
        let uncallable: Vec<&str> = NEEDED_FUNCTIONS
            .into_iter()
            .filter(|needed| malformed.iter().any(|name| name == needed))
            .collect();
        if uncallable.is_empty() {
            return Ok(());
        }
        Err(PreflightError::UncallableFunctions {
            release: self.release(),
            functions: uncallable.join(", "),
        })
    }

    /// What libbpf has to be told of the kernel's configuration; None where it finds that by itself, which is in /boot and in
    /// /proc. Told in part it would look there for the rest: so an option that is not set is told, too.
    pub fn config(&self) -> Result<Option<String>, PreflightError> {
        let release = self.release();
        let places = [
            format!("boot/config-{release}"),
            "proc/config.gz".to_string(),
            format!("lib/modules/{release}/config"),
            format!("lib/modules/{release}/build/.config"),
        ];
        if places[..2].iter().any(|place| self.path(place).exists()) {
            return Ok(None);
        }
        let Some(config) = places[2..].iter().find_map(|place| self.read(place)) else {
            return Err(PreflightError::NoConfig {
                release,
                looked: places.map(|p| format!("/{p}")).join(", "),
            });
        };
        let told = ASKED_OPTIONS.iter().map(|option| {
            let value = config
                .lines()
                .find_map(|line| line.strip_prefix(option)?.strip_prefix('='));
            format!("{option}={}\n", value.unwrap_or("n"))
        });
        Ok(Some(told.collect()))
    }

    fn release(&self) -> String {
        self.read("proc/sys/kernel/osrelease")
            .unwrap_or_else(|| "unknown".into())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.join(Path::new(file))
    }

    fn read(&self, file: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.path(file)).ok()?;
        Some(text.trim().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel made of files; state None means no sched_ext at all.
    fn kernel(folder: &tempfile::TempDir, files: &[(&str, &str)], euid: u32) -> Kernel {
        for (file, text) in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            std::fs::write(path, text).expect("written");
        }
        Kernel {
            root: folder.path().into(),
            euid,
        }
    }

    const GOOD: [(&str, &str); 3] = [
        ("proc/sys/kernel/osrelease", "6.18.0\n"),
        ("sys/kernel/btf/vmlinux", ""),
        ("sys/kernel/sched_ext/state", "disabled\n"),
    ];

    #[test]
    fn a_kernel_with_everything_is_accepted() {
        let folder = tempfile::tempdir().expect("created");
        assert_eq!(kernel(&folder, &GOOD, 0).check(), Ok(()));
    }

    #[test]
    fn each_lack_is_named() {
        let folder = tempfile::tempdir().expect("created");
        assert_eq!(
            kernel(&folder, &GOOD[..1], 0).check(),
            Err(PreflightError::NoSchedExt {
                release: "6.18.0".into()
            })
        );
        assert_eq!(
            kernel(&folder, &GOOD[2..], 0).check(),
            Err(PreflightError::NoBtf {
                release: "6.18.0".into()
            })
        );
        assert_eq!(
            kernel(&folder, &GOOD, 1000).check(),
            Err(PreflightError::NotRoot)
        );
        assert_eq!(
            kernel(&folder, &[("proc/sys/net/core/bpf_jit_enable", "0\n")], 0).check(),
            Err(PreflightError::NoJit)
        );
    }

    #[test]
    fn functions_that_cannot_be_called_are_named_if_they_are_needed() {
        let folder = tempfile::tempdir().expect("created");
        let kernel = kernel(&folder, &GOOD, 0);
        let malformed = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            kernel.check_functions(&names)
        };
        assert_eq!(malformed(&[]), Ok(()));
        assert_eq!(malformed(&["scx_bpf_cpu_rq", "scx_bpf_dsq_peek"]), Ok(()));
        assert_eq!(
            malformed(&["scx_bpf_kick_cpu", "scx_bpf_cpu_rq", "scx_bpf_create_dsq"]),
            Err(PreflightError::UncallableFunctions {
                release: "6.18.0".into(),
                functions: "scx_bpf_create_dsq, scx_bpf_kick_cpu".into()
            })
        );
    }

    #[test]
    fn the_configuration_is_found_where_distributions_keep_it() {
        let config = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().expect("created");
            kernel(&folder, &GOOD, 0);
            kernel(&folder, files, 0).config()
        };
        assert_eq!(config(&[("boot/config-6.18.0", "")]), Ok(None));
        assert_eq!(config(&[("proc/config.gz", "")]), Ok(None));
        let kept = "CONFIG_HZ=250\nCONFIG_PREEMPT_RCU=y\n# CONFIG_PREEMPT_RT is not set\n";
        assert_eq!(
            config(&[("lib/modules/6.18.0/config", kept)]),
            Ok(Some("CONFIG_PREEMPT_RCU=y\nCONFIG_PREEMPT_RT=n\n".into()))
        );
        let message = config(&[("boot/config-6.17.0", "")])
            .expect_err("it is another kernel's")
            .to_string();
        assert!(
            message.contains("/boot/config-6.18.0, /proc/config.gz"),
            "{message}"
        );
        assert!(message.contains("--kconfig"), "{message}");
    }

    #[test]
    fn another_scheduler_is_named() {
        let folder = tempfile::tempdir().expect("created");
        kernel(&folder, &GOOD, 0);
        let busy = [
            ("sys/kernel/sched_ext/state", "enabled\n"),
            ("sys/kernel/sched_ext/root/ops", "rusty_1.1\n"),
        ];
        assert_eq!(
            kernel(&folder, &busy, 0).check(),
            Err(PreflightError::AnotherScheduler {
                name: "rusty_1.1".into()
            })
        );
    }

    #[test]
    fn a_kernel_that_isolates_cpus_is_named_as_the_reason() {
        for (cmdline, isolates) in [
            ("quiet isolcpus=1,3 ro", true),
            ("isolcpus=domain,managed_irq,1-3", true),
            ("isolcpus=managed_irq,1-3", false),
            ("quiet nohz_full=1-3", false),
        ] {
            let folder = tempfile::tempdir().expect("created");
            let kernel = kernel(&folder, &[("proc/cmdline", cmdline)], 0);
            assert_eq!(
                kernel.attach_advice().contains("isolcpus="),
                isolates,
                "{cmdline}"
            );
        }
    }
}
