//! A process database of a stranger: refused, or one that survives being written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scx_ml::learn::profile::Profiles;

const NOW_S: u64 = 1_800_000_000;

fuzz_target!(|text: &[u8]| {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let path = folder.path().join("profiles.json");
    std::fs::write(&path, text).expect("a file in memory");
    let Ok(mut read) = Profiles::load(&path, NOW_S) else {
        return;
    };
    read.save(&path).expect("a file in memory");
    let mut again = Profiles::load(&path, NOW_S).expect("what was written can be read");
    assert_eq!(read.counts(), again.counts());
    let sorted = |mut changes: Vec<(u32, Option<i32>)>| {
        changes.sort();
        changes
    };
    assert_eq!(sorted(read.changes()), sorted(again.changes()));
});
