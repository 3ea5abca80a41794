//! The policy's decisions, `src/bpf/decide.h` and `steer.h`, compiled for the host: what each says in plain
//! cases, and what must hold whatever the state is.

mod serving;

use proptest::prelude::*;
use scx_ml::kernel::bpf::intf::{
    self, clock_pace, fair_load, forecast, occupant, policy_params, stake,
};
use scx_ml::kernel::native::*;

const FRESH: u32 = intf::policy_lane_LANE_FRESH;
const FAIR: u32 = intf::policy_lane_LANE_FAIR;
const WAKEUP: u32 = intf::occasion_OCCASION_WAKEUP;
const INTERRUPT: u32 = intf::occasion_OCCASION_INTERRUPT;
const TICK: u32 = intf::occasion_OCCASION_TICK;
const SPARED_NOT: u32 = intf::spared_SPARED_NOT;
const SPARED_SHORT: u32 = intf::spared_SPARED_SHORT;
const SPARED_NO_GAIN: u32 = intf::spared_SPARED_NO_GAIN;
const MSEC: u64 = 1_000_000;
const NEVER_NS: u64 = u64::MAX;

fn params() -> policy_params {
    policy_defaults()
}

/// One that predicts a millisecond, with so many octaves of margin and of error about this task.
fn forecast(margin: f64, error: f64) -> forecast {
    forecast {
        pred_q16: log2_q16(MSEC) as i32,
        margin_q16: (margin * 65536.0) as i32,
        err_q8: (error * 256.0) as i32,
        known: 1,
    }
}

fn unknown() -> forecast {
    forecast {
        known: 0,
        ..forecast(0.0, 0.0)
    }
}

#[test]
fn the_model_steers_unless_only_the_average_is_sure() {
    let (sure, unsure) = (forecast(0.5, 0.2), forecast(3.0, 0.2));
    let of = |model: &forecast, average: &forecast| policy_steering(model, average, SPARED_NOT);
    assert_eq!(of(&sure, &sure), intf::steering_STEERING_MODEL);
    assert_eq!(of(&unsure, &unsure), intf::steering_STEERING_MODEL);
    assert_eq!(of(&unsure, &unknown()), intf::steering_STEERING_MODEL);
    assert_eq!(of(&unsure, &sure), intf::steering_STEERING_AVERAGE);
    // Wide of this very task, however narrow its quantiles are.
    assert_eq!(
        of(&forecast(0.5, 2.0), &sure),
        intf::steering_STEERING_AVERAGE
    );
    assert_eq!(of(&unknown(), &unsure), intf::steering_STEERING_AVERAGE);
    assert_eq!(of(&unknown(), &unknown()), intf::steering_STEERING_NONE);
}

#[test]
fn a_model_is_asked_where_it_gains_something() {
    let (model, average) = (forecast(0.5, 0.2), forecast(3.0, 0.8));
    let spared = |gain: f64, judged| policy_spared(&average, (gain * 65536.0) as i32, judged);
    // A sixteenth of what the average is off by.
    assert_eq!(spared(0.06, 100), SPARED_NOT);
    assert_eq!(spared(0.04, 100), SPARED_NO_GAIN);
    assert_eq!(spared(-1.0, 100), SPARED_NO_GAIN);
    // Nobody knows yet.
    assert_eq!(spared(-1.0, 7), SPARED_NOT);
    assert_eq!(policy_spared(&unknown(), -65536, 100), SPARED_NOT);
    // Now and then all the same.
    let since: Vec<u32> = std::iter::successors(Some(0), |&n| Some(policy_unasked(n)))
        .take(10)
        .collect();
    assert_eq!(since, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]);
    assert_eq!(
        policy_steering(&model, &average, SPARED_NO_GAIN),
        intf::steering_STEERING_AVERAGE
    );
    assert_eq!(
        policy_steering(&model, &average, SPARED_NOT),
        intf::steering_STEERING_MODEL
    );
}

