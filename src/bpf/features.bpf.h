/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is known about a task when it wakes: its history, and the features that the model of its class uses.
 *
 * Both are kept raw (history.h). History is kept for every burst; it is a few additions. What the moment of a wake-up tells is
 * noted if a model asks for it, or if the burst will be recorded: then all of it, and user space makes the features of it.
 */
#ifndef __SCX_ML_FEATURES_BPF_H
#define __SCX_ML_FEATURES_BPF_H

#include <bpf_experimental.h>
#include "samples.bpf.h"

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

/* Mean log2 burst of a profile by its key, `otherwise` where it is unknown. told: what was said of it last. */
static s32 profile_q8(struct told *told, u32 key, s32 otherwise, u64 now_ns)
{
	if (told->key != key || now_ns - told->asked_ns >= PROFILE_REST_NS) {
		s32 *burst_q8 = bpf_map_lookup_elem(&profiles, &key);

		told->asked_ns = now_ns;
		told->key = key;
		told->burst_q8 = burst_q8 ? *burst_q8 : PROFILE_UNKNOWN;
	}
	return told->burst_q8 == PROFILE_UNKNOWN ? otherwise : told->burst_q8;
}

/* Who wakes p: the task in whose context the wake-up runs, unless that is an interrupt's, the idle task or p itself. */
static struct task_struct *waker_of(struct task_struct *p, bool irq)
{
	struct task_struct *waker = bpf_get_current_task_btf();

	return !irq && waker->pid && waker->pid != p->pid ? waker : NULL;
}

/* What bursts that begin like this one take; of the task's bursts in general where there were none yet. */
static s32 kind_burst_q8(const struct task_ctx *tctx)
{
	u32 kind = tctx->kind & (NR_KINDS - 1);

	return tctx->kinds_seen & (1U << kind) ? tctx->kind_burst_q8[kind] : tctx->history.log_burst_q8;
}

/*
 * What a task that wakes others tells of its own burst, log2(ns) Q8: what was predicted, or expected where no model was
 * asked; 0: nothing.
 */
static inline s32 told_pred_q8(const struct task_ctx *tctx)
{
	return tctx->model_generation || tctx->spared ? tctx->pred_q16 >> 8 : 0;
}

__noinline int features_of(struct task_ctx *tctx, u64 wanted)
{
	if (!tctx)
		return 0;
	fill_features(&tctx->history, &tctx->wakeup, wanted, tctx->feature_q8);
	return 0;
}

/* What the process database says of a task and its waker, by their names; of its bursts in general where it says nothing. */
__noinline int ask_profiles(struct task_ctx *tctx, u64 now_ns)
{
	struct wakeup *w;
	u32 seen;

	if (!tctx)
		return 0;
	w = &tctx->wakeup;
	seen = tctx->history.seen;
	w->name_burst_q8 =
		profile_q8(&tctx->told_name, profile_key(tctx->name_key, 0, seen), tctx->history.log_burst_q8, now_ns);
	w->pair_burst_q8 = profile_q8(&tctx->told_pair, profile_key(tctx->name_key, tctx->waker_name_key, seen),
				      w->name_burst_q8, now_ns);
	return 0;
}

/* Note the names of p and of waker, which wakes it, and what is known of such. */
static void note_names(struct task_struct *p, struct task_ctx *tctx, struct task_struct *waker, u64 now_ns)
{
	u64 name[COMM_LEN / 8];

	tctx->name_key = read_name(p, tctx->name);
	tctx->waker_name_key = waker ? read_name(waker, name) : 0;
	ask_profiles(tctx, now_ns);
}

/* What is known of who wakes the task; waker may be NULL. As a rule it is what here, its CPU, has put there itself. */
static void note_waker(struct task_ctx *tctx, struct task_struct *waker, struct cpu_ctx *here, u64 now_ns)
{
	struct wakeup *w = &tctx->wakeup;
	struct task_ctx *wctx;

	w->waker_ran_ns = 0;
	if (waker && here && here->run_start_ns && here->runs_pid == waker->pid) {
		w->waker_none = false;
		w->waker_burst_q8 = here->runs_burst_q8;
		w->waker_pred_q8 = here->runs_pred_q8;
		/* se.sum_exec_runtime of a running task is as old as the last tick; the CPU knows when it was put there. */
		w->waker_ran_ns = here->burst_before_ns + saturating_sub(now_ns, here->run_start_ns);
		return;
	}
	wctx = waker ? bpf_task_storage_get(&task_ctxs, waker, 0, 0) : NULL;
	w->waker_none = !wctx;
	w->waker_burst_q8 = wctx ? wctx->history.log_burst_q8 : tctx->history.log_burst_q8;
	w->waker_pred_q8 = wctx ? told_pred_q8(wctx) : 0;
}

