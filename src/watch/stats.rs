//! Statistics: what the kernel part counts and the learner has done, over scx_stats' socket and as text.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use scx_ml_text::Show;
use scx_stats::prelude::*;
use scx_stats_derive::{Stats, stat_doc};
use serde::{Deserialize, Serialize};

use crate::kernel::bpf::intf::{counters, watch};
use crate::kernel::features;
use crate::kernel::native;
use crate::kernel::ringbuf::DrainCounters;
use crate::learn::learner::LearnerStatus;
use crate::watch::latency::{self, Histogram};
use crate::watch::units;
use crate::watch::verdicts::{ByClass, Verdict};

/// The error of a request that was understood, but for which something could not be read.
pub const CANNOT_READ: StatsErrno = StatsErrno(libc::EIO);

/// Defines [`Metrics`] from the fields of user space and the kernel's counters, each with the name and description of `intf.h`.
macro_rules! metrics {
    ({ $($field:ident: $type:ty = $desc:tt,)* } $([$counter:ident, $counter_desc:tt])*) => {
        /// One reading. Counters cover the time since the reading before; the rest is as it is now.
        #[stat_doc]
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Stats)]
        #[stat(top)]
        pub struct Metrics {
            $(#[stat(desc = $counter_desc)] pub $counter: u64,)*
            $(#[stat(desc = $desc)] pub $field: $type,)*
        }

        impl Metrics {
            fn set_counters(&mut self, c: &counters) {
                $(self.$counter = c.$counter;)*
            }

            /// Name, description and value of each of the kernel's counters.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($counter), $counter_desc, self.$counter),)*].into_iter()
            }

            /// What was counted since `before`; readings of a restarted scheduler start anew.
            fn counters_since(&mut self, before: &Self) {
                $(self.$counter = self.$counter.checked_sub(before.$counter).unwrap_or(self.$counter);)*
            }
        }
    };
}

native::SCX_ML_COUNTERS! { metrics {
    mode: String = "learn, shadow, frozen or base",
    uptime_s: f64 = "seconds since the scheduler was attached",
    span_s: f64 = "seconds that the counters cover: those since the reading before",
    latencies_log2: Vec<u64> = "wake-to-run latencies: how many took 2^i to below 2^(i+1) ns, from i = 0 on",
    latency_ns: u64 = "all of those latencies together, nanoseconds",
    wakeups: u64 = "wake-ups that ended with the task on a CPU: the sum of those",
    latency_p50_us: f64 = "half of them took less, microseconds",
    latency_p99_us: f64 = "99 % of them took less, microseconds",
    thinning: Vec<u64> = "by class of tasks: of the samples that the rate allows, one in so many is taken",
    received: u64 = "samples that user space has read, since the start",
    channel_dropped: u64 = "samples lost because the learner was behind, since the start",
    undecodable: u64 = "records that were no samples, since the start",
    recorded: u64 = "samples in the recording (--record), since the start",
    record_lost: u64 = "samples that are not in it: recorder behind, limit or disk; since the start",
    trainer_dead: u64 = "1: the trainer has ended with an error, base policy only",
    window: u64 = "samples that are remembered, each as far as it is not forgotten",
    models_fitted: u64 = "fits, since the start",
    models_failed: u64 = "fits that failed, since the start",
    models_published: u64 = "times that models of other classes were published than before, since the start",
    models_kept: u64 = "times that the published models were refined or confirmed, since the start",
    models_withdrawn: u64 = "times that the last model was withdrawn because the kind's average was better, since the start",
    drifts: u64 = "times that a class's fits became worse than the kind's average, and older samples were forgotten; since the start",
    generation: u64 = "generation of the published model, 0 for none",
    model_samples: u64 = "samples that the published model was fitted on",
    first_quantum_ns: u64 = "first quantum that the load asks for, nanoseconds; 0: not known yet",
    fit_us: u64 = "CPU time that the last fit and judgement took, microseconds",
    profiles: u64 = "profiles in the process database",
    profiles_told: u64 = "profiles that the kernel uses",
    gate_model: f64 = "mean |error| of what is published on samples that it was not fitted on, of late; octaves",
    gate_avg: f64 = "mean |error| of the kind's average on the same, octaves",
    parity_checked: u64 = "predictions of the kernel that were recomputed, since the start",
    parity_errors: u64 = "of those, how many differed by more than the quantisation explains",
    parity_max: f64 = "largest difference, octaves",
    in_fallback: String = "classes of tasks whose model the kernel does not use at the moment",
    fallbacks: u64 = "times that the kernel fell back from a model to the kind's average, since the start",
    returns: u64 = "times that it returned to the model, since the start",
    error_model: f64 = "the model's mean |error| in the kernel, octaves of log2(burst), of the bursts that it was asked about",
    error_avg: f64 = "mean |error| of the kind's average, which steers where no model does, on the same bursts, octaves",
    classes: BTreeMap<String, Verdict> = "how predictions turned out, by class of tasks, as the samples tell",
    troubles: u64 = "failures in user space that scheduling went on after, since the start; the log says which",
} }

