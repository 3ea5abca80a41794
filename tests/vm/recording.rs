//! Recording while it schedules: everything is in the files or counted as lost, and the disk may do what it wants.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use scx_ml::kernel::fault::Fault;
use scx_ml::recording::Recording;

use crate::harness::{Running, SCX_ML, nr_cpus, run, state, wait_for, without_rights};
use crate::load;

/// Read a recording whose run has ended: all bursts of it are accounted for.
fn read(dir: &Path) -> Recording {
    let recording = Recording::read(dir).expect("readable");
    let total = recording.total();
    assert_eq!(
        total.kept + total.ring_dropped + total.sampled_out,
        total.bursts,
        "{total:?}"
    );
    assert_eq!(
        recording.samples.len() as u64 + recording.implausible,
        total.kept - total.channel_dropped - total.undecodable - total.not_recorded,
        "{total:?}"
    );
    let (losses, mut next) = (&recording.losses, 0);
    for loss in losses {
        assert!(loss.start_ns >= next, "{losses:?}");
        next = loss.end_ns;
    }
    recording
}

/// As many bursts as the machine can do.
fn many_bursts() -> load::Threads {
    let mut threads = load::Threads::default();
    for _ in 0..8 {
        threads.add(|| (), || std::thread::sleep(Duration::from_micros(100)));
    }
    threads
}

