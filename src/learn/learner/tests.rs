//! What the learner does with samples and clocks, by a sink that takes notes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::kernel::bpf::intf::{
    burst_sample, sample_flags_SAMPLE_PREDICTED, scx_ml_feature_FEATURE_WAKER_RAN as WAKER_RAN,
};

/// A sink that writes down what it is told.
#[derive(Default)]
struct Notebook {
    generation: Mutex<u64>,
    calls: Mutex<Vec<String>>,
}

impl ModelSink for Notebook {
    fn publish(&self, _: &Model, expires_ns: u64) -> Result<u64> {
        let mut generation = self.generation.lock().expect("not poisoned");
        *generation += 1;
        let call = format!("publish {generation} until {expires_ns}");
        self.calls.lock().expect("not poisoned").push(call);
        Ok(*generation)
    }

    fn set_first_quantum(&self, _: Option<u64>) -> Result<()> {
        Ok(())
    }

    fn withdraw(&self) -> Result<()> {
        self.calls
            .lock()
            .expect("not poisoned")
            .push("withdraw".into());
        Ok(())
    }

    fn set_profiles(&self, _: &[(u32, Option<i32>)]) -> Result<()> {
        Ok(())
    }
}

/// Bursts in two modes that only one feature reveals.
fn samples(n: usize) -> Vec<Sample> {
    (0..n)
        .map(|i| {
            let long = (i * 7919) % 10 < 3;
            let mut record = burst_sample {
                burst_ns: (if long { 8_000_000 } else { 250_000 }) + (i as u64 * 104_729) % 50_000,
                repeat: 1,
                avg_q16: 20 << 16,
                class: 2,
                ..Default::default()
            };
            record.feature_q8[WAKER_RAN as usize] = if long { 24 * 256 } else { 18 * 256 };
            Sample(record)
        })
        .collect()
}

fn learner(freeze: bool) -> (Learner, Arc<Mutex<LearnerStatus>>) {
    let status = Arc::new(Mutex::new(LearnerStatus::default()));
    let config = LearnerConfig {
        window: 2_000,
        refit_interval: Duration::from_secs(5),
        max_age: Duration::from_secs(50),
        freeze,
    };
    (Learner::new(config, status.clone()), status)
}

fn calls(sink: &Notebook) -> Vec<String> {
    sink.calls.lock().expect("not poisoned").clone()
}

const S: u64 = 1_000_000_000;

#[test]
fn the_first_model_is_published_as_soon_as_there_are_enough_samples() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    learner.add(&samples(FIRST_FIT_ROWS - 1));
    learner.step(S, &sink).expect("sink works");
    assert!(calls(&sink).is_empty());

    learner.add(&samples(1));
    learner.step(2 * S, &sink).expect("sink works");
    assert_eq!(calls(&sink), ["publish 1 until 52000000000"]);
    assert_eq!(status.lock().expect("not poisoned").generation, 1);
}

#[test]
fn a_confirmed_model_gets_a_new_lease_only_at_the_interval_and_with_new_samples() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    learner.add(&samples(1_000));
    learner.step(S, &sink).expect("sink works");
    learner.add(&samples(1_000));
    learner.step(3 * S, &sink).expect("sink works");
    assert_eq!(calls(&sink).len(), 1, "too early");
    learner.step(6 * S, &sink).expect("sink works");
    assert_eq!(calls(&sink).len(), 2);
    learner.step(60 * S, &sink).expect("sink works");
    assert_eq!(
        calls(&sink).len(),
        2,
        "nothing new was seen: the lease runs out"
    );
    let status = status.lock().expect("not poisoned");
    assert_eq!((status.published, status.kept), (1, 1));
}

#[test]
fn a_frozen_learner_publishes_once_and_for_ever() {
    let (mut learner, _) = learner(true);
    let sink = Notebook::default();
    for second in 1..20 {
        learner.add(&samples(500));
        learner.step(second * 10 * S, &sink).expect("sink works");
    }
    assert_eq!(calls(&sink), [format!("publish 1 until {}", u64::MAX)]);
}

/// A file with the model that a learner finds in the samples.
fn model_file() -> ModelFile {
    let (mut learner, _) = learner(false);
    learner.add(&samples(1_000));
    learner.step(S, &Notebook::default()).expect("sink works");
    ModelFile {
        model: learner.published().expect("a model").model.clone(),
        ..crate::model::file::tests::file()
    }
}

