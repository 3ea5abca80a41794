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
	};
}

/* Time until what runs on cpu makes room for a fresh wake-up, see policy_room_in_ns(). */
static u64 room_in_ns(s32 cpu, enum occasion occasion, u64 now_ns)
{
	struct policy_params pp = policy_params();
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct occupant o;

	if (!cctx)
		return POLICY_NEVER_NS;
	o = occupant_of(cctx);
	return policy_room_in_ns(&pp, &o, occasion, now_ns);
}

/*
 * The CPU whose running task p, a fresh wake-up, may preempt: its own, or one of the next few of the LLC. Negative
 * where there is none.
 */
static s32 find_preemptible(struct task_struct *p, s32 cpu, bool pinned, enum occasion occasion, u64 now_ns)
{
	struct cpu_ctx *octx;
	u32 i, other = cpu;

	if (!room_in_ns(cpu, occasion, now_ns))
		return cpu;
	if (pinned || nr_cpus == 1)
		return -EBUSY;
	bpf_for (i, 0, POLICY_SCAN_MAX) {
		octx = cpu_ctx_of(other);
		if (!octx)
			break;
		other = octx->next_in_llc;
		if (other == cpu)
			break;
		if (bpf_cpumask_test_cpu(other, p->cpus_ptr) && !room_in_ns(other, occasion, now_ns))
			return other;
	}
	return -EBUSY;
}

/*
 * The CPU in whose fresh lane p is to wait: its own, or, as long as a higher class has that, one of the next few of the LLC.
 */
static s32 serving_cpu(struct task_struct *p, s32 cpu, bool pinned)
{
	struct cpu_ctx *octx = cpu_ctx_of(cpu);
	u32 i, other;

	if (!octx || !READ_ONCE(octx->taken) || pinned)
		return cpu;
	bpf_for (i, 0, POLICY_SCAN_MAX) {
		other = octx->next_in_llc;
		octx = cpu_ctx_of(other);
		if (!octx || other == cpu)
			break;
		if (!READ_ONCE(octx->taken) && bpf_cpumask_test_cpu(other, p->cpus_ptr))
			return other;
	}
	return cpu;
}

/* See to it that what runs on cpu ends with its first quantum if somebody fresh waits. Any context but NMI. */
static void set_quantum_timer(s32 cpu, u64 now_ns)
{
	u64 in_ns = room_in_ns(cpu, OCCASION_TIMER, now_ns), fires_ns = now_ns + in_ns;
	struct quantum_timer *t;
	u32 key = cpu;

	if (in_ns == POLICY_NEVER_NS)
		return;
	t = bpf_map_lookup_elem(&quantum_timers, &key);
	if (!t || (t->fires_ns > now_ns && t->fires_ns <= fires_ns))
		return;
	t->fires_ns = fires_ns;
	if (!bpf_timer_start(&t->timer, in_ns, 0))
		COUNT(timers_set);
}

/* A first quantum may have ended on CPU *key. Runs in a softirq of the CPU that set the timer; `current` is anything. */
static int quantum_ended(void *map, u32 *key, struct quantum_timer *t)
{
	s32 cpu = *key;
	u64 now_ns = scx_bpf_now();

	t->fires_ns = 0;
	if (scx_bpf_dsq_nr_queued(fresh_dsq(cpu)) <= 0)
		return 0;
	if (!room_in_ns(cpu, OCCASION_TIMER, now_ns)) {
		COUNT(timer_preempts);
		scx_bpf_kick_cpu(cpu, SCX_KICK_PREEMPT);
	} else {
		set_quantum_timer(cpu, now_ns);
	}
	return 0;
}

static s32 create_quantum_timers(void)
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