#[test]
fn what_a_model_gains_follows_what_it_gained_lately() {
    let after = |gain_q16, nearer_octaves: f64, bursts| {
        (0..bursts).fold(gain_q16, |gain, _| {
            task_gain_q16(gain, (nearer_octaves * 256.0) as i32)
        })
    };
    let octaves = |gain_q16| f64::from(gain_q16) / 65536.0;
    assert!((octaves(after(0, 0.5, 30)) - 0.5).abs() < 0.02);
    assert!((octaves(after(after(0, 0.5, 30), -0.5, 30)) + 0.5).abs() < 0.02);
    // No gain is too small to be told from none.
    assert!(octaves(after(0, 0.01, 60)) > 0.005);
    // The most that two predictions of bursts can differ by.
    assert!(after(0, 64.0, 100) > 0 && after(0, -64.0, 100) < 0);
}

#[test]
fn no_model_is_asked_about_what_is_surely_short() {
    let of_us = |us: f64, error_octaves: f64| forecast {
        pred_q16: ((us * 1000.0).log2() * 65536.0) as i32,
        ..forecast(3.0, error_octaves)
    };
    assert!(policy_is_surely_short(&of_us(150.0, 0.1)));
    assert_eq!(
        policy_steering(&forecast(0.5, 0.2), &of_us(150.0, 0.1), SPARED_SHORT),
        intf::steering_STEERING_AVERAGE
    );
    assert!(policy_is_surely_short(&of_us(30.0, 0.5)));
    // It would have to be off by six times what it is, or less.
    assert!(!policy_is_surely_short(&of_us(150.0, 0.2)));
    assert!(!policy_is_surely_short(&of_us(40.0, 0.5)));
    assert!(!policy_is_surely_short(&of_us(10.0, 0.6)));
    assert!(!policy_is_surely_short(&unknown()));
    // Long before any slice ends.
    let shortest_ns = [FAIR, FRESH].map(|lane| policy_shortest_slice_ns(&params(), lane));
    let at_most_ns = exp2_q16(i64::from(intf::POLICY_SPARED_LOG2 << 16));
    assert!(shortest_ns.iter().all(|ns| *ns > 2 * at_most_ns));
}

fn stake(expected_ms: f64, burst_ms: f64) -> stake {
    let ns = |ms: f64| (ms * MSEC as f64) as u64;
    stake {
        expected_ns: ns(expected_ms),
        burst_ns: ns(burst_ms),
        stretched_ns: 0,
    }
}

/// One that is expected to take so long if it outlives its expectation.
fn stretched(stretched_ms: u64, of: stake) -> stake {
    stake {
        stretched_ns: stretched_ms * MSEC,
        ..of
    }
}

#[test]
fn only_what_is_much_shorter_goes_before_a_burst() {
    let waits = |waits: stake, other: stake| {
        policy_waits_for(policy_rest_ns(&waits), policy_rest_ns(&other))
    };
    // A quarter of what is left, whatever the scale.
    for scale in [0.001, 1.0, 1_000.0] {
        let of = |ms: f64| stake(ms * scale, 0.0);
        assert!(!waits(of(1.0), stake(8.0 * scale, 4.0 * scale)));
        assert!(waits(of(1.0), stake(8.0 * scale, 5.0 * scale)));
        assert!(waits(of(8.0), stake(8.0 * scale, 5.0 * scale)));
        // Longer than expected: as long again as it has been.
        assert!(!waits(of(2.0), stake(8.0 * scale, 8.0 * scale)));
        assert!(waits(of(4.0), stake(8.0 * scale, 8.0 * scale)));
    }
    // Of what is not known nobody can say.
    assert!(!waits(stake(0.0, 3.0), stake(8.0, 5.0)));
    assert!(!waits(stake(8.0, 0.0), stake(0.0, 5.0)));
}

#[test]
fn what_is_expected_is_the_average_if_it_was_judged() {
    let exact = policy_expected_ns(&forecast(0.5, 0.2)) as f64 / MSEC as f64;
    assert!((exact - 1.0).abs() < 0.01, "{exact}");
    assert_eq!(policy_expected_ns(&unknown()), 0);
    let least = forecast {
        pred_q16: 0,
        ..forecast(0.5, 0.2)
    };
    assert!(policy_expected_ns(&least) > 0);
}

