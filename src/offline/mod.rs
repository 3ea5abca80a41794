//! Learning and judging without a scheduler, on recordings.
//!
//! ```text
//! train       fit a model on a recording, keep it if it is any good
//! eval        judge predictors on the newest part of a recording
//! predictors  what is compared
//! online      the recording replayed through the learner
//! metrics     how good predictions are
//! print       both reports for people
//! ```
//!
//! The method is described in `docs/offline.md`.

pub mod eval;
pub mod metrics;
pub mod online;
pub mod predictors;
pub mod print;
pub mod train;

use serde::Serialize;

use crate::kernel::sample::Sample;
use crate::learn::least_squares::FitError;
use crate::learn::row::SAMPLES_MIN;
use crate::model::file::utc;
use crate::recording::Recording;

pub use eval::evaluate;
pub use train::train;

/// Why nothing comes of a recording.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum OfflineError {
    #[error(
        "the recording has {found} samples, at least {SAMPLES_MIN} are needed; record for longer, or with a higher \
         --sample-rate"
    )]
    TooFew { found: usize },
    #[error(
        "no class of tasks has enough samples in the newest fifth to judge a model by; record for longer, or with a \
         higher --sample-rate"
    )]
    Unjudged,
    #[error(
        "no model beats the kind's average on the newest fifth of the recording, so none is written; what was \
         recorded last may differ from what was before it: record for longer"
    )]
    NothingBetter,
    #[error("no model can be fitted on the recording: {0}")]
    Fit(#[from] FitError),
}

/// Bursts that a sample counts for.
fn weight(sample: &Sample) -> f64 {
    f64::from(sample.0.repeat.max(1))
}

/// What a report says about its recording.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Source {
    pub kernel: String,
    pub machine: String,
    pub mode: String,
    /// When the first and the last of the samples that are looked at ended.
    pub from_utc: String,
    pub until_utc: String,
    /// Samples in the recording, and how many of them, the newest, are looked at.
    pub samples: usize,
    pub used: usize,
    /// Samples left out because they cannot be true.
    pub implausible: u64,
    /// What became of all bursts; all 0 where the recording does not tell.
    pub bursts: u64,
    pub kept: u64,
    pub sampled_out: u64,
    /// Samples lost on their way: ring buffer or channel full, disk full or broken, not decodable.
    pub lost: u64,
}

/// The newest samples of a recording, at most `window`, and what there is to say about it.
///
/// # Errors
/// When there are too few.
fn newest(recording: &Recording, window: usize) -> Result<(&[Sample], Source), OfflineError> {
    let all = &recording.samples;
    let samples = &all[all.len().saturating_sub(window)..];
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Err(OfflineError::TooFew { found: 0 });
    };
    if samples.len() < SAMPLES_MIN {
        return Err(OfflineError::TooFew {
            found: samples.len(),
        });
    }
    let meta = &recording.meta;
    let losses = recording.total();
    let time = |s: &Sample| utc(s.0.end_ns, meta.monotonic_to_unix_ns);
    let source = Source {
        kernel: meta.kernel.clone(),
        machine: meta.machine.clone(),
        mode: meta.mode.clone(),
        from_utc: time(first),
        until_utc: time(last),
        samples: all.len(),
        used: samples.len(),
        implausible: recording.implausible,
        bursts: losses.bursts,
        kept: losses.kept,
        sampled_out: losses.sampled_out,
        lost: losses.ring_dropped
            + losses.channel_dropped
            + losses.undecodable
            + losses.not_recorded,
    };
    Ok((samples, source))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::kernel::bpf::intf::{
        burst_sample, scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST,
        scx_ml_feature_FEATURE_WAKER_RAN as WAKER_RAN,
    };
    use crate::recording::Meta;

    /// Bursts of interactive tasks in two modes that one feature reveals, 100 a second.
    pub fn samples(n: usize) -> Vec<Sample> {
        (0..n as u64)
            .map(|i| {
                let long = (i * 7919) % 10 < 3;
                let burst_ns = (if long { 8_000_000 } else { 250_000 }) + (i * 104_729) % 50_000;
                let mut record = burst_sample {
                    wake_ns: i * 10_000_000,
                    end_ns: i * 10_000_000 + 9_000_000,
                    burst_ns,
                    pid: 100 + (i % 7) as u32,
                    bursts_before: (i / 7) as u32,
                    repeat: 1 + (i % 3) as u32,
                    avg_q16: 20 << 16,
                    class: 2,
                    ..Default::default()
                };
                record.comm[0] = b'a' as _;
                record.feature_q8[KIND_BURST as usize] = 20 * 256;
                record.feature_q8[WAKER_RAN as usize] = if long { 24 * 256 } else { 18 * 256 };
                Sample(record)
            })
            .collect()
    }

    /// A recording of this machine with these samples.
    pub fn recording(samples: Vec<Sample>) -> Recording {
        Recording {
            meta: Meta::here("0", "learn", 1000, false),
            samples,
            losses: vec![],
            implausible: 0,
        }
    }

    #[test]
    fn too_few_samples_are_refused_and_the_newest_are_taken() {
        for n in [0, 1, SAMPLES_MIN - 1] {
            let found = newest(&recording(samples(n)), 1_000).err();
            assert_eq!(found, Some(OfflineError::TooFew { found: n }));
        }
        let recording = recording(samples(3_000));
        let (newest, source) = newest(&recording, 1_000).expect("enough");
        assert_eq!((source.samples, source.used), (3_000, 1_000));
        assert_eq!(newest[0].0.end_ns, recording.samples[2_000].0.end_ns);
    }
}
