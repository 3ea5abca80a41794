//! The first quantum that the load asks for.
//!
//! Nothing tells some bursts apart before they run; what then decides is how long each may run before the next one gets
//! its turn. Too short, and the many short ones are cut just before their end; too long, and they wait for the long ones
//! to be found out. What is short, the lengths of the bursts of late tell.
//!
//! The policy is taken for a queue of two levels: each burst runs in the first, first come, first served, for at most the
//! quantum, and what is left of it in the second, which shares what the first leaves. For Poisson arrivals of bursts S at
//! load ρ (Pollaczek and Khinchine for the first level, with min(S, q) as its work; processor sharing for the second; cf.
//! Kleinrock, Queueing Systems 2, section 4.7, foreground-background):
//!
//! ```text
//!     W(q) = λ E[min(S,q)²] / 2 (1 - λ E[min(S,q)])      wait in the first level
//!     T(s) = W(q) + s                                    if s ≤ q
//!            W(q) + q + (s - q + n(q) g) / (1 - ρ)       else
//! ```
//!
//! where n(q) bursts are met in the second level, each of which has a slice g: so even what needs a moment only waits for a
//! round. The quantum is the one with the least mean of T(s) / s, among those whose cuts pay: at least four bursts in five end
//! in it, and of the others at least four in five have as much before them as they have had. Others would be cut shortly before their ends, which the formula
//! takes for free: it knows neither switches nor locks, and who is cut with a lock in hand makes others spin for it. Where no
//! cuts pay, four bursts in five are let finish if that takes no more than the longest quantum; else it is the base policy's.

use std::collections::VecDeque;

use crate::kernel::native;

/// The quanta to choose from. A switch must buy more than it costs (`preempt_after_ns`); and what is beyond a few ms is
/// not an interactive answer any more.
pub const QUANTUM_MIN_NS: u64 = 500_000;
pub const QUANTUM_MAX_NS: u64 = 12_000_000;

/// Bursts to have seen.
const MIN_ROWS: usize = 200;

/// Bins an octave, and the octaves that they cover; what is outside counts as at the edge.
const BINS_PER_OCTAVE: usize = 16;
const FIRST_OCTAVE: usize = 14;
const LAST_OCTAVE: usize = 36;
const BINS: usize = (LAST_OCTAVE - FIRST_OCTAVE) * BINS_PER_OCTAVE;

/// The load that is reckoned with. Where less is to be done little waits, and the choice matters little; a saturated
/// machine has no load in this sense.
const LOAD: f64 = 0.8;

/// What each of the others in the second level runs before a burst's turn comes. Found by simulation: with this, the quanta
/// for smooth distributions (exponential, Pareto, a mode with half an octave of noise) come out where they serve best;
/// with a tick's 4 ms they are nearly twice as long.
const SLICE_NS: f64 = 500_000.0;

/// Shorter bursts are work to be done, but no matter of slowdown: timers, interrupt threads, those who hand work on. There
/// may be more of them than of all others, and cutting those for their sake would be a bad bargain. So it is with the
/// shortest that make up this share of the work: schbench's workers post for a moment and then work for milliseconds, holding
/// what others spin for.
const COUNTED_FROM_NS: f64 = 100_000.0;
const UNCOUNTED_WORK: f64 = 0.1;

/// Cuts pay where at most this share of the bursts is cut, and at most that share of these ends before it has had twice as
/// much; and where hardly any are cut, there is nothing to be said against.
const CUTS: f64 = 0.2;
const CUT_IN_VAIN: f64 = 0.2;
const HARDLY_ANY: f64 = 0.01;

/// A quantum is changed if another one is better by this share at least.
const WORTH: f64 = 0.01;

/// Share of the newest bursts that outlive a quantum which is not of this load: twice what it may cut.
const OUTLIVED: f64 = 2.0 * CUTS;

/// Beyond the burst that it is to cover, for switches and cold caches: as in policy_quantum_ns().
const SPARE: f64 = 1.125;

