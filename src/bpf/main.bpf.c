/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * scx_ml: the struct_ops. The mechanisms are in the headers, one subject each:
 *
 *   intf.h, record.h   shared with user space      task.bpf.h       state and counters
 *   model.h            prediction, integer maths   features.bpf.h   what is known about a task
 *   policy.h           virtual time, slices        burst.bpf.h      a burst from wake-up to block
 *   decide.h, steer.h  what is done by them        samples.bpf.h    records to user space
 *   queues.bpf.h       lanes                       group.bpf.h      nice and cgroup weights, cpu.idle
 *   preempt.bpf.h      who makes room, and when    bandwidth.bpf.h  cpu.max
 *   serve.bpf.h        what a CPU runs next        group_ops.bpf.h  operations of cgroups
 *   relief.bpf.h       whom nobody serves          sweep.bpf.h      who waits with another weight
 *   frequency.h        speeds and capacities       frequency.bpf.h  how fast CPUs are to be
 *   latency.bpf.h      from wake-up to running     capacity.bpf.h   CPUs that differ
 *   carry.bpf.h        what is not cut             pace.bpf.h       who is over its share
 */
#include "preempt.bpf.h"
#include "serve.bpf.h"
#include "burst.bpf.h"
#include "latency.bpf.h"
#include "frequency.bpf.h"

char _license[] SEC("license") = "GPL";

UEI_DEFINE(uei);

/*
 * Choose a CPU for a task that wakes or is new. Runs on the waker's CPU with p's pi_lock held; `current` is the waker
 * or what its interrupt interrupted. Not called for tasks that have only one CPU to go to.
 */
s32 BPF_STRUCT_OPS(ml_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	struct task_ctx *tctx = task_ctx_of(p);
	bool idle = false;
	s32 cpu;

	if (tctx)
		begin_burst(p, tctx, wake_flags & SCX_WAKE_SYNC);
	/* Before an idle CPU is claimed, which nobody would use then. */
	if (bandwidth_select_cpu(p, tctx))
		return prev_cpu;

	cpu = tctx ? claim_big_idle_cpu(p, tctx, prev_cpu) : -EBUSY;
	/*
	 * Not as "sync": the kernel would put p behind the waker, into a local DSQ where nobody can take it, although another CPU
	 * idles; and not all wakers that say so block at once.
	 */
	wake_flags &= ~SCX_WAKE_SYNC;
	if (cpu >= 0) {
		idle = true;
	} else if (__COMPAT_HAS_scx_bpf_select_cpu_and) {
		cpu = scx_bpf_select_cpu_and(p, prev_cpu, wake_flags, p->cpus_ptr, 0);
		idle = cpu >= 0;
	} else {
		cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &idle);
	}
	if (!idle)
		return prev_cpu;

	if (tctx) {
		tctx->lane = LANE_NONE;
		tctx->deadline_after_ns = 0;
		COUNT(direct_idle);
		/* Nobody waits for an idle CPU: the base slice there is the longest. */
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, grant_slice(p, tctx, LANE_FAIR, 0), 0);
	}
	return cpu;
}

/*
 * What is not to go before others, whatever it has used. What yields, if somebody waits in a fair lane: behind those in its CPU's
 * fresh lane it stands anyway. Of our own threads the trainer is nice; those who feed it are quick.
 */
static inline bool waits_behind(struct task_struct *p, struct task_ctx *tctx, struct cpu_ctx *cctx,
				struct llc_ctx *lctx)
{
	return tctx->idle || (tctx->yielded && waits_by_clock(cctx, lctx)) || (is_own_task(p) && p->scx.weight < 100);
}

/* How far behind its wake-up a task stands in the fresh lane, that has used so much since. */
static inline u64 fresh_delay_ns(const struct policy_params *pp, const struct task_ctx *tctx, u64 used_ns)
{
	u64 predicted_ns = policy_fresh_delay_ns(pp, tctx->steering, tctx->steer_q16);
	u64 long_ns = used_ns ? 0 : policy_long_delay_ns(pp, tctx->expected_ns, tctx->err_kind_q8);

	return predicted_ns > long_ns ? predicted_ns : long_ns;
}

