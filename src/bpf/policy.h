/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The policy's mathematics: virtual time, lanes, keys and slices. What is done by them is decided in decide.h.
 *
 * Pure integer C without helpers, maps or division, compiled for BPF and for the host (see model.h). docs/policy.md
 * explains the policy; in short:
 *
 *   first quantum  what a wake-up may run before others may take its place. A burst that is surely predicted to end a
 *                  little later is let finish.
 *   fresh lane   a task that has just woken and has not used up its first quantum. Ordered by real time: the wake-up
 *                plus, with a model that predicts more than the first quantum, that burst rounded to a power of two.
 *                Runs before everything else and preempts what is past its own first quantum.
 *   fair lane    the rest, ordered by virtual deadline: weighted virtual run time plus a request. With a sure prediction
 *                  the deadline stays as it was when the burst began, so that long bursts end one after the other.
 *
 * The fair lane has a guaranteed turn at intervals, and a task that has had more than its fair share (beyond the lag
 * bound) is not fresh, so neither lane can starve the other.
 */
#ifndef __SCX_ML_POLICY_H
#define __SCX_ML_POLICY_H

#include "intf.h"
#include "model.h"

/*
 * Weights are the kernel's own: 1024 is nice 0, and a cgroup's cpu.weight of 100. A task's effective weight, which counts those
 * of its cgroups, is relative to nice 0, in Q20, and never 0; the inverse of that is Q16. The least weight has the greatest.
 */
#define POLICY_WEIGHT_NICE_0 1024
#define POLICY_WEIGHT_IDLE 3 /* of SCHED_IDLE, and of a cgroup with cpu.idle */
#define WEIGHT_ONE_Q20 (1ULL << 20)
#define INV_WEIGHT_ONE_Q16 (1ULL << 16)
#define INV_WEIGHT_MAX_Q16 (1ULL << 36)

/* The weight of a task: the kernel's sched_prio_to_weight. static_prio: 100 is nice -20, 139 nice 19. */
static inline u32 policy_nice_weight(s32 static_prio, bool idle_policy)
{
	static const u32 weights[40] = {
		88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904,
		3906,  3121,  2501,  1991,  1586,  1277,  1024,  820,   655,   526,   423,  335,  272,  215,
		172,   137,   110,   87,    70,    56,    45,    36,    29,    23,    18,   15,
	};
	u32 i = clamp_s64((s64)static_prio - 100, 0, 39);

	if (idle_policy)
		return POLICY_WEIGHT_IDLE;
	return weights[i];
}

/* The weight of a cgroup with this cpu.weight, on the same scale. */
static inline u32 policy_cgroup_weight(u32 cpu_weight)
{
	u64 weight = ((u64)cpu_weight * POLICY_WEIGHT_NICE_0 + 50) / 100;

	return clamp_s64(weight, 1, 100 * POLICY_WEIGHT_NICE_0);
}

/* And back. */
static inline u32 policy_cpu_weight(u32 weight)
{
	return ((u64)weight * 100 + POLICY_WEIGHT_NICE_0 / 2) / POLICY_WEIGHT_NICE_0;
}

static inline u64 policy_inv_weight_q16(u32 weight_q20)
{
	return INV_WEIGHT_MAX_Q16 / (weight_q20 ? weight_q20 : 1);
}

/*
 * What one unit of a task's weight is worth in its cgroup: the product of weight / sum over all cgroups up to the root. As a
 * number of 32 significant bits, for products of a hundred levels become very small on the way, and large again:
 * mantissa * 2^exponent, with the highest bit of the mantissa set.
 */
struct share {
	u32 mantissa;
	s32 exponent;
};

static inline struct share policy_share_one(void)
{
	return (struct share){.mantissa = 1U << 31, .exponent = -31};
}

/* One level more: a cgroup of this weight among what is active beside it, itself included. Divides. */
static inline struct share policy_share_below(struct share share, u32 weight, u64 sum)
{
	u64 product = (u64)(share.mantissa ? share.mantissa : 1) * (weight ? weight : 1);
	s32 shift = 63 - (s32)ilog2_u64(product);
	u64 quotient = (product << shift) / (sum ? sum : 1);
	s32 high;

	if (!quotient)
		quotient = 1;
	high = ilog2_u64(quotient);
	return (struct share){
		.mantissa = high > 31 ? quotient >> (high - 31) : quotient << (31 - high),
		.exponent = share.exponent - shift + high - 31,
	};
}

