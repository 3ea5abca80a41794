/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Features from what they are made of (history.h). Pure as model.h is: compiled for BPF, where a model's features are computed
 * at a wake-up, and for the host, where those of a record are.
 */
#ifndef __SCX_ML_FEATURES_H
#define __SCX_ML_FEATURES_H

#include "model.h"

#define ALL_FEATURES (~0ULL)
#define BIT_OF(id) (1ULL << FEATURE_##id)

/* Features that go together: where none of a group is wanted, one look tells. */
#define PROFILE_FEATURES (BIT_OF(NAME_BURST) | BIT_OF(PAIR_BURST))
#define SLEEP_FEATURES                                                                                                 \
	(BIT_OF(LAST_SLEEP) | BIT_OF(AVG_SLEEP) | BIT_OF(LAST_WAIT) | BIT_OF(AVG_WAIT) | BIT_OF(IO_WAIT) |             \
	 BIT_OF(BLOCK_IO))
#define WAKER_TASK_FEATURES (BIT_OF(WAKER_BURST) | BIT_OF(WAKER_RAN) | BIT_OF(WAKER_PRED) | BIT_OF(WAKER_NONE))
#define WAKER_FEATURES (WAKER_TASK_FEATURES | BIT_OF(WAKER_KIN) | BIT_OF(SYNC_WAKE))
#define OUTCOME_FEATURES                                                                                               \
	(BIT_OF(WAKES_MADE) | BIT_OF(SLICE_USED) | BIT_OF(PREEMPTED) | BIT_OF(MIGRATED) | BIT_OF(MINOR_FAULTS) |       \
	 BIT_OF(MAJOR_FAULTS))
#define AGE_FEATURES (BIT_OF(AGE_FORK) | BIT_OF(AGE_EXEC))
#define TASK_FEATURES                                                                                                  \
	(BIT_OF(KTHREAD) | BIT_OF(VOLUNTARY) | BIT_OF(INVOLUNTARY) | AGE_FEATURES | BIT_OF(THREADS) | BIT_OF(WEIGHT))
#define PLACE_FEATURES (BIT_OF(QUEUE_DEPTH) | BIT_OF(CPU_LOAD))
#define SYSCALL_FEATURES                                                                                               \
	(BIT_OF(SYS_IO) | BIT_OF(SYS_NET) | BIT_OF(SYS_WAIT) | BIT_OF(SYS_SLEEP) | BIT_OF(SYS_FUTEX) |                 \
	 BIT_OF(SYS_MM) | BIT_OF(SYS_PROC))

/* log2_q8() and count_q8(), or what an includer has in their place. */
#ifndef FEATURE_LOG2
#define FEATURE_LOG2(v) log2_q8(v)
#define FEATURE_COUNT(n) count_q8(n)
#endif

/* Keeps the compiler from joining the halves of a mask again: a test against an immediate of 32 bits is half of one of 64. */
#define FEATURES_HALF(half) asm volatile("" : "+r"(half))

static inline s32 flag_q8(bool yes)
{
	return yes ? FEATURE_ONE_Q8 : 0;
}

/* What the moving average of bursts says, log2(ns) Q16; before the first burst, what is assumed of it. */
static inline s32 avg_burst_q16(const struct history *h)
{
	return h->seen ? (s32)log2_q16(h->avg_burst_ns) : h->log_burst_q8 << 8;
}

/* Q16 in Q8, as log2_q8() rounds and limits. */
static inline s32 round_q8(s32 q16)
{
	s32 q8 = (q16 + 128) >> 8;

	return q8 > LOG2_MAX_Q8 ? LOG2_MAX_Q8 : q8;
}

