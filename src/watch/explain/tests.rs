//! Explanations of contexts made by hand, and of bytes that are none.

mod properties;

use super::reason::Observed;
use super::render::Style;
use super::threads::Identity;
use super::*;
use crate::kernel::bpf::intf::{self, model, outcome, policy_params, task_ctx, watch};
use crate::kernel::features;
use crate::kernel::mode::Mode;
use crate::kernel::native;
use crate::model::QUANTISATION_BOUND;

const INTERACTIVE: u8 = intf::task_class_CLASS_INTERACTIVE as u8;
const FRESH: u8 = intf::policy_lane_LANE_FRESH as u8;
const FAIR: u8 = intf::policy_lane_LANE_FAIR as u8;
const NONE: u8 = intf::policy_lane_LANE_NONE as u8;
const MS: u64 = 1_000_000;

fn q16(octaves: f64) -> i32 {
    (octaves * 65536.0) as i32
}

fn feature(name: &str) -> usize {
    features::index(name).expect("a feature")
}

/// A bank whose only model predicts the last burst, inverted around 2^21 ns, and a bit for an I/O wait.
fn bank(generation: u64) -> model {
    let mut bank = model {
        generation,
        expires_ns: u64::MAX,
        ..Default::default()
    };
    let linear = &mut bank.linear[usize::from(INTERACTIVE)];
    linear.valid = 1;
    linear.nr_terms = 2;
    (linear.feature[0], linear.coef_q16[0]) = (feature("io_wait") as u8, q16(0.5));
    (linear.feature[1], linear.coef_q16[1]) = (feature("last_burst") as u8, q16(-1.0));
    linear.intercept_q24 = 42 << 24;
    linear.margin_q16 = q16(0.5);
    linear.long_margin_q16 = q16(1.0);
    bank
}

/// A blocked task whose last wake-up was predicted by model 4, which is published: 2^22 ns after 2^20.
fn observed() -> Observed {
    let mut ctx = task_ctx {
        inv_weight_q16: 1 << 16,
        wake_ns: 900 * MS,
        exec_at_wake_ns: 50 * MS,
        exec_at_run_ns: 54 * MS,
        slice_ns: 6 * MS,
        granted_ns: 6 * MS,
        slice_source: intf::slice_source_SLICE_PREDICTED as u8,
        model_generation: 4,
        pred_q16: 22 << 16,
        margin_q16: q16(0.5),
        avg_pred_q16: 21 << 16,
        steering: 1,
        sure: 1,
        steer_q16: 22 << 16,
        steer_margin_q16: q16(0.5),
        quantum_ns: 2 * MS,
        class: INTERACTIVE,
        lane: FRESH,
        deadline_after_ns: 1 << 22,
        waker_pid: 17,
        last_burst_ns: 4 * MS,
        prev_burst_ns: 1 << 20,
        history: intf::history {
            seen: 12,
            avg_burst_ns: 2 * MS,
            half_burst_ns: 3 * MS,
            log_burst_q8: 21 << 8,
            spread_q8: 384,
            last_sleep_ns: 2 * MS,
            avg_sleep_ns: 3 * MS,
            ..Default::default()
        },
        preemptions: 1,
        nr_outcomes: 2,
        ..Default::default()
    };
    ctx.feature_q8[feature("last_burst")] = 20 << 8;
    ctx.outcomes[0] = outcome {
        pred_q8: 20 << 8,
        avg_q8: 21 << 8,
        label_q8: (20 << 8) + 64,
        quantile_q8: (20 << 8) + 128,
    };
    ctx.outcomes[1] = outcome {
        pred_q8: 22 << 8,
        avg_q8: 21 << 8,
        label_q8: 23 << 8,
        quantile_q8: (22 << 8) + 128,
    };
    Observed {
        mode: Mode::Learn,
        params: policy_params {
            first_quantum_ns: 2 * MS,
            ..native::policy_defaults()
        },
        task: Identity {
            pid: 12,
            tgid: 10,
            comm: "worker".into(),
            policy: "SCHED_OTHER".into(),
            nice: 0,
            cgroup: Some("/some/group".into()),
        },
        ctx,
        own_thread: false,
        steady: true,
        waker_comm: Some("waker".into()),
        banks: [bank(4), bank(3)],
        published: 4,
        watch: Some(watch {
            err_model_q8: 128 << 8,
            err_avg_q8: 256 << 8,
            generation: 4,
            ..Default::default()
        }),
        monotonic_ns: 1_000 * MS,
        kernel_ns: Some(907 * MS),
    }
}

