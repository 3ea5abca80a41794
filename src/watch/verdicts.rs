//! How predictions turned out, class by class: of the model, and of the kind's average, which steers where no model does.
//! Counted from the samples as they are drained, each as often as the bursts that it stands for: a model is asked about all of
//! those, of other bursts only where it could decide something.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::sync::{Mutex, MutexGuard};

use scx_stats_derive::Stats;
use serde::{Deserialize, Serialize};

use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::features;
use crate::kernel::ringbuf::{Batch, Outlet};
use crate::kernel::sample::Sample;

/// What became of the bursts of a class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Stats)]
pub struct Verdict {
    #[stat(desc = "bursts, as the samples stand for them")]
    pub bursts: u64,
    #[stat(desc = "of those, bursts whose slice came from a model's prediction")]
    pub steered: u64,
    #[stat(desc = "bursts that a model predicted; the rest of this is about them")]
    pub judged: u64,
    #[stat(desc = "bursts that ended within the predicted 95 % quantile")]
    pub held: u64,
    #[stat(desc = "sum of the model's |error|, octaves of log2(burst)")]
    pub err_model: f64,
    #[stat(desc = "sum of the |error| of the kind's average, octaves")]
    pub err_avg: f64,
}

/// By the name of the class.
pub type ByClass = BTreeMap<String, Verdict>;

impl Verdict {
    fn add(&mut self, sample: &Sample) {
        let weight = u64::from(sample.0.repeat);
        let count = |is: bool| if is { weight } else { 0 };
        self.bursts += weight;
        self.steered += count(sample.steered());
        let Some((_, predicted)) = sample.prediction() else {
            return;
        };
        let burst = sample.log_burst();
        self.judged += weight;
        self.held += count(sample.quantile().is_some_and(|q| burst <= q));
        self.err_model += weight as f64 * (predicted - burst).abs();
        self.err_avg += weight as f64 * (sample.kind_average() - burst).abs();
    }

    /// What came after `before`. A scheduler that was started anew counts from zero.
    pub fn since(&self, before: &Self) -> Self {
        if self.bursts < before.bursts {
            return self.clone();
        }
        Self {
            bursts: self.bursts - before.bursts,
            steered: self.steered.saturating_sub(before.steered),
            judged: self.judged.saturating_sub(before.judged),
            held: self.held.saturating_sub(before.held),
            err_model: (self.err_model - before.err_model).max(0.0),
            err_avg: (self.err_avg - before.err_avg).max(0.0),
        }
    }

    /// Mean |error| of the model and of the kind's average, octaves; None where nothing was predicted.
    pub fn errors(&self) -> Option<(f64, f64)> {
        let judged = self.judged as f64;
        (self.judged > 0).then(|| (self.err_model / judged, self.err_avg / judged))
    }
}

impl<'a> Sum<&'a Verdict> for Verdict {
    fn sum<I: Iterator<Item = &'a Self>>(verdicts: I) -> Self {
        verdicts.fold(Self::default(), |sum, v| Self {
            bursts: sum.bursts + v.bursts,
            steered: sum.steered + v.steered,
            judged: sum.judged + v.judged,
            held: sum.held + v.held,
            err_model: sum.err_model + v.err_model,
            err_avg: sum.err_avg + v.err_avg,
        })
    }
}

/// Counts; one who wants the samples.
#[derive(Debug, Default)]
pub struct Verdicts {
    by_class: Mutex<[Verdict; NR_CLASSES]>,
}

impl Verdicts {
    fn lock(&self) -> MutexGuard<'_, [Verdict; NR_CLASSES]> {
        self.by_class.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// So far.
    pub fn read(&self) -> ByClass {
        let by_class = self.lock();
        let named = by_class.iter().enumerate();
        named
            .map(|(class, verdict)| (features::class_name(class).into(), verdict.clone()))
            .collect()
    }
}

impl Outlet for Verdicts {
    fn offer(&self, batch: &Batch) {
        let mut by_class = self.lock();
        for sample in batch.iter() {
            if let Some(verdict) = by_class.get_mut(sample.class()) {
                verdict.add(sample);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::intf::{
        burst_sample, sample_flags_SAMPLE_PREDICTED as PREDICTED,
        sample_flags_SAMPLE_STEERED as STEERED, scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST,
    };
    use std::sync::Arc;

    /// A burst of 2^20 ns of which the average said 2^18 and the model 2^`predicted`, within two octaves.
    fn sample(class: u32, repeat: u32, flags: u32, predicted: i32) -> Sample {
        let mut record = burst_sample {
            class,
            repeat,
            flags,
            burst_ns: 1 << 20,
            pred_q16: predicted << 16,
            margin_q16: 2 << 16,
            ..Default::default()
        };
        record.feature_q8[KIND_BURST as usize] = 18 * 256;
        Sample(record)
    }

    #[test]
    fn a_sample_counts_as_the_bursts_that_it_stands_for() {
        let verdicts = Verdicts::default();
        verdicts.offer(&Arc::new(vec![
            sample(1, 3, PREDICTED | STEERED, 19),
            sample(1, 1, PREDICTED, 17),
            sample(1, 4, 0, 0),
            sample(NR_CLASSES as u32, 1, 0, 0),
        ]));
        let read = verdicts.read();
        let one = &read[features::class_name(1)];
        assert_eq!(
            (one.bursts, one.steered, one.judged, one.held),
            (8, 3, 4, 3)
        );
        assert_eq!(one.errors(), Some((6.0 / 4.0, 2.0)));
        assert_eq!(read.len(), NR_CLASSES);
        assert_eq!(read[features::class_name(0)].errors(), None);
    }

    #[test]
    fn a_span_is_what_came_after_and_a_new_start_counts_from_zero() {
        let verdicts = Verdicts::default();
        let offer = || verdicts.offer(&Arc::new(vec![sample(1, 2, PREDICTED, 19)]));
        let read = || verdicts.read()[features::class_name(1)].clone();
        offer();
        let before = read();
        offer();
        assert_eq!(read().since(&before), before);
        assert_eq!(before.since(&read()), before);
    }
}
