/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What steers a burst: a model's prediction, its kind's average, or nothing; and whether a model is asked at all. Pure functions, as
 * those of decide.h.
 */
#ifndef __SCX_ML_STEER_H
#define __SCX_ML_STEER_H

#include "policy.h"

/* What a predictor says of the burst that begins. */
struct forecast {
	s32 pred_q16; /* log2(ns) */
	s32 margin_q16; /* up to the high quantile */
	s32 err_q8; /* mean |error| about this very task lately */
	u32 known; /* 0: it says nothing, or is not to be trusted */
};

static inline bool policy_forecast_is_sure(const struct forecast *f)
{
	return f->known && policy_is_sure(f->margin_q16, f->err_q8);
}

/*
 * Whether a burst is so surely short, by its kind's average, that no model decides about it: its end comes long before its slice's,
 * and before anybody may take its place. Such bursts come by the thousand, and to ask about each would cost more than anything else
 * that is done for it. By its mean error about this very task, so many times of which it would have to be off: margins are those of
 * a class, and wide where others of that are hard to tell.
 */
#define POLICY_SPARED_LOG2 18 /* a quarter of a ms */
#define POLICY_SPARED_ERRORS 6

static inline bool policy_is_surely_short(const struct forecast *average)
{
	return average->known && average->err_q8 <= POLICY_SURE_ERROR_Q8 &&
	       average->pred_q16 + POLICY_SPARED_ERRORS * (average->err_q8 << 8) < POLICY_SPARED_LOG2 << 16;
}

/*
 * Whether the model is worth what it costs to ask it about a task: it has been nearer to its bursts than their kind's average by more
 * than so much of the average's error, or that is not known yet. gain_q16: task_gain_q16(). judged: bursts that this is made of.
 */
#define POLICY_GAIN_SHIFT 4
#define POLICY_GAIN_JUDGED 8

static inline bool policy_model_gains(s32 gain_q16, u32 judged, const struct forecast *average)
{
	return judged < POLICY_GAIN_JUDGED || gain_q16 > (average->err_q8 << 8) >> POLICY_GAIN_SHIFT;
}

/* Of bursts of a task with which the model gains nothing, one in so many is predicted, for that may change. */
#define POLICY_ASK_AGAIN 8

/* Bursts of such a task since the model was asked last, after one more; 0: it is asked about this one. */
static inline u32 policy_unasked(u32 unasked)
{
	return unasked + 1 < POLICY_ASK_AGAIN ? unasked + 1 : 0;
}

/* Why no model decides about a burst. */
enum spared {
	SPARED_NOT = 0, /* one does, if there is one to trust */
	SPARED_SHORT = 1, /* policy_is_surely_short() */
	SPARED_NO_GAIN = 2, /* policy_model_gains() not */
};

static inline enum spared policy_spared(const struct forecast *average, s32 gain_q16, u32 judged)
{
	if (policy_is_surely_short(average))
		return SPARED_SHORT;
	return average->known && !policy_model_gains(gain_q16, judged, average) ? SPARED_NO_GAIN : SPARED_NOT;
}

/*
 * Who steers: the model; where there is none to trust, or it is not sure of this task while its kind's average is, or
 * no model decides, that; else nobody.
 */
static inline enum steering policy_steering(const struct forecast *model, const struct forecast *average,
					    enum spared spared)
{
	if (model->known && !spared && (policy_forecast_is_sure(model) || !policy_forecast_is_sure(average)))
		return STEERING_MODEL;
	return average->known ? STEERING_AVERAGE : STEERING_NONE;
}

#endif /* __SCX_ML_STEER_H */
