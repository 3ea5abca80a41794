/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A burst's life: begun at a wake-up (features, prediction), ended when the task blocks (label, history, judgement).
 *
 * A burst is the CPU time from wake-up to voluntary block, over as many slices, preemptions and CPUs as it takes. A
 * run that a slice's end or a preemption cuts is not a burst; the burst goes on when the task runs again.
 */
#ifndef __SCX_ML_FEATURES_BPF_H
#define __SCX_ML_FEATURES_BPF_H

#include "samples.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NR_MODEL_SLOTS);
	__type(key, u32);
	__type(value, struct model);
} models SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct model_ctl);
} model_ctl SEC(".maps");

/* The published model's slot, or NULL without a valid model. *generation is to be compared again after use. */
static struct model *published_model(u64 *generation)
{
	struct model_ctl *ctl;
	struct model *m;
	u32 key = 0;

	ctl = bpf_map_lookup_elem(&model_ctl, &key);
	if (!ctl)
		return NULL;
	*generation = READ_ONCE(ctl->generation);
	if (!*generation)
		return NULL;
	key = *generation % NR_MODEL_SLOTS;
	m = bpf_map_lookup_elem(&models, &key);
	if (!m || READ_ONCE(m->generation) != *generation || bpf_ktime_get_ns() > m->expires_ns)
		return NULL;
	return m;
}

/* Predict the burst that begins. Leaves model_generation 0 where there is no valid model. */
static void predict_burst(struct task_ctx *tctx)
{
	struct policy_params pp = policy_params();
	u64 generation = 0;
	struct model *m = published_model(&generation);

	tctx->model_generation = 0;
	tctx->sure_long = false;
	if (!m) {
		COUNT(no_model);
		return;
	}

	tctx->pred_q16 = model_predict_q16(m, tctx->feature_q8);
	tctx->margin_q16 = m->margin_q16;
	tctx->sure_long = mode == MODE_LEARN && policy_sure_long(&pp, tctx->pred_q16, m->long_margin_q16);

	/* The writer clears a slot's generation before it touches the rest: unchanged means that one whole model was read. */
	barrier();
	if (READ_ONCE(m->generation) != generation) {
		tctx->sure_long = false;
		COUNT(no_model);
		return;
	}
	tctx->model_generation = generation;
	COUNT(predictions);
}

/* The features of p as it wakes. waker may be NULL. */
static void fill_features(struct task_struct *p, struct task_ctx *tctx, struct task_struct *waker, bool sync)
{
	struct cpu_ctx *cctx = cpu_ctx_of(bpf_get_smp_processor_id());
	struct task_ctx *wctx = NULL;
	s16 *f = tctx->feature_q8;
	u64 waker_ran_ns = 0;

	if (waker && waker->pid && waker->pid != p->pid)
		wctx = bpf_task_storage_get(&task_ctxs, waker, 0, 0);
	/* se.sum_exec_runtime of a running task is as old as the last tick; the CPU knows when it was put there. */
	if (wctx && cctx && cctx->run_start_ns)
		waker_ran_ns = cctx->burst_before_ns + (tctx->wake_ns - cctx->run_start_ns);

	f[FEATURE_LAST_BURST] = tctx->seen ? log2_q8(tctx->last_burst_ns) : tctx->log_burst_q8;
	f[FEATURE_AVG_BURST] = tctx->seen ? log2_q8(tctx->avg_burst_ns) : tctx->log_burst_q8;
	f[FEATURE_LOG_BURST] = tctx->log_burst_q8;
	f[FEATURE_LAST_SLEEP] = log2_q8(tctx->last_sleep_ns);
	f[FEATURE_AVG_SLEEP] = log2_q8(tctx->avg_sleep_ns);
	f[FEATURE_AVG_WAIT] = log2_q8(tctx->avg_wait_ns);
	f[FEATURE_WAKER_BURST] = wctx ? wctx->log_burst_q8 : tctx->log_burst_q8;
	f[FEATURE_WAKER_RAN] = log2_q8(waker_ran_ns);
	f[FEATURE_WAKER_NONE] = wctx ? 0 : FEATURE_ONE_Q8;
	f[FEATURE_SYNC_WAKE] = sync ? FEATURE_ONE_Q8 : 0;
	f[FEATURE_KTHREAD] = p->flags & PF_KTHREAD ? FEATURE_ONE_Q8 : 0;
	f[FEATURE_WEIGHT] = log2_q8(p->scx.weight);
	f[FEATURE_SEEN] = log2_q8(tctx->seen + 1);

	/* The moving average as a predictor of its own; a task without history gets the same prior as the model does. */
	tctx->avg_pred_q8 = f[FEATURE_AVG_BURST];
}

