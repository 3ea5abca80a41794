/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Carrying on: what could be cut, or has been, goes before those of its CPU's fresh lane who are not expected to be much shorter than
 * what is left of it. decide.h says who that is; here is what it is decided from.
 *
 * Against those of the fair lanes nothing is carried: they have waited for longer, and are served by the clock.
 */
#ifndef __SCX_ML_CARRY_BPF_H
#define __SCX_ML_CARRY_BPF_H

#include "queues.bpf.h"

/* policy_rest_ns() of a burst. */
__noinline u64 rest_ns(u64 expected_ns, u64 stretched_ns, u64 burst_ns)
{
	struct stake stake = {.expected_ns = expected_ns, .stretched_ns = stretched_ns, .burst_ns = burst_ns};

	return policy_rest_ns(&stake);
}

/* policy_carries_on() of a task whose burst is so long, and that has run for ran_ns since its virtual time was last moved. */
__noinline int carries_for(struct task_ctx *tctx, u64 burst_ns, u64 ran_ns, u64 vclock, u64 heavy_inv_q16)
{
	struct stake stake = {.burst_ns = burst_ns};
	s64 ahead;

	if (!tctx)
		return false;
	stake.expected_ns = tctx->expected_ns;
	stake.stretched_ns = tctx->stretched_ns;
	ahead = policy_vdiff(tctx->vruntime + policy_virtual_ns(ran_ns, tctx->inv_weight_q16), vclock);
	return policy_carries_on(&stake, ahead, carried_max(tctx),
				 tctx->idle || tctx->yielded || policy_is_lighter(tctx->inv_weight_q16, heavy_inv_q16));
}

/* What p is expected to need still; 0: not known. */
static inline u64 need(const struct task_struct *p, const struct task_ctx *tctx)
{
	return rest_ns(tctx->expected_ns, tctx->stretched_ns, burst_used_ns(p, tctx));
}

static u64 need_of(struct task_struct *p)
{
	struct task_ctx *tctx = task_ctx_of(p);

	return tctx ? need(p, tctx) : 0;
}

/* What the first task of a DSQ is expected to need; 0: not known, POLICY_NEVER_NS: there is none. */
__noinline u64 head_need_ns(u64 dsq)
{
	struct task_struct *first = __COMPAT_scx_bpf_dsq_peek(dsq);

	return first ? need_of(first) : POLICY_NEVER_NS;
}

/* The same of the fresh lane that cpu serves next, its own or its neighbour's. */
static u64 first_fresh_need_ns(s32 cpu, struct cpu_ctx *cctx, struct llc_ctx *lctx)
{
	u64 need_ns = POLICY_NEVER_NS;
	struct cpu_ctx *next;

	if (READ_ONCE(cctx->nr_fresh))
		need_ns = head_need_ns(fresh_dsq(cpu));
	if (need_ns != POLICY_NEVER_NS || !READ_ONCE(lctx->nr_fresh))
		return need_ns;
	next = cpu_ctx_of(cctx->next_in_llc);
	return next && READ_ONCE(next->nr_fresh) ? head_need_ns(fresh_dsq(cctx->next_in_llc)) : POLICY_NEVER_NS;
}

/* One of the first few of cpu's fresh lane who does not wait for a burst that needs rest_ns still to end, see take_shorter(). */
static __always_inline bool find_shorter(s32 cpu, u64 rest_ns, bool take)
{
	struct bpf_iter_scx_dsq fresh;
	bool found = false;
	u32 i;

	bpf_iter_scx_dsq_new(&fresh, fresh_dsq(cpu), 0);
	bpf_for (i, 0, POLICY_SHORTER_MAX) {
		struct task_struct *p = bpf_iter_scx_dsq_next(&fresh);

		if (!p)
			break;
		if (policy_waits_for(need_of(p), rest_ns))
			continue;
		found = !take || scx_bpf_dsq_move(&fresh, p, SCX_DSQ_LOCAL, 0);
		if (found)
			break;
	}
	bpf_iter_scx_dsq_destroy(&fresh);
	return found;
}

/*
 * Who is long, and first in the fresh lane, waits for the end of what runs, or of what is carried; those behind it who are much shorter
 * need not, and go before both. Takes one, from ops.dispatch of cpu only. Return true if there was one.
 */
__noinline int take_shorter(s32 cpu, u64 rest_ns)
{
	return find_shorter(cpu, rest_ns, true);
}

/* Whether there is one. */
__noinline int shorter_waits(s32 cpu, u64 rest_ns)
{
	return find_shorter(cpu, rest_ns, false);
}

/* Whether p, which runs on cctx's CPU or is to wait there, goes before those of the fresh lane who would wait for its end. */
static bool carries_on(struct task_struct *p, struct task_ctx *tctx, struct cpu_ctx *cctx, struct llc_ctx *lctx)
{
	return tctx->expected_ns &&
	       carries_for(tctx, burst_used_ns(p, tctx), p->se.sum_exec_runtime - tctx->exec_at_run_ns, lctx->vclock,
			   cctx->heavy_inv_q16);
}

#endif /* __SCX_ML_CARRY_BPF_H */
