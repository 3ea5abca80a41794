//! Gives up what root may do and scheduling does not need.
//!
//! Problem: whoever finds a way into this process, through its socket or a file that it reads, is root.
//! How: before any thread is started, all capabilities go but the two that loading BPF needs. They stay, for a CPU
//! hotplug loads the scheduler anew; reading and writing its maps, the socket, and files in root's own folders need
//! none. And nothing that it executes could get them back.
//! Limitation: capabilities belong to threads. One that is started before would keep all of them.

use std::path::Path;

use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};
use log::debug;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use scx_ml_text::Show;
use scx_utils::try_set_rlimit_infinity;

/// What the kernel asks for to load programs and maps, and for programs that look at its structures. Where either is
/// not to be had, CAP_SYS_ADMIN stands for both.
const LOADING: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_PERFMON];

/// Lets root write into folders of others.
const WRITING: Capability = Capability::CAP_DAC_OVERRIDE;

/// Give up all capabilities but those that are needed to load the scheduler, now and later, and to write to `outputs`.
///
/// # Errors
/// When the kernel refuses.
pub fn reduce(outputs: &[&Path]) -> Result<()> {
    // It needs one that goes.
    try_set_rlimit_infinity();
    let permitted = caps::read(None, CapSet::Permitted).context("cannot read our capabilities")?;
    let mut kept = loading(&permitted);
    set(CapSet::Effective, &kept)?;
    if permitted.contains(&WRITING) {
        let foreign: Vec<_> = outputs.iter().filter(|path| !writable(path)).collect();
        if let Some(path) = foreign.first() {
            debug!("{WRITING} is kept, to write to {}", path.shown());
            kept.insert(WRITING);
        }
    }
    give_up(&permitted, &kept)?;
    let mut names: Vec<String> = kept.iter().map(Capability::to_string).collect();
    names.sort_unstable();
    debug!(
        "capabilities kept: {}; all others are given up",
        names.join(", ")
    );
    Ok(())
}

/// Of what we have, what loading needs.
fn loading(permitted: &CapsHashSet) -> CapsHashSet {
    if LOADING.iter().all(|cap| permitted.contains(cap)) {
        LOADING.into_iter().collect()
    } else {
        let all = LOADING.into_iter().chain([Capability::CAP_SYS_ADMIN]);
        all.filter(|cap| permitted.contains(cap)).collect()
    }
}

fn give_up(permitted: &CapsHashSet, kept: &CapsHashSet) -> Result<()> {
    // What a program that is executed could be given; to bound that takes a capability of its own.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        let bounding = [Capability::CAP_SETPCAP].into_iter().collect();
        set(CapSet::Effective, &bounding)?;
        for cap in caps::runtime::thread_all_supported().difference(kept) {
            caps::drop(None, CapSet::Bounding, *cap)
                .with_context(|| format!("cannot bound capabilities by {cap}"))?;
        }
    }
    // Effective ones must be permitted all the while.
    set(CapSet::Effective, kept)?;
    set(CapSet::Permitted, kept)?;
    set(CapSet::Inheritable, &CapsHashSet::new())?;
    rustix::thread::set_no_new_privs(true)
        .context("cannot give up new privileges (PR_SET_NO_NEW_PRIVS)")
}

fn set(which: CapSet, to: &CapsHashSet) -> Result<()> {
    caps::set(None, which, to).with_context(|| format!("cannot set {which:?} capabilities"))
}

/// Whether a file or folder of this name can be made with the effective capabilities: whether the nearest folder that
/// is there can be written to.
fn writable(path: &Path) -> bool {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let there = path.ancestors().find(|a| a.is_dir());
    let enter_and_write = Access::WRITE_OK | Access::EXEC_OK;
    there.is_some_and(|a| accessat(CWD, a, enter_and_write, AtFlags::EACCESS).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Capability::{CAP_BPF, CAP_KILL, CAP_PERFMON, CAP_SYS_ADMIN};

    fn set_of(caps: &[Capability]) -> CapsHashSet {
        caps.iter().copied().collect()
    }

    #[test]
    fn loading_keeps_two_or_what_stands_for_them() {
        assert_eq!(loading(&caps::all()), set_of(&[CAP_BPF, CAP_PERFMON]));
        let old = set_of(&[CAP_SYS_ADMIN, CAP_BPF, CAP_KILL]);
        assert_eq!(loading(&old), set_of(&[CAP_SYS_ADMIN, CAP_BPF]));
        assert_eq!(loading(&set_of(&[CAP_KILL])), set_of(&[]));
    }

    #[test]
    fn a_place_is_judged_by_the_nearest_folder_that_is_there() {
        let folder = tempfile::tempdir().expect("created");
        assert!(writable(folder.path()));
        assert!(writable(&folder.path().join("not/yet/there.json")));
        assert!(!writable(Path::new("/proc/1/nothing")));
        assert!(!writable(Path::new("/a\0b")) || writable(Path::new("/")));
    }

    #[test]
    fn a_thread_gives_up_and_stays_so() {
        // Capabilities are a thread's: those of the other tests stay as they are.
        let after = std::thread::spawn(|| {
            reduce(&[]).map(|()| {
                let now = |set| caps::read(None, set).expect("read");
                (now(CapSet::Effective), now(CapSet::Permitted))
            })
        });
        let (effective, permitted) = after.join().expect("no panic").expect("given up");
        assert_eq!(effective, permitted);
        assert!(
            effective
                .iter()
                .all(|cap| [CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN].contains(cap))
        );
    }
}