/* Put p, which is not to wait in a fresh lane, into the fair or idle lane of its LLC or CPU. Under its rq lock. */
static void queue_by_clock(struct task_struct *p, struct task_ctx *tctx, enum policy_queue queue, s32 cpu,
			   struct cpu_ctx *cctx, struct llc_ctx *lctx, u64 slice_ns, u64 now_ns, u64 enq_flags)
{
	u64 vruntime = tctx->vruntime, vclock = *clock_for(lctx, tctx->idle), key;
	struct policy_params pp = policy_params();
	bool pinned = is_pinned(p);
	u32 at = queue == QUEUE_NEAR || queue == QUEUE_IDLE_PINNED ? (u32)cpu : cctx->llc;

	if (tctx->yielded)
		vruntime = policy_yield_vruntime(&pp, vruntime, vclock, tctx->inv_weight_q16);
	key = fair_key(p, tctx, vruntime);
	if (tctx->idle) {
		COUNT(queued_idle);
	} else {
		key = reach_key(lctx, key, per_cpu(cctx->nr_waiting, lctx->nr_cpus), now_ns);
		COUNT(queued_fair);
		if (queue == QUEUE_NEAR && !pinned)
			COUNT(queued_near);
		if (tctx->paced)
			expect_paced(cctx, tctx->due_ns);
	}
	tctx->deadline_after_ns = policy_vdiff(key, vclock);
	if (pinned)
		hint_pinned(cctx, queue);
	count(tctx, queue, at, pinned);
	scx_bpf_dsq_insert_vtime(p, queue_dsq(queue, at), slice_ns, key, enq_flags);
}

/*
 * Queue a task: one that woke without an idle CPU for it, whose slice ended, or that was taken off a CPU. Runs on any
 * CPU with the lock of p's run queue held; `current` is anything.
 */