/// Time between two looks at the load, while no quantum is known and later.
const FIRST_LOOK_NS: u64 = 1_000_000_000;
const LOOK_NS: u64 = 5_000_000_000;

/// A burst as the quantum sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Length {
    /// log2(burst in ns).
    pub y: f64,
    /// Bursts that it stands for.
    pub weight: f64,
    /// When it ended.
    pub end_ns: u64,
}

/// Bursts of so long ago do not count, if there are enough that are newer: a quantum that is too short for what has begun since makes
/// bursts long, which makes them few.
const REMEMBERED_NS: u64 = 10_000_000_000;

/// Drop what is too old of `lengths`, which are in the order of time.
pub fn forget_old(lengths: &mut VecDeque<Length>) {
    let Some(newest_ns) = lengths.back().map(|l| l.end_ns) else {
        return;
    };
    while lengths.len() > MIN_ROWS
        && lengths
            .front()
            .is_some_and(|l| l.end_ns.saturating_add(REMEMBERED_NS) < newest_ns)
    {
        lengths.pop_front();
    }
}

/// The first quantum that the kernel was told, and when to look at it again.
#[derive(Default)]
pub struct FirstQuantum {
    /// None: that of the base policy.
    told_ns: Option<u64>,
    next_look_ns: u64,
    next_check_ns: u64,
}

impl FirstQuantum {
    /// What the kernel is to be told now, if it is time for a look and there is news: the same at the next look, until it
    /// [was told](Self::told). `freeze`: the first one stays.
    pub fn look<'a>(
        &mut self,
        rows: impl ExactSizeIterator<Item = &'a Length>,
        now_ns: u64,
        freeze: bool,
    ) -> Option<u64> {
        if now_ns < self.next_look_ns || (freeze && self.told_ns.is_some()) {
            return None;
        }
        let pause_ns = self.told_ns.map_or(FIRST_LOOK_NS, |_| LOOK_NS);
        self.next_look_ns = now_ns.saturating_add(pause_ns);
        let base_ns = native::policy_defaults().first_quantum_ns;
        first_quantum_ns(rows, self.told_ns.unwrap_or(base_ns))
            .filter(|&found_ns| self.told_ns != Some(found_ns))
    }

    /// The kernel knows.
    pub fn told(&mut self, quantum_ns: u64) {
        self.told_ns = Some(quantum_ns);
    }

    /// The kernel goes by the base policy's again: the load is another one, and what is too short for that cuts its bursts.
    pub fn forget(&mut self, now_ns: u64) {
        self.told_ns = None;
        self.next_look_ns = now_ns.saturating_add(FIRST_LOOK_NS);
    }

    /// Whether the kernel goes by one that was learned.
    pub fn is_told(&self) -> bool {
        self.told_ns.is_some()
    }

    /// Whether the kernel goes by one that is shorter than the base policy's, and many of the newest bursts outlive it: those of another
    /// load than it was learned from. Looked at each second.
    pub fn is_outlived(&mut self, lengths: &VecDeque<Length>, now_ns: u64) -> bool {
        let Some(told_ns) = self.told_ns else {
            return false;
        };
        if now_ns < self.next_check_ns
            || told_ns >= native::policy_defaults().first_quantum_ns
            || lengths.len() < MIN_ROWS
        {
            return false;
        }
        self.next_check_ns = now_ns.saturating_add(FIRST_LOOK_NS);
        let newest = lengths.range(lengths.len() - MIN_ROWS..);
        Load::of(newest).is_some_and(|load| load.share_beyond(told_ns as f64) > OUTLIVED)
    }
}

