//! Models that no user space of ours would publish: whatever is in the maps, slices stay within their limits and the
//! machine goes on.

use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapFlags, MapHandle, query::MapInfoIter};
use scx_ml::kernel::bpf::intf;
use scx_ml::recording::Recording;

use crate::harness::Running;
use crate::load;

/// The map of the running scheduler with this name.
fn map(name: &str) -> MapHandle {
    let info = MapInfoIter::default()
        .filter(|m| m.name.to_string_lossy() == name)
        .max_by_key(|m| m.id)
        .unwrap_or_else(|| panic!("no map '{name}'"));
    MapHandle::from_map_id(info.id).expect("the map opens")
}

/// Repeatable noise.
fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[test]
fn random_bytes_as_a_model_never_lead_to_a_slice_outside_its_limits() {
    let dir = tempfile::tempdir().expect("a directory");
    let recording = dir.path().join("rec");
    let running = Running::start(&[
        "--record",
        recording.to_str().expect("plain text"),
        "--slice-min-us",
        "700",
        "--slice-max-us",
        "9000",
        // Our own models stay away.
        "--refit-interval",
        "86400",
    ]);
    let (models, ctl) = (map("models"), map("model_ctl"));
    let threads = load::alternating(4);
    let mut noise = noise(7);
    let mut published = 0u64;
    let end = Instant::now() + Duration::from_secs(12);
    while Instant::now() < end {
        published += 1;
        let generation = 1_000 + published;
        let mut bytes: Vec<u8> = (0..size_of::<intf::model>())
            .map(|_| noise() as u8)
            .collect();
        // Valid for the kernel as far as it can know; half of them with few set bits, so that not all saturate.
        if published.is_multiple_of(2) {
            bytes
                .iter_mut()
                .for_each(|b| *b &= noise() as u8 & noise() as u8);
        }
        bytes[..8].copy_from_slice(&generation.to_ne_bytes());
        bytes[8..16].copy_from_slice(&u64::MAX.to_ne_bytes());
        let slot = (generation % 2) as u32;
        models
            .update(&slot.to_ne_bytes(), &bytes, MapFlags::ANY)
            .expect("written");
        ctl.update(
            &0u32.to_ne_bytes(),
            &generation.to_ne_bytes(),
            MapFlags::ANY,
        )
        .expect("written");
        std::thread::sleep(Duration::from_millis(5));
    }
    threads.end();
    running.stop();

    let samples = Recording::read(&recording).expect("a recording").samples;
    let steered: Vec<_> = samples
        .iter()
        .filter(|s| s.0.model_generation > 1_000)
        .collect();
    assert!(
        steered.len() > 100,
        "{} of {}",
        steered.len(),
        samples.len()
    );
    for sample in &samples {
        let slice_ns = sample.0.slice_ns;
        assert!(
            slice_ns == 0 || (700_000..=9_000_000).contains(&slice_ns),
            "a slice of {slice_ns} ns"
        );
    }
}
