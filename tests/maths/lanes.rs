//! Lanes and keys, first quanta and slices.

use proptest::prelude::*;
use scx_ml::kernel::native::*;

use crate::{FAIR, FRESH, ONE_Q16, log2_q16_of, params};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_slice_is_always_inside_its_clamps_and_never_zero(
        lane in FRESH..=FAIR, nr_waiting in any::<u32>(), slice in any::<u64>(),
    ) {
        let pp = params();
        let range = pp.slice_min_ns..=pp.slice_max_ns;
        prop_assert!(range.contains(&policy_base_slice_ns(&pp, lane, nr_waiting)));
        prop_assert!(range.contains(&policy_clamp_slice(&pp, slice)));
    }

    #[test]
    fn whatever_a_model_says_requests_are_bounded_by_the_lag(pred in any::<i32>(), predicted: bool) {
        let pp = params();
        let request = policy_request_ns(&pp, predicted, pred);
        prop_assert!(request >= 1 && request <= pp.lag_ns);
    }

    #[test]
    fn whatever_a_model_says_the_quantile_is_finite(pred in any::<i32>(), margin in any::<i32>(), burst in any::<u64>()) {
        prop_assert!(policy_quantile_left_ns(pred, margin, burst) <= 1 << 40);
    }
}

#[test]
fn a_fresh_wake_up_within_its_share_goes_first() {
    let pp = params();
    let lag = pp.lag_ns;
    let lane = |quantum_ns, burst_ns, ahead, waits, due| {
        policy_lane(quantum_ns, burst_ns, ahead, lag, waits, due)
    };
    let quantum_ns = pp.first_quantum_ns;
    assert_eq!(lane(quantum_ns, 0, 0, false, false), FRESH);
    assert_eq!(
        lane(quantum_ns, quantum_ns, 0, false, true),
        FAIR,
        "used up"
    );
    let over = lag as i64;
    assert_eq!(
        lane(quantum_ns, 0, over, false, false),
        FAIR,
        "had its share"
    );
    assert_eq!(
        lane(quantum_ns, 0, over, false, true),
        FRESH,
        "its turn has come"
    );
    assert_eq!(lane(quantum_ns, 0, 0, true, true), FAIR, "the trainer");
}

#[test]
fn a_young_burst_in_the_fair_lane_goes_on_in_turn() {
    let pp = params();
    let lag = pp.lag_ns;
    let half = (lag / 2) as i64;
    let paced_at =
        |lane, burst_ns, ahead, waits| policy_is_paced(&pp, lane, burst_ns, ahead, lag, waits);
    let paced = |lane, burst_ns, waits| paced_at(lane, burst_ns, half, waits);
    assert!(!paced_at(FAIR, 0, half - 1, false), "hardly ahead");
    assert!(paced(FAIR, 0, false));
    assert!(paced(FAIR, pp.lag_ns - 1, false));
    assert!(!paced(FAIR, pp.lag_ns, false), "old");
    assert!(!paced(FRESH, 0, false));
    assert!(!paced(FAIR, 0, true), "it yields");
    // Among four of its weight on one CPU it is due when it has had its quarter; on four CPUs at once.
    assert_eq!(policy_pace_ns(1_000_000, 4, 1, 0), 3_000_000);
    assert_eq!(policy_pace_ns(1_000_000, 4, 2, 0), 1_000_000);
    assert_eq!(policy_pace_ns(1_000_000, 4, 4, 0), 0);
    assert_eq!(policy_pace_ns(1_000_000, 1, 4, 0), 0);
    assert_eq!(policy_pace_ns(0, 100, 1, 0), 0);
    // Two who may run on one CPU only, and the other CPU has nothing to do.
    assert_eq!(policy_pace_ns(1_000_000, 2, 2, 1), 1_000_000);
    // What it has run before it was due is not forgotten, but for what is beyond the bound.
    assert_eq!(policy_due_ns(true, 5, 90, 100, 10, lag), 110);
    assert_eq!(policy_due_ns(true, 95, 90, 100, 10, lag), 115);
    assert_eq!(policy_due_ns(false, 95, 90, 100, 10, lag), 110, "fresh");
    assert_eq!(
        policy_due_ns(true, u64::MAX / 4, 90, 100, 10, lag),
        110 + lag
    );
}

