/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sweeping: a place in a fair lane is a virtual time, which a weight went into. Where cpu.idle makes that some hundred times
 * more or less, the place is no longer theirs: who is not idle any more would wait as if it was.
 *
 * A few milliseconds after cpu.idle has changed somewhere, a timer looks at those who wait in fair lanes, and gives each that
 * it concerns a place by its weight as it is now. Who runs notices at the next tick, who wakes at once.
 */
#ifndef __SCX_ML_SWEEP_BPF_H
#define __SCX_ML_SWEEP_BPF_H

#include "queues.bpf.h"

/* Tasks of a lane that are looked at, from its first on. */
#define SWEEP_MAX 4096

/* One lane. Without locks: who is gone from it by now is not moved, and has been looked at. */
static void sweep_lane(u64 dsq, struct llc_ctx *lctx)
{
	struct bpf_iter_scx_dsq lane;
	u64 now_ns = scx_bpf_now();
	u32 i;

	if (scx_bpf_dsq_nr_queued(dsq) <= 0)
		return;
	bpf_rcu_read_lock();
	bpf_iter_scx_dsq_new(&lane, dsq, 0);
	bpf_for (i, 0, SWEEP_MAX) {
		struct task_struct *p = bpf_iter_scx_dsq_next(&lane);
		struct task_ctx *tctx = p ? task_ctx_of(p) : NULL;
		u8 idle;

		if (!tctx)
			break;
		idle = tctx->idle;
		if (!tctx->cgroup_id)
			continue;
		update_weight(p, tctx, now_ns);
		if (tctx->idle == idle)
			continue;
		/* At the clock: what was its lag at the other weight says nothing. */
		scx_bpf_dsq_move_set_vtime(&lane,
					   reach_key(lctx, fair_key(p, tctx, lctx->vclock),
						     policy_per_cpu(READ_ONCE(lctx->nr_fair), lctx->nr_cpus), now_ns));
		scx_bpf_dsq_move_vtime(&lane, p, dsq, 0);
	}
	bpf_iter_scx_dsq_destroy(&lane);
	bpf_rcu_read_unlock();
}

static void sweep_lanes(void)
{
	struct cpu_ctx *cctx;
	struct llc_ctx *lctx;
	u32 i;

	bpf_for (i, 0, nr_llcs) {
		lctx = llc_ctx_of(i);
		if (lctx && READ_ONCE(lctx->nr_fair))
			sweep_lane(fair_dsq(i), lctx);
	}
	bpf_for (i, 0, nr_cpus) {
		cctx = cpu_ctx_of(i);
		lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;
		if (lctx && READ_ONCE(cctx->maybe_pinned))
			sweep_lane(pinned_dsq(i), lctx);
	}
}

#endif /* __SCX_ML_SWEEP_BPF_H */
