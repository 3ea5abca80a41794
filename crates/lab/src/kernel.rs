//! What the kernel says about sched_ext, read from a root that tests can replace.

use std::path::{Path, PathBuf};

/// The files under /sys/kernel/sched_ext.
#[derive(Debug, Clone)]
pub struct SchedExt {
    root: PathBuf,
}

impl SchedExt {
    /// The running system's.
    pub fn system() -> Self {
        Self::at(Path::new("/sys/kernel/sched_ext"))
    }

    /// A tree with the same files somewhere else.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    fn read(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(file))
            .ok()
            .map(|s| s.trim().to_string())
    }

    /// Whether the kernel was built with sched_ext.
    pub fn is_supported(&self) -> bool {
        self.root.join("state").exists()
    }

    /// `disabled`, `enabling`, `enabled`, `disabling`; `disabled` on a kernel without sched_ext.
    pub fn state(&self) -> String {
        self.read("state").unwrap_or_else(|| "disabled".to_string())
    }

    pub fn is_enabled(&self) -> bool {
        self.state() != "disabled"
    }

    /// The name of the loaded scheduler.
    pub fn ops(&self) -> Option<String> {
        self.read("root/ops").filter(|o| !o.is_empty())
    }

    /// How often a scheduler was enabled since boot. Absent on the oldest sched_ext kernels.
    pub fn enable_seq(&self) -> Option<u64> {
        self.read("enable_seq").and_then(|s| s.parse().ok())
    }
}

/// The id of this boot, or "unknown".
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".to_string(), |s| s.trim().to_string())
}

/// Whether a kernel's ops name can be that of `program`: `scx_bpfland` registers as `bpfland_1.1.4_…`.
pub fn ops_matches(ops: &str, program: &str) -> bool {
    let base = Path::new(program)
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or(program);
    let stem = base.strip_prefix("scx_").unwrap_or(base);
    let ops = ops.strip_prefix("scx_").unwrap_or(ops);
    ops.strip_prefix(stem)
        .is_some_and(|rest| rest.chars().next().is_none_or(|c| !c.is_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_names_are_matched_whole() {
        assert!(ops_matches(
            "bpfland_1.1.4_x86_64_unknown_linux_gnu",
            "scx_bpfland"
        ));
        assert!(ops_matches("scx_ml", "/usr/bin/scx_ml"));
        assert!(ops_matches("ml", "scx_ml"));
        assert!(!ops_matches("mlx", "scx_ml"));
        assert!(!ops_matches("rusty", "scx_rustland"));
        assert!(!ops_matches("rustland", "scx_rusty"));
    }

    #[test]
    fn a_missing_tree_means_no_sched_ext() {
        let dir = tempfile::tempdir().expect("tempdir");
        let s = SchedExt::at(&dir.path().join("nothing"));
        assert!(!s.is_supported() && !s.is_enabled() && s.ops().is_none());
    }

    #[test]
    fn a_loaded_scheduler_is_seen() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(dir.path().join("root")).expect("mkdir");
        for (f, v) in [
            ("state", "enabled\n"),
            ("root/ops", "flash_1.0\n"),
            ("enable_seq", "3\n"),
        ] {
            std::fs::write(dir.path().join(f), v).expect("write");
        }
        let s = SchedExt::at(dir.path());
        assert!(s.is_supported() && s.is_enabled());
        assert_eq!(
            (s.ops().as_deref(), s.enable_seq()),
            (Some("flash_1.0"), Some(3))
        );
    }
}