#[test]
fn what_outlives_its_expectation_is_expected_to_take_what_such_bursts_did() {
    let rest = |s: stake| policy_rest_ns(&s);
    assert!(!policy_outlives(16 * MSEC, 8 * MSEC) && policy_outlives(17 * MSEC, 8 * MSEC));
    assert!(!policy_outlives(MSEC, 0), "nothing was expected");
    assert_eq!(rest(stretched(40, stake(8.0, 4.0))), 4 * MSEC, "not yet");
    assert_eq!(rest(stretched(40, stake(8.0, 12.0))), 12 * MSEC);
    assert_eq!(rest(stretched(40, stake(8.0, 30.0))), 10 * MSEC);
    assert_eq!(
        rest(stretched(40, stake(8.0, 50.0))),
        50 * MSEC,
        "that, too"
    );
    assert_eq!(rest(stake(8.0, 30.0)), 30 * MSEC, "not known");
    // Of bursts of 8 ms that came to 32 twice, and to 16.
    let octaves = |n: i32| n << 8;
    let once = policy_stretch_q8(0, 0, octaves(2));
    let thrice = policy_stretch_q8(policy_stretch_q8(once, 1, octaves(2)), 2, octaves(1));
    assert_eq!((once, thrice), (octaves(2), octaves(2) - 64));
    let average = forecast {
        pred_q16: 23 << 16,
        ..forecast(0.5, 0.2)
    };
    let expects = |stretch_q8, nr| policy_stretched_ns(&average, stretch_q8, nr);
    assert!((expects(once, 1) as f64 / (1u64 << 25) as f64 - 1.0).abs() < 0.01);
    assert_eq!(expects(once, 0), 0, "there was none");
    assert_eq!(expects(octaves(3), 1), 0, "another kind of burst");
    assert_eq!(policy_stretched_ns(&unknown(), once, 1), 0);
}

#[test]
fn a_burst_carries_on_until_it_outlives_what_is_expected() {
    let carries_on = |s: stake, ahead| policy_carries_on(&s, ahead, MSEC, false);
    assert!(carries_on(stake(8.0, 4.0), 0));
    assert!(carries_on(stake(8.0, 16.0), 0));
    assert!(!carries_on(stake(8.0, 16.1), 0));
    assert!(carries_on(stretched(40, stake(8.0, 16.1)), 0));
    assert!(carries_on(stretched(40, stake(8.0, 80.0)), 0));
    assert!(!carries_on(stretched(40, stake(8.0, 80.1)), 0));
    assert!(!carries_on(stake(8.0, 4.0), MSEC as i64), "too far ahead");
    assert!(!carries_on(stake(0.0, 4.0), 0), "who knows");
    assert!(!carries_on(stake(400.0, 4.0), 0), "very long");
    assert!(!policy_carries_on(&stake(8.0, 4.0), 0, MSEC, true));
}

#[test]
fn what_is_surely_long_lets_the_much_shorter_before_it() {
    let delay = |ms: f64, error| {
        let average = forecast {
            pred_q16: log2_q16((ms * MSEC as f64) as u64) as i32,
            ..forecast(0.5, error)
        };
        policy_long_delay_ns(&params(), policy_expected_ns(&average), average.err_q8)
    };
    assert_eq!(delay(15.9, 0.2), 0);
    assert!(delay(20.0, 0.2).abs_diff(320 * MSEC) < 4 * MSEC);
    assert_eq!(delay(20.0, 0.6), 0, "not sure");
    assert_eq!(policy_long_delay_ns(&params(), 0, 0), 0, "not known");
}

#[test]
fn room_is_made_for_the_much_shorter_only() {
    let now_ns = 100 * MSEC;
    let o = occupant {
        run_start_ns: now_ns - 10 * MSEC,
        quantum_ns: 4 * MSEC,
        expected_ns: 40 * MSEC,
        ..Default::default()
    };
    let room = |o: &occupant, waits: stake| {
        policy_room_in_ns(&params(), o, INTERRUPT, 0, policy_rest_ns(&waits), now_ns)
    };
    assert_eq!(room(&o, stake(1.0, 0.0)), 0);
    assert_eq!(room(&o, stake(10.0, 0.0)), NEVER_NS);
    assert_eq!(room(&o, stake(0.0, 0.0)), 0, "nobody knows: by the quantum");
    let idle = occupant { idle: 1, ..o };
    assert_eq!(room(&idle, stake(10.0, 0.0)), 0);
    // Of a burst that has outlived 4 ms, as it has by now: 30 of the 40 that such bursts took are left.
    let outlives = occupant {
        expected_ns: 4 * MSEC,
        stretched_ns: 40 * MSEC,
        ..o
    };
    assert_eq!(room(&outlives, stake(7.0, 0.0)), 0);
    assert_eq!(room(&outlives, stake(8.0, 0.0)), NEVER_NS);
    let light = occupant {
        inv_weight_q16: 10 << 16,
        heavy_inv_q16: 1 << 16,
        ..o
    };
    assert_eq!(room(&light, stake(10.0, 0.0)), 0);
}

