//! What is measured: latency, slowdown and wait by class of request.

use hdrhistogram::Histogram;

/// A request: work that a task is asked to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// When it was meant to arrive.
    pub at_ns: u64,
    /// Its work on an idle CPU with warm caches.
    pub work_ns: u64,
    /// Index into the workload's classes.
    pub class: u8,
}

/// Slowdowns are kept in thousandths.
const SLOWDOWN_UNIT: f64 = 1000.0;

/// The requests of one class.
#[derive(Debug, Clone)]
pub struct ClassRecord {
    latency: Histogram<u64>,
    slowdown: Histogram<u64>,
    latency_sum_ns: f64,
    slowdown_sum: f64,
    work_sum_ns: f64,
}

impl ClassRecord {
    fn new() -> Self {
        // Three digits, up to an hour: such bounds exist.
        let histogram = || {
            Histogram::new_with_bounds(1, 3_600_000_000_000, 3)
                .unwrap_or_else(|e| unreachable!("constant bounds: {e}"))
        };
        Self {
            latency: histogram(),
            slowdown: histogram(),
            latency_sum_ns: 0.0,
            slowdown_sum: 0.0,
            work_sum_ns: 0.0,
        }
    }

    fn add(&mut self, latency_ns: u64, work_ns: u64) {
        let slowdown = latency_ns as f64 / work_ns.max(1) as f64;
        self.latency.saturating_record(latency_ns.max(1));
        self.slowdown
            .saturating_record(((slowdown * SLOWDOWN_UNIT) as u64).max(1));
        self.latency_sum_ns += latency_ns as f64;
        self.slowdown_sum += slowdown;
        self.work_sum_ns += work_ns as f64;
    }

    pub fn count(&self) -> u64 {
        self.latency.len()
    }

    /// Mean latency, ns. NaN where there is none, as for the others.
    pub fn mean_ns(&self) -> f64 {
        self.latency_sum_ns / self.count() as f64
    }

    /// Latency at a quantile, ns, within a thousandth.
    pub fn quantile_ns(&self, q: f64) -> f64 {
        if self.latency.is_empty() {
            return f64::NAN;
        }
        self.latency.value_at_quantile(q) as f64
    }

    pub fn slowdown_mean(&self) -> f64 {
        self.slowdown_sum / self.count() as f64
    }

    pub fn slowdown_quantile(&self, q: f64) -> f64 {
        if self.slowdown.is_empty() {
            return f64::NAN;
        }
        self.slowdown.value_at_quantile(q) as f64 / SLOWDOWN_UNIT
    }
}

/// All requests of a run that arrived after the warm-up.
#[derive(Debug, Clone)]
pub struct Recorder {
    warmup_ns: u64,
    pub classes: Vec<ClassRecord>,
    /// All classes together.
    pub all: ClassRecord,
}

impl Recorder {
    /// For a workload of so many classes.
    pub fn new(classes: usize, warmup_ns: u64) -> Self {
        Self {
            warmup_ns,
            classes: vec![ClassRecord::new(); classes],
            all: ClassRecord::new(),
        }
    }

    /// Requests of a class a second, up to now.
    pub fn rate(&self, class: usize, now_ns: u64) -> f64 {
        let since_warmup_ns = now_ns.saturating_sub(self.warmup_ns);
        self.classes[class].count() as f64 * 1e9 / since_warmup_ns as f64
    }

    /// A request is done.
    pub fn done(&mut self, request: &Request, now_ns: u64) {
        if request.at_ns < self.warmup_ns {
            return;
        }
        let latency_ns = now_ns - request.at_ns;
        self.classes[usize::from(request.class)].add(latency_ns, request.work_ns);
        self.all.add(latency_ns, request.work_ns);
    }
}
