//! Frequencies, and CPUs that are slower than others.

use proptest::prelude::*;
use scx_ml::kernel::native::*;

use crate::{log2_q16_of, magnitude, params};

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
