/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * State: what is kept per task, per CPU and per LLC, the parameters that user space sets, and the counters.
 *
 * In all of these headers, functions that are not static are verified once in each operation that calls them, and not in every
 * state that a caller may be in: without that, loading would take several times as long.
 */
#ifndef __SCX_ML_TASK_BPF_H
#define __SCX_ML_TASK_BPF_H

#include <scx/common.bpf.h>
#include "intf.h"
#include "model.h"
#include "decide.h"
#include "frequency.h"

/* Features need them in some thirty places, and inlined they spread the few that a model uses over many cache lines. */
__noinline s32 log2_q8_of(u64 v)
{
	return log2_q8(v);
}

__noinline s32 count_q8_of(u64 n)
{
	return count_q8(n);
}
#define FEATURE_LOG2(v) log2_q8_of(v)
#define FEATURE_COUNT(n) count_q8_of(n)
#include "features.h"

/* Set by user space before loading. */
const volatile struct policy_params params = POLICY_DEFAULTS;
/* A map of its own, which user space updates as a whole. */
volatile struct learned learned SEC(".data.learned");
const volatile u32 mode = MODE_LEARN;
const volatile u32 nr_llcs = 1;
const volatile u32 nr_nodes = 1;
const volatile u32 nr_cpus = 1; /* CPU ids, as in nr_cpu_ids */
const volatile u32 own_tgid; /* the learner: never sampled, or it would learn from itself */
const volatile u64 sample_budget = 100; /* samples per CPU and window, see samples.bpf.h */
const volatile u8 syscall_class[1024]; /* by number: 1 + class, 0 for a call that is not counted */

/* 0, but the verifier does not know. */
volatile u32 not_known;

/* Classes of system calls: one for each of the features from FEATURE_SYS_IO on. */
#define NR_SYSCALL_CLASSES (NR_FEATURES - FEATURE_SYS_IO)

_Static_assert((int)NR_FEATURES <= (int)FEATURE_SLOTS, "a feature's index fits the array");
_Static_assert(NR_SYSCALL_CLASSES <= 8, "a class's index fits the array");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_ctx);
} task_ctxs SEC(".maps");

/*
 * CPUs and LLCs: user space sets max_entries and fills in what it knows before the scheduler is attached. The values of an
 * array follow the kernel's description of it, in the middle of a cache line, so that neighbours would share lines whatever
 * the alignment of their type; those of an array that user space could map begin a page. See check_lines().
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cpu_ctx);
} cpu_ctxs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct llc_ctx);
} llc_ctxs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counters);
} counter_map SEC(".maps");

/* The counters of the executing CPU. */
static inline struct counters *counters_here(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&counter_map, &zero);
}

/* Count one on the executing CPU. */
#define COUNT(name)                                                                                                    \
	do {                                                                                                           \
		struct counters *__c = counters_here();                                                                \
		if (__c)                                                                                               \
			__c->name++;                                                                                   \
	} while (0)

static inline struct task_ctx *task_ctx_of(struct task_struct *p)
{
	struct task_ctx *tctx = bpf_task_storage_get(&task_ctxs, p, 0, 0);

	if (!tctx)
		COUNT(no_task_ctx);
	return tctx;
}

static inline struct cpu_ctx *cpu_ctx_of(s32 cpu)
{
	u32 key = (u32)cpu;

	return bpf_map_lookup_elem(&cpu_ctxs, &key);
}

static inline struct llc_ctx *llc_ctx_of(u32 llc)
{
	return bpf_map_lookup_elem(&llc_ctxs, &llc);
}

/* States of CPUs and LLCs that begin within a cache line: none, or user space complains. */
u64 misplaced_cpus, misplaced_llcs;

/* Where an element lies in its cache line. Only what has been in memory as a number may be reckoned with as one. */
static u64 offset_in_line(const void *element)
{
	static volatile u64 address;

	address = (u64)element;
	return address & 63;
}

/* Note whether the states of CPUs and LLCs have cache lines of their own. From ops.init. */
static void check_lines(void)
{
	u32 i;

	bpf_for (i, 0, nr_cpus) {
		struct cpu_ctx *cctx = cpu_ctx_of(i);

		misplaced_cpus += cctx && offset_in_line(cctx);
	}
	bpf_for (i, 0, nr_llcs) {
		struct llc_ctx *lctx = llc_ctx_of(i);

		misplaced_llcs += lctx && offset_in_line(lctx);
	}
}

/* The first quantum of bursts that are not predicted: what the load asks for, as far as that is known. */
static inline u64 first_quantum_ns(void)
{
	u64 learned_ns = mode == MODE_LEARN ? learned.first_quantum_ns : 0;

	return learned_ns ?: params.first_quantum_ns;
}

/*
 * The parameters as a plain struct: of a volatile one every field would be loaded at every use. The compiler must not know
 * where it comes from, or it would take the defaults above for what they are.
 */
static __always_inline struct policy_params policy_params(void)
{
	const struct policy_params *set = (const struct policy_params *)&params;
	struct policy_params pp;

	barrier_var(set);
	pp = *set;
	pp.first_quantum_ns = first_quantum_ns();
	return pp;
}

/* CPU time of p's burst up to the last time the kernel accounted it (switch, tick). */
static inline u64 burst_used_ns(const struct task_struct *p, const struct task_ctx *tctx)
{
	return p->se.sum_exec_runtime - tctx->exec_at_wake_ns;
}

static inline u64 saturating_sub(u64 a, u64 b)
{
	return a > b ? a - b : 0;
}

static inline bool is_own_task(const struct task_struct *p)
{
	return p->tgid == own_tgid;
}

/*
 * Whether p can run on one CPU only. With one CPU in all, that is everybody, and the shared queues serve just as well.
 */
static inline bool is_pinned(const struct task_struct *p)
{
	return nr_cpus > 1 && (p->nr_cpus_allowed == 1 || is_migration_disabled(p));
}

#endif /* __SCX_ML_TASK_BPF_H */
