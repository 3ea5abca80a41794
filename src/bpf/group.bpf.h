/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Weights: nice and cgroup v2 cpu.weight, folded into one effective weight per task.
 *
 * Problem: sched_ext gives a task's weight from its nice value only; the weights of cgroups are the scheduler's job.
 * How: every cgroup knows the sum of the weights of what is runnable directly below it (tasks and child cgroups). A
 * task's effective weight is its own, times the product of weight / sum over its cgroups up to the root, whose
 * children and tasks compete with their plain weights. The product is cached per cgroup for a few milliseconds.
 * Tasks of the root cgroup, and all tasks where the cpu controller is off, cost nothing here.
 * Possible limitations: sums are over the whole machine, not per CPU, so a cgroup whose tasks are pinned to few CPUs
 * is weighed as if it could run anywhere; cpu.max is not enforced.
 */
#ifndef __SCX_ML_GROUP_BPF_H
#define __SCX_ML_GROUP_BPF_H

#include "task.bpf.h"

#define GROUP_DEPTH_MAX 16
#define GROUP_SYNC_TRIES 8
#define GROUP_SHARE_AGE_NS (4 * SCX_ML_NSEC_PER_MSEC)
#define GROUP_SHARE_ONE_Q20 (1ULL << 20)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct group_ctx);
} group_ctxs SEC(".maps");

static inline struct group_ctx *group_ctx_of(u64 id)
{
	return id ? bpf_map_lookup_elem(&group_ctxs, &id) : NULL;
}

/* The accounting id of a cgroup: 0 for the root, which is not accounted. */
static inline u64 group_id(struct cgroup *cgrp)
{
	return cgrp && cgrp->level > 0 ? cgrp->kn->id : 0;
}

/*
 * Have a group add its weight to its parent's sum while it is active, and nothing else. Return what the parent's sum has
 * to change by. Whoever changes the group's sum or weight calls this afterwards; the exchange hands each difference to
 * exactly one of those that race, and the last of them sees the state that stays.
 */
static s64 group_sync(struct group_ctx *g)
{
	s64 change = 0;
	u64 wanted;
	int i;

	bpf_for (i, 0, GROUP_SYNC_TRIES) {
		wanted = READ_ONCE(g->active_sum) ? READ_ONCE(g->weight) : 0;
		change += (s64)(wanted - __sync_lock_test_and_set(&g->added, wanted));
		if (wanted == (READ_ONCE(g->active_sum) ? READ_ONCE(g->weight) : 0))
			break;
	}
	return change;
}

/*
 * Add to or take from a group's active_sum; a group that becomes active or inactive does the same to its parent with
 * its own weight. Sums commute, so racing transitions leave the right result.
 */
static void group_add(u64 id, s64 weight)
{
	int level;

	bpf_for (level, 0, GROUP_DEPTH_MAX) {
		struct group_ctx *g = group_ctx_of(id);
		u64 before;

		if (!g || !weight)
			return;
		before = __sync_fetch_and_add(&g->active_sum, weight);
		if (before && before + weight)
			return;
		weight = group_sync(g);
		id = g->parent_id;
	}
}

/* Effective weight per unit of task weight in group id, Q20. */
static u64 group_share_q20(u64 id, u64 now_ns)
{
	struct group_ctx *leaf = group_ctx_of(id), *g = leaf;
	u64 share_q20 = GROUP_SHARE_ONE_Q20;
	int level;

	if (!leaf)
		return GROUP_SHARE_ONE_Q20;
	if (leaf->share_q20 && now_ns - leaf->share_ns < GROUP_SHARE_AGE_NS)
		return leaf->share_q20;

	bpf_for (level, 0, GROUP_DEPTH_MAX) {
		u64 sum;

		if (!g)
			break;
		sum = READ_ONCE(g->active_sum);
		if (sum)
			share_q20 = share_q20 * g->weight / sum;
		g = group_ctx_of(g->parent_id);
	}
	if (!share_q20)
		share_q20 = 1;
	leaf->share_q20 = share_q20;
	leaf->share_ns = now_ns;
	return share_q20;
}

/* Recompute p's inverse weight: at a wake-up, a change of nice or cgroup, and at each enqueue inside a cgroup. */
static void update_weight(struct task_struct *p, struct task_ctx *tctx, u64 now_ns)
{
	u64 weight_q10 = (u64)p->scx.weight << 10;

	if (tctx->cgroup_id)
		weight_q10 = (p->scx.weight * group_share_q20(tctx->cgroup_id, now_ns)) >> 10;
	/* Mostly it is what it was: that spares the division. */
	if (weight_q10 == tctx->weight_q10)
		return;
	tctx->weight_q10 = weight_q10;
	/* inv = 100 / weight; policy_virtual_ns() limits it */
	tctx->inv_weight_q16 = (100ULL << 26) / (weight_q10 ?: 1);
}

/* p becomes runnable. */
static void group_task_runnable(struct task_struct *p, struct task_ctx *tctx, u64 now_ns)
{
	if (!tctx->cgroup_id)
		return;
	if (!tctx->group_weight) {
		tctx->group_weight = p->scx.weight;
		group_add(tctx->cgroup_id, p->scx.weight);
	}
	update_weight(p, tctx, now_ns);
}

/* p stops being runnable, or leaves its group. */
static void group_task_quiescent(struct task_ctx *tctx)
{
	if (!tctx->group_weight)
		return;
	group_add(tctx->cgroup_id, -(s64)tctx->group_weight);
	tctx->group_weight = 0;
}

/* A cgroup of the cpu controller is new, or existed when the scheduler was loaded. May sleep. */
s32 BPF_STRUCT_OPS_SLEEPABLE(ml_cgroup_init, struct cgroup *cgrp, struct scx_cgroup_init_args *args)
{
	struct group_ctx g = {.weight = args->weight};
	struct cgroup *parent;
	u64 id = group_id(cgrp);

	if (!id)
		return 0;
	parent = bpf_cgroup_ancestor(cgrp, cgrp->level - 1);
	if (parent) {
		g.parent_id = group_id(parent);
		bpf_cgroup_release(parent);
	}
	return bpf_map_update_elem(&group_ctxs, &id, &g, BPF_ANY);
}

/* A cgroup goes away, or the scheduler does. No task is left in it. */
void BPF_STRUCT_OPS(ml_cgroup_exit, struct cgroup *cgrp)
{
	u64 id = group_id(cgrp);
	struct group_ctx *g = group_ctx_of(id);

	if (!g)
		return;
	/* Whatever it is still taken for, its parent must not keep it. */
	group_add(g->parent_id, -(s64)__sync_lock_test_and_set(&g->added, 0));
	bpf_map_delete_elem(&group_ctxs, &id);
}

/* p, which is not running or queued at this moment, moves between cgroups. Runs under its rq lock. */
void BPF_STRUCT_OPS(ml_cgroup_move, struct task_struct *p, struct cgroup *from, struct cgroup *to)
{
	struct task_ctx *tctx = task_ctx_of(p);

	if (!tctx)
		return;
	group_task_quiescent(tctx);
	tctx->cgroup_id = group_id(to);
	update_weight(p, tctx, scx_bpf_now());
}

/* cpu.weight was written. Any CPU, in the writer's context. */
void BPF_STRUCT_OPS(ml_cgroup_set_weight, struct cgroup *cgrp, u32 weight)
{
	struct group_ctx *g = group_ctx_of(group_id(cgrp));

	if (!g)
		return;
	g->weight = weight;
	g->share_ns = 0;
	group_add(g->parent_id, group_sync(g));
}

#endif /* __SCX_ML_GROUP_BPF_H */
