//! What the learner does with samples and clocks, by a sink that takes notes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::anyhow;

use super::*;
use crate::kernel::bpf::intf::{
    burst_sample, sample_flags_SAMPLE_PREDICTED, scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST,
    scx_ml_feature_FEATURE_WAKER_RAN as WAKER_RAN,
};
use crate::model::sink::NotSet;

/// A sink that writes down what it is told, and what it refuses as long as it refuses all.
#[derive(Default)]
struct Notebook {
    generation: Mutex<u64>,
    calls: Mutex<Vec<String>>,
    quanta: AtomicU64,
    refuses: AtomicBool,
}

impl Notebook {
    fn write(&self, call: String) -> Result<()> {
        let refuses = self.refuses.load(Ordering::Relaxed);
        let what = if refuses { "refused: " } else { "" };
        let line = format!("{what}{call}");
        self.calls.lock().expect("not poisoned").push(line);
        match refuses {
            true => Err(anyhow!("the sink refuses")),
            false => Ok(()),
        }
    }
}

impl ModelSink for Notebook {
    fn publish(&self, _: &Model, expires_ns: u64) -> Result<u64> {
        let mut generation = self.generation.lock().expect("not poisoned");
        self.write(format!("publish {} until {expires_ns}", *generation + 1))?;
        *generation += 1;
        Ok(*generation)
    }

    fn set_first_quantum(&self, _: Option<u64>) -> Result<()> {
        self.quanta.fetch_add(1, Ordering::Relaxed);
        match self.refuses.load(Ordering::Relaxed) {
            true => Err(anyhow!("the sink refuses")),
            false => Ok(()),
        }
    }

    fn set_thinning(&self, _: [u32; NR_CLASSES]) -> Result<()> {
        Ok(())
    }

    fn withdraw(&self) -> Result<()> {
        self.write("withdraw".into())
    }

    fn set_profiles(&self, _: &[(u32, Option<i32>)]) -> Result<(), NotSet> {
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
                class: 2,
                ..Default::default()
            };
            record.feature_q8[KIND_BURST as usize] = 20 * 256;
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
        thin: true,
    };
    (Learner::new(config, status.clone()), status)
}

fn calls(sink: &Notebook) -> Vec<String> {
    sink.calls.lock().expect("not poisoned").clone()
}

const S: u64 = 1_000_000_000;

/// Samples and two fits, the first at `second` and the other a second later: one to learn, one to be judged.
fn teach(learner: &mut Learner, sink: &Notebook, second: u64) {
    for second in [second, second + 1] {
        learner.add(&samples(500));
        learner.step(second * S, sink);
    }
}

#[test]
fn the_first_model_is_published_as_soon_as_it_has_proved_better() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    learner.add(&samples(49));
    learner.step(S, &sink);
    assert_eq!(status.lock().expect("not poisoned").fits, 0, "too few");
    learner.add(&samples(100));
    learner.step(S, &sink);
    assert_eq!(status.lock().expect("not poisoned").fits, 1);
    assert!(calls(&sink).is_empty(), "it has not been judged");

    learner.add(&samples(100));
    learner.step(2 * S, &sink);
    assert_eq!(calls(&sink), ["publish 1 until 52000000000"]);
    let status = status.lock().expect("not poisoned");
    assert_eq!((status.generation, status.published), (1, 1));
    assert!(
        status.gate_avg > 1.0 && (230..250).contains(&status.window),
        "{status:?}"
    );
}

#[test]
fn a_confirmed_model_gets_a_new_lease_with_new_samples_only() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    teach(&mut learner, &sink, 1);
    learner.add(&samples(50));
    learner.step(3 * S, &sink);
    assert_eq!(calls(&sink).len(), 1, "too early for so few");
    learner.add(&samples(50));
    learner.step(7 * S, &sink);
    assert_eq!(calls(&sink)[1..], ["publish 2 until 57000000000"]);
    learner.step(60 * S, &sink);
    assert_eq!(
        calls(&sink).len(),
        2,
        "nothing new was seen: the lease runs out"
    );
    let status = status.lock().expect("not poisoned");
    assert_eq!((status.published, status.kept), (1, 1));
}

#[test]
fn where_much_is_new_the_next_fit_comes_early() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    teach(&mut learner, &sink, 1);
    learner.add(&samples(400));
    learner.step(2 * S + 400_000_000, &sink);
    assert_eq!(status.lock().expect("not poisoned").fits, 2);
    learner.step(2 * S + 500_000_000, &sink);
    assert_eq!(status.lock().expect("not poisoned").fits, 3);
}

#[test]
fn a_frozen_learner_publishes_once_and_for_ever() {
    let (mut learner, _) = learner(true);
    let sink = Notebook::default();
    for second in 1..20 {
        learner.add(&samples(500));
        learner.step(second * 10 * S, &sink);
    }
    assert_eq!(calls(&sink), [format!("publish 1 until {}", u64::MAX)]);
}

