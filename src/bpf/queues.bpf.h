/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Queues: a fresh lane per CPU, a fair lane per LLC, and another fair lane per CPU, its near lane, for what may run nowhere else or
 * should rather not; idle lanes, like the fair ones, for what is to run where nothing else wants to.
 *
 * Fresh wake-ups are short and many: they wait where their cache is, and a CPU that has none of its own takes a
 * neighbour's. What is in the fair lane runs for long: there, sharing one order matters more than the cache.
 *
 * Nothing waits in a local DSQ: the kernel skips ops.dispatch while one is non-empty, so tasks stacked there would
 * starve everything that is queued here. A task goes to a local DSQ only when an idle CPU was claimed for it, or when
 * ops.dispatch takes it for the CPU that asks.
 */
#ifndef __SCX_ML_QUEUES_BPF_H
#define __SCX_ML_QUEUES_BPF_H

#include "capacity.bpf.h"
#include "group.bpf.h"

/* DSQ ids: 1 + enum policy_queue in the upper half, LLC or CPU in the lower. */
static inline u64 queue_dsq(enum policy_queue queue, u32 at)
{
	return ((u64)queue + 1) << 32 | at;
}

static inline u64 fresh_dsq(s32 cpu)
{
	return queue_dsq(QUEUE_FRESH, cpu);
}

static inline u64 fair_dsq(u32 llc)
{
	return queue_dsq(QUEUE_FAIR, llc);
}

static inline u64 near_dsq(s32 cpu)
{
	return queue_dsq(QUEUE_NEAR, cpu);
}

static inline u64 idle_dsq(u32 llc)
{
	return queue_dsq(QUEUE_IDLE, llc);
}

static inline u64 idle_pinned_dsq(s32 cpu)
{
	return queue_dsq(QUEUE_IDLE_PINNED, cpu);
}

/* The NUMA node of an LLC, as the kernel numbers it. */
static s32 numa_node_of(u32 llc)
{
	struct llc_ctx *lctx = llc_ctx_of(llc);

	return lctx ? lctx->numa_node : NUMA_NO_NODE;
}

/* Each queue in the memory of those who use it. */
__noinline int create_queues(void)
{
	s32 cpu, llc, err;

	bpf_for (llc, 0, nr_llcs) {
		err = scx_bpf_create_dsq(fair_dsq(llc), numa_node_of(llc));
		if (!err)
			err = scx_bpf_create_dsq(idle_dsq(llc), numa_node_of(llc));
		if (err)
			return err;
	}
	bpf_for (cpu, 0, nr_cpus) {
		struct cpu_ctx *cctx = cpu_ctx_of(cpu);
		s32 node = cctx ? numa_node_of(cctx->llc) : NUMA_NO_NODE;

		err = scx_bpf_create_dsq(fresh_dsq(cpu), node);
		if (!err)
			err = scx_bpf_create_dsq(near_dsq(cpu), node);
		if (!err)
			err = scx_bpf_create_dsq(idle_pinned_dsq(cpu), node);
		if (err)
			return err;
	}
	return 0;
}

/* Key of the first task in a DSQ; POLICY_NO_KEY when it is empty. Lock-free: the head may be gone a moment later. */
__noinline u64 head_key(u64 dsq)
{
	struct task_struct *p = __COMPAT_scx_bpf_dsq_peek(dsq);

	return p ? p->scx.dsq_vtime : POLICY_NO_KEY;
}

/* policy_per_cpu(). */
__noinline u32 per_cpu(u32 nr_waiting, u32 nr_cpus_here)
{
	return policy_per_cpu(nr_waiting, nr_cpus_here);
}

/*
 * Move the task with the earliest deadline of two lanes, an LLC's and this CPU's own, to the CPU's local DSQ. From ops.dispatch of that CPU only. Return true if there was one.
 */
