/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The record of a burst: the one list of what is collected about a task. The C struct, the Rust reader, the Parquet
 * files and the table that `scx_ml features` prints all come from here, so that none can drift.
 *
 * Two kinds of columns. COLUMNS are plain integers that identify and label the burst. FEATURES are what a model may
 * use: as they were when the task woke, in Q8, mostly log2 of a quantity (a whole-bit log2 would err by up to a factor
 * of 2.25, raw nanoseconds make the normal equations hopeless), or 0 and 256 for no and yes.
 */
#ifndef __SCX_ML_RECORD_H
#define __SCX_ML_RECORD_H

/* X(C type, name, unit, where it comes from, what it is) */
#define SCX_ML_COLUMNS(X)                                                                                              \
	X(u64, wake_ns, "ns, CLOCK_MONOTONIC", "ops.runnable", "when the task woke")                                   \
	X(u64, end_ns, "ns, CLOCK_MONOTONIC", "ops.quiescent", "when it blocked")                                      \
	X(u64, burst_ns, "ns", "se.sum_exec_runtime", "the label: CPU time from wake-up to voluntary block")           \
	X(u64, wait_ns, "ns", "ops.runnable to ops.running", "time runnable but not running during the burst")         \
	X(u64, slice_ns, "ns", "policy.h", "first slice granted")                                                      \
	X(u64, cgroup_id, "id", "cgroups->dfl_cgrp", "cgroup v2")                                                      \
	X(u64, model_generation, "count", "model map", "model that made the prediction; 0: none")                      \
	X(u32, pid, "id", "task_struct", "thread id")                                                                  \
	X(u32, tgid, "id", "task_struct", "process id")                                                                \
	X(u32, waker_pid, "id", "current at the wake-up", "thread that woke it; 0: idle or an interrupt")              \
	X(u32, waker_name_key, "hash", "current at the wake-up", "name_key() of the waker's name; 0: none")            \
	X(u32, name_key, "hash", "task_struct at the wake-up", "name_key() of its name then: an exec changes it")      \
	X(u32, bursts_before, "count", "ops.quiescent", "bursts seen of the task before this one")                     \
	X(u32, cpu, "id", "scx_bpf_task_cpu", "CPU where the burst ended")                                             \
	X(u32, weight, "100 is nice 0", "scx.weight", "weight from nice")                                              \
	X(u32, group_weight, "100 is nice 0", "cpu.weight", "effective weight inside its cgroups")                     \
	X(u32, preemptions, "count", "ops.stopping", "slices of the burst that ended without a block")                 \
	X(u32, repeat, "count", "sampling", "bursts that this record stands for")                                      \
	X(u32, flags, "bits", "enum sample_flags", "predicted, steered, kernel thread, first burst, ...")              \
	X(u32, class, "index", "enum task_class", "model of the bank that the task belongs to")                        \
	X(s32, pred_q16, "log2(ns) * 65536", "model.h", "predicted burst")                                             \
	X(s32, margin_q16, "log2 * 65536", "model.h", "prediction + margin is the burst's 95 % quantile")              \
	X(s32, avg_q16, "log2(ns) * 65536", "features.bpf.h", "moving average (1/4) of burst")