/* Effective weight, of a task of this weight in a cgroup with this share. */
static inline u32 policy_share_weight_q20(struct share share, u32 weight)
{
	u64 product = (u64)share.mantissa * weight;
	s32 shift = share.exponent + 10; /* from units of nice 0's 1024 to Q20 */

	if (shift <= -64 || !(shift < 0 ? product >> -shift : product))
		return 1;
	if (shift < 0)
		product >>= -shift;
	else if (shift > 15 || (product << shift) >> shift != product)
		return ~0U;
	else
		product <<= shift;
	return product > ~0U ? ~0U : product;
}

/*
 * CPU time in virtual time: ns divided by the weight relative to nice 0. Exact for ns below 2^37 (137 s); saturates above, so
 * that no product can overflow.
 */
static inline u64 policy_virtual_ns(u64 ns, u64 inv_weight_q16)
{
	const u64 ns_max = 1ULL << 37;

	if (ns > ns_max)
		ns = ns_max;
	if (inv_weight_q16 > INV_WEIGHT_MAX_Q16)
		inv_weight_q16 = INV_WEIGHT_MAX_Q16;
	return ns * (inv_weight_q16 >> 16) + ((ns * (inv_weight_q16 & 0xffff)) >> 16);
}

/* a - b in virtual time, which wraps. */
static inline s64 policy_vdiff(u64 a, u64 b)
{
	return (s64)(a - b);
}

/*
 * A task's virtual time limited to the queue's virtual clock - the lag bound and + ahead_max, that bound or more: a task that
 * had idle CPUs for itself is not made to pay for them for ever. One that has just woken is at most a quarter of the bound
 * behind, its credit: enough to end a burst of a few ms before those who never sleep go on. With more, long bursts that begin
 * would delay those about to end.
 */
#define POLICY_CREDIT_SHIFT 2

static inline u64 policy_bound_vruntime(u64 vruntime, u64 vclock, u64 vlag, u64 ahead_max, bool woken)
{
	s64 ahead = policy_vdiff(vruntime, vclock);
	s64 behind_max = vlag >> (woken ? POLICY_CREDIT_SHIFT : 0);

	return vclock + (u64)clamp_s64(ahead, -behind_max, (s64)ahead_max);
}

/*
 * 1/n in Q16 for n in 1..64, without division. Above, the next power of two is taken.
 */
static inline u32 policy_recip_q16(u32 n)
{
	static const u32 recip_q16[65] = {
		65536, 65536, 32768, 21845, 16384, 13107, 10923, 9362, 8192, 7282, 6554, 5958, 5461,
		5041,  4681,  4369,  4096,  3855,  3641,  3449,  3277, 3121, 2979, 2849, 2731, 2621,
		2521,  2427,  2341,  2260,  2185,  2114,  2048,  1986, 1928, 1872, 1820, 1771, 1725,
		1680,  1638,  1598,  1560,  1524,  1489,  1456,  1425, 1394, 1365, 1337, 1311, 1285,
		1260,  1237,  1214,  1192,  1170,  1150,  1130,  1111, 1092, 1074, 1057, 1040, 1024,
	};

	if (n <= 64)
		return recip_q16[n];
	return 65536 >> (ilog2_u64(n - 1) + 1 > 16 ? 16 : ilog2_u64(n - 1) + 1);
}

/* Waiting tasks per CPU, rounded down. */
static inline u32 policy_per_cpu(u32 nr_waiting, u32 nr_cpus)
{
	return (nr_waiting * (u64)policy_recip_q16(nr_cpus)) >> 16;
}

/*
 * How many tasks of this one's weight would weigh what all do that compete for the CPUs of an LLC, it among them, rounded up;
 * weight_q10: the sum of their weights, 1.0 for nice 0.
 */
static inline u32 policy_rivals(u64 weight_q10, u64 inv_weight_q16)
{
	/* A quarter of a million of nice -20, and a part in sixteen thousand of nice 0: more makes no difference. */
	const u64 weight_max_q10 = 1ULL << 33, inv_weight_max_q16 = 1ULL << 30, rivals_max = 1ULL << 20;
	u64 rivals;

	if (weight_q10 > weight_max_q10)
		weight_q10 = weight_max_q10;
	if (inv_weight_q16 > inv_weight_max_q16)
		inv_weight_q16 = inv_weight_max_q16;
	rivals = (weight_q10 * inv_weight_q16 + (1ULL << 26) - 1) >> 26;
	return rivals > rivals_max ? rivals_max : rivals ?: 1;
}