fn text(explanation: &Explanation) -> String {
    let mut text = vec![];
    explanation
        .render(&mut text, Style::default())
        .expect("a vector takes everything");
    String::from_utf8(text).expect("text")
}

fn prediction(o: &Observed) -> Prediction {
    match o.explain().prediction {
        Predicted::Burst(p) => *p,
        Predicted::None(why) => panic!("none: {why}"),
    }
}

fn why_none(o: &Observed) -> String {
    match o.explain().prediction {
        Predicted::None(why) => why,
        Predicted::Burst(p) => panic!("{p:?}"),
    }
}

#[test]
fn the_whole_text() {
    let expected = "\
worker (thread 12 of process 10)
  who         SCHED_OTHER, nice 0, weight 100, cgroup /some/group, woken by waker (17)
  class       interactive: tasks whose average burst is below a millisecond
              the kernel's watch: its model errs by 0.50 octaves, the kind's average by 1.00; fell back never, returned never
  now         blocked; woke 7.00 ms ago; this burst: used 4.00 ms, waited 0 ns, preempted once, changed CPU never
  history     12 bursts; last 4.00 ms, before 1.05 ms; average 2.00 ms (1/4), 3.00 ms (1/2), 2.10 ms (of log2), spread 1.50 octaves
              slept 2.00 ms, on average 3.00 ms; waited 0 ns, on average 0 ns
  prediction  4.19 ms by model 4; the kind's average said 2.10 ms
              feature       value      log2  coefficient  contribution
              last_burst  1.05 ms    20.000      -1.0000       -20.000
              io_wait          no     0.000      +0.5000        +0.000
              intercept                                        +42.000
              sum                                               22.000  log2(ns), as the kernel predicted
  quantile    95 % of such bursts end within 5.93 ms (+0.500 octaves); 5 % last less than 2.10 ms
  slice       6.00 ms, predicted: what was left of the prediction's 95 % quantile, 5.93 ms
  lane        fresh: within its first quantum, 2.00 ms
  deadline    4.19 ms after its wake-up: the predicted burst rounded to a power of two
  outcomes        burst  predicted   quantile  kind's avg    error  its error  held
                8.39 ms    4.19 ms    5.93 ms     2.10 ms    -1.00      -2.00  no
                1.25 ms    1.05 ms    1.48 ms     2.10 ms    -0.25      +0.75  yes
              mean |error|, octaves                              0.62       1.38  1 of 2
";
    assert_eq!(text(&observed().explain()), expected);
}

#[test]
fn colour_is_for_terminals() {
    let mut coloured = vec![];
    let style = Style { colour: true };
    observed()
        .explain()
        .render(&mut coloured, style)
        .expect("a vector takes everything");
    let coloured = String::from_utf8(coloured).expect("text");
    assert!(coloured.contains("\u{1b}["));
    assert!(!text(&observed().explain()).contains('\u{1b}'));
}

#[test]
fn the_terms_are_of_the_model_that_predicted_while_it_is_there() {
    let mut o = observed();
    // Another was published into the other slot.
    (o.banks[1], o.published) = (bank(5), 5);
    o.banks[1].linear[usize::from(INTERACTIVE)].coef_q16[1] = q16(2.0);
    let p = prediction(&o);
    assert_eq!((p.terms_generation, p.agrees), (4, true));
    assert_eq!(p.notes, ["model 5 was published since"]);

    // And a third in the place of the first.
    o.banks[0].generation = 6;
    o.published = 6;
    let p = prediction(&o);
    assert_eq!((p.terms_generation, p.agrees), (6, false));
    assert!(p.notes[0].contains("model 4 was replaced since"), "{p:?}");

    // Withdrawn, and no slot is of any use.
    (o.banks, o.published) = (Default::default(), 0);
    let p = prediction(&o);
    assert_eq!((p.terms_generation, p.terms.len()), (0, 0));
    assert!(p.notes[0].contains("coefficients are gone"), "{p:?}");
    assert!(!text(&o.explain()).contains("coefficient  "));
}

