/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * CPUs of different capacity: bursts have one length on all of them, and long ones begin on the big ones.
 *
 * A burst's CPU time is what the kernel has accounted since its wake-up. Where a CPU does less in that time, what it does less
 * is taken off when the task stops there, by moving the wake-up's mark: so whoever asks how long a burst is need not know.
 * Where all are alike, big_capacity is 0, and none of this is there.
 * Possible limitations: what runs is scaled when it stops, and not before. The capacity is the one at the CPU's highest frequency:
 * how fast it was just then is not in there. A deadline that is kept for a burst (policy_fair_key()) takes off the burst's
 * length and not its time, so that on a slow CPU it moves away by the difference.
 */
#ifndef __SCX_ML_CAPACITY_BPF_H
#define __SCX_ML_CAPACITY_BPF_H

#include "task.bpf.h"

/* CPUs with at least that much are the big ones; 0: all are alike. Set by user space before loading. */
const volatile u32 big_capacity;

private(BIG) struct bpf_cpumask __kptr *big_cpus;

/* p has run for used_ns on the CPU of cctx. */
static inline void scale_burst(struct task_ctx *tctx, const struct cpu_ctx *cctx, u64 used_ns)
{
	if (big_capacity)
		tctx->exec_at_wake_ns += used_ns - policy_scaled_ns(used_ns, cctx->capacity);
}

/* How long a CPU takes for what is this long as a burst. */
static inline u64 unscaled_ns(s32 cpu, u64 ns)
{
	struct cpu_ctx *cctx;

	if (!big_capacity)
		return ns;
	cctx = cpu_ctx_of(cpu);
	return cctx ? policy_unscaled_ns(ns, cctx->slowness_q10) : ns;
}

/* The first quantum of what starts to run on the CPU of cctx, which knows how long its burst has been before. */
static inline u64 unscaled_quantum_ns(const struct cpu_ctx *cctx, u64 quantum_ns)
{
	return big_capacity ? policy_unscaled_quantum_ns(quantum_ns, cctx->burst_before_ns, cctx->slowness_q10)
			    : quantum_ns;
}

/* An idle big CPU for p, claimed, if it has a long burst before it; else, or where none is idle, negative. From ops.select_cpu. */
static s32 claim_big_idle_cpu(struct task_struct *p, const struct task_ctx *tctx, s32 prev_cpu)
{
	struct bpf_cpumask *big;

	if (!big_capacity || !policy_wants_big(tctx->steering, tctx->steer_q16, first_quantum_ns()))
		return -EBUSY;
	big = big_cpus;
	if (!big)
		return -EBUSY;
	if (__COMPAT_HAS_scx_bpf_select_cpu_and)
		return scx_bpf_select_cpu_and(p, prev_cpu, 0, cast_mask(big), 0);
	/* Without that there is no place to intersect masks in. */
	return bpf_cpumask_subset(cast_mask(big), p->cpus_ptr) ? scx_bpf_pick_idle_cpu(cast_mask(big), 0) : -EBUSY;
}

__noinline int create_big_cpus(void)
{
	struct bpf_cpumask *mask;
	u32 cpu;

	if (!big_capacity)
		return 0;
	mask = bpf_cpumask_create();
	if (!mask)
		return -ENOMEM;
	bpf_for (cpu, 0, nr_cpus) {
		struct cpu_ctx *cctx = cpu_ctx_of(cpu);

		if (cctx && cctx->capacity >= big_capacity)
			bpf_cpumask_set_cpu(cpu, mask);
	}
	mask = bpf_kptr_xchg(&big_cpus, mask);
	if (mask)
		bpf_cpumask_release(mask);
	return 0;
}

#endif /* __SCX_ML_CAPACITY_BPF_H */
