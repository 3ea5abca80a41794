/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The model's mathematics in integers: log2, exp2 and the prediction.
 *
 * Pure C without helpers, maps, floating point or division: the same text is compiled for BPF and for the host, where
 * unit and property tests call it (src/kernel/native.rs). Every function is total: any input, however absurd, gives a
 * result inside the stated range.
 */
#ifndef __SCX_ML_MODEL_H
#define __SCX_ML_MODEL_H

#include "intf.h"

#define TIMES_16(x) x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x
#define TIMES_64(x) TIMES_16(x), TIMES_16(x), TIMES_16(x), TIMES_16(x)

/*
 * floor(log2(v)) for v > 0: its highest byte by halving, the rest from a table. 0 for v == 0.
 *
 * The empty asm keeps the compiler from turning each step into two selects, for which BPF has no instruction: it would
 * make two branches of each.
 */
static inline u32 ilog2_u64(u64 v)
{
	static const u8 byte_log2[256] = {
		0, 0, 1, 1, 2, 2,           2,           2,           3,           3,           3,
		3, 3, 3, 3, 3, TIMES_16(4), TIMES_16(5), TIMES_16(5), TIMES_64(6), TIMES_64(7), TIMES_64(7),
	};
	u32 r = 0;

	if (v >> 32) {
		v >>= 32;
		r = 32;
		asm volatile("" : "+r"(v));
	}
	if (v >> 16) {
		v >>= 16;
		r += 16;
		asm volatile("" : "+r"(v));
	}
	if (v >> 8) {
		v >>= 8;
		r += 8;
		asm volatile("" : "+r"(v));
	}
	return r + byte_log2[v & 255];
}

/*
 * log2(v) in Q16; log2(0) is taken as 0. Range [0, 64 << 16). Absolute error below 0.0011.
 *
 * With v = 2^e * (1 + f), 0 <= f < 1, log2(1 + f) is approximated by f + f(1-f)(a - b*f): exact at both ends, so the
 * result is continuous and monotonic over powers of two. a and b minimise the largest error.
 */
static inline u32 log2_q16(u64 v)
{
	u32 e, f;
	u64 bow;

	if (v < 2)
		return 0;

	e = ilog2_u64(v);
	/* The mantissa below the leading one, in Q16. */
	f = v << (63 - e) >> 47 & 0xffff;
	/* a = 0.42287, b = 0.15922 in Q16 */
	bow = ((u64)f * (0x10000 - f)) >> 16;
	bow = (bow * (27713 - ((10435ULL * f) >> 16))) >> 16;
	return (e << 16) + f + (u32)bow;
}

/* log2(v) in Q8, rounded. Range [0, LOG2_MAX_Q8]. */
static inline s32 log2_q8(u64 v)
{
	u32 q8 = (log2_q16(v) + 128) >> 8;

	return q8 > LOG2_MAX_Q8 ? LOG2_MAX_Q8 : (s32)q8;
}

/* log2_q8(n + 1) for a count, most of which are small: looked up rather than computed. */
static inline s32 count_q8(u64 n)
{
	static const s16 small_q8[32] = {
		0,    256,  406,  512,  594,  662,  719,  768,  811,  850,  886,  918,  947,  975,  1000, 1024,
		1046, 1067, 1087, 1106, 1125, 1142, 1158, 1174, 1189, 1203, 1217, 1231, 1243, 1256, 1268, 1280,
	};

	return n < 32 ? small_q8[n] : log2_q8(n + 1);
}

/*
 * 2^x for x in Q16, rounded down. 1 for x <= 0, saturates at 2^40 (about 18 minutes in ns). Relative error below
 * 0.02 %, and one where the result is small.
 *
 * 2^f is approximated by 1 + f - f(1-f)(a - b*f), the counterpart of log2_q16().
 */
static inline u64 exp2_q16(s64 x_q16)
{
	u64 f, bow, mant;
	u32 e;

	if (x_q16 <= 0)
		return 1;
	if (x_q16 >= (40LL << 16))
		return 1ULL << 40;

	e = (u32)(x_q16 >> 16) & 63;
	f = (u64)x_q16 & 0xffff;
	/* a = 0.30455, b = -0.07833 in Q16 */
	bow = (f * (0x10000 - f)) >> 16;
	bow = (bow * (19959 + ((5133ULL * f) >> 16))) >> 16;
	mant = 0x10000 + f - bow;
	return mant << e >> 16;
}

/* x limited to [lo, hi]. */
static inline s64 clamp_s64(s64 x, s64 lo, s64 hi)
{
	return x < lo ? lo : x > hi ? hi : x;
}

/*
 * Predicted log2(burst in ns) in Q16 from features in Q8. Range [0, LOG2_MAX_Q8 << 8].
 *
 * The sum is exact in s64, whatever the coefficients: |coef| is at most 2^31, |feature| 2^15, so each of the 2^4 products
 * stays below 2^46, and the intercept is limited. User space publishes none beyond COEF_LIMIT_Q16.
 */