void BPF_STRUCT_OPS(ml_enqueue, struct task_struct *p, u64 enq_flags)
{
	struct policy_params pp = policy_params();
	s32 cpu = scx_bpf_task_cpu(p), idle_cpu;
	struct task_ctx *tctx = task_ctx_of(p);
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	bool pinned = is_pinned(p), woken = enq_flags & SCX_ENQ_WAKEUP, waits;
	u64 now_ns = scx_bpf_now(), used_ns, slice_ns, vlag;
	enum policy_queue queue;
	enum policy_lane lane;
	struct llc_ctx *lctx;
	struct place place;
	s64 ahead;

	lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;
	if (!tctx || !cctx || !lctx) {
		/* Not reached for a task that ops.init_task has seen. Any queue is better than none. */
		scx_bpf_dsq_insert(p, SCX_DSQ_GLOBAL, pp.slice_min_ns, enq_flags);
		return;
	}
	if (enq_flags & SCX_ENQ_REENQ)
		COUNT(reenqueued);

	uncount(tctx);
	/* At a wake-up, ops.runnable has just done it. */
	if (tctx->cgroup_id && !(enq_flags & SCX_ENQ_WAKEUP))
		update_weight(p, tctx, now_ns);
	if (bandwidth_enqueue(p, tctx, enq_flags))
		return;
	vlag = join_llc(p, tctx, cctx->llc, lctx);
	ahead = policy_vdiff(tctx->vruntime, *clock_for(lctx, tctx->idle));
	used_ns = burst_used_ns(p, tctx);
	waits = waits_behind(p, tctx, cctx, lctx) ||
		!policy_has_earned(&pp, tctx->quantum_ns, ahead, tctx->inv_weight_q16, cctx->heavy_inv_q16);
	lane = policy_lane(tctx->quantum_ns, used_ns, ahead, vlag, waits, policy_vdiff(now_ns, tctx->due_ns) >= 0);
	tctx->paced = policy_is_paced(&pp, lane, used_ns, ahead, vlag, waits);
	tctx->lane = tctx->paced && used_ns < tctx->quantum_ns ? LANE_FRESH : lane;
	/*
	 * What was cut while others wait here who may be for its end waits here, too; and so does it where nobody waits in the LLC's
	 * lane, in whose turn it would be: what it holds, others of this CPU come to wait for.
	 */
	tctx->carries = used_ns && lane == LANE_FAIR && !waits && carries_on(p, tctx, cctx, lctx) &&
			(!READ_ONCE(lctx->nr_fair) || first_fresh_need_ns(cpu, cctx, lctx) != POLICY_NEVER_NS);
	queue = policy_queue(lane, pinned,
			     policy_stays_near(tctx->quantum_ns, used_ns, tctx->yielded, tctx->paced || tctx->carries),
			     tctx->idle);

	slice_ns = grant_slice(p, tctx, tctx->lane, per_cpu(cctx->nr_waiting, lctx->nr_cpus));
	if (pinned)
		COUNT(queued_pinned);
	place = find_place(p, tctx, cpu, lctx, pinned, queue == QUEUE_FRESH,
			   woken && bpf_in_interrupt() ? OCCASION_INTERRUPT : OCCASION_WAKEUP, now_ns);
	if (queue == QUEUE_FRESH) {
		tctx->deadline_after_ns = fresh_delay_ns(&pp, tctx, used_ns);
		COUNT(queued_fresh);
		count(tctx, QUEUE_FRESH, place.at, pinned);
		scx_bpf_dsq_insert_vtime(p, fresh_dsq(place.at), slice_ns,
					 policy_fresh_since_ns(tctx->wake_ns, now_ns, tctx->yielded) +
						 tctx->deadline_after_ns,
					 enq_flags);
	} else {
		queue_by_clock(p, tctx, queue, cpu, cctx, lctx, slice_ns, now_ns, enq_flags);
	}
	tctx->yielded = false;

	/*
	 * Only now look for an idle CPU: one that went idle before the insertion has not seen the task, and one that
	 * goes idle after it will.
	 */
	idle_cpu = claim_idle_cpu(p, cpu, pinned, woken && __COMPAT_is_enq_cpu_selected(enq_flags));
	switch (policy_call(idle_cpu >= 0, place.victim >= 0)) {
	case CALL_IDLE:
		scx_bpf_kick_cpu(idle_cpu, SCX_KICK_IDLE);
		break;
	case CALL_VICTIM:
		call_victim(place.victim);
		break;
	case CALL_NOBODY:
		break;
	}
	/* It was to be put aside, but meanwhile it need not: its CPU, which goes idle, has looked already. */
	if (enq_flags & SCX_ENQ_LAST)
		scx_bpf_kick_cpu(cpu, 0);
}

/*
 * cpu goes idle, or no longer is. Runs on cpu under its rq lock. The kernel marks it idle after this, so who queues a task at
 * this moment may find it busy yet; and a look into a lane fails, if the task is just being moved: it looks once more.
 */
void BPF_STRUCT_OPS(ml_update_idle, s32 cpu, bool idle)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct llc_ctx *lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;

	if (!lctx)
		return;
	note_rest(cctx, idle);
	if (idle && (READ_ONCE(lctx->nr_fresh) || READ_ONCE(lctx->nr_fair) || READ_ONCE(lctx->nr_idle) ||
		     READ_ONCE(lctx->nr_near) || scx_bpf_dsq_nr_queued(near_dsq(cpu)) > 0)) {
		COUNT(relooks);
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
	}
}

/*
 * from, which runs, lets others run first; to: all of them, if it is NULL, else that one (KVM). Runs on from's CPU under its rq
 * lock; `current` is from. While its slice lasts it goes on, and the kernel does not even ask what else there is.
 */