/// What the scheduler's thread answers to the stats server: a reading of everything since the start, or why there is none.
pub type Reading = Result<Metrics, String>;

/// What a reading is made of.
pub struct Sources<'a> {
    pub mode: &'static str,
    pub uptime_s: f64,
    pub counters: &'a counters,
    pub latencies: Histogram,
    pub drain: &'a DrainCounters,
    pub learner: &'a LearnerStatus,
    /// By class.
    pub watches: &'a [watch],
    pub classes: ByClass,
    /// Samples in the recording, and those that are not; since the start.
    pub recorded: u64,
    pub record_lost: u64,
    /// Failures that user space went on after.
    pub troubles: u64,
}

impl Metrics {
    /// A reading of everything since the start.
    pub fn read(from: Sources) -> Self {
        let learner = from.learner;
        let mut metrics = Self {
            mode: from.mode.to_string(),
            uptime_s: from.uptime_s,
            span_s: from.uptime_s,
            latencies_log2: from.latencies.counts,
            latency_ns: from.latencies.sum_ns,
            thinning: learner.thinned.iter().map(|&shift| 1 << shift).collect(),
            received: from.drain.received.load(Ordering::Relaxed),
            channel_dropped: from.drain.channel_dropped.load(Ordering::Relaxed),
            undecodable: from.drain.undecodable.load(Ordering::Relaxed),
            recorded: from.recorded,
            record_lost: from.record_lost,
            trainer_dead: u64::from(learner.dead),
            window: learner.window as u64,
            models_fitted: learner.fits,
            models_failed: learner.fits_failed,
            models_published: learner.published,
            models_kept: learner.kept,
            models_withdrawn: learner.withdrawn,
            drifts: learner.drifts,
            generation: learner.generation,
            model_samples: learner.model_samples as u64,
            first_quantum_ns: learner.first_quantum_ns,
            fit_us: learner.fit_us,
            profiles: learner.profiles as u64,
            profiles_told: learner.profiles_told as u64,
            gate_model: learner.gate_model,
            gate_avg: learner.gate_avg,
            parity_checked: learner.parity.checked,
            parity_errors: learner.parity.errors,
            parity_max: learner.parity.max,
            in_fallback: in_fallback(from.watches),
            fallbacks: from.watches.iter().map(|w| u64::from(w.fallbacks)).sum(),
            returns: from.watches.iter().map(|w| u64::from(w.returns)).sum(),
            classes: from.classes,
            troubles: from.troubles,
            ..Default::default()
        };
        metrics.set_counters(from.counters);
        metrics.judge();
        metrics
    }

    /// The counters less those of `before`, and the errors and latencies of that time. A scheduler that was restarted
    /// since counts from zero.
    pub fn since(&self, before: &Self) -> Self {
        let mut delta = self.clone();
        delta.counters_since(before);
        for (class, verdict) in &mut delta.classes {
            if let Some(before) = before.classes.get(class) {
                *verdict = verdict.since(before);
            }
        }
        if self.uptime_s >= before.uptime_s {
            delta.span_s = self.uptime_s - before.uptime_s;
            delta.latency_ns = self.latency_ns.saturating_sub(before.latency_ns);
            for (count, before) in delta.latencies_log2.iter_mut().zip(&before.latencies_log2) {
                *count = count.saturating_sub(*before);
            }
        }
        delta.judge();
        delta
    }

