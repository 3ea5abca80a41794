/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How long tasks wait for their first CPU after a wake-up, as a histogram: the number that interactive work feels. What
 * a task waits later in its burst, preempted or at the end of a slice, is in the counter wait_ns only.
 */
#ifndef __SCX_ML_LATENCY_BPF_H
#define __SCX_ML_LATENCY_BPF_H

#include "task.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct latencies);
} latency_map SEC(".maps");

/*
 * p runs: if it has not since its wake-up, count how long that was ago. The scheduler's own threads are left out: the
 * trainer waits longer than others by design.
 */
static inline void note_latency(const struct task_struct *p, struct task_ctx *tctx, u64 now_ns)
{
	struct latencies *latencies;
	u64 latency_ns;
	u32 key = 0;

	if (!tctx->woken)
		return;
	tctx->woken = false;
	if (is_own_task(p))
		return;
	/* The clock of another CPU may be a little ahead of ours. */
	latency_ns = saturating_sub(now_ns, tctx->wake_ns);
	latencies = bpf_map_lookup_elem(&latency_map, &key);
	if (!latencies)
		return;
	latencies->buckets[ilog2_u64(latency_ns) & (LATENCY_BUCKETS - 1)]++;
	latencies->sum_ns += latency_ns;
}

#endif /* __SCX_ML_LATENCY_BPF_H */