/* Whether any feature of the mask is wanted, and a feature's value, if it is. */
#define WANTED(mask) ((lo & (u32)(mask)) || (hi & (u32)((mask) >> 32)))
#define FEATURE(id, value)                                                                                             \
	do {                                                                                                           \
		if (WANTED(BIT_OF(id)))                                                                                \
			feature_q8[FEATURE_##id] = (s16)(value);                                                       \
	} while (0)

/*
 * The features of `wanted`, a mask of their bits, of a task that woke as w says after what h says. The others are left as
 * they are.
 */
static inline void fill_features(const struct history *h, const struct wakeup *w, u64 wanted,
				 s16 feature_q8[FEATURE_SLOTS])
{
	u32 lo = (u32)wanted, hi = (u32)(wanted >> 32);
	s32 log_burst_q8 = h->log_burst_q8;

	FEATURES_HALF(lo);
	FEATURES_HALF(hi);
	FEATURE(LAST_BURST, h->seen ? h->last_log_q8 : log_burst_q8);
	FEATURE(PREV_BURST, h->seen > 1 ? h->prev_log_q8 : log_burst_q8);
	FEATURE(AVG_BURST, round_q8(avg_burst_q16(h)));
	FEATURE(HALF_BURST, h->seen ? FEATURE_LOG2(h->half_burst_ns) : log_burst_q8);
	FEATURE(LOG_BURST, log_burst_q8);
	FEATURE(KIND_BURST, w->kind_burst_q8);
	FEATURE(BURST_SPREAD, h->spread_q8);
	FEATURE(SEEN, FEATURE_COUNT(h->seen));
	if (WANTED(SLEEP_FEATURES)) {
		FEATURE(LAST_SLEEP, FEATURE_LOG2(h->last_sleep_ns));
		FEATURE(AVG_SLEEP, FEATURE_LOG2(h->avg_sleep_ns));
		FEATURE(LAST_WAIT, FEATURE_LOG2(h->last_wait_ns));
		FEATURE(AVG_WAIT, FEATURE_LOG2(h->avg_wait_ns));
		FEATURE(IO_WAIT, flag_q8(h->io_wait));
		FEATURE(BLOCK_IO, FEATURE_LOG2(h->last_block_io_ns));
	}
	if (WANTED(WAKER_FEATURES)) {
		FEATURE(WAKER_BURST, w->waker_burst_q8);
		FEATURE(WAKER_RAN, FEATURE_LOG2(w->waker_ran_ns));
		FEATURE(WAKER_PRED, w->waker_pred_q8);
		FEATURE(WAKER_NONE, flag_q8(w->waker_none));
		FEATURE(WAKER_KIN, flag_q8(w->waker_kin));
		FEATURE(SYNC_WAKE, flag_q8(w->sync));
	}
	if (WANTED(OUTCOME_FEATURES)) {
		FEATURE(WAKES_MADE, FEATURE_COUNT(h->last_wakes_made));
		FEATURE(SLICE_USED, FEATURE_LOG2(w->used_ns) - FEATURE_LOG2(w->granted_ns));
		FEATURE(PREEMPTED, FEATURE_COUNT(h->last_preemptions));
		FEATURE(MIGRATED, FEATURE_COUNT(h->last_migrations));
		FEATURE(MINOR_FAULTS, FEATURE_COUNT(h->last_minor_faults));
		FEATURE(MAJOR_FAULTS, FEATURE_COUNT(h->last_major_faults));
	}
	if (WANTED(TASK_FEATURES)) {
		FEATURE(KTHREAD, flag_q8(w->kthread));
		FEATURE(VOLUNTARY, FEATURE_COUNT(w->voluntary));
		FEATURE(INVOLUNTARY, FEATURE_COUNT(w->involuntary));
		FEATURE(AGE_FORK, FEATURE_LOG2(w->age_fork_ns));
		FEATURE(AGE_EXEC, FEATURE_LOG2(w->age_exec_ns));
		FEATURE(THREADS, FEATURE_COUNT(w->threads));
		FEATURE(WEIGHT, FEATURE_LOG2(w->weight));
	}
	FEATURE(NAME_BURST, w->name_burst_q8);
	FEATURE(PAIR_BURST, w->pair_burst_q8);
	if (WANTED(PLACE_FEATURES)) {
		FEATURE(QUEUE_DEPTH, FEATURE_COUNT(w->nr_waiting));
		FEATURE(CPU_LOAD, FEATURE_LOG2(w->cpu_load_ns));
	}
	if (WANTED(SYSCALL_FEATURES)) {
		FEATURE(SYS_IO, FEATURE_COUNT(w->syscalls[0]));
		FEATURE(SYS_NET, FEATURE_COUNT(w->syscalls[1]));
		FEATURE(SYS_WAIT, FEATURE_COUNT(w->syscalls[2]));
		FEATURE(SYS_SLEEP, FEATURE_COUNT(w->syscalls[3]));
		FEATURE(SYS_FUTEX, FEATURE_COUNT(w->syscalls[4]));
		FEATURE(SYS_MM, FEATURE_COUNT(w->syscalls[5]));
		FEATURE(SYS_PROC, FEATURE_COUNT(w->syscalls[6]));
	}
}

#undef FEATURE
#undef WANTED

/* The sample that a raw one stands for: its columns, with what can be computed of its history, and all features. */
static inline void sample_from_raw(const struct raw_sample *r, struct burst_sample *s)
{
	s16 feature_q8[FEATURE_SLOTS] = {};

#define X(type, name, unit, source, desc) s->name = r->name;
	SCX_ML_COLUMNS(X)
#undef X
	s->avg_q16 = avg_burst_q16(&r->history);
	fill_features(&r->history, &r->wakeup, ALL_FEATURES, feature_q8);
	__builtin_memcpy(s->feature_q8, feature_q8, sizeof(s->feature_q8));
	__builtin_memcpy(s->comm, r->comm, sizeof(s->comm));
	__builtin_memset(s->pad, 0, sizeof(s->pad));
}

#endif /* __SCX_ML_FEATURES_H */
