/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The policy's decisions: slices, where a task waits, who makes room for it and when, what a CPU serves next,
 * and whom it looks after besides. What they are decided from, numbers of virtual time, keys and slices, is in policy.h.
 *
 * Pure functions of plain structs, compiled for BPF and for the host as policy.h is: the BPF program, the simulator and the
 * tests all decide by this text. Whoever calls them reads the state (maps and DSQs, or a simulated machine's) and does what
 * they say. Facts that cost something to find out are asked for by the caller only when a decision depends on them.
 */
#ifndef __SCX_ML_DECIDE_H
#define __SCX_ML_DECIDE_H

#include "steer.h"

/* Key of the first of an empty queue. */
#define POLICY_NO_KEY (~0ULL)

/* A time that does not come. */
#define POLICY_NEVER_NS (~0ULL)

/*
 * Slices.
 */

/* Where a slice comes from, with so much left of the high quantile of the burst that steers; 0: nothing, or nothing steers. */
static inline enum slice_source policy_slice_source(const struct policy_params *pp, enum steering steering, u64 left_ns,
						    enum policy_lane lane)
{
	if (!steering)
		return SLICE_BASE;
	if (!left_ns)
		return SLICE_OUTLIVED;
	if (left_ns < policy_shortest_slice_ns(pp, lane))
		return SLICE_RAISED;
	if (left_ns > pp->slice_max_ns)
		return SLICE_CUT;
	return steering == STEERING_MODEL ? SLICE_PREDICTED : SLICE_AVERAGE;
}

/* The slice itself, never 0. nr_waiting: tasks that wait for the same CPU. */
static inline u64 policy_slice_ns(const struct policy_params *pp, u64 left_ns, enum policy_lane lane, u32 nr_waiting)
{
	u64 shortest_ns = policy_shortest_slice_ns(pp, lane);

	if (!left_ns)
		return policy_base_slice_ns(pp, lane, nr_waiting);
	return left_ns < shortest_ns ? shortest_ns : policy_clamp_slice(pp, left_ns);
}

/*
 * Where a task waits.
 */

/*
 * Queues: a fresh lane per CPU, a fair lane per LLC, and another fair lane per CPU, its near lane, for what may run nowhere else or
 * should rather not: see policy_stays_near(). Fair lanes of both kinds are there once more for what is to run where nothing else
 * wants to: SCHED_IDLE, and cgroups with cpu.idle.
 */
enum policy_queue {
	QUEUE_FRESH = 0, /* of a CPU */
	QUEUE_FAIR = 1, /* of an LLC */
	QUEUE_NEAR = 2, /* of a CPU */
	QUEUE_IDLE = 3, /* of an LLC */
	QUEUE_IDLE_PINNED = 4, /* of a CPU */
	NR_QUEUES,
};

/* near: as policy_stays_near() says. */
static inline enum policy_queue policy_queue(enum policy_lane lane, bool pinned, bool near, bool idle)
{
	if (idle)
		return pinned ? QUEUE_IDLE_PINNED : QUEUE_IDLE;
	if (lane != LANE_FAIR)
		return QUEUE_FRESH;
	return pinned || near ? QUEUE_NEAR : QUEUE_FAIR;
}

/*
 * Whether a task that is to be served by the clock waits at its CPU all the same: it has yielded to those who wait there, has
 * not used up its first quantum, or is paced. Such switches come thousands of times a second, and where an LLC's lane takes them in, all
 * its CPUs wait for one lock and each task goes on wherever somebody was quicker. CPUs with nothing to do come for them.
 */
static inline bool policy_stays_near(u64 quantum_ns, u64 burst_ns, bool yielded, bool paced)
{
	return yielded || paced || burst_ns < quantum_ns;
}

/*
 * Whether a task that yields makes room: one time in so many since it was put on its CPU, or when it has been there for a while.
 * A switch costs as much as several calls that do nothing, and what is waited for, if that is why it yields, comes as soon.
 * yields: how often it has; ran_ns: for how long it has run.
 */
#define POLICY_YIELDS_MAX 252
#define POLICY_YIELDS_A_SWITCH 4
#define POLICY_YIELD_AFTER_NS (100 * SCX_ML_NSEC_PER_USEC)

static inline bool policy_heeds_yield(u32 yields, u64 ran_ns)
{
	return yields % POLICY_YIELDS_A_SWITCH == 0 || ran_ns >= POLICY_YIELD_AFTER_NS;
}

/*
 * CPUs of the LLC, the next ones on its ring, that are looked at beside the task's own: for one where something runs that is to run
 * where nothing else wants to, and for one that comes to serve the fresh lane where a higher class has the task's own.
 */
#define POLICY_SCAN_MAX 4

/* Who is told of a task that was queued. */
enum policy_call {
	CALL_NOBODY = 0, /* whoever looks next */
	CALL_IDLE = 1, /* an idle CPU, which was claimed */
	CALL_VICTIM = 2, /* the CPU whose task makes room */
};

static inline enum policy_call policy_call(bool idle_found, bool victim_found)
{
	if (idle_found)
		return CALL_IDLE;
	return victim_found ? CALL_VICTIM : CALL_NOBODY;
}

/*
 * Who makes room, and when.
 */

/* What runs on a CPU. Read without a lock where the CPU is another's: a wrong guess costs one needless switch. */
struct occupant {
	u64 run_start_ns; /* 0: no sched_ext task runs there */
	u64 burst_before_ns; /* CPU time of its burst before that */
	u64 quantum_ns; /* its first quantum */
	u64 protect_until_ns; /* a turn of the fair lane that must not be preempted */
	u64 woke_ns; /* when a task last woke another there */
	u64 expected_ns; /* what its burst is expected to take: policy_expected_ns() */
	u64 stretched_ns; /* and if it outlives that: policy_stretched_ns() */
	u64 inv_weight_q16; /* its inverse weight, and the heaviest that the CPU is used to: policy_heavy() */
	u64 heavy_inv_q16;
	u32 idle; /* it is to run where nothing else wants to */
	u32 leaves; /* another has been told to take its place */
	u32 partner; /* whom it has woken last is the one whom it has woken before: policy_produces() */
	u32 pad;
};

/* When it is asked whether what runs makes room for a fresh wake-up. */
enum occasion {
	OCCASION_WAKEUP = 0, /* it wakes, by another task */
	OCCASION_INTERRUPT = 1, /* it wakes, by an interrupt */
	OCCASION_TICK = 2, /* it waits, at a tick */
};

/*
 * Whether what runs has woken others lately, since it was put there. Who waits then is likely to wait for what it makes, and
 * for more of that: it makes room at a tick only. A pipe that is filled is read in one go; message by message, each costs
 * two switches. Whom an interrupt has woken does not wait for it, and preempts it as any other. Nor is one a producer who wakes the
 * same one again and again: what is handed to one partner, message by message, is waited for, and there is nothing to be gained by
 * staying for a moment.
 */
#define POLICY_PRODUCES_NS (8 * SCX_ML_NSEC_PER_MSEC)

static inline bool policy_produces(const struct occupant *o, u64 now_ns)
{
	return policy_vdiff(o->woke_ns, o->run_start_ns) >= 0 &&
	       policy_vdiff(now_ns, o->woke_ns) < (s64)POLICY_PRODUCES_NS && !o->partner;
}

/*
 * Who waits for whom, where it is known for how long bursts of their kinds run.
 *
 * A quantum of some ms is right for one load. Whatever is cut may hold what those who come next spin for; then their bursts
 * get longer, are cut as well, and so on. But to whoever needs a multiple of what is left of another burst, that burst's end is no
 * great delay. So only what is expected to be much shorter goes before it, in ratios: a spinner's long bursts make all bursts of
 * its kind look longer, and the comparison stays as it was.
 */

/* A burst that runs or waits: what is expected of its kind, and what it has had. */
struct stake {
	u64 expected_ns; /* 0: not known */
	u64 stretched_ns; /* the same if it outlives that; 0: not known */
	u64 burst_ns;
};

/* What is expected of a burst by its kind's average; 0: that has not been judged yet. */
static inline u64 policy_expected_ns(const struct forecast *average)
{
	return average->known ? exp2_q16(average->pred_q16) ?: 1 : 0;
}

/*
 * Bursts that outlive their expectation: twice as long. Some are of another kind, as a worker is given a long request among short ones,
 * and nothing is known of them. Others are of the same kind, stretched: who was cut with a lock in hand makes others spin for it, and
 * spinning is CPU time of their bursts; or the host of a virtual machine takes the CPU away. Those are the ones that must not be cut
 * again. What such bursts came to, compared with what was expected, tells which they are: of a task's bursts that began alike, and were
 * longer than what everybody is given, the mean log2 of that ratio, in Q8, a moving average with weight 1/4 from the first one on.
 * nr: how many it is made of.
 */
#define POLICY_OUTLIVES_SHIFT 1

static inline bool policy_outlives(u64 burst_ns, u64 expected_ns)
{
	return expected_ns && burst_ns >> POLICY_OUTLIVES_SHIFT > expected_ns;
}

static inline s32 policy_stretch_q8(s32 stretch_q8, u32 nr, s32 ratio_q8)
{
	return stretch_q8 + ((ratio_q8 - stretch_q8) >> (nr < 2 ? nr : 2));
}

/* What is expected of a burst that outlives its expectation; 0: nothing. Beyond so many octaves such bursts are of another kind. */
#define POLICY_STRETCH_MAX_Q8 (3 << 8)

static inline u64 policy_stretched_ns(const struct forecast *average, s32 stretch_q8, u32 nr)
{
	return average->known && nr && stretch_q8 < POLICY_STRETCH_MAX_Q8
		       ? exp2_q16((s64)average->pred_q16 + (stretch_q8 << 8))
		       : 0;
}

/* What a burst is expected to take, as long as it is by now. 0: not known. */
static inline u64 policy_expects_ns(const struct stake *s)
{
	return s->stretched_ns && policy_outlives(s->burst_ns, s->expected_ns) ? s->stretched_ns : s->expected_ns;
}

/* What a burst is expected to need still; beyond that, as long as it has had. 0: not known. */
static inline u64 policy_rest_ns(const struct stake *s)
{
	u64 expects_ns = policy_expects_ns(s);

	if (!expects_ns)
		return 0;
	return s->burst_ns < expects_ns ? expects_ns - s->burst_ns : s->burst_ns;
}

/*
 * Whether who needs so much waits for another burst to end, which needs rest_ns still: it is known that it is not a quarter of that
 * at most. 0: not known.
 */
#define POLICY_SHORTER_SHIFT 2

static inline bool policy_waits_for(u64 need_ns, u64 rest_ns)
{
	return need_ns && rest_ns && need_ns > rest_ns >> POLICY_SHORTER_SHIFT;
}

/*
 * Whether a burst that could be cut, or has been, goes before those who wait for it: until it outlives what is expected of it, or is
 * very long, and while its task is ahead of the clock by less than that takes. The lag bound would be less than one such burst; but what
 * goes beyond it is owed, see join_llc(). ahead: its virtual time beyond the clock's, vmax: POLICY_CARRIES_MAX_NS of its virtual
 * time. behind: it is not to go before anybody, as it has yielded, is light, or is to run where nothing else wants to.
 */
#define POLICY_CARRIES_MAX_NS (400 * SCX_ML_NSEC_PER_MSEC)

static inline bool policy_carries_on(const struct stake *s, s64 ahead, u64 vmax, bool behind)
{
	u64 expects_ns = policy_expects_ns(s);

	return expects_ns && !behind && ahead < (s64)vmax && !policy_outlives(s->burst_ns, expects_ns) &&
	       s->burst_ns + policy_rest_ns(s) < POLICY_CARRIES_MAX_NS;
}

/*
 * How far behind its wake-up a task stands in the fresh lane that is surely long: so far that those who are much shorter do not
 * wait behind it, who would not wait for it if it ran. Just beyond a first quantum is not long: a worker that finds a backlog is.
 */
#define POLICY_LONG_DELAY_SHIFT 4
#define POLICY_LONG_QUANTA 4
#define POLICY_LONG_MIN_NS (8 * SCX_ML_NSEC_PER_MSEC)
#define POLICY_LONG_MAX_NS (200 * SCX_ML_NSEC_PER_MSEC)

static inline u64 policy_long_delay_ns(const struct policy_params *pp, u64 expected_ns, s32 err_q8)
{
	if (err_q8 > POLICY_SURE_ERROR_Q8 ||
	    expected_ns <= policy_quanta_ns(pp, POLICY_LONG_QUANTA, POLICY_LONG_MIN_NS))
		return 0;
	return (expected_ns < POLICY_LONG_MAX_NS ? expected_ns : POLICY_LONG_MAX_NS) << POLICY_LONG_DELAY_SHIFT;
}

/*
 * Time until what runs on a CPU makes room for a fresh wake-up: it must be past its first quantum, if the other is not much
 * heavier, and have been there for a moment, so that a switch buys more than it costs; and the other must not be one that waits for
 * its end, see policy_waits_for(). What is to run where nothing else wants to makes room at once.
 * inv_weight_q16, need_ns: of the one that waits, as much as is known of it; 0: nothing is, it is as heavy as the CPU is used to.
 * 0: now; POLICY_NEVER_NS: as far as can be told it does not, or nothing runs, or it makes room for another already.
 */
static inline u64 policy_room_in_ns(const struct policy_params *pp, const struct occupant *o, enum occasion occasion,
				    u64 inv_weight_q16, u64 need_ns, u64 now_ns)
{
	struct stake runs = {.expected_ns = o->expected_ns, .stretched_ns = o->stretched_ns};
	u64 at_ns, quantum_ns = o->quantum_ns;
	bool lighter;

	if (!o->run_start_ns || (o->leaves && occasion != OCCASION_TICK))
		return POLICY_NEVER_NS;
	if (o->idle)
		return 0;
	if (occasion == OCCASION_WAKEUP && policy_produces(o, now_ns))
		return POLICY_NEVER_NS;
	inv_weight_q16 = inv_weight_q16 ?: o->heavy_inv_q16;
	lighter = inv_weight_q16 && policy_is_lighter(o->inv_weight_q16, inv_weight_q16);
	if (lighter)
		quantum_ns = 0;
	at_ns = policy_preemptible_at_ns(o->run_start_ns, o->burst_before_ns, quantum_ns,
					 o->partner && occasion == OCCASION_WAKEUP ? 0 : pp->preempt_after_ns,
					 o->protect_until_ns);
	if (at_ns > now_ns)
		return at_ns - now_ns;
	runs.burst_ns = o->burst_before_ns + (now_ns - o->run_start_ns);
	return !lighter && policy_waits_for(need_ns, policy_rest_ns(&runs)) ? POLICY_NEVER_NS : 0;
}

/*
 * Whether a CPU serves its neighbour's fresh lane before its own, by the keys of their heads: only where that has waited for
 * longer by what is worth a move.
 */
#define POLICY_TICK_NS (4 * SCX_ML_NSEC_PER_MSEC)

static inline bool policy_neighbour_first(u64 own_key, u64 neighbour_key)
{
	return neighbour_key != POLICY_NO_KEY && policy_vdiff(own_key, neighbour_key) > (s64)POLICY_TICK_NS;
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
	SERVE_IDLE_OVERDUE, /* the idle lanes, for a moment: the kernel ejects a scheduler that lets them starve */
	SERVE_CARRIED, /* what was cut, or could be, and goes before those in its fresh lane: policy_carries_on() */
	SERVE_FRESH, /* its own fresh lane, or its neighbour's */
	SERVE_PACED, /* one of its near lane who is paced and due: policy_is_paced() */
	SERVE_PREV_BY_KEY, /* what ran, if it comes before the heads of the fair lanes */
	SERVE_FAIR, /* the fair lanes */
	SERVE_FRESH_AFTER_ALL, /* as the first one: what waits in the fair lanes may run elsewhere only */
	SERVE_PREV, /* what ran */
	SERVE_FRESH_OF_LLC, /* a fresh lane of any CPU of the LLC */
	SERVE_NEAR_OF_LLC, /* the same of near lanes */
	SERVE_OTHER_LLCS, /* any lane of another LLC but the idle ones, of the same NUMA node first */
	SERVE_PREV_IDLE_BY_KEY, /* what ran, idle, if it comes before the heads of the idle lanes */
	SERVE_IDLE, /* the idle lanes */
	SERVE_PREV_IDLE, /* what ran, idle */
	SERVE_IDLE_OF_OTHER_LLCS, /* an idle lane of another LLC */
	NR_SERVE,
};

/* How many of a near lane, from its first on, are looked at for one who is paced and due. */
#define POLICY_PACED_MAX 8

/* How many of a fresh lane are looked at for one who would not wait for the burst for whose end the lane's first waits. */
#define POLICY_SHORTER_MAX 8

/* Neighbours on the LLC's ring whose fresh lanes a CPU serves before its fair lane. */
#define POLICY_FRESH_NEIGHBOURS 1

/* What a CPU knows when it looks for a task. */
struct serving {
	u32 fair_waits; /* somebody waits in its fair lanes */
	u32 overdue; /* they have waited for a turn for long, see policy_fair_overdue() */
	u32 paced_due; /* one of its near lane may be paced, and due */
	u32 idle_waits; /* somebody waits in its idle lanes */
	u32 idle_overdue; /* and has for very long, see policy_idle_overdue() */
	u32 prev_runs; /* what ran could go on */
	u32 prev_yields; /* but has yielded */
	u32 prev_idle; /* it is to run where nothing else wants to */
};

/* Whether a step is to be tried, after those before it have found nothing. */
static inline bool policy_serves(const struct serving *s, enum policy_serve step)
{
	bool prev_runs = s->prev_runs && !s->prev_idle, prev_idles = s->prev_runs && s->prev_idle;

	switch (step) {
	case SERVE_IDLE_OVERDUE:
		return s->idle_overdue;
	case SERVE_CARRIED:
		return (prev_runs || s->fair_waits) && !s->overdue;
	case SERVE_FRESH:
		return !s->overdue;
	case SERVE_PACED:
		return s->paced_due && !s->overdue;
	case SERVE_PREV_BY_KEY:
		return s->fair_waits && prev_runs && !s->prev_yields;
	case SERVE_FAIR:
		return s->fair_waits;
	case SERVE_FRESH_AFTER_ALL:
		return s->overdue;
	case SERVE_PREV:
		return prev_runs;
	case SERVE_FRESH_OF_LLC:
	case SERVE_NEAR_OF_LLC:
	case SERVE_OTHER_LLCS:
		return !prev_runs;
	case SERVE_PREV_IDLE_BY_KEY:
		return s->idle_waits && prev_idles && !s->prev_yields;
	case SERVE_IDLE:
		return s->idle_waits;
	case SERVE_PREV_IDLE:
		return prev_idles;
	case SERVE_IDLE_OF_OTHER_LLCS:
		return !s->prev_runs;
	default:
		return false;
	}
}

/*
 * Whether the first of the idle lanes, which has waited for so long, runs although others want to: the kernel's watchdog lets
 * nobody wait for more than ten seconds. It is stopped at the next tick.
 */
#define POLICY_LONG_IDLE_NS (4000 * SCX_ML_NSEC_PER_MSEC)

static inline bool policy_idle_overdue(u64 waits_ns)
{
	return waits_ns > POLICY_LONG_IDLE_NS;
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

/*
 * Whether one of the last of a fair lane, or of an idle one, has waited for longer than anybody should, so that it is put first.
 * In an idle lane it is then overdue, too: policy_idle_overdue().
 */
#define POLICY_STUCK_IDLE_NS (5000 * SCX_ML_NSEC_PER_MSEC)

static inline bool policy_is_stuck(bool idle, u64 waits_ns)
{
	return waits_ns > (idle ? POLICY_STUCK_IDLE_NS : POLICY_REACH_NS);
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

/* What waits in the fair lanes of an LLC and its CPUs and may leave. */
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
 * key, but not later than the clock will be in POLICY_REACH_NS. policy_reach() takes all for tasks of weight 100. Where heavier
 * ones have the CPUs, the clock is as many times slower, and a light task would wait as many times longer: beside four of nice
 * -20, one of nice 19 some minutes; where those who wait are light, it is faster, and they would have many times their share. So
 * its speed is measured, and counts where it is known.
 */
static inline u64 policy_measured_reach(u64 key, u64 vclock, u32 nr_waiting, u64 reach)
{
	if (!reach)
		return policy_reach(key, vclock, nr_waiting);
	return policy_vdiff(key, vclock + reach) > 0 ? vclock + reach : key;
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
