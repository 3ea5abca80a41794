//! The kernel's integer mathematics against floating point, over the whole range of inputs. The text under test is
//! `src/bpf/model.h`, `src/bpf/policy.h` and `src/bpf/frequency.h` themselves, compiled for the host.

use proptest::prelude::*;
use scx_ml::kernel::bpf::intf::{policy_params, share, watch};
use scx_ml::kernel::native::*;

const FRESH: u32 = 0;
const FAIR: u32 = 1;

fn params() -> policy_params {
    policy_defaults()
}

/// log2 of a time in ns, Q16.
fn log2_q16_of(ns: f64) -> i32 {
    (ns.log2() * 65536.0) as i32
}

/// Any u64, with every order of magnitude equally likely.
fn magnitude() -> impl Strategy<Value = u64> {
    (0u32..64, any::<u64>()).prop_map(|(shift, v)| v >> shift)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn log2_errs_by_less_than_a_thousandth(v in magnitude().prop_filter("log2 of 0 is taken as 0", |&v| v > 0)) {
        let exact = (v as f64).log2();
        prop_assert!((f64::from(log2_q16(v)) / 65536.0 - exact).abs() < 0.0011);
        prop_assert!((f64::from(log2_q8(v)) / 256.0 - exact.min(40.0)).abs() < 0.0031);
    }

    #[test]
    fn a_count_looked_up_is_a_count_computed(n in magnitude()) {
        prop_assert_eq!(count_q8(n), log2_q8(n.saturating_add(1)));
    }

    #[test]
    fn log2_is_monotonic(v in 1..u64::MAX, step in magnitude()) {
        prop_assert!(log2_q16(v.saturating_add(step)) >= log2_q16(v));
    }

    #[test]
    fn exp2_errs_by_less_than_two_parts_in_ten_thousand(x in 0i64..40 << 16) {
        let exact = (x as f64 / 65536.0).exp2();
        let got = exp2_q16(x) as f64;
        prop_assert!((got - exact).abs() <= exact * 0.0002 + 1.0, "2^{} = {exact}, got {got}", x as f64 / 65536.0);
    }

    #[test]
    fn exp2_never_leaves_its_range(x in any::<i64>()) {
        prop_assert!((1..=1u64 << 40).contains(&exp2_q16(x)));
    }

    #[test]
    fn exp2_undoes_log2(v in 1_000u64..1 << 40) {
        let back = exp2_q16(i64::from(log2_q16(v))) as f64;
        prop_assert!((back / v as f64 - 1.0).abs() < 0.002, "{v} came back as {back}");
    }

    #[test]
    fn a_moving_average_stays_between_old_and_new(old in 0..1u64 << 60, new in 0..1u64 << 60) {
        let avg = avg_quarter(old, new);
        prop_assert!(avg + 2 >= old.min(new) && avg <= old.max(new) + 2);
    }

    #[test]
    fn virtual_time_never_overflows(ns in any::<u64>(), inv in any::<u64>()) {
        prop_assert!(policy_virtual_ns(ns, inv) <= 1 << 57);
    }

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

    #[test]
    fn bounded_virtual_time_is_within_the_lag_and_keeps_order(
        clock in any::<u64>(), a in -1i64 << 50..1i64 << 50, b in -1i64 << 50..1i64 << 50, lag in 0u64..1 << 40,
    ) {
        for (woken, credit) in [(false, lag as i64), (true, lag as i64 / 4)] {
            let bound = |off: i64| {
                policy_bound_vruntime(clock.wrapping_add_signed(off), clock, lag, woken).wrapping_sub(clock) as i64
            };
            prop_assert!((-credit..=lag as i64).contains(&bound(a)));
            prop_assert!((a <= b) == (bound(a) <= bound(b)) || bound(a) == bound(b));
        }
    }

    #[test]
    fn the_reciprocal_table_divides(n in 1u32..=64) {
        prop_assert!((f64::from(policy_recip_q16(n)) - 65536.0 / f64::from(n)).abs() <= 0.5);
    }
}

#[test]
fn log2_meets_at_powers_of_two() {
    for e in 1..64 {
        assert_eq!(log2_q16(1 << e), e << 16);
    }
    assert_eq!(log2_q16(0), 0);
}

