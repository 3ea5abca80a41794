/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Relief: for tasks that wait where nobody comes to take them, and for LLCs where more wait than elsewhere.
 *
 * Problem: a CPU serves its own fresh lane and its neighbour's, its near lane, and the fair lane of its LLC. Where a higher
 * class has the CPU and its neighbour, or all of an LLC, others would look there only when they run dry, which on a busy machine
 * they never do: the tasks starve, and the kernel ejects the scheduler. And as long as nobody runs dry, LLCs would keep the
 * tasks that they happen to have, and with them shares that differ by any factor.
 * How: each CPU looks after others once in an interval, and takes at most one task. In its own LLC, one from a fresh lane
 * whose first has waited for long, or from a near lane whose first has waited for very long. In one other LLC, the next one each
 * time, the same; the first of its fair lane, if that has waited for very long; or one more of it, if it has more that wait per CPU.
 * A place in a fair lane is a virtual time, and if the load grows heavier afterwards, the clock may take minutes to get there. So
 * some CPU of each LLC also looks at the last hundred of its fair lane in an interval, and each CPU at those of its own, and
 * puts one that has waited for very long first.
 * Possible limitations: tasks that may run on one CPU only wait until that comes back. LLCs even out how many wait per CPU,
 * not their weights, and count those too that may not leave.
 */
#ifndef __SCX_ML_RELIEF_BPF_H
#define __SCX_ML_RELIEF_BPF_H

#include "queues.bpf.h"

/* How long p, which is queued, has been waiting; 0: not at all, or there is none. */
static u64 waits_ns(struct task_struct *p, u64 now_ns)
{
	struct task_ctx *tctx = p ? task_ctx_of(p) : NULL;

	return tctx && tctx->queued_ns ? saturating_sub(now_ns, tctx->queued_ns) : 0;
}

/* The same of the first task of a DSQ. */
__noinline u64 head_waits_ns(u64 dsq, u64 now_ns)
{
	return waits_ns(__COMPAT_scx_bpf_dsq_peek(dsq), now_ns);
}

/* Whether the first task of a DSQ, which is a lane of this kind, has been waiting for too long. */
static bool head_is_forgotten(u64 dsq, enum policy_lane lane, u64 now_ns)
{
	return policy_is_forgotten(lane, head_waits_ns(dsq, now_ns));
}

/*
 * Whether somebody in cpu's fair lanes has waited for so long that one turn of them in an interval is not enough: where
 * wake-ups never end, as many may be there as would wait for many seconds.
 */
static bool fair_is_behind(s32 cpu, u32 llc, bool near_wait, u64 now_ns)
{
	return head_is_forgotten(fair_dsq(llc), LANE_FAIR, now_ns) ||
	       (near_wait && head_is_forgotten(near_dsq(cpu), LANE_FAIR, now_ns));
}

/* Whether the first of an idle lane has waited for so long that it is to run although others want to. */
static bool idle_is_overdue(u64 dsq, u64 now_ns)
{
	return policy_idle_overdue(head_waits_ns(dsq, now_ns));
}

/* Take one from the lanes of nr CPUs of an LLC, from `other` on, whose first has waited for long. */
__noinline int relieve_lanes(u32 other, u32 nr, u64 now_ns)
{
	u32 i;

	bpf_for (i, 0, nr) {
		struct cpu_ctx *octx = cpu_ctx_of(other);

		if (!octx)
			break;
		if ((READ_ONCE(octx->nr_fresh) && head_is_forgotten(fresh_dsq(other), LANE_FRESH, now_ns) &&
		     scx_bpf_dsq_move_to_local(fresh_dsq(other), 0)) ||
		    (READ_ONCE(octx->nr_near) && head_is_forgotten(near_dsq(other), LANE_FAIR, now_ns) &&
		     scx_bpf_dsq_move_to_local(near_dsq(other), 0))) {
			COUNT(reliefs);
			return true;
		}
		other = octx->next_in_llc;
	}
	return false;
}

static __always_inline struct fair_load fair_load_of(const struct llc_ctx *lctx)
{
	return (struct fair_load){
		.nr_waiting = READ_ONCE(lctx->nr_fair) + READ_ONCE(lctx->nr_near),
		.nr_cpus = lctx->nr_cpus,
		.node = lctx->node,
	};
}

/* Whether an LLC should have one of the tasks that wait in the fair lane of another. Notes that it takes one. */
static bool should_even(struct llc_ctx *here, const struct llc_ctx *there, u64 now_ns)
{
	struct fair_load waits_here = fair_load_of(here), waits_there = fair_load_of(there);

	if (!policy_evens(&waits_here, &waits_there, now_ns - READ_ONCE(here->evened_ns)))
		return false;
	WRITE_ONCE(here->evened_ns, now_ns);
	return true;
}