#[test]
fn only_what_may_or_should_run_on_one_cpu_alone_waits_in_a_fair_lane_of_its_own() {
    use intf::{
        policy_queue_QUEUE_FAIR as OF_LLC, policy_queue_QUEUE_FRESH as FRESH_LANE,
        policy_queue_QUEUE_IDLE as IDLE, policy_queue_QUEUE_IDLE_PINNED as IDLE_PINNED,
        policy_queue_QUEUE_NEAR as NEAR,
    };
    for (pinned, near) in [(false, false), (false, true), (true, false), (true, true)] {
        assert_eq!(policy_queue(FRESH, pinned, near, false), FRESH_LANE);
        let fair = if pinned || near { NEAR } else { OF_LLC };
        assert_eq!(policy_queue(FAIR, pinned, near, false), fair);
        // Idle tasks are out of the others' way wherever they wait, so only what must stay does.
        for lane in [FRESH, FAIR] {
            let idle = if pinned { IDLE_PINNED } else { IDLE };
            assert_eq!(policy_queue(lane, pinned, near, true), idle);
        }
    }
}

#[test]
fn what_has_not_used_up_its_first_quantum_or_yields_stays_at_its_cpu() {
    let quantum_ns = params().first_quantum_ns;
    assert!(policy_stays_near(quantum_ns, 0, false, false));
    assert!(policy_stays_near(quantum_ns, quantum_ns - 1, false, false));
    assert!(!policy_stays_near(quantum_ns, quantum_ns, false, false));
    assert!(!policy_stays_near(quantum_ns, u64::MAX, false, false));
    // What is proven to be long has no first quantum.
    assert!(!policy_stays_near(0, 0, false, false));
    for burst_ns in [0, quantum_ns, u64::MAX] {
        assert!(policy_stays_near(quantum_ns, burst_ns, true, false));
        assert!(policy_stays_near(0, burst_ns, true, false));
        assert!(policy_stays_near(0, burst_ns, false, true));
    }
}

/// One that yields, as ops.yield counts it: how often since it was put on its CPU, up to a bound.
struct Yielder {
    yields: u32,
    ran_ns: u64,
}

impl Yielder {
    fn new() -> Self {
        Self {
            yields: 0,
            ran_ns: 0,
        }
    }

    /// It works for so long and yields; whether it makes room.
    fn yields_after(&mut self, work_ns: u64) -> bool {
        self.ran_ns += work_ns;
        self.yields = (self.yields + 1).min(intf::POLICY_YIELDS_MAX);
        policy_heeds_yield(self.yields, self.ran_ns)
    }
}

#[test]
fn a_spinner_hands_over_at_its_fourth_yield_and_no_sooner() {
    let mut spinner = Yielder::new();
    for _ in 0..3 {
        assert!(!spinner.yields_after(1_000));
    }
    assert!(spinner.yields_after(1_000));
}

#[test]
fn who_yields_rarely_makes_room_at_once() {
    assert!(!Yielder::new().yields_after(99_999));
    assert!(Yielder::new().yields_after(100_000));
    assert!(Yielder::new().yields_after(50 * MSEC));
}

#[test]
fn an_idle_cpu_is_called_before_anybody_is_disturbed() {
    for victim in [false, true] {
        assert_eq!(policy_call(true, victim), intf::policy_call_CALL_IDLE);
    }
    assert_eq!(policy_call(false, true), intf::policy_call_CALL_VICTIM);
    assert_eq!(policy_call(false, false), intf::policy_call_CALL_NOBODY);
}