/* X(identifier, name, unit, where it comes from, what it is). The order is the feature's index everywhere. */
#define SCX_ML_FEATURES(X)                                                                                             \
	/* its own bursts */                                                                                           \
	X(LAST_BURST, last_burst, "log2(ns)", "se.sum_exec_runtime", "CPU time of the last burst")                     \
	X(PREV_BURST, prev_burst, "log2(ns)", "se.sum_exec_runtime", "CPU time of the burst before the last")          \
	X(AVG_BURST, avg_burst, "log2(ns)", "se.sum_exec_runtime", "moving average (1/4) of burst CPU time")           \
	X(HALF_BURST, half_burst, "log2(ns)", "se.sum_exec_runtime", "moving average (1/2) of burst CPU time")         \
	X(LOG_BURST, log_burst, "log2(ns)", "se.sum_exec_runtime", "moving average (1/4) of log2 of burst")            \
	X(KIND_BURST, kind_burst, "log2(ns)", "se.sum_exec_runtime",                                                   \
	  "moving average (1/4) of log2 of bursts begun like this one: by this waker (hashed), or an interrupt")       \
	X(BURST_SPREAD, burst_spread, "octaves", "se.sum_exec_runtime",                                                \
	  "moving average of |log2 burst - its average|")                                                              \
	X(SEEN, seen, "log2(count)", "ops.quiescent", "bursts seen of the task = wake-ups received")                   \
	/* waiting and sleeping */                                                                                     \
	X(LAST_SLEEP, last_sleep, "log2(ns)", "ops.quiescent to wake-up", "time blocked before this wake-up")          \
	X(AVG_SLEEP, avg_sleep, "log2(ns)", "ops.quiescent to wake-up", "moving average (1/4) of time blocked")        \
	X(LAST_WAIT, last_wait, "log2(ns)", "ops.runnable to ops.running", "time runnable in the last burst")          \
	X(AVG_WAIT, avg_wait, "log2(ns)", "ops.runnable to ops.running", "moving average (1/4) of that")               \
	X(IO_WAIT, io_wait, "flag", "in_iowait at the block", "it blocked for I/O")                                    \
	X(BLOCK_IO, block_io, "log2(ns)", "delays->blkio_delay",                                                       \
	  "block I/O delay since the last wake-up; needs delayacct")                                                   \
	/* who woke it */                                                                                              \
	X(WAKER_BURST, waker_burst, "log2(ns)", "the waker's context", "the waker's LOG_BURST; its own if unknown")    \
	X(WAKER_RAN, waker_ran, "log2(ns)", "the waker's context", "CPU time of the waker's burst so far")             \
	X(WAKER_PRED, waker_pred, "log2(ns)", "the waker's context",                                                   \
	  "the waker's own predicted burst, its KIND_BURST where no model was asked; 0 if none")                       \
	X(WAKER_NONE, waker_none, "flag", "current at the wake-up", "woken by the idle task or an interrupt")          \
	X(WAKER_KIN, waker_kin, "flag", "current at the wake-up", "the waker is of the same process")                  \
	X(SYNC_WAKE, sync_wake, "flag", "SCX_WAKE_SYNC", "the waker said that it is about to block")                   \
	X(WAKES_MADE, wakes_made, "log2(count)", "ops.select_cpu", "wake-ups that it made in its last burst")          \
	/* how the last burst went */                                                                                  \
	X(SLICE_USED, slice_used, "log2(share)", "ops.stopping", "share of its last slice that it used")               \
	X(PREEMPTED, preempted, "log2(count)", "ops.stopping", "preemptions in the last burst")                        \
	X(MIGRATED, migrated, "log2(count)", "ops.running", "CPUs changed in the last burst")                          \
	X(MINOR_FAULTS, minor_faults, "log2(count)", "min_flt", "minor faults in the last burst")                      \
	X(MAJOR_FAULTS, major_faults, "log2(count)", "maj_flt", "major faults in the last burst")                      \
	/* what it is */                                                                                               \
	X(KTHREAD, kthread, "flag", "PF_KTHREAD", "kernel thread")                                                     \
	X(VOLUNTARY, voluntary, "log2(count)", "nvcsw", "voluntary context switches since its start")                  \
	X(INVOLUNTARY, involuntary, "log2(count)", "nivcsw", "involuntary context switches since its start")           \
	X(AGE_FORK, age_fork, "log2(ns)", "start_time", "age since fork")                                              \
	X(AGE_EXEC, age_exec, "log2(ns)", "self_exec_id", "age since exec, as far as it was seen; else since fork")    \
	X(THREADS, threads, "log2(count)", "signal->nr_threads", "threads of its process")                             \
	X(WEIGHT, nice_weight, "log2", "scx.weight", "weight from nice, 100 is nice 0")                                \
	X(NAME_BURST, name_burst, "log2(ns)", "process database",                                                      \
	  "mean log2 burst of its name at this stage of life; LOG_BURST if unknown")                                   \
	X(PAIR_BURST, pair_burst, "log2(ns)", "process database",                                                      \
	  "the same of its name when woken by this waker's name; NAME_BURST if unknown")                               \
	/* where it wakes */                                                                                           \
	X(QUEUE_DEPTH, queue_depth, "log2(count)", "lanes of the CPU's LLC", "tasks waiting there when last looked")   \
	X(CPU_LOAD, cpu_load, "log2(ns)", "the CPU's context", "burst so far of what runs on its CPU; 0 if idle")      \
	/* what it asked the kernel for, decayed counts by class; 0 unless --syscalls */                               \
	X(SYS_IO, sys_io, "log2(count)", "raw_tp/sys_enter", "read, write and other file I/O")                         \
	X(SYS_NET, sys_net, "log2(count)", "raw_tp/sys_enter", "sockets")                                              \
	X(SYS_WAIT, sys_wait, "log2(count)", "raw_tp/sys_enter", "poll, epoll, select")                                \
	X(SYS_SLEEP, sys_sleep, "log2(count)", "raw_tp/sys_enter", "nanosleep, timers")                                \
	X(SYS_FUTEX, sys_futex, "log2(count)", "raw_tp/sys_enter", "futex")                                            \
	X(SYS_MM, sys_mm, "log2(count)", "raw_tp/sys_enter", "mmap, brk, madvise")                                     \
	X(SYS_PROC, sys_proc, "log2(count)", "raw_tp/sys_enter", "fork, exec, exit, wait")

enum scx_ml_feature {
#define X(id, name, unit, source, desc) FEATURE_##id,
	SCX_ML_FEATURES(X)
#undef X
		NR_FEATURES,
};

#endif /* __SCX_ML_RECORD_H */
