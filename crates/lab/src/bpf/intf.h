/* SPDX-License-Identifier: GPL-2.0-only */
/* What the measuring probe and its reader share. Both sides take the definitions from here. */
#ifndef __LAB_INTF_H
#define __LAB_INTF_H

enum lab_consts {
	/* Bucket i of a histogram counts delays in [2^i, 2^(i+1)) ns; bucket 0 also counts 0. */
	LAB_BUCKETS = 44,
};

/*
 * One of these per CPU. Only the CPU it belongs to writes it; the reader sums over the CPUs. All times in ns.
 */
struct lab_counters {
	unsigned long long switches; /* changes from one task to another, idle included */
	unsigned long long preemptions; /* switches away from a task that still wanted to run */
	unsigned long long wakeups; /* tasks that became runnable */
	unsigned long long migrations; /* sched_migrate_task events */
	unsigned long long wake_wait_ns; /* sum over wake-ups of the time from wake-up to running */
	unsigned long long requeue_wait_ns; /* the same for preempted tasks, until they run again */
	unsigned long long idle_waiting_ns; /* CPU time idle while movable tasks waited (see the .bpf.c) */
	unsigned long long untracked; /* events lost because a task had no storage */
	unsigned long long wake_hist[LAB_BUCKETS];
	unsigned long long requeue_hist[LAB_BUCKETS];
};

_Static_assert(sizeof(struct lab_counters) == 8 * (8 + 2 * 44), "the reader takes this layout for granted");

#endif