__noinline int take_earlier(u64 shared, u64 own, u32 own_waits)
{
	if (own_waits) {
		/* The key of an empty lane is no late one, as keys wrap: what is not there is not moved. */
		if (policy_shared_first(head_key(shared), head_key(own)) && scx_bpf_dsq_move_to_local(shared, 0))
			return true;
		if (scx_bpf_dsq_move_to_local(own, 0))
			return true;
	}
	return scx_bpf_dsq_move_to_local(shared, 0);
}

/* i, which is below 2 * n, on a ring of n. */
static inline u32 on_ring(u32 i, u32 n)
{
	return i >= n ? i - n : i;
}

/*
 * What waits is counted, in fresh and near lanes per CPU and per LLC, in fair lanes per LLC: so a look into a lane that is empty
 * costs a load, and a CPU that runs dry need not ask every other one. A task is counted from before it is queued until it
 * runs, blocks, or is queued anew. What takes it out of a lane without telling (an exit, a change of affinity) ends in one
 * of these, so that the counts cannot drift, and they are never below what waits. For a moment they may be above: that
 * costs a look in vain.
 */
#define COUNTED_QUEUE_SHIFT 28
#define COUNTED_WEIGHT_SHIFT 32
#define COUNTED_PINNED (1ULL << 27) /* it may run nowhere else: nobody comes for it */
#define COUNTED_AT_MASK (COUNTED_PINNED - 1)
#define COUNTED_MOVED (1ULL << 31) /* there by a timer */

/* by: 1, or -1 as it was counted. counted: 1 + LLC or CPU, whether it is pinned, the queue, the weight. */
__noinline int count_queued(u64 counted, s32 by)
{
	u64 weight_q10 = counted >> COUNTED_WEIGHT_SHIFT;
	enum policy_queue queue = (counted >> COUNTED_QUEUE_SHIFT) & 7;
	u32 id = (counted & COUNTED_AT_MASK) - 1;
	struct cpu_ctx *cctx = NULL;
	struct llc_ctx *lctx;

	if (queue != QUEUE_FAIR && queue != QUEUE_IDLE) {
		cctx = cpu_ctx_of(id);
		if (!cctx)
			return 0;
		id = cctx->llc;
	}
	lctx = llc_ctx_of(id);
	if (!lctx)
		return 0;
	if (weight_q10)
		__sync_fetch_and_add(&lctx->weight_waiting_q10, by * (s64)weight_q10);
	if (queue == QUEUE_FRESH) {
		if (cctx)
			__sync_fetch_and_add(&cctx->nr_fresh, by);
		__sync_fetch_and_add(&lctx->nr_fresh, by);
	} else if (queue == QUEUE_NEAR) {
		if (cctx && !(counted & COUNTED_PINNED)) {
			__sync_fetch_and_add(&cctx->nr_near, by);
			__sync_fetch_and_add(&lctx->nr_near, by);
		}
	} else if (queue == QUEUE_FAIR) {
		__sync_fetch_and_add(&lctx->nr_fair, by);
	} else if (queue == QUEUE_IDLE) {
		__sync_fetch_and_add(&lctx->nr_idle, by);
	}
	return 0;
}

/* Weight that a task has in the sums of its LLC: none where it is idle, for then it is as if it were not there. Never 0 otherwise. */
static inline u32 counted_weight_q10(const struct task_ctx *tctx)
{
	return tctx->idle ? 0 : (tctx->weight_q20 >> 10 ?: 1);
}

static inline u64 counted_as(const struct task_ctx *tctx, enum policy_queue queue, u32 at, bool pinned)
{
	return (u64)counted_weight_q10(tctx) << COUNTED_WEIGHT_SHIFT | (u64)queue << COUNTED_QUEUE_SHIFT |
	       (pinned ? COUNTED_PINNED : 0) | (at + 1);
}

/* The task is about to be put into a queue, of CPU or LLC `at`. Under its rq lock. */
static void count(struct task_ctx *tctx, enum policy_queue queue, u32 at, bool pinned)
{
	u64 counted = counted_as(tctx, queue, at, pinned);

	WRITE_ONCE(tctx->counted, counted);
	count_queued(counted, 1);
}

