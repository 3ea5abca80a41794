//! `seeds FOLDER`: writes FOLDER/{model_file,recording,profiles}/sound, what the fuzzer begins with.

use std::path::{Path, PathBuf};

use scx_ml::kernel::bpf::intf::{burst_sample, scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST};
use scx_ml::learn::row::Row;
use scx_ml::offline::train::train_bank;
use scx_ml::model::file::{ModelFile, Origin};
use scx_ml::kernel::native::name_key_of;
use scx_ml::learn::profile::Profiles;
use scx_ml::recording::{Meta, write};
use scx_ml::kernel::sample::Sample;

const NOW_S: u64 = 1_800_000_000;

/// Bursts of 8 us to 1 ms, of which the first feature tells the octave.
fn sample(i: u64) -> Sample {
    let octave = 13 + i % 8;
    let mut record = burst_sample {
        wake_ns: i * 1_000_000,
        end_ns: i * 1_000_000 + (2 << octave),
        burst_ns: (1 << octave) + i * 37 % 997,
        repeat: 1,
        name_key: name_key_of("worker"),
        avg_q16: 16 << 16,
        ..Default::default()
    };
    record.feature_q8[0] = (octave * 256) as i16;
    record.feature_q8[KIND_BURST as usize] = 16 * 256;
    for (to, from) in record.comm.iter_mut().zip(b"worker") {
        *to = *from as _;
    }
    Sample(record)
}

fn folder(of: &Path, target: &str) -> std::io::Result<PathBuf> {
    let folder = of.join(target);
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join("sound"))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let of = std::env::args_os().nth(1).ok_or("usage: seeds FOLDER")?;
    let of = Path::new(&of);
    let samples: Vec<Sample> = (0..2_000).map(sample).collect();

    let rows: Vec<Row> = samples.iter().map(Row::from).collect();
    let model = train_bank(&rows).model;
    if model.is_empty() {
        return Err("the samples give no model".into());
    }
    let origin = Origin {
        kernel: "6.18.0".into(),
        machine: "x86_64, 2 CPUs".into(),
        boot_id: "3644c112-a0ba-4f1b-8feb-9fc7ba8c8f8d".into(),
        from_ns: 1_000_000_000,
        until_ns: 61_000_000_000,
        monotonic_to_unix_ns: 1_700_000_000_000_000_000,
        samples: samples.len(),
        error_model: 0.5,
        error_avg: 1.1,
    };
    ModelFile { origin, model }.save(&folder(of, "model_file")?)?;

    let path = folder(of, "recording")?;
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    write::write_file(
        &path,
        &Meta::here("0.0.0", "learn", 0, false),
        &samples[..40],
    )?;

    let mut profiles = Profiles::default();
    samples[..40]
        .iter()
        .for_each(|s| profiles.observe(s, NOW_S));
    profiles.save(&folder(of, "profiles")?)?;
    Ok(())
}