/// A path as an argument.
fn arg(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn everything_recorded_can_be_read_and_adds_up() {
    let parent = tempfile::tempdir().expect("a folder");
    let dir = parent.path().join("rec");
    let mut running = Running::start(&["--record", arg(&dir), "--refit-interval", "2"]);
    let load = load::alternating(4);
    let stats = running.stats_until(Duration::from_secs(60), |s| {
        s.recorded > 500 && s.slices_predicted > 0
    });
    load::stress_ng("--switch 2 --pipe 2 -t 3");
    load.end();
    assert_eq!(stats.record_lost, 0, "{stats:#?}");
    let log = running.stop();
    assert!(
        log.contains("recording to") && log.contains("recorded "),
        "{log}"
    );

    let recording = read(&dir);
    let total = recording.total();
    assert!(total.sampled_out > 0, "{total:?}");
    assert_eq!(recording.implausible, 0);
    assert!(
        recording.losses.len() > 3,
        "one a second: {:?}",
        recording.losses
    );
    let meta = &recording.meta;
    assert_eq!((meta.mode.as_str(), meta.sample_rate), ("learn", 1000));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    assert_eq!(meta.kernel, release.trim());

    let samples = &recording.samples;
    assert!(samples.is_sorted_by_key(|s| s.0.end_ns));
    let (first, last) = (
        &recording.losses[0],
        &recording.losses[recording.losses.len() - 1],
    );
    assert!(
        samples
            .iter()
            .all(|s| (first.start_ns..=last.end_ns).contains(&s.0.end_ns)),
        "samples from outside of the recording's time"
    );
    assert!(samples.iter().any(|s| s.comm().starts_with("stress-ng")));
    assert!(samples.iter().any(|s| s.prediction().is_some()));
}

#[test]
fn a_disk_that_fills_up_ends_the_recording_and_not_the_scheduler() {
    let parent = tempfile::tempdir().expect("a folder");
    let size = "size=256k";
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", size, "none", arg(parent.path())])
        .status()
        .expect("mount");
    assert!(mounted.success());
    let dir = parent.path().join("rec");

    let mut running = Running::start(&["--record", arg(&dir), "--sample-rate", "100000"]);
    let full = {
        let load = many_bursts();
        let full = wait_for(Duration::from_secs(120), || {
            running.log().contains("No space left on device")
        });
        load.end();
        full
    };
    assert!(full, "{:#?}\n{}", running.stats(), running.log());
    let load = load::alternating(2);
    let stats = running.stats_until(Duration::from_secs(30), |s| {
        s.record_lost > 0 && s.slices_base + s.slices_predicted > 0
    });
    assert_eq!(stats.recorded, 0, "{stats:#?}");
    load.end();
    let log = running.stop();
    let unmounted = Command::new("umount").arg(parent.path()).status();
    assert!(unmounted.expect("umount").success());
    let error = log
        .lines()
        .find(|l| l.contains("No space left"))
        .expect("found above");
    assert!(
        error.contains("[ERROR]") && error.contains("scheduling goes on"),
        "{error}"
    );
}

#[test]
fn the_limit_ends_the_recording_and_not_the_scheduler() {
    let parent = tempfile::tempdir().expect("a folder");
    let dir = parent.path().join("rec");
    let limit = ["--record-limit", "1", "--sample-rate", "100000"];
    let running = Running::start(&[&["--record", arg(&dir)][..], &limit[..]].concat());
    let load = many_bursts();
    let reached = wait_for(Duration::from_secs(120), || {
        running.log().contains("has reached its limit of 1 MiB")
    });
    std::thread::sleep(Duration::from_secs(2));
    load.end();
    assert!(reached, "{}", running.log());
    running.stop();
    let recording = read(&dir);
    let total = recording.total();
    assert!(
        total.not_recorded > 0 && !recording.samples.is_empty(),
        "{total:?}"
    );
    let bytes: u64 = std::fs::read_dir(&dir)
        .expect("a folder")
        .map(|entry| entry.and_then(|e| e.metadata()).expect("metadata").len())
        .sum();
    assert!(bytes <= 1 << 20, "{bytes} bytes");
}

#[test]
fn a_recorder_that_falls_behind_is_counted_and_nobody_waits_for_it() {
    let parent = tempfile::tempdir().expect("a folder");
    let dir = parent.path().join("rec");
    let args = ["--record", arg(&dir), "--sample-rate", "100000"];
    let mut running = Running::start_with_fault(&args, Fault::RecorderSlow);
    let load = many_bursts();
    let stats = running.stats_until(Duration::from_secs(180), |s| s.record_lost > 100);
    load.end();
    assert!(
        stats.channel_dropped < stats.received,
        "the learner's: {stats:#?}"
    );
    running.stop();
    assert!(read(&dir).total().channel_dropped > 100);
}

#[test]
fn a_recorder_that_panics_leaves_the_rest_running() {
    let parent = tempfile::tempdir().expect("a folder");
    let dir = parent.path().join("rec");
    let mut running = Running::start_with_fault(&["--record", arg(&dir)], Fault::RecorderPanic);
    let load = load::alternating(4);
    running.stats_until(Duration::from_secs(60), |s| {
        s.record_lost > 0 && s.models_fitted > 1
    });
    load.end();
    let log = running.stop();
    assert!(log.contains("the recorder has ended (it panicked"), "{log}");
}

#[test]
fn a_recording_goes_on_through_a_hotplug() {
    let online = format!("/sys/devices/system/cpu/cpu{}/online", nr_cpus() - 1);
    let parent = tempfile::tempdir().expect("a folder");
    let dir = parent.path().join("rec");
    let mut running = Running::start(&["--record", arg(&dir)]);
    let mut recorded = 0;
    let mut record = |running: &mut Running| {
        let load = load::alternating(2);
        let stats = running.stats_until(Duration::from_secs(60), |s| s.recorded > recorded + 50);
        load.end();
        recorded = stats.recorded;
    };
    for value in ["0", "1"] {
        record(&mut running);
        let restarts = running.log().matches("scheduling, mode").count();
        std::fs::write(&online, value).expect("the CPU can be switched");
        assert!(
            wait_for(Duration::from_secs(180), || {
                running.log().matches("scheduling, mode").count() > restarts
            }),
            "no restart:\n{}",
            running.log()
        );
        running.reconnect();
    }
    record(&mut running);
    let log = running.stop();
    assert_eq!(log.matches("recording to").count(), 1, "{log}");
    assert!(read(&dir).samples.len() as u64 > recorded);
}

#[test]
fn a_folder_that_cannot_be_used_is_refused_before_anything_is_loaded() {
    let parent = tempfile::tempdir().expect("a folder");
    let taken = parent.path().join("taken");
    std::fs::create_dir(&taken).expect("a folder");
    std::fs::write(taken.join("samples-000000.parquet"), "").expect("written");
    for (dir, needle) in [
        (taken.as_path(), "holds a recording already"),
        (Path::new("/proc/rec"), "cannot create the folder /proc/rec"),
        (Path::new("/etc/passwd"), "is not a folder"),
    ] {
        let (code, out, err) = run(Command::new(SCX_ML).args(["--record", arg(dir)]));
        assert_eq!(code, Some(1), "{out}{err}");
        assert!(err.starts_with("scx_ml: ") && err.contains(needle), "{err}");
        assert_eq!(err.trim_end().lines().count(), 1, "{err}");
        assert_eq!(state(), "disabled");
    }
    // Without root nothing is touched at all.
    let dir = parent.path().join("rec");
    let (code, _, err) = run(without_rights().args(["--record", arg(&dir)]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("sudo scx_ml") && !dir.exists(), "{err}");
}
