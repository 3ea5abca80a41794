//! Virtual clocks, and how far from them a task may be.

use proptest::prelude::*;
use scx_ml::kernel::native::*;

use crate::{NICE_19_Q16, ONE_Q16};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn bounded_virtual_time_is_within_the_lag_and_keeps_order(
        clock in any::<u64>(), a in -1i64 << 50..1i64 << 50, b in -1i64 << 50..1i64 << 50, lag in 0u64..1 << 40,
        owes in 0u64..1 << 40,
    ) {
        for (woken, credit) in [(false, lag as i64), (true, lag as i64 / 4)] {
            let bound = |off: i64| {
                policy_bound_vruntime(clock.wrapping_add_signed(off), clock, lag, lag + owes, woken).wrapping_sub(clock) as i64
            };
            prop_assert!((-credit..=(lag + owes) as i64).contains(&bound(a)));
            prop_assert!((a <= b) == (bound(a) <= bound(b)) || bound(a) == bound(b));
        }
    }
}

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
