//! A model file of a stranger: refused, or a model that survives being written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scx_ml::kernel::bpf::NR_FEATURES;
use scx_ml::model::file::ModelFile;

fuzz_target!(|text: &str| {
    let Ok(read) = ModelFile::from_text(text) else {
        return;
    };
    let again = ModelFile::from_text(&read.to_text()).expect("what was written can be read");
    assert_eq!(read, again);
    for class in 0..read.model.classes.len() {
        for features in [[0.0; NR_FEATURES], [127.0; NR_FEATURES]] {
            let _ = read.model.predict(class, &features);
        }
    }
});