bool BPF_STRUCT_OPS(ml_yield, struct task_struct *from, struct task_struct *to)
{
	struct task_ctx *tctx = task_ctx_of(from);
	struct cpu_ctx *cctx = cpu_ctx_of(scx_bpf_task_cpu(from));
	struct llc_ctx *lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;

	COUNT(yields);
	if (!tctx || !lctx)
		return false;
	if (!to) {
		if (!READ_ONCE(lctx->nr_fresh) && !waits_by_clock(cctx, lctx))
			return true;
		if (tctx->yields < POLICY_YIELDS_MAX)
			tctx->yields++;
		if (!policy_heeds_yield(tctx->yields, scx_bpf_now() - READ_ONCE(cctx->run_start_ns)))
			return true;
	}
	COUNT(yields_heeded);
	tctx->yielded = true;
	scx_bpf_task_set_slice(from, 0);
	return true;
}

/* p becomes runnable. Runs on any CPU under p's rq lock; at a wake-up `current` is as in ops.select_cpu. */
void BPF_STRUCT_OPS(ml_runnable, struct task_struct *p, u64 enq_flags)
{
	struct task_ctx *tctx = task_ctx_of(p);
	u64 now_ns = scx_bpf_now();

	if (!tctx)
		return;
	tctx->queued_ns = now_ns;
	group_task_runnable(p, tctx, now_ns);
	begin_burst(p, tctx, false);
	tctx->woken |= !!(enq_flags & SCX_ENQ_WAKEUP);
}

/* p starts to run on scx_bpf_task_cpu(p), under its rq lock; possibly executed by another CPU. */
void BPF_STRUCT_OPS(ml_running, struct task_struct *p)
{
	s32 cpu = scx_bpf_task_cpu(p);
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct task_ctx *tctx = task_ctx_of(p);
	u64 now_ns = scx_bpf_now(), before, vclock, *clock;
	u32 weight, inv_weight_q16;
	struct llc_ctx *lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;

	if (!tctx || !lctx)
		return;

	note_latency(p, tctx, now_ns);
	uncount(tctx);
	join_llc(p, tctx, cctx->llc, lctx);
	tctx->yielded = false;
	tctx->yields = 0;
	tctx->exec_at_run_ns = p->se.sum_exec_runtime;
	if (tctx->last_cpu != cpu) {
		tctx->migrations += tctx->last_cpu >= 0;
		tctx->last_cpu = cpu;
	}
	if (tctx->queued_ns) {
		u64 wait_ns = now_ns > tctx->queued_ns ? now_ns - tctx->queued_ns : 0;
		struct counters *c = counters_here();

		tctx->wait_ns += wait_ns;
		tctx->queued_ns = 0;
		if (c) {
			c->wait_ns += wait_ns;
			c->waits++;
		}
	}

	cctx->burst_before_ns = burst_used_ns(p, tctx);
	cctx->expected_ns = tctx->expected_ns;
	cctx->stretched_ns = tctx->stretched_ns;
	cctx->quantum_ns = unscaled_quantum_ns(cctx, tctx->quantum_ns);
	inv_weight_q16 = tctx->inv_weight_q16 > ~0U ? ~0U : tctx->inv_weight_q16;
	cctx->inv_weight_q16 = inv_weight_q16;
	/* Kernel threads are heavy, or quick, or both: nobody competes with them. */
	if (!tctx->idle && !(p->flags & PF_KTHREAD))
		cctx->heavy_inv_q16 = policy_heavy(cctx->heavy_inv_q16, inv_weight_q16);
	if (cctx->idle != tctx->idle)
		__sync_fetch_and_add(&lctx->nr_idling, tctx->idle ? 1 : -1);
	cctx->idle = tctx->idle;
	cctx->wakee_pid = tctx->wakee_pid;
	cctx->partner = false;
	if (mode != MODE_BASE) {
		cctx->runs_pid = p->pid;
		cctx->runs_burst_q8 = tctx->history.log_burst_q8;
		cctx->runs_pred_q8 = told_pred_q8(tctx);
	}
	WRITE_ONCE(cctx->leaves, 0);
	WRITE_ONCE(cctx->run_start_ns, now_ns);
	freq_running(cpu, cctx, cctx->burst_before_ns, now_ns);
	cctx->wakes_made = 0;
	note_rest(cctx, 0);
	weight = counted_weight_q10(tctx);
	if (weight != cctx->weight_here_q10) {
		__sync_fetch_and_add(&lctx->weight_running_q10, (s64)weight - cctx->weight_here_q10);
		cctx->weight_here_q10 = weight;
	}
	bandwidth_running(p, tctx, cpu);

	clock = clock_for(lctx, tctx->idle);
	before = *clock;
	vclock = policy_clock_at_run(tctx->paced ? LANE_FRESH : tctx->lane, tctx->vruntime, before);
	/* Others move it, too: where it stays, nothing is written. */
	if (vclock != before)
		*clock = vclock;
}