/*
 * p wakes: begin its burst, unless ops.select_cpu has begun it already. waker is the task that this CPU executes in
 * the waker's context; queued wake-ups are not enabled, so it is the waker or what the waking interrupt interrupted.
 */
static void begin_burst(struct task_struct *p, struct task_ctx *tctx, struct task_struct *waker, bool sync)
{
	u64 now_ns;

	if (tctx->in_burst)
		return;

	now_ns = scx_bpf_now();
	tctx->in_burst = true;
	tctx->steered = false;
	tctx->preemptions = 0;
	tctx->wait_ns = 0;
	tctx->slice_ns = 0;
	tctx->model_generation = 0;
	tctx->sure_long = false;
	tctx->wake_ns = now_ns;
	tctx->exec_at_wake_ns = p->se.sum_exec_runtime;

	if (mode == MODE_BASE)
		return;

	if (tctx->blocked_ns && now_ns > tctx->blocked_ns) {
		tctx->last_sleep_ns = now_ns - tctx->blocked_ns;
		tctx->avg_sleep_ns = avg_quarter(tctx->avg_sleep_ns, tctx->last_sleep_ns);
	}
	fill_features(p, tctx, waker, sync);
	predict_burst(tctx);
}

/* p blocks: the burst's CPU time is the label. */
static void end_burst(struct task_struct *p, struct task_ctx *tctx)
{
	u64 now_ns = scx_bpf_now(), burst_ns;
	s32 label_q8;

	if (!tctx->in_burst)
		return;
	tctx->in_burst = false;
	if (mode == MODE_BASE)
		return;

	burst_ns = burst_used_ns(p, tctx);
	label_q8 = log2_q8(burst_ns);

	sample_burst(p, tctx, burst_ns, now_ns);

	if (tctx->model_generation && !is_own_task(p)) {
		s32 err_model_q8 = ((tctx->pred_q16 + 128) >> 8) - label_q8;
		s32 err_avg_q8 = tctx->avg_pred_q8 - label_q8;

		COUNT(judged);
		COUNT_ADD(err_model_q8, err_model_q8 < 0 ? -err_model_q8 : err_model_q8);
		COUNT_ADD(err_avg_q8, err_avg_q8 < 0 ? -err_avg_q8 : err_avg_q8);
	}

	if (tctx->seen) {
		tctx->avg_burst_ns = avg_quarter(tctx->avg_burst_ns, burst_ns);
		tctx->log_burst_q8 = avg_quarter_s32(tctx->log_burst_q8, label_q8);
	} else {
		tctx->avg_burst_ns = burst_ns;
		tctx->log_burst_q8 = label_q8;
	}
	tctx->last_burst_ns = burst_ns;
	tctx->avg_wait_ns = avg_quarter(tctx->avg_wait_ns, tctx->wait_ns);
	tctx->blocked_ns = now_ns;
	if (tctx->seen < 255)
		tctx->seen++;
}

/* A new task: what its parent does is the best guess at what it will do. */
static void init_history(struct task_ctx *tctx, struct task_struct *parent)
{
	struct task_ctx *pctx = parent ? bpf_task_storage_get(&task_ctxs, parent, 0, 0) : NULL;

	tctx->log_burst_q8 = pctx && pctx->seen ? pctx->log_burst_q8 : PRIOR_BURST_Q8;
}

#endif /* __SCX_ML_FEATURES_BPF_H */
