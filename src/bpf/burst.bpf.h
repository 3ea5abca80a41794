/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A burst's life: begun at a wake-up (features, prediction), ended when the task blocks (label, judgement, record).
 *
 * A burst is the CPU time from wake-up to voluntary block, over as many slices, preemptions and CPUs as it takes. A
 * run that a slice's end or a preemption cuts is not a burst; the burst goes on when the task runs again.
 */
#ifndef __SCX_ML_BURST_BPF_H
#define __SCX_ML_BURST_BPF_H

#include "features.bpf.h"

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

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NR_CLASSES);
	__type(key, u32);
	__type(value, struct watch);
} watches SEC(".maps");

static inline struct watch *watch_of(u32 class)
{
	return bpf_map_lookup_elem(&watches, &class);
}

/*
 * Whether the lease of a bank still runs. That is a matter of half a minute and more, and the clock that it is given in
 * is expensive: a CPU looks once for each generation, and then once a window of sampling.
 */
static bool lease_runs(struct cpu_ctx *here, const struct model *m, u64 generation, u64 now_ns)
{
	if (here->lease_generation == generation && now_ns - here->lease_seen_ns < SAMPLE_WINDOW_NS)
		return true;
	if (bpf_ktime_get_ns() > m->expires_ns)
		return false;
	here->lease_generation = generation;
	here->lease_seen_ns = now_ns;
	return true;
}

/* The published bank of models, or NULL without a valid one. *generation is to be compared again after use. */
static struct model *published_model(struct cpu_ctx *here, u64 *generation, u64 now_ns)
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
	if (!m || READ_ONCE(m->generation) != *generation || !lease_runs(here, m, *generation, now_ns))
		return NULL;
	return m;
}

/* The bank's model of a class, or NULL without one. m may be NULL. */
static inline struct linear *linear_of(struct model *m, u32 class)
{
	struct linear *linear;

	if (!m)
		return NULL;
	linear = &m->linear[class & (NR_CLASSES - 1)];
	return linear->valid ? linear : NULL;
}

/*
 * Predict the burst that begins from its features, into f; not known where there is no valid model, which leaves
 * model_generation 0, or where the watch does not trust it.
 */
static void predict_burst(struct task_ctx *tctx, struct model *m, u64 generation, struct watch *w, struct forecast *f)
{
	struct linear *linear = linear_of(m, tctx->class);

	if (!linear)
		goto no_model;

	tctx->pred_q16 = linear_predict_q16(linear, tctx->feature_q8);
	tctx->margin_q16 = watched_margin_q16(linear->margin_q16, w ? READ_ONCE(w->margin_shift_q16) : 0);

	/* The writer clears a slot's generation before it touches the rest: unchanged means that one whole model was read. */
	barrier();
	if (READ_ONCE(m->generation) != generation)
		goto no_model;
	tctx->model_generation = generation;
	tctx->sample_flags |= SAMPLE_PREDICTED;
	COUNT(predictions);

	if (w && READ_ONCE(w->fallback)) {
		tctx->sample_flags |= SAMPLE_FALLBACK;
		COUNT(fallback);
		return;
	}
	f->pred_q16 = tctx->pred_q16;
	f->margin_q16 = tctx->margin_q16;
	f->err_q8 = tctx->err_model_q8;
	f->known = true;
	return;

no_model:
	COUNT(no_model);
}

/*
 * What the average of bursts that begin alike says of the burst that begins. margin_q16: of its upper quantile.
 */
static inline struct forecast average_forecast(const struct task_ctx *tctx, s32 margin_q16)
{
	return (struct forecast){
		.pred_q16 = tctx->avg_pred_q16,
		.margin_q16 = margin_q16,
		.err_q8 = tctx->err_kind_q8,
		/* Before its first error there is nothing known of it. */
		.known = tctx->judged_kind > 0,
	};
}

__noinline int expect_burst(struct task_ctx *tctx, u32 waker_pid)
{
	struct forecast average;
	u32 kind;

	if (!tctx)
		return 0;
	kind = burst_kind(waker_pid) & (NR_KINDS - 1);
	tctx->kind = kind;
	tctx->avg_pred_q16 = kind_burst_q8(tctx) << 8;
	average = average_forecast(tctx, 0);
	tctx->expected_ns = policy_expected_ns(&average);
	tctx->stretched_ns = policy_stretched_ns(&average, tctx->stretch_q8[kind], tctx->stretches[kind]);
	return 0;
}

__noinline s32 average_margin_of(s32 err_q8, s32 average_shift_q16)
{
	return average_margin_q16(err_q8, average_shift_q16);
}

