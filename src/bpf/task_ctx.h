/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the scheduler keeps of a task, in the kernel's task storage. User space reads it to explain a decision.
 */
#ifndef __SCX_ML_TASK_CTX_H
#define __SCX_ML_TASK_CTX_H

/* What the process database last said under a key. */
struct told {
	u64 asked_ns; /* 0: never */
	u32 key; /* profile_key() */
	s32 burst_q8; /* PROFILE_UNKNOWN: nothing */
};
#define PROFILE_UNKNOWN (-1)

/*
 * A task, ordered by who touches what, a cache line each: every switch, the queueing and the slice, the cgroup and the
 * wake-up, the history at wake-ups and blocks. The kernel keeps 8 bytes of its own in front, so that the first line has 56.
 */
struct task_ctx {
	/* every switch */
	u64 vruntime; /* weighted CPU time, on the virtual clock on_clock; outside of sched_ext, beyond it */
	u64 inv_weight_q16; /* 1 / effective weight */
	u64 exec_at_wake_ns; /* se.sum_exec_runtime then */
	u64 exec_at_run_ns; /* se.sum_exec_runtime when it was last put on a CPU */
	u64 queued_ns; /* runnable since; 0 while running or blocked */
	u64 counted; /* where it is counted as waiting, and with what weight, see count_queued(); 0: nowhere; atomic */
	u32 on_clock; /* whose clock vruntime is on: 2 * LLC, and 1 for the one of idle tasks */
	u32 wakee_pid; /* whom it woke last */

	/* queueing and slices */
	u64 quantum_ns; /* first quantum of this burst */
	u64 expected_ns; /* what those that begin like it take: policy_expected_ns() */
	u64 stretched_ns; /* and if they outlive that: policy_stretched_ns() */
	u64 used_ns; /* of the last slice */
	u64 due_ns; /* when it is due, if it is paced: policy_pace_ns() */
	u64 granted_ns; /* last slice */
	u64 slice_ns; /* first slice of this burst, for the record */
	u64 wait_ns; /* of this burst */
	s32 steer_q16; /* the prediction that steers, enum steering says whose */
	s32 steer_margin_q16;
	s32 last_cpu;
	u32 migrations; /* these three of this burst */
	u32 preemptions;
	u32 wakes_made;
	u8 in_burst;
	u8 lane; /* enum policy_lane: where it was queued last */
	u8 steering; /* enum steering */
	u8 sure; /* the prediction is sure: it may order */
	u8 steered; /* the last slice came from the prediction */
	u8 slice_source; /* enum slice_source, of the last slice */
	u8 woken; /* and has not run since */
	u8 yielded; /* and has not been queued since */
	u8 yields; /* since it was put on its CPU */
	u8 paced; /* it was queued as one over its share: policy_is_paced() */
	u8 carries; /* it was cut, and goes before those who would wait for its end: policy_carries_on() */
	u8 unasked; /* bursts since the model was asked last, with which it gains nothing */
	u8 owes; /* it was carried on, and may be ahead by as much as that took: policy_carries_on() */
	u8 pad0[3];

	/* its group, and how this burst began */
	u64 cgroup_id; /* of the cpu controller; 0: the root, which needs no accounting */
	u32 group_weight; /* what this task added to its group while runnable, see group.bpf.h */
	u32 weight_q20; /* effective weight relative to nice 0, never 0; inv_weight_q16 was computed from it */
	s64 deadline_after_ns; /* of the last queueing: beyond the clock (fresh lane) or the virtual clock (fair lane) */
	u64 wake_ns;
	u64 model_generation; /* 0: no prediction */
	s32 pred_q16;
	s32 margin_q16;
	s32 avg_pred_q16; /* what would steer without a model: the average of bursts that begin like this one */
	u32 sample_flags;
	u32 repeat; /* bursts that the record stands for; 0: there is none */
	u32 waker_pid;

	/* what every burst needs of what was before */
	u64 blocked_ns; /* when it blocked; 0: never */
	u64 last_burst_ns;
	s32 kind_burst_q8[NR_KINDS]; /* the same of bursts that begin alike, see burst_kind() */
	s32 kind_last_q8[NR_KINDS]; /* the last of them */
	s32 err_model_q8; /* the model's mean |error| on this task, see task_error_q8() */
	s32 err_kind_q8; /* the same of kind_burst_q8 */
	s32 stretch_q8[NR_KINDS]; /* how far those stretch that outlive their expectation: policy_stretch_q8() */
	s32 gain_q16; /* how much nearer the model is than kind_burst_q8, see task_gain_q16() */
	u8 kind; /* how this burst began, index into kind_burst_q8 */
	u8 kinds_seen; /* bits */
	u8 judged_model; /* errors that err_model_q8 is made of, at most 255 */
	u8 judged_kind;
	u8 stretches[NR_KINDS]; /* bursts that stretch_q8 is made of, at most 255 */
	u8 class;
	u8 idle; /* its policy is SCHED_IDLE, or the uppermost cgroup that it is in has cpu.idle: see group.bpf.h */
	u8 limited; /* a cgroup that it is in has a cpu.max: see bandwidth.bpf.h */
	u8 pass; /* it was put aside for so long that it may run for once */
	u8 may_park; /* it was queued, and has not run since */
	u8 sampled; /* this burst tells the watch, and sends a record where repeat is not 0 */
	u8 spared; /* enum spared: why no model decides about this burst */
	u8 aged; /* the ages of this wake-up were asked for */
	u8 pad1[4];
	struct history history;

	/* the rest of it */
	u64 charged_exec_ns; /* se.sum_exec_runtime up to which its cgroups have paid, if it is limited */
	u64 prev_burst_ns;
	u64 minor_faults; /* task_struct's counts at the wake-up */
	u64 major_faults;
	u64 exec_id;
	u64 exec_ns; /* when exec_id was first seen; 0: before we looked */
	u64 block_io_ns; /* delay by block I/O since the fork, accounted up to the last wake-up */
	u16 syscalls[8]; /* decayed counts by class */
	u64 name[COMM_LEN / 8]; /* comm at the wake-up */
	u32 name_key;
	u32 waker_name_key;
	u32 nr_outcomes;
	u32 pad2;
	struct wakeup wakeup;
	struct told told_name;
	struct told told_pair;

	struct outcome outcomes[NR_OUTCOMES]; /* a ring, the next one at nr_outcomes */

	s16 feature_q8[FEATURE_SLOTS];
};

#endif /* __SCX_ML_TASK_CTX_H */
