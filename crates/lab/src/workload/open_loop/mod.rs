//! `open-loop`: requests that arrive whether or not the machine keeps up.

mod arrivals;
mod pool;

use super::kind::{Context, Kind, Workload, bad, join, spawn};
use crate::calibration::burn;
use crate::error::{LabError, Result};
use crate::metric::{
    Better, MetricDef, Outcome, SavedHistogram, latency_histogram, percentile_defs, percentiles_us,
    record,
};
use crate::{strict, sys};
use arrivals::{Arrival, Shape, Sizes, schedule};
use pool::{Block, Pool, Slot};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub const KIND: Kind = Kind {
    name: "open-loop",
    about: "Poisson arrivals of short and long bursts: latency from the intended arrival",
    measures: "Latency runs from when a request was *meant* to arrive until its work is done, so queueing shows in full. \
        Work is counted in calibrated iterations. Slowdown is latency over the burst's own length on an idle CPU. The \
        generator is an ordinary task under the same scheduler; how late it was is reported as `generator_late_p99` and \
        is part of the latency. Requests unfinished at the end count with the age they had. workers=dedicated: a worker \
        only ever gets short or only long bursts, so its past tells its future; shared: any worker gets any, and nothing \
        tells; reveal=waker: shared, but one thread wakes for short and another for long; reveal=syscall: shared, but a \
        worker waits in a different system call before a long burst. All workers bear the same name. On several emulated \
        CPUs the load cannot be set exactly, since their speed wanders; look at `achieved_load`.",
    keys: strict::known_keys::<Params>,
    build: |table, place| {
        let p: Params = strict::read(table, place)?;
        p.validate(place)?;
        Ok(Box::new(OpenLoop(p)))
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Workers {
    Dedicated,
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reveal {
    None,
    Waker,
    Syscall,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    shape: Shape,
    /// Share of all CPUs' time the requests ask for.
    load: f64,
    workers: Workers,
    /// What tells the length of a shared worker's next burst.
    reveal: Reveal,
    /// Worker threads per CPU, of each class where they are dedicated.
    threads_per_cpu: usize,
    short_ms: f64,
    long_ms: f64,
    long_share: f64,
    /// For the shapes without two modes.
    mean_ms: f64,
    /// Pareto's tail index.
    alpha: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            shape: Shape::Bimodal,
            load: 0.8,
            workers: Workers::Dedicated,
            reveal: Reveal::None,
            threads_per_cpu: 24,
            short_ms: 1.0,
            long_ms: 40.0,
            long_share: 0.05,
            mean_ms: 2.0,
            alpha: 1.5,
        }
    }
}

impl Params {
    fn validate(&self, place: &str) -> Result<()> {
        let positive = [self.load, self.short_ms, self.long_ms, self.mean_ms];
        if positive.iter().any(|v| !(*v > 0.0 && v.is_finite())) || self.threads_per_cpu == 0 {
            return Err(bad(place, "load, lengths and threads must be positive"));
        }
        if !(0.0..1.0).contains(&self.long_share) {
            return Err(bad(place, "`long_share` is a share: at least 0, below 1"));
        }
        if self.alpha.is_nan() || self.alpha <= 1.0 {
            return Err(bad(
                place,
                "`alpha` must be above 1, or bursts have no mean",
            ));
        }
        if self.reveal != Reveal::None && self.workers == Workers::Dedicated {
            return Err(bad(
                place,
                "`reveal` needs workers=shared: dedicated workers give themselves away",
            ));
        }
        Ok(())
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            shape: self.shape,
            short_ms: self.short_ms,
            long_ms: self.long_ms,
            long_share: self.long_share,
            mean_ms: self.mean_ms,
            alpha: self.alpha,
        }
    }
}

struct OpenLoop(Params);

fn slowdown_def() -> MetricDef {
    MetricDef::headline("slowdown_mean", "x", Better::Lower)
}
fn achieved_def() -> MetricDef {
    MetricDef::new("achieved_load", "share", Better::Neither)
}
fn unfinished_def() -> MetricDef {
    MetricDef::new("unfinished", "%", Better::Lower)
}
fn queued_def() -> MetricDef {
    MetricDef::new("waited_for_worker", "%", Better::Neither)
}
fn late_def() -> MetricDef {
    MetricDef::new("generator_late_p99", "us", Better::Neither)
}

/// What the threads of a run share.
struct Run<'a> {
    params: &'a Params,
    arrivals: &'a [Arrival],
    /// Work of each arrival in iterations.
    work: Vec<u64>,
    slots: Vec<Slot>,
    pools: Vec<Pool>,
    start_ns: u64,
    /// Arrivals before this index are warm-up.
    first: usize,
    /// Arrivals from here on only keep the load up while the measured ones finish.
    last: usize,
    unfinished: AtomicU64,
    stop: AtomicBool,
}

