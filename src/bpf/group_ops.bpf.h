/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The operations of cgroups: made, removed, entered and left, and set: see group.bpf.h and bandwidth.bpf.h.
 */
#ifndef __SCX_ML_GROUP_OPS_BPF_H
#define __SCX_ML_GROUP_OPS_BPF_H

#include "bandwidth.bpf.h"
#include "sweep.bpf.h"

/* A cgroup of the cpu controller is new, or existed when the scheduler was loaded. May sleep. */
s32 BPF_STRUCT_OPS_SLEEPABLE(ml_cgroup_init, struct cgroup *cgrp, struct scx_cgroup_init_args *args)
{
	struct group_ctx g = {.weight = policy_cgroup_weight(args->weight)};
	struct cgroup *parent;
	u64 id = group_id(cgrp);

	if (!id)
		return 0;
	if (cgrp->level > GROUP_DEPTH_MAX)
		goto refused;
	parent = bpf_cgroup_ancestor(cgrp, cgrp->level - 1);
	if (parent) {
		g.parent_id = group_id(parent);
		bpf_cgroup_release(parent);
	}
	if (create_limit(id))
		goto refused;
	if (!bpf_map_update_elem(&group_ctxs, &id, &g, BPF_ANY))
		return 0;
	destroy_limit(id);
refused:
	/* mkdir fails, and the log tells why. */
	COUNT(groups_refused);
	return -ENOSPC;
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
	destroy_limit(id);
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
	u64 id = group_id(cgrp);
	struct group_ctx *g = group_ctx_of(id);

	if (!g)
		return;
	WRITE_ONCE(g->weight, policy_cgroup_weight(weight));
	WRITE_ONCE(g->looked_ns, 0);
	group_follow(id);
}

/* cpu.max or cpu.max.burst was written. Linux 6.17 and later. Any CPU, in the writer's context. */
void BPF_STRUCT_OPS(ml_cgroup_set_bandwidth, struct cgroup *cgrp, u64 period_us, u64 quota_us, u64 burst_us)
{
	u64 id = group_id(cgrp);
	struct group_ctx *g = group_ctx_of(id);

	if (!g)
		return;
	if (quota_us == RUNTIME_INF || !period_us)
		group_set_limit(g, 0, 0, 0);
	else
		group_set_limit(g, quota_us * SCX_ML_NSEC_PER_USEC, period_us * SCX_ML_NSEC_PER_USEC,
				burst_us * SCX_ML_NSEC_PER_USEC);
	WRITE_ONCE(g->looked_ns, 0);
	if (READ_ONCE(g->timer_on))
		set_limit_timer(id, 0);
}

/* cpu.idle was written. Linux 6.19 and later. Any CPU, in the writer's context. */
void BPF_STRUCT_OPS(ml_cgroup_set_idle, struct cgroup *cgrp, bool idle)
{
	u64 id = group_id(cgrp);
	struct group_ctx *g = group_ctx_of(id);

	if (!g)
		return;
	if (idle)
		__sync_fetch_and_or(&g->idle, GROUP_IDLE_ITSELF);
	else
		__sync_fetch_and_and(&g->idle, ~GROUP_IDLE_ITSELF);
	WRITE_ONCE(g->looked_ns, 0);
	group_follow(id);
	sweep_soon(SWEEP_ALL);
}

#endif /* __SCX_ML_GROUP_OPS_BPF_H */