#[test]
fn many_waiters_share_by_powers_of_two() {
    assert_eq!(policy_recip_q16(65), 65536 / 128);
    assert_eq!(policy_recip_q16(128), 65536 / 128);
    assert_eq!(policy_recip_q16(129), 65536 / 256);
    assert_eq!(policy_recip_q16(u32::MAX), 1);
}

#[test]
fn a_fresh_wake_up_within_its_share_goes_first() {
    let pp = params();
    let lag = pp.lag_ns;
    assert_eq!(policy_lane(pp.first_quantum_ns, 0, 0, lag, false), FRESH);
    assert_eq!(
        policy_lane(pp.first_quantum_ns, pp.first_quantum_ns, 0, lag, false),
        FAIR,
        "used up"
    );
    assert_eq!(
        policy_lane(pp.first_quantum_ns, 0, lag as i64, lag, false),
        FAIR,
        "had its share"
    );
    assert_eq!(policy_lane(0, 0, 0, lag, false), FAIR, "surely long");
    let trainer = policy_lane(pp.first_quantum_ns, 0, 0, lag, true);
    assert_eq!(trainer, FAIR, "the trainer");
}

#[test]
fn surely_long_needs_the_low_quantile_beyond_the_first_quantum() {
    let pp = params();
    let octave = 1 << 16;
    assert!(policy_sure_long(&pp, log2_q16_of(40e6), 2 * octave, 0));
    assert!(!policy_sure_long(&pp, log2_q16_of(40e6), 5 * octave, 0));
    assert!(!policy_sure_long(&pp, log2_q16_of(1e6), 0, 0));
}

