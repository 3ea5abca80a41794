//! pgbench's log of transactions, from which percentiles are taken: pgbench itself prints none.

use crate::error::{LabError, Result};
use crate::metric::{latency_histogram, record};
use hdrhistogram::Histogram;
use std::path::Path;

/// Add the transactions of a log to `latencies`, in ns. A line is: client, number, latency in µs (or `skipped` or
/// `failed`), script, and when it ended, in seconds and µs; with a rate, how late it began, too, which is part of the
/// latency.
fn parse(text: &str, latencies: &mut Histogram<u64>) {
    for line in text.lines() {
        if let Some(us) = line.split(' ').nth(2).and_then(|w| w.parse::<u64>().ok()) {
            record(latencies, us.saturating_mul(1000));
        }
    }
}

/// All transactions of the logs in `dir`; each thread of pgbench has one.
///
/// # Errors
/// If a log cannot be read.
pub fn read(dir: &Path) -> Result<Histogram<u64>> {
    let mut latencies = latency_histogram();
    let logs = std::fs::read_dir(dir).map_err(|e| LabError::file(dir, e))?;
    for log in logs.filter_map(std::result::Result::ok) {
        let path = log.path();
        let text = std::fs::read_to_string(&path).map_err(|e| LabError::file(&path, e))?;
        parse(&text, &mut latencies);
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_in_the_third_column_with_a_rate_and_without() {
        let mut h = latency_histogram();
        parse(
            "5 1 1405 0 1795724641 232585\n0 1 1604 0 1795724641 232696\n",
            &mut h,
        );
        parse("0 1 2235 0 1795724643 281621 167\n", &mut h);
        assert_eq!(h.len(), 3);
        assert!(h.max() >= 2_235_000 && h.min() <= 1_405_000);
    }

    #[test]
    fn what_was_skipped_has_no_latency() {
        let mut h = latency_histogram();
        parse("0 1 skipped 0 1795724643 281621 167\n\n", &mut h);
        assert!(h.is_empty());
    }
}