#[test]
fn a_model_from_a_file_is_published_before_the_first_sample_and_judged_like_any_other() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    learner.adopt(model_file(), S, &sink).expect("sink works");
    assert_eq!(calls(&sink), ["publish 1 until 51000000000"]);
    learner.step(20 * S, &sink).expect("sink works");
    assert_eq!(calls(&sink).len(), 1, "its lease waits for samples");
    learner.add(&samples(1));
    learner.step(30 * S, &sink).expect("sink works");
    learner.step(31 * S, &sink).expect("sink works");
    assert_eq!(calls(&sink)[1..], ["publish 2 until 80000000000"]);
    assert!(matches!(
        learner.published().map(|p| &p.judged),
        Some(Judged::Elsewhere(_))
    ));

    // A candidate of the same samples is no better: it is kept, and now known here.
    learner.add(&samples(1_000));
    learner.step(40 * S, &sink).expect("sink works");
    let published = learner.published().expect("kept");
    assert_eq!((published.generation, published.since), (3, 1));
    assert!(matches!(
        published.judged,
        Judged::Here { samples: 1001, .. }
    ));
    let status = status.lock().expect("not poisoned");
    assert_eq!((status.fits, status.published, status.kept), (1, 1, 1));
}

#[test]
fn a_learner_that_waits_for_samples_does_not_ask_to_be_woken() {
    let (mut learner, _) = learner(false);
    let sink = Notebook::default();
    learner.step(S, &sink).expect("sink works");
    assert_eq!(learner.next_due(S), Duration::MAX);
    learner.add(&samples(1_000));
    learner.step(2 * S, &sink).expect("sink works");
    assert!(learner.next_due(2 * S) >= Duration::from_secs(5));
    assert_eq!(learner.next_due(60 * S), Duration::MAX);
}

#[test]
fn a_frozen_learner_keeps_a_model_from_a_file_and_fits_nothing() {
    let (mut learner, status) = learner(true);
    let sink = Notebook::default();
    learner.adopt(model_file(), S, &sink).expect("sink works");
    for second in 1..20 {
        learner.add(&samples(500));
        learner.step(second * 10 * S, &sink).expect("sink works");
    }
    assert_eq!(calls(&sink), [format!("publish 1 until {}", u64::MAX)]);
    assert_eq!(status.lock().expect("not poisoned").fits, 0);
}

#[test]
fn the_window_is_bounded() {
    let (mut learner, status) = learner(false);
    learner.add(&samples(10_000));
    assert_eq!(learner.rows.len(), 2_000);
    assert_eq!(status.lock().expect("not poisoned").window, 2_000);
}

#[test]
fn where_fitting_is_slow_only_the_newest_samples_are_fitted() {
    // A second between any two looks at the clock: 1 ms a sample and more.
    static CLOCK_NS: AtomicU64 = AtomicU64::new(0);
    let status = Arc::new(Mutex::new(LearnerStatus::default()));
    let mut learner = Learner::new(LearnerConfig::default(), status)
        .with_cpu_clock(|| CLOCK_NS.fetch_add(S, Ordering::Relaxed));
    let sink = Notebook::default();
    for second in [1, 1_000] {
        learner.add(&samples(2_500));
        learner.step(second * S, &sink).expect("sink works");
        let judged = &learner.published().expect("a model").judged;
        let expected = if second == 1 { 2_500 } else { 2_000 };
        assert!(matches!(judged, Judged::Here { samples, .. } if *samples == expected));
    }
}

#[test]
fn drift_brings_the_next_fit_forward() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    learner.add(&samples(1_000));
    learner.step(S, &sink).expect("sink works");

    let predicted = |off: i32| {
        let mut drifting = samples(400);
        for sample in &mut drifting {
            sample.0.flags = sample_flags_SAMPLE_PREDICTED;
            sample.0.model_generation = 99;
            sample.0.pred_q16 = (sample.log_burst() * 65536.0) as i32 + (off << 16);
        }
        drifting
    };
    learner.add(&predicted(0));
    learner.step(2 * S, &sink).expect("sink works");
    assert_eq!(status.lock().expect("not poisoned").fits, 1);
    learner.add(&predicted(4));
    learner.step(3 * S, &sink).expect("sink works");
    let status = status.lock().expect("not poisoned");
    assert_eq!(status.drifts, 1);
    assert_eq!(status.fits, 2);
}

#[test]
fn a_prediction_that_the_model_does_not_give_is_counted() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    learner.add(&samples(1_000));
    learner.step(S, &sink).expect("sink works");
    let model = learner.published().expect("published").model.clone();

    let mut records = samples(2);
    for sample in &mut records {
        sample.0.flags = sample_flags_SAMPLE_PREDICTED;
        sample.0.model_generation = 1;
        let prediction = model.predict(2, &sample.features()).expect("a model");
        sample.0.pred_q16 = (prediction * 65536.0) as i32;
    }
    records[1].0.pred_q16 += 65536 / 50;
    learner.add(&records);
    let status = status.lock().expect("not poisoned");
    assert_eq!((status.parity.checked, status.parity.errors), (2, 1));
}
