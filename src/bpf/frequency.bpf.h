/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How fast each CPU is told to be.
 *
 * Problem: with sched_ext the governor schedutil no longer sees what the fair class would use. It takes what the scheduler
 * asks for, and that is full speed until somebody asks for anything else.
 * How: each CPU's time with tasks of ours makes its utilisation (frequency.h), looked at when a task starts and at ticks, about
 * once a millisecond; a switch costs an addition. What a CPU asks for last holds while it is idle, also for those who share its
 * clock: so one timer for the machine, which runs as long as there is anything to do, takes back what idle CPUs have
 * asked for.
 * Possible limitations: time in other classes and in interrupts is not in there; the governor adds that. Kernels that do not
 * take the lock of another CPU's rq by themselves, 6.12 among them, are not told about other CPUs: there an idle one's speed
 * falls when it runs again.
 */
#ifndef __SCX_ML_FREQUENCY_BPF_H
#define __SCX_ML_FREQUENCY_BPF_H

#include "task.bpf.h"

/* Set by user space before loading. */
const volatile bool freq_control = true;

/* How often idle CPUs are looked for: after that, one has forgotten three quarters and more of what it knew. */
#define IDLE_LOOK_NS (4 * POLICY_UTIL_HALF_LIFE_NS)
#define IDLE_AFTER_NS (2 * POLICY_UTIL_HALF_LIFE_NS)

struct speed_timer {
	struct bpf_timer timer;
	u32 set; /* it will fire */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct speed_timer);
} speed_timers SEC(".maps");

/*
 * cpu is to be that fast. The kernel wants the lock of its rq to be held, if any is, and other CPUs' only by those which
 * hold none.
 */
static void set_cpuperf(s32 cpu, struct cpu_ctx *cctx, u32 target, u64 now_ns)
{
	cctx->cpuperf = target;
	cctx->cpuperf_ns = now_ns;
	scx_bpf_cpuperf_set(cpu, target);
	COUNT(cpuperf_sets);
}

/*
 * Take account of the time since this was last done, run_ns of which what runs has been there, in a burst of burst_ns. From
 * ops.running or ops.tick of cpu.
 */
static void fold_util(s32 cpu, struct cpu_ctx *cctx, u64 run_ns, u64 burst_ns, u64 now_ns)
{
	u64 busy_ns = cctx->busy_ns + saturating_sub(run_ns, cctx->run_seen_ns);
	/* Nothing is known of the time before it is looked at first: it begins at full speed. */
	u64 span_ns = cctx->util_ns ? now_ns - cctx->util_ns : 0;
	u32 target, perf;

	perf = (scx_bpf_cpuperf_cap(cpu) * scx_bpf_cpuperf_cur(cpu)) >> PERF_ONE_SHIFT;
	cctx->util_q10 = policy_util_after(cctx->util_q10, span_ns, busy_ns, perf);
	cctx->util_ns = now_ns;
	cctx->busy_ns = 0;
	cctx->run_seen_ns = run_ns;

	target = policy_cpuperf_target(cctx->util_q10, burst_ns);
	if (policy_sets_cpuperf(cctx->cpuperf, target, now_ns - cctx->cpuperf_ns))
		set_cpuperf(cpu, cctx, target, now_ns);
}

static inline bool fold_is_due(const struct cpu_ctx *cctx, u64 now_ns)
{
	return freq_control && policy_vdiff(now_ns, cctx->util_ns) >= (s64)POLICY_UTIL_FOLD_NS;
}

/* Have idle CPUs be looked for. Any context but NMI. */
static void set_speed_timer(void)
{
	u32 key = 0;
	struct speed_timer *t = bpf_map_lookup_elem(&speed_timers, &key);

	/* Of two CPUs that set it at once, both set the same. */
	if (!t || READ_ONCE(t->set))
		return;
	WRITE_ONCE(t->set, 1);
	bpf_timer_start(&t->timer, IDLE_LOOK_NS, 0);
}

/* A task with a burst of burst_ns so far starts on cpu, see ops.running. */
static inline void freq_running(s32 cpu, struct cpu_ctx *cctx, u64 burst_ns, u64 now_ns)
{
	if (!fold_is_due(cctx, now_ns))
		return;
	fold_util(cpu, cctx, 0, burst_ns, now_ns);
	/* Of the same age as the lock that scx_bpf_cpuperf_set() takes, which cannot be asked for. */
	if (__COMPAT_HAS_scx_bpf_select_cpu_and)
		set_speed_timer();
}

/* It has been there for run_ns, see ops.stopping. */
static inline void freq_stopping(struct cpu_ctx *cctx, u64 run_ns)
{
	if (!freq_control)
		return;
	cctx->busy_ns += saturating_sub(run_ns, cctx->run_seen_ns);
	cctx->run_seen_ns = 0;
}

/* p is there at a tick, see ops.tick. */
static inline void freq_tick(struct task_struct *p, struct task_ctx *tctx, s32 cpu, struct cpu_ctx *cctx, u64 now_ns)
{
	if (fold_is_due(cctx, now_ns))
		fold_util(cpu, cctx, p->se.sum_exec_runtime - tctx->exec_at_run_ns, burst_used_ns(p, tctx), now_ns);
}

/*
 * CPUs that have been idle for some time ask for nothing. Runs in a softirq of the CPU that set the timer, which holds no rq
 * lock; `current` is anything. What it reads of other CPUs may be old: a CPU that has just started again asks anew with the
 * next fold.
 */
static int look_at_idle(void *map, u32 *key, struct speed_timer *t)
{
	u64 now_ns = scx_bpf_now();
	/* Not how many: a number the verifier would follow round by round. */
	bool asking = false;
	u32 cpu;

	WRITE_ONCE(t->set, 0);
	bpf_for (cpu, 0, nr_cpus) {
		struct cpu_ctx *cctx = cpu_ctx_of(cpu);

		/* An id without a CPU has no capacity, and the kernel takes its mention for a mistake. */
		if (!cctx || !cctx->capacity || !READ_ONCE(cctx->cpuperf))
			continue;
		if (READ_ONCE(cctx->run_start_ns) ||
		    policy_vdiff(now_ns, READ_ONCE(cctx->util_ns)) < (s64)IDLE_AFTER_NS)
			asking = true;
		else
			set_cpuperf(cpu, cctx, 0, now_ns);
	}
	if (asking)
		set_speed_timer();
	return 0;
}

__noinline int create_speed_timer(void)
{
	u32 key = 0;
	struct speed_timer *t = bpf_map_lookup_elem(&speed_timers, &key);
	s32 err;

	if (!t)
		return -EINVAL;
	err = bpf_timer_init(&t->timer, &speed_timers, CLOCK_MONOTONIC);
	return err ?: bpf_timer_set_callback(&t->timer, look_at_idle);
}

#endif /* __SCX_ML_FREQUENCY_BPF_H */
