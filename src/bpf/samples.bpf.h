/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Samples: at the end of a burst a record goes to user space through a ring buffer.
 *
 * Problem: a machine may end 100,000 bursts a second; the learner needs a few thousand samples.
 * How: each CPU has a budget of samples per window. At the start of a window the share to keep is set from the bursts
 * of the window before, so that the budget is spent evenly (one burst in 2^keep_shift, chosen at random: a fixed
 * stride would lock on to periodic work). What a window keeps is limited to twice the budget whatever happens. Of what
 * is kept of a class that user space has learned, only one in 2^thin_shift sends a record; the others tell the kernel's
 * own watch, which is no slower for it. A record carries how many bursts it stands for.
 * Possible limitation: a CPU whose load jumps in the middle of a window spends up to twice its budget.
 */
#ifndef __SCX_ML_SAMPLES_BPF_H
#define __SCX_ML_SAMPLES_BPF_H

#include "task.bpf.h"

/* The reader polls; it is woken early only when this much is waiting. */
#define SAMPLE_WAKE_BYTES (256 * 1024)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} samples SEC(".maps");

/*
 * Whether the burst of tctx's task that begins now is sampled, and how many its record is to stand for; 0 to leave it
 * out. Decided at the wake-up, because the features of a burst that nobody records need not be computed. The budget spent
 * is that of the executing CPU, which cannot be preempted meanwhile.
 */
__noinline int sample_begin(struct cpu_ctx *cctx, struct task_ctx *tctx, u64 now_ns)
{
	u32 random, keep_shift, thin_shift;

	if (!cctx || !tctx)
		return 0;
	if (now_ns - cctx->window_ns >= SAMPLE_WINDOW_NS) {
		u32 shift = 0, left = cctx->window_bursts;

		while (shift < KEEP_SHIFT_MAX && left > sample_budget) {
			left >>= 1;
			shift++;
		}
		cctx->keep_shift = shift;
		cctx->window_ns = now_ns;
		cctx->window_bursts = 0;
		cctx->window_kept = 0;
	}

	cctx->window_bursts++;
	keep_shift = cctx->keep_shift;
	thin_shift = learned.thin_shift[tctx->class & (NR_CLASSES - 1)];
	/* The upper half of a linear congruential generator (Knuth's MMIX): the kernel's costs ten times as much. */
	cctx->random = cctx->random * 6364136223846793005ULL + 1442695040888963407ULL;
	random = cctx->random >> 32;
	if (!sample_kept(keep_shift, random) || cctx->window_kept >= 2 * sample_budget)
		return 0;
	cctx->window_kept++;
	tctx->sampled = true;
	tctx->repeat = sample_repeat(keep_shift, thin_shift, random);
	return 0;
}

/* The ages of p at mono_ns on CLOCK_MONOTONIC, which was wake_ns on scx_bpf_now()'s clock. */
static void note_ages(struct task_struct *p, struct task_ctx *tctx, u64 mono_ns, u64 wake_ns)
{
	struct wakeup *w = &tctx->wakeup;

	w->age_fork_ns = saturating_sub(mono_ns, p->start_time);
	w->age_exec_ns = tctx->exec_ns ? saturating_sub(wake_ns, tctx->exec_ns) : w->age_fork_ns;
}

/* Account for a burst that ended in the counters c, and send its record. Once per burst, from ops.quiescent. */
static void sample_burst(struct task_struct *p, struct task_ctx *tctx, struct counters *c, u64 burst_ns, u64 now_ns)
{
	struct raw_sample *s;
	u64 mono_ns;

	if (is_own_task(p)) {
		c->excluded++;
		return;
	}
	c->bursts++;
	if (!tctx->repeat) {
		c->sampled_out++;
		return;
	}

	s = bpf_ringbuf_reserve(&samples, sizeof(*s), 0);
	if (!s) {
		c->dropped++;
		return;
	}

	/* scx_bpf_now() is the run queue's clock; a record's times are all on CLOCK_MONOTONIC. */
	mono_ns = bpf_ktime_get_ns();
	s->end_ns = mono_ns;
	s->wake_ns = mono_ns - (now_ns - tctx->wake_ns);
	s->burst_ns = burst_ns;
	s->wait_ns = tctx->wait_ns;
	s->slice_ns = tctx->slice_ns;
	s->cgroup_id = p->cgroups->dfl_cgrp->kn->id;
	s->model_generation = tctx->model_generation;
	s->pid = p->pid;
	s->tgid = p->tgid;
	s->waker_pid = tctx->waker_pid;
	s->waker_name_key = tctx->waker_name_key;
	s->name_key = tctx->name_key;
	s->bursts_before = tctx->history.seen;
	s->cpu = scx_bpf_task_cpu(p);
	s->weight = p->scx.weight;
	s->group_weight = (tctx->weight_q20 * 100ULL) >> 20;
	s->preemptions = tctx->preemptions;
	s->repeat = tctx->repeat;
	s->flags = tctx->sample_flags | (tctx->steered ? SAMPLE_STEERED : 0);
	s->class = tctx->class;
	s->pred_q16 = tctx->pred_q16;
	s->margin_q16 = tctx->margin_q16;
	s->avg_q16 = 0; /* user space makes it of the history */
	__builtin_memcpy(s->comm, tctx->name, sizeof(s->comm));
	__builtin_memset(s->pad, 0, sizeof(s->pad));
	/* The clock is expensive: who needed the ages at the wake-up has asked it then. */
	if (!tctx->aged)
		note_ages(p, tctx, s->wake_ns, tctx->wake_ns);
	s->history = tctx->history;
	s->wakeup = tctx->wakeup;

	/*
	 * No wake-up per record: the reader polls, and waking it from here would turn every sample into a context
	 * switch of our own making.
	 */
	bpf_ringbuf_submit(s, bpf_ringbuf_query(&samples, BPF_RB_AVAIL_DATA) > SAMPLE_WAKE_BYTES ? BPF_RB_FORCE_WAKEUP
												 : BPF_RB_NO_WAKEUP);
	c->kept++;
}

#endif /* __SCX_ML_SAMPLES_BPF_H */