#[test]
fn what_has_just_woken_others_makes_room_at_a_tick_or_for_an_interrupt_only() {
    let start_ns = 1_000 * MSEC;
    let now_ns = start_ns + 10 * MSEC;
    let at = |o: &occupant, occasion| policy_room_in_ns(&params(), o, occasion, 0, 0, now_ns);
    let quiet = occupant {
        run_start_ns: start_ns,
        burst_before_ns: 0,
        quantum_ns: 2 * MSEC,
        protect_until_ns: 0,
        woke_ns: start_ns - MSEC,
        ..Default::default()
    };
    let busy = occupant {
        woke_ns: now_ns - MSEC,
        ..quiet
    };
    let long_ago = occupant {
        woke_ns: now_ns - 9 * MSEC,
        ..quiet
    };
    for occasion in [WAKEUP, INTERRUPT, TICK] {
        assert_eq!(at(&quiet, occasion), 0);
        assert_eq!(at(&long_ago, occasion), 0);
    }
    assert_eq!(at(&busy, WAKEUP), NEVER_NS);
    assert_eq!((at(&busy, INTERRUPT), at(&busy, TICK)), (0, 0));
    // The same one again and again: it is waited for.
    let exchanges = occupant { partner: 1, ..busy };
    assert_eq!(at(&exchanges, WAKEUP), 0);
    let just_began = occupant {
        run_start_ns: now_ns - 1000,
        burst_before_ns: 3 * MSEC,
        woke_ns: now_ns,
        ..exchanges
    };
    assert_eq!(at(&just_began, WAKEUP), 0);
    let guard_ns = params().preempt_after_ns - 1000;
    assert_eq!(at(&just_began, INTERRUPT), guard_ns);
    let nobody = occupant {
        run_start_ns: 0,
        ..quiet
    };
    assert_eq!(at(&nobody, TICK), NEVER_NS);
}

#[test]
fn what_makes_room_for_another_is_not_told_twice_and_idle_tasks_make_room_at_once() {
    let now_ns = 1_000 * MSEC;
    let at = |o: &occupant, occasion| policy_room_in_ns(&params(), o, occasion, 0, 0, now_ns);
    let leaves = occupant {
        run_start_ns: now_ns - 9 * MSEC,
        leaves: 1,
        ..Default::default()
    };
    for occasion in [WAKEUP, INTERRUPT] {
        assert_eq!(at(&leaves, occasion), NEVER_NS);
    }
    // The word may have been lost: a tick asks again.
    assert_eq!(at(&leaves, TICK), 0);
    let idle = occupant {
        run_start_ns: now_ns,
        quantum_ns: 2 * MSEC,
        protect_until_ns: now_ns + MSEC,
        idle: 1,
        ..Default::default()
    };
    for occasion in [WAKEUP, INTERRUPT, TICK] {
        assert_eq!(at(&idle, occasion), 0);
    }
}

#[test]
fn a_first_quantum_does_not_protect_from_who_is_much_heavier() {
    const ONE_Q16: u64 = 1 << 16;
    let now_ns = 1_000 * MSEC;
    let light = occupant {
        run_start_ns: now_ns - MSEC,
        quantum_ns: 2 * MSEC,
        inv_weight_q16: 68 * ONE_Q16,
        heavy_inv_q16: 68 * ONE_Q16,
        ..Default::default()
    };
    let at = |o: &occupant, inv| policy_room_in_ns(&params(), o, WAKEUP, inv, 0, now_ns);
    assert_eq!(at(&light, ONE_Q16), 0);
    assert_eq!(at(&light, 68 * ONE_Q16), MSEC, "one like it");
    assert_eq!(at(&light, 0), MSEC, "nobody heavier has been here");
    let beside_heavy = occupant {
        heavy_inv_q16: ONE_Q16,
        ..light
    };
    assert_eq!(at(&beside_heavy, 0), 0);
}

#[test]
fn a_neighbour_comes_first_only_where_it_has_waited_for_a_tick_longer() {
    assert!(policy_neighbour_first(9 * MSEC, MSEC));
    assert!(!policy_neighbour_first(9 * MSEC, 6 * MSEC));
    assert!(!policy_neighbour_first(9 * MSEC, u64::MAX), "it is empty");
}

#[test]
fn a_tick_hands_over_from_an_old_burst_to_a_young_one_with_an_earlier_deadline() {
    let lag_ns = params().lag_ns;
    let yields = |lane, burst_ns, first_burst_ns, first_key| {
        policy_yields_at_tick(&params(), lane, burst_ns, 1_000, first_burst_ns, first_key)
    };
    assert!(yields(FAIR, lag_ns + 1, lag_ns, 999));
    assert!(!yields(FAIR, lag_ns + 1, lag_ns, 1_000), "a later deadline");
    assert!(!yields(FAIR, lag_ns, lag_ns, 999), "a young one goes on");
    assert!(!yields(FAIR, lag_ns + 1, lag_ns + 1, 999), "both are old");
    assert!(!yields(FRESH, lag_ns + 1, lag_ns, 999), "another lane");
}