static inline s32 linear_predict_q16(const struct linear *m, const s16 feature_q8[FEATURE_SLOTS])
{
	const s64 intercept_max_q24 = 1LL << 40;
	s64 sum_q24 = clamp_s64(m->intercept_q24, -intercept_max_q24, intercept_max_q24);

#ifdef __clang__
	/* Half of the loop is its own counting otherwise. */
#pragma unroll
#endif
	for (u32 i = 0; i < MODEL_TERMS; i++) {
		if (i >= m->nr_terms)
			break;
		sum_q24 += (s64)m->coef_q16[i] * feature_q8[m->feature[i] & (FEATURE_SLOTS - 1)];
	}

	return (s32)clamp_s64(sum_q24 >> 8, 0, (s64)LOG2_MAX_Q8 << 8);
}

/* The model of the bank that a task belongs to. */
static inline u32 task_class(bool kthread, u32 seen, s32 log_burst_q8)
{
	if (kthread)
		return CLASS_KTHREAD;
	if (seen < YOUNG_BURSTS)
		return CLASS_YOUNG;
	return log_burst_q8 < BATCH_LOG2_Q8 ? CLASS_INTERACTIVE : CLASS_BATCH;
}

/*
 * A task's name in 32 bits: lo and hi are the 16 bytes of comm, zero behind the end as the kernel keeps them. Two
 * rounds of multiply and fold; a collision mixes two profiles, which costs accuracy and nothing else.
 */
static inline u32 name_key(u64 lo, u64 hi)
{
	u64 h = lo * 0x9e3779b97f4a7c15ULL;

	h = (h ^ (h >> 29) ^ hi) * 0xbf58476d1ce4e5b9ULL;
	return (u32)(h >> 32);
}

/*
 * Key of a profile in the process database: a name at a stage of life, woken by a name (waker 0: by anybody). The first
 * bursts of a short-lived program are told apart one by one: its start is not like its work.
 */
static inline u32 profile_key(u32 name, u32 waker, u32 seen)
{
	u32 stage = seen < YOUNG_BURSTS ? seen : YOUNG_BURSTS;
	u64 h = ((u64)waker << 32 | name) + stage * 0x9e3779b97f4a7c15ULL;

	h = (h ^ (h >> 31)) * 0x94d049bb133111ebULL;
	return (u32)(h >> 32);
}

/* (3 * old + new) / 4, the moving average with weight 1/4 that sched_ext schedulers use. */
static inline u64 avg_quarter(u64 old, u64 new)
{
	return old - (old >> 2) + (new >> 2);
}

/* (old + new) / 2, a moving average that forgets faster. */
static inline u64 avg_half(u64 old, u64 new)
{
	return (old >> 1) + (new >> 1);
}

/* avg_quarter() for a signed value in fixed point, without the bias of shifting negatives. */
static inline s32 avg_quarter_s32(s32 old, s32 new)
{
	return old + (new - old) / 4;
}

/*
 * A predictor's mean |error| on one task, after one more. It begins with the prior, an octave, and the first error counts
 * as much as that: a predictor that was right once, where it might have been far off, has earned some trust. Later ones
 * have weight 1/4. judged: errors so far.
 */
static inline s32 task_error_q8(s32 err_q8, u32 judged, s32 off_q8)
{
	off_q8 = off_q8 < 0 ? -off_q8 : off_q8;
	return judged ? avg_quarter_s32(err_q8, off_q8) : (err_q8 + off_q8) / 2;
}

/*
 * By how much the model has been nearer to a task's bursts than their kind's average lately, after one more burst that it was nearer
 * to by nearer_q8 octaves. It begins with 0, and each has weight 1/8.
 */
static inline s32 task_gain_q16(s32 gain_q16, s32 nearer_q8)
{
	return gain_q16 + (nearer_q8 * 256 - gain_q16) / 8;
}

/*
 * How a burst begins: 0, by nobody (an interrupt: a timeout is not like a request), else by whom, as far as the few slots
 * of a hash tell wakers apart. waker_pid: 0 for nobody.
 */
static inline u32 burst_kind(u32 waker_pid)
{
	return waker_pid ? 1 + (((waker_pid * 0x9e3779b1U) >> 16) * (NR_KINDS - 1) >> 16) : 0;
}

/*
 * Whether a task does something new: this burst is like the last one, to half an octave, but not like the moving average,
 * by more than one. A moving average of logarithms takes a dozen bursts to forget what came before: a thread's start, or
 * another phase.
 */
static inline bool is_new_start(s32 avg_q8, s32 last_q8, s32 label_q8)
{
	s32 off_q8 = label_q8 - avg_q8, step_q8 = label_q8 - last_q8;

	return step_q8 <= 128 && step_q8 >= -128 && (off_q8 > 256 || off_q8 < -256);
}

/* A burst is sampled or not by the lowest bits of 32 random ones, and sends a record or not by the next. */
#define KEEP_SHIFT_MAX 16
#define THIN_SHIFT_MAX 15

/* Whether a burst is one of those of which one in 2^keep_shift is sampled. */
static inline bool sample_kept(u32 keep_shift, u32 random)
{
	return !(random & ((1U << (keep_shift & 31)) - 1));
}

