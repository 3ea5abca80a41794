/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Serving: what a CPU runs next that has nothing in its local DSQ. The steps and their order are decide.h's.
 */
#ifndef __SCX_ML_SERVE_BPF_H
#define __SCX_ML_SERVE_BPF_H

#include "carry.bpf.h"
#include "group_ops.bpf.h"
#include "pace.bpf.h"
#include "relief.bpf.h"

/* Renew the slice of prev, which goes on because nothing more urgent waits. */
static void keep_running(struct task_struct *prev, struct task_ctx *tctx, u32 nr_waiting)
{
	COUNT(kept_running);
	if (tctx) {
		tctx->lane = LANE_FAIR;
		tctx->yielded = false;
	}
	scx_bpf_task_set_slice(prev, tctx ? grant_slice(prev, tctx, LANE_FAIR, nr_waiting) : params.slice_min_ns);
}

/* Whether prev, whose slice ended, has an earlier virtual deadline than what waits in two lanes, an LLC's and a CPU's. */
static bool prev_is_next(struct task_struct *prev, struct task_ctx *tctx, u64 shared, u64 pinned, bool near_wait)
{
	return policy_goes_on(running_key(prev, tctx), head_key(shared), near_wait ? head_key(pinned) : POLICY_NO_KEY);
}

/* What ops.dispatch knows of the CPU that looks for a task. */
struct dispatch {
	s32 cpu;
	u32 llc;
	struct cpu_ctx *cctx;
	struct llc_ctx *lctx;
	struct task_struct *prev;
	struct task_ctx *prev_ctx; /* if prev could go on */
	u64 now_ns;
	u32 nr_fresh;
	u32 per_cpu; /* tasks that wait, per CPU */
	u32 near_wait; /* somebody waits in its near lane */
	u32 idle_pinned_wait; /* the same of idle ones */
};

/* Take one of the fresh lane who goes before what its first waits for. */
static bool serve_shorter(struct dispatch *d, u64 rest_ns)
{
	if (d->nr_fresh < 2 || !take_shorter(d->cpu, rest_ns))
		return false;
	COUNT(overtook);
	return true;
}

/*
 * What ran goes on before those of the fresh lane who would wait for its end; or the first of the near lane does, if that was cut and
 * would not wait for what ran. Before either go those who would not wait.
 */
static bool serve_carried(struct dispatch *d)
{
	struct task_struct *cut;
	u64 first_ns, prev_ns = 0, cut_ns;
	struct task_ctx *cut_ctx;

	/* To look at heads is expensive, and most often what ran has blocked and nobody was cut. */
	if (!d->prev_ctx && !d->near_wait)
		return false;
	first_ns = first_fresh_need_ns(d->cpu, d->cctx, d->lctx);
	if (!first_ns || first_ns == POLICY_NEVER_NS)
		return false;
	if (d->prev_ctx) {
		prev_ns = need(d->prev, d->prev_ctx);
		if (policy_waits_for(first_ns, prev_ns)) {
			if (serve_shorter(d, prev_ns))
				return true;
			if (carries_on(d->prev, d->prev_ctx, d->cctx, d->lctx)) {
				d->prev_ctx->owes = true;
				keep_running(d->prev, d->prev_ctx, d->per_cpu);
				COUNT(carried);
				return true;
			}
		}
	}
	cut = d->near_wait ? __COMPAT_scx_bpf_dsq_peek(near_dsq(d->cpu)) : NULL;
	cut_ctx = cut ? task_ctx_of(cut) : NULL;
	if (!cut_ctx || !cut_ctx->carries)
		return false;
	cut_ns = need(cut, cut_ctx);
	if (!policy_waits_for(first_ns, cut_ns) || policy_waits_for(cut_ns, prev_ns) ||
	    !carries_on(cut, cut_ctx, d->cctx, d->lctx))
		return false;
	if (serve_shorter(d, cut_ns))
		return true;
	if (!scx_bpf_dsq_move_to_local(near_dsq(d->cpu), 0))
		return false;
	cut_ctx->owes = true;
	COUNT(carried);
	return true;
}