/*
 * What `wanted` features need of a wake-up of p, by waker (NULL: an interrupt or the idle task); here is the CPU that
 * executes this. Ages need the clock: see note_ages().
 */
static void note_facts(struct task_struct *p, struct task_ctx *tctx, struct task_struct *waker, struct cpu_ctx *here,
		       bool sync, u64 wanted, u64 now_ns)
{
	struct wakeup *w = &tctx->wakeup;

	w->kind_burst_q8 = tctx->avg_pred_q16 >> 8;
	w->used_ns = tctx->used_ns;
	w->granted_ns = tctx->granted_ns;
	w->kthread = !!(p->flags & PF_KTHREAD);
	w->sync = sync;
	w->waker_kin = waker && waker->tgid == p->tgid;
	w->voluntary = p->nvcsw;
	w->involuntary = p->nivcsw;
	w->weight = p->scx.weight;
	__builtin_memcpy(w->syscalls, tctx->syscalls, sizeof(w->syscalls));
	if (wanted & BIT_OF(THREADS))
		w->threads = p->signal->nr_threads;
	if (wanted & WAKER_TASK_FEATURES)
		note_waker(tctx, waker, here, now_ns);
	if (wanted & PROFILE_FEATURES)
		note_names(p, tctx, waker, now_ns);
	if (wanted & PLACE_FEATURES) {
		struct cpu_ctx *cctx = cpu_ctx_of(scx_bpf_task_cpu(p));
		u64 start_ns = cctx ? READ_ONCE(cctx->run_start_ns) : 0;

		w->nr_waiting = cctx ? cctx->nr_waiting : 0;
		w->cpu_load_ns = start_ns ? cctx->burst_before_ns + saturating_sub(now_ns, start_ns) : 0;
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
	tctx->history.last_block_io_ns = delay_ns - tctx->block_io_ns;
	tctx->block_io_ns = delay_ns;
}

/* What a wake-up adds to the history. */
static void note_wakeup(struct task_struct *p, struct task_ctx *tctx, u64 now_ns)
{
	if (tctx->blocked_ns) {
		tctx->history.last_sleep_ns = saturating_sub(now_ns, tctx->blocked_ns);
		tctx->history.avg_sleep_ns = avg_quarter(tctx->history.avg_sleep_ns, tctx->history.last_sleep_ns);
	}
	if (tctx->exec_id != p->self_exec_id) {
		/* What was there before we looked is not news. */
		tctx->exec_ns = tctx->history.seen ? now_ns : 0;
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
	s32 off_q8 = label_q8 - tctx->history.log_burst_q8;

	if (tctx->history.seen) {
		tctx->history.avg_burst_ns = avg_quarter(tctx->history.avg_burst_ns, burst_ns);
		tctx->history.half_burst_ns = avg_half(tctx->history.half_burst_ns, burst_ns);
		tctx->history.log_burst_q8 = avg_quarter_s32(tctx->history.log_burst_q8, label_q8);
		tctx->history.spread_q8 = avg_quarter_s32(tctx->history.spread_q8, off_q8 < 0 ? -off_q8 : off_q8);
	} else {
		tctx->history.avg_burst_ns = burst_ns;
		tctx->history.half_burst_ns = burst_ns;
		tctx->history.log_burst_q8 = label_q8;
	}
	note_kind(tctx, tctx->kind & (NR_KINDS - 1), label_q8);
	tctx->prev_burst_ns = tctx->last_burst_ns;
	tctx->last_burst_ns = burst_ns;
	tctx->history.prev_log_q8 = tctx->history.last_log_q8;
	tctx->history.last_log_q8 = label_q8 > LOG2_MAX_Q8 ? LOG2_MAX_Q8 : label_q8;
	tctx->history.last_wait_ns = tctx->wait_ns;
	tctx->history.avg_wait_ns = avg_quarter(tctx->history.avg_wait_ns, tctx->wait_ns);
	tctx->history.last_preemptions = tctx->preemptions;
	tctx->history.last_migrations = tctx->migrations;
	tctx->history.last_wakes_made = tctx->wakes_made;
	tctx->history.last_minor_faults = saturating_sub(p->min_flt, tctx->minor_faults);
	tctx->history.last_major_faults = saturating_sub(p->maj_flt, tctx->major_faults);
	tctx->history.io_wait = p->in_iowait;
	tctx->blocked_ns = now_ns;
	if (tctx->history.seen < ~0U)
		tctx->history.seen++;
}

/* A new task: what its parent does is the best guess at what it will do. */
static void init_history(struct task_struct *p, struct task_ctx *tctx, struct task_struct *parent)
{
	struct task_ctx *pctx = parent ? bpf_task_storage_get(&task_ctxs, parent, 0, 0) : NULL;

	tctx->history.log_burst_q8 = pctx && pctx->history.seen ? pctx->history.log_burst_q8 : PRIOR_BURST_Q8;
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