/// The first quantum for a load of which `rows` are a sample, in ns; None where they are too few. It is `current_ns`
/// unless another is clearly better.
fn first_quantum_ns<'a>(
    rows: impl ExactSizeIterator<Item = &'a Length>,
    current_ns: u64,
) -> Option<u64> {
    if rows.len() < MIN_ROWS {
        return None;
    }
    let load = Load::of(rows)?;
    let Some((best_ns, least)) = quanta()
        .filter(|&q_ns| load.cuts_pay(q_ns))
        .map(|q_ns| (q_ns, load.mean_slowdown(q_ns)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
    else {
        return Some(load.lets_finish_ns());
    };
    let covers_ns = current_ns as f64 / SPARE;
    if load.cuts_pay(covers_ns) && load.mean_slowdown(covers_ns) * (1.0 - WORTH) <= least {
        return Some(current_ns);
    }
    Some(((best_ns * SPARE) as u64).clamp(QUANTUM_MIN_NS, QUANTUM_MAX_NS))
}

/// The quanta worth a look: each bin's upper end, where its bursts are just covered.
fn quanta() -> impl Iterator<Item = f64> {
    let bin_of = |ns: u64| ((ns as f64 / SPARE).log2() * BINS_PER_OCTAVE as f64).round() as usize;
    (bin_of(QUANTUM_MIN_NS)..=bin_of(QUANTUM_MAX_NS))
        // Not a hair below the end of a bin.
        .map(|bin| (bin as f64 / BINS_PER_OCTAVE as f64).exp2() * 1.000_001)
}

/// A histogram of bursts: weight and upper end of each bin, shortest first.
struct Load {
    bins: Vec<(f64, f64)>,
    /// Sum of the weights, and mean burst in ns.
    weight: f64,
    mean_ns: f64,
    /// The shortest burst whose slowdown counts, in ns.
    counted_from_ns: f64,
}

impl Load {
    fn of<'a>(rows: impl Iterator<Item = &'a Length>) -> Option<Self> {
        let mut weights = [0.0; BINS];
        for row in rows {
            let bin = ((row.y - FIRST_OCTAVE as f64) * BINS_PER_OCTAVE as f64).max(0.0) as usize;
            weights[bin.min(BINS - 1)] += row.weight;
        }
        let end_ns =
            |bin: usize| (FIRST_OCTAVE as f64 + (bin + 1) as f64 / BINS_PER_OCTAVE as f64).exp2();
        let bins: Vec<(f64, f64)> = (0..BINS)
            .filter(|&bin| weights[bin] > 0.0)
            .map(|bin| (weights[bin], end_ns(bin)))
            .collect();
        let weight: f64 = bins.iter().map(|b| b.0).sum();
        let work: f64 = bins.iter().map(|b| b.0 * b.1).sum();
        let mut shorter = 0.0;
        let counted_from_ns = bins
            .iter()
            .find(|&&(w, s_ns)| {
                shorter += w * s_ns;
                s_ns >= COUNTED_FROM_NS && shorter > UNCOUNTED_WORK * work
            })
            .map_or(COUNTED_FROM_NS, |&(_, s_ns)| s_ns);
        (weight > 0.0 && work.is_finite()).then(|| Self {
            bins,
            weight,
            mean_ns: work / weight,
            counted_from_ns,
        })
    }

    /// Bursts that count, and of which this holds.
    fn weight_of(&self, holds: impl Fn(f64) -> bool) -> f64 {
        self.bins
            .iter()
            .filter(|&&(_, s_ns)| s_ns >= self.counted_from_ns && holds(s_ns))
            .map(|&(w, _)| w)
            .sum()
    }

    /// Share of the bursts that count which outlive a quantum.
    fn share_beyond(&self, q_ns: f64) -> f64 {
        self.weight_of(|s_ns| s_ns > q_ns) / self.weight_of(|_| true).max(f64::MIN_POSITIVE)
    }

    /// Whether what a quantum cuts is mostly long, see the module.
    fn cuts_pay(&self, q_ns: f64) -> bool {
        let (all, cut) = (self.weight_of(|_| true), self.weight_of(|s_ns| s_ns > q_ns));
        let in_vain = self.weight_of(|s_ns| s_ns > q_ns && s_ns <= 2.0 * q_ns);
        cut <= HARDLY_ANY * all || (cut <= CUTS * all && in_vain <= CUT_IN_VAIN * cut)
    }

    /// The quantum where no cuts pay, see the module.
    fn lets_finish_ns(&self) -> u64 {
        let base_ns = native::policy_defaults().first_quantum_ns;
        let counted = || self.bins.iter().filter(|b| b.1 >= self.counted_from_ns);
        let mut left: f64 = (1.0 - CUTS) * counted().map(|b| b.0).sum::<f64>();
        let covers_ns = counted().find(|&&(w, _)| {
            left -= w;
            left <= 0.0
        });
        covers_ns
            .map(|&(_, s_ns)| (s_ns * SPARE) as u64)
            .filter(|&q_ns| q_ns <= QUANTUM_MAX_NS)
            .map_or(base_ns, |q_ns| q_ns.max(base_ns))
    }

    /// Mean of T(s) / s, see the module.
    fn mean_slowdown(&self, q_ns: f64) -> f64 {
        let mean = |f: &dyn Fn(f64) -> f64| {
            self.bins.iter().map(|&(w, s_ns)| w * f(s_ns)).sum::<f64>() / self.weight
        };
        let rate = LOAD / self.mean_ns;
        let first_load = rate * mean(&|s| s.min(q_ns));
        let wait_ns = rate * mean(&|s| s.min(q_ns).powi(2)) / 2.0 / (1.0 - first_load);
        // Of what the first level leaves, the second has this share to do.
        let second_load = (LOAD - first_load) / (1.0 - first_load);
        let met = second_load / (1.0 - second_load);
        mean(&|s| {
            if s < self.counted_from_ns {
                return 0.0;
            }
            let rest_ns = if s <= q_ns {
                0.0
            } else {
                (s - q_ns + met * SLICE_NS) / (1.0 - LOAD)
            };
            (wait_ns + s.min(q_ns) + rest_ns) / s
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(burst_ms: f64, weight: f64) -> Length {
        Length {
            end_ns: 0,
            y: (burst_ms * 1e6).log2(),
            weight,
        }
    }

    /// Of 1000 bursts, so many of each length in ms.
    fn quantum_ms(mix: &[(usize, f64)]) -> f64 {
        let rows: Vec<Length> = mix
            .iter()
            .flat_map(|&(n, ms)| std::iter::repeat_with(move || row(ms, 1.0)).take(n))
            .collect();
        first_quantum_ns(rows.iter(), 2_000_000).expect("enough rows") as f64 / 1e6
    }

    #[test]
    fn what_is_old_does_not_count_where_enough_is_newer() {
        let left = |apart_ms: u64| {
            let mut lengths: VecDeque<Length> = (0..500)
                .map(|i| Length {
                    end_ns: i * apart_ms * 1_000_000,
                    ..row(1.0, 1.0)
                })
                .collect();
            forget_old(&mut lengths);
            lengths.len()
        };
        assert_eq!(left(10), 500, "five seconds");
        assert_eq!(left(40), 251, "ten of twenty");
        assert_eq!(left(400), MIN_ROWS);
        forget_old(&mut VecDeque::new());
    }

    #[test]
    fn a_short_quantum_that_most_bursts_outlive_is_not_this_loads() {
        let of = |bursts_ms: [f64; 2], told_ms: u64, now_s: u64| {
            let mut quantum = FirstQuantum::default();
            quantum.told(told_ms * 1_000_000);
            let mut lengths: VecDeque<Length> = (0..300).map(|_| row(0.9, 50.0)).collect();
            lengths.extend((0..200).map(|i| row(bursts_ms[usize::from(i % 10 == 0)], 15.0)));
            let outlived = quantum.is_outlived(&lengths, now_s * 1_000_000_000);
            assert!(
                !outlived || !quantum.is_outlived(&lengths, now_s * 1_000_000_000),
                "once a second"
            );
            outlived
        };
        assert!(of([3.0, 9.0], 2, 5));
        assert!(!of([0.9, 40.0], 2, 5), "cut are the long ones");
        assert!(!of([9.0, 9.0], 4, 5), "no shorter than the base policy's");
        let mut untold = FirstQuantum::default();
        assert!(!untold.is_outlived(&VecDeque::new(), 0));
    }

    #[test]
    fn the_short_mode_is_covered_and_not_much_more() {
        for short_ms in [0.5, 1.0, 2.0, 5.0] {
            let q = quantum_ms(&[(950, short_ms), (50, 40.0)]);
            assert!((1.05..1.3).contains(&(q / short_ms)), "{short_ms}: {q}");
        }
    }

    #[test]
    fn what_is_short_depends_on_the_rest() {
        // 5 ms are long beside 1 ms, and short beside 100.
        assert!(quantum_ms(&[(950, 1.0), (50, 5.0)]) < 2.0);
        assert!(quantum_ms(&[(950, 5.0), (50, 100.0)]) > 5.0);
    }

    #[test]
    fn timeouts_and_interrupts_do_not_make_all_else_long() {
        let q = quantum_ms(&[(2000, 0.02), (950, 1.0), (50, 40.0)]);
        assert!((1.05..1.3).contains(&q), "{q}");
    }

    #[test]
    fn who_hands_work_on_for_a_moment_does_not_make_the_work_long() {
        let q = quantum_ms(&[(1000, 0.15), (250, 2.5), (250, 3.5)]);
        assert!((3.5..4.5).contains(&q), "{q}");
    }

    #[test]
    fn nothing_is_cut_shortly_before_its_end() {
        // Evenly from 2.5 to 5 ms, as work under locks comes out, and a few of those who spun.
        let mut mix: Vec<(usize, f64)> = (0..50)
            .map(|i| (19, 2.5 * 2f64.powf(i as f64 / 50.0)))
            .collect();
        mix.push((8, 20.0));
        let q = quantum_ms(&mix);
        assert!((5.0..6.5).contains(&q), "{q}");
    }

    #[test]
    fn where_no_cuts_pay_most_are_let_finish_unless_that_takes_too_long() {
        let spread = |from_ms: f64| -> Vec<(usize, f64)> {
            (0..60)
                .map(|i| (10, from_ms * 2f64.powf(i as f64 / 20.0)))
                .collect()
        };
        // From 1.5 to 12 ms, and from 4 to 32.
        let q = quantum_ms(&spread(1.5));
        assert!((8.5..11.0).contains(&q), "{q}");
        assert_eq!(quantum_ms(&spread(4.0)), 4.0);
    }

    #[test]
    fn bursts_of_one_length_are_not_cut() {
        for ms in [1.0, 2.0, 5.0] {
            assert!(quantum_ms(&[(1000, ms)]) > ms);
        }
    }

    #[test]
    fn a_quantum_that_serves_is_kept() {
        // 1.2 ms would be a little better than 1.3: not worth a change.
        let rows: Vec<Length> = (0..1000)
            .map(|i| row(if i % 20 == 0 { 40.0 } else { 1.0 }, 1.0))
            .collect();
        assert_eq!(first_quantum_ns(rows.iter(), 1_300_000), Some(1_300_000));
        assert_eq!(first_quantum_ns(rows[..100].iter(), 1_300_000), None);
    }

    #[test]
    fn a_row_counts_by_its_weight() {
        let rows: Vec<Length> = (0..400)
            .map(|i| {
                if i % 2 == 0 {
                    row(0.5, 100.0)
                } else {
                    row(20.0, 1.0)
                }
            })
            .collect();
        let q_ns = first_quantum_ns(rows.iter(), 2_000_000).expect("enough rows");
        assert!(q_ns < 700_000, "{q_ns}");
    }

    proptest! {
        #[test]
        fn any_load_has_a_quantum_inside_the_bounds(
            bursts in prop::collection::vec((-10.0f64..60.0, 0.0f64..1e6), 200..300),
            current_ns in QUANTUM_MIN_NS..QUANTUM_MAX_NS,
        ) {
            let rows: Vec<Length> = bursts.iter().map(|&(y, w)| Length { y, ..row(1.0, w) }).collect();
            let q_ns = first_quantum_ns(rows.iter(), current_ns);
            prop_assert!(q_ns.is_none_or(|q| (QUANTUM_MIN_NS..=QUANTUM_MAX_NS).contains(&q)));
        }
    }
}