/* p stops running; runnable says whether it would go on. Same context as ops.running. */
void BPF_STRUCT_OPS(ml_stopping, struct task_struct *p, bool runnable)
{
	struct cpu_ctx *cctx = cpu_ctx_of(scx_bpf_task_cpu(p));
	struct task_ctx *tctx = task_ctx_of(p);
	u64 vused, start_ns, now_ns, *clock, weight_q10;
	struct llc_ctx *lctx;
	bool over = false;
	u32 rivals = 0;
	s64 ahead;

	if (!tctx || !cctx)
		return;

	start_ns = cctx->run_start_ns;
	WRITE_ONCE(cctx->run_start_ns, 0);
	tctx->wakee_pid = cctx->wakee_pid;
	tctx->used_ns = p->se.sum_exec_runtime - tctx->exec_at_run_ns;
	vused = policy_virtual_ns(tctx->used_ns, tctx->inv_weight_q16);
	tctx->exec_at_run_ns = p->se.sum_exec_runtime;
	tctx->vruntime += vused;
	tctx->wakes_made += cctx->wakes_made;
	bandwidth_stopping(p, tctx);
	freq_stopping(cctx, tctx->used_ns);
	scale_burst(tctx, cctx, tctx->used_ns);

	/* Racing updates may lose a step; bound_vruntime() and ops.running keep the clock near the tasks anyway. */
	lctx = llc_ctx_of(cctx->llc);
	if (lctx) {
		clock = clock_for(lctx, tctx->idle);
		weight_q10 = READ_ONCE(lctx->weight_waiting_q10) + READ_ONCE(lctx->weight_running_q10);
		rivals = tctx->idle ? READ_ONCE(lctx->nr_idle) + lctx->nr_cpus
				    : policy_rivals(weight_q10, tctx->inv_weight_q16);
		ahead = policy_vdiff(tctx->vruntime, *clock);
		*clock += policy_vclock_step(vused, ahead, rivals);
		over = ahead >= (s64)policy_virtual_ns(params.lag_ns, tctx->inv_weight_q16);
	}

	if (tctx->lane != LANE_FAIR && !runnable && !over)
		return;
	now_ns = scx_bpf_now();
	if (lctx)
		tctx->due_ns = policy_due_ns(tctx->paced, tctx->due_ns, start_ns, now_ns,
					     policy_pace_ns(tctx->used_ns, rivals, lctx->nr_cpus,
							    nr_by_clock(scx_bpf_task_cpu(p), cctx, lctx)),
					     params.lag_ns);
	/* Its fair lane has just had a turn. */
	if (tctx->lane == LANE_FAIR)
		cctx->fair_turn_ns = now_ns;
	if (runnable) {
		tctx->preemptions++;
		tctx->queued_ns = now_ns;
	}
}

/* p stops being runnable: it blocks, exits, or is taken out for a moment (affinity, nice, class). Under its rq lock. */
void BPF_STRUCT_OPS(ml_quiescent, struct task_struct *p, u64 deq_flags)
{
	struct task_ctx *tctx = task_ctx_of(p);

	if (!tctx)
		return;
	tctx->queued_ns = 0;
	uncount(tctx);
	group_task_quiescent(tctx);
	if (deq_flags & SCX_DEQ_SLEEP)
		end_burst(p, tctx);
}

