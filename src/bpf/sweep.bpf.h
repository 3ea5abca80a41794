/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sweeping: a place in a fair lane is a virtual time, which a weight went into. Where cpu.idle makes that some hundred times
 * more or less, the place is no longer theirs: who is not idle any more would wait as if it was.
 *
 * A few milliseconds after cpu.idle has changed somewhere, a timer looks at those who wait in fair and idle lanes, and puts each
 * that it concerns into the lane that is its own now. Who runs notices at the next tick, who wakes at once.
 */
#ifndef __SCX_ML_SWEEP_BPF_H
#define __SCX_ML_SWEEP_BPF_H

#include "queues.bpf.h"

/* Tasks of a lane that are looked at, from its first on. */
#define SWEEP_MAX 4096

/* One lane, of an LLC or of a CPU of it. Without locks: who is gone from it by now has been looked at. */
__noinline int sweep_lane(u64 dsq, u32 llc)
{
	struct llc_ctx *lctx = llc_ctx_of(llc);
	struct bpf_iter_scx_dsq lane;
	u64 now_ns = scx_bpf_now();
	u32 i;

	if (!lctx || scx_bpf_dsq_nr_queued(dsq) <= 0)
		return 0;
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
		move_by_clock(&lane, p, tctx, *clock_for(lctx, tctx->idle));
	}
	bpf_iter_scx_dsq_destroy(&lane);
	bpf_rcu_read_unlock();
	return 0;
}

static void sweep_lanes(bool idle_only)
{
	struct cpu_ctx *cctx;
	struct llc_ctx *lctx;
	u32 i, hint;

	bpf_for (i, 0, nr_llcs) {
		lctx = llc_ctx_of(i);
		if (!lctx)
			continue;
		if (READ_ONCE(lctx->nr_fair) && !idle_only)
			sweep_lane(fair_dsq(i), i);
		if (READ_ONCE(lctx->nr_idle))
			sweep_lane(idle_dsq(i), i);
	}
	bpf_for (i, 0, nr_cpus) {
		cctx = cpu_ctx_of(i);
		lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;
		hint = cctx ? READ_ONCE(cctx->maybe_pinned) : 0;
		if (lctx && hint & (1 << QUEUE_NEAR) && !idle_only)
			sweep_lane(near_dsq(i), cctx->llc);
		if (lctx && hint & (1 << QUEUE_IDLE_PINNED))
			sweep_lane(idle_pinned_dsq(i), cctx->llc);
	}
}

#endif /* __SCX_ML_SWEEP_BPF_H */