/* The task waits nowhere any more. Under its rq lock. */
static void uncount(struct task_ctx *tctx)
{
	u64 counted;

	if (!READ_ONCE(tctx->counted))
		return;
	counted = __sync_lock_test_and_set(&tctx->counted, 0);
	if (counted)
		count_queued(counted, -1);
}

/* Whether somebody waits in a CPU's near lane; and in a fair lane that it serves. */
static inline bool near_waits(struct cpu_ctx *cctx)
{
	return READ_ONCE(cctx->nr_near) || READ_ONCE(cctx->maybe_pinned) & (1 << QUEUE_NEAR);
}

static inline bool waits_by_clock(struct cpu_ctx *cctx, struct llc_ctx *lctx)
{
	return READ_ONCE(lctx->nr_fair) || near_waits(cctx);
}

/* Somebody who may run nowhere else may wait in one of cctx's lanes. */
static void hint_pinned(struct cpu_ctx *cctx, enum policy_queue queue)
{
	if (!(READ_ONCE(cctx->maybe_pinned) & (1 << queue)))
		__sync_fetch_and_or(&cctx->maybe_pinned, 1 << queue);
}

/*
 * Take a task that waits in the lane of this kind, fresh or near, of one of nr CPUs of an LLC, in the order of its ring from
 * `other` on. From ops.dispatch only. Return true if there was one that may run here.
 */
__noinline int take_neighbours(u32 other, u32 nr, u32 queue)
{
	u32 i;

	bpf_for (i, 0, nr) {
		struct cpu_ctx *octx = cpu_ctx_of(other);
		u32 nr_waiting;

		if (!octx)
			break;
		nr_waiting = queue == QUEUE_FRESH ? READ_ONCE(octx->nr_fresh) : READ_ONCE(octx->nr_near);
		if (nr_waiting && scx_bpf_dsq_move_to_local(queue_dsq(queue, other), 0)) {
			COUNT(neighbour_steals);
			return true;
		}
		other = octx->next_in_llc;
	}
	return false;
}

/*
 * Take a fresh wake-up: one of cpu's own lane, where nr_own wait, or its neighbour's, before it turns to its fair lane; its
 * neighbour's first where that has waited for longer. From ops.dispatch of cpu only.
 */
static bool take_fresh(s32 cpu, struct cpu_ctx *cctx, struct llc_ctx *lctx, u32 nr_own, u64 now_ns)
{
	u32 next = cctx->next_in_llc;
	bool others = READ_ONCE(lctx->nr_fresh) > nr_own && lctx->nr_cpus > POLICY_FRESH_NEIGHBOURS;

	/* To look at heads is expensive: as often as it matters. */
	if (nr_own && others && now_ns - cctx->compared_ns >= POLICY_TICK_NS / 4) {
		cctx->compared_ns = now_ns;
		if (policy_neighbour_first(head_key(fresh_dsq(cpu)), head_key(fresh_dsq(next))) &&
		    take_neighbours(next, POLICY_FRESH_NEIGHBOURS, QUEUE_FRESH))
			return true;
	}
	return (nr_own && scx_bpf_dsq_move_to_local(fresh_dsq(cpu), 0)) ||
	       (others && take_neighbours(next, POLICY_FRESH_NEIGHBOURS, QUEUE_FRESH));
}

/* Take a fresh wake-up of any CPU of the LLC, before cpu goes idle; or from a near lane. From ops.dispatch of cpu only. */
static bool take_llcs_fresh(struct cpu_ctx *cctx, struct llc_ctx *lctx)
{
	return READ_ONCE(lctx->nr_fresh) && take_neighbours(cctx->next_in_llc, lctx->nr_cpus - 1, QUEUE_FRESH);
}

