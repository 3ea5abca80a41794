/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Preemption: which running task a fresh wake-up may take the place of.
 *
 * decide.h says who makes room, and when. A wake-up asks its own CPU only: what is cut in the middle of its work elsewhere may hold
 * what others there wait for, and the one that comes takes nothing with it. Nor does anything look when a first quantum ends: whoever
 * waits then comes to run at the next tick, or when what runs blocks, which most does. Timers that cut there to the
 * microsecond, and wake-ups that looked for the CPU with the oldest burst, cost schbench three quarters of its requests: its workers
 * hold a lock while they work, and who came next had its slice to spin for it.
 */
#ifndef __SCX_ML_PREEMPT_BPF_H
#define __SCX_ML_PREEMPT_BPF_H

#include "carry.bpf.h"
#include "pace.bpf.h"

/* What runs on cctx's CPU, as it is seen now. */
static __always_inline struct occupant occupant_of(const struct cpu_ctx *cctx)
{
	return (struct occupant){
		.run_start_ns = READ_ONCE(cctx->run_start_ns),
		.burst_before_ns = cctx->burst_before_ns,
		.quantum_ns = cctx->quantum_ns,
		.protect_until_ns = cctx->protect_until_ns,
		.woke_ns = READ_ONCE(cctx->woke_ns),
		.expected_ns = cctx->expected_ns,
		.stretched_ns = cctx->stretched_ns,
		.inv_weight_q16 = cctx->inv_weight_q16,
		.heavy_inv_q16 = cctx->heavy_inv_q16,
		.idle = cctx->idle,
		.leaves = READ_ONCE(cctx->leaves),
		.partner = cctx->partner,
	};
}

/* Time until what runs on cpu makes room for a fresh wake-up of this inverse weight and need, see policy_room_in_ns(). */
__noinline u64 room_in_ns(s32 cpu, u32 occasion, u64 inv_weight_q16, u64 need_ns, u64 now_ns)
{
	struct policy_params pp = policy_params();
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct occupant o;

	if (!cctx)
		return POLICY_NEVER_NS;
	o = occupant_of(cctx);
	return policy_room_in_ns(&pp, &o, occasion, inv_weight_q16, need_ns, now_ns);
}

/* Whether what runs on cpu makes room for the first of the fresh lane that it serves next, or for one behind that. */
static bool makes_room_for_fresh(s32 cpu, struct cpu_ctx *cctx, struct llc_ctx *lctx, u64 now_ns)
{
	u64 first_ns = first_fresh_need_ns(cpu, cctx, lctx);

	if (first_ns == POLICY_NEVER_NS)
		return false;
	if (!room_in_ns(cpu, OCCASION_TICK, 0, first_ns, now_ns))
		return true;
	return READ_ONCE(cctx->nr_fresh) > 1 && !room_in_ns(cpu, OCCASION_TICK, 0, 0, now_ns) &&
	       shorter_waits(cpu, rest_ns(cctx->expected_ns, cctx->stretched_ns,
					  cctx->burst_before_ns + saturating_sub(now_ns, cctx->run_start_ns)));
}

/* Whether what runs on cpu makes room for one of its near lane who is paced and due: as for one in the fresh lane. */
static bool makes_room_for_paced(s32 cpu, struct cpu_ctx *cctx, u64 now_ns)
{
	return paced_is_due(cctx, now_ns) && !room_in_ns(cpu, OCCASION_TICK, 0, 0, now_ns);
}

/* Whether tctx's task, which runs with this key and has used so much, makes room for what stands first in a fair lane. */
__noinline int makes_room_by_clock(struct task_ctx *tctx, u64 used_ns, u64 key, u64 dsq)
{
	struct task_struct *first = __COMPAT_scx_bpf_dsq_peek(dsq);
	struct task_ctx *fctx = first ? task_ctx_of(first) : NULL;
	struct policy_params pp = policy_params();

	return tctx && fctx &&
	       (tctx->idle ||
		policy_yields_at_tick(&pp, tctx->lane, used_ns, key, burst_used_ns(first, fctx), first->scx.dsq_vtime));
}

/* Whether p, which runs, makes room for somebody in a fair lane of its CPU. */
static bool makes_room_for_fair(struct task_struct *p, struct task_ctx *tctx, s32 cpu, struct cpu_ctx *cctx,
				struct llc_ctx *lctx, u64 now_ns)
{
	u64 used_ns = burst_used_ns(p, tctx), key;
	bool near = near_waits(cctx);