/// A file with the model that a learner finds in the samples.
fn model_file() -> ModelFile {
    let (mut learner, _) = learner(false);
    teach(&mut learner, &Notebook::default(), 1);
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
    learner.step(20 * S, &sink);
    assert_eq!(calls(&sink).len(), 1, "its lease waits for samples");
    learner.add(&samples(1));
    learner.step(30 * S, &sink);
    learner.step(31 * S, &sink);
    assert_eq!(calls(&sink)[1..], ["publish 2 until 80000000000"]);
    assert!(matches!(
        learner.published().map(|p| &p.judged),
        Some(Judged::Elsewhere(_))
    ));

    // A fit of the same samples is no better: it is kept, and now known here.
    learner.add(&samples(1_000));
    learner.step(40 * S, &sink);
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
fn a_bad_model_from_a_file_gives_way_to_what_is_learned() {
    let (mut learner, _) = learner(false);
    let sink = Notebook::default();
    let mut file = model_file();
    let linear = file.model.classes[2].as_mut().expect("a model");
    linear.intercept += 5.0;
    let bad = linear.clone();
    learner.adopt(file, S, &sink).expect("sink works");
    for second in 2..6 {
        learner.add(&samples(300));
        learner.step(second * S, &sink);
    }
    let now = learner.published().expect("a model").model.classes[2].as_ref();
    assert!(now.is_some_and(|m| m.intercept != bad.intercept));
}

#[test]
fn a_learner_that_waits_for_samples_does_not_ask_to_be_woken() {
    let (mut learner, _) = learner(false);
    let sink = Notebook::default();
    learner.step(S, &sink);
    assert_eq!(learner.next_due(S), Duration::MAX);
    learner.add(&samples(1_000));
    learner.step(2 * S, &sink);
    assert!(learner.next_due(2 * S) > Duration::ZERO);
    assert_eq!(learner.next_due(60 * S), Duration::MAX);
}

#[test]
fn a_frozen_learner_keeps_a_model_from_a_file_and_fits_nothing() {
    let (mut learner, status) = learner(true);
    let sink = Notebook::default();
    learner.adopt(model_file(), S, &sink).expect("sink works");
    for second in 1..20 {
        learner.add(&samples(500));
        learner.step(second * 10 * S, &sink);
    }
    assert_eq!(calls(&sink), [format!("publish 1 until {}", u64::MAX)]);
    assert_eq!(status.lock().expect("not poisoned").fits, 0);
}

#[test]
fn what_is_remembered_is_bounded() {
    let (mut learner, status) = learner(false);
    for second in 1..20 {
        learner.add(&samples(1_000));
        learner.step(second * S, &Notebook::default());
    }
    assert_eq!(learner.lengths.len(), 2_000);
    let window = status.lock().expect("not poisoned").window;
    assert!((1_990..=2_001).contains(&window), "{window}");
}

#[test]
fn when_the_load_changes_the_first_quantum_is_the_base_policys_until_enough_is_known() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    let quantum_ns = || status.lock().expect("not poisoned").first_quantum_ns;
    for second in 1..10 {
        learner.add(&samples(1_000));
        learner.step(second * S, &sink);
    }
    assert_ne!(quantum_ns(), 0);
    // Who was long is short, and the model errs more than the average.
    let mut changed = samples(400);
    for sample in &mut changed {
        let long = sample.0.burst_ns > 1_000_000;
        sample.0.burst_ns = if long { 250_000 } else { 8_000_000 };
    }
    learner.add(&changed[..100]);
    learner.step(10 * S, &sink);
    assert_eq!(quantum_ns(), 0);
    learner.step(12 * S, &sink);
    assert_eq!(quantum_ns(), 0, "too few have been seen since");
    learner.add(&changed[100..]);
    learner.step(13 * S, &sink);
    assert_ne!(quantum_ns(), 0);
}

#[test]
fn where_fitting_is_slow_there_are_fewer_fits() {
    // 20 ms between any two looks at the clock: two seconds in a hundred.
    static CLOCK_NS: AtomicU64 = AtomicU64::new(0);
    let (learner, status) = learner(false);
    let mut learner = learner.with_cpu_clock(|| CLOCK_NS.fetch_add(20_000_000, Ordering::Relaxed));
    let sink = Notebook::default();
    for tenth in 10..50 {
        learner.add(&samples(500));
        learner.step(tenth * S / 10, &sink);
    }
    assert_eq!(status.lock().expect("not poisoned").fits, 2);
}

#[test]
fn a_prediction_that_the_model_does_not_give_is_counted() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    teach(&mut learner, &sink, 1);
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

fn refuse(sink: &Notebook, refuses: bool) {
    sink.refuses.store(refuses, Ordering::Relaxed);
}