static bool take_llcs_near(struct cpu_ctx *cctx, struct llc_ctx *lctx)
{
	return READ_ONCE(lctx->nr_near) && take_neighbours(cctx->next_in_llc, lctx->nr_cpus - 1, QUEUE_NEAR);
}

/* Take a task from the fair lane of an LLC, or from a near one of its CPUs. From ops.dispatch only. */
static bool take_fair_of(u32 llc, struct llc_ctx *lctx)
{
	return (READ_ONCE(lctx->nr_fair) && scx_bpf_dsq_move_to_local(fair_dsq(llc), 0)) ||
	       (READ_ONCE(lctx->nr_near) && take_neighbours(lctx->first_cpu, lctx->nr_cpus, QUEUE_NEAR));
}

/*
 * Take a task from an LLC: from the fresh lanes of its CPUs, then from its fair lane and their near ones. From ops.dispatch
 * only.
 */
static bool steal_from_llc(u32 victim, struct llc_ctx *vctx)
{
	if ((READ_ONCE(vctx->nr_fresh) && take_neighbours(vctx->first_cpu, vctx->nr_cpus, QUEUE_FRESH)) ||
	    take_fair_of(victim, vctx)) {
		COUNT(llc_steals);
		return true;
	}
	return false;
}

/*
 * Take a task from another LLC, of the same NUMA node where one is there. From ops.dispatch of a CPU of llc only.
 */
__noinline int steal_from_llcs(u32 llc, u32 node)
{
	u32 far, i;

	bpf_for (far, 0, nr_nodes > 1 ? 2 : 1) {
		bpf_for (i, 1, nr_llcs) {
			u32 victim = on_ring(llc + i, nr_llcs);
			struct llc_ctx *vctx = llc_ctx_of(victim);

			if (!vctx)
				return false;
			if ((vctx->node != node) == far && steal_from_llc(victim, vctx))
				return true;
		}
	}
	return false;
}

/* Take an idle task from another LLC. From ops.dispatch of a CPU of llc only. */
__noinline int steal_idle(u32 llc)
{
	u32 i;

	bpf_for (i, 1, nr_llcs) {
		u32 victim = on_ring(llc + i, nr_llcs);
		struct llc_ctx *vctx = llc_ctx_of(victim);

		if (!vctx)
			return false;
		if (READ_ONCE(vctx->nr_idle) && scx_bpf_dsq_move_to_local(idle_dsq(victim), 0)) {
			COUNT(llc_steals);
			return true;
		}
	}
	return false;
}

/* key, but not later than the clock of an LLC, for whose CPUs nr_waiting wait each, reaches within POLICY_REACH_NS. */
__noinline u64 reach_key(struct llc_ctx *lctx, u64 key, u32 nr_waiting, u64 now_ns)
{
	struct clock_pace pace;
	u64 vclock;

	if (!lctx)
		return key;
	vclock = lctx->vclock;
	pace = (struct clock_pace){
		.seen = READ_ONCE(lctx->clock_seen),
		.seen_ns = READ_ONCE(lctx->clock_seen_ns),
		.reach = READ_ONCE(lctx->clock_reach),
	};
	/* Whoever races here stores much the same. */
	if (policy_look_at_clock(&pace, vclock, now_ns)) {
		WRITE_ONCE(lctx->clock_seen, pace.seen);
		WRITE_ONCE(lctx->clock_seen_ns, pace.seen_ns);
		WRITE_ONCE(lctx->clock_reach, pace.reach);
	}
	return policy_measured_reach(key, vclock, nr_waiting, pace.reach);
}

/* The clock of those that compete with tctx in an LLC: idle ones have their own. */
static inline u64 *clock_for(struct llc_ctx *lctx, bool idle)
{
	return idle ? &lctx->idle_vclock : &lctx->vclock;
}

/* How far ahead of the clock a task may be that is carried on, and until it has paid for that. */
static inline u64 carried_max(const struct task_ctx *tctx)
{
	return policy_virtual_ns(POLICY_CARRIES_MAX_NS, tctx->inv_weight_q16);
}

