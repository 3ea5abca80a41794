/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Features: what is known about a task when it wakes, and the history that they come from.
 *
 * A feature is computed only when somebody wants it: all of them for a burst that will be recorded, else those that
 * the model of the task's class uses, if it is asked. History is kept for every burst; it is a few additions.
 */
#ifndef __SCX_ML_FEATURES_BPF_H
#define __SCX_ML_FEATURES_BPF_H

#include <bpf_experimental.h>
#include "samples.bpf.h"

#define ALL_FEATURES (~0ULL)

/* Mean log2 burst by profile_key(), from the process database in user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, PROFILES_MAX);
	__type(key, u32);
	__type(value, s32); /* log2(ns) Q8 */
} profiles SEC(".maps");

/* p's name as two words, and its key. */
static u32 read_name(const struct task_struct *p, u64 name[COMM_LEN / 8])
{
	const u64 *words = (const u64 *)p->comm;

	name[0] = words[0];
	name[1] = words[1];
	return name_key(name[0], name[1]);
}

/* Mean log2 burst of a profile, NULL where it is unknown. */
static s32 *profile_of(u32 name, u32 waker, u32 seen)
{
	u32 key = profile_key(name, waker, seen);

	return bpf_map_lookup_elem(&profiles, &key);
}

static inline s32 flag_q8(bool yes)
{
	return yes ? FEATURE_ONE_Q8 : 0;
}

/*
 * log2_q8() and count_q8() as functions of their own: features need them in some thirty places, and inlined they spread
 * the few features that a model uses over many times the cache lines.
 */
__noinline s32 log2_q8_of(u64 v)
{
	return log2_q8(v);
}

__noinline s32 count_q8_of(u64 n)
{
	return count_q8(n);
}

/* Who wakes p: the task in whose context the wake-up runs, unless that is an interrupt's, the idle task or p itself. */
static struct task_struct *waker_of(struct task_struct *p, bool irq)
{
	struct task_struct *waker = bpf_get_current_task_btf();

	return !irq && waker->pid && waker->pid != p->pid ? waker : NULL;
}

/* Q16 in Q8, as log2_q8() rounds and limits. */
static inline s32 round_q8(s32 q16)
{
	s32 q8 = (q16 + 128) >> 8;

	return q8 > LOG2_MAX_Q8 ? LOG2_MAX_Q8 : q8;
}

/* What bursts that begin like this one take; of the task's bursts in general where there were none yet. */
static s32 kind_burst_q8(const struct task_ctx *tctx)
{
	u32 kind = tctx->kind & (NR_KINDS - 1);

	return tctx->kinds_seen & (1U << kind) ? tctx->kind_burst_q8[kind] : tctx->log_burst_q8;
}

/*
 * The wanted features in two halves, which the compiler is not to join again: a test against an immediate of 32 bits is
 * half of one of 64.
 */
struct wanted {
	u32 lo;
	u32 hi;
};

static inline struct wanted wanted_of(u64 mask)
{
	struct wanted wanted = {.lo = (u32)mask, .hi = (u32)(mask >> 32)};

	barrier_var(wanted.lo);
	barrier_var(wanted.hi);
	return wanted;
}

#define BIT_OF(id) (1ULL << FEATURE_##id)

/* Whether any of these features is wanted. */
#define WANTED(mask) ((wanted.lo & (u32)(mask)) || (wanted.hi & (u32)((mask) >> 32)))

