//! The recorder without a kernel: segments, limit, bad days of the disk. The sums must add up on each of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;
use scx_ml_text::Show;

use super::recorder::RecorderStatus;
use super::tests::{meta, plain, sample};
use super::write::{CreateFile, create_private};
use super::*;
use crate::kernel::bpf::intf::counters;
use crate::kernel::ringbuf::{Archive, Outlet};
use crate::kernel::sample::Sample;

/// The folder's path, in a folder that is removed with the test.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a folder");
    let dir = parent.path().join("recording");
    (parent, dir)
}

/// Segments of 1000 rows.
fn config(dir: &Path) -> RecorderConfig {
    RecorderConfig {
        segment_rows: 1_000,
        ..RecorderConfig::new(dir, 1 << 30, meta())
    }
}

/// Record batches, one a second, and tell of each as the scheduler does, which is attached anew after the fourth; what the
/// recorder says of it in the end.
fn record(
    config: RecorderConfig,
    create: CreateFile,
    batches: Vec<Vec<Sample>>,
) -> Arc<RecorderStatus> {
    let (recorder, handle) = Recorder::start_with(config, create).expect("started");
    let mut counted = counters::default();
    for (second, batch) in (0..).zip(batches) {
        let now_ns = second * 1_000_000_000;
        if second % 4 == 0 {
            counted = counters::default();
            handle.begin(now_ns, 0);
        }
        counted.bursts += batch.len() as u64 + 1;
        counted.kept += batch.len() as u64;
        counted.sampled_out += 1;
        handle.offer(&Arc::new(batch));
        assert!(!handle.is_due(now_ns) && handle.is_due(now_ns + 1_000_000_000));
        handle.account(&counted, 0, now_ns + 1_000_000_000, true);
    }
    let status = handle.status.clone();
    drop(handle);
    drop(recorder);
    status
}

fn random(rows: u64, batches: u64) -> Vec<Vec<Sample>> {
    (0..batches)
        .map(|b| (0..rows).map(|i| sample(b * rows + i)).collect())
        .collect()
}

/// Every sample is in the recording or told as lost.
fn adds_up(recording: &Recording, status: &RecorderStatus) {
    let total = recording.total();
    let rows = recording.samples.len() as u64;
    assert_eq!(
        rows,
        total.kept - total.channel_dropped - total.undecodable - total.not_recorded,
        "{total:?}"
    );
    assert_eq!(
        total.kept + total.ring_dropped + total.sampled_out,
        total.bursts
    );
    assert_eq!(rows, status.recorded.load(Ordering::Relaxed));
    assert_eq!(total.channel_dropped + total.not_recorded, status.lost());
}

/// Names and sizes of what is in a folder.
fn listing(dir: &Path) -> Vec<(String, u64)> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .expect("a folder")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let len = entry.metadata().expect("metadata").len();
            (entry.file_name().to_string_lossy().into_owned(), len)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_is_recorded_is_read_in_full() {
    let (_parent, dir) = folder();
    let status = record(config(&dir), create_private, random(300, 10));
    let recording = Recording::read(&dir).expect("readable");
    assert_eq!(
        (
            recording.samples.len(),
            recording.implausible,
            status.lost()
        ),
        (3_000, 0, 0)
    );
    adds_up(&recording, &status);
    let names: Vec<String> = listing(&dir).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "losses-000000.parquet",
            "losses-000001.parquet",
            "losses-000002.parquet",
            "samples-000000.parquet",
            "samples-000001.parquet",
            "samples-000002.parquet"
        ]
    );
}

