/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Weights: nice and cgroup v2 cpu.weight and cpu.idle, folded into one effective weight per task.
 *
 * Problem: sched_ext gives a task's weight from its nice value only; the weights of cgroups are the scheduler's job.
 * How: every cgroup knows the sum of the weights of what is runnable directly below it (tasks and child cgroups). A
 * task's effective weight is its own, times the product of weight / sum over its cgroups up to the root, whose
 * children and tasks compete with their plain weights. The product is cached per cgroup for a few milliseconds, and with
 * it whatever else is true of a cgroup because of one above it.
 * A cgroup that becomes empty is taken out of its parent's sum a moment later, by a timer: a task that sleeps and wakes all
 * the time, the only one of its cgroup, would otherwise change the sums of all cgroups above each time.
 * What is set of a cgroup is read from the kernel's own task group, for not every kernel tells of all changes.
 * Tasks of the root cgroup, and all tasks where the cpu controller is off, cost nothing here.
 * Possible limitations: sums are over the whole machine, not per CPU, so a cgroup whose tasks are pinned to few CPUs
 * is weighed as if it could run anywhere.
 */
#ifndef __SCX_ML_GROUP_BPF_H
#define __SCX_ML_GROUP_BPF_H

#include "task.bpf.h"

#ifndef SCHED_IDLE
#define SCHED_IDLE 5
#endif

#ifndef RUNTIME_INF
#define RUNTIME_INF (~0ULL)
#endif

#define GROUP_SYNC_TRIES 8
#define GROUP_LOOK_NS (4 * SCX_ML_NSEC_PER_MSEC)
/* How often those that became empty are taken out of sums, and how many may wait for that; more are taken out at once. */
#define GROUP_LINGER_NS (2 * SCX_ML_NSEC_PER_MSEC)
#define GROUPS_LINGERING_MAX 4096

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, GROUPS_MAX);
	__type(key, u64);
	__type(value, struct group_ctx);
} group_ctxs SEC(".maps");

/* Ids of cgroups that have become empty. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, GROUPS_LINGERING_MAX);
	__type(value, u64);
} lingering_groups SEC(".maps");

struct linger_timer {
	struct bpf_timer timer;
	u64 armed;
	u64 sweeps; /* some group has become idle, or no longer is: those who wait are to be looked at */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct linger_timer);
} linger_timers SEC(".maps");

static inline struct group_ctx *group_ctx_of(u64 id)
{
	return id ? bpf_map_lookup_elem(&group_ctxs, &id) : NULL;
}

/* The accounting id of a cgroup: 0 for the root, which is not accounted. */
static inline u64 group_id(struct cgroup *cgrp)
{
	return cgrp && cgrp->level > 0 ? cgrp->kn->id : 0;
}

/* What a group weighs among those beside it. */
static inline u32 group_weight(const struct group_ctx *g)
{
	return READ_ONCE(g->idle) & GROUP_IDLE_ITSELF ? POLICY_WEIGHT_IDLE : READ_ONCE(g->weight);
}

/* What it is to add to its parent's sum: nothing if all that is in it waits for its cpu.max. */
static inline u64 group_wanted(const struct group_ctx *g)
{
	return READ_ONCE(g->active_sum) && !READ_ONCE(g->throttled_at_ns) ? group_weight(g) : 0;
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
		wanted = group_wanted(g);
		change += (s64)(wanted - __sync_lock_test_and_set(&g->added, wanted));
		if (wanted == group_wanted(g))
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
		/* It was empty for a moment only. Whoever takes it out looks at the sum after that. */
		if (!before && READ_ONCE(g->added) == group_weight(g))
			return;
		WRITE_ONCE(g->looked_ns, 0);
		weight = group_sync(g);
		id = g->parent_id;
	}
}

/* A group's weight, its sum, or whether it is idle or throttled has changed: have the sums above it follow. Any context but NMI. */
__noinline int group_follow(u64 id)
{
	struct group_ctx *g = group_ctx_of(id);

	if (g)
		group_add(g->parent_id, group_sync(g));
	return 0;
}

