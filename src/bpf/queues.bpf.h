/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Queues: two lanes per LLC for whatever may move, and two per CPU for what may not.
 *
 * Nothing waits in a local DSQ: the kernel skips ops.dispatch while one is non-empty, so tasks stacked there would
 * starve everything that is queued here. A task goes to a local DSQ only when an idle CPU was claimed for it, or when
 * ops.dispatch takes it for the CPU that asks.
 */
#ifndef __SCX_ML_QUEUES_BPF_H
#define __SCX_ML_QUEUES_BPF_H

#include "group.bpf.h"

/* DSQ ids: what kind in the upper half, LLC or CPU in the lower. */
enum dsq_kind {
	DSQ_SHARED = 1ULL << 32, /* + lane << 24 + LLC */
	DSQ_PINNED = 2ULL << 32, /* + lane << 24 + CPU */
};

static inline u64 shared_dsq(u32 llc, u32 lane)
{
	return DSQ_SHARED + ((u64)lane << 24) + llc;
}

static inline u64 pinned_dsq(s32 cpu, u32 lane)
{
	return DSQ_PINNED + ((u64)lane << 24) + (u32)cpu;
}

static s32 create_queues(void)
{
	s32 cpu, llc, err;
	u32 lane;

	bpf_for (llc, 0, nr_llcs) {
		bpf_for (lane, 0, NR_LANES) {
			err = scx_bpf_create_dsq(shared_dsq(llc, lane), NUMA_NO_NODE);
			if (err)
				return err;
		}
	}
	bpf_for (cpu, 0, nr_cpus) {
		bpf_for (lane, 0, NR_LANES) {
			err = scx_bpf_create_dsq(pinned_dsq(cpu, lane), NUMA_NO_NODE);
			if (err)
				return err;
		}
	}
	return 0;
}

/* Key of the first task in a DSQ; U64_MAX when it is empty. Lock-free: the head may be gone a moment later. */
static u64 head_key(u64 dsq)
{
	struct task_struct *p = __COMPAT_scx_bpf_dsq_peek(dsq);

	return p ? p->scx.dsq_vtime : ~0ULL;
}

/*
 * Move the most urgent task of a lane that cpu may run to cpu's local DSQ. From ops.dispatch of cpu only.
 * Return true if there was one.
 */
static bool take_from_lane(s32 cpu, u32 llc, u32 lane)
{
	u64 pinned = pinned_dsq(cpu, lane), shared = shared_dsq(llc, lane);

	if (scx_bpf_dsq_nr_queued(pinned) > 0) {
		if (scx_bpf_dsq_nr_queued(shared) > 0 && policy_vdiff(head_key(shared), head_key(pinned)) < 0 &&
		    scx_bpf_dsq_move_to_local(shared, 0))
			return true;
		return scx_bpf_dsq_move_to_local(pinned, 0);
	}
	return scx_bpf_dsq_move_to_local(shared, 0);
}

/* Take a task from another LLC, nearest id first. From ops.dispatch only. */
static bool steal_from_llcs(u32 llc)
{
	u32 i;

	bpf_for (i, 1, nr_llcs) {
		u32 victim = llc + i;

		if (victim >= nr_llcs)
			victim -= nr_llcs;
		if (scx_bpf_dsq_move_to_local(shared_dsq(victim, LANE_FRESH), 0) ||
		    scx_bpf_dsq_move_to_local(shared_dsq(victim, LANE_FAIR), 0)) {
			COUNT(llc_steals);
			return true;
		}
	}
	return false;
}

/* Put tctx's virtual time on llc's clock, keeping how far ahead or behind the task is, and bound that. */
static void join_llc(struct task_ctx *tctx, u32 llc)
{
	struct llc_ctx *to = llc_ctx_of(llc);
	u64 vlag;

	if (!to)
		return;
	if (tctx->llc != llc) {
		struct llc_ctx *from = llc_ctx_of(tctx->llc);

		tctx->vruntime += to->vclock - (from ? from->vclock : to->vclock);
		tctx->llc = llc;
	}
	vlag = policy_virtual_ns(params.lag_ns, tctx->inv_weight_q16);
	tctx->vruntime = policy_bound_vruntime(tctx->vruntime, to->vclock, vlag);
}