/* The timer tick on a CPU that runs p, under its rq lock. A slice can end only here, or when somebody preempts. */
void BPF_STRUCT_OPS(ml_tick, struct task_struct *p)
{
	s32 cpu = scx_bpf_task_cpu(p), idle_cpu;
	struct task_ctx *tctx = task_ctx_of(p);
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct llc_ctx *lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;
	u64 now_ns = scx_bpf_now(), waits;

	if (!tctx || !lctx)
		return;
	if (group_tick(p, tctx, now_ns))
		scx_bpf_task_set_slice(p, 0);
	freq_tick(p, tctx, cpu, cctx, now_ns);

	/* Where somebody waits for this CPU, whom an idle one may take. */
	waits = READ_ONCE(cctx->nr_fresh)  ? fresh_dsq(cpu)
		: READ_ONCE(lctx->nr_fair) ? fair_dsq(cctx->llc)
		: READ_ONCE(cctx->nr_near) ? near_dsq(cpu)
					   : 0;
	if (makes_room_for_fresh(cpu, cctx, lctx, now_ns) || makes_room_for_fair(p, tctx, cpu, cctx, lctx, now_ns)) {
		scx_bpf_task_set_slice(p, 0);
		COUNT(tick_preempts);
	}
	/* Closes the gap between a CPU's last look at the queues and its idle bit: see ops.enqueue. */
	if (waits) {
		idle_cpu = claim_idle_cpu_for_head(waits);
		if (idle_cpu >= 0)
			scx_bpf_kick_cpu(idle_cpu, SCX_KICK_IDLE);
	}
}

/* A higher class takes the CPU over: what was dispatched to it must not wait for that class to finish. */
void BPF_STRUCT_OPS(ml_cpu_release, s32 cpu, struct scx_cpu_release_args *args)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);

	if (cctx)
		WRITE_ONCE(cctx->taken, 1);
	scx_bpf_reenqueue_local();
}

/* It is ours again. */
void BPF_STRUCT_OPS(ml_cpu_acquire, s32 cpu, struct scx_cpu_acquire_args *args)
{
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);

	if (cctx)
		WRITE_ONCE(cctx->taken, 0);
}

/* p's nice value changed. Under its rq lock. */
void BPF_STRUCT_OPS(ml_set_weight, struct task_struct *p, u32 weight)
{
	struct task_ctx *tctx = task_ctx_of(p);

	if (tctx)
		update_weight(p, tctx, scx_bpf_now());
}

/*
 * A task is new, or existed when the scheduler was loaded. May sleep; at a fork `current` is the parent. Contexts outlive a
 * restart after a hotplug (scheduler.rs): what is known of a task stays, where it waited and what it counted in has gone.
 */
s32 BPF_STRUCT_OPS_SLEEPABLE(ml_init_task, struct task_struct *p, struct scx_init_task_args *args)
{
	struct task_ctx *tctx = bpf_task_storage_get(&task_ctxs, p, 0, 0);
	bool known = tctx;

	if (!tctx)
		tctx = bpf_task_storage_get(&task_ctxs, p, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!tctx)
		return -ENOMEM;
	tctx->counted = 0;
	tctx->queued_ns = 0;
	tctx->group_weight = 0;
	tctx->in_burst = false;
	tctx->woken = false;
	tctx->yielded = false;
	tctx->yields = 0;
	tctx->pass = false;
	tctx->cgroup_id = 0;
	tctx->weight_q20 = WEIGHT_ONE_Q20;
	tctx->inv_weight_q16 = INV_WEIGHT_ONE_Q16;
	if (bpf_core_field_exists(args->cgroup))
		tctx->cgroup_id = group_id(args->cgroup);
	if (!known)
		init_history(p, tctx, args->fork ? bpf_get_current_task_btf() : NULL);
	return 0;
}

/*
 * p enters sched_ext: from a fork, another class, or when the scheduler is loaded. Under its rq lock. It is as far ahead or
 * behind as it was when it left, or the change of class would be a way to a better place.
 */
