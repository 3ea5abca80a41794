/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pacing: who is over its share, and has woken not long ago, waits in its CPU's near lane and is taken from there when it is due,
 * in turn with the others. Who that is, and when: policy_is_paced(), policy_pace_ns(), policy_due_ns().
 */
#ifndef __SCX_ML_PACE_BPF_H
#define __SCX_ML_PACE_BPF_H

#include "queues.bpf.h"

/* Somebody who is paced is about to wait in cctx's near lane, and is due at due_ns. Under its rq lock. */
static void expect_paced(struct cpu_ctx *cctx, u64 due_ns)
{
	COUNT(queued_paced);
	if (!cctx->paced_ns || policy_vdiff(due_ns, cctx->paced_ns) < 0)
		cctx->paced_ns = due_ns;
}

/* Whether somebody in cctx's near lane who is paced may be due. */
static inline bool paced_is_due(struct cpu_ctx *cctx, u64 now_ns)
{
	return cctx->paced_ns && policy_vdiff(now_ns, cctx->paced_ns) >= 0;
}

/*
 * Take one from cpu's near lane who is paced and due, of its first few: others may stand before it. Notes when the next one is.
 * From ops.dispatch of cpu only. Return true if there was one.
 */
__noinline int take_paced(s32 cpu, u64 now_ns)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct bpf_iter_scx_dsq near;
	bool taken = false;
	u64 next_ns = 0;
	u32 i;

	if (!cctx)
		return false;
	bpf_iter_scx_dsq_new(&near, near_dsq(cpu), 0);
	bpf_for (i, 0, POLICY_PACED_MAX) {
		struct task_struct *p = bpf_iter_scx_dsq_next(&near);
		struct task_ctx *tctx = p ? task_ctx_of(p) : NULL;

		if (!p)
			break;
		if (!tctx || !tctx->paced)
			continue;
		if (!taken && policy_vdiff(now_ns, tctx->due_ns) >= 0 && scx_bpf_dsq_move(&near, p, SCX_DSQ_LOCAL, 0))
			taken = true;
		else if (!next_ns || policy_vdiff(tctx->due_ns, next_ns) < 0)
			next_ns = tctx->due_ns ?: 1;
	}
	bpf_iter_scx_dsq_destroy(&near);
	cctx->paced_ns = next_ns;
	if (taken)
		COUNT(paced_turns);
	return taken;
}

/* How many wait in the fair lanes that cpu serves, of an LLC's its part. */
static u32 nr_by_clock(s32 cpu, struct cpu_ctx *cctx, struct llc_ctx *lctx)
{
	s32 near = READ_ONCE(cctx->nr_near);

	/* Who may run nowhere else is not counted. */
	if (READ_ONCE(cctx->maybe_pinned) & (1 << QUEUE_NEAR))
		near = scx_bpf_dsq_nr_queued(near_dsq(cpu));
	return per_cpu(READ_ONCE(lctx->nr_fair), lctx->nr_cpus) + (near > 0 ? near : 0);
}

#endif /* __SCX_ML_PACE_BPF_H */