/* What policy_steering() comes to where no model decides, and none is asked. What the burst may run was set already. */
static void steer_unasked(struct task_ctx *tctx, const struct forecast *average)
{
	tctx->pred_q16 = average->pred_q16;
	if (mode != MODE_LEARN)
		return;
	tctx->steering = STEERING_AVERAGE;
	tctx->sure = policy_forecast_is_sure(average);
	tctx->steer_q16 = average->pred_q16;
	tctx->steer_margin_q16 = average->margin_q16;
}

/* Decide what the burst that begins is steered by, and what it may run before others take its place. m and w may be NULL. */
__noinline int steer_burst(struct task_ctx *tctx, struct model *m, u64 generation, struct watch *w,
			   const struct forecast *average)
{
	struct policy_params pp = policy_params();
	struct forecast forecast = {};

	if (!tctx || !average)
		return 0;
	predict_burst(tctx, m, generation, w, &forecast);
	tctx->steering = policy_steering(&forecast, average, tctx->spared);
	if (tctx->steering == STEERING_AVERAGE)
		forecast = *average;
	if (tctx->steering) {
		tctx->steer_q16 = forecast.pred_q16;
		tctx->steer_margin_q16 = forecast.margin_q16;
	}
	if (mode != MODE_LEARN)
		tctx->steering = STEERING_NONE;
	tctx->sure = tctx->steering && policy_forecast_is_sure(&forecast);
	if (tctx->sure)
		tctx->quantum_ns = policy_quantum_ns(&pp, tctx->steer_q16, tctx->steer_margin_q16);
	return 0;
}

/* Whether no model is asked about the burst that begins. */
static bool is_spared(struct task_ctx *tctx, const struct forecast *average)
{
	tctx->spared = policy_spared(average, tctx->gain_q16, tctx->judged_model);
	if (tctx->spared == SPARED_SHORT) {
		COUNT(spared);
	} else if (tctx->spared == SPARED_NO_GAIN) {
		tctx->unasked = policy_unasked(tctx->unasked);
		if (!tctx->unasked)
			return false;
		COUNT(no_gain);
	}
	return tctx->spared;
}

/*
 * p wakes: begin its burst, unless ops.select_cpu has begun it already. Runs in the waker's context (queued wake-ups are
 * not enabled).
 */
static void begin_burst(struct task_struct *p, struct task_ctx *tctx, bool sync)
{
	struct task_struct *waker;
	struct forecast average;
	struct cpu_ctx *here;
	struct model *m = NULL;
	struct linear *linear;
	struct watch *w;
	u64 now_ns, generation = 0, wanted = 0;
	bool irq;

	if (tctx->in_burst)
		return;

	now_ns = scx_bpf_now();
	tctx->in_burst = true;
	tctx->steering = STEERING_NONE;
	tctx->quantum_ns = first_quantum_ns();
	tctx->steered = false;
	tctx->sure = false;
	tctx->preemptions = 0;
	tctx->migrations = 0;
	tctx->wakes_made = 0;
	tctx->wait_ns = 0;
	tctx->slice_ns = 0;
	tctx->model_generation = 0;
	tctx->wake_ns = now_ns;
	tctx->exec_at_wake_ns = p->se.sum_exec_runtime;

	irq = bpf_in_interrupt();
	waker = waker_of(p, irq);
	here = cpu_ctx_of(bpf_get_smp_processor_id());
	/* Booked to the waker when it stops running, see ops.stopping: so its own context need not be looked up. */
	if (waker && here) {
		here->wakes_made++;
		WRITE_ONCE(here->woke_ns, now_ns);
		here->partner = here->wakee_pid == (u32)p->pid;
		here->wakee_pid = p->pid;
	}
	/* Kept without a model, too: it says who waits for whom. */
	expect_burst(tctx, waker ? waker->pid : 0);
	if (mode == MODE_BASE)
		return;

	note_wakeup(p, tctx, now_ns);
	tctx->class = task_class(p->flags & PF_KTHREAD, tctx->history.seen, tctx->avg_pred_q16 >> 8);
	tctx->sampled = false;
	tctx->repeat = 0;
	if (here && !is_own_task(p))
		sample_begin(here, tctx, now_ns);
	tctx->sample_flags = (p->flags & PF_KTHREAD ? SAMPLE_KTHREAD : 0) | (tctx->history.seen ? 0 : SAMPLE_FIRST) |
			     (sync ? SAMPLE_SYNC : 0) | (irq ? SAMPLE_IRQ : 0);

	w = watch_of(tctx->class);
	average = average_forecast(tctx, average_margin_of(tctx->err_kind_q8, w ? READ_ONCE(w->average_shift_q16) : 0));
	/* Those that are recorded tell what models are worth, of all alike. */
	if (is_spared(tctx, &average) && !tctx->repeat) {
		steer_unasked(tctx, &average);
		decay_syscalls(tctx);
		return;
	}

	if (here)
		m = published_model(here, &generation, now_ns);
	linear = linear_of(m, tctx->class);
	if (linear)
		wanted = linear->feature_mask;
	tctx->waker_pid = waker ? waker->pid : 0;
	tctx->aged = !!(wanted & AGE_FEATURES);
	if (tctx->aged)
		note_ages(p, tctx, bpf_ktime_get_ns(), now_ns);
	if (wanted || tctx->repeat)
		note_facts(p, tctx, waker, here, sync, tctx->repeat ? ALL_FEATURES : wanted, now_ns);
	if (wanted)
		features_of(tctx, wanted);
	decay_syscalls(tctx);
	steer_burst(tctx, m, generation, w, &average);
}