/* The slice that p gets now, never 0. Counts where it came from. */
static u64 grant_slice(struct task_struct *p, struct task_ctx *tctx, u32 lane, u32 nr_waiting)
{
	struct policy_params pp = policy_params();
	u64 slice_ns;

	if (mode == MODE_LEARN && tctx->model_generation) {
		slice_ns = policy_quantile_left_ns(tctx->pred_q16, tctx->margin_q16, burst_used_ns(p, tctx));
		if (slice_ns) {
			if (slice_ns < pp.slice_min_ns)
				COUNT(clamped_min);
			else if (slice_ns > pp.slice_max_ns)
				COUNT(clamped_max);
			COUNT(slices_predicted);
			tctx->steered = true;
			slice_ns = policy_clamp_slice(&pp, slice_ns);
			goto granted;
		}
	}
	COUNT(slices_base);
	tctx->steered = false;
	slice_ns = policy_base_slice_ns(&pp, lane, nr_waiting);
granted:
	if (!tctx->slice_ns)
		tctx->slice_ns = slice_ns;
	return slice_ns;
}

/* Waiting tasks per CPU of an LLC, rounded down. */
static u32 waiting_per_cpu(const struct llc_ctx *lctx, u32 nr_waiting)
{
	return (nr_waiting * (u64)policy_recip_q16(lctx->nr_cpus)) >> 16;
}

/* Virtual deadline in the fair lane. */
static u64 fair_key(struct task_struct *p, struct task_ctx *tctx)
{
	struct policy_params pp = policy_params();
	bool predicted = mode == MODE_LEARN && tctx->model_generation;

	return tctx->vruntime +
	       policy_virtual_ns(policy_request_ns(&pp, predicted, tctx->pred_q16), tctx->inv_weight_q16);
}

/*
 * Whether what runs on cpu is past its first quantum, so that a fresh wake-up may take its place. Reads another CPU's
 * state without a lock: a wrong guess costs one needless switch.
 */
static bool preemptible(s32 cpu, u64 now_ns)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	u64 start_ns;

	if (!cctx)
		return false;
	start_ns = READ_ONCE(cctx->run_start_ns);
	if (!start_ns || (s64)(now_ns - cctx->protect_until_ns) < 0)
		return false;
	return cctx->burst_before_ns + (now_ns - start_ns) >= params.first_quantum_ns;
}

/* CPUs of the LLC to look at for one to preempt, beside the task's own. */
#define PREEMPT_SCAN_MAX 4

/* Make room for p, a fresh wake-up in a lane that cpu serves: preempt what is past its first quantum. */
static void preempt_for(struct task_struct *p, s32 cpu, u32 llc, bool pinned, u64 now_ns)
{
	u32 i;

	if (preemptible(cpu, now_ns))
		goto kick;
	if (pinned)
		return;
	bpf_for (i, 1, PREEMPT_SCAN_MAX + 1) {
		s32 other = cpu + i;
		struct cpu_ctx *octx;

		if (other >= nr_cpus)
			other -= nr_cpus;
		if (other < 0 || other >= nr_cpus || other == cpu)
			return;
		octx = cpu_ctx_of(other);
		if (octx && octx->llc == llc && bpf_cpumask_test_cpu(other, p->cpus_ptr) &&
		    preemptible(other, now_ns)) {
			cpu = other;
			goto kick;
		}
	}
	return;
kick:
	COUNT(preempt_kicks);
	scx_bpf_kick_cpu(cpu, SCX_KICK_PREEMPT);
}

/* An idle CPU for p, claimed, or negative. Legal in ops.select_cpu and ops.enqueue of every kernel with sched_ext. */
static s32 claim_idle_cpu(struct task_struct *p, s32 cpu, bool pinned)
{
	if (!pinned && __COMPAT_HAS_scx_bpf_select_cpu_and)
		return scx_bpf_select_cpu_and(p, cpu, 0, p->cpus_ptr, 0);
	if (scx_bpf_test_and_clear_cpu_idle(cpu))
		return cpu;
	return pinned ? -EBUSY : scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
}

#endif /* __SCX_ML_QUEUES_BPF_H */