/* Which lanes are swept. */
enum sweeps {
	SWEEP_IDLE = 1 << 0,
	SWEEP_ALL = 1 << 1,
};

/* Give those who wait the place that is theirs now. From a timer; defined in sweep.bpf.h. */
static void sweep_lanes(bool idle_only);

/* Take groups that have become empty out of the sums, and sweep. Runs in a softirq; `current` is anything. */
static int linger_ended(void *map, u32 *key, struct linger_timer *t)
{
	u64 sweeps;
	int i;

	__sync_lock_test_and_set(&t->armed, 0);
	sweeps = READ_ONCE(t->sweeps) ? __sync_lock_test_and_set(&t->sweeps, 0) : 0;
	if (sweeps)
		sweep_lanes(!(sweeps & SWEEP_ALL));
	bpf_for (i, 0, GROUPS_LINGERING_MAX) {
		struct group_ctx *g;
		u64 id;

		if (bpf_map_pop_elem(&lingering_groups, &id))
			break;
		g = group_ctx_of(id);
		if (!g)
			continue;
		/* Whoever empties it from here on enters it anew. */
		__sync_lock_test_and_set(&g->lingers, 0);
		if (!READ_ONCE(g->active_sum))
			group_follow(id);
	}
	return 0;
}

static void arm_linger_timer(struct linger_timer *t)
{
	if (!__sync_lock_test_and_set(&t->armed, 1) && bpf_timer_start(&t->timer, GROUP_LINGER_NS, 0))
		__sync_lock_test_and_set(&t->armed, 0);
}

/*
 * Some group has become idle, or no longer is; or it may no longer be, for who waits in an idle lane does not come to look. Who
 * runs notices at a tick; see to it that those who wait do.
 */
__noinline int sweep_soon(u32 sweeps)
{
	u32 zero = 0;
	struct linger_timer *t = bpf_map_lookup_elem(&linger_timers, &zero);

	if (!t)
		return 0;
	__sync_fetch_and_or(&t->sweeps, sweeps);
	arm_linger_timer(t);
	return 0;
}

/* A group has become empty. It is taken out of its parent's sum if it still is in a moment. */
static void group_linger(u64 id, struct group_ctx *g)
{
	struct linger_timer *t;
	u32 zero = 0;

	if (__sync_lock_test_and_set(&g->lingers, 1))
		return;
	t = bpf_map_lookup_elem(&linger_timers, &zero);
	if (!t || bpf_map_push_elem(&lingering_groups, &id, 0)) {
		__sync_lock_test_and_set(&g->lingers, 0);
		group_follow(id);
		return;
	}
	arm_linger_timer(t);
}

__noinline int create_linger_timer(void)
{
	u32 zero = 0;
	struct linger_timer *t = bpf_map_lookup_elem(&linger_timers, &zero);
	s32 err;

	if (!t)
		return -EINVAL;
	err = bpf_timer_init(&t->timer, &linger_timers, CLOCK_MONOTONIC);
	return err ?: bpf_timer_set_callback(&t->timer, linger_ended);
}

static inline u64 packed_share(struct share share)
{
	return (u64)(u32)share.exponent << 32 | share.mantissa;
}

static inline struct share unpacked_share(u64 packed)
{
	return (struct share){.mantissa = packed, .exponent = packed >> 32};
}

/* A group has another limit, or none: quota_ns 0. It begins with a whole quota, without debt. */
static void group_set_limit(struct group_ctx *g, u64 quota_ns, u64 period_ns, u64 burst_ns)
{
	if (quota_ns == g->quota_ns && period_ns == g->period_ns && burst_ns == g->burst_ns)
		return;
	WRITE_ONCE(g->period_ns, period_ns);
	WRITE_ONCE(g->burst_ns, burst_ns);
	__sync_lock_test_and_set(&g->runtime_ns, quota_ns);
	WRITE_ONCE(g->quota_ns, quota_ns);
}

