//! Weights, those of cgroups too, and what CPU time costs by them.

use proptest::prelude::*;
use scx_ml::kernel::bpf::intf::share;
use scx_ml::kernel::native::*;

use crate::{NICE_19_Q16, ONE_Q16, magnitude, params};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn virtual_time_never_overflows(ns in any::<u64>(), inv in any::<u64>()) {
        prop_assert!(policy_virtual_ns(ns, inv) <= 1 << 57);
    }
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
fn a_light_task_has_a_first_quantum_beside_heavy_ones_only_where_it_has_earned_it() {
    let pp = params();
    let (q, lag_ns) = (pp.first_quantum_ns, pp.lag_ns as i64);
    let earned = |ahead, inv, heavy| policy_has_earned(&pp, q, ahead, inv, heavy);
    // Among its like, and where nobody has run: as anybody.
    assert!(earned(0, NICE_19_Q16, NICE_19_Q16) && earned(0, NICE_19_Q16, 0));
    assert!(earned(lag_ns, ONE_Q16, ONE_Q16));
    // A first quantum of 4 ms is 273 ms to it.
    assert_eq!(q, 4_000_000);
    assert!(!earned(0, NICE_19_Q16, ONE_Q16));
    assert!(!earned(-250_000_000, NICE_19_Q16, ONE_Q16));
    assert!(earned(-255_000_000, NICE_19_Q16, ONE_Q16));
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