/*
 * How many bursts the record of one that is sampled stands for, where of those one in 2^thin_shift sends a record; 0: this
 * one does not.
 */
static inline u32 sample_repeat(u32 keep_shift, u32 thin_shift, u32 random)
{
	u32 shift = (keep_shift & 31) + (thin_shift & THIN_SHIFT_MAX);

	return sample_kept(shift, random) ? 1U << (shift & 31) : 0;
}

/* Errors to have seen before the watch judges, and the weight of the newest in its running means. */
#define WATCH_MIN_COUNT 256
#define WATCH_SHIFT 8

/* The watch has a class change its predictor at most once in so long. */
#define WATCH_REST_NS 10000000000ULL

/*
 * Take one burst's errors (|log2 error| in Q8) into a class's watch, and decide whether the kind's average takes over: it
 * does when the model errs by an eighth more than that average, and the model comes back when it errs less. The
 * gap between the two, and a rest after each change, keep it from flapping: user space decides by a test, this is for
 * when it is too slow. Errors are limited to 40 octaves each, so that one absurd value does not decide. Concurrent
 * updates may lose one; the means hardly notice.
 *
 * A model of a new generation comes with a margin that was measured just now: what the old one was corrected by is in there.
 */
static inline void watch_add(struct watch *w, u64 generation, s64 err_model_q8, s64 err_avg_q8, u64 now_ns)
{
	s32 model = (s32)clamp_s64(err_model_q8, 0, LOG2_MAX_Q8), avg = (s32)clamp_s64(err_avg_q8, 0, LOG2_MAX_Q8);

	if (w->count == 0) {
		/* In Q8 << WATCH_SHIFT, so that small errors do not vanish in the shift. */
		w->err_model_q8 = model << WATCH_SHIFT;
		w->err_avg_q8 = avg << WATCH_SHIFT;
	} else {
		w->err_model_q8 += model - (w->err_model_q8 >> WATCH_SHIFT);
		w->err_avg_q8 += avg - (w->err_avg_q8 >> WATCH_SHIFT);
	}
	if (generation > w->generation) {
		w->generation = generation;
		w->margin_shift_q16 = 0;
	}
	if (w->count < WATCH_MIN_COUNT) {
		w->count++;
		return;
	}
	if (w->changed_ns && now_ns - w->changed_ns < WATCH_REST_NS)
		return;
	if (!w->fallback && w->err_model_q8 - (w->err_model_q8 >> 3) > w->err_avg_q8) {
		w->fallback = 1;
		w->fallbacks++;
		w->changed_ns = now_ns;
	} else if (w->fallback && w->err_model_q8 < w->err_avg_q8) {
		w->fallback = 0;
		w->returns++;
		w->changed_ns = now_ns;
	}
}

/* Each burst above its quantile moves the next ones up by 19 steps, each below it down by one: in balance at 95 %. */
#define MARGIN_STEP_Q16 1024
#define MARGIN_MISS_STEPS 19
#define MARGIN_SHIFT_MIN_Q16 (-(4 << 16))
#define MARGIN_SHIFT_MAX_Q16 (8 << 16)

/*
 * Keep a class's upper quantile honest, the model's or the average's: its margin was measured before, and the load has gone
 * on since. Adaptive conformal inference (Gibbs and Candes 2021): whatever the load does, in the long run 95 % of the
 * bursts stay below the quantile. shift_q16: what its margin was corrected by; the result is what it is to be now. Racing
 * updates may lose a step.
 */
static inline s32 watch_quantile(s32 shift_q16, bool above)
{
	s64 shift = (s64)shift_q16 + (above ? MARGIN_MISS_STEPS * MARGIN_STEP_Q16 : -MARGIN_STEP_Q16);

	return (s32)clamp_s64(shift, MARGIN_SHIFT_MIN_Q16, MARGIN_SHIFT_MAX_Q16);
}

/* The margin of a model's upper quantile, as the watch has found it to be. Range [0, LOG2_MAX_Q8 << 8]. */
static inline s32 watched_margin_q16(s32 margin_q16, s32 margin_shift_q16)
{
	return (s32)clamp_s64((s64)margin_q16 + margin_shift_q16, 0, (s64)LOG2_MAX_Q8 << 8);
}

/*
 * The margin of the kind's average's upper quantile: so many times its mean |error| on the task, of one task in hundredths of
 * an octave and of another in octaves. Twice, until the watch has found what it is; an eighth at least, or it would not be
 * moved by bursts above it. Range [0, LOG2_MAX_Q8 << 8].
 */
static inline s32 average_margin_q16(s32 err_q8, s32 average_shift_q16)
{
	s64 times_q16 = (2 << 16) + (s64)average_shift_q16;

	if (times_q16 < 1 << 13)
		times_q16 = 1 << 13;
	return (s32)clamp_s64(err_q8 * times_q16 >> 8, 0, (s64)LOG2_MAX_Q8 << 8);
}

#endif /* __SCX_ML_MODEL_H */
