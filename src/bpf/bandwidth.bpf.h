/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cpu.max: what a cgroup may use in a period, quota, and what it may save up for later, burst.
 *
 * Problem: as weights, the limits of cgroups are the scheduler's job, or they silently stop.
 * How: a cgroup with a limit has an account. What its tasks use is taken from it, at ticks and when they stop, and from the
 * accounts of all cgroups above that have one. A timer fills it up, a quota each period, as long as there is something to
 * fill. While an account is empty, a task of its cgroup that is to be queued is put aside instead, in a DSQ that no CPU
 * serves; what runs is stopped at the next tick. What was used beyond the quota by then is debt, which the next quotas pay
 * first: so the share comes out exact over some periods. When there is something in the account again, the timer moves those
 * that were put aside into the fair lanes, at the LLC's clock, not before those who waited there.
 * Periods are of the clock of timers, as the kernel's own; a scheduler's clock may have another pace.
 * The kernel ejects a scheduler that lets a task wait for 10 s. One that was put aside for half of that runs until a tick, and
 * debt is bounded, so that a tiny quota for many tasks does not keep all of them waiting for so long.
 * Possible limitations: a period's quota can be overrun by a tick on each CPU. What is in the kernel at that moment, with a
 * lock maybe, is put aside as anything else.
 */
#ifndef __SCX_ML_BANDWIDTH_BPF_H
#define __SCX_ML_BANDWIDTH_BPF_H

#include "queues.bpf.h"

/* More levels with a limit than that are not looked at. */
#define LIMITS_MAX 64
/* Tasks that are moved by one firing of the timer. */
#define RELEASE_MAX 1024
/* How long after a firing that found something to do the timer looks again for those who came too late for it. */
#define RELEASE_AGAIN_NS (1 * SCX_ML_NSEC_PER_MSEC)
/* How often a kernel that does not tell of changes is asked for them, where nothing else would. */
#define LIMIT_POLL_NS (20 * SCX_ML_NSEC_PER_MSEC)
/* How long a task may be put aside, and how often those are looked for who were for longer. */
#define PARKED_MAX_NS (5000 * SCX_ML_NSEC_PER_MSEC)
#define PARKED_LOOK_NS (250 * SCX_ML_NSEC_PER_MSEC)
/* Debt of more than the quotas of so long is forgiven. */
#define DEBT_MAX_NS (2000 * SCX_ML_NSEC_PER_MSEC)

struct limit_timer {
	struct bpf_timer timer;
};

/* One for each cgroup: it cannot be made when the first limit is seen, for that may be under a run queue's lock. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, GROUPS_MAX);
	__type(key, u64);
	__type(value, struct limit_timer);
} limit_timers SEC(".maps");

/* Where tasks of a cgroup are put aside: a FIFO. Ids of cgroups have a generation in their upper half, other DSQs a kind. */
#define DSQ_PARKED (1ULL << 61)

static inline u64 parked_dsq(u64 id)
{
	return DSQ_PARKED | id;
}

static void set_limit_timer(u64 id, u64 in_ns)
{
	struct limit_timer *t = bpf_map_lookup_elem(&limit_timers, &id);

	if (t)
		bpf_timer_start(&t->timer, in_ns, 0);
}

/* Start a group's periods if they do not run. */
static void start_periods(u64 id, struct group_ctx *g)
{
	if (READ_ONCE(g->timer_on) || __sync_lock_test_and_set(&g->timer_on, 1))
		return;
	WRITE_ONCE(g->refill_ns, bpf_ktime_get_ns() + g->period_ns);
	set_limit_timer(id, g->period_ns);
}

/*
 * Take used_ns, which may be 0, from the accounts of a cgroup and of all above. Return the nearest one that has nothing left;
 * 0: there is none. Any context but NMI.
 */
__noinline u64 charge_groups(u64 id, u64 used_ns)
{
	struct group_ctx *g = group_ctx_of(id);
	u64 empty = 0;
	int level;

	if (!g)
		return 0;
	id = READ_ONCE(g->limit_id);
	bpf_for (level, 0, LIMITS_MAX) {
		s64 left_ns;

		g = group_ctx_of(id);
		if (!g)
			break;
		if (READ_ONCE(g->quota_ns)) {
			if (used_ns) {
				left_ns = (s64)__sync_fetch_and_add(&g->runtime_ns, -used_ns) - (s64)used_ns;
				start_periods(id, g);
			} else {
				left_ns = READ_ONCE(g->runtime_ns);
			}
			if (left_ns <= 0) {
				if (!empty)
					empty = id;
				if (!READ_ONCE(g->throttled_at_ns) &&
				    !__sync_val_compare_and_swap(&g->throttled_at_ns, 0, bpf_ktime_get_ns())) {
					__sync_fetch_and_add(&g->nr_throttled, 1);
					COUNT(throttles);
					group_follow(id);
				}
			}
		}
		id = READ_ONCE(g->next_limit_id);
	}
	return empty;
}

