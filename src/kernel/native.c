// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's integer mathematics, compiled for the host: src/kernel/native.rs calls these wrappers. Nothing is computed
 * here; model.h and policy.h are the very text that the BPF scheduler is made of, and the tables are those of record.h
 * and intf.h.
 */
#include <stdbool.h>
#include <stddef.h>
#include "decide.h"

struct desc {
	const char *name;
	const char *type;
	const char *unit;
	const char *source;
	const char *description;
	unsigned int offset;
	unsigned int size;
};

const struct policy_params native_policy_defaults = POLICY_DEFAULTS;

const struct desc native_features[NR_FEATURES] = {
#define X(id, name, unit, source, desc)                                                                                \
	{#name, "s16", unit, source, desc, offsetof(struct burst_sample, feature_q8) + 2 * FEATURE_##id, 2},
	SCX_ML_FEATURES(X)
#undef X
};

const struct desc native_columns[] = {
#define X(type, name, unit, source, desc)                                                                              \
	{#name, #type, unit, source, desc, offsetof(struct burst_sample, name), sizeof(type)},
	SCX_ML_COLUMNS(X)
#undef X
};
const unsigned int native_nr_columns = sizeof(native_columns) / sizeof(native_columns[0]);

const struct desc native_classes[NR_CLASSES] = {
#define X(id, name, desc) {#name, "", "", "", desc, CLASS_##id, 0},
	SCX_ML_CLASSES(X)
#undef X
};

const struct desc native_slice_sources[] = {
#define X(id, name, desc) {#name, "", "", "", desc, SLICE_##id, 0},
	SCX_ML_SLICE_SOURCES(X)
#undef X
};
const unsigned int native_nr_slice_sources = sizeof(native_slice_sources) / sizeof(native_slice_sources[0]);

const struct desc native_counters[] = {
#define X(name, desc) {#name, "u64", "", "", desc, offsetof(struct counters, name), 8},
	SCX_ML_COUNTERS(X)
#undef X
};
const unsigned int native_nr_counters = sizeof(native_counters) / sizeof(native_counters[0]);

u32 native_ilog2(u64 v)
{
	return ilog2_u64(v);
}

u32 native_log2_q16(u64 v)
{
	return log2_q16(v);
}

s32 native_log2_q8(u64 v)
{
	return log2_q8(v);
}

s32 native_count_q8(u64 n)
{
	return count_q8(n);
}

u64 native_exp2_q16(s64 x_q16)
{
	return exp2_q16(x_q16);
}

s32 native_predict_q16(const struct linear *m, const s16 *feature_q8)
{
	return linear_predict_q16(m, feature_q8);
}

u32 native_task_class(bool kthread, u32 seen, s32 log_burst_q8)
{
	return task_class(kthread, seen, log_burst_q8);
}

void native_watch_add(struct watch *w, u64 generation, s64 err_model_q8, s64 err_avg_q8)
{
	watch_add(w, generation, err_model_q8, err_avg_q8);
}

u64 native_avg_quarter(u64 old, u64 new)
{
	return avg_quarter(old, new);
}

u64 native_virtual_ns(u64 ns, u64 inv_weight_q16)
{
	return policy_virtual_ns(ns, inv_weight_q16);
}

u64 native_bound_vruntime(u64 vruntime, u64 vclock, u64 vlag, bool woken)
{
	return policy_bound_vruntime(vruntime, vclock, vlag, woken);
}

u32 native_recip_q16(u32 n)
{
	return policy_recip_q16(n);
}

u64 native_vclock_step(u64 vused, s64 ahead, u32 nr_active)
{
	return policy_vclock_step(vused, ahead, nr_active);
}

u32 native_lane(u64 quantum_ns, u64 burst_ns, s64 ahead, u64 vlag)
{
	return policy_lane(quantum_ns, burst_ns, ahead, vlag, false);
}

u64 native_quantum_ns(const struct policy_params *pp, bool predicted, s32 pred_q16, s32 margin_q16, bool proven_long)
{
	return policy_quantum_ns(pp, predicted, pred_q16, margin_q16, proven_long);
}

u64 native_preemptible_at_ns(const struct policy_params *pp, u64 run_start_ns, u64 burst_before_ns, u64 quantum_ns,
			     u64 protect_until_ns)
{
	return policy_preemptible_at_ns(pp, run_start_ns, burst_before_ns, quantum_ns, protect_until_ns);
}

u64 native_fair_key(const struct policy_params *pp, u64 vruntime, u64 inv_weight_q16, u64 burst_ns, bool predicted,
		    s32 pred_q16, s32 margin_q16)
{
	return policy_fair_key(pp, vruntime, inv_weight_q16, burst_ns, predicted, pred_q16, margin_q16);
}

bool native_sure_long(const struct policy_params *pp, s32 pred_q16, s32 long_margin_q16, s32 err_q8)
{
	return policy_sure_long(pp, pred_q16, long_margin_q16, err_q8);
}

u64 native_request_ns(const struct policy_params *pp, bool predicted, s32 pred_q16)
{
	return policy_request_ns(pp, predicted, pred_q16);
}

u64 native_fresh_delay_ns(const struct policy_params *pp, bool predicted, s32 pred_q16)
{
	return policy_fresh_delay_ns(pp, predicted, pred_q16);
}

u64 native_base_slice_ns(const struct policy_params *pp, u32 lane, u32 nr_waiting)
{
	return policy_base_slice_ns(pp, lane, nr_waiting);
}

u64 native_quantile_left_ns(s32 pred_q16, s32 margin_q16, u64 burst_ns)
{
	return policy_quantile_left_ns(pred_q16, margin_q16, burst_ns);
}

u64 native_clamp_slice(const struct policy_params *pp, u64 slice_ns)
{
	return policy_clamp_slice(pp, slice_ns);
}

u32 native_name_key(u64 lo, u64 hi)
{
	return name_key(lo, hi);
}

u32 native_profile_key(u32 name, u32 waker, u32 seen)
{
	return profile_key(name, waker, seen);
}

void native_watch_quantile(struct watch *w, bool above)
{
	watch_quantile(w, above);
}

void native_watch_long(struct watch *w, bool was_long)
{
	watch_long(w, was_long);
}

bool native_watch_long_proven(const struct watch *w)
{
	return watch_long_proven(w);
}

bool native_is_new_start(s32 avg_q8, s32 last_q8, s32 label_q8)
{
	return is_new_start(avg_q8, last_q8, label_q8);
}

u32 native_burst_kind(u32 waker_pid)
{
	return burst_kind(waker_pid);
}

bool native_yields_at_tick(const struct policy_params *pp, u64 burst_ns, u64 key, u64 first_burst_ns, u64 first_key)
{
	return policy_yields_at_tick(pp, LANE_FAIR, burst_ns, key, first_burst_ns, first_key);
}

u64 native_reach(u64 key, u64 vclock, u32 nr_waiting)
{
	return policy_reach(key, vclock, nr_waiting);
}

s32 native_task_error_q8(s32 err_q8, u32 judged, s32 off_q8)
{
	return task_error_q8(err_q8, judged, off_q8);
}

s32 native_watched_margin_q16(s32 margin_q16, s32 margin_shift_q16)
{
	return watched_margin_q16(margin_q16, margin_shift_q16);
}

bool native_is_sure(s32 margin_q16, s32 err_q8)
{
	return policy_is_sure(margin_q16, err_q8);
}