/* The limit that the kernel has been told of a group. */
static void group_read_limit(struct group_ctx *g, struct task_group *tg)
{
	u64 quota_ns = 0, period_ns = 0, burst_ns = 0;

	if (bpf_core_field_exists(tg->cfs_bandwidth)) {
		quota_ns = BPF_CORE_READ(tg, cfs_bandwidth.quota);
		if (quota_ns && quota_ns != RUNTIME_INF) {
			period_ns = BPF_CORE_READ(tg, cfs_bandwidth.period);
			if (bpf_core_field_exists(tg->cfs_bandwidth.burst))
				burst_ns = BPF_CORE_READ(tg, cfs_bandwidth.burst);
		}
	} else if (bpf_core_field_exists(tg->scx) && bpf_core_field_exists(tg->scx.bw_quota_us)) {
		quota_ns = BPF_CORE_READ(tg, scx.bw_quota_us);
		if (quota_ns != RUNTIME_INF) {
			quota_ns *= SCX_ML_NSEC_PER_USEC;
			period_ns = BPF_CORE_READ(tg, scx.bw_period_us) * SCX_ML_NSEC_PER_USEC;
			burst_ns = BPF_CORE_READ(tg, scx.bw_burst_us) * SCX_ML_NSEC_PER_USEC;
		}
	}
	if (period_ns)
		group_set_limit(g, quota_ns, period_ns, burst_ns);
	else
		group_set_limit(g, 0, 0, 0);
}

/*
 * Look at what the kernel has been told of a group: its limit, its weight, and whether it is idle. Return whether the sums
 * have to follow.
 */
__noinline int group_read(struct group_ctx *g)
{
	struct task_group *tg;
	u32 weight, idle;

	if (!g)
		return false;
	tg = (struct task_group *)READ_ONCE(g->tg);
	weight = g->weight;
	idle = g->idle & ~GROUP_IDLE_ITSELF;
	if (!tg)
		return false;
	group_read_limit(g, tg);
	if (bpf_core_field_exists(tg->shares))
		weight = BPF_CORE_READ(tg, shares) >> GROUP_SHARES_SHIFT;
	if (bpf_core_field_exists(tg->idle) && BPF_CORE_READ(tg, idle) > 0)
		idle |= GROUP_IDLE_ITSELF;
	if (!weight || (weight == g->weight && idle == g->idle))
		return false;
	WRITE_ONCE(g->weight, weight);
	if (idle != g->idle)
		sweep_soon(SWEEP_ALL);
	WRITE_ONCE(g->idle, idle);
	return true;
}

/* A group has a limit, and `below` is the last one below it that has. */
static void group_note_limit(struct group_ctx *leaf, u64 below, u64 id)
{
	struct group_ctx *g = group_ctx_of(below);

	if (g)
		WRITE_ONCE(g->next_limit_id, id);
	else
		WRITE_ONCE(leaf->limit_id, id);
}

/* policy_share_below(), packed. A function of its own to the verifier, which would follow its branches at each level of a walk. */
__noinline u64 share_below(u64 packed, u32 weight, u64 sum)
{
	return packed_share(policy_share_below(unpacked_share(packed), weight, sum));
}

/*
 * Look at a group and at all above it: what a unit of weight is worth inside, whether anything there is idle, and which of
 * them have limits. Any context but NMI.
 */
__noinline int group_look(u64 id, u64 now_ns)
{
	struct group_ctx *leaf = group_ctx_of(id), *g = leaf;
	u64 share = packed_share(policy_share_one()), limit = 0;
	struct task_group *tg;
	u32 idle = 0;
	int level;

	if (!leaf)
		return 0;
	tg = (struct task_group *)leaf->tg;
	bpf_for (level, 0, GROUP_DEPTH_MAX) {
		u64 sum;

		if (!g)
			break;
		if (!g->tg)
			g->tg = (u64)tg;
		if (group_read(g))
			group_follow(id);
		sum = READ_ONCE(g->active_sum);
		if (sum)
			share = share_below(share, group_weight(g), sum);
		/* All ways through that come to the same here, or the verifier would follow each of them to the end. */
		share |= not_known;
		/* Among its peers it is light in any case; of all, only if it is so at the top. */
		idle = g->idle & GROUP_IDLE_ITSELF;
		if (READ_ONCE(g->quota_ns)) {
			group_note_limit(leaf, limit, id);
			limit = id;
		}
		id = g->parent_id;
		g = group_ctx_of(id);
		tg = tg ? BPF_CORE_READ(tg, parent) : NULL;
	}
	group_note_limit(leaf, limit, 0);
	leaf->share = share;
	leaf->looked_ns = now_ns;
	WRITE_ONCE(leaf->idle, (leaf->idle & GROUP_IDLE_ITSELF) | (idle ? GROUP_IDLE : 0));
	return 0;
}