#[test]
fn a_first_quantum_is_the_bursts_own_where_that_is_sure() {
    let pp = params();
    let own =
        |pred_ns: f64, margin| policy_quantum_ns(&pp, true, log2_q16_of(pred_ns), margin, false);
    assert_eq!(
        policy_quantum_ns(&pp, false, log2_q16_of(3e6), 0, false),
        pp.first_quantum_ns
    );
    assert_eq!(policy_quantum_ns(&pp, true, 0, 0, true), 0, "surely long");
    let three_ms = own(3e6, 0) as f64;
    assert!((three_ms / 3.375e6 - 1.0).abs() < 0.01, "{three_ms}");
    assert_eq!(own(0.1e6, 0), pp.first_quantum_ns, "never less");
    assert_eq!(
        own(20e6, 0),
        pp.first_quantum_ns,
        "too long to hold up others"
    );
    assert_eq!(
        policy_quantum_ns(&pp, false, log2_q16_of(3e6), 0, false),
        pp.first_quantum_ns,
        "not sure"
    );
    assert!(
        policy_is_sure(1 << 16, 128)
            && !policy_is_sure((1 << 16) + 1, 0)
            && !policy_is_sure(0, 129)
    );
    assert!(
        !policy_sure_long(&pp, log2_q16_of(40e6), 0, 257),
        "wrong about this task"
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

const ONE_Q16: u64 = 1 << 16;
/// The inverse weight of nice 19.
const NICE_19_Q16: u64 = 1024 * ONE_Q16 / 15;

#[test]
fn the_clock_moves_by_real_time_over_the_sum_of_weights() {
    // Two of nice 0 and sixteen of nice 19: 2.23 of nice 0, three of them, or 153 of nice 19.
    let sum_q10 = 2 * 1024 + 16 * 15;
    assert_eq!(policy_rivals(sum_q10, ONE_Q16), 3);
    assert_eq!(policy_rivals(sum_q10, NICE_19_Q16), 153);
    assert_eq!(policy_rivals(0, ONE_Q16), 1, "at least itself");
    // Whoever runs for 4 ms moves it by 4 ms / 2.23, rounded down a little.
    let far = i64::MAX;
    let by = |inv| {
        let vused = policy_virtual_ns(4_000_000, inv);
        policy_vclock_step(vused, far, policy_rivals(sum_q10, inv)) as f64 / (4e6 / 2.23)
    };
    assert!((0.7..=1.0).contains(&by(ONE_Q16)), "{}", by(ONE_Q16));
    // More than 64 are taken for the next power of two.
    assert!(
        (0.5..=1.0).contains(&by(NICE_19_Q16)),
        "{}",
        by(NICE_19_Q16)
    );
}

#[test]
fn a_light_task_has_a_first_quantum_beside_heavy_ones_only_where_it_has_earned_it() {
    let pp = params();
    let (q, lag_ns) = (pp.first_quantum_ns, pp.lag_ns as i64);
    let earned = |ahead, inv, heavy| policy_has_earned(&pp, q, ahead, inv, heavy);
    // Among its like, and where nobody has run: as anybody.
    assert!(earned(0, NICE_19_Q16, NICE_19_Q16) && earned(0, NICE_19_Q16, 0));
    assert!(earned(lag_ns, ONE_Q16, ONE_Q16));
    // A first quantum is 137 ms to it.
    assert!(!earned(0, NICE_19_Q16, ONE_Q16));
    assert!(!earned(-100_000_000, NICE_19_Q16, ONE_Q16));
    assert!(earned(-120_000_000, NICE_19_Q16, ONE_Q16));
}

#[test]
fn what_a_cpu_is_used_to_is_heavier_at_once_and_lighter_bit_by_bit() {
    let after = |heavy, inv| policy_heavy(heavy, inv);
    assert_eq!(after(0, NICE_19_Q16), NICE_19_Q16);
    assert_eq!(after(NICE_19_Q16, ONE_Q16), ONE_Q16);
    let mut heavy = ONE_Q16;
    for _ in 0..4 {
        heavy = after(heavy, NICE_19_Q16);
        assert!(ONE_Q16 < heavy && heavy < NICE_19_Q16 / 2, "{heavy}");
    }
    for _ in 0..200 {
        heavy = after(heavy, NICE_19_Q16);
    }
    assert_eq!(heavy, NICE_19_Q16, "it gets there");
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
    assert_eq!(policy_yields_ns(q, 4), q);
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
fn nice_zero_pays_its_run_time_and_a_tenth_of_the_weight_ten_times_it() {
    assert_eq!(policy_virtual_ns(1_000_000, 1 << 16), 1_000_000);
    assert_eq!(policy_virtual_ns(1_000_000, 10 << 16), 10_000_000);
}

#[test]
fn a_tasks_weight_is_the_kernels() {
    assert_eq!(policy_nice_weight(120, false), 1024);
    assert_eq!(policy_nice_weight(100, false), 88_761);
    assert_eq!(policy_nice_weight(139, false), 15);
    assert_eq!(policy_nice_weight(120, true), 3);
    // Each step is a quarter more, as far as integers go.
    for prio in 100..139 {
        let ratio = f64::from(policy_nice_weight(prio, false))
            / f64::from(policy_nice_weight(prio + 1, false));
        assert!((1.19..1.30).contains(&ratio), "{prio}: {ratio}");
    }
    // What is no nice value is the nearest one.
    assert_eq!(policy_nice_weight(0, false), 88_761);
    assert_eq!(policy_nice_weight(i32::MAX, false), 15);
}

#[test]
fn a_cgroups_weight_is_on_the_same_scale() {
    for (cpu_weight, weight) in [(100, 1024), (1, 10), (10_000, 102_400), (300, 3072)] {
        assert_eq!(policy_cgroup_weight(cpu_weight), weight);
        assert_eq!(policy_cpu_weight(weight), cpu_weight);
    }
}

#[test]
fn weight_one_pays_a_thousand_times_more_than_nice_zero_and_the_least_a_million_times() {
    let (ns, one) = (20_000_000, 1 << 20);
    for weight in [1, 7, 1000, 3 << 10, one, 86 * one] {
        let exact = ns as f64 * f64::from(one) / f64::from(weight);
        let virtual_ns = policy_virtual_ns(ns, policy_inv_weight_q16(weight)) as f64;
        assert!(
            (virtual_ns / exact - 1.0).abs() < 1e-2,
            "{weight}: {virtual_ns} {exact}"
        );
    }
}

/// Effective weight relative to nice 0, of a task in a cgroup below levels of (weight, sum of what is active there).
fn weight_below(levels: &[(u32, u64)], weight: u32) -> f64 {
    let share = levels
        .iter()
        .fold(policy_share_one(), |share, &(weight, sum)| {
            policy_share_below(share, weight, sum)
        });
    f64::from(policy_share_weight_q20(share, weight)) / f64::from(1 << 20)
}

#[test]
fn a_chain_of_cgroups_is_worth_what_the_highest_of_them_weighs() {
    for (weight, task) in [(10_240, 1024), (1024, 1024), (10, 3), (102_400, 88_761)] {
        let top = (weight, u64::from(weight));
        let mut levels = vec![top; 254];
        levels.insert(0, (weight, u64::from(task)));
        let effective = weight_below(&levels, task);
        let exact = f64::from(weight) / 1024.0;
        assert!(
            (effective / exact - 1.0).abs() < 1e-3,
            "{weight}: {effective}"
        );
    }
}

#[test]
fn shares_keep_their_precision_where_products_are_small_on_the_way() {
    // Each level is one part in a thousand of the next, and then all of that is had back.
    let mut levels = vec![(10, 10_000); 100];
    levels.extend([(100_000, 100); 100]);
    assert!((weight_below(&levels, 1024) - 1.0).abs() < 1e-4);
    // Never nothing, never more than there is room for.
    assert!(weight_below(&[(1, u64::MAX); 200], 1) > 0.0);
    assert!(weight_below(&[(100_000, 1); 200], 88_761) > 4095.0);
}

proptest! {
    #[test]
    fn shares_multiply(levels in prop::collection::vec((1u32..102_401, 1u64..1 << 24), 0..20), task in 3u32..88_762) {
        let exact = levels
            .iter()
            .fold(f64::from(task) / 1024.0, |product, &(weight, sum)| product * f64::from(weight) / sum as f64);
        let effective = weight_below(&levels, task);
        if exact > 0.01 && exact < 4000.0 {
            prop_assert!((effective / exact - 1.0).abs() < 1e-3, "{effective} {exact}");
        }
    }

    #[test]
    fn shares_take_anything(mantissa: u32, exponent: i32, weight: u32, sum in magnitude(), task: u32) {
        let below = policy_share_below(share { mantissa, exponent }, weight, sum);
        prop_assert!(below.mantissa >= 1 << 31);
        let anything = share { mantissa, exponent };
        prop_assert!(policy_share_weight_q20(anything, task) > 0);
    }
}

#[test]
fn the_virtual_clock_moves_by_the_mean_of_the_active_tasks() {
    let far = 1 << 40;
    assert_eq!(policy_vclock_step(1 << 20, far, 1), 1 << 20);
    assert_eq!(policy_vclock_step(1 << 20, far, 4), 1 << 18);
    assert_eq!(policy_vclock_step(0, far, 3), 0);
}

#[test]
fn what_is_used_up_to_the_clock_does_not_move_it() {
    for behind in [i64::MIN, -(1 << 20), 0] {
        assert_eq!(policy_vclock_step(1 << 20, behind, 1), 0);
    }
    assert_eq!(policy_vclock_step(1 << 20, 1 << 18, 1), 1 << 18);
}

#[test]
fn a_slice_covers_what_is_left_of_the_quantile() {
    let pred = (20.0 * 65536.0) as i32;
    assert_eq!(policy_quantile_left_ns(pred, 1 << 16, 0), 1 << 21);
    assert_eq!(policy_quantile_left_ns(pred, 1 << 16, 1 << 20), 1 << 20);
    assert_eq!(policy_quantile_left_ns(pred, 1 << 16, 1 << 21), 0);
}

/// A watch that has seen `n` bursts of these errors, in octaves.
fn watched(w: &mut watch, n: usize, model: f64, avg: f64) {
    for _ in 0..n {
        watch_add(w, 1, (model * 256.0) as i64, (avg * 256.0) as i64);
    }
}

#[test]
fn the_watch_falls_back_from_a_bad_model_and_returns_to_a_good_one() {
    let mut w = watch::default();
    watched(&mut w, 64, 2.0, 1.0);
    assert_eq!(w.fallback, 0, "too early to tell");
    watched(&mut w, 1, 2.0, 1.0);
    assert_eq!((w.fallback, w.fallbacks), (1, 1));
    watched(&mut w, 500, 0.5, 1.0);
    assert_eq!((w.fallback, w.returns), (0, 1));
}

#[test]
fn the_watch_does_not_flap_between_equals() {
    let mut w = watch::default();
    for i in 0..10_000 {
        watched(
            &mut w,
            1,
            1.0 + f64::from(i % 7) * 0.02,
            1.0 + f64::from(i % 5) * 0.02,
        );
    }
    assert_eq!(w.fallbacks, 0);
}

proptest! {
    #[test]
    fn whatever_errors_it_sees_the_watch_stays_in_range(errors in proptest::collection::vec(any::<(i64, i64)>(), 0..300)) {
        let mut w = watch::default();
        for (model, avg) in errors {
            watch_add(&mut w, 1, model, avg);
            prop_assert!((0..=((41 * 256) << 6)).contains(&w.err_model_q8) && (0..=((41 * 256) << 6)).contains(&w.err_avg_q8));
        }
    }
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
            watch_quantile(&mut w, over);
        }
        let share = f64::from(above) / 20_000.0;
        assert!(
            (share - 0.05).abs() < 0.01,
            "{share} above with a margin of {margin}"
        );
    }
}

#[test]
fn a_watched_margin_stays_in_range() {
    let mut w = watch::default();
    for above in [true, false] {
        for _ in 0..10_000 {
            watch_quantile(&mut w, above);
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

#[test]
fn surely_long_bursts_are_proven_by_many_and_unproven_by_few() {
    let mut w = watch::default();
    let mut bursts = 0;
    while !watch_long_proven(&w) {
        watch_long(&mut w, true);
        bursts += 1;
    }
    assert_eq!(bursts, 33);
    watch_long(&mut w, false);
    assert!(!watch_long_proven(&w), "only just proven");
    for i in 0..1000 {
        watch_long(&mut w, i % 6 != 0);
    }
    assert!(!watch_long_proven(&w), "every sixth is short");
    for _ in 0..1000 {
        watch_long(&mut w, true);
    }
    watch_long(&mut w, false);
    assert!(watch_long_proven(&w), "well proven, wrong once");
}

#[test]
fn nobody_is_queued_beyond_what_the_clock_reaches_in_two_seconds() {
    let vclock = u64::MAX - 1_000_000;
    for waiting in [0u32, 1, 10, 500, 50_000] {
        let far = policy_reach(vclock.wrapping_add(1 << 40), vclock, waiting).wrapping_sub(vclock);
        let exact = 2e9 / f64::from(waiting + 1);
        assert!(far as f64 <= exact * 1.01, "{waiting}: {far}");
        assert!(far as f64 >= exact * 0.49, "{waiting}: {far}");
        let near = vclock.wrapping_sub(20_000_000);
        assert_eq!(policy_reach(near, vclock, waiting), near);
    }
}

/// The half-life of a CPU's utilisation.
const HALF_LIFE_NS: u64 = 1 << 25;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn utilisation_forgets_by_halves(v in 0u32..1 << 20, ns in magnitude()) {
        let exact = f64::from(v) * (-(ns as f64) / HALF_LIFE_NS as f64).exp2();
        let got = policy_util_decayed(v, ns);
        prop_assert!(got <= v);
        // Two parts in ten thousand of 2^x, one part in 65536 of that, and what is rounded down.
        prop_assert!((f64::from(got) - exact).abs() <= f64::from(v) * 0.0003 + 1.0, "{got} for {exact}");
    }

    #[test]
    fn utilisation_never_leaves_its_range(util in any::<u32>(), span in any::<u64>(), busy in any::<u64>(), perf in any::<u32>()) {
        let util = policy_util_after(util, span, busy, perf);
        prop_assert!(util <= 1 << 20);
        prop_assert!(policy_cpuperf_target(util, busy) <= 1024, "the kernel ends the scheduler for more");
    }

    #[test]
    fn a_busy_span_moves_utilisation_towards_what_the_cpu_does_and_an_idle_one_towards_none(
        util in 0u32..=1 << 20, span in 0u64..1 << 30, perf in 0u32..=1024,
    ) {
        let (busy, idle) = (policy_util_after(util, span, span, perf), policy_util_after(util, span, 0, perf));
        let full = perf << 10;
        prop_assert!(busy >= util.min(full) && busy <= util.max(full));
        prop_assert!(idle <= util);
        prop_assert_eq!(idle, policy_util_decayed(util, span));
    }

    #[test]
    fn a_cpu_is_told_of_small_changes_never_and_of_others_not_all_the_time(last in 0u32..=1024, target in 0u32..=1024, since in magnitude()) {
        let sets = policy_sets_cpuperf(last, target, since);
        prop_assert!(!policy_sets_cpuperf(target, target, since));
        prop_assert!(!sets || target == 1024 || (last.abs_diff(target) >= 32 && since >= 4_000_000));
        prop_assert!(sets || target != 1024 || last == 1024, "full speed comes at once");
    }

    #[test]
    fn a_burst_scaled_and_back_takes_what_it_took(ns in 0u64..1 << 34, capacity in 64u32..=1024) {
        let slowness = 1024 * 1024 / capacity;
        let scaled = policy_scaled_ns(ns, capacity);
        prop_assert!(scaled <= ns);
        prop_assert!((scaled as f64 - ns as f64 * f64::from(capacity) / 1024.0).abs() <= 1.0);
        let back = policy_unscaled_ns(scaled, slowness);
        // 1024 / capacity is rounded, and each way rounds down.
        prop_assert!((back as f64 - ns as f64).abs() <= ns as f64 * 0.001 + 17.0, "{ns} came back as {back}");
    }

    #[test]
    fn on_the_fastest_cpus_nothing_is_scaled(ns in any::<u64>(), before in any::<u64>()) {
        prop_assert_eq!(policy_scaled_ns(ns, 1024), ns);
        prop_assert_eq!(policy_unscaled_ns(ns, 1024), ns);
        prop_assert_eq!(policy_unscaled_quantum_ns(ns, before, 1024), ns);
    }

    #[test]
    fn a_slow_cpu_never_takes_less(ns in 0u64..1 << 40, before in 0u64..1 << 40, slowness in any::<u32>()) {
        prop_assert!(policy_unscaled_ns(ns, slowness) >= ns);
        let quantum = policy_unscaled_quantum_ns(ns, before, slowness);
        // What was used before is no part of what is left.
        prop_assert!(quantum >= ns && (ns > before || quantum == ns));
    }
}

/// A CPU with so much work a period, in a world where a frequency that is set is there at once.
fn speeds(work_ns: u64, period_ns: u64, periods: u32) -> (f64, f64) {
    let (mut util, mut speed, mut last, mut told, mut since) = (1 << 20, 1024, 1024, 0, 0);
    let mut mean = 0.0;
    for period in 0..periods {
        let busy_ns = (work_ns * 1024 / u64::from(speed.max(1))).min(period_ns);
        util = policy_util_after(util, period_ns, busy_ns, speed);
        let target = policy_cpuperf_target(util, 0);
        since += period_ns;
        if policy_sets_cpuperf(last, target, since) {
            // As schedutil does: a quarter more, and no more than there is.
            speed = (target + target / 4).clamp(64, 1024);
            last = target;
            told += 1;
            since = 0;
        }
        if period >= periods / 2 {
            mean += f64::from(speed) / f64::from(periods - periods / 2);
        }
    }
    (mean, f64::from(told) / f64::from(periods))
}

#[test]
fn a_steady_load_gets_the_speed_that_it_needs() {
    for share in [0.1, 0.3, 0.5, 0.7] {
        let period_ns = 2_000_000;
        let (speed, told) = speeds((share * period_ns as f64) as u64, period_ns, 2_000);
        // A quarter more is the governor's; a step is what it takes to be told anew.
        let off = (speed / 1.25 - share * 1024.0).abs();
        assert!(off < 34.0, "{share}: {speed}");
        assert!(
            told < 0.05,
            "{share}: told another speed {told} times a period"
        );
    }
    let (speed, _) = speeds(0, 2_000_000, 500);
    assert!(speed < 64.1, "an idle CPU falls: {speed}");
}

#[test]
fn a_burst_of_a_half_life_goes_on_at_full_speed() {
    assert_eq!(policy_cpuperf_target(0, HALF_LIFE_NS - 1), 0);
    assert_eq!(policy_cpuperf_target(0, HALF_LIFE_NS), 1024);
    assert!(policy_sets_cpuperf(0, 1024, 0));
}

#[test]
fn only_what_is_predicted_to_outlast_a_first_quantum_wants_a_big_cpu() {
    let quantum = params().first_quantum_ns;
    let (short, long) = (
        log2_q16_of(quantum as f64 / 2.0),
        log2_q16_of(quantum as f64 * 2.0),
    );
    assert!(policy_wants_big(true, long, quantum));
    assert!(!policy_wants_big(true, short, quantum));
    assert!(!policy_wants_big(false, long, quantum), "nobody predicts");
}
