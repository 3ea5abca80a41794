/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The policy's decisions: what steers a burst, where a task waits, who makes room for it and when, what a CPU serves next,
 * and whom it looks after besides. What they are decided from, numbers of virtual time, keys and slices, is in policy.h.
 *
 * Pure functions of plain structs, compiled for BPF and for the host as policy.h is: the BPF program, the simulator and the
 * tests all decide by this text. Whoever calls them reads the state (maps and DSQs, or a simulated machine's) and does what
 * they say. Facts that cost something to find out are asked for by the caller only when a decision depends on them.
 */
#ifndef __SCX_ML_DECIDE_H
#define __SCX_ML_DECIDE_H

#include "policy.h"

/* Key of the first of an empty queue. */
#define POLICY_NO_KEY (~0ULL)

/* A time that does not come. */
#define POLICY_NEVER_NS (~0ULL)

/*
 * What steers a burst.
 */

/* What a predictor says of the burst that begins. */
struct forecast {
	s32 pred_q16; /* log2(ns) */
	s32 margin_q16; /* up to the high quantile */
	s32 long_margin_q16; /* down to the low one */
	s32 err_q8; /* mean |error| about this very task lately */
	u32 known; /* 0: it says nothing, or is not to be trusted */
};

static inline bool policy_forecast_is_sure(const struct forecast *f)
{
	return f->known && policy_is_sure(f->margin_q16, f->err_q8);
}

/*
 * Who steers: the model; where there is none to trust, or it is not sure of this task while the task's moving average is,
 * that; else nobody.
 */
static inline enum steering policy_steering(const struct forecast *model, const struct forecast *average)
{
	if (model->known && (policy_forecast_is_sure(model) || !policy_forecast_is_sure(average)))
		return STEERING_MODEL;
	return average->known ? STEERING_AVERAGE : STEERING_NONE;
}

/*
 * Slices.
 */

/* Where a slice comes from, with so much left of the high quantile of the burst that steers; 0: nothing, or nothing steers. */
static inline enum slice_source policy_slice_source(const struct policy_params *pp, enum steering steering, u64 left_ns)
{
	if (!steering)
		return SLICE_BASE;
	if (!left_ns)
		return SLICE_OUTLIVED;
	if (left_ns < pp->slice_min_ns)
		return SLICE_RAISED;
	if (left_ns > pp->slice_max_ns)
		return SLICE_CUT;
	return steering == STEERING_MODEL ? SLICE_PREDICTED : SLICE_AVERAGE;
}

/* The slice itself, never 0. nr_waiting: tasks that wait for the same CPU. */
static inline u64 policy_slice_ns(const struct policy_params *pp, u64 left_ns, enum policy_lane lane, u32 nr_waiting)
{
	return left_ns ? policy_clamp_slice(pp, left_ns) : policy_base_slice_ns(pp, lane, nr_waiting);
}

/*
 * Where a task waits.
 */

/* Queues: a fresh lane per CPU, a fair lane per LLC, and another fair lane per CPU for what may run nowhere else. */
enum policy_queue {
	QUEUE_FRESH = 0,
	QUEUE_FAIR = 1,
	QUEUE_PINNED = 2,
};

static inline enum policy_queue policy_queue(enum policy_lane lane, bool pinned)
{
	if (lane != LANE_FAIR)
		return QUEUE_FRESH;
	return pinned ? QUEUE_PINNED : QUEUE_FAIR;
}

/*
 * CPUs of the LLC, the next ones on its ring, that are looked at beside the task's own: for one whose task makes room, and for
 * one that comes to serve the fresh lane where a higher class has the task's own.
 */
#define POLICY_SCAN_MAX 4

/* Who is told of a task that was queued. */
enum policy_call {
	CALL_NOBODY = 0, /* whoever looks next */
	CALL_IDLE = 1, /* an idle CPU, which was claimed */
	CALL_VICTIM = 2, /* the CPU whose task makes room */
	CALL_TIMER = 3, /* at the end of the first quantum of what runs where it waits */
};

static inline enum policy_call policy_call(bool idle_found, bool victim_found, enum policy_queue queue)
{
	if (idle_found)
		return CALL_IDLE;
	if (queue != QUEUE_FRESH)
		return CALL_NOBODY;
	return victim_found ? CALL_VICTIM : CALL_TIMER;
}

/*
 * Who makes room, and when.
 */

/* What runs on a CPU. Read without a lock where the CPU is another's: a wrong guess costs one needless switch. */
struct occupant {
	u64 run_start_ns; /* 0: no sched_ext task runs there */
	u64 burst_before_ns; /* CPU time of its burst before that */
	u64 quantum_ns; /* its first quantum, as far as it protects: policy_protected_ns() */
	u64 protect_until_ns; /* a turn of the fair lane that must not be preempted */
	u64 woke_ns; /* when a task last woke another there */
};

/* A surely long burst may have a first quantum, in which the short ones among such bursts end; it does not protect. */
static inline u64 policy_protected_ns(u64 quantum_ns, bool sure_long)
{
	return sure_long ? 0 : quantum_ns;
}

/* When it is asked whether what runs makes room for a fresh wake-up. */
enum occasion {
	OCCASION_WAKEUP = 0, /* it wakes, by another task */
	OCCASION_INTERRUPT = 1, /* it wakes, by an interrupt */
	OCCASION_TIMER = 2, /* it waits, and a first quantum may have ended */
	OCCASION_TICK = 3, /* it waits, at a tick */
};

/*
 * Whether what runs has woken others lately, since it was put there. Who waits then is likely to wait for what it makes, and
 * for more of that: it makes room at a tick only. A pipe that is filled is read in one go; message by message, each costs
 * two switches. Whom an interrupt has woken does not wait for it, and preempts it as any other.
 */
#define POLICY_PRODUCES_NS (8 * SCX_ML_NSEC_PER_MSEC)

static inline bool policy_produces(const struct occupant *o, u64 now_ns)
{
	return policy_vdiff(o->woke_ns, o->run_start_ns) >= 0 &&
	       policy_vdiff(now_ns, o->woke_ns) < (s64)POLICY_PRODUCES_NS;
}

/*
 * Time until what runs on a CPU makes room for a fresh wake-up: it must be past its first quantum, and have been there for a
 * moment, so that a switch buys more than it costs. 0: now; POLICY_NEVER_NS: as far as can be told it does not, or nothing
 * runs.
 */
static inline u64 policy_room_in_ns(const struct policy_params *pp, const struct occupant *o, enum occasion occasion,
				    u64 now_ns)
{
	u64 at_ns;

	if (!o->run_start_ns)
		return POLICY_NEVER_NS;
	if ((occasion == OCCASION_WAKEUP || occasion == OCCASION_TIMER) && policy_produces(o, now_ns))
		return POLICY_NEVER_NS;
	at_ns = policy_preemptible_at_ns(pp, o->run_start_ns, o->burst_before_ns, o->quantum_ns, o->protect_until_ns);
	return at_ns > now_ns ? at_ns - now_ns : 0;
}

/*
 * What a CPU serves next.
 */

/* The first of two fair lanes that a CPU serves, by the keys of their heads: true, the one of its LLC. */
static inline bool policy_shared_first(u64 shared_key, u64 pinned_key)
{
	return policy_vdiff(shared_key, pinned_key) < 0;
}

/* Whether what ran, with this key now, comes before the heads of the fair lanes that its CPU serves. */
static inline bool policy_goes_on(u64 key, u64 shared_key, u64 pinned_key)
{
	return (shared_key == POLICY_NO_KEY || policy_vdiff(key, shared_key) < 0) &&
	       (pinned_key == POLICY_NO_KEY || policy_vdiff(key, pinned_key) < 0);
}

/* The steps of a CPU that looks for a task, in their order: the first that finds one is the last. */
enum policy_serve {
	SERVE_FRESH, /* its own fresh lane, or its neighbour's */
	SERVE_PREV_BY_KEY, /* what ran, if it comes before the heads of the fair lanes */
	SERVE_FAIR, /* the fair lanes */
	SERVE_FRESH_AFTER_ALL, /* as the first step: what waits in the fair lanes may run elsewhere only */
	SERVE_PREV, /* what ran */
	SERVE_FRESH_OF_LLC, /* a fresh lane of any CPU of the LLC */
	SERVE_OTHER_LLCS, /* any lane of another LLC, of the same NUMA node first */
	NR_SERVE,
};

/* Neighbours on the LLC's ring whose fresh lanes a CPU serves before its fair lane. */
#define POLICY_FRESH_NEIGHBOURS 1

/* What a CPU knows when it looks for a task. */
struct serving {
	u32 fair_waits; /* somebody waits in its fair lanes */
	u32 overdue; /* they have waited for a turn for long, see policy_fair_overdue() */
	u32 prev_runs; /* what ran could go on */
};

/* Whether a step is to be tried, after those before it have found nothing. */
static inline bool policy_serves(const struct serving *s, enum policy_serve step)
{
	switch (step) {
	case SERVE_FRESH:
		return !s->overdue;
	case SERVE_PREV_BY_KEY:
		return s->fair_waits && s->prev_runs;
	case SERVE_FAIR:
		return s->fair_waits;
	case SERVE_FRESH_AFTER_ALL:
		return s->overdue;
	case SERVE_PREV:
		return s->prev_runs;
	case SERVE_FRESH_OF_LLC:
	case SERVE_OTHER_LLCS:
		return !s->prev_runs;
	default:
		return false;
	}
}

/* Turns of fair lanes that are behind come eight times as often: their interval, shifted by so much. */
#define POLICY_BEHIND_SHIFT 3

/* Whether the fair lanes of a CPU are to have a turn before its fresh lane. behind: somebody there has waited for very long. */
static inline bool policy_fair_overdue(u64 fair_interval_ns, u64 fair_turn_ns, bool behind, u64 now_ns)
{
	return now_ns - fair_turn_ns > fair_interval_ns >> (behind ? POLICY_BEHIND_SHIFT : 0);
}

/*
 * Whether a tick takes the CPU from what runs in a lane for what stands first in the fair lane: a young burst, within the lag
 * bound, need not wait for the slice of an old one to end if its deadline has become the earlier of the two. Slices among the
 * old stay long: switching between them wins nobody anything.
 */
static inline bool policy_yields_at_tick(const struct policy_params *pp, enum policy_lane lane, u64 burst_ns, u64 key,
					 u64 first_burst_ns, u64 first_key)
{
	return lane == LANE_FAIR && burst_ns > pp->lag_ns && first_burst_ns <= pp->lag_ns &&
	       policy_vdiff(first_key, key) < 0;
}

/*
 * Whom a CPU looks after besides, see relief.bpf.h.
 */

/* From when on somebody has waited in a fresh lane for long, and in a fair lane for very long. */
#define POLICY_LONG_FRESH_NS (100 * SCX_ML_NSEC_PER_MSEC)
#define POLICY_LONG_FAIR_NS (500 * SCX_ML_NSEC_PER_MSEC)

/* Whether the first of a lane has waited for so long that a CPU which passes by takes it. */
static inline bool policy_is_forgotten(enum policy_lane lane, u64 waits_ns)
{
	return waits_ns > (lane == LANE_FRESH ? POLICY_LONG_FRESH_NS : POLICY_LONG_FAIR_NS);
}

/* Whether one of the last of a fair lane has waited for longer than anybody should, so that it is put first. */
static inline bool policy_is_stuck(u64 waits_ns)
{
	return waits_ns > POLICY_REACH_NS;
}

/*
 * How many of those that stand last are looked at. Behind one that the clock has left alone others stand who came later, a
 * score of them among three hundred tasks.
 */
#define POLICY_LAST_MAX 128

/* Whether others are to be looked after again, who were at looked_ns; that may have been another CPU, whose clock is ahead. */
static inline bool policy_relief_due(u64 fair_interval_ns, u64 looked_ns, u64 now_ns)
{
	return policy_vdiff(now_ns, looked_ns) >= (s64)fair_interval_ns;
}

/* The shortest time between two tasks that are moved to an LLC because more wait elsewhere, and where it only turns. */
#define POLICY_EVEN_MIN_NS (4 * SCX_ML_NSEC_PER_MSEC)
#define POLICY_EVEN_TURN_NS (200 * SCX_ML_NSEC_PER_MSEC)

/* What waits in the fair lane of an LLC. */
struct fair_load {
	u32 nr_waiting;
	u32 nr_cpus;
	u32 node; /* NUMA node */
};

/*
 * Whether more tasks wait per CPU of `there` than of `here`, so that here should have one of them; it last took one since_ns
 * ago. Where that makes the difference no smaller, only its sign, they take turns with it, or somebody would have the smaller
 * share for ever; but not with the LLCs of another NUMA node, for whoever comes from there leaves its memory behind.
 */
static inline bool policy_evens(const struct fair_load *here, const struct fair_load *there, u64 since_ns)
{
	/* Both times all CPUs of both: what a task that moves changes the difference by. */
	s64 step = (s64)here->nr_cpus + there->nr_cpus;
	s64 more = (s64)there->nr_waiting * here->nr_cpus - (s64)here->nr_waiting * there->nr_cpus;

	if (since_ns < POLICY_EVEN_MIN_NS || 2 * more < step)
		return false;
	return more >= step || (here->node == there->node && since_ns >= POLICY_EVEN_TURN_NS);
}

/*
 * How fast an LLC's virtual clock is.
 */

/* How often its speed is looked at; what is older than a few of those says nothing. */
#define POLICY_CLOCK_LOOK_NS (256 * SCX_ML_NSEC_PER_MSEC)

/* Its speed, as it was seen. */
struct clock_pace {
	u64 seen; /* the clock when it was last looked at */
	u64 seen_ns; /* and that moment */
	u64 reach; /* how far it moves in POLICY_REACH_NS at the speed that it had; 0: not known */
};

/* Look at the clock's speed if it is time to; whether it was. Divides, a few times a second. */
static inline bool policy_look_at_clock(struct clock_pace *pace, u64 vclock, u64 now_ns)
{
	s64 since_ns = policy_vdiff(now_ns, pace->seen_ns);
	u64 moved = vclock - pace->seen;

	if (since_ns <= (s64)POLICY_CLOCK_LOOK_NS)
		return false;
	pace->seen = vclock;
	pace->seen_ns = now_ns;
	pace->reach = 0;
	if (since_ns < 4 * (s64)POLICY_CLOCK_LOOK_NS && moved < POLICY_REACH_NS)
		pace->reach =
			moved * (POLICY_REACH_NS / SCX_ML_NSEC_PER_USEC) / ((u64)since_ns / SCX_ML_NSEC_PER_USEC) + 1;
	return true;
}

/*
 * key, but not later than the clock will be in POLICY_REACH_NS. policy_reach() takes what runs for tasks of weight 100. Where
 * heavier ones have the CPUs, the clock is as many times slower, and a light task would wait as many times longer: beside four
 * of nice -20, one of nice 19 some minutes. So its speed is measured, and the nearer of the two counts.
 */
static inline u64 policy_measured_reach(u64 key, u64 vclock, u32 nr_waiting, u64 reach)
{
	key = policy_reach(key, vclock, nr_waiting);
	return reach && policy_vdiff(key, vclock + reach) > 0 ? vclock + reach : key;
}

/*
 * The clock when a task with this virtual time starts to run. The first of the fair lane has the least there: the clock does
 * not lag behind it.
 */
static inline u64 policy_clock_at_run(enum policy_lane lane, u64 vruntime, u64 vclock)
{
	return lane == LANE_FAIR && policy_vdiff(vruntime, vclock) > 0 ? vruntime : vclock;
}

#endif /* __SCX_ML_DECIDE_H */