    /// Mean errors from the sums, quantiles from the histogram.
    fn judge(&mut self) {
        let mean = |sum_q8: u64| {
            if self.judged == 0 {
                0.0
            } else {
                sum_q8 as f64 / 256.0 / self.judged as f64
            }
        };
        (self.error_model, self.error_avg) = (mean(self.err_model_q8), mean(self.err_avg_q8));
        self.wakeups = latency::total(&self.latencies_log2);
        let quantile_us = |q| self.latency_quantile_ns(q).unwrap_or(0.0) / 1000.0;
        (self.latency_p50_us, self.latency_p99_us) = (quantile_us(0.5), quantile_us(0.99));
    }

    /// Wake-to-run latency that a share `q` of the wake-ups stayed below, ns; None without any.
    pub fn latency_quantile_ns(&self, q: f64) -> Option<f64> {
        latency::quantile_ns(&self.latencies_log2, q)
    }

    /// Slices granted.
    pub fn slices(&self) -> u64 {
        self.slices_predicted + self.slices_average + self.slices_base
    }

    /// Share of the slices that came from a prediction, in percent.
    pub fn predicted_share(&self) -> f64 {
        percent(self.slices_predicted, self.slices())
    }

    /// Four lines for a person; one more while recording, and one where something has failed.
    pub fn format<W: Write>(&self, w: &mut W) -> Result<()> {
        writeln!(
            w,
            "[scx_ml {}] bursts {}, samples kept {}{}, sampled out {}, lost {} (ring buffer {}, channel {})",
            self.mode.shown(),
            self.bursts,
            self.kept,
            thinned(&self.thinning),
            self.sampled_out,
            self.dropped + self.channel_dropped,
            self.dropped,
            self.channel_dropped,
        )?;
        let model = match self.generation {
            _ if self.trainer_dead != 0 => "the trainer is dead, no model".to_string(),
            0 => "no model".to_string(),
            g if self.in_fallback.is_empty() => {
                format!("model {g} of {} samples", self.model_samples)
            }
            g => format!(
                "model {g} of {} samples, kind's average for {}",
                self.model_samples,
                self.in_fallback.shown()
            ),
        };
        writeln!(
            w,
            "  {model}; fitted {}, published {}, confirmed {}, withdrawn {}, drifts {}; window {}, last fit {:.1} ms; first \
             quantum {:.2} ms",
            self.models_fitted,
            self.models_published,
            self.models_kept,
            self.models_withdrawn,
            self.drifts,
            self.window,
            self.fit_us as f64 / 1000.0,
            if self.first_quantum_ns > 0 {
                self.first_quantum_ns
            } else {
                native::policy_defaults().first_quantum_ns
            } as f64
                / 1e6,
        )?;
        writeln!(
            w,
            "  slices predicted {:.1} % of {}, by the kind's average {:.1} %; |error| model {}, kind's average {} octaves; fresh {}, fair {}, idle {}, \
             preempted {}, mean wait {} us",
            self.predicted_share(),
            self.slices(),
            percent(self.slices_average, self.slices()),
            error_text(self.judged, self.error_model),
            error_text(self.judged, self.error_avg),
            self.queued_fresh,
            self.queued_fair,
            self.direct_idle,
            self.preempt_kicks + self.tick_preempts,
            self.wait_ns / self.waits.max(1) / 1000,
        )?;
        let latency = |q| {
            self.latency_quantile_ns(q)
                .map_or("-".into(), |ns| units::duration(ns as u64))
        };
        writeln!(
            w,
            "  wake-to-run p50 {}, p90 {}, p99 {}, p99.9 {} of {} wake-ups",
            latency(0.5),
            latency(0.9),
            latency(0.99),
            latency(0.999),
            self.wakeups,
        )?;
        if self.recorded + self.record_lost > 0 {
            writeln!(
                w,
                "  recorded {}, not recorded {}",
                self.recorded, self.record_lost
            )?;
        }
        if self.troubles > 0 {
            writeln!(
                w,
                "  failed in user space {}: the log says what",
                self.troubles
            )?;
        }
        Ok(())
    }
}

