/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What features are made of, raw: what a task has done before, and what the moment of a wake-up tells.
 *
 * Problem: a burst that is recorded needs all features, which is thirty logarithms at a wake-up.
 * How: the record carries these two structs as they were at the wake-up, and features.h makes the features of it in user
 * space; the kernel computes those that its model asks for, from the same two structs by the same text.
 */
#ifndef __SCX_ML_HISTORY_H
#define __SCX_ML_HISTORY_H

/* Changes when the task wakes, before features are computed, and when its burst ends: in between it is what it was. */
struct history {
	u64 avg_burst_ns; /* moving average with weight 1/4 */
	u64 half_burst_ns; /* and with 1/2 */
	u64 last_sleep_ns;
	u64 avg_sleep_ns;
	u64 last_wait_ns;
	u64 avg_wait_ns;
	u64 last_block_io_ns; /* delay by block I/O between the last two wake-ups */
	u32 seen; /* bursts */
	s32 log_burst_q8; /* moving average (1/4) of log2 */
	s32 spread_q8; /* of |log2 - log_burst_q8| */
	s32 last_log_q8; /* log2 of the last burst, and of the one before */
	s32 prev_log_q8;
	u32 last_preemptions; /* the rest is of the last burst */
	u32 last_migrations;
	u32 last_wakes_made;
	u32 last_minor_faults;
	u32 last_major_faults;
	u32 io_wait; /* 1: it ended waiting for I/O */
	u32 pad;
};

/* As of a wake-up; of a burst that is not recorded only what its model asks for. */
struct wakeup {
	u64 used_ns; /* of the last slice, */
	u64 granted_ns; /* and what that was */
	u64 age_fork_ns;
	u64 age_exec_ns;
	u64 waker_ran_ns; /* CPU time of the waker's burst so far */
	u64 cpu_load_ns; /* burst so far of what runs on its CPU; 0: idle */
	u64 voluntary; /* context switches since its start */
	u64 involuntary;
	u32 threads;
	u32 weight;
	u32 nr_waiting; /* at its CPU's LLC */
	s32 kind_burst_q8;
	s32 name_burst_q8; /* by the process database */
	s32 pair_burst_q8;
	s32 waker_burst_q8; /* its own where the waker is not known */
	s32 waker_pred_q8;
	u16 syscalls[8]; /* decayed counts by class */
	u8 kthread; /* these four are 0 or 1 */
	u8 sync; /* the waker said that it is about to block */
	u8 waker_none;
	u8 waker_kin;
	u8 pad[4];
};

#endif /* __SCX_ML_HISTORY_H */