/*
 * Put tctx's virtual time on llc's clock, that of `to`, keeping how far ahead or behind the task is, and bound that by the
 * lag. Return that bound, in its virtual time.
 */
static u64 join_llc(struct task_struct *p, struct task_ctx *tctx, u32 llc, struct llc_ctx *to)
{
	u32 on_clock = 2 * llc + tctx->idle;
	u64 vlag, vclock = *clock_for(to, tctx->idle);
	bool woken;

	if (tctx->on_clock != on_clock) {
		struct llc_ctx *from = llc_ctx_of(tctx->on_clock / 2);

		tctx->vruntime += vclock - (from ? *clock_for(from, tctx->on_clock & 1) : vclock);
		tctx->on_clock = on_clock;
	}
	vlag = policy_virtual_ns(params.lag_ns, tctx->inv_weight_q16);
	woken = !burst_used_ns(p, tctx);
	if (tctx->owes && woken && policy_vdiff(tctx->vruntime, vclock) < (s64)vlag)
		tctx->owes = false;
	tctx->vruntime =
		policy_bound_vruntime(tctx->vruntime, vclock, vlag, tctx->owes ? carried_max(tctx) : vlag, woken);
	return vlag;
}

/* The slice that tctx gets now on cpu, never 0, used_ns after its wake-up. Counts where it came from. */
__noinline u64 slice_for(struct task_ctx *tctx, u64 used_ns, u32 lane, u32 nr_waiting, s32 cpu)
{
	struct policy_params pp = policy_params();
	u64 left_ns = 0;

	if (!tctx)
		return pp.slice_min_ns;
	if (tctx->steering)
		left_ns = unscaled_ns(cpu, policy_quantile_left_ns(tctx->steer_q16, tctx->steer_margin_q16, used_ns));
	tctx->slice_source = policy_slice_source(&pp, tctx->steering, left_ns, lane);
	tctx->granted_ns = policy_slice_ns(&pp, left_ns, lane, nr_waiting);
	tctx->steered = left_ns && tctx->steering == STEERING_MODEL;
	if (!tctx->slice_ns)
		tctx->slice_ns = tctx->granted_ns;

	if (!left_ns)
		COUNT(slices_base);
	else if (tctx->steered)
		COUNT(slices_predicted);
	else
		COUNT(slices_average);
	if (tctx->slice_source == SLICE_RAISED)
		COUNT(clamped_min);
	else if (tctx->slice_source == SLICE_CUT)
		COUNT(clamped_max);
	return tctx->granted_ns;
}

static u64 grant_slice(struct task_struct *p, struct task_ctx *tctx, u32 lane, u32 nr_waiting)
{
	return slice_for(tctx, tctx ? burst_used_ns(p, tctx) : 0, lane, nr_waiting, scx_bpf_task_cpu(p));
}

/* Virtual deadline in the fair lane, of a task with this virtual run time, used_ns after its wake-up. */
__noinline u64 fair_key_for(struct task_ctx *tctx, u64 vruntime, u64 used_ns)
{
	struct policy_params pp = policy_params();

	if (!tctx)
		return vruntime;
	return policy_fair_key(&pp, vruntime, tctx->inv_weight_q16, used_ns, tctx->sure, tctx->steer_q16,
			       tctx->steer_margin_q16);
}

static u64 fair_key(struct task_struct *p, struct task_ctx *tctx, u64 vruntime)
{
	return fair_key_for(tctx, vruntime, burst_used_ns(p, tctx));
}

/* Virtual deadline of p, which runs. */
static u64 running_key(struct task_struct *p, struct task_ctx *tctx)
{
	u64 used_ns = p->se.sum_exec_runtime - tctx->exec_at_run_ns;

	used_ns += policy_yields_ns(first_quantum_ns(), tctx->yields);
	return fair_key(p, tctx, tctx->vruntime + policy_virtual_ns(used_ns, tctx->inv_weight_q16));
}

