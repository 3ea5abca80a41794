/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the BPF scheduler, the user-space learner and the host tests share: constants, the list of features, the
 * sample record, the model as the kernel reads it, and the counters. Rust sees this file through bindgen, so a field
 * is declared here and nowhere else.
 *
 * Fixed point: a suffix _q8 or _q16 gives the number of fractional bits. Times are nanoseconds (_ns).
 */
#ifndef __SCX_ML_INTF_H
#define __SCX_ML_INTF_H

#ifndef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif

#ifndef __VMLINUX_H__
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef signed short s16;
typedef signed int s32;
typedef signed long long s64;
#endif

#define SCX_ML_NSEC_PER_USEC 1000ULL
#define SCX_ML_NSEC_PER_MSEC 1000000ULL

#include "record.h"

enum scx_ml_consts {
	FEATURE_ONE_Q8 = 256, /* a set flag */
	FEATURE_SLOTS = 64, /* features are stored in an array of this size, so that an index needs only a mask */
	NR_MODEL_SLOTS = 2,
	MODEL_TERMS = 16, /* features that one model may use */
	COMM_LEN = 16,
	NR_KINDS = 4, /* how a burst may have begun, see burst_kind() */
	PROFILES_MAX = 8192, /* entries of the process database that the kernel holds */
	SAMPLE_WINDOW_NS = 1 << 27, /* 134 ms, over which a CPU spends its budget of samples */
	PROFILE_REST_NS = 1 << 27, /* for so long what the process database says of a task is not asked for again */
	LATENCY_BUCKETS = 64, /* of struct latencies: a power of two, so that an index needs only a mask */
	/* An assumed burst for a task without any history: 512 us in log2(ns) Q8. */
	PRIOR_BURST_Q8 = 19 * 256,
	/* |coefficient| that user space may publish: 64.0. */
	COEF_LIMIT_Q16 = 64 << 16,
	/* Highest log2(ns) that is told apart: 2^40 ns is 18 minutes. */
	LOG2_MAX_Q8 = 40 * 256,
};

/* Scheduling modes, `--mode`. */
enum scx_ml_mode {
	MODE_BASE = 0, /* no features, no samples, no model */
	MODE_SHADOW = 1, /* predict and record, but schedule by the base policy */
	MODE_LEARN = 2, /* predict, record and schedule by the prediction */
};

/* What user space sets of the policy (policy.h) before the scheduler is loaded. */
struct policy_params {
	u64 slice_min_ns;
	u64 slice_max_ns;
	u64 first_quantum_ns; /* guaranteed to every wake-up before it can be preempted by another */
	u64 lag_ns; /* bound of credit and debt in virtual time, at weight 100 */
	u64 fair_interval_ns; /* the fair lane gets a turn at least this often */
	u64 preempt_after_ns; /* what was put on a CPU stays there that long, or the switch costs more than it buys */
};

#define POLICY_DEFAULTS                                                                                                \
	{                                                                                                              \
		.slice_min_ns = 1 * SCX_ML_NSEC_PER_MSEC,                                                              \
		.slice_max_ns = 20 * SCX_ML_NSEC_PER_MSEC,                                                             \
		.first_quantum_ns = 4 * SCX_ML_NSEC_PER_MSEC,                                                          \
		.lag_ns = 20 * SCX_ML_NSEC_PER_MSEC,                                                                   \
		.fair_interval_ns = 20 * SCX_ML_NSEC_PER_MSEC,                                                         \
		.preempt_after_ns = 250 * SCX_ML_NSEC_PER_USEC,                                                        \
	}

enum policy_lane {
	LANE_FRESH = 0,
	LANE_FAIR = 1,
	LANE_NONE = 2, /* an idle CPU was there: it waited nowhere */
};

/* The models of a bank: which one predicts for a task depends on this, known at the wake-up for next to nothing. */
#define SCX_ML_CLASSES(X)                                                                                              \
	X(KTHREAD, kthread, "kernel threads")                                                                          \
	X(YOUNG, young, "tasks with fewer than five bursts so far")                                                    \
	X(INTERACTIVE, interactive, "tasks whose average burst is below a millisecond")                                \
	X(BATCH, batch, "the rest")

enum task_class {
#define X(id, name, desc) CLASS_##id,
	SCX_ML_CLASSES(X)
#undef X
		NR_CLASSES,
};

enum class_bounds {
	YOUNG_BURSTS = 5, /* also the last stage of life that profiles tell apart, see profile_key() */
	BATCH_LOG2_Q8 = 20 * 256, /* 1.05 ms */
};