/*
 * How far the virtual clock of a queue moves when a task has used vused and is ahead of it by `ahead` now, of tasks that all
 * together weigh what nr_rivals of it do: real time by the sum of weights, which is the mean of their virtual times by their
 * weights. By their number, one of nice 19 would move the clock by a second for 20 ms, and all others would lose what they
 * are behind. What a task uses up to the clock is credit from its sleep, and moves nothing: those who waited meanwhile would
 * fall behind until they and the sleepers are all at the bound, where nobody comes before anybody.
 */
static inline u64 policy_vclock_step(u64 vused, s64 ahead, u32 nr_rivals)
{
	u64 beyond = ahead < 0 ? 0 : ahead;

	if (beyond > vused)
		beyond = vused;
	return ((beyond >> 8) * policy_recip_q16(nr_rivals)) >> 8;
}

/* Whether a weight is much less than another, by their inverses. */
static inline bool policy_is_lighter(u64 inv_weight_q16, u64 than_inv_weight_q16)
{
	return inv_weight_q16 > 2 * than_inv_weight_q16;
}

/*
 * The heaviest weight that a CPU is used to, by its inverse, after a task of this weight has begun to run there: at once where
 * it is heavier, bit by bit where it is lighter. 0: none has run.
 */
#define POLICY_HEAVY_SHIFT 3

static inline u64 policy_heavy(u64 heavy_inv_q16, u64 inv_weight_q16)
{
	if (!heavy_inv_q16 || inv_weight_q16 <= heavy_inv_q16)
		return inv_weight_q16;
	return heavy_inv_q16 + ((inv_weight_q16 - heavy_inv_q16 + (1 << POLICY_HEAVY_SHIFT) - 1) >> POLICY_HEAVY_SHIFT);
}

/*
 * Whether a task has earned a first quantum on a CPU where others are heavier: with it, it must not be further ahead of the
 * clock than those may be. Otherwise wake-ups and forks of nice 19, a quantum each, would have as much as anybody's.
 */
static inline bool policy_has_earned(const struct policy_params *pp, u64 quantum_ns, s64 ahead, u64 inv_weight_q16,
				     u64 heavy_inv_q16)
{
	return !heavy_inv_q16 || !policy_is_lighter(inv_weight_q16, heavy_inv_q16) ||
	       ahead + (s64)policy_virtual_ns(quantum_ns, inv_weight_q16) <
		       (s64)policy_virtual_ns(pp->lag_ns, heavy_inv_q16);
}

/*
 * Which lane a task belongs to. quantum_ns: its first quantum; burst_ns: CPU time since it woke; ahead: its virtual time
 * beyond the clock's. waits: it is not to go before others, whatever it has used, as the trainer, whose work must not delay what
 * it learns from, one that yields, or one that has not earned it, see policy_has_earned(). due: though over its share, it may
 * go on, see policy_pace_ns().
 */
static inline enum policy_lane policy_lane(u64 quantum_ns, u64 burst_ns, s64 ahead, u64 vlag, bool waits, bool due)
{
	return burst_ns < quantum_ns && (ahead < (s64)vlag || due) && !waits ? LANE_FRESH : LANE_FAIR;
}

/*
 * Whether a task in the fair lane is paced: it goes on in turn with the others there. It has woken not long ago, and is over its
 * share, or half as far ahead and past its first quantum; a server whose clients never pause is both in turn. Those who never
 * sleep are behind the clock by as much as it is ahead, and by deadlines alone it would wait until they have caught up, tens of
 * ms, in which its own clients wait for it. It does not move the clock to where it is, or nobody would ever be over their share.
 */
#define POLICY_PACED_SHIFT 1

static inline bool policy_is_paced(const struct policy_params *pp, enum policy_lane lane, u64 burst_ns, s64 ahead,
				   u64 vlag, bool waits)
{
	return lane == LANE_FAIR && burst_ns < pp->lag_ns && ahead >= (s64)(vlag >> POLICY_PACED_SHIFT) && !waits;
}

/*
 * How long after it has run for used_ns a task is due that is paced: when it has had its share of that time, of nr_cpus CPUs
 * among nr_rivals that weigh what it does, see policy_rivals(), but of no more than one among the nr_waiting whom the clock
 * serves at its CPU: pinned tasks may be more there than elsewhere. So it stays as far ahead as it may be, and comes no further.
 */
static inline u64 policy_pace_ns(u64 used_ns, u32 nr_rivals, u32 nr_cpus, u32 nr_waiting)
{
	const u64 used_max_ns = 1ULL << 32;
	u64 others_q8 = (nr_rivals * (u64)policy_recip_q16(nr_cpus)) >> 8, here_q8 = (u64)nr_waiting << 8;
	u64 others_max_q8 = 1ULL << 30;

	others_q8 = others_q8 > 256 ? others_q8 - 256 : 0;
	if (others_q8 < here_q8)
		others_q8 = here_q8;
	if (used_ns > used_max_ns)
		used_ns = used_max_ns;
	if (others_q8 > others_max_q8)
		others_q8 = others_max_q8;
	return (used_ns * others_q8) >> 8;
}