impl Run<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// The pool that serves a class.
    fn pool_of(&self, class: usize) -> &Pool {
        &self.pools[class.min(self.pools.len() - 1)]
    }

    /// Dispatch the arrivals of the classes for which `mine` holds, each at its time. Returns how late each was, in ns.
    fn generate(&self, mine: impl Fn(usize) -> bool) -> hdrhistogram::Histogram<u64> {
        sys::set_exact_timers();
        let mut late = latency_histogram();
        for (i, a) in self
            .arrivals
            .iter()
            .enumerate()
            .filter(|(_, a)| mine(a.class))
        {
            let due = self.start_ns + a.at_ns;
            if sys::now_ns() < due {
                sys::sleep_until(due);
            }
            if self.stopped() {
                break;
            }
            if (self.first..self.last).contains(&i) {
                record(&mut late, sys::now_ns().saturating_sub(due));
            }
            self.pool_of(a.class).dispatch(&self.slots, i as u32);
        }
        late
    }

    /// Serve requests until the run stops. Returns the index and completion time of the measured ones.
    fn serve(&self, me: usize) -> Vec<(u32, u64)> {
        let mut done = Vec::new();
        let stop = || self.stopped();
        loop {
            let (pool, block) = match (self.params.workers, self.params.reveal) {
                (Workers::Dedicated, _) => (&self.pools[me % self.pools.len()], Block::Futex),
                (Workers::Shared, Reveal::Syscall) => {
                    // Queued requests first. Otherwise where fewest wait: by a draw, all workers would end up waiting for
                    // the rare class.
                    let class = (0..self.pools.len())
                        .find(|c| self.pools[*c].has_backlog())
                        .or_else(|| (0..self.pools.len()).min_by_key(|c| self.pools[*c].idle()))
                        .unwrap_or(0);
                    (
                        &self.pools[class],
                        if class == 0 {
                            Block::Futex
                        } else {
                            Block::Read
                        },
                    )
                }
                (Workers::Shared, _) => (&self.pools[0], Block::Futex),
            };
            let Some(r) = pool.next(&self.slots, me, block, &stop) else {
                return done;
            };
            std::hint::black_box(burn(self.work[r as usize]));
            if (self.first..self.last).contains(&(r as usize)) {
                done.push((r, sys::now_ns()));
                self.unfinished.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

impl Workload for OpenLoop {
    fn metrics(&self) -> Vec<MetricDef> {
        let mut defs = percentile_defs("short", Some("p99"));
        if self.0.sizes().classes() > 1 {
            defs.extend(percentile_defs("long", Some("p99")));
        }
        defs.extend([
            slowdown_def(),
            achieved_def(),
            unfinished_def(),
            queued_def(),
            late_def(),
        ]);
        defs
    }

    fn needs_calibration(&self) -> bool {
        true
    }

    fn run(&self, ctx: &Context) -> Result<Outcome> {
        let p = &self.0;
        let sizes = p.sizes();
        // How long the load is kept up for the measured requests to finish; what is not done by then is censored.
        let drain = (0.3 * ctx.seconds).clamp(0.5, 5.0);
        let arrivals = schedule(
            &sizes,
            p.load,
            ctx.cpus,
            ctx.warmup + ctx.seconds + drain,
            ctx.seed,
        );
        let until = |s: f64| arrivals.partition_point(|a| (a.at_ns as f64) < s * 1e9);
        let (first, last) = (until(ctx.warmup), until(ctx.warmup + ctx.seconds));
        if first == last {
            return Err(LabError::workload(
                KIND.name,
                "no request falls into the measured time; make it longer",
            ));
        }
        let pools = match (p.workers, p.reveal) {
            (Workers::Dedicated, _) | (_, Reveal::Syscall) => sizes.classes(),
            _ => 1,
        };
        let threads = p.threads_per_cpu
            * ctx.cpus
            * if p.workers == Workers::Dedicated {
                pools
            } else {
                1
            };
        let slots = (0..threads)
            .map(|_| Slot::new(p.reveal == Reveal::Syscall))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|source| LabError::Os {
                call: "eventfd".to_string(),
                source,
            })?;
        let run = Run {
            params: p,
            arrivals: &arrivals,
            work: arrivals
                .iter()
                .map(|a| ctx.calibration.iterations(a.burst_ms * 1000.0))
                .collect(),
            slots,
            pools: (0..pools).map(|_| Pool::default()).collect(),
            // Time for all workers to start and go idle.
            start_ns: sys::now_ns() + 100_000_000,
            first,
            last,
            unfinished: AtomicU64::new((last - first) as u64),
            stop: AtomicBool::new(false),
        };
        let (late, done, end_ns) = std::thread::scope(|scope| -> Result<_> {
            let run = &run;
            let workers = (0..threads)
                .map(|me| spawn(scope, "ol-worker", move || run.serve(me)))
                .collect::<Result<Vec<_>>>()?;
            let wakers = if p.reveal == Reveal::Waker {
                sizes.classes()
            } else {
                1
            };
            let generators = (0..wakers)
                .map(|g| {
                    spawn(scope, "ol-arrivals", move || {
                        run.generate(|class| wakers == 1 || class == g)
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            let at = |s: f64| run.start_ns + (s * 1e9) as u64;
            sys::sleep_until(at(ctx.warmup));
            ctx.window.begin();
            sys::sleep_until(at(ctx.warmup + ctx.seconds));
            ctx.window.end();
            while run.unfinished.load(Ordering::Acquire) > 0
                && sys::now_ns() < at(ctx.warmup + ctx.seconds + drain)
            {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let end_ns = sys::now_ns();
            run.stop.store(true, Ordering::SeqCst);
            let lateness: Vec<_> = generators.into_iter().map(|g| join(g, KIND.name)).collect();
            // Nobody claims a worker any more: all that wait can be told.
            run.slots.iter().for_each(Slot::end);
            let mut late = latency_histogram();
            for l in lateness {
                // Both have the same precision and resize by themselves, so adding cannot fail.
                let _ = late.add(l?);
            }
            let mut done = Vec::new();
            for w in workers {
                done.extend(join(w, KIND.name)?);
            }
            Ok((late, done, end_ns))
        })?;
        Ok(self.outcome(ctx, &run, &late, &done, end_ns))
    }
}

impl OpenLoop {
    fn outcome(
        &self,
        ctx: &Context,
        run: &Run,
        late: &hdrhistogram::Histogram<u64>,
        done: &[(u32, u64)],
        end_ns: u64,
    ) -> Outcome {
        let mut finished: Vec<Option<u64>> = vec![None; run.arrivals.len()];
        for (i, at) in done {
            // A request that a worker was still at when the run was stopped is done, but after the end.
            finished[*i as usize] = Some(*at).filter(|at| *at <= end_ns);
        }
        let window_end = run.start_ns + ((ctx.warmup + ctx.seconds) * 1e9) as u64;
        let classes = self.0.sizes().classes();
        let mut latencies: Vec<_> = (0..classes).map(|_| latency_histogram()).collect();
        let (mut slowdown, mut unfinished, mut busy_ns) = (0.0, 0u64, 0u64);
        let measured = run.first..run.last;
        for ((arrival, work), finished) in run.arrivals[measured.clone()]
            .iter()
            .zip(&run.work[measured.clone()])
            .zip(&finished[measured])
        {
            let service = ctx.calibration.nanoseconds(*work).max(1);
            let latency = finished
                .unwrap_or(end_ns)
                .saturating_sub(run.start_ns + arrival.at_ns);
            record(&mut latencies[arrival.class], latency);
            slowdown += latency as f64 / service as f64;
            match finished {
                None => unfinished += 1,
                Some(at) if *at <= window_end => busy_ns += service,
                Some(_) => {}
            }
        }
        let count = (run.last - run.first) as f64;
        let queued: u64 = run
            .pools
            .iter()
            .map(|p| p.queued.load(Ordering::Relaxed))
            .sum();
        let mut metrics = percentiles_us("short", &latencies[0], Some("p99"));
        let mut histograms = vec![SavedHistogram::from_hdr("short", "ns", &latencies[0])];
        if let Some(long) = latencies.get(1) {
            metrics.extend(percentiles_us("long", long, Some("p99")));
            histograms.push(SavedHistogram::from_hdr("long", "ns", long));
        }
        let late_us = if late.is_empty() {
            f64::NAN
        } else {
            late.value_at_quantile(0.99) as f64 / 1000.0
        };
        metrics.extend([
            slowdown_def().measured(slowdown / count),
            achieved_def().measured(busy_ns as f64 / (ctx.seconds * 1e9 * ctx.cpus as f64)),
            unfinished_def().measured(100.0 * unfinished as f64 / count),
            queued_def().measured(100.0 * queued as f64 / run.arrivals.len() as f64),
            late_def().measured(late_us),
        ]);
        let mut notes = vec![format!(
            "{count} requests measured, {} of them long",
            latencies.get(1).map_or(0, |l| l.len())
        )];
        if unfinished > 0 {
            notes.push(format!(
                "{unfinished} requests were unfinished at the end and count with their age"
            ));
        }
        Outcome {
            metrics,
            histograms,
            notes,
        }
    }
}
