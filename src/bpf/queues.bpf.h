/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Queues: a fresh lane per CPU, a fair lane per LLC, and another fair lane per CPU for what may run nowhere else.
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

/* DSQ ids: what kind in the upper half, LLC or CPU in the lower. */
enum dsq_kind {
	DSQ_FRESH = 1ULL << 32, /* + CPU */
	DSQ_FAIR = 2ULL << 32, /* + LLC */
	DSQ_PINNED = 3ULL << 32, /* + CPU: a fair lane for one CPU only */
};

static inline u64 fresh_dsq(s32 cpu)
{
	return DSQ_FRESH + (u32)cpu;
}

static inline u64 fair_dsq(u32 llc)
{
	return DSQ_FAIR + llc;
}

static inline u64 pinned_dsq(s32 cpu)
{
	return DSQ_PINNED + (u32)cpu;
}

/* The NUMA node of an LLC, as the kernel numbers it. */
static s32 numa_node_of(u32 llc)
{
	struct llc_ctx *lctx = llc_ctx_of(llc);

	return lctx ? lctx->numa_node : NUMA_NO_NODE;
}

/* Each queue in the memory of those who use it. */
static s32 create_queues(void)
{
	s32 cpu, llc, err;

	bpf_for (llc, 0, nr_llcs) {
		err = scx_bpf_create_dsq(fair_dsq(llc), numa_node_of(llc));
		if (err)
			return err;
	}
	bpf_for (cpu, 0, nr_cpus) {
		struct cpu_ctx *cctx = cpu_ctx_of(cpu);
		s32 node = cctx ? numa_node_of(cctx->llc) : NUMA_NO_NODE;

		err = scx_bpf_create_dsq(fresh_dsq(cpu), node);
		if (!err)
			err = scx_bpf_create_dsq(pinned_dsq(cpu), node);
		if (err)
			return err;
	}
	return 0;
}

/* Key of the first task in a DSQ; POLICY_NO_KEY when it is empty. Lock-free: the head may be gone a moment later. */
static u64 head_key(u64 dsq)
{
	struct task_struct *p = __COMPAT_scx_bpf_dsq_peek(dsq);

	return p ? p->scx.dsq_vtime : POLICY_NO_KEY;
}

/*
 * Move the task with the earliest deadline of cpu's fair lanes, its own and its LLC's, to its local DSQ. From
 * ops.dispatch of cpu only. Return true if there was one.
 */
static bool take_fair(s32 cpu, u32 llc, bool pinned_wait)
{
	if (pinned_wait) {
		if (policy_shared_first(head_key(fair_dsq(llc)), head_key(pinned_dsq(cpu))) &&
		    scx_bpf_dsq_move_to_local(fair_dsq(llc), 0))
			return true;
		if (scx_bpf_dsq_move_to_local(pinned_dsq(cpu), 0))
			return true;
	}
	return scx_bpf_dsq_move_to_local(fair_dsq(llc), 0);
}

/* i, which is below 2 * n, on a ring of n. */
static inline u32 on_ring(u32 i, u32 n)
{
	return i >= n ? i - n : i;
}

/*
 * What waits is counted, in fresh lanes per CPU and per LLC, in fair lanes per LLC: so a look into a lane that is empty
 * costs a load, and a CPU that runs dry need not ask every other one. A task is counted from before it is queued until it
 * runs, blocks, or is queued anew. What takes it out of a lane without telling (an exit, a change of affinity) ends in one
 * of these, so that the counts cannot drift, and they are never below what waits. For a moment they may be above: that
 * costs a look in vain.
 */
#define COUNTED_FAIR (1U << 31) /* of counted_at: in the fair lane of an LLC */

static void count_queued(u32 at, s32 by)
{
	u32 id = (at & ~COUNTED_FAIR) - 1;
	struct cpu_ctx *cctx;
	struct llc_ctx *lctx;

	if (at & COUNTED_FAIR) {
		lctx = llc_ctx_of(id);
		if (lctx)
			__sync_fetch_and_add(&lctx->nr_fair, by);
	} else {
		cctx = cpu_ctx_of(id);
		lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;
		if (lctx) {
			__sync_fetch_and_add(&cctx->nr_fresh, by);
			__sync_fetch_and_add(&lctx->nr_fresh, by);
		}
	}
}

/* The task is about to be queued in cpu's fresh lane, or in llc's fair lane. Under its rq lock, as all that count. */
static void count_fresh(struct task_ctx *tctx, s32 cpu)
{
	tctx->counted_at = cpu + 1;
	count_queued(tctx->counted_at, 1);
}

static void count_fair(struct task_ctx *tctx, u32 llc)
{
	tctx->counted_at = COUNTED_FAIR | (llc + 1);
	count_queued(tctx->counted_at, 1);
}

/* The task waits nowhere any more. */
static void uncount(struct task_ctx *tctx)
{
	u32 at = tctx->counted_at;

	if (!at)
		return;
	tctx->counted_at = 0;
	count_queued(at, -1);
}

/*
 * Take a fresh wake-up that waits at one of nr CPUs of an LLC, in the order of its ring from `other` on. From ops.dispatch
 * only. Return true if there was one that may run here.
 */
static bool take_neighbours_fresh(u32 other, u32 nr)
{
	u32 i;

	bpf_for (i, 0, nr) {
		struct cpu_ctx *octx = cpu_ctx_of(other);

		if (!octx)
			break;
		if (READ_ONCE(octx->nr_fresh) && scx_bpf_dsq_move_to_local(fresh_dsq(other), 0)) {
			COUNT(neighbour_steals);
			return true;
		}
		other = octx->next_in_llc;
	}
	return false;
}