/* Look into the next one of the other LLCs. */
static bool relieve_other_llc(struct cpu_ctx *cctx, struct llc_ctx *lctx, u32 llc, u64 now_ns)
{
	u32 victim = on_ring(cctx->looked_llc + 1, nr_llcs);
	struct llc_ctx *vctx;

	if (victim == llc)
		victim = on_ring(victim + 1, nr_llcs);
	cctx->looked_llc = victim;
	vctx = llc_ctx_of(victim);
	if (!vctx)
		return false;

	if ((READ_ONCE(vctx->nr_fresh) || READ_ONCE(vctx->nr_near)) &&
	    relieve_lanes(vctx->first_cpu, vctx->nr_cpus, now_ns))
		return true;
	if (READ_ONCE(vctx->nr_fair) && head_is_forgotten(fair_dsq(victim), LANE_FAIR, now_ns) &&
	    scx_bpf_dsq_move_to_local(fair_dsq(victim), 0)) {
		COUNT(reliefs);
		return true;
	}
	if (should_even(lctx, vctx, now_ns) && take_fair_of(victim, vctx)) {
		COUNT(evenings);
		return true;
	}
	return false;
}

/*
 * Put one of the last of a fair or idle lane first, if it has waited for longer than anybody should: of that and of the other
 * one, an LLC's or a CPU's, which are compared by their heads. From ops.dispatch only.
 */
__noinline int relieve_last(u64 dsq, u64 other_dsq, u32 idle, u64 now_ns)
{
	u64 first_key = head_key(dsq), other_key = head_key(other_dsq);
	struct bpf_iter_scx_dsq last;
	u32 i;

	if (other_key != POLICY_NO_KEY && policy_shared_first(other_key, first_key))
		first_key = other_key;
	/* Not bpf_for_each() with a counter: that the verifier would follow round by round. */
	bpf_iter_scx_dsq_new(&last, dsq, SCX_DSQ_ITER_REV);
	bpf_for (i, 0, POLICY_LAST_MAX) {
		struct task_struct *p = bpf_iter_scx_dsq_next(&last);

		if (!p)
			break;
		if (policy_is_stuck(idle, waits_ns(p, now_ns))) {
			scx_bpf_dsq_move_set_vtime(&last, first_key - 1);
			if (scx_bpf_dsq_move_vtime(&last, p, dsq, 0))
				COUNT(reliefs);
			break;
		}
	}
	bpf_iter_scx_dsq_destroy(&last);
	return 0;
}

/* Whether it is time to look at the last of an LLC's fair lane, and this CPU is to: one of them is enough. */
static bool claim_last_look(struct llc_ctx *lctx, u64 now_ns)
{
	u64 looked_ns = READ_ONCE(lctx->looked_last_ns);

	return policy_relief_due(params.fair_interval_ns, looked_ns, now_ns) &&
	       __sync_val_compare_and_swap(&lctx->looked_last_ns, looked_ns, now_ns) == looked_ns;
}

/* Whether it is time for a CPU to look after others. */
static bool relief_is_due(const struct cpu_ctx *cctx, u64 now_ns)
{
	return policy_relief_due(params.fair_interval_ns, cctx->looked_ns, now_ns);
}

/* Look after others, when it is time to. From ops.dispatch only. Return true if there is a task to run now. */
static bool relieve_others(s32 cpu, struct cpu_ctx *cctx, struct llc_ctx *lctx, u32 llc, bool near_wait, u64 now_ns)
{
	cctx->looked_ns = now_ns;
	if ((READ_ONCE(lctx->nr_fair) || READ_ONCE(lctx->nr_idle)) && claim_last_look(lctx, now_ns)) {
		relieve_last(fair_dsq(llc), near_dsq(cpu), false, now_ns);
		relieve_last(idle_dsq(llc), idle_pinned_dsq(cpu), true, now_ns);
		if (READ_ONCE(lctx->nr_idle))
			sweep_soon(SWEEP_IDLE);
	}
	if (near_wait)
		relieve_last(near_dsq(cpu), fair_dsq(llc), false, now_ns);
	if (READ_ONCE(cctx->maybe_pinned) & (1 << QUEUE_IDLE_PINNED)) {
		relieve_last(idle_pinned_dsq(cpu), idle_dsq(llc), true, now_ns);
		sweep_soon(SWEEP_IDLE);
	}
	/* Of two, each serves the other's fresh lane as its neighbour. */
	if ((READ_ONCE(lctx->nr_near) || (lctx->nr_cpus > 2 && READ_ONCE(lctx->nr_fresh))) && lctx->nr_cpus > 1 &&
	    relieve_lanes(cctx->next_in_llc, lctx->nr_cpus - 1, now_ns))
		return true;
	return nr_llcs > 1 && relieve_other_llc(cctx, lctx, llc, now_ns);
}

#endif /* __SCX_ML_RELIEF_BPF_H */
