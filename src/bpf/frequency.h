/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * CPUs that are not all as fast, or not always: how busy one is and how fast it should be, and what a burst's length on one of
 * them means on another.
 *
 * Pure integer C without helpers, maps or division, compiled for BPF and for the host (see model.h). Performance and capacity
 * are in 1024ths of the fastest CPU at its highest frequency, as everywhere in the kernel.
 */
#ifndef __SCX_ML_FREQUENCY_H
#define __SCX_ML_FREQUENCY_H

#include "intf.h"
#include "model.h"

#define PERF_ONE_SHIFT 10
#define PERF_ONE (1U << PERF_ONE_SHIFT)

/*
 * Utilisation: which part of the fastest CPU's time the work of late would take, by an average that forgets half of what it
 * knows within 2^25 ns. That is the kernel's own half-life, 32 ms, for the fair class.
 */
#define POLICY_UTIL_HALF_LIFE_SHIFT 25
#define POLICY_UTIL_HALF_LIFE_NS (1ULL << POLICY_UTIL_HALF_LIFE_SHIFT)
#define POLICY_UTIL_FULL_Q10 (PERF_ONE << 10)

/* Busy time is gathered for so long before the average moves: it moves by powers of two, which not every switch is to pay for. */
#define POLICY_UTIL_FOLD_NS (1 * SCX_ML_NSEC_PER_MSEC)

/* v after so long without anything new: v / 2^(ns / half-life). */
static inline u32 policy_util_decayed(u32 v, u64 ns)
{
	u64 part_q16;

	if (ns >> (POLICY_UTIL_HALF_LIFE_SHIFT + 5))
		return 0;
	/* 2^(16 - x) and not 2^-x, whose logarithm would be below 0; at most 2^16. */
	part_q16 = exp2_q16((16LL << 16) - (s64)(ns >> (POLICY_UTIL_HALF_LIFE_SHIFT - 16)));
	return (v * part_q16) >> 16;
}

/*
 * Utilisation after a span of which a CPU was busy for busy_ns, at this performance, and then idle. A busy CPU that is slow
 * does less than it could: it counts as what it does, and its utilisation says what frequency it needs, not what share of its
 * time went by.
 */
static inline u32 policy_util_after(u32 util_q10, u64 span_ns, u64 busy_ns, u32 perf)
{
	u32 full_q10 = (perf > PERF_ONE ? PERF_ONE : perf) << 10;

	if (util_q10 > POLICY_UTIL_FULL_Q10)
		util_q10 = POLICY_UTIL_FULL_Q10;
	if (busy_ns > span_ns)
		busy_ns = span_ns;
	if (util_q10 < full_q10)
		util_q10 = full_q10 - policy_util_decayed(full_q10 - util_q10, busy_ns);
	else
		util_q10 = full_q10 + policy_util_decayed(util_q10 - full_q10, busy_ns);
	return policy_util_decayed(util_q10, span_ns - busy_ns);
}

/* A burst that has run for a half-life goes on at full speed: the average alone would take as long again and again to get there. */
#define POLICY_FULL_SPEED_NS POLICY_UTIL_HALF_LIFE_NS

/*
 * How fast a CPU with this utilisation should be, whose running task is in a burst of burst_ns. Without headroom: that is added
 * by the governor, a quarter, to whatever it is told.
 */
static inline u32 policy_cpuperf_target(u32 util_q10, u64 burst_ns)
{
	u32 target = (util_q10 + (1U << 9)) >> 10;

	return burst_ns >= POLICY_FULL_SPEED_NS || target > PERF_ONE ? PERF_ONE : target;
}

/* The least difference and time between two targets that a CPU is told; full speed comes at once. */
#define POLICY_CPUPERF_STEP (PERF_ONE / 32)
#define POLICY_CPUPERF_MIN_NS (4 * SCX_ML_NSEC_PER_MSEC)

/* Whether a CPU whose target was `last` since since_ns is told another. */
static inline bool policy_sets_cpuperf(u32 last, u32 target, u64 since_ns)
{
	u32 apart = target > last ? target - last : last - target;

	if (target == PERF_ONE)
		return last != PERF_ONE;
	return apart >= POLICY_CPUPERF_STEP && since_ns >= POLICY_CPUPERF_MIN_NS;
}

/*
 * A burst's length is what it would take on a CPU of capacity 1024, so that a task has one length wherever it runs. Virtual
 * time is not scaled: what a task has of a slow CPU, another has not.
 */

/* Time on a CPU of this capacity as a burst's length. */
static inline u64 policy_scaled_ns(u64 ns, u32 capacity)
{
	return capacity && capacity < PERF_ONE ? ns * capacity >> PERF_ONE_SHIFT : ns;
}

/*
 * The other way round: how long a CPU takes for that. slowness_q10: 1024 / capacity, which user space has divided; limited, as
 * the time, so that no product overflows.
 */
#define POLICY_SLOWNESS_MAX_Q10 (PERF_ONE << 6)

static inline u64 policy_unscaled_ns(u64 ns, u32 slowness_q10)
{
	if (slowness_q10 <= PERF_ONE)
		return ns;
	if (slowness_q10 > POLICY_SLOWNESS_MAX_Q10)
		slowness_q10 = POLICY_SLOWNESS_MAX_Q10;
	if (ns > 1ULL << 40)
		ns = 1ULL << 40;
	return ns * slowness_q10 >> PERF_ONE_SHIFT;
}

/* The first quantum of a burst on such a CPU: what is left of it takes longer there. */
static inline u64 policy_unscaled_quantum_ns(u64 quantum_ns, u64 burst_before_ns, u32 slowness_q10)
{
	return quantum_ns <= burst_before_ns
		       ? quantum_ns
		       : burst_before_ns + policy_unscaled_ns(quantum_ns - burst_before_ns, slowness_q10);
}

/*
 * Whether a task that wakes goes to an idle CPU of the highest capacity before any other: if it is predicted, by whoever
 * steers, to take longer than a first quantum. The rest ends soon enough on any, and need not wake a big one.
 */
static inline bool policy_wants_big(bool steered, s32 pred_q16, u64 first_quantum_ns)
{
	return steered && exp2_q16(pred_q16) > first_quantum_ns;
}

#endif /* __SCX_ML_FREQUENCY_H */