/* What user space has learned of the load as a whole, and may change at any time. */
struct learned {
	u64 first_quantum_ns; /* 0: that of policy_params */
	u32 thin_shift[NR_CLASSES]; /* of what is sampled of a class, one burst in 2^thin_shift sends its record */
};

/* A linear model of log2(burst) on up to MODEL_TERMS features. All-zero is "no model". */
struct linear {
	s64 intercept_q24;
	u64 feature_mask; /* features that it uses: those and no others are computed at a wake-up */
	s32 margin_q16; /* prediction + margin is the slice's quantile */
	s32 long_margin_q16; /* prediction - long_margin is the burst's low quantile: told, not used */
	u32 valid;
	u32 nr_terms;
	u8 feature[MODEL_TERMS];
	s32 coef_q16[MODEL_TERMS];
};
_Static_assert(sizeof(struct linear) == 32 + MODEL_TERMS * 5, "struct linear has no padding");

/*
 * One slot: a bank of models, one a class. The writer clears generation, writes the rest, then sets generation again,
 * so a reader that sees the same non-zero generation before and after has one whole bank.
 */
struct model {
	u64 generation; /* 0: not valid */
	u64 expires_ns; /* bpf_ktime_get_ns() after which this counts as no model; ~0: never */
	struct linear linear[NR_CLASSES];
};

/*
 * The kernel's own watch over the model, per class: running |error| of the model and of the kind's average,
 * and whether that has taken over (model.h, watch_add()).
 */
struct watch {
	s32 err_model_q8;
	s32 err_avg_q8;
	u32 count;
	u32 fallback;
	u32 fallbacks; /* how often it fell back */
	u32 returns; /* how often it came back */
	u64 changed_ns; /* when it last did either; 0: never */
	u64 generation; /* of the model that is watched */
	s32 margin_shift_q16; /* what the model's margin is corrected by, see watch_quantile() */
	s32 average_shift_q16; /* by how many of its errors more the average's quantile lies above it */
};

/* Which of the two slots is the published one. */
struct model_ctl {
	u64 generation; /* slot = generation % NR_MODEL_SLOTS; 0: none */
};

#include "history.h"

enum sample_flags {
	SAMPLE_PREDICTED = 1 << 0, /* pred_q8 and model_generation are valid */
	SAMPLE_STEERED = 1 << 1, /* the slice came from the prediction */
	SAMPLE_KTHREAD = 1 << 2,
	SAMPLE_FIRST = 1 << 3, /* the task's first burst: there was no history */
	SAMPLE_FALLBACK = 1 << 4, /* there was a prediction, but the watch had the kind's average take over */
	SAMPLE_SYNC = 1 << 5, /* the waker said that it is about to block */
	SAMPLE_IRQ = 1 << 6, /* woken from an interrupt */
};

/* One burst, wake-up to voluntary block. Sent through the ring buffer. */
struct burst_sample {
#define X(type, name, unit, source, desc) type name;
	SCX_ML_COLUMNS(X)
#undef X
	s16 feature_q8[NR_FEATURES];
	char comm[COMM_LEN];
	s16 pad[4]; /* fills the last word: one to four, as columns and features come and go */
};
_Static_assert(offsetof(struct burst_sample, pad) + sizeof(((struct burst_sample *)0)->pad) ==
		       sizeof(struct burst_sample),
	       "struct burst_sample has no padding but pad");

/* The same as it comes through the ring buffer: with what its features are made of, see sample_from_raw(). */
struct raw_sample {
	struct history history;
	struct wakeup wakeup;
#define X(type, name, unit, source, desc) type name;
	SCX_ML_COLUMNS(X)
#undef X
	char comm[COMM_LEN];
	s32 pad[2]; /* fills the last word: one or two, as columns come and go */
};
_Static_assert(offsetof(struct raw_sample, pad) + sizeof(((struct raw_sample *)0)->pad) == sizeof(struct raw_sample),
	       "struct raw_sample has no padding but pad");

/* Where a slice came from. */
#define SCX_ML_SLICE_SOURCES(X)                                                                                        \
	X(NONE, none, "no slice was granted yet")                                                                      \
	X(BASE, base, "the base policy: there was no prediction to use")                                               \
	X(PREDICTED, predicted, "the prediction's quantile")                                                           \
	X(RAISED, raised, "the prediction's quantile, raised to the shortest slice")                                   \
	X(CUT, cut, "the prediction's quantile, cut to the longest slice")                                             \
	X(AVERAGE, average, "the kind's average's quantile: no model predicts, or it is less sure of the task")        \
	X(OUTLIVED, outlived, "the base policy: the burst has outlived the prediction's quantile")

