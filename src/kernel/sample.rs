//! A sample: the record of one burst. Pure decoding, no libbpf.

use scx_ml_text::Show;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::kernel::bpf::intf::{
    burst_sample, raw_sample, sample_flags_SAMPLE_FIRST, sample_flags_SAMPLE_PREDICTED,
    sample_flags_SAMPLE_STEERED, scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST,
};
use crate::kernel::features::{Features, from_q8};
use crate::kernel::native;

/// A record that is not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a record of {found} bytes came through the ring buffer, {expected} were expected")]
pub struct DecodeError {
    found: usize,
    expected: usize,
}

/// One burst, from wake-up to voluntary block, as `struct burst_sample` of `intf.h` holds it.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes)]
#[repr(transparent)]
pub struct Sample(pub burst_sample);

impl Sample {
    /// From the bytes of a ring buffer record, which is a [`raw_sample`]. The record may be longer: the ring buffer rounds up to
    /// eight bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match raw_sample::read_from_prefix(bytes) {
            Ok((raw, rest)) if rest.len() < 8 => Ok(Self::from(&raw)),
            _ => Err(DecodeError {
                found: bytes.len(),
                expected: size_of::<raw_sample>(),
            }),
        }
    }

    /// log2 of the burst's CPU time in ns, what a model predicts. 0 for a burst too short to have been accounted.
    pub fn log_burst(&self) -> f64 {
        (self.0.burst_ns.max(1) as f64).log2()
    }

    /// The features at the wake-up.
    pub fn features(&self) -> Features {
        from_q8(&self.0.feature_q8)
    }

    /// What steered where no model did, log2(ns): the moving average of log2 of the task's bursts that began like this one.
    pub fn kind_average(&self) -> f64 {
        f64::from(self.0.feature_q8[KIND_BURST as usize]) / 256.0
    }

    /// What the task's moving average of burst, not of its logarithm, predicted at the wake-up, log2(ns).
    pub fn avg_prediction(&self) -> f64 {
        f64::from(self.0.avg_q16) / 65536.0
    }

    /// The generation of the model that predicted, and the prediction in log2(ns); None where no model was valid.
    pub fn prediction(&self) -> Option<(u64, f64)> {
        (self.0.flags & sample_flags_SAMPLE_PREDICTED != 0).then(|| {
            (
                self.0.model_generation,
                f64::from(self.0.pred_q16) / 65536.0,
            )
        })
    }

    /// What the kernel's prediction plus its margin was, the burst's 95 % quantile, log2(ns).
    pub fn quantile(&self) -> Option<f64> {
        let margin = f64::from(self.0.margin_q16) / 65536.0;
        self.prediction().map(|(_, value)| value + margin)
    }

    /// Class of the task, an index into [`crate::kernel::native::CLASSES`].
    pub fn class(&self) -> usize {
        self.0.class as usize
    }

    /// Whether the task's slice came from the prediction.
    pub fn steered(&self) -> bool {
        self.0.flags & sample_flags_SAMPLE_STEERED != 0
    }

    /// Whether this was the task's first burst.
    pub fn first(&self) -> bool {
        self.0.flags & sample_flags_SAMPLE_FIRST != 0
    }

    /// The task's name, of at most 15 bytes, as it is shown.
    pub fn comm(&self) -> String {
        let bytes: Vec<u8> = self
            .0
            .comm
            .iter()
            .map(|&c| c as u8)
            .take_while(|&c| c != 0)
            .collect();
        bytes.shown().to_string()
    }
}

impl From<&raw_sample> for Sample {
    fn from(raw: &raw_sample) -> Self {
        let mut sample = burst_sample::default();
        native::sample_from_raw(raw, &mut sample);
        Self(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::intf::{history, wakeup};
    use crate::kernel::features;

    fn raw() -> raw_sample {
        raw_sample {
            burst_ns: 1 << 20,
            pred_q16: 21 << 16,
            model_generation: 3,
            flags: sample_flags_SAMPLE_PREDICTED,
            history: history {
                seen: 1,
                avg_burst_ns: 1 << 19,
                log_burst_q8: 18 << 8,
                last_log_q8: 17 << 8,
                ..Default::default()
            },
            wakeup: wakeup {
                kind_burst_q8: 16 << 8,
                used_ns: 1 << 20,
                granted_ns: 1 << 22,
                syscalls: [0, 3, 0, 0, 0, 0, 0, 0],
                ..Default::default()
            },
            ..Default::default()
        }
    }

    #[test]
    fn a_record_survives_the_way_through_bytes() {
        let mut record = raw();
        for (to, from) in record.comm.iter_mut().zip(b"worker") {
            *to = *from as _;
        }
        let sample = Sample::decode(record.as_bytes()).expect("a whole record");

        assert_eq!(sample.log_burst(), 20.0);
        assert_eq!(sample.prediction(), Some((3, 21.0)));
        assert_eq!(sample.avg_prediction(), 19.0);
        assert_eq!(sample.kind_average(), 16.0);
        assert_eq!(sample.comm(), "worker");
        assert!(!sample.steered());
    }

    #[test]
    fn features_are_made_of_the_history_and_the_wakeup() {
        let values = Sample::from(&raw()).features();
        let feature = |name| values[features::index(name).expect("is one")];
        assert_eq!(feature("last_burst"), 17.0);
        // There was but one burst: what is known of its length in general.
        assert_eq!(feature("prev_burst"), 18.0);
        assert_eq!(feature("slice_used"), -2.0);
        assert_eq!(feature("sys_net"), 2.0);
        assert_eq!(feature("sys_wait"), 0.0);
    }

    #[test]
    fn what_nobody_wants_is_left_as_it_is() {
        let mut values = [7; crate::kernel::bpf::FEATURE_SLOTS];
        let last = features::index("last_burst").expect("is one");
        native::fill_features(&raw().history, &raw().wakeup, 1 << last, &mut values);
        for (i, value) in values.into_iter().enumerate() {
            assert_eq!(value, if i == last { 17 << 8 } else { 7 });
        }
    }

    #[test]
    fn a_record_of_the_wrong_size_is_refused() {
        let size = size_of::<raw_sample>();
        for len in [0, 1, size - 1, size + 8, 2 * size] {
            let error = Sample::decode(&vec![0; len]).err().expect("wrong size");
            assert_eq!(
                error,
                DecodeError {
                    found: len,
                    expected: size
                }
            );
        }
    }

    #[test]
    fn without_a_model_there_is_no_prediction() {
        let sample = Sample::from(&raw_sample { flags: 0, ..raw() });
        assert_eq!(sample.prediction(), None);
    }
}