/* A feature's value, if it is wanted. */
#define FEATURE(id, value)                                                                                             \
	do {                                                                                                           \
		if (WANTED(BIT_OF(id)))                                                                                \
			tctx->feature_q8[FEATURE_##id] = (s16)(value);                                                 \
	} while (0)

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
#define TASK_FEATURES                                                                                                  \
	(BIT_OF(KTHREAD) | BIT_OF(VOLUNTARY) | BIT_OF(INVOLUNTARY) | BIT_OF(AGE_FORK) | BIT_OF(AGE_EXEC) |             \
	 BIT_OF(THREADS) | BIT_OF(WEIGHT))
#define PLACE_FEATURES (BIT_OF(QUEUE_DEPTH) | BIT_OF(CPU_LOAD))
#define SYSCALL_FEATURES                                                                                               \
	(BIT_OF(SYS_IO) | BIT_OF(SYS_NET) | BIT_OF(SYS_WAIT) | BIT_OF(SYS_SLEEP) | BIT_OF(SYS_FUTEX) |                 \
	 BIT_OF(SYS_MM) | BIT_OF(SYS_PROC))

/* What tells about the task itself. Its keys must be there, if features of profiles are wanted. */
static __always_inline void fill_own_features(struct task_struct *p, struct task_ctx *tctx, struct wanted wanted,
					      u64 now_ns)
{
	s32 log_burst_q8 = tctx->log_burst_q8;

	FEATURE(LAST_BURST, tctx->seen ? tctx->last_log_q8 : log_burst_q8);
	FEATURE(PREV_BURST, tctx->seen > 1 ? tctx->prev_log_q8 : log_burst_q8);
	FEATURE(AVG_BURST, round_q8(avg_burst_q16(tctx)));
	FEATURE(HALF_BURST, tctx->seen ? log2_q8_of(tctx->half_burst_ns) : log_burst_q8);
	FEATURE(LOG_BURST, log_burst_q8);
	FEATURE(KIND_BURST, kind_burst_q8(tctx));
	FEATURE(BURST_SPREAD, tctx->spread_q8);
	FEATURE(SEEN, count_q8_of(tctx->seen));
	if (WANTED(SLEEP_FEATURES)) {
		FEATURE(LAST_SLEEP, log2_q8_of(tctx->last_sleep_ns));
		FEATURE(AVG_SLEEP, log2_q8_of(tctx->avg_sleep_ns));
		FEATURE(LAST_WAIT, log2_q8_of(tctx->last_wait_ns));
		FEATURE(AVG_WAIT, log2_q8_of(tctx->avg_wait_ns));
		FEATURE(IO_WAIT, flag_q8(tctx->io_wait));
		FEATURE(BLOCK_IO, log2_q8_of(tctx->last_block_io_ns));
	}
	if (WANTED(OUTCOME_FEATURES)) {
		FEATURE(WAKES_MADE, count_q8_of(tctx->last_wakes_made));
		FEATURE(SLICE_USED, log2_q8_of(tctx->used_ns) - log2_q8_of(tctx->granted_ns));
		FEATURE(PREEMPTED, count_q8_of(tctx->last_preemptions));
		FEATURE(MIGRATED, count_q8_of(tctx->last_migrations));
		FEATURE(MINOR_FAULTS, count_q8_of(tctx->last_minor_faults));
		FEATURE(MAJOR_FAULTS, count_q8_of(tctx->last_major_faults));
	}
	if (WANTED(TASK_FEATURES)) {
		FEATURE(KTHREAD, flag_q8(p->flags & PF_KTHREAD));
		FEATURE(VOLUNTARY, count_q8_of(p->nvcsw));
		FEATURE(INVOLUNTARY, count_q8_of(p->nivcsw));
		if (WANTED(BIT_OF(AGE_FORK) | BIT_OF(AGE_EXEC))) {
			u64 age_ns = saturating_sub(bpf_ktime_get_ns(), p->start_time);

			FEATURE(AGE_FORK, log2_q8_of(age_ns));
			FEATURE(AGE_EXEC, log2_q8_of(tctx->exec_ns ? saturating_sub(now_ns, tctx->exec_ns) : age_ns));
		}
		FEATURE(THREADS, count_q8_of(p->signal->nr_threads));
		FEATURE(WEIGHT, log2_q8_of(p->scx.weight));
	}
	if (WANTED(PROFILE_FEATURES)) {
		s32 *pair_q8 = NULL, *name_q8 = NULL;

		if (WANTED(BIT_OF(PAIR_BURST)))
			pair_q8 = profile_of(tctx->name_key, tctx->waker_name_key, tctx->seen);
		if (!pair_q8 || WANTED(BIT_OF(NAME_BURST)))
			name_q8 = profile_of(tctx->name_key, 0, tctx->seen);
		FEATURE(NAME_BURST, name_q8 ? *name_q8 : log_burst_q8);
		FEATURE(PAIR_BURST, pair_q8 ? *pair_q8 : name_q8 ? *name_q8 : log_burst_q8);
	}
	if (WANTED(SYSCALL_FEATURES)) {
		FEATURE(SYS_IO, count_q8_of(tctx->syscalls[0]));
		FEATURE(SYS_NET, count_q8_of(tctx->syscalls[1]));
		FEATURE(SYS_WAIT, count_q8_of(tctx->syscalls[2]));
		FEATURE(SYS_SLEEP, count_q8_of(tctx->syscalls[3]));
		FEATURE(SYS_FUTEX, count_q8_of(tctx->syscalls[4]));
		FEATURE(SYS_MM, count_q8_of(tctx->syscalls[5]));
		FEATURE(SYS_PROC, count_q8_of(tctx->syscalls[6]));
	}
}

/* What tells about the wake-up: who, and where. waker may be NULL; here is the CPU that executes this. */
static __always_inline void fill_wakeup_features(struct task_struct *p, struct task_ctx *tctx,
						 struct task_struct *waker, struct cpu_ctx *here, bool sync,
						 struct wanted wanted, u64 now_ns)
{
	if (WANTED(WAKER_FEATURES)) {
		struct task_ctx *wctx = NULL;
		u64 ran_ns = 0;

		if (waker && WANTED(WAKER_TASK_FEATURES))
			wctx = bpf_task_storage_get(&task_ctxs, waker, 0, 0);
		/* se.sum_exec_runtime of a running task is as old as the last tick; the CPU knows when it was put there. */
		if (wctx && here && here->run_start_ns)
			ran_ns = here->burst_before_ns + saturating_sub(now_ns, here->run_start_ns);

		FEATURE(WAKER_BURST, wctx ? wctx->log_burst_q8 : tctx->log_burst_q8);
		FEATURE(WAKER_RAN, log2_q8_of(ran_ns));
		FEATURE(WAKER_PRED, wctx && (wctx->model_generation || wctx->spared) ? wctx->pred_q16 >> 8 : 0);
		FEATURE(WAKER_NONE, flag_q8(!wctx));
		FEATURE(WAKER_KIN, flag_q8(waker && waker->tgid == p->tgid));
		FEATURE(SYNC_WAKE, flag_q8(sync));
	}
	if (WANTED(PLACE_FEATURES)) {
		struct cpu_ctx *cctx = cpu_ctx_of(scx_bpf_task_cpu(p));
		u64 start_ns;

		if (!cctx)
			return;
		start_ns = READ_ONCE(cctx->run_start_ns);
		FEATURE(QUEUE_DEPTH, count_q8_of(cctx->nr_waiting));
		FEATURE(CPU_LOAD, start_ns ? log2_q8_of(cctx->burst_before_ns + saturating_sub(now_ns, start_ns)) : 0);
	}
}

/* As far as they matter here, for kernels (and their vmlinux.h) that are built without CONFIG_TASK_DELAY_ACCT. */
struct task_delay_info___ml {
	u64 blkio_delay;
} __attribute__((preserve_access_index));

struct task_struct___ml {
	struct task_delay_info___ml *delays;
} __attribute__((preserve_access_index));

/* How long p waited for block I/O, where the kernel can account delays and does. */
static void note_block_io(struct task_struct *p, struct task_ctx *tctx)
{
	struct task_struct___ml *with_delays = (void *)p;
	struct task_delay_info___ml *delays;
	u64 delay_ns;

	if (!bpf_core_field_exists(with_delays->delays))
		return;
	delays = with_delays->delays;
	if (!delays)
		return;
	delay_ns = delays->blkio_delay;
	tctx->last_block_io_ns = delay_ns - tctx->block_io_ns;
	tctx->block_io_ns = delay_ns;
}

/* What a wake-up adds to the history. */
static void note_wakeup(struct task_struct *p, struct task_ctx *tctx, u64 now_ns)
{
	if (tctx->blocked_ns) {
		tctx->last_sleep_ns = saturating_sub(now_ns, tctx->blocked_ns);
		tctx->avg_sleep_ns = avg_quarter(tctx->avg_sleep_ns, tctx->last_sleep_ns);
	}
	if (tctx->exec_id != p->self_exec_id) {
		/* What was there before we looked is not news. */
		tctx->exec_ns = tctx->seen ? now_ns : 0;
		tctx->exec_id = p->self_exec_id;
	}
	tctx->minor_faults = p->min_flt;
	tctx->major_faults = p->maj_flt;
	note_block_io(p, tctx);
}

/* Halve the counts, after a wake-up has seen them: the calls of the last burst count most. */
static void decay_syscalls(struct task_ctx *tctx)
{
	u64 fours[2];

	/* Four counts a word; without --syscalls there are none. */
	__builtin_memcpy(fours, tctx->syscalls, sizeof(fours));
	if (!(fours[0] | fours[1]))
		return;
	fours[0] = fours[0] >> 1 & 0x7fff7fff7fff7fffULL;
	fours[1] = fours[1] >> 1 & 0x7fff7fff7fff7fffULL;
	__builtin_memcpy(tctx->syscalls, fours, sizeof(fours));
}

/* Judge a predictor on a task, which it missed by off_q8. */
static inline void judge(s32 *err_q8, u8 *judged, s32 off_q8)
{
	*err_q8 = task_error_q8(*err_q8, *judged, off_q8);
	if (*judged < 255)
		(*judged)++;
}

/* What a burst adds to what is known of those that begin like it. */
static void note_kind(struct task_ctx *tctx, u32 kind, s32 label_q8)
{
	s32 avg_q8 = tctx->kind_burst_q8[kind], last_q8 = tctx->kind_last_q8[kind];

	tctx->kind_last_q8[kind] = label_q8;
	if (!(tctx->kinds_seen & (1U << kind))) {
		tctx->kinds_seen |= 1U << kind;
		tctx->kind_burst_q8[kind] = label_q8;
	} else if (is_new_start(avg_q8, last_q8, label_q8)) {
		/* As if there had been nothing before the last burst. */
		tctx->kind_burst_q8[kind] = (last_q8 + label_q8) >> 1;
		tctx->err_kind_q8 = task_error_q8(FEATURE_ONE_Q8, 0, label_q8 - last_q8);
		tctx->judged_kind = 1;
	} else {
		tctx->kind_burst_q8[kind] = avg_quarter_s32(avg_q8, label_q8);
		judge(&tctx->err_kind_q8, &tctx->judged_kind, label_q8 - avg_q8);
	}
}

/* What a burst that ends adds to the history. */
static void note_burst(struct task_struct *p, struct task_ctx *tctx, u64 burst_ns, s32 label_q8, u64 now_ns)
{
	s32 off_q8 = label_q8 - tctx->log_burst_q8;

	if (tctx->seen) {
		tctx->avg_burst_ns = avg_quarter(tctx->avg_burst_ns, burst_ns);
		tctx->half_burst_ns = avg_half(tctx->half_burst_ns, burst_ns);
		tctx->log_burst_q8 = avg_quarter_s32(tctx->log_burst_q8, label_q8);
		tctx->spread_q8 = avg_quarter_s32(tctx->spread_q8, off_q8 < 0 ? -off_q8 : off_q8);
	} else {
		tctx->avg_burst_ns = burst_ns;
		tctx->half_burst_ns = burst_ns;
		tctx->log_burst_q8 = label_q8;
	}
	note_kind(tctx, tctx->kind & (NR_KINDS - 1), label_q8);
	tctx->prev_burst_ns = tctx->last_burst_ns;
	tctx->last_burst_ns = burst_ns;
	tctx->prev_log_q8 = tctx->last_log_q8;
	tctx->last_log_q8 = label_q8 > LOG2_MAX_Q8 ? LOG2_MAX_Q8 : label_q8;
	tctx->last_wait_ns = tctx->wait_ns;
	tctx->avg_wait_ns = avg_quarter(tctx->avg_wait_ns, tctx->wait_ns);
	tctx->last_preemptions = tctx->preemptions;
	tctx->last_migrations = tctx->migrations;
	tctx->last_wakes_made = tctx->wakes_made;
	tctx->last_minor_faults = saturating_sub(p->min_flt, tctx->minor_faults);
	tctx->last_major_faults = saturating_sub(p->maj_flt, tctx->major_faults);
	tctx->io_wait = p->in_iowait;
	tctx->blocked_ns = now_ns;
	if (tctx->seen < ~0U)
		tctx->seen++;
}

/* A new task: what its parent does is the best guess at what it will do. */
static void init_history(struct task_struct *p, struct task_ctx *tctx, struct task_struct *parent)
{
	struct task_ctx *pctx = parent ? bpf_task_storage_get(&task_ctxs, parent, 0, 0) : NULL;

	tctx->log_burst_q8 = pctx && pctx->seen ? pctx->log_burst_q8 : PRIOR_BURST_Q8;
	/* Not to be trusted before it has shown itself. */
	tctx->err_model_q8 = FEATURE_ONE_Q8;
	tctx->err_kind_q8 = FEATURE_ONE_Q8;
	tctx->exec_id = p->self_exec_id;
	tctx->last_cpu = -1;
}

/*
 * Any system call. Loaded only with --syscalls, because it costs every one of them. `current` is the caller.
 */
SEC("raw_tp/sys_enter")
int BPF_PROG(ml_sys_enter, struct pt_regs *regs, long id)
{
	struct task_ctx *tctx;
	u32 class;

	if (id < 0 || id >= (long)sizeof(syscall_class))
		return 0;
	class = syscall_class[id];
	if (!class)
		return 0;
	tctx = bpf_task_storage_get(&task_ctxs, bpf_get_current_task_btf(), 0, 0);
	class = (class - 1) & 7;
	if (tctx && tctx->syscalls[class] < 0xffff)
		tctx->syscalls[class]++;
	return 0;
}

#endif /* __SCX_ML_FEATURES_BPF_H */
