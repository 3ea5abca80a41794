//! What must be true before anything is loaded, each with what to do when it is not.

use std::path::{Path, PathBuf};

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
            // SAFETY: cannot fail.
            euid: unsafe { libc::geteuid() },
        }
    }

    /// Whether a scheduler can be loaded.
    pub fn check(&self) -> Result<(), PreflightError> {
        let release = || {
            self.read("proc/sys/kernel/osrelease")
                .unwrap_or_else(|| "unknown".into())
        };
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
}