	if (!near && !READ_ONCE(lctx->nr_fair))
		return false;
	key = running_key(p, tctx);
	return (READ_ONCE(lctx->nr_fair) && makes_room_by_clock(tctx, used_ns, key, fair_dsq(cctx->llc))) ||
	       (near &&
		(makes_room_by_clock(tctx, used_ns, key, near_dsq(cpu)) || makes_room_for_paced(cpu, cctx, now_ns)));
}

/* Whether a higher class has a CPU. It need not have told: one that starts on an idle CPU takes it from nobody. */
static bool is_taken(struct cpu_ctx *cctx, s32 cpu)
{
	struct task_struct *curr;

	if (READ_ONCE(cctx->taken))
		return true;
	if (READ_ONCE(cctx->run_start_ns) || READ_ONCE(cctx->rests))
		return false;
	/* It seems to run nothing, and does not rest. */
	bpf_rcu_read_lock();
	curr = __COMPAT_scx_bpf_cpu_curr(cpu);
	/* MAX_RT_PRIO of the kernel: those of real-time and deadline tasks are below. The stopper's is, too. */
	bool taken = curr && curr->prio < 100;
	bpf_rcu_read_unlock();
	return taken;
}

/* What a search for a CPU has come to, for a task that none idles for. */
struct place {
	s32 victim; /* CPU whose task makes room now; negative: none */
	s32 at; /* CPU in whose fresh lane the task waits */
};

/*
 * Look for a place for p among the next few CPUs of its LLC after its own, where it waits otherwise, and which a higher class has if
 * it is taken.
 */
__noinline int find_place_nearby(struct task_struct *p __arg_trusted, struct place *place, u32 taken, u32 occasion,
				 u64 now_ns)
{
	struct task_ctx *tctx = task_ctx_of(p);
	struct cpu_ctx *octx;
	u32 i, cpu, other;

	if (!tctx || !place)
		return 0;
	cpu = place->at;
	octx = cpu_ctx_of(cpu);
	bpf_for (i, 0, POLICY_SCAN_MAX) {
		if (!octx)
			break;
		other = octx->next_in_llc;
		octx = cpu_ctx_of(other);
		if (!octx || other == cpu)
			break;
		if (!bpf_cpumask_test_cpu(other, p->cpus_ptr))
			continue;
		if (octx->idle && !room_in_ns(other, occasion, tctx->inv_weight_q16, 0, now_ns)) {
			place->victim = place->at = other;
			break;
		}
		if (taken && place->at == cpu && !is_taken(octx, other))
			place->at = other;
	}
	return 0;
}

/*
 * Where p is to run that finds no idle CPU: on its own, if what runs there makes room; on one of the next few of the LLC, if
 * something runs there that is to run where nothing else wants to, which is all that p preempts if it is not fresh; and where
 * it waits otherwise: at home, unless a higher class has that CPU.
 */
static struct place find_place(struct task_struct *p, struct task_ctx *tctx, s32 cpu, struct llc_ctx *lctx, bool pinned,
			       bool fresh, enum occasion occasion, u64 now_ns)
{
	struct place place = {.victim = -EBUSY, .at = cpu};
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	bool taken;

	if (!cctx || tctx->idle || tctx->yielded)
		return place;
	if ((fresh || cctx->idle) && !room_in_ns(cpu, occasion, tctx->inv_weight_q16, need(p, tctx), now_ns)) {
		place.victim = cpu;
		return place;
	}
	if (pinned || nr_cpus == 1)
		return place;
	taken = fresh && is_taken(cctx, cpu);
	if (!taken && !READ_ONCE(lctx->nr_idling))
		return place;
	find_place_nearby(p, &place, taken, occasion, now_ns);
	return place;
}

/* Tell the CPU that p, which has been queued, takes the place of what runs there. */
static void call_victim(s32 cpu)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);

	/* Until it has switched, others look elsewhere. Where what runs there has changed meanwhile, that makes room. */
	if (cctx)
		WRITE_ONCE(cctx->leaves, 1);
	COUNT(preempt_kicks);
	scx_bpf_kick_cpu(cpu, SCX_KICK_PREEMPT);
}

#endif /* __SCX_ML_PREEMPT_BPF_H */