proptest! {
    #[test]
    fn who_is_paced_gets_no_more_than_its_share(used_ns in 0u64..1 << 32, rivals in 1u32..1 << 20, cpus in 1u32..=64) {
        let pace_ns = policy_pace_ns(used_ns, rivals, cpus, 0);
        let period = (used_ns + pace_ns) as f64;
        let share = f64::from(cpus) / f64::from(rivals);
        // Two roundings, of the reciprocal and to a 256th.
        prop_assert!(used_ns as f64 <= period * share.min(1.0) * 1.02 + 2.0 * share.max(1.0) + used_ns as f64 / 256.0);
    }

    #[test]
    fn pace_is_finite_whatever_the_numbers(
        used_ns in any::<u64>(), rivals in any::<u32>(), cpus in any::<u32>(), waiting in any::<u32>(),
    ) {
        prop_assert!(policy_pace_ns(used_ns, rivals, cpus, waiting) <= 1 << 54);
    }
}

#[test]
fn a_first_quantum_is_the_bursts_own_where_that_is_sure() {
    let pp = params();
    let own = |pred_ns: f64, margin| policy_quantum_ns(&pp, log2_q16_of(pred_ns), margin);
    let six_ms = own(6e6, 0) as f64;
    assert!((six_ms / 6.75e6 - 1.0).abs() < 0.01, "{six_ms}");
    assert_eq!(own(3e6, 0), pp.first_quantum_ns, "an eighth more is in it");
    assert_eq!(own(0.1e6, 0), pp.first_quantum_ns, "never less");
    assert_eq!(
        own(20e6, 0),
        pp.first_quantum_ns,
        "too long to hold up others"
    );
    assert!(
        policy_is_sure(1 << 16, 128)
            && !policy_is_sure((1 << 16) + 1, 0)
            && !policy_is_sure(0, 129)
    );
}

#[test]
fn what_runs_is_preemptible_after_its_quantum_a_moment_and_its_protection() {
    let pp = params();
    let (q, after) = (pp.first_quantum_ns, pp.preempt_after_ns);
    assert_eq!(policy_preemptible_at_ns(1_000, 0, q, after, 0), 1_000 + q);
    assert_eq!(
        policy_preemptible_at_ns(1_000, q + 5, q, after, 0),
        1_000 + pp.preempt_after_ns
    );
    assert_eq!(
        policy_preemptible_at_ns(1_000, 0, q, after, 1_000_000_000),
        1_000_000_000
    );
}

#[test]
fn a_yield_forfeits_a_request_and_what_the_task_is_behind() {
    let pp = params();
    let q = pp.first_quantum_ns;
    assert_eq!(
        policy_yield_vruntime(&pp, 1 << 40, 1 << 30, ONE_Q16),
        (1 << 40) + q
    );
    assert_eq!(
        policy_yield_vruntime(&pp, 1 << 30, 1 << 40, ONE_Q16),
        (1 << 40) + q
    );
    // A quarter of it for each that finds it the earliest all the same.
    assert_eq!(policy_yields_ns(q, 16), q);
    assert_eq!(policy_yields_ns(q, 0), 0);
    assert_eq!(policy_fresh_since_ns(7, 9, false), 7);
    assert_eq!(policy_fresh_since_ns(7, 9, true), 9);
}

#[test]
fn a_sure_deadline_stays_until_the_burst_outlives_its_quantile() {
    let pp = params();
    let one = 1 << 16;
    let key = |used_ns: u64, margin: i32| {
        let sure = policy_is_sure(margin, 0);
        policy_fair_key(
            &pp,
            1 << 40 | used_ns,
            one,
            used_ns,
            sure,
            log2_q16_of(40e6),
            margin,
        )
    };
    // Its virtual time has grown by what it used.
    assert_eq!(key(0, one as i32 / 2), key(30_000_000, one as i32 / 2));
    assert!(key(70_000_000, one as i32 / 2) > key(0, one as i32 / 2));
    // Not sure: it moves, and the request is that of the base policy.
    assert_eq!(
        key(30_000_000, 2 * one as i32),
        (1 << 40 | 30_000_000u64) + pp.first_quantum_ns
    );
}

#[test]
fn only_what_outlasts_the_first_quantum_stands_back_in_the_fresh_lane() {
    let pp = params();
    assert_eq!(policy_fresh_delay_ns(&pp, false, log2_q16_of(10e6)), 0);
    assert_eq!(policy_fresh_delay_ns(&pp, true, log2_q16_of(0.5e6)), 0);
    assert_eq!(policy_fresh_delay_ns(&pp, true, log2_q16_of(8e6)), 1 << 23);
    assert_eq!(
        policy_fresh_delay_ns(&pp, true, log2_q16_of(1e9)),
        pp.lag_ns
    );
}

#[test]
fn a_slice_covers_what_is_left_of_the_quantile() {
    let pred = (20.0 * 65536.0) as i32;
    assert_eq!(policy_quantile_left_ns(pred, 1 << 16, 0), 1 << 21);
    assert_eq!(policy_quantile_left_ns(pred, 1 << 16, 1 << 20), 1 << 20);
    assert_eq!(policy_quantile_left_ns(pred, 1 << 16, 1 << 21), 0);
}