/*
 * When a task is due that has run from start_ns until now_ns. Was it paced and due later, at due_ns, it has run before its turn, on
 * an idle CPU or because a change of class left it there: what was missing is to be waited for as well, up to the lag bound.
 */
static inline u64 policy_due_ns(bool paced, u64 due_ns, u64 start_ns, u64 now_ns, u64 pace_ns, u64 lag_ns)
{
	s64 early_ns = paced ? policy_vdiff(due_ns, start_ns) : 0;

	return now_ns + (u64)clamp_s64(early_ns, 0, (s64)lag_ns) + pace_ns;
}

/*
 * When a task stands in the fresh lane: it waits since it woke, also where it is queued anew, as a higher class took its CPU or
 * it was preempted by mistake. Who yields goes behind those who came meanwhile.
 */
static inline u64 policy_fresh_since_ns(u64 wake_ns, u64 now_ns, bool behind)
{
	return behind ? now_ns : wake_ns;
}

/*
 * What a task that has yielded so often, and goes on because its deadline is still the earliest, forfeits: a sixteenth of a
 * request each time, and so a quarter for each that is heeded, see policy_heeds_yield(). So who waits by yielding makes room after
 * some of them, whatever it had saved.
 */
static inline u64 policy_yields_ns(u64 first_quantum_ns, u32 yields)
{
	return yields * (first_quantum_ns >> 4);
}

/*
 * Virtual run time from which the deadline of a task that yields is counted: it forfeits a request, and what it is behind. So it
 * stands behind those who wait, but not behind what will not run for long.
 */
static inline u64 policy_yield_vruntime(const struct policy_params *pp, u64 vruntime, u64 vclock, u64 inv_weight_q16)
{
	u64 from = policy_vdiff(vruntime, vclock) > 0 ? vruntime : vclock;

	return from + policy_virtual_ns(pp->first_quantum_ns, inv_weight_q16);
}

/*
 * A prediction is sure when its high quantile is at most an octave above it, and it has lately been right about this very
 * task: a class's quantile leaves out one burst in twenty, and those may all be of one kind of task, the long ones.
 * Predictions that are not sure order nothing: as an order they harm.
 */
#define POLICY_SURE_MARGIN_Q16 (1 << 16)
#define POLICY_SURE_ERROR_Q8 128

static inline bool policy_is_sure(s32 margin_q16, s32 err_q8)
{
	return margin_q16 <= POLICY_SURE_MARGIN_Q16 && err_q8 <= POLICY_SURE_ERROR_Q8;
}

/* So many first quanta, but not less than min_ns. */
static inline u64 policy_quanta_ns(const struct policy_params *pp, u32 quanta, u64 min_ns)
{
	u64 ns = quanta * pp->first_quantum_ns;

	return ns > min_ns ? ns : min_ns;
}

/*
 * A burst that surely ends within so many first quanta is let finish. More would hold up shorter ones; but however short
 * the first quantum is, what ends in a few ms is.
 */
#define POLICY_OWN_QUANTA 3
#define POLICY_OWN_MIN_NS (6 * SCX_ML_NSEC_PER_MSEC)

/*
 * The first quantum of a burst with a sure prediction covers the high quantile and an eighth, for switches and cold
 * caches: to cut a burst just before its end costs a switch and wins nobody anything.
 */
static inline u64 policy_quantum_ns(const struct policy_params *pp, s32 pred_q16, s32 margin_q16)
{
	u64 high_ns = exp2_q16((s64)pred_q16 + margin_q16);

	high_ns += high_ns >> 3;
	if (high_ns < pp->first_quantum_ns || high_ns > policy_quanta_ns(pp, POLICY_OWN_QUANTA, POLICY_OWN_MIN_NS))
		return pp->first_quantum_ns;
	return high_ns;
}

/* From when a fresh wake-up may take the place of what runs since run_start_ns, and has been there for at least after_ns. */
static inline u64 policy_preemptible_at_ns(u64 run_start_ns, u64 burst_before_ns, u64 quantum_ns, u64 after_ns,
					   u64 protect_until_ns)
{
	u64 left_ns = quantum_ns > burst_before_ns ? quantum_ns - burst_before_ns : 0;
	u64 at_ns = run_start_ns + (left_ns > after_ns ? left_ns : after_ns);

	return policy_vdiff(at_ns, protect_until_ns) < 0 ? protect_until_ns : at_ns;
}