/* Have p's groups pay for what it has used since they last did. Return the nearest one that has nothing left, or 0. */
static u64 charge_task(struct task_struct *p, struct task_ctx *tctx)
{
	u64 exec_ns = p->se.sum_exec_runtime, used_ns = exec_ns - tctx->charged_exec_ns;

	tctx->charged_exec_ns = exec_ns;
	return charge_groups(tctx->cgroup_id, used_ns);
}

/* Who exits lets go of what others wait for, and kernel threads work for all. */
static inline bool may_be_parked(const struct task_struct *p)
{
	return !(p->flags & (PF_EXITING | PF_KTHREAD));
}

/* The group because of which p must not run now, or 0. p does not run. */
static inline u64 parks_at(struct task_struct *p, struct task_ctx *tctx)
{
	if (!tctx->limited || tctx->pass || !may_be_parked(p))
		return 0;
	return charge_groups(tctx->cgroup_id, 0);
}

/* ops.select_cpu: whether p, which wakes, is to be put aside instead. */
static inline bool bandwidth_select_cpu(struct task_struct *p, struct task_ctx *tctx)
{
	return tctx && tctx->limited && parks_at(p, tctx);
}

/* ops.enqueue: put p aside if a group of its has used up its cpu.max. Return whether it was. Under p's rq lock. */
static bool bandwidth_enqueue(struct task_struct *p, struct task_ctx *tctx, u64 enq_flags)
{
	u64 id;

	tctx->may_park = tctx->limited;
	if (!tctx->limited)
		return false;
	id = parks_at(p, tctx);
	if (!id)
		return false;
	COUNT(parked);
	tctx->lane = LANE_FAIR;
	tctx->deadline_after_ns = 0;
	scx_bpf_dsq_insert(p, parked_dsq(id), grant_slice(p, tctx, LANE_FAIR, 0), enq_flags);
	return true;
}

/*
 * ops.running: who was queued before its group had used up everything makes room again at once. Not outside of our own
 * queues: where the kernel bypasses us, everybody is to run.
 */
static void bandwidth_running(struct task_struct *p, struct task_ctx *tctx, s32 cpu)
{
	if (!tctx->may_park)
		return;
	tctx->may_park = 0;
	if (parks_at(p, tctx))
		scx_bpf_kick_cpu(cpu, SCX_KICK_PREEMPT);
}

/* ops.stopping. */
static void bandwidth_stopping(struct task_struct *p, struct task_ctx *tctx)
{
	if (!tctx->limited)
		return;
	charge_task(p, tctx);
	tctx->pass = 0;
}

/* ops.tick, and ops.dispatch for what ran: whether p must not go on. */
static bool bandwidth_ends(struct task_struct *p, struct task_ctx *tctx)
{
	return tctx && tctx->limited && charge_task(p, tctx) && may_be_parked(p);
}

/* ops.tick: what changes above p, which may run for long, reaches it now. Return whether it must not go on. */
static bool group_tick(struct task_struct *p, struct task_ctx *tctx, u64 now_ns)
{
	if (!tctx->cgroup_id)
		return false;
	update_weight(p, tctx, now_ns);
	return bandwidth_ends(p, tctx);
}

/* Move p, which was put aside, into a fair lane, and tell an idle CPU. Without locks: p may be gone from there by now. */
static void release_task(struct bpf_iter_scx_dsq *parked, struct task_struct *p, struct task_ctx *tctx)
{
	s32 cpu = scx_bpf_task_cpu(p), idle_cpu;
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct llc_ctx *lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;
	u64 vclock, vruntime;
	bool on_clock;

	if (!lctx)
		return;
	/* What it missed meanwhile is its group's loss, and no credit. */
	vclock = *clock_for(lctx, tctx->idle);
	vruntime = tctx->vruntime;
	on_clock = tctx->on_clock == 2 * cctx->llc + tctx->idle;
	if (!on_clock || policy_vdiff(vruntime, vclock) < 0)
		vruntime = vclock;
	if (on_clock)
		tctx->vruntime = vruntime;
	if (!move_by_clock(parked, p, tctx, vruntime))
		return;
	idle_cpu = claim_idle_cpu(p, cpu, is_pinned(p), true);
	if (idle_cpu >= 0)
		scx_bpf_kick_cpu(idle_cpu, SCX_KICK_IDLE);
}

/*
 * Let those go that were put aside because of group id; if it has nothing left, only those who have waited for very long.
 * Return whether there was anybody. From a timer.
 */
static bool release_parked(u64 id, bool throttled, u64 now_ns)
{
	struct bpf_iter_scx_dsq parked;
	u32 i;

	if (scx_bpf_dsq_nr_queued(parked_dsq(id)) <= 0)
		return false;
	bpf_rcu_read_lock();
	bpf_iter_scx_dsq_new(&parked, parked_dsq(id), 0);
	bpf_for (i, 0, RELEASE_MAX) {
		struct task_struct *p = bpf_iter_scx_dsq_next(&parked);
		struct task_ctx *tctx = p ? task_ctx_of(p) : NULL;
		u64 other;

		if (!tctx)
			break;
		other = charge_groups(tctx->cgroup_id, 0);
		if (other) {
			if (saturating_sub(now_ns, READ_ONCE(tctx->queued_ns)) > PARKED_MAX_NS) {
				tctx->pass = 1;
				COUNT(parked_long);
			} else if (throttled) {
				/* Not all have come in the order in which they began to wait. */
				continue;
			} else if (other != id) {
				scx_bpf_dsq_move(&parked, p, parked_dsq(other), 0);
				continue;
			} else {
				break;
			}
		}
		release_task(&parked, p, tctx);
	}
	bpf_iter_scx_dsq_destroy(&parked);
	bpf_rcu_read_unlock();
	return true;
}