#[test]
fn a_clocks_speed_is_looked_at_a_few_times_a_second_and_forgotten_when_it_is_old() {
    let reach_ns: u64 = 2_000 * MSEC;
    let mut pace = clock_pace {
        seen: 500,
        seen_ns: 1_000 * MSEC,
        reach: 7,
    };
    let before = pace;
    assert!(!policy_look_at_clock(&mut pace, 900, 1_256 * MSEC));
    assert_eq!(
        (pace.seen, pace.seen_ns, pace.reach),
        (before.seen, before.seen_ns, before.reach)
    );
    // A tenth of real time: in the reach a tenth of that, to a part in a thousand.
    let at_ns = 1_300 * MSEC;
    assert!(policy_look_at_clock(&mut pace, 500 + 30 * MSEC, at_ns));
    assert_eq!((pace.seen, pace.seen_ns), (500 + 30 * MSEC, at_ns));
    assert!(
        pace.reach.abs_diff(reach_ns / 10) <= reach_ns / 10_000,
        "{}",
        pace.reach
    );
    assert!(policy_look_at_clock(&mut pace, 600 * MSEC, 10_000 * MSEC));
    assert_eq!(pace.reach, 0, "nobody has looked for long");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_slice_and_its_source_agree(steering in 0u32..3, left in any::<u64>(), few: bool, lane in FRESH..=FAIR, nr in 0u32..1_000) {
        let pp = params();
        let left = if few { left % (2 * pp.slice_max_ns) } else { left };
        let left = if steering == intf::steering_STEERING_NONE { 0 } else { left };
        let (source, slice) = (policy_slice_source(&pp, steering, left, lane), policy_slice_ns(&pp, left, lane, nr));
        let shortest = if lane == FRESH { pp.first_quantum_ns } else { pp.slice_min_ns };
        prop_assert!((pp.slice_min_ns..=pp.slice_max_ns).contains(&slice));
        match source {
            intf::slice_source_SLICE_BASE => prop_assert_eq!(steering, intf::steering_STEERING_NONE),
            intf::slice_source_SLICE_OUTLIVED => prop_assert_eq!(left, 0),
            intf::slice_source_SLICE_RAISED => prop_assert!(left < slice && slice == shortest),
            intf::slice_source_SLICE_CUT => prop_assert!(left > slice && slice == pp.slice_max_ns),
            intf::slice_source_SLICE_PREDICTED => prop_assert!(slice == left && steering == intf::steering_STEERING_MODEL),
            intf::slice_source_SLICE_AVERAGE => prop_assert!(slice == left && steering == intf::steering_STEERING_AVERAGE),
            other => prop_assert!(false, "source {other}"),
        }
    }

    #[test]
    fn a_yield_is_heeded_again_after_any_number_of_them(before in 0u32..2_000, work_ns in 0u64..1 << 20) {
        let mut yielder = Yielder::new();
        for _ in 0..before {
            yielder.yields_after(0);
        }
        // However often it has yielded, one of the next four makes room, and each if it has been there for a while.
        prop_assert!((0..4).any(|_| yielder.yields_after(work_ns)));
        prop_assert!(yielder.yields_after(100_000));
    }

    #[test]
    fn room_that_is_promised_is_there_then(
        start in 1u64..1 << 40, before in 0u64..1 << 30, quantum in 0u64..1 << 30, protect in 0u64..1 << 41, ran in 0u64..1 << 32,
    ) {
        let o = occupant { run_start_ns: start, burst_before_ns: before, quantum_ns: quantum, protect_until_ns: protect, ..Default::default() };
        let now = start + ran;
        let room = |at| policy_room_in_ns(&params(), &o, TICK, 0, 0, at);
        let in_ns = room(now);
        prop_assert_eq!(room(now + in_ns), 0);
        prop_assert!(in_ns == 0 || room(now + in_ns - 1) == 1);
        // A turn of the fair lane is never cut short, and nothing is that has hardly begun.
        prop_assert!(now + in_ns >= protect);
        prop_assert!(in_ns + ran >= params().preempt_after_ns);
    }

    #[test]
    fn whatever_the_state_is_no_occasion_makes_room_sooner_than_a_tick(
        start in any::<u64>(), before in any::<u64>(), quantum in any::<u64>(), protect in any::<u64>(), woke in any::<u64>(),
        now in any::<u64>(), occasion in any::<u32>(),
    ) {
        let o = occupant { run_start_ns: start, burst_before_ns: before, quantum_ns: quantum, protect_until_ns: protect, woke_ns: woke, ..Default::default() };
        let room = |occasion| policy_room_in_ns(&params(), &o, occasion, 0, 0, now);
        prop_assert!(room(occasion) >= room(TICK));
        prop_assert_eq!(room(INTERRUPT), room(TICK));
    }

    #[test]
    fn a_cpu_that_looks_for_a_task_asks_everybody_it_may(fair_waits: bool, overdue: bool, prev_runs: bool) {
        let steps = serving::steps(fair_waits, overdue, prev_runs);
        let fresh = [intf::policy_serve_SERVE_FRESH, intf::policy_serve_SERVE_FRESH_AFTER_ALL];
        prop_assert_eq!(steps.iter().filter(|s| fresh.contains(s)).count(), 1);
        prop_assert_eq!(steps.contains(&intf::policy_serve_SERVE_FAIR), fair_waits);
        // Whoever would go idle comes for what stays near others of its LLC, after all that is served at once, and before it
        // looks into other LLCs.
        let place = |step| steps.iter().position(|&s| s == step);
        let near = place(intf::policy_serve_SERVE_NEAR_OF_LLC);
        prop_assert_eq!(near.is_some(), !prev_runs);
        if near.is_some() {
            prop_assert_eq!(near, place(intf::policy_serve_SERVE_FRESH_OF_LLC).map(|at| at + 1));
            prop_assert_eq!(near.map(|at| at + 1), place(intf::policy_serve_SERVE_OTHER_LLCS));
        }
        // What ran goes on before the CPU steals, and a CPU that would go idle has asked all others.
        let last = if prev_runs { intf::policy_serve_SERVE_PREV } else { intf::policy_serve_SERVE_IDLE_OF_OTHER_LLCS };
        prop_assert_eq!(steps.last(), Some(&last));
    }

    #[test]
    fn what_ran_goes_on_only_before_both_heads(key in 0u64..1 << 62, shared in 0u64..1 << 62, pinned in 0u64..1 << 62) {
        let none = u64::MAX;
        prop_assert!(policy_goes_on(key, none, none));
        prop_assert_eq!(policy_goes_on(key, shared, none), key < shared);
        prop_assert_eq!(policy_goes_on(key, none, pinned), key < pinned);
        prop_assert_eq!(policy_goes_on(key, shared, pinned), key < shared.min(pinned));
        prop_assert_eq!(policy_shared_first(shared, pinned), shared < pinned);
    }

    #[test]
    fn relief_is_due_by_any_cpus_clock(looked in any::<u64>(), interval in 0u64..1 << 40, later in 0u64..1 << 41) {
        prop_assert_eq!(policy_relief_due(interval, looked, looked.wrapping_add(later)), later >= interval);
        // A clock that is behind the one that looked.
        prop_assert!(later == 0 || !policy_relief_due(interval, looked, looked.wrapping_sub(later)));
    }

    #[test]
    fn llcs_that_even_out_never_take_from_each_other_at_once_and_end_nearer(
        here in 0u32..10_000, there in 0u32..10_000, here_cpus in 1u32..512, there_cpus in 1u32..512, node in 0u32..2,
        since in any::<u64>(),
    ) {
        let here = fair_load { nr_waiting: here, nr_cpus: here_cpus, node: 0 };
        let there = fair_load { nr_waiting: there, nr_cpus: there_cpus, node };
        // Difference of what waits per CPU, times both numbers of CPUs.
        let apart = |moved: i64| {
            let (h, t) = (i64::from(here.nr_waiting) + moved, i64::from(there.nr_waiting) - moved);
            t * i64::from(here_cpus) - h * i64::from(there_cpus)
        };
        let takes = policy_evens(&here, &there, since);
        if takes {
            prop_assert!(there.nr_waiting > 0 && apart(0) > 0);
            prop_assert!(apart(1).abs() <= apart(0).abs());
            prop_assert!(!policy_evens(&there, &here, since));
        }
        prop_assert!(!policy_evens(&here, &there, 0), "not twice in a moment");
        // Where one more evens them out for good, it is taken as soon as it may be.
        if apart(1) >= 0 && apart(0) > 0 {
            prop_assert!(policy_evens(&here, &there, 4 * MSEC));
        }
        // Turns are taken within a node only: of two nodes, none has one that the other would take back.
        if node != 0 && takes {
            let after = |load: fair_load, by: i64| fair_load { nr_waiting: (i64::from(load.nr_waiting) + by) as u32, ..load };
            prop_assert!(!policy_evens(&after(there, -1), &after(here, 1), u64::MAX));
        }
    }

    #[test]
    fn a_measured_reach_only_brings_keys_nearer(key in any::<u64>(), clock in any::<u64>(), nr in any::<u32>(), reach in 0u64..1 << 40) {
        let plain = policy_reach(key, clock, nr);
        let measured = policy_measured_reach(key, clock, nr, reach);
        prop_assert!(key.wrapping_sub(measured) as i64 >= 0);
        prop_assert!(reach == 0 || measured.wrapping_sub(clock) as i64 <= reach as i64);
        prop_assert!(measured == key || measured == plain || measured == clock.wrapping_add(reach));
        prop_assert_eq!(policy_measured_reach(key, clock, nr, 0), plain);
    }

    #[test]
    fn a_clocks_pace_is_total(seen in any::<u64>(), seen_ns in any::<u64>(), clock in any::<u64>(), now in any::<u64>()) {
        let mut pace = clock_pace { seen, seen_ns, reach: 0 };
        policy_look_at_clock(&mut pace, clock, now);
        // At most as fast as real time at weight 100, eightfold for the part of a look that is rounded away.
        prop_assert!(pace.reach <= 8 * 2_000 * MSEC);
    }

    #[test]
    fn a_task_that_starts_never_turns_the_clock_back(lane in 0u32..3, vruntime in any::<u64>(), clock in any::<u64>()) {
        let after = policy_clock_at_run(lane, vruntime, clock);
        prop_assert!(after.wrapping_sub(clock) as i64 >= 0);
        prop_assert!(after == clock || (lane == FAIR && after == vruntime));
    }

    #[test]
    fn the_longer_somebody_waits_the_more_is_done(waits in any::<u64>()) {
        let (fresh, fair) = (policy_is_forgotten(FRESH, waits), policy_is_forgotten(FAIR, waits));
        prop_assert!(fresh || !fair);
        prop_assert!(fair || !policy_is_stuck(false, waits));
    }

    #[test]
    fn of_two_that_are_known_one_waits_at_least(a in 1u64..1 << 50, b in 1u64..1 << 50, ran_a in 0u64..1 << 50, ran_b in 0u64..1 << 50, to_a in 0u64..1 << 50, to_b in 0u64..1 << 50) {
        let a = policy_rest_ns(&stake { expected_ns: a, stretched_ns: to_a, burst_ns: ran_a });
        let b = policy_rest_ns(&stake { expected_ns: b, stretched_ns: to_b, burst_ns: ran_b });
        prop_assert!(a > 0 && b > 0);
        prop_assert!(policy_waits_for(a, b) || policy_waits_for(b, a));
    }

    #[test]
    fn room_for_one_is_never_sooner_than_for_anyone(started in 1u64..1 << 40, expected in any::<u64>(), ran in 0u64..1 << 50, need in any::<u64>(), inv in 0u64..1 << 36, occasion in 0u32..3) {
        let o = occupant { run_start_ns: started, burst_before_ns: ran, quantum_ns: 4 * MSEC, expected_ns: expected, inv_weight_q16: 1 << 16, ..Default::default() };
        let room = |need| policy_room_in_ns(&params(), &o, occasion, inv, need, started + 3 * MSEC);
        let anyone = room(0);
        prop_assert!(room(need) == anyone || room(need) == NEVER_NS);
        // Much heavier: it does not wait.
        prop_assert!(inv == 0 || inv >= 1 << 15 || room(need) == anyone);
    }
}
