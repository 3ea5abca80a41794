//! What a CPU serves next, and in which order.

use scx_ml::kernel::bpf::intf::{self, serving};
use scx_ml::kernel::native::*;

use super::{MSEC, params};

#[test]
fn an_idle_lane_is_served_after_all_others_unless_it_is_overdue() {
    use intf::{
        policy_serve_SERVE_FRESH_OF_LLC as OF_LLC, policy_serve_SERVE_IDLE as IDLE,
        policy_serve_SERVE_IDLE_OF_OTHER_LLCS as OTHERS_IDLE,
        policy_serve_SERVE_IDLE_OVERDUE as OVERDUE, policy_serve_SERVE_NEAR_OF_LLC as NEAR,
        policy_serve_SERVE_OTHER_LLCS as OTHERS, policy_serve_SERVE_PREV as PREV,
        policy_serve_SERVE_PREV_IDLE as PREV_IDLE,
        policy_serve_SERVE_PREV_IDLE_BY_KEY as PREV_IDLE_BY_KEY,
    };
    let idle_waits = serving {
        idle_waits: 1,
        ..Default::default()
    };
    let fresh = intf::policy_serve_SERVE_FRESH;
    assert_eq!(
        tried(idle_waits),
        [fresh, OF_LLC, NEAR, OTHERS, IDLE, OTHERS_IDLE]
    );
    let prev_idle = serving {
        prev_runs: 1,
        prev_idle: 1,
        ..idle_waits
    };
    // All that is not idle comes before it, also that of other LLCs.
    assert_eq!(
        tried(prev_idle),
        [
            fresh,
            OF_LLC,
            NEAR,
            OTHERS,
            PREV_IDLE_BY_KEY,
            IDLE,
            PREV_IDLE
        ]
    );
    let prev = serving {
        prev_runs: 1,
        ..idle_waits
    };
    let carried = intf::policy_serve_SERVE_CARRIED;
    assert_eq!(tried(prev), [carried, fresh, PREV, IDLE]);
    let overdue = serving {
        idle_overdue: 1,
        ..prev
    };
    assert_eq!(tried(overdue)[0], OVERDUE);
    assert!(policy_idle_overdue(4_001 * MSEC) && !policy_idle_overdue(4_000 * MSEC));
    assert!(policy_is_stuck(true, 5_001 * MSEC) && !policy_is_stuck(true, 3_000 * MSEC));
}

#[test]
fn what_yields_does_not_go_on_while_others_wait() {
    use intf::{
        policy_serve_SERVE_CARRIED as CARRIED, policy_serve_SERVE_FAIR as FAIR_LANES,
        policy_serve_SERVE_FRESH as FRESH_LANES, policy_serve_SERVE_PREV as PREV,
    };
    let s = serving {
        fair_waits: 1,
        prev_runs: 1,
        prev_yields: 1,
        ..Default::default()
    };
    assert_eq!(tried(s), [CARRIED, FRESH_LANES, FAIR_LANES, PREV]);
}

#[test]
fn who_is_paced_and_due_comes_after_the_fresh_and_before_what_ran() {
    use intf::{
        policy_serve_SERVE_CARRIED as CARRIED, policy_serve_SERVE_FAIR as FAIR_LANES,
        policy_serve_SERVE_FRESH as FRESH_LANES,
        policy_serve_SERVE_FRESH_AFTER_ALL as FRESH_AFTER_ALL, policy_serve_SERVE_PACED as PACED,
        policy_serve_SERVE_PREV as PREV, policy_serve_SERVE_PREV_BY_KEY as PREV_BY_KEY,
    };
    let steps = |overdue| {
        tried(serving {
            fair_waits: 1,
            paced_due: 1,
            prev_runs: 1,
            overdue,
            ..Default::default()
        })
    };
    assert_eq!(
        steps(0),
        [CARRIED, FRESH_LANES, PACED, PREV_BY_KEY, FAIR_LANES, PREV]
    );
    // The others' own turn is theirs.
    assert_eq!(steps(1), [PREV_BY_KEY, FAIR_LANES, FRESH_AFTER_ALL, PREV]);
}

/// The steps that are tried if none finds anything.
fn tried(s: serving) -> Vec<u32> {
    (0..intf::policy_serve_NR_SERVE)
        .filter(|&step| policy_serves(&s, step))
        .collect()
}

/// The same of a CPU that knows this much.
pub fn steps(fair_waits: bool, overdue: bool, prev_runs: bool) -> Vec<u32> {
    tried(serving {
        fair_waits: fair_waits.into(),
        overdue: overdue.into(),
        prev_runs: prev_runs.into(),
        ..Default::default()
    })
}

#[test]
fn fresh_wake_ups_are_served_first_unless_the_fair_lane_is_overdue() {
    use intf::{
        policy_serve_SERVE_CARRIED as CARRIED, policy_serve_SERVE_FAIR as FAIR_LANES,
        policy_serve_SERVE_FRESH as FRESH_LANES,
        policy_serve_SERVE_FRESH_AFTER_ALL as FRESH_AFTER_ALL,
        policy_serve_SERVE_FRESH_OF_LLC as OF_LLC, policy_serve_SERVE_IDLE_OF_OTHER_LLCS as IDLE,
        policy_serve_SERVE_NEAR_OF_LLC as NEAR, policy_serve_SERVE_OTHER_LLCS as OTHERS,
        policy_serve_SERVE_PREV as PREV, policy_serve_SERVE_PREV_BY_KEY as PREV_BY_KEY,
    };
    assert_eq!(
        steps(false, false, false),
        [FRESH_LANES, OF_LLC, NEAR, OTHERS, IDLE]
    );
    assert_eq!(steps(false, false, true), [CARRIED, FRESH_LANES, PREV]);
    assert_eq!(
        steps(true, false, false),
        [CARRIED, FRESH_LANES, FAIR_LANES, OF_LLC, NEAR, OTHERS, IDLE]
    );
    assert_eq!(
        steps(true, false, true),
        [CARRIED, FRESH_LANES, PREV_BY_KEY, FAIR_LANES, PREV]
    );
    assert_eq!(
        steps(true, true, true),
        [PREV_BY_KEY, FAIR_LANES, FRESH_AFTER_ALL, PREV]
    );
    assert_eq!(
        steps(true, true, false),
        [FAIR_LANES, FRESH_AFTER_ALL, OF_LLC, NEAR, OTHERS, IDLE]
    );
}

#[test]
fn a_fair_lane_with_somebody_who_has_waited_for_very_long_has_turns_eight_times_as_often() {
    let interval_ns = params().fair_interval_ns;
    let overdue =
        |behind, since_ns| policy_fair_overdue(interval_ns, 7 * MSEC, behind, 7 * MSEC + since_ns);
    assert!(!overdue(false, interval_ns) && overdue(false, interval_ns + 1));
    assert!(!overdue(true, interval_ns / 8) && overdue(true, interval_ns / 8 + 1));
}