#[test]
fn a_sum_that_is_not_the_prediction_is_told() {
    let mut o = observed();
    o.ctx.pred_q16 += q16(2.0 * QUANTISATION_BOUND) + 1;
    let p = prediction(&o);
    assert!(!p.agrees);
    assert!(
        p.notes[0].contains("is not the kernel's prediction"),
        "{p:?}"
    );
}

#[test]
fn each_reason_for_no_prediction_is_named() {
    let without = |change: fn(&mut Observed)| {
        let mut o = observed();
        o.ctx.model_generation = 0;
        change(&mut o);
        why_none(&o)
    };
    type Change = fn(&mut Observed);
    let cases: [(Change, &str); 6] = [
        (|o| o.mode = Mode::Base, "base mode"),
        (|o| o.ctx.wake_ns = 0, "not woken"),
        (|o| o.published = 0, "no model is published"),
        (|o| o.banks[0].expires_ns = 1, "model 4 has expired"),
        (|o| o.ctx.class += 1, "model 4 has none for batch tasks"),
        (|_| (), "model 4 will predict from its next wake-up on"),
    ];
    for (change, needle) in cases {
        let why = without(change);
        assert!(why.contains(needle), "{why}");
    }
}

#[test]
fn a_prediction_that_was_not_used_says_why() {
    let mut o = observed();
    o.ctx.steering = 0;
    o.ctx.slice_source = intf::slice_source_SLICE_BASE as u8;
    o.ctx.granted_ns = 2 * MS;

    o.mode = Mode::Shadow;
    assert!(prediction(&o).unused.expect("unused").contains("shadow"));

    o.mode = Mode::Learn;
    o.ctx.steering = intf::steering_STEERING_AVERAGE as u8;
    let why = prediction(&o).unused.expect("unused");
    assert!(why.contains("not sure of this task"), "{why}");

    o.ctx.steering = 0;
    o.ctx.sample_flags = intf::sample_flags_SAMPLE_FALLBACK;
    if let Some(w) = &mut o.watch {
        w.fallback = 1;
    }
    let why = prediction(&o).unused.expect("unused");
    assert!(
        why.contains("kind's average take over for interactive"),
        "{why}"
    );
    let text = text(&o.explain());
    assert!(text.contains("the kind's average has taken over"), "{text}");
    assert!(
        text.contains(
            "base: the prediction was not used: the base policy's slice, the first quantum"
        ),
        "{text}"
    );
}

#[test]
fn each_source_of_a_slice_has_its_reason() {
    let slice = |source: u32, granted_ns: u64| {
        let mut o = observed();
        o.ctx.slice_source = source as u8;
        o.ctx.granted_ns = granted_ns;
        o.ctx.lane = FAIR;
        o.explain().slice
    };
    let why = |source, granted_ns| slice(source, granted_ns).expect("a slice").why;
    assert_eq!(slice(intf::slice_source_SLICE_NONE, 0), None);
    assert!(why(intf::slice_source_SLICE_PREDICTED, 6 * MS).starts_with("what was left"));
    assert!(
        why(intf::slice_source_SLICE_RAISED, MS).ends_with("raised to the shortest slice, 1.00 ms")
    );
    assert!(
        why(intf::slice_source_SLICE_CUT, 20 * MS).ends_with("cut to the longest slice, 20.0 ms")
    );
    let outlived = why(intf::slice_source_SLICE_OUTLIVED, 20 * MS);
    assert!(
        outlived.contains("had outlived the prediction's 95 % quantile, 5.93 ms"),
        "{outlived}"
    );
    assert!(
        outlived.ends_with("the longest: nobody waited"),
        "{outlived}"
    );
    let base = why(intf::slice_source_SLICE_BASE, 5 * MS);
    assert!(
        base.ends_with("the longest, 20.0 ms, shared by 4"),
        "{base}"
    );
    let average = why(intf::slice_source_SLICE_AVERAGE, 6 * MS);
    assert!(
        average.starts_with("no model to trust: what was left"),
        "{average}"
    );
    assert!(why(200, MS).contains("does not know"));
}

#[test]
fn what_an_earlier_burst_left_is_told_apart() {
    let mut o = observed();
    o.ctx.slice_ns = 0;
    o.ctx.in_burst = 1;
    o.ctx.lane = FAIR;
    let e = o.explain();
    assert!(
        e.slice
            .expect("a slice")
            .why
            .contains("in an earlier burst")
    );
    assert!(
        e.queueing
            .expect("a lane")
            .why
            .contains("in an earlier burst")
    );
    assert_eq!(e.burst.state, State::Running);
}

