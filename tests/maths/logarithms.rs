//! Logarithms, powers and reciprocals.

use proptest::prelude::*;
use scx_ml::kernel::native::*;

use crate::magnitude;

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