/* A quota for each of the periods that have ended. Divides. */
static void refill(struct group_ctx *g, u64 now_ns)
{
	u64 quota_ns = g->quota_ns, period_ns = g->period_ns ?: 1, periods;
	s64 left_ns = READ_ONCE(g->runtime_ns), debt_max_ns, max_ns = quota_ns + g->burst_ns;

	periods = 1 + (now_ns - g->refill_ns) / period_ns;
	WRITE_ONCE(g->refill_ns, g->refill_ns + periods * period_ns);
	if (periods > 1000)
		periods = 1000;
	debt_max_ns = (1 + DEBT_MAX_NS / period_ns) * quota_ns;
	if (left_ns < -debt_max_ns)
		__sync_fetch_and_add(&g->runtime_ns, -debt_max_ns - left_ns);
	left_ns = (s64)__sync_fetch_and_add(&g->runtime_ns, periods * quota_ns) + (s64)(periods * quota_ns);
	if (left_ns > max_ns)
		__sync_fetch_and_add(&g->runtime_ns, max_ns - left_ns);
}

/* A period of group *key may have ended. Runs in a softirq of the CPU that set the timer; `current` is anything. */
static int period_ended(void *map, u64 *key, struct limit_timer *t)
{
	u64 id = *key, now_ns = bpf_ktime_get_ns(), next_ns, since_ns;
	struct group_ctx *g = group_ctx_of(id);
	bool throttled, was_throttled;

	if (!g)
		return 0;
	if (group_read(g))
		group_follow(id);
	if (g->quota_ns && policy_vdiff(now_ns, g->refill_ns) >= 0)
		refill(g, now_ns);
	throttled = g->quota_ns && READ_ONCE(g->runtime_ns) <= 0;
	was_throttled = READ_ONCE(g->throttled_at_ns);
	if (!throttled && was_throttled) {
		since_ns = __sync_lock_test_and_set(&g->throttled_at_ns, 0);
		group_follow(id);
		if (since_ns && policy_vdiff(now_ns, since_ns) > 0) {
			struct counters *c = counters_here();

			__sync_fetch_and_add(&g->throttled_ns, now_ns - since_ns);
			if (c)
				c->throttled_ns += now_ns - since_ns;
		}
	}
	if (!throttled || now_ns - g->parked_look_ns >= PARKED_LOOK_NS) {
		g->parked_look_ns = now_ns;
		was_throttled |= release_parked(id, throttled, scx_bpf_now());
	}

	if (!was_throttled && READ_ONCE(g->runtime_ns) >= (s64)(g->quota_ns + g->burst_ns)) {
		/* Nothing to fill up and nobody to let go. Who charges it from here on starts it again. */
		__sync_lock_test_and_set(&g->timer_on, 0);
		if (READ_ONCE(g->runtime_ns) >= (s64)(g->quota_ns + g->burst_ns) ||
		    __sync_lock_test_and_set(&g->timer_on, 1))
			return 0;
	}
	next_ns = policy_vdiff(g->refill_ns, now_ns) > 0 ? g->refill_ns - now_ns : RELEASE_AGAIN_NS;
	if (!throttled && was_throttled && next_ns > RELEASE_AGAIN_NS)
		next_ns = RELEASE_AGAIN_NS;
	if (throttled && next_ns > LIMIT_POLL_NS)
		next_ns = LIMIT_POLL_NS;
	bpf_timer_start(&t->timer, next_ns, 0);
	return 0;
}

/* A group's own DSQ and timer. From ops.cgroup_init only. */
static s32 create_limit(u64 id)
{
	struct limit_timer zero = {}, *t;
	s32 err = scx_bpf_create_dsq(parked_dsq(id), NUMA_NO_NODE);

	if (err)
		return err;
	err = bpf_map_update_elem(&limit_timers, &id, &zero, BPF_ANY);
	t = bpf_map_lookup_elem(&limit_timers, &id);
	if (!err)
		err = t ? bpf_timer_init(&t->timer, &limit_timers, CLOCK_MONOTONIC) : -ENOSPC;
	if (!err && t)
		err = bpf_timer_set_callback(&t->timer, period_ended);
	if (err) {
		bpf_map_delete_elem(&limit_timers, &id);
		scx_bpf_destroy_dsq(parked_dsq(id));
	}
	return err;
}

/* Whatever was put aside because of the group is gone from there: it had no task any more. */
static void destroy_limit(u64 id)
{
	bpf_map_delete_elem(&limit_timers, &id);
	scx_bpf_destroy_dsq(parked_dsq(id));
}

#endif /* __SCX_ML_BANDWIDTH_BPF_H */
