/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the scheduler under test did, seen from outside of it.
 *
 * Four tracepoints of the core scheduler feed per-CPU counters. They fire alike under every scheduling class, so the
 * same program measures the kernel's own scheduler and any sched_ext one, at the same cost.
 *
 * Idle-while-runnable: the integral over time of min(idle CPUs, movable tasks waiting). Pinned tasks are left out:
 * an idle CPU cannot help them. Tasks restricted to several, but not all, CPUs are counted, so the number is an upper
 * bound where affinities are in use. The integral is kept without a lock (tracing programs may not take one): two
 * events in the same instant may each see the other's change late, which misplaces at most the time between them.
 */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "intf.h"

char _license[] SEC("license") = "GPL";

#define PF_IDLE_BIT 0x00000002
#define TASK_STATE_RUNNING 0

enum phase {
	PHASE_OFF, /* blocked, or never seen */
	PHASE_WAKING, /* runnable since a wake-up, waiting for a CPU */
	PHASE_REQUEUED, /* preempted, waiting for a CPU */
	PHASE_RUNNING,
};

struct task_ctx {
	__u64 since_ns;
	__u32 phase;
	__u32 counted; /* whether it is in nr_waiting */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_ctx);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lab_counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} cpu_idle SEC(".maps");

/* Signed: transient races may take them below zero for an instant. */
static __s64 nr_waiting;
static __s64 nr_idle;
static __u64 last_event_ns;

static struct lab_counters *this_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

static __u32 bucket_of(__u64 ns)
{
	__u32 b = 0;

	/* A binary search for the highest set bit: bounded, no loop for the verifier to unroll. */
	if (ns >> 32) {
		b += 32;
		ns >>= 32;
	}
	if (ns >> 16) {
		b += 16;
		ns >>= 16;
	}
	if (ns >> 8) {
		b += 8;
		ns >>= 8;
	}
	if (ns >> 4) {
		b += 4;
		ns >>= 4;
	}
	if (ns >> 2) {
		b += 2;
		ns >>= 2;
	}
	if (ns >> 1)
		b += 1;
	return b < LAB_BUCKETS ? b : LAB_BUCKETS - 1;
}

/* Close the interval since the last event with the counts that held during it. */
static void integrate(struct lab_counters *c, __u64 now)
{
	__u64 before = __sync_lock_test_and_set(&last_event_ns, now);
	__s64 waiting = *(volatile __s64 *)&nr_waiting;
	__s64 idle = *(volatile __s64 *)&nr_idle;
	__s64 both = waiting < idle ? waiting : idle;

	if (before && now > before && both > 0)
		c->idle_waiting_ns += (now - before) * both;
}

static void start_waiting(struct task_struct *p, struct task_ctx *t, __u32 phase, __u64 now)
{
	t->phase = phase;
	t->since_ns = now;
	if (!t->counted && p->nr_cpus_allowed > 1) {
		t->counted = 1;
		__sync_fetch_and_add(&nr_waiting, 1);
	}
}

static void stop_waiting(struct task_ctx *t)
{
	if (t->counted) {
		t->counted = 0;
		__sync_fetch_and_add(&nr_waiting, -1);
	}
}

static int woken(struct task_struct *p)
{
	struct lab_counters *c = this_cpu();
	struct task_ctx *t;
	__u64 now = bpf_ktime_get_ns();

	if (!c)
		return 0;
	t = bpf_task_storage_get(&tasks, p, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t) {
		c->untracked++;
		return 0;
	}
	/* A wake-up of a task that has not yet left the CPU, or already waits, changes nothing. */
	if (t->phase != PHASE_OFF)
		return 0;
	c->wakeups++;
	integrate(c, now);
	start_waiting(p, t, PHASE_WAKING, now);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(lab_wakeup, struct task_struct *p)
{
	return woken(p);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(lab_wakeup_new, struct task_struct *p)
{
	return woken(p);
}

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(lab_migrate, struct task_struct *p, int dest_cpu)
{
	struct lab_counters *c = this_cpu();

	if (c)
		c->migrations++;
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(lab_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	struct lab_counters *c = this_cpu();
	__u64 now = bpf_ktime_get_ns();
	__u32 zero = 0, *idle;
	struct task_ctx *t;

	idle = bpf_map_lookup_elem(&cpu_idle, &zero);
	if (!c || !idle)
		return 0;
	c->switches++;
	integrate(c, now);

	if (next->flags & PF_IDLE_BIT) {
		if (!*idle) {
			*idle = 1;
			__sync_fetch_and_add(&nr_idle, 1);
		}
	} else if (*idle) {
		*idle = 0;
		__sync_fetch_and_add(&nr_idle, -1);
	}

	if (!(prev->flags & PF_IDLE_BIT)) {
		t = bpf_task_storage_get(&tasks, prev, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!t) {
			c->untracked++;
		} else {
			stop_waiting(t);
			if (preempt || prev_state == TASK_STATE_RUNNING) {
				c->preemptions++;
				start_waiting(prev, t, PHASE_REQUEUED, now);
			} else {
				t->phase = PHASE_OFF;
			}
		}
	}

	if (!(next->flags & PF_IDLE_BIT)) {
		t = bpf_task_storage_get(&tasks, next, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!t) {
			c->untracked++;
			return 0;
		}
		stop_waiting(t);
		if (now >= t->since_ns) {
			__u64 waited = now - t->since_ns;
			__u32 b = bucket_of(waited);

			if (b >= LAB_BUCKETS)
				b = LAB_BUCKETS - 1;
			if (t->phase == PHASE_WAKING) {
				c->wake_wait_ns += waited;
				c->wake_hist[b]++;
			} else if (t->phase == PHASE_REQUEUED) {
				c->requeue_wait_ns += waited;
				c->requeue_hist[b]++;
			}
		}
		t->phase = PHASE_RUNNING;
	}
	return 0;
}