enum slice_source {
#define X(id, name, desc) SLICE_##id,
	SCX_ML_SLICE_SOURCES(X)
#undef X
};

/* What a burst is steered by. */
enum steering {
	STEERING_NONE = 0, /* the base policy */
	STEERING_MODEL = 1,
	STEERING_AVERAGE = 2, /* its kind's average: no model predicts, it is in fallback, or not sure of this task */
};

/* How a prediction turned out: log2(ns) in Q8. */
struct outcome {
	s16 pred_q8;
	s16 avg_q8;
	s16 label_q8;
	s16 quantile_q8;
};
#define NR_OUTCOMES 8 /* the last ones that are kept of a task */

#include "task_ctx.h"

/*
 * A CPU. Written by the CPU itself (or for it, under its rq lock) but for nr_fresh and leaves; the first line is read by
 * others that look for one to preempt or for work, so each has cache lines of its own (in memory, too: see cpu_ctxs in
 * task.bpf.h).
 */
struct cpu_ctx {
	u64 run_start_ns; /* 0: no sched_ext task runs here */
	u64 burst_before_ns; /* CPU time of the running task's burst before run_start_ns */
	u64 quantum_ns; /* first quantum of the running task, as far as it protects */
	u64 protect_until_ns; /* a turn of the fair lane that must not be preempted */
	u64 woke_ns; /* when a task last woke another here */
	u32 inv_weight_q16; /* of the running task */
	u32 heavy_inv_q16; /* of the heaviest that this CPU is used to, see policy_heavy() */
	u32 llc;
	u32 next_in_llc; /* the next CPU of the LLC, on a ring of them */
	u32 nr_fresh; /* tasks in its fresh lane, and those just taken from there; atomic, see count_queued() */
	u8 idle; /* what runs is to run where nothing else wants to */
	u8 leaves; /* what runs has been told to make room */
	u8 partner; /* what runs has woken the same task again */
	u8 taken; /* a higher class has it */
	/* the CPU's own from here on: serving, sampling, and looking after others */
	u64 fair_turn_ns; /* when the fair lane last had a turn or nothing waiting */
	u32 nr_waiting; /* tasks in the LLC's lanes when this CPU last looked */
	u32 maybe_pinned; /* bits by enum policy_queue: somebody who may run nowhere else may wait there; 0: nobody does */
	u32 weight_here_q10; /* what this CPU's task counts in its LLC's weight_running_q10 */
	u32 wakee_pid; /* whom what runs woke last */
	u32 rests; /* it is idle, as the count of idle CPUs has it */
	u32 fair_behind; /* its fair lanes had somebody who has waited for very long, at their last turn */
	u64 looked_ns; /* when it last looked for those whose CPUs do not come to take them, see relief.bpf.h */
	u32 looked_llc; /* the other LLC that it looked into last */
	u32 wakes_made; /* wake-ups made here since what runs was put here */
	u64 window_ns; /* start */
	u32 window_bursts;
	u32 window_kept;
	u32 keep_shift; /* one burst in 2^keep_shift is kept */
	u32 nr_near; /* tasks in its near lane that may run elsewhere, too; atomic, see count_queued() */
	u64 lease_generation; /* of the models whose lease ran when this CPU looked */
	u64 lease_seen_ns; /* when it looked */
	u64 compared_ns; /* when it last looked whether its neighbour's fresh lane comes before its own */
	u64 paced_ns; /* when it next looks whether one of its near lane is due, see policy_pace_ns(); 0: none is there */
	u64 expected_ns; /* what the burst of what runs is expected to take: policy_expected_ns() */
	u64 stretched_ns; /* and if it outlives that: policy_stretched_ns() */
	u64 random; /* by which bursts are sampled */
	/* how fast it is, and is to be: frequency.h */
	u64 util_ns; /* until when its utilisation is known; 0: it is not */
	u64 busy_ns; /* time since then that tasks have run */
	u64 run_seen_ns; /* of what runs, that part is in there, or in the utilisation */
	u64 cpuperf_ns; /* when its speed was last set */
	u32 util_q10;
	u32 cpuperf; /* that speed */
	u32 capacity; /* 1024: the fastest CPUs; these two are set by user space */
	u32 slowness_q10; /* 1024 / capacity */
	/* what a wake-up made by what runs is to know of it, see note_waker() */
	u32 runs_pid;
	s32 runs_burst_q8;
	s32 runs_pred_q8;
	u32 pad2;
};
_Static_assert(offsetof(struct cpu_ctx, fair_turn_ns) == 64, "what others read is one cache line");
_Static_assert(offsetof(struct cpu_ctx, util_ns) == 192, "its speed and what runs have a line of their own");
_Static_assert(sizeof(struct cpu_ctx) == 256, "a CPU's state fills its cache lines");

