//! Latencies recorded by many threads without sharing: each has its own histogram, joined at the end.

use crate::metric::{latency_histogram, record};
use hdrhistogram::Histogram;

/// One thread's latencies.
pub struct Recorder(Histogram<u64>);

impl Recorder {
    pub fn new() -> Self {
        Self(latency_histogram())
    }
    pub fn record(&mut self, ns: u64) {
        record(&mut self.0, ns);
    }
    /// The joined histogram of all threads.
    pub fn join(parts: impl IntoIterator<Item = Recorder>) -> Histogram<u64> {
        let mut all = latency_histogram();
        for p in parts {
            // Both have the same precision and resize by themselves, so adding cannot fail.
            let _ = all.add(p.0);
        }
        all
    }
}
