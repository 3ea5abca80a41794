/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * scx_ml: the struct_ops. The mechanisms are in the headers, one subject each:
 *
 *   intf.h, record.h   shared with user space      task.bpf.h       state and counters
 *   model.h            prediction, integer maths   features.bpf.h   what is known about a task
 *   policy.h           virtual time, slices        burst.bpf.h      a burst from wake-up to block
 *   decide.h           what is done by them        samples.bpf.h    records to user space
 *   queues.bpf.h       lanes, placement            group.bpf.h      nice and cgroup weights
 *   preempt.bpf.h      who makes room, and when    latency.bpf.h    from wake-up to running
 *   relief.bpf.h       whom nobody serves
 */
#include "preempt.bpf.h"
#include "relief.bpf.h"
#include "burst.bpf.h"
#include "latency.bpf.h"

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

	if (__COMPAT_HAS_scx_bpf_select_cpu_and) {
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
 * Queue a task: one that woke without an idle CPU for it, whose slice ended, or that was taken off a CPU. Runs on any
 * CPU with the lock of p's run queue held; `current` is anything.
 */
void BPF_STRUCT_OPS(ml_enqueue, struct task_struct *p, u64 enq_flags)
{
	struct policy_params pp = policy_params();
	s32 cpu = scx_bpf_task_cpu(p), idle_cpu, victim = -1, at = cpu;
	struct task_ctx *tctx = task_ctx_of(p);
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	bool pinned = is_pinned(p), woken = enq_flags & SCX_ENQ_WAKEUP;
	u64 now_ns = scx_bpf_now(), key, slice_ns, vlag;
	enum policy_queue queue;
	struct llc_ctx *lctx;

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
	vlag = join_llc(p, tctx, cctx->llc, lctx);
	/* Of our own threads the trainer is nice; those who feed it are not, and quick. */
	tctx->lane = policy_lane(tctx->quantum_ns, burst_used_ns(p, tctx), policy_vdiff(tctx->vruntime, lctx->vclock),
				 vlag, is_own_task(p) && p->scx.weight < 100);
	queue = policy_queue(tctx->lane, pinned);

	slice_ns = grant_slice(p, tctx, tctx->lane, policy_per_cpu(cctx->nr_waiting, lctx->nr_cpus));
	if (pinned)
		COUNT(queued_pinned);
	if (queue != QUEUE_FRESH) {
		key = reach_key(lctx, fair_key(p, tctx, tctx->vruntime),
				policy_per_cpu(cctx->nr_waiting, lctx->nr_cpus), now_ns);
		tctx->deadline_after_ns = policy_vdiff(key, lctx->vclock);
		COUNT(queued_fair);
		if (queue == QUEUE_PINNED)
			cctx->maybe_pinned = 1;
		else
			count_fair(tctx, cctx->llc);
		scx_bpf_dsq_insert_vtime(p, queue == QUEUE_PINNED ? pinned_dsq(cpu) : fair_dsq(cctx->llc), slice_ns,
					 key, enq_flags);
	} else {
		victim = find_preemptible(p, cpu, pinned,
					  woken && bpf_in_interrupt() ? OCCASION_INTERRUPT : OCCASION_WAKEUP, now_ns);
		at = victim >= 0 ? victim : serving_cpu(p, cpu, pinned);
		tctx->deadline_after_ns = policy_fresh_delay_ns(&pp, tctx->steering, tctx->steer_q16);
		key = now_ns + tctx->deadline_after_ns;
		COUNT(queued_fresh);
		count_fresh(tctx, at);
		scx_bpf_dsq_insert_vtime(p, fresh_dsq(at), slice_ns, key, enq_flags);
	}

	/*
	 * Only now look for an idle CPU: one that went idle before the insertion has not seen the task, and one that
	 * goes idle after it will.
	 */
	idle_cpu = claim_idle_cpu(p, cpu, pinned, woken && __COMPAT_is_enq_cpu_selected(enq_flags));
	switch (policy_call(idle_cpu >= 0, victim >= 0, queue)) {
	case CALL_IDLE:
		scx_bpf_kick_cpu(idle_cpu, SCX_KICK_IDLE);
		break;
	case CALL_VICTIM:
		COUNT(preempt_kicks);
		scx_bpf_kick_cpu(victim, SCX_KICK_PREEMPT);
		break;
	case CALL_TIMER:
		set_quantum_timer(at, now_ns);
		break;
	case CALL_NOBODY:
		break;
	}
}

/* Renew the slice of prev, which goes on because nothing more urgent waits. */
static void keep_running(struct task_struct *prev, struct task_ctx *tctx, u32 nr_waiting)
{
	COUNT(kept_running);
	scx_bpf_task_set_slice(prev, tctx ? grant_slice(prev, tctx, LANE_FAIR, nr_waiting) : params.slice_min_ns);
}

/* Virtual deadline of p, which runs. */
static u64 running_key(struct task_struct *p, struct task_ctx *tctx)
{
	u64 used_ns = p->se.sum_exec_runtime - tctx->exec_at_run_ns;

	return fair_key(p, tctx, tctx->vruntime + policy_virtual_ns(used_ns, tctx->inv_weight_q16));
}

/* Whether prev, whose slice ended, has an earlier virtual deadline than what waits in the fair lane of its queues. */
static bool prev_is_next(struct task_struct *prev, struct task_ctx *tctx, s32 cpu, u32 llc, bool pinned_wait)
{
	return policy_goes_on(running_key(prev, tctx), head_key(fair_dsq(llc)),
			      pinned_wait ? head_key(pinned_dsq(cpu)) : POLICY_NO_KEY);
}

/* What ops.dispatch knows of the CPU that looks for a task. */
struct dispatch {
	s32 cpu;
	u32 llc;
	struct cpu_ctx *cctx;
	struct llc_ctx *lctx;
	struct task_struct *prev;
	struct task_ctx *prev_ctx; /* looked up when it is first asked for */
	u64 now_ns;
	u32 nr_fresh;
	u32 per_cpu; /* tasks that wait, per CPU */
	bool pinned_wait;
};

/* Try one step of policy_serve. Return true if cpu has a task to run now. From ops.dispatch only. */
static __always_inline bool serve(struct dispatch *d, enum policy_serve step, bool overdue)
{
	switch (step) {
	case SERVE_FRESH:
	case SERVE_FRESH_AFTER_ALL:
		return take_fresh(d->cpu, d->cctx, d->lctx, d->nr_fresh);
	case SERVE_PREV_BY_KEY:
		d->prev_ctx = task_ctx_of(d->prev);
		if (!d->prev_ctx || !prev_is_next(d->prev, d->prev_ctx, d->cpu, d->llc, d->pinned_wait))
			return false;
		d->cctx->fair_turn_ns = d->now_ns;
		keep_running(d->prev, d->prev_ctx, d->per_cpu);
		return true;
	case SERVE_FAIR:
		if (!take_fair(d->cpu, d->llc, d->pinned_wait))
			return false;
		d->cctx->fair_turn_ns = d->now_ns;
		if (overdue) {
			d->cctx->protect_until_ns = d->now_ns + first_quantum_ns();
			COUNT(fair_turns);
		}
		return true;
	case SERVE_PREV:
		keep_running(d->prev, d->prev_ctx ?: task_ctx_of(d->prev), d->per_cpu);
		return true;
	case SERVE_FRESH_OF_LLC:
		return take_llcs_fresh(d->cctx, d->lctx);
	case SERVE_OTHER_LLCS:
		return steal_from_llcs(d->llc, d->lctx);
	default:
		return false;
	}
}

/*
 * A CPU has nothing in its local DSQ: give it a task. Runs on cpu (or on a sibling that schedules for it under core
 * scheduling) with its rq lock held; prev is what ran, and goes on if nothing is moved and it is still runnable.
 */
void BPF_STRUCT_OPS(ml_dispatch, s32 cpu, struct task_struct *prev)
{
	struct dispatch d = {.cpu = cpu, .prev = prev, .cctx = cpu_ctx_of(cpu), .now_ns = scx_bpf_now()};
	struct serving s = {.prev_runs = prev && (prev->scx.flags & SCX_TASK_QUEUED)};
	s32 nr_fair, nr_pinned = 0;
	u32 step;

	if (!d.cctx)
		return;
	d.llc = d.cctx->llc;
	d.lctx = llc_ctx_of(d.llc);
	if (!d.lctx)
		return;

	/* Queued there and looked at here under the same rq lock: the hint cannot miss anybody. */
	if (d.cctx->maybe_pinned) {
		nr_pinned = scx_bpf_dsq_nr_queued(pinned_dsq(cpu));
		d.cctx->maybe_pinned = nr_pinned > 0;
	}
	d.pinned_wait = nr_pinned > 0;
	nr_fair = nr_pinned + (READ_ONCE(d.lctx->nr_fair) ? scx_bpf_dsq_nr_queued(fair_dsq(d.llc)) : 0);
	d.nr_fresh = READ_ONCE(d.cctx->nr_fresh);
	d.cctx->nr_waiting = nr_fair + d.nr_fresh;
	d.per_cpu = policy_per_cpu(nr_fair, d.lctx->nr_cpus) + d.nr_fresh;

	if (relieve_others(cpu, d.cctx, d.lctx, d.llc, d.pinned_wait, d.now_ns))
		return;
	s.fair_waits = nr_fair > 0;
	if (!s.fair_waits) {
		d.cctx->fair_turn_ns = d.now_ns;
		d.cctx->fair_behind = 0;
	}
	s.overdue = policy_fair_overdue(params.fair_interval_ns, d.cctx->fair_turn_ns, d.cctx->fair_behind, d.now_ns);
	if (s.overdue)
		d.cctx->fair_behind = fair_is_behind(cpu, d.llc, d.pinned_wait, d.now_ns);

#pragma unroll
	for (step = 0; step < NR_SERVE; step++)
		if (policy_serves(&s, step) && serve(&d, step, s.overdue))
			return;
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
	u64 now_ns = scx_bpf_now(), before, vclock;
	struct llc_ctx *lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;

	if (!tctx || !lctx)
		return;

	note_latency(p, tctx, now_ns);
	uncount(tctx);
	join_llc(p, tctx, cctx->llc, lctx);
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
	cctx->quantum_ns = policy_protected_ns(tctx->quantum_ns, tctx->sure_long);
	WRITE_ONCE(cctx->run_start_ns, now_ns);
	cctx->wakes_made = 0;
	if (READ_ONCE(cctx->nr_fresh))
		set_quantum_timer(cpu, now_ns);

	before = lctx->vclock;
	vclock = policy_clock_at_run(tctx->lane, tctx->vruntime, before);
	/* Others move it, too: where it stays, nothing is written. */
	if (vclock != before)
		lctx->vclock = vclock;
}

/* p stops running; runnable says whether it would go on. Same context as ops.running. */
void BPF_STRUCT_OPS(ml_stopping, struct task_struct *p, bool runnable)
{
	struct cpu_ctx *cctx = cpu_ctx_of(scx_bpf_task_cpu(p));
	struct task_ctx *tctx = task_ctx_of(p);
	struct llc_ctx *lctx;
	u64 vused, now_ns;

	if (!tctx || !cctx)
		return;

	WRITE_ONCE(cctx->run_start_ns, 0);
	tctx->used_ns = p->se.sum_exec_runtime - tctx->exec_at_run_ns;
	vused = policy_virtual_ns(tctx->used_ns, tctx->inv_weight_q16);
	tctx->exec_at_run_ns = p->se.sum_exec_runtime;
	tctx->vruntime += vused;
	tctx->wakes_made += cctx->wakes_made;

	/* Racing updates may lose a step; bound_vruntime() and ops.running keep the clock near the tasks anyway. */
	lctx = llc_ctx_of(cctx->llc);
	if (lctx)
		lctx->vclock += policy_vclock_step(vused, policy_vdiff(tctx->vruntime, lctx->vclock),
						   cctx->nr_waiting + lctx->nr_cpus);

	if (tctx->lane != LANE_FAIR && !runnable)
		return;
	now_ns = scx_bpf_now();
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

/* Whether p, which runs, makes room for what stands first in the fair lane of its LLC. */
static bool yields_to_fair(struct task_struct *p, u32 llc)
{
	struct task_struct *first = __COMPAT_scx_bpf_dsq_peek(fair_dsq(llc));
	struct task_ctx *fctx = first ? task_ctx_of(first) : NULL, *tctx = task_ctx_of(p);
	struct policy_params pp = policy_params();

	return fctx && tctx &&
	       policy_yields_at_tick(&pp, tctx->lane, burst_used_ns(p, tctx), running_key(p, tctx),
				     burst_used_ns(first, fctx), first->scx.dsq_vtime);
}

/* The timer tick on a CPU that runs p, under its rq lock. A slice can end only here, or when somebody preempts. */
void BPF_STRUCT_OPS(ml_tick, struct task_struct *p)
{
	s32 cpu = scx_bpf_task_cpu(p), idle_cpu;
	struct cpu_ctx *cctx = cpu_ctx_of(cpu);
	struct llc_ctx *lctx = cctx ? llc_ctx_of(cctx->llc) : NULL;
	s32 nr_fresh, nr_fair;

	if (!lctx)
		return;
	nr_fresh = READ_ONCE(cctx->nr_fresh) ? scx_bpf_dsq_nr_queued(fresh_dsq(cpu)) : 0;
	nr_fair = READ_ONCE(lctx->nr_fair) ? scx_bpf_dsq_nr_queued(fair_dsq(cctx->llc)) : 0;

	if ((nr_fresh > 0 && !room_in_ns(cpu, OCCASION_TICK, scx_bpf_now())) ||
	    (nr_fair > 0 && yields_to_fair(p, cctx->llc))) {
		scx_bpf_task_set_slice(p, 0);
		COUNT(tick_preempts);
	}
	/* Closes the gap between a CPU's last look at the queues and its idle bit: see ops.enqueue. */
	if (nr_fresh > 0 || nr_fair > 0) {
		idle_cpu = claim_idle_cpu_for_head(nr_fresh > 0 ? fresh_dsq(cpu) : fair_dsq(cctx->llc));
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
	tctx->counted_at = 0;
	tctx->queued_ns = 0;
	tctx->group_weight = 0;
	tctx->in_burst = false;
	tctx->woken = false;
	tctx->cgroup_id = 0;
	tctx->weight_q10 = 100 << 10;
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

	if (!tctx || !cctx)
		return;
	tctx->llc = cctx->llc;
	update_weight(p, tctx, scx_bpf_now());
	lctx = llc_ctx_of(cctx->llc);
	if (lctx)
		tctx->vruntime = policy_bound_vruntime(lctx->vclock + tctx->vruntime, lctx->vclock,
						       policy_virtual_ns(params.lag_ns, tctx->inv_weight_q16), false);
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
	lctx = llc_ctx_of(tctx->llc);
	tctx->vruntime = lctx ? tctx->vruntime - lctx->vclock : 0;
	/* What it does from here on is no sleep. */
	if (tctx->in_burst)
		tctx->blocked_ns = 0;
	tctx->in_burst = false;
	tctx->woken = false;
}

s32 BPF_STRUCT_OPS_SLEEPABLE(ml_init)
{
	s32 err = create_queues();

	return err ?: create_quantum_timers();
}

void BPF_STRUCT_OPS(ml_exit, struct scx_exit_info *ei)
{
	UEI_RECORD(uei, ei);
}

SCX_OPS_DEFINE(ml_ops, .select_cpu = (void *)ml_select_cpu, .enqueue = (void *)ml_enqueue,
	       .dispatch = (void *)ml_dispatch, .runnable = (void *)ml_runnable, .running = (void *)ml_running,
	       .stopping = (void *)ml_stopping, .quiescent = (void *)ml_quiescent, .tick = (void *)ml_tick,
	       .cpu_release = (void *)ml_cpu_release, .cpu_acquire = (void *)ml_cpu_acquire,
	       .set_weight = (void *)ml_set_weight, .init_task = (void *)ml_init_task, .enable = (void *)ml_enable,
	       .disable = (void *)ml_disable, .cgroup_init = (void *)ml_cgroup_init,
	       .cgroup_exit = (void *)ml_cgroup_exit, .cgroup_move = (void *)ml_cgroup_move,
	       .cgroup_set_weight = (void *)ml_cgroup_set_weight, .init = (void *)ml_init, .exit = (void *)ml_exit,
	       .timeout_ms = 10000, .name = "ml");