/* CPUs that share a last-level cache, and the queues that they share. */
struct llc_ctx {
	/* written at every switch */
	u64 vclock; /* mean virtual time of the tasks queued here, by their weights; updates may race, see bound_vruntime() */
	u64 idle_vclock; /* the same of those that are to run where nothing else wants to */
	u64 weight_waiting_q10; /* sum of the weights of those that wait in its lanes, but for the idle ones; atomic */
	u64 weight_running_q10; /* the same of what runs, or ran last, on its CPUs; atomic */
	u32 nr_fresh; /* sum of its CPUs' nr_fresh; atomic */
	u32 nr_fair; /* the same of its fair lane */
	u32 nr_idle; /* the same of its idle lane */
	u32 nr_near; /* sum of its CPUs' nr_near; atomic */
	u32 nr_idling; /* its CPUs that run, or ran last, what is to run where nothing else wants to; atomic */
	u32 pad;
	u64 pads;
	/* written a few times a second */
	u32 nr_cpus;
	u32 first_cpu; /* where a walk over its CPUs begins, see next_in_llc */
	u32 node; /* NUMA node, numbered densely */
	s32 numa_node; /* the same as the kernel numbers it; NUMA_NO_NODE: not known */
	u64 evened_ns; /* when a task was last moved here because more wait elsewhere */
	u64 looked_last_ns; /* when a CPU last looked at who stands last in its fair lane; atomic, see relief.bpf.h */
	u64 clock_seen; /* vclock when its speed was last looked at, and that moment */
	u64 clock_seen_ns;
	u64 clock_reach; /* how far it moves in POLICY_REACH_NS at that speed; 0: not known */
	u64 pads2;
};
_Static_assert(offsetof(struct llc_ctx, nr_cpus) == 64, "what is written all the time has a cache line of its own");
_Static_assert(sizeof(struct llc_ctx) == 128, "an LLC's state fills its cache lines");

enum group_idle {
	GROUP_IDLE_ITSELF = 1 << 0, /* its own cpu.idle */
	GROUP_IDLE = 1 << 1, /* that of the uppermost one, itself or above: it is to run where nothing else wants to */
};

/* Cgroups that are kept account of, and levels of them below the root. One more is refused when it is made. */
#define GROUPS_MAX 262144
#define GROUP_DEPTH_MAX 256

/* The kernel's task_group.shares has so many bits of fraction. */
#define GROUP_SHARES_SHIFT 10

/* A cgroup, see group.bpf.h. */
struct group_ctx {
	u64 parent_id; /* 0: a child of the root */
	u64 active_sum; /* weights of the runnable tasks and the active child cgroups; atomic */
	u64 added; /* what this group adds to its parent's active_sum; atomic */
	u64 share; /* what a unit of a task's weight is worth here: struct share of policy.h, exponent in the upper half; 0: not known */
	u64 looked_ns; /* when it and all above it were last looked at */
	u64 tg; /* address of the kernel's task_group; 0: not known yet */
	u64 lingers; /* it is in the queue of those that became empty; atomic */
	u32 weight; /* cpu.weight: 1024 is 100 */
	u32 idle; /* enum group_idle */

	/* cpu.max, see bandwidth.bpf.h */
	u64 limit_id; /* the nearest cgroup with a limit, itself or above; 0: none */
	u64 next_limit_id; /* of one with a limit: the next one above */
	u64 quota_ns; /* 0: no limit */
	u64 period_ns;
	u64 burst_ns;
	s64 runtime_ns; /* what is left of the quota, below 0: debt; atomic */
	u64 refill_ns; /* when there is a quota again */
	u64 throttled_at_ns; /* since when nothing has been left; 0: there is something; atomic */
	u64 nr_throttled; /* how often nothing was left */
	u64 throttled_ns; /* for how long, all together */
	u64 parked_look_ns; /* when it was last looked who is put aside because of it while nothing was left */
	u64 timer_on; /* atomic */
};

/*
 * Wake-to-run latencies, summed over CPUs by user space: bucket i counts those from 2^i ns to below 2^(i+1) ns, the
 * first one 0 ns too. All count since the scheduler was attached.
 */