#[test]
fn a_segment_is_complete_when_its_time_is_up() {
    let (_parent, dir) = folder();
    let config = RecorderConfig {
        segment_time: Duration::from_millis(200),
        ..config(&dir)
    };
    let (recorder, handle) = Recorder::start(config).expect("started");
    handle.offer(&Arc::new(vec![plain(1)]));
    let complete = || dir.join("samples-000000.parquet").exists();
    for _ in 0..100 {
        if complete() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // Others can read it while the recording goes on.
    assert_eq!(Recording::read(&dir).expect("readable").samples.len(), 1);
    drop(handle);
    drop(recorder);
}

#[test]
fn time_in_which_nothing_happens_makes_no_segments() {
    let (_parent, dir) = folder();
    let config = RecorderConfig {
        segment_time: Duration::from_millis(20),
        ..config(&dir)
    };
    let (recorder, handle) = Recorder::start(config).expect("started");
    std::thread::sleep(Duration::from_millis(200));
    handle.offer(&Arc::new(vec![plain(1)]));
    drop(recorder);
    assert_eq!(listing(&dir).len(), 1, "{:?}", listing(&dir));
}

#[test]
fn names_of_tasks_are_kept_private() {
    let (_parent, dir) = folder();
    record(config(&dir), create_private, vec![vec![plain(1)]]);
    let mode = |path: &Path| {
        let mode = std::fs::metadata(path).expect("there").permissions().mode();
        mode & 0o777
    };
    assert_eq!(mode(&dir), 0o700);
    for (name, _) in listing(&dir) {
        assert_eq!(mode(&dir.join(&name)), 0o600, "{name}");
    }
}

#[test]
fn the_limit_ends_the_recording_and_is_kept() {
    for batch_rows in [100, 5_000] {
        let (_parent, dir) = folder();
        let batches = random(batch_rows, 20_000 / batch_rows);
        let config = RecorderConfig {
            limit_bytes: 1 << 20,
            segment_rows: 200_000,
            ..config(&dir)
        };
        let status = record(config, create_private, batches);
        let recording = Recording::read(&dir).expect("readable");
        adds_up(&recording, &status);
        let lost = status.not_recorded.load(Ordering::Relaxed);
        assert!(
            lost > 1_000 && recording.samples.len() > 1_000,
            "{lost} lost"
        );
        let bytes: u64 = listing(&dir).iter().map(|(_, len)| len).sum();
        assert!((512 << 10..=1 << 20).contains(&bytes), "{bytes} bytes");
    }
}

#[test]
fn a_disk_that_fills_up_costs_the_unfinished_segment_only() {
    fn full(path: &Path) -> io::Result<File> {
        if path.ends_with("samples-000001.parquet.tmp") {
            // It has to be there to be removed.
            create_private(path)?;
            return File::options().write(true).open("/dev/full");
        }
        create_private(path)
    }
    let (_parent, dir) = folder();
    let status = record(config(&dir), full, random(500, 8));
    let recording = Recording::read(&dir).expect("readable");
    assert_eq!(recording.samples.len(), 1_000);
    assert_eq!(status.not_recorded.load(Ordering::Relaxed), 3_000);
    adds_up(&recording, &status);
    assert!(
        listing(&dir)
            .iter()
            .all(|(name, _)| !name.ends_with(".tmp")),
        "{:?}",
        listing(&dir)
    );
}

#[test]
fn a_folder_that_vanishes_is_a_loss_and_no_more() {
    let (_parent, dir) = folder();
    let (recorder, handle) = Recorder::start(config(&dir)).expect("started");
    std::fs::remove_dir_all(&dir).expect("removed");
    handle.offer(&Arc::new(random(2_000, 1).remove(0)));
    let status = handle.status.clone();
    drop(handle);
    drop(recorder);
    assert_eq!(status.recorded.load(Ordering::Relaxed), 0);
    assert_eq!(status.lost(), 2_000);
}

#[test]
fn what_never_began_leaves_nothing_behind() {
    let (_parent, dir) = folder();
    record(config(&dir), create_private, vec![]);
    assert!(!dir.exists());

    std::fs::create_dir(&dir).expect("a folder");
    record(config(&dir), create_private, vec![]);
    assert!(listing(&dir).is_empty());
}

/// What is said when a recording cannot begin.
fn refused(dir: &Path, create: CreateFile) -> String {
    match Recorder::start_with(config(dir), create) {
        Ok(_) => panic!("started in {}", dir.shown()),
        Err(e) => e.to_string(),
    }
}

#[test]
fn folders_that_cannot_be_used_are_refused() {
    let (parent, dir) = folder();
    let error = refused(Path::new("/proc/recording"), create_private);
    assert!(
        error.contains("cannot create the folder /proc/recording"),
        "{error}"
    );

    let file = parent.path().join("file");
    std::fs::write(&file, "").expect("written");
    let error = refused(&file, create_private);
    assert!(error.contains("is not a folder"), "{error}");
    let error = refused(&file.join("below"), create_private);
    assert!(error.contains("cannot create the folder"), "{error}");

    let read_only = |_: &Path| Err(Errno::ROFS.into());
    let error = refused(&dir, read_only);
    assert!(error.contains("cannot record to"), "{error}");
    assert!(error.contains("Read-only file system"), "{error}");
    let full = |_: &Path| File::options().write(true).open("/dev/full");
    let error = refused(&dir, full);
    assert!(error.contains("No space left on device"), "{error}");
    assert!(!dir.exists());
}

#[test]
fn a_recording_is_never_mixed_with_another() {
    let (_parent, dir) = folder();
    record(config(&dir), create_private, vec![vec![plain(1)]]);
    let before = listing(&dir);
    let error = refused(&dir, create_private);
    assert!(error.contains("holds a recording already"), "{error}");
    assert_eq!(listing(&dir), before);
}