#[test]
fn each_lane_has_its_reason() {
    let queueing = |change: fn(&mut task_ctx)| {
        let mut o = observed();
        change(&mut o.ctx);
        let q = o.explain().queueing.expect("queued");
        format!("{}: {}; {}", q.lane, q.why, q.deadline.unwrap_or_default())
    };
    type Change = fn(&mut task_ctx);
    let cases: [(Change, &str); 7] = [
        (|c| c.lane = NONE, "none: an idle CPU was there"),
        (
            |c| c.deadline_after_ns = 0,
            "; with its wake-up: first come, first served",
        ),
        (
            // A request of 2^22 ns at weight 50.
            |c| {
                (c.lane, c.inv_weight_q16, c.deadline_after_ns) =
                    (FAIR, 2 << 16, (8 << 20) - 3_000_000)
            },
            "fair: past its first quantum, 2.00 ms; 5.39 ms beyond the virtual clock: -3.00 ms of its own when it \
             woke, 8.39 ms for its request, the predicted burst rounded to a power of two",
        ),
        (
            |c| (c.lane, c.deadline_after_ns) = (FAIR, -3_000_000),
            "; 3.00 ms behind the virtual clock: -7.19 ms of its own when it woke, 4.19 ms for its request",
        ),
        (
            // Outlived: its deadline moves with its run time again.
            |c| {
                (c.lane, c.deadline_after_ns) = (FAIR, 3_000_000);
                c.slice_source = intf::slice_source_SLICE_OUTLIVED as u8;
            },
            "3.00 ms beyond the virtual clock: 1.00 ms of its own, 2.00 ms for its request, the first quantum",
        ),
        (
            |c| {
                c.steering = intf::steering_STEERING_AVERAGE as u8;
                c.quantum_ns = 5_000_000;
            },
            "fresh: within its first quantum, 5.00 ms, its own: it is sure to end in that; 4.19 ms after its wake-up: the \
             kind's average rounded to a power of two",
        ),
        (
            |c| (c.lane, c.exec_at_run_ns) = (FAIR, 0),
            "fair: it has had its share of the CPU",
        ),
    ];
    for (change, needle) in cases {
        let text = queueing(change);
        assert!(text.contains(needle), "{text}");
    }
}

#[test]
fn a_new_task_has_no_history_slice_or_outcome() {
    let mut o = observed();
    o.ctx = task_ctx {
        inv_weight_q16: 1 << 16,
        history: intf::history {
            log_burst_q8: 19 << 8,
            ..Default::default()
        },
        ..Default::default()
    };
    o.waker_comm = None;
    let expected = "\
worker (thread 12 of process 10)
  who         SCHED_OTHER, nice 0, weight 100, cgroup /some/group
  now         not woken since the scheduler was loaded
  history     no burst has ended yet; 524 us is assumed, its parent's average or a guess
  prediction  none: it has not woken since the scheduler was loaded
  slice       none was granted yet
  lane        it was not queued yet
  outcomes    no predicted burst has ended yet
";
    assert_eq!(text(&o.explain()), expected);
}

#[test]
fn the_schedulers_own_threads_are_not_judged() {
    let mut o = observed();
    o.own_thread = true;
    o.ctx.nr_outcomes = 0;
    assert!(text(&o.explain()).contains("own threads are not judged"));
}

#[test]
fn the_last_eight_outcomes_are_told_the_newest_first() {
    let mut o = observed();
    for n in 0..11u32 {
        o.ctx.outcomes[n as usize % 8].label_q8 = (n as i16) << 8;
    }
    o.ctx.nr_outcomes = 11;
    let last = o.explain().outcomes.last;
    let bursts: Vec<u64> = last.iter().map(|o| o.burst_ns).collect();
    assert_eq!(bursts, [1 << 10, 1 << 9, 1 << 8, 1 << 7, 64, 32, 16, 8]);
}

#[test]
fn a_refusal_survives_the_way_to_the_client() {
    let answer = Answer::Refusal(Refusal::NoTask { pid: 7 });
    let text = serde_json::to_string(&answer).expect("JSON");
    assert_eq!(text, r#"{"refusal":{"no_task":{"pid":7}}}"#);
    assert_eq!(serde_json::from_str::<Answer>(&text).expect("read"), answer);
}