struct latencies {
	u64 buckets[LATENCY_BUCKETS];
	u64 sum_ns;
};

/*
 * Counters, summed over CPUs by user space: X(name, description). All count since the scheduler was attached.
 */
#define SCX_ML_COUNTERS(X)                                                                                             \
	X(bursts, "bursts ended, the scheduler's own threads left out")                                                \
	X(kept, "samples put into the ring buffer")                                                                    \
	X(dropped, "samples lost because the ring buffer was full")                                                    \
	X(sampled_out, "bursts that sampling left out")                                                                \
	X(excluded, "bursts of the scheduler's own threads")                                                           \
	X(slices_predicted, "slices that came from a prediction")                                                      \
	X(slices_average, "slices from the kind's average, where no model predicts or that is surer")                  \
	X(slices_base, "slices from the base policy")                                                                  \
	X(predictions, "predictions made at a wake-up")                                                                \
	X(no_model, "wake-ups for which no valid model was published")                                                 \
	X(spared, "wake-ups for bursts so surely short that no model decides about them")                              \
	X(no_gain,                                                                                                     \
	  "wake-ups of tasks with which the model has been no better than their kind's average, and was not asked")    \
	X(clamped_min, "predicted slices raised to the shortest allowed")                                              \
	X(clamped_max, "predicted slices cut to the longest allowed")                                                  \
	X(fallback, "wake-ups with a prediction that the watch did not let steer")                                     \
	X(judged, "bursts for which both predictors were judged")                                                      \
	X(err_model_q8, "sum of |predicted - actual| log2 burst of the model")                                         \
	X(err_avg_q8, "sum of |predicted - actual| log2 burst of what would steer instead")                            \
	X(direct_idle, "wake-ups sent straight to an idle CPU")                                                        \
	X(queued_fresh, "tasks queued in the lane of fresh wake-ups")                                                  \
	X(queued_fair, "tasks queued in the fair lane")                                                                \
	X(queued_near, "tasks queued in the fair lane at their CPU: short so far, paced, or yielding")                 \
	X(queued_paced, "of these, those that go on in turn with the others")                                          \
	X(paced_turns, "turns of such")                                                                                \
	X(overtook, "turns of those in a fresh lane who do not wait for what its first waits for")                     \
	X(carried, "turns of what was cut, or could be, before those of the fresh lane")                               \
	X(queued_pinned, "tasks queued for one CPU only")                                                              \
	X(queued_idle, "tasks queued to run where nothing else wants to")                                              \
	X(yields, "times a task yielded")                                                                              \
	X(yields_heeded, "of these, those that made room for somebody")                                                \
	X(idle_turns, "turns given to the idle lanes because the kernel would not let them wait for longer")           \
	X(relooks, "looks of a CPU that would have gone idle beside waiting tasks")                                    \
	X(kept_running, "slices renewed in place because nothing more urgent waited")                                  \
	X(preempt_kicks, "running tasks asked to make room for a fresh wake-up")                                       \
	X(tick_preempts, "running tasks ended at a tick, past their first quantum")                                    \
	X(fair_turns, "turns given to the fair lane because it had waited long enough")                                \
	X(neighbour_steals, "fresh wake-ups taken from the lane of another CPU of the LLC")                            \
	X(llc_steals, "tasks taken from another LLC's queues")                                                         \
	X(reliefs, "tasks taken because their own CPUs did not come to take them")                                     \
	X(evenings, "tasks taken from an LLC where more wait per CPU")                                                 \
	X(reenqueued, "tasks taken back from a CPU that a higher class took over")                                     \
	X(throttles, "times that a cgroup had used up its cpu.max")                                                    \
	X(throttled_ns, "time that cgroups had nothing left of their cpu.max")                                         \
	X(parked, "tasks put aside because a cgroup of theirs had used up its cpu.max")                                \
	X(parked_long, "tasks let run in spite of cpu.max, because they had been put aside for very long")             \
	X(groups_refused, "cgroups that were not let be made: too deep, or too many")                                  \
	X(cpuperf_sets, "times a CPU was told another speed")                                                          \
	X(no_task_ctx, "events of a task without a context, handled by default settings")                              \
	X(wait_ns, "time tasks were runnable but did not run")                                                         \
	X(waits, "times a task waited")

struct counters {
#define X(name, desc) u64 name;
	SCX_ML_COUNTERS(X)
#undef X
};

#endif /* __SCX_ML_INTF_H */