/*
 * Take a fresh wake-up: one of cpu's own lane, where nr_own wait, or its neighbour's, before it turns to its fair lane. From
 * ops.dispatch of cpu only.
 */
static bool take_fresh(s32 cpu, struct cpu_ctx *cctx, struct llc_ctx *lctx, u32 nr_own)
{
	return (nr_own && scx_bpf_dsq_move_to_local(fresh_dsq(cpu), 0)) ||
	       (READ_ONCE(lctx->nr_fresh) && lctx->nr_cpus > POLICY_FRESH_NEIGHBOURS &&
		take_neighbours_fresh(cctx->next_in_llc, POLICY_FRESH_NEIGHBOURS));
}

/* Take a fresh wake-up of any CPU of the LLC, before cpu goes idle. From ops.dispatch of cpu only. */
static bool take_llcs_fresh(struct cpu_ctx *cctx, struct llc_ctx *lctx)
{
	return READ_ONCE(lctx->nr_fresh) && take_neighbours_fresh(cctx->next_in_llc, lctx->nr_cpus - 1);
}

/* Take a task from an LLC: from the fresh lanes of its CPUs, then from its fair lane. From ops.dispatch only. */
static bool steal_from_llc(u32 victim, struct llc_ctx *vctx)
{
	if ((READ_ONCE(vctx->nr_fresh) && take_neighbours_fresh(vctx->first_cpu, vctx->nr_cpus)) ||
	    (READ_ONCE(vctx->nr_fair) && scx_bpf_dsq_move_to_local(fair_dsq(victim), 0))) {
		COUNT(llc_steals);
		return true;
	}
	return false;
}

/*
 * Take a task from another LLC, of the same NUMA node where one is there. From ops.dispatch of a CPU of lctx, which is
 * llc, only.
 */
static bool steal_from_llcs(u32 llc, const struct llc_ctx *lctx)
{
	u32 far, i;

	bpf_for (far, 0, nr_nodes > 1 ? 2 : 1) {
		bpf_for (i, 1, nr_llcs) {
			u32 victim = on_ring(llc + i, nr_llcs);
			struct llc_ctx *vctx = llc_ctx_of(victim);

			if (!vctx)
				return false;
			if ((vctx->node != lctx->node) == far && steal_from_llc(victim, vctx))
				return true;
		}
	}
	return false;
}

/* key, but not later than the clock of an LLC, for whose CPUs nr_waiting wait each, reaches within POLICY_REACH_NS. */
static u64 reach_key(struct llc_ctx *lctx, u64 key, u32 nr_waiting, u64 now_ns)
{
	u64 vclock = lctx->vclock;
	struct clock_pace pace = {
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

/*
 * Put tctx's virtual time on llc's clock, that of `to`, keeping how far ahead or behind the task is, and bound that by the
 * lag. Return that bound, in its virtual time.
 */
static u64 join_llc(struct task_struct *p, struct task_ctx *tctx, u32 llc, struct llc_ctx *to)
{
	u64 vlag;

	if (tctx->llc != llc) {
		struct llc_ctx *from = llc_ctx_of(tctx->llc);

		tctx->vruntime += to->vclock - (from ? from->vclock : to->vclock);
		tctx->llc = llc;
	}
	vlag = policy_virtual_ns(params.lag_ns, tctx->inv_weight_q16);
	tctx->vruntime = policy_bound_vruntime(tctx->vruntime, to->vclock, vlag, !burst_used_ns(p, tctx));
	return vlag;
}

/* The slice that p gets now, never 0. Counts where it came from. */
static u64 grant_slice(struct task_struct *p, struct task_ctx *tctx, u32 lane, u32 nr_waiting)
{
	struct policy_params pp = policy_params();
	u64 left_ns = 0;

	if (tctx->steering)
		left_ns = unscaled_ns(
			p, policy_quantile_left_ns(tctx->steer_q16, tctx->steer_margin_q16, burst_used_ns(p, tctx)));
	tctx->slice_source = policy_slice_source(&pp, tctx->steering, left_ns);
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

/* Virtual deadline in the fair lane, of a task with this virtual run time. */
static u64 fair_key(struct task_struct *p, struct task_ctx *tctx, u64 vruntime)
{
	struct policy_params pp = policy_params();

	return policy_fair_key(&pp, vruntime, tctx->inv_weight_q16, burst_used_ns(p, tctx), tctx->sure, tctx->steer_q16,
			       tctx->steer_margin_q16);
}

/* An idle CPU for the first task of a DSQ, claimed, or negative. */
static s32 claim_idle_cpu_for_head(u64 dsq)
{
	struct task_struct *p = __COMPAT_scx_bpf_dsq_peek(dsq);

	return p ? scx_bpf_pick_idle_cpu(p->cpus_ptr, 0) : -EBUSY;
}

/*
 * An idle CPU for p, claimed, or negative. Legal in ops.select_cpu and ops.enqueue of every kernel with sched_ext.
 * looked: ops.select_cpu has just found none, so that the cheap look is enough.
 */
static s32 claim_idle_cpu(struct task_struct *p, s32 cpu, bool pinned, bool looked)
{
	if (pinned || nr_cpus == 1)
		return scx_bpf_test_and_clear_cpu_idle(cpu) ? cpu : -EBUSY;
	if (!looked && __COMPAT_HAS_scx_bpf_select_cpu_and)
		return scx_bpf_select_cpu_and(p, cpu, 0, p->cpus_ptr, 0);
	return scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
}

#endif /* __SCX_ML_QUEUES_BPF_H */