/* Keep how a prediction turned out, for whoever asks about the task. */
static void note_outcome(struct task_ctx *tctx, s32 label_q16)
{
	struct outcome *o = &tctx->outcomes[tctx->nr_outcomes++ & (NR_OUTCOMES - 1)];

	o->pred_q8 = tctx->pred_q16 >> 8;
	o->avg_q8 = tctx->avg_pred_q16 >> 8;
	o->label_q8 = label_q16 >> 8;
	o->quantile_q8 = (tctx->pred_q16 + tctx->margin_q16) >> 8;
}

/* Keep what a burst came to that has outlived its expectation, and is past what everybody is given. */
static void note_stretch(struct task_ctx *tctx, u64 burst_ns, s32 label_q16)
{
	u32 kind = tctx->kind & (NR_KINDS - 1);

	if (burst_ns <= first_quantum_ns() || !policy_outlives(burst_ns, tctx->expected_ns))
		return;
	tctx->stretch_q8[kind] =
		policy_stretch_q8(tctx->stretch_q8[kind], tctx->stretches[kind], (label_q16 - tctx->avg_pred_q16) >> 8);
	if (tctx->stretches[kind] < 255)
		tctx->stretches[kind]++;
}

/* p blocks: the burst's CPU time is the label. */
static void end_burst(struct task_struct *p, struct task_ctx *tctx)
{
	struct watch *w = NULL;
	u64 now_ns, burst_ns;
	struct counters *c;
	s32 label_q16;

	if (!tctx->in_burst)
		return;
	tctx->in_burst = false;
	burst_ns = burst_used_ns(p, tctx);
	label_q16 = (s32)log2_q16(burst_ns);
	note_stretch(tctx, burst_ns, label_q16);
	if (mode == MODE_BASE) {
		note_kind(tctx, tctx->kind & (NR_KINDS - 1), (label_q16 + 128) >> 8);
		return;
	}
	c = counters_here();
	if (!c)
		return;
	now_ns = scx_bpf_now();
	sample_burst(p, tctx, c, burst_ns, now_ns);

	if (tctx->sampled)
		w = watch_of(tctx->class);
	/* Shared by all CPUs, so only as often as bursts are sampled. */
	if (w && tctx->sampled && tctx->judged_kind) {
		s32 margin_q16 = average_margin_of(tctx->err_kind_q8, w->average_shift_q16);

		w->average_shift_q16 =
			watch_quantile(w->average_shift_q16, label_q16 > tctx->avg_pred_q16 + margin_q16);
	}
	if (tctx->model_generation && !is_own_task(p)) {
		s32 err_model_q8 = (tctx->pred_q16 - label_q16) >> 8;
		s32 err_avg_q8 = (tctx->avg_pred_q16 - label_q16) >> 8;

		err_model_q8 = err_model_q8 < 0 ? -err_model_q8 : err_model_q8;
		err_avg_q8 = err_avg_q8 < 0 ? -err_avg_q8 : err_avg_q8;
		c->judged++;
		c->err_model_q8 += err_model_q8;
		c->err_avg_q8 += err_avg_q8;
		note_outcome(tctx, label_q16);
		judge(&tctx->err_model_q8, &tctx->judged_model, err_model_q8);
		tctx->gain_q16 = task_gain_q16(tctx->gain_q16, err_avg_q8 - err_model_q8);
		if (w && tctx->sampled) {
			watch_add(w, tctx->model_generation, err_model_q8, err_avg_q8, now_ns);
			w->margin_shift_q16 =
				watch_quantile(w->margin_shift_q16, label_q16 > tctx->pred_q16 + tctx->margin_q16);
		}
	}
	note_burst(p, tctx, burst_ns, (label_q16 + 128) >> 8, now_ns);
}

#endif /* __SCX_ML_BURST_BPF_H */
