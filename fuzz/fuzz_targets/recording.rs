//! A segment of a recording, forged by a stranger who can make its seal: refused, or a recording that can be fitted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scx_ml::learn::row::Row;
use scx_ml::learn::gate;
use scx_ml::model::Model;
use scx_ml::recording::{Recording, reseal};

fuzz_target!(
    init: {
        // The reader catches the Parquet library's panics. libFuzzer's hook would end the process before it can; what the
        // reader does not catch, libFuzzer still sees.
        std::panic::set_hook(Box::new(|_| {}));
    },
    |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        reseal(&mut bytes);
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let path = folder.path().join("samples-000001.parquet");
        std::fs::write(&path, &bytes).expect("a file in memory");
        let Ok(read) = Recording::read(&path) else {
            return;
        };
        let ends = read.samples.iter().map(|s| s.0.end_ns);
        assert!(ends.is_sorted(), "sorted by their ends");
        let rows: Vec<Row> = read.samples.iter().map(Row::from).collect();
        assert!(gate::judge(&rows, &Model::default()).error_avg.is_finite());
    }
);