/* The predicted burst rounded to the nearest power of two: noise inside a bucket must not become an ordering. */
static inline u64 policy_bucket_ns(s32 pred_q16)
{
	s64 bucket = ((s64)pred_q16 + (1 << 15)) >> 16;

	return 1ULL << clamp_s64(bucket, 0, 40);
}

/* The request that a deadline adds: the predicted burst's bucket, or the base slice; at most the lag bound. */
static inline u64 policy_request_ns(const struct policy_params *pp, bool predicted, s32 pred_q16)
{
	u64 request = predicted ? policy_bucket_ns(pred_q16) : pp->first_quantum_ns;

	return request > pp->lag_ns ? pp->lag_ns : request;
}

/*
 * How far behind its wake-up a task stands in the fresh lane: nothing for what will end within the first quantum, or is
 * not predicted (first come, first served), else the predicted burst's bucket, so that the shorter go first.
 */
static inline u64 policy_fresh_delay_ns(const struct policy_params *pp, bool predicted, s32 pred_q16)
{
	u64 request = predicted ? policy_request_ns(pp, true, pred_q16) : 0;

	return request > pp->first_quantum_ns ? request : 0;
}

static inline u64 policy_clamp_slice(const struct policy_params *pp, u64 slice_ns)
{
	if (slice_ns < pp->slice_min_ns)
		return pp->slice_min_ns;
	if (slice_ns > pp->slice_max_ns)
		return pp->slice_max_ns;
	return slice_ns;
}

/*
 * The shortest slice in a lane. In the fresh lane it is the first quantum: where less was predicted, and wrongly, the burst
 * would be cut inside of what protects it from everybody else.
 */
static inline u64 policy_shortest_slice_ns(const struct policy_params *pp, enum policy_lane lane)
{
	return lane == LANE_FRESH ? policy_clamp_slice(pp, pp->first_quantum_ns) : pp->slice_min_ns;
}

/* Slice without a prediction: the longest one shared among those that wait for the same CPU. Never 0. */
static inline u64 policy_base_slice_ns(const struct policy_params *pp, enum policy_lane lane, u32 nr_waiting)
{
	u64 slice_ns =
		lane == LANE_FRESH ? pp->first_quantum_ns : (pp->slice_max_ns * policy_recip_q16(nr_waiting + 1)) >> 16;

	return policy_clamp_slice(pp, slice_ns);
}

/*
 * Slice from a prediction: what is left of the burst's high quantile, so that most bursts end inside it. 0 when the
 * burst has already outlived the quantile: the prediction has nothing more to say and the base slice applies.
 */
static inline u64 policy_quantile_left_ns(s32 pred_q16, s32 margin_q16, u64 burst_ns)
{
	u64 quantile_ns = exp2_q16((s64)pred_q16 + margin_q16);

	return quantile_ns > burst_ns ? quantile_ns - burst_ns : 0;
}

/*
 * Virtual deadline in the fair lane of a task with this virtual run time, burst_ns after its wake-up. With a sure
 * prediction it is that of the wake-up, until the burst outlives its high quantile: what a task can win by that is
 * bounded by the quantile.
 */
static inline u64 policy_fair_key(const struct policy_params *pp, u64 vruntime, u64 inv_weight_q16, u64 burst_ns,
				  bool sure, s32 pred_q16, s32 margin_q16)
{
	bool keep = sure && policy_quantile_left_ns(pred_q16, margin_q16, burst_ns) > 0;
	u64 key = vruntime + policy_virtual_ns(policy_request_ns(pp, keep, pred_q16), inv_weight_q16);

	return keep ? key - policy_virtual_ns(burst_ns, inv_weight_q16) : key;
}

/*
 * The latest key at which a task may be queued in the fair lane. The virtual clock of a CPU for which nr_waiting wait moves
 * by one part in nr_waiting + 1 of real time, and a share in a thousand tasks may be a slice in minutes. Fair as that is,
 * everybody gets one in POLICY_REACH_NS: the kernel ejects a scheduler that leaves a task waiting for long.
 */
#define POLICY_REACH_NS (2000 * SCX_ML_NSEC_PER_MSEC)

static inline u64 policy_reach(u64 key, u64 vclock, u32 nr_waiting)
{
	u64 latest = vclock + ((POLICY_REACH_NS * policy_recip_q16(nr_waiting + 1)) >> 16);

	return policy_vdiff(key, latest) > 0 ? latest : key;
}

#endif /* __SCX_ML_POLICY_H */