/* Try one step of policy_serve. Return true if cpu has a task to run now. From ops.dispatch only. */
static __always_inline bool serve(struct dispatch *d, enum policy_serve step, bool overdue)
{
	switch (step) {
	case SERVE_IDLE_OVERDUE:
		if (!take_earlier(idle_dsq(d->llc), idle_pinned_dsq(d->cpu), d->idle_pinned_wait))
			return false;
		COUNT(idle_turns);
		return true;
	case SERVE_CARRIED:
		return serve_carried(d);
	case SERVE_FRESH:
	case SERVE_FRESH_AFTER_ALL:
		return take_fresh(d->cpu, d->cctx, d->lctx, d->nr_fresh, d->now_ns);
	case SERVE_PACED:
		return take_paced(d->cpu, d->now_ns);
	case SERVE_PREV_BY_KEY:
		if (!d->prev || !d->prev_ctx ||
		    !prev_is_next(d->prev, d->prev_ctx, fair_dsq(d->llc), near_dsq(d->cpu), d->near_wait))
			return false;
		d->cctx->fair_turn_ns = d->now_ns;
		keep_running(d->prev, d->prev_ctx, d->per_cpu);
		return true;
	case SERVE_FAIR:
		if (!take_earlier(fair_dsq(d->llc), near_dsq(d->cpu), d->near_wait))
			return false;
		d->cctx->fair_turn_ns = d->now_ns;
		if (overdue) {
			d->cctx->protect_until_ns = d->now_ns + first_quantum_ns();
			COUNT(fair_turns);
		}
		return true;
	case SERVE_PREV:
	case SERVE_PREV_IDLE:
		if (!d->prev)
			return false;
		keep_running(d->prev, d->prev_ctx, d->per_cpu);
		return true;
	case SERVE_FRESH_OF_LLC:
		return take_llcs_fresh(d->cctx, d->lctx);
	case SERVE_NEAR_OF_LLC:
		return take_llcs_near(d->cctx, d->lctx);
	case SERVE_OTHER_LLCS:
		return steal_from_llcs(d->llc, d->lctx->node);
	case SERVE_PREV_IDLE_BY_KEY:
		if (!d->prev || !d->prev_ctx ||
		    !prev_is_next(d->prev, d->prev_ctx, idle_dsq(d->llc), idle_pinned_dsq(d->cpu), d->idle_pinned_wait))
			return false;
		keep_running(d->prev, d->prev_ctx, d->per_cpu);
		return true;
	case SERVE_IDLE:
		return take_earlier(idle_dsq(d->llc), idle_pinned_dsq(d->cpu), d->idle_pinned_wait);
	case SERVE_IDLE_OF_OTHER_LLCS:
		return steal_idle(d->llc);
	default:
		return false;
	}
}

/* The steps that are to be tried, a bit each. To the verifier, which would follow all that is known of them, a number. */
__noinline u32 steps_of(const struct serving *s)
{
	u32 step, steps = 0;

	if (!s)
		return 0;
#pragma unroll
	for (step = 0; step < NR_SERVE; step++)
		steps |= (u32)policy_serves(s, step) << step;
	return steps;
}

/*
 * How many wait in one of cpu's lanes, if somebody is there who may run nowhere else. Such are queued and looked at under the same
 * rq lock, but for what a timer moves there, which sets the hint after that: cleared before the look, it cannot miss anybody.
 * From ops.dispatch of cpu only.
 */
static u32 nr_pinned(struct cpu_ctx *cctx, s32 cpu, enum policy_queue queue)
{
	s32 nr;

	if (!(READ_ONCE(cctx->maybe_pinned) & (1 << queue)))
		return 0;
	__sync_fetch_and_and(&cctx->maybe_pinned, ~(1 << queue));
	nr = scx_bpf_dsq_nr_queued(queue_dsq(queue, cpu));
	if (nr <= 0)
		return 0;
	hint_pinned(cctx, queue);
	return nr;
}