void BPF_STRUCT_OPS(ml_enable, struct task_struct *p)
{
	struct cpu_ctx *cctx = cpu_ctx_of(scx_bpf_task_cpu(p));
	struct task_ctx *tctx = task_ctx_of(p);
	struct llc_ctx *lctx;
	u64 vclock, vlag;

	if (!tctx || !cctx)
		return;
	tctx->charged_exec_ns = p->se.sum_exec_runtime;
	update_weight(p, tctx, scx_bpf_now());
	tctx->on_clock = 2 * cctx->llc + tctx->idle;
	lctx = llc_ctx_of(cctx->llc);
	if (lctx) {
		vclock = *clock_for(lctx, tctx->idle);
		vlag = policy_virtual_ns(params.lag_ns, tctx->inv_weight_q16);
		tctx->vruntime = policy_bound_vruntime(vclock + tctx->vruntime, vclock, vlag, vlag, false);
	}
}

/*
 * p leaves sched_ext: for another class, because it exits, or with the scheduler. Under its rq lock. Until it comes back its
 * virtual time is what it is ahead of the clock; nobody knows how far that goes meanwhile, or whether it is the same one.
 */
void BPF_STRUCT_OPS(ml_disable, struct task_struct *p)
{
	struct task_ctx *tctx = task_ctx_of(p);
	struct llc_ctx *lctx;

	if (!tctx)
		return;
	uncount(tctx);
	group_task_quiescent(tctx);
	lctx = llc_ctx_of(tctx->on_clock / 2);
	tctx->vruntime = lctx ? tctx->vruntime - *clock_for(lctx, tctx->on_clock & 1) : 0;
	/* What it does from here on is no sleep. */
	if (tctx->in_burst)
		tctx->blocked_ns = 0;
	tctx->in_burst = false;
	tctx->woken = false;
}

/* The kernel takes every CPU that is online for idle at first. */
__noinline int note_online(void)
{
	const struct cpumask *online = scx_bpf_get_online_cpumask();
	u32 cpu;

	bpf_for (cpu, 0, nr_cpus) {
		struct cpu_ctx *cctx = cpu_ctx_of(cpu);

		if (cctx && bpf_cpumask_test_cpu(cpu, online))
			note_rest(cctx, 1);
	}
	scx_bpf_put_cpumask(online);
	return 0;
}

s32 BPF_STRUCT_OPS_SLEEPABLE(ml_init)
{
	s32 err = create_queues();

	note_online();
	check_lines();
	err = err ?: create_linger_timer();
	err = err ?: create_speed_timer();
	return err ?: create_big_cpus();
}

void BPF_STRUCT_OPS(ml_exit, struct scx_exit_info *ei)
{
	UEI_RECORD(uei, ei);
}

SCX_OPS_DEFINE(ml_ops, .select_cpu = (void *)ml_select_cpu, .enqueue = (void *)ml_enqueue,
	       .dispatch = (void *)ml_dispatch, .runnable = (void *)ml_runnable, .running = (void *)ml_running,
	       .stopping = (void *)ml_stopping, .quiescent = (void *)ml_quiescent, .tick = (void *)ml_tick,
	       .yield = (void *)ml_yield, .update_idle = (void *)ml_update_idle, .cpu_release = (void *)ml_cpu_release,
	       .cpu_acquire = (void *)ml_cpu_acquire, .set_weight = (void *)ml_set_weight,
	       .init_task = (void *)ml_init_task, .enable = (void *)ml_enable, .disable = (void *)ml_disable,
	       .cgroup_init = (void *)ml_cgroup_init, .cgroup_exit = (void *)ml_cgroup_exit,
	       .cgroup_move = (void *)ml_cgroup_move, .cgroup_set_weight = (void *)ml_cgroup_set_weight,
	       .cgroup_set_bandwidth = (void *)ml_cgroup_set_bandwidth, .cgroup_set_idle = (void *)ml_cgroup_set_idle,
	       .init = (void *)ml_init, .exit = (void *)ml_exit, .timeout_ms = 10000, .name = "ml");