static inline u32 task_weight(const struct task_struct *p)
{
	return policy_nice_weight(p->static_prio, p->policy == SCHED_IDLE);
}

/*
 * Recompute the effective weight of a task with this weight of its own and this se.sum_exec_runtime; what is kept of its group is
 * no older than a few milliseconds then. A function of its own to the verifier, for six operations call it. Return whether
 * the kernel's task_group is to be noted: group_know().
 */
__noinline int weigh(struct task_ctx *tctx, u32 weight, u64 exec_ns, u64 now_ns)
{
	u32 weight_q20 = weight << 10;
	u8 idle = weight == POLICY_WEIGHT_IDLE, limited = 0;
	bool unknown = false;
	struct group_ctx *g;

	if (!tctx)
		return false;
	g = group_ctx_of(tctx->cgroup_id);
	if (g) {
		if (!g->share || now_ns - g->looked_ns >= GROUP_LOOK_NS)
			group_look(tctx->cgroup_id, now_ns);
		unknown = !g->tg;
		weight_q20 = policy_share_weight_q20(unpacked_share(g->share), weight);
		idle |= (g->idle & GROUP_IDLE) != 0;
		limited = READ_ONCE(g->limit_id) != 0;
	}
	/* What it used before is not the limit's. */
	if (limited && !tctx->limited)
		tctx->charged_exec_ns = exec_ns;
	tctx->limited = limited;
	tctx->idle = idle;
	/* Mostly it is what it was: that spares the division. */
	if (weight_q20 == tctx->weight_q20)
		return unknown;
	tctx->weight_q20 = weight_q20;
	tctx->inv_weight_q16 = policy_inv_weight_q16(weight_q20);
	return unknown;
}

/* Note the kernel's task_group of p's cgroup, and look at it. */
static bool group_know(struct task_struct *p, u64 cgroup_id)
{
	struct group_ctx *g = group_ctx_of(cgroup_id);

	/* p may be moving. */
	if (!g || p->sched_task_group->css.cgroup->kn->id != cgroup_id)
		return false;
	g->tg = (u64)p->sched_task_group;
	WRITE_ONCE(g->looked_ns, 0);
	return true;
}

/* Recompute p's weight: at a wake-up, a change of nice or cgroup, and inside a cgroup at each enqueue and tick. */
static void update_weight(struct task_struct *p, struct task_ctx *tctx, u64 now_ns)
{
	u32 weight = task_weight(p);

	if (weigh(tctx, weight, p->se.sum_exec_runtime, now_ns) && group_know(p, tctx->cgroup_id))
		weigh(tctx, weight, p->se.sum_exec_runtime, now_ns);
}

/* p becomes runnable. */
static void group_task_runnable(struct task_struct *p, struct task_ctx *tctx, u64 now_ns)
{
	if (!tctx->cgroup_id)
		return;
	if (!tctx->group_weight) {
		tctx->group_weight = task_weight(p);
		group_add(tctx->cgroup_id, tctx->group_weight);
	}
	update_weight(p, tctx, now_ns);
}

/* p stops being runnable, or leaves its group. */
static void group_task_quiescent(struct task_ctx *tctx)
{
	struct group_ctx *g;
	u32 weight = tctx->group_weight;

	if (!weight)
		return;
	tctx->group_weight = 0;
	g = group_ctx_of(tctx->cgroup_id);
	if (g && __sync_fetch_and_add(&g->active_sum, -(s64)weight) == weight)
		group_linger(tctx->cgroup_id, g);
}

#endif /* __SCX_ML_GROUP_BPF_H */