/*
 * A CPU has nothing in its local DSQ: give it a task. Runs on cpu (or on a sibling that schedules for it under core
 * scheduling) with its rq lock held; prev is what ran, and goes on if nothing is moved and it is still runnable.
 */
void BPF_STRUCT_OPS(ml_dispatch, s32 cpu, struct task_struct *prev)
{
	struct dispatch d = {.cpu = cpu, .prev = prev, .cctx = cpu_ctx_of(cpu), .now_ns = scx_bpf_now()};
	struct serving s = {.prev_runs = prev && (prev->scx.flags & SCX_TASK_QUEUED)};
	u32 nr_fair, nr, step, steps;

	if (!d.cctx)
		return;
	d.llc = d.cctx->llc;
	d.lctx = llc_ctx_of(d.llc);
	if (!d.lctx)
		return;

	if (s.prev_runs) {
		d.prev_ctx = task_ctx_of(prev);
		if (d.prev_ctx) {
			s.prev_runs = !bandwidth_ends(prev, d.prev_ctx);
			s.prev_idle = d.prev_ctx->idle;
			if (!s.prev_runs)
				d.prev_ctx = NULL;
		}
	}

	nr = nr_pinned(d.cctx, cpu, QUEUE_NEAR) ?: READ_ONCE(d.cctx->nr_near);
	d.near_wait = nr > 0;
	/* Those in the LLC's lane do not wait at this CPU: it yields to them by what it forfeits, or each yield were a migration. */
	s.prev_yields = d.near_wait && d.prev_ctx && d.prev_ctx->yielded;
	/* By our own count, which may be above what waits for a moment: to ask for the lane's length is expensive. */
	nr_fair = READ_ONCE(d.lctx->nr_fair);
	d.nr_fresh = READ_ONCE(d.cctx->nr_fresh);
	d.cctx->nr_waiting = nr_fair + nr + d.nr_fresh;
	d.per_cpu = per_cpu(nr_fair, d.lctx->nr_cpus) + nr + d.nr_fresh;

	/* Others are not looked after at the expense of a burst that is to end before somebody else's begins: it will. */
	if (relief_is_due(d.cctx, d.now_ns) && !(d.prev_ctx && carries_on(prev, d.prev_ctx, d.cctx, d.lctx)) &&
	    relieve_others(cpu, d.cctx, d.lctx, d.llc, d.near_wait, d.now_ns))
		return;
	s.fair_waits = nr_fair > 0 || d.near_wait;
	if (!s.fair_waits) {
		d.cctx->fair_turn_ns = d.now_ns;
		d.cctx->fair_behind = 0;
	}
	s.overdue = policy_fair_overdue(params.fair_interval_ns, d.cctx->fair_turn_ns, d.cctx->fair_behind, d.now_ns);
	if (s.overdue)
		d.cctx->fair_behind = fair_is_behind(cpu, d.llc, d.near_wait, d.now_ns);

	s.paced_due = d.near_wait && paced_is_due(d.cctx, d.now_ns);

	nr = nr_pinned(d.cctx, cpu, QUEUE_IDLE_PINNED);
	d.idle_pinned_wait = nr > 0;
	if (nr || READ_ONCE(d.lctx->nr_idle)) {
		s.idle_waits = true;
		s.idle_overdue = idle_is_overdue(idle_dsq(d.llc), d.now_ns) ||
				 (nr && idle_is_overdue(idle_pinned_dsq(cpu), d.now_ns));
		if (s.prev_idle || !s.fair_waits)
			d.per_cpu += per_cpu(READ_ONCE(d.lctx->nr_idle), d.lctx->nr_cpus) + nr;
	}

	steps = steps_of(&s);
	for (step = 0; step < NR_SERVE; step++)
		if (steps & (1U << step) && serve(&d, step, s.overdue))
			return;
}

#endif /* __SCX_ML_SERVE_BPF_H */
