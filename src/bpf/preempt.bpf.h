/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Preemption: which running task a fresh wake-up may take the place of, and when.
 *
 * Problem: a slice ends at a tick, up to 4 ms late at 250 Hz; a fresh wake-up that comes while another is still inside
 * its first quantum would wait that long for a long burst to be found out.
 * How: decide.h says who makes room, and when. A wake-up that finds nobody to preempt sets a timer for the end of the first
 * quantum of what runs. There is one timer a CPU; it is set at most once a quantum however often the CPU switches, and only
 * while somebody waits: when it fires too early, because another task runs by then, it sets itself again.
 */
#ifndef __SCX_ML_PREEMPT_BPF_H
#define __SCX_ML_PREEMPT_BPF_H

#include "queues.bpf.h"

/*
 * Which place in a cache line the array of them begins at is the kernel's business, and one that may be mapped, which would
 * begin a page, must not hold timers. So each is followed by as much as keeps two of them off one line, wherever it begins.
 */
struct quantum_timer {
	struct bpf_timer timer;
	u64 fires_ns; /* scx_bpf_now() clock; in the past: not set */
	u64 pad[13];
};
_Static_assert(sizeof(struct quantum_timer) == 128, "no two CPUs' timers share a cache line");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* CPUs; set by user space */
	__type(key, u32);
	__type(value, struct quantum_timer);
} quantum_timers SEC(".maps");

/* What runs on cctx's CPU, as it is seen now. */
static __always_inline struct occupant occupant_of(const struct cpu_ctx *cctx)
{
	return (struct occupant){
		.run_start_ns = READ_ONCE(cctx->run_start_ns),
		.burst_before_ns = cctx->burst_before_ns,
		.quantum_ns = cctx->quantum_ns,
		.protect_until_ns = cctx->protect_until_ns,
		.woke_ns = READ_ONCE(cctx->woke_ns),
		.inv_weight_q16 = cctx->inv_weight_q16,
		.heavy_inv_q16 = cctx->heavy_inv_q16,
		.idle = cctx->idle,
		.leaves = READ_ONCE(cctx->leaves),
		.partner = cctx->partner,
	};
}

/*
 * Time until what runs on cpu makes room for a fresh wake-up of this inverse weight (0: not known), see policy_room_in_ns().
 */
__noinline u64 room_in_ns(s32 cpu, u32 occasion, u64 inv_weight_q16, u64 now_ns)
{
	struct policy_params pp = policy_params();
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct occupant o;

	if (!cctx)
		return POLICY_NEVER_NS;
	o = occupant_of(cctx);
	return policy_room_in_ns(&pp, &o, occasion, inv_weight_q16, now_ns);
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
 * Where p is to run that finds no idle CPU: the CPU whose running task it may preempt, its own or one of the next few of the
 * LLC; and where it waits otherwise. If it is not fresh, only those are preempted that are to run where nothing else wants to.
 */
static struct place find_place(struct task_struct *p, struct task_ctx *tctx, s32 cpu, bool pinned, bool fresh,
			       enum occasion occasion, u64 now_ns)
{
	struct place place = {.victim = -EBUSY, .at = cpu};
	struct cpu_ctx *octx = cpu_ctx_of(cpu), *cctx = octx;
	u64 own_in_ns, in_ns, inv_weight_q16 = tctx->inv_weight_q16;
	bool taken;
	u32 i, other = cpu;

	if (!cctx || tctx->idle || tctx->yielded)
		return place;
	own_in_ns = fresh                         ? room_in_ns(cpu, occasion, inv_weight_q16, now_ns)
		    : cctx->idle && !cctx->leaves ? 0
						  : POLICY_NEVER_NS;
	if (!own_in_ns && READ_ONCE(cctx->run_start_ns)) {
		place.victim = cpu;
		return place;
	}
	if (pinned || nr_cpus == 1)
		return place;
	taken = is_taken(cctx, cpu);
	bpf_for (i, 0, POLICY_SCAN_MAX) {
		other = octx->next_in_llc;
		octx = cpu_ctx_of(other);
		if (!octx || other == cpu)
			break;
		if (!fresh && !octx->idle)
			continue;
		if (!bpf_cpumask_test_cpu(other, p->cpus_ptr))
			continue;
		in_ns = room_in_ns(other, occasion, inv_weight_q16, now_ns);
		if (!in_ns) {
			place.victim = place.at = other;
			break;
		}
		if (place.at != cpu || !fresh)
			continue;
		if (taken ? !is_taken(octx, other)
			  : policy_waits_elsewhere(own_in_ns, READ_ONCE(cctx->nr_fresh), in_ns,
						   READ_ONCE(octx->nr_fresh)))
			place.at = other;
	}
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

/* See to it that what runs on cpu ends with its first quantum if somebody fresh waits. Any context but NMI. */
__noinline int set_quantum_timer(s32 cpu, u64 now_ns)
{
	u64 in_ns = room_in_ns(cpu, OCCASION_TIMER, 0, now_ns), fires_ns = now_ns + in_ns;
	struct quantum_timer *t;
	u32 key = cpu;

	if (in_ns == POLICY_NEVER_NS)
		return 0;
	t = bpf_map_lookup_elem(&quantum_timers, &key);
	if (!t || (t->fires_ns > now_ns && t->fires_ns <= fires_ns))
		return 0;
	t->fires_ns = fires_ns;
	if (!bpf_timer_start(&t->timer, in_ns, 0))
		COUNT(timers_set);
	return 0;
}

/* A first quantum may have ended on CPU *key. Runs in a softirq of the CPU that set the timer; `current` is anything. */
static int quantum_ended(void *map, u32 *key, struct quantum_timer *t)
{
	s32 cpu = *key;
	u64 now_ns = scx_bpf_now();

	t->fires_ns = 0;
	if (scx_bpf_dsq_nr_queued(fresh_dsq(cpu)) <= 0)
		return 0;
	if (!room_in_ns(cpu, OCCASION_TIMER, 0, now_ns)) {
		COUNT(timer_preempts);
		scx_bpf_kick_cpu(cpu, SCX_KICK_PREEMPT);
	} else {
		set_quantum_timer(cpu, now_ns);
	}
	return 0;
}

__noinline int create_quantum_timers(void)
{
	u32 cpu;

	bpf_for (cpu, 0, nr_cpus) {
		u32 key = cpu;
		struct quantum_timer *t = bpf_map_lookup_elem(&quantum_timers, &key);
		s32 err;

		if (!t)
			return -EINVAL;
		err = bpf_timer_init(&t->timer, &quantum_timers, CLOCK_MONOTONIC);
		if (!err)
			err = bpf_timer_set_callback(&t->timer, quantum_ended);
		if (err)
			return err;
	}
	return 0;
}

#endif /* __SCX_ML_PREEMPT_BPF_H */
