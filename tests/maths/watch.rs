//! What is kept of how right predictions were: of models and of tasks.

use proptest::prelude::*;
use scx_ml::kernel::bpf::intf::watch;
use scx_ml::kernel::native::*;

proptest! {
    #[test]
    fn whatever_errors_it_sees_the_watch_stays_in_range(errors in proptest::collection::vec(any::<(i64, i64)>(), 0..300)) {
        let mut w = watch::default();
        for (model, avg) in errors {
            watch_add(&mut w, 1, model, avg, 0);
            let range = 0..=((41 * 256) << 8);
            prop_assert!(range.contains(&w.err_model_q8) && range.contains(&w.err_avg_q8));
        }
    }
}

const S: u64 = 1_000_000_000;

/// A watch that sees `n` bursts of these errors, in octaves, at `now_ns`.
fn watched(w: &mut watch, n: usize, model: f64, avg: f64, now_ns: u64) {
    for _ in 0..n {
        watch_add(w, 1, (model * 256.0) as i64, (avg * 256.0) as i64, now_ns);
    }
}

#[test]
fn the_watch_falls_back_from_a_bad_model_and_returns_to_a_good_one() {
    let mut w = watch::default();
    watched(&mut w, 256, 2.0, 1.0, S);
    assert_eq!(w.fallback, 0, "too early to tell");
    watched(&mut w, 1, 2.0, 1.0, S);
    assert_eq!((w.fallback, w.fallbacks), (1, 1));
    watched(&mut w, 2_000, 0.5, 1.0, 10 * S);
    assert_eq!(w.fallback, 1, "it rests");
    watched(&mut w, 1, 0.5, 1.0, 11 * S);
    assert_eq!((w.fallback, w.returns), (0, 1));
    watched(&mut w, 2_000, 2.0, 1.0, 12 * S);
    assert_eq!(w.fallbacks, 1, "it rests again");
}

#[test]
fn the_watch_does_not_flap_between_equals() {
    let mut w = watch::default();
    for i in 0..10_000 {
        let (model, avg) = (i % 7, i % 5);
        let of = |odd: u32| 1.0 + f64::from(odd) * 0.02;
        watched(&mut w, 1, of(model), of(avg), u64::from(i) * S);
    }
    assert_eq!(w.fallbacks, 0);
}

#[test]
fn a_watched_quantile_holds_for_95_percent_whatever_the_margin_was() {
    for margin in [0.0, 0.5, 6.0] {
        let mut w = watch::default();
        let mut above = 0;
        for i in 0..20_000u64 {
            // Residuals from 0 to 4 octaves, evenly.
            let residual = (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1 << 22) as f64;
            let margin_q16 = watched_margin_q16((margin * 65536.0) as i32, w.margin_shift_q16);
            let over = residual * 65536.0 > f64::from(margin_q16);
            above += u32::from(over);
            w.margin_shift_q16 = watch_quantile(w.margin_shift_q16, over);
        }
        let share = f64::from(above) / 20_000.0;
        assert!(
            (share - 0.05).abs() < 0.01,
            "{share} above with a margin of {margin}"
        );
    }
}

#[test]
fn the_average_s_quantile_is_found_for_tasks_of_all_errors_together() {
    let (mut shift, mut above) = (0, 0);
    for i in 0..20_000u64 {
        let error = [0.02, 0.3, 2.0][i as usize % 3];
        // Residuals from 0 to six times the task's mean |error|, evenly: twice that covers a third.
        let residual =
            6.0 * error * (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1 << 24) as f64;
        let over =
            residual * 65536.0 > f64::from(average_margin_q16((error * 256.0) as i32, shift));
        above += u32::from(over && i >= 1_000);
        shift = watch_quantile(shift, over);
    }
    let share = f64::from(above) / 19_000.0;
    assert!((share - 0.05).abs() < 0.01, "{share}");
}

#[test]
fn what_a_margin_is_corrected_by_ends_with_its_model() {
    let mut w = watch::default();
    watch_add(&mut w, 5, 256, 256, S);
    w.margin_shift_q16 = watch_quantile(w.margin_shift_q16, true);
    let corrected = w.margin_shift_q16;
    // A long burst that the model before had predicted ends.
    watch_add(&mut w, 4, 256, 256, S);
    watch_add(&mut w, 5, 256, 256, S);
    assert!(corrected > 0 && w.margin_shift_q16 == corrected);
    watch_add(&mut w, 6, 256, 256, S);
    assert_eq!((w.margin_shift_q16, w.generation), (0, 6));
}

#[test]
fn a_watched_margin_stays_in_range() {
    let mut w = watch::default();
    for above in [true, false] {
        for _ in 0..10_000 {
            w.margin_shift_q16 = watch_quantile(w.margin_shift_q16, above);
            let margin = average_margin_q16(40 * 256, w.margin_shift_q16);
            assert!((0..=40 << 16).contains(&margin));
        }
        for margin in [i32::MIN, -1, 0, 1 << 16, i32::MAX] {
            assert!((0..=40 << 16).contains(&watched_margin_q16(margin, w.margin_shift_q16)));
        }
    }
    assert!((0..=40 << 16).contains(&watched_margin_q16(i32::MAX, i32::MAX)));
}

#[test]
fn classes_are_told_by_kind_history_and_burst() {
    assert_eq!(task_class(true, 0, 0), 0);
    assert_eq!(task_class(false, 4, 30 * 256), 1);
    assert_eq!(task_class(false, 5, 20 * 256 - 1), 2);
    assert_eq!(task_class(false, 5, 20 * 256), 3);
}

#[test]
fn trust_is_earned_by_the_first_hit_and_lost_by_a_miss() {
    // The prior is an octave: 256. Halved by the first hit, it is enough to be sure.
    let hit = task_error_q8(256, 0, 0);
    assert_eq!(hit, 128);
    assert!(policy_is_sure(0, hit));
    let missed = task_error_q8(hit, 1, -5 * 256);
    assert_eq!(missed, 128 + (1280 - 128) / 4);
    assert!(!policy_is_sure(0, missed));
    assert_eq!(task_error_q8(256, 0, 300), task_error_q8(256, 0, -300));
}

#[test]
fn two_bursts_in_a_row_that_disagree_with_the_average_are_a_new_start() {
    let (start, ms40) = (16 * 256, 25 * 256 + 64);
    assert!(is_new_start(start, ms40, ms40 + 100));
    assert!(is_new_start(ms40, start, start));
    assert!(!is_new_start(start, start, ms40), "once is chance");
    assert!(!is_new_start(ms40, ms40, ms40 + 128), "more of the same");
}