#[test]
fn a_model_that_could_not_be_published_is_not_remembered_and_the_next_fit_tries_again() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    refuse(&sink, true);
    teach(&mut learner, &sink, 1);
    assert_eq!(calls(&sink), ["refused: publish 1 until 52000000000"]);
    assert_eq!(learner.published(), None);
    assert!(learner.troubles.publishing.lasts());

    refuse(&sink, false);
    learner.add(&samples(50));
    learner.step(3 * S, &sink);
    assert_eq!(calls(&sink).len(), 1, "not before the next fit");
    learner.step(7 * S, &sink);
    assert_eq!(calls(&sink)[1..], ["publish 1 until 57000000000"]);
    assert!(learner.published().is_some() && !learner.troubles.publishing.lasts());
    let status = status.lock().expect("not poisoned");
    assert_eq!(
        (status.fits, status.published, status.generation),
        (3, 1, 1)
    );
}

#[test]
fn a_model_that_could_not_be_withdrawn_is_withdrawn_by_the_next_fit() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    teach(&mut learner, &sink, 1);
    let withdrawn = |status: &Mutex<LearnerStatus>| {
        let status = status.lock().expect("not poisoned");
        (status.withdrawn, status.generation)
    };

    // The average is right from now on, and the feature tells the opposite.
    let mut known = samples(1_000);
    for sample in &mut known {
        sample.0.feature_q8[KIND_BURST as usize] = (sample.log_burst() * 256.0) as i16;
        sample.0.feature_q8[WAKER_RAN as usize] =
            42 * 256 - sample.0.feature_q8[WAKER_RAN as usize];
    }
    learner.add(&known);
    refuse(&sink, true);
    learner.step(20 * S, &sink);
    assert_eq!(calls(&sink)[1..], ["refused: withdraw"]);
    assert!(learner.published().is_some(), "the kernel has it");
    assert_eq!(withdrawn(&status), (0, 1));

    refuse(&sink, false);
    learner.add(&known[..50]);
    learner.step(26 * S, &sink);
    assert_eq!(calls(&sink)[2..], ["withdraw"]);
    assert_eq!(learner.published(), None);
    assert_eq!(withdrawn(&status), (1, 0));
}

#[test]
fn a_lease_that_could_not_be_begun_is_tried_again_once_a_second_and_the_model_stays() {
    let (mut learner, _) = learner(false);
    let sink = Notebook::default();
    learner.adopt(model_file(), S, &sink).expect("sink works");
    refuse(&sink, true);
    learner.add(&samples(1));
    for tenth in 0..30 {
        learner.step(2 * S + tenth * S / 10, &sink);
    }
    assert_eq!(calls(&sink).len(), 1 + 3);
    assert_eq!(learner.published().map(|p| p.generation), Some(1));
    refuse(&sink, false);
    learner.step(5 * S, &sink);
    learner.step(6 * S, &sink);
    assert_eq!(calls(&sink)[4..], ["publish 2 until 55000000000"]);
    assert_eq!(learner.published().map(|p| p.generation), Some(2));
}

#[test]
fn a_first_quantum_that_could_not_be_told_is_told_at_the_next_look() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    refuse(&sink, true);
    learner.add(&samples(300));
    learner.step(S, &sink);
    let told =
        |status: &Mutex<LearnerStatus>| status.lock().expect("not poisoned").first_quantum_ns;
    assert_eq!(told(&status), 0);
    assert!(learner.troubles.quantum.lasts());
    refuse(&sink, false);
    learner.step(2 * S, &sink);
    assert!(told(&status) > 0 && !learner.troubles.quantum.lasts());
    learner.step(20 * S, &sink);
    assert_eq!(sink.quanta.load(Ordering::Relaxed), 2, "it is known");
}

#[test]
fn a_class_that_cannot_be_fitted_keeps_its_model_and_is_said_once() {
    let (mut learner, status) = learner(false);
    let sink = Notebook::default();
    teach(&mut learner, &sink, 1);
    let model = learner.published().map(|p| p.model.clone());
    // A column that hardly varies, and tells all: its coefficient is beyond what the kernel takes.
    let mut odd = samples(5_000);
    for sample in &mut odd {
        sample.0.feature_q8[WAKER_RAN as usize] = 20 * 256;
        sample.0.feature_q8[0] = if sample.log_burst() > 20.0 { 50 } else { 0 };
        sample.0.burst_ns = if sample.log_burst() > 20.0 {
            1 << 30
        } else {
            1 << 10
        };
    }
    for (second, failed) in [(10, 1), (20, 2)] {
        learner.add(&odd);
        learner.step(second * S, &sink);
        let status = status.lock().expect("not poisoned");
        assert_eq!(status.fits_failed, failed);
        assert!(learner.troubles.fitting[2].lasts());
        assert!(!learner.troubles.fitting[3].lasts());
    }
    let used = |m: Option<Model>| m.and_then(|m| m.classes[2].clone()).map(|m| m.coef);
    let now = learner.published().map(|p| p.model.clone());
    assert!(now.is_none() || used(now) == used(model));
    for second in 3..10 {
        learner.add(&samples(2_000));
        learner.step(second * 10 * S, &sink);
    }
    assert!(!learner.troubles.fitting[2].lasts());
}