/*
 * Move p, on which an iterator of a DSQ stands, to the lane of the fair or idle ones that is its own now, behind `vruntime` and
 * a request. From a timer, without p's rq lock: by now it may be gone from there, or it goes while this looks; what it counts
 * for is exchanged before the move, so that whoever takes it finds it counted, once, and taken back if it does not move. Return
 * whether it was moved.
 */
static bool move_by_clock(struct bpf_iter_scx_dsq *from, struct task_struct *p, struct task_ctx *tctx, u64 vruntime)
{
	s32 cpu = scx_bpf_task_cpu(p);
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct llc_ctx *lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;
	bool pinned = is_pinned(p);
	enum policy_queue queue = policy_queue(LANE_FAIR, pinned, false, tctx->idle);
	u64 key, before, counted;
	u32 at;

	if (!lctx)
		return false;
	at = pinned ? (u32)cpu : cctx->llc;
	counted = counted_as(tctx, queue, at, pinned) | COUNTED_MOVED;
	key = fair_key(p, tctx, vruntime);
	if (!tctx->idle)
		key = reach_key(lctx, key, per_cpu(READ_ONCE(lctx->nr_fair), lctx->nr_cpus), scx_bpf_now());
	before = READ_ONCE(tctx->counted);
	count_queued(counted, 1);
	if (__sync_val_compare_and_swap(&tctx->counted, before, counted) != before) {
		count_queued(counted, -1);
		return false;
	}
	scx_bpf_dsq_move_set_vtime(from, key);
	if (scx_bpf_dsq_move_vtime(from, p, queue_dsq(queue, at), 0)) {
		if (before)
			count_queued(before, -1);
		if (pinned)
			hint_pinned(cctx, queue);
		return true;
	}
	if (__sync_val_compare_and_swap(&tctx->counted, counted, before) == counted)
		count_queued(counted, -1);
	else if (before)
		count_queued(before, -1);
	return false;
}

/*
 * CPUs that are idle, in a cache line of its own: so that claims are not tried where there are none. Never below what the
 * kernel's mask of them has, but for a CPU that went idle while it was not told to us (bypassed, as in suspend); that ends
 * with its next task.
 */
struct resting {
	u64 cpus;
	u64 pad[7];
};
struct resting nr_resting SEC(".bss.resting") __attribute__((aligned(64)));

/* cpu goes idle, or no longer is. Under its rq lock. */
static inline void note_rest(struct cpu_ctx *cctx, u32 rests)
{
	if (cctx->rests == rests)
		return;
	cctx->rests = rests;
	__sync_fetch_and_add(&nr_resting.cpus, rests ? 1 : -1);
}

/* An idle CPU for the first task of a DSQ, claimed, or negative. */
__noinline s32 claim_idle_cpu_for_head(u64 dsq)
{
	struct task_struct *p = READ_ONCE(nr_resting.cpus) ? __COMPAT_scx_bpf_dsq_peek(dsq) : NULL;

	return p ? scx_bpf_pick_idle_cpu(p->cpus_ptr, 0) : -EBUSY;
}

/*
 * An idle CPU for p, claimed, or negative. Legal in ops.select_cpu and ops.enqueue of every kernel with sched_ext.
 * looked: ops.select_cpu has just found none, so that the cheap look is enough.
 */
static s32 claim_idle_cpu(struct task_struct *p, s32 cpu, bool pinned, bool looked)
{
	if (!READ_ONCE(nr_resting.cpus))
		return -EBUSY;
	if (pinned || nr_cpus == 1)
		return scx_bpf_test_and_clear_cpu_idle(cpu) ? cpu : -EBUSY;
	if (!looked && __COMPAT_HAS_scx_bpf_select_cpu_and)
		return scx_bpf_select_cpu_and(p, cpu, 0, p->cpus_ptr, 0);
	return scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
}

#endif /* __SCX_ML_QUEUES_BPF_H */