/// Of which classes, being learned, few samples are taken.
fn thinned(thinning: &[u64]) -> String {
    let shares: Vec<String> = thinning
        .iter()
        .enumerate()
        .filter(|(_, of)| **of > 1)
        .map(|(class, of)| format!("{} 1/{of}", features::class_name(class)))
        .collect();
    match shares.is_empty() {
        true => String::new(),
        false => format!(" ({})", shares.join(", ")),
    }
}

/// Names of the classes in fallback.
fn in_fallback(watches: &[watch]) -> String {
    let names: Vec<&str> = watches
        .iter()
        .enumerate()
        .filter(|(_, w)| w.fallback != 0)
        .map(|(class, _)| features::class_name(class))
        .collect();
    names.join(" ")
}

/// A share in percent; of nothing: 0.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        100.0 * part as f64 / whole as f64
    }
}

fn error_text(judged: u64, error: f64) -> String {
    if judged == 0 {
        "-".into()
    } else {
        format!("{error:.3}")
    }
}

/// What the numbers mean, for scx_stats to describe.
pub fn server_data() -> StatsServerData<(), ()> {
    StatsServerData::new().add_meta(Metrics::meta())
}

/// The client's side: print readings until `shutdown`.
pub fn monitor(interval: Duration, shutdown: Arc<AtomicBool>) -> Result<()> {
    scx_utils::monitor_stats::<Metrics>(
        &[],
        interval,
        || shutdown.load(Ordering::Relaxed),
        |metrics| metrics.format(&mut std::io::stdout()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_means_over_the_time_between_two_readings() {
        let before = Metrics {
            judged: 10,
            err_model_q8: 10 * 256,
            err_avg_q8: 20 * 256,
            ..Default::default()
        };
        let now = Metrics {
            judged: 14,
            err_model_q8: 12 * 256,
            err_avg_q8: 24 * 256,
            models_fitted: 3,
            ..Default::default()
        };
        let delta = now.since(&before);
        assert_eq!((delta.error_model, delta.error_avg), (0.5, 1.0));
        assert_eq!((delta.judged, delta.models_fitted), (4, 3));
    }

    #[test]
    fn a_restarted_scheduler_counts_from_zero() {
        let before = Metrics {
            bursts: 100,
            ..Default::default()
        };
        let now = Metrics {
            bursts: 7,
            ..Default::default()
        };
        assert_eq!(now.since(&before).bursts, 7);
    }

    #[test]
    fn latencies_are_those_between_two_readings() {
        let reading = |uptime_s, count| {
            let mut metrics = Metrics {
                uptime_s,
                latencies_log2: vec![0; latency::BUCKETS],
                ..Default::default()
            };
            metrics.latencies_log2[10] = count;
            metrics
        };
        let delta = reading(7.0, 30).since(&reading(5.0, 20));
        assert_eq!((delta.wakeups, delta.span_s), (10, 2.0));
        assert!((1.024..2.048).contains(&delta.latency_p50_us));
        let restarted = reading(1.0, 3).since(&reading(5.0, 20));
        assert_eq!((restarted.wakeups, restarted.span_s), (3, 0.0));
    }

    #[test]
    fn failures_are_told_where_there_are_any() {
        let text = |troubles| {
            let mut text = vec![];
            let metrics = Metrics {
                troubles,
                ..Default::default()
            };
            metrics.format(&mut text).expect("printed");
            String::from_utf8(text).expect("text")
        };
        assert_eq!(text(0).lines().count(), 4);
        let failed = text(3);
        let last = failed.lines().nth(4);
        assert_eq!(last, Some("  failed in user space 3: the log says what"));
    }

    #[test]
    fn of_which_classes_few_samples_are_taken_is_told() {
        assert_eq!(thinned(&[1, 1, 1, 1]), "");
        assert_eq!(thinned(&[1, 1, 4, 2]), " (interactive 1/4, batch 1/2)");
    }

    #[test]
    fn a_reading_without_bursts_can_be_printed() {
        let mut text = vec![];
        Metrics::default().format(&mut text).expect("printed");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("no model"), "{text}");
        assert!(!text.contains("NaN"), "{text}");
    }
}
