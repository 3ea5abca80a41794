//! What a feature costs at a wake-up, beside those that a model has already: what it explains must be worth that.

use crate::kernel::bpf::intf::{
    scx_ml_feature_FEATURE_AGE_EXEC as AGE_EXEC, scx_ml_feature_FEATURE_AGE_FORK as AGE_FORK,
    scx_ml_feature_FEATURE_AVG_BURST as AVG_BURST,
    scx_ml_feature_FEATURE_BURST_SPREAD as BURST_SPREAD,
    scx_ml_feature_FEATURE_CPU_LOAD as CPU_LOAD, scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST,
    scx_ml_feature_FEATURE_LAST_BURST as LAST_BURST, scx_ml_feature_FEATURE_LOG_BURST as LOG_BURST,
    scx_ml_feature_FEATURE_NAME_BURST as NAME_BURST,
    scx_ml_feature_FEATURE_PAIR_BURST as PAIR_BURST,
    scx_ml_feature_FEATURE_PREV_BURST as PREV_BURST,
    scx_ml_feature_FEATURE_QUEUE_DEPTH as QUEUE_DEPTH,
    scx_ml_feature_FEATURE_WAKER_BURST as WAKER_BURST,
    scx_ml_feature_FEATURE_WAKER_NONE as WAKER_NONE,
    scx_ml_feature_FEATURE_WAKER_PRED as WAKER_PRED, scx_ml_feature_FEATURE_WAKER_RAN as WAKER_RAN,
};

/// A multiplication and a load, ns: what every term costs. Prices are what these cost on a machine of today, to a factor
/// of two; only their proportions matter.
const TERM_NS: f64 = 1.0;

/// A logarithm, or a count that is looked up.
const LOG_NS: f64 = 4.0;

/// Reading the clock.
const CLOCK_NS: f64 = 20.0;

/// The waker's context in task storage, or another CPU's.
const STORAGE_NS: f64 = 15.0;
const CPU_NS: f64 = 5.0;

/// A look-up in the process database, which is a hash map; hashing the name comes to it.
const PROFILE_NS: f64 = 25.0;
const NAME_NS: f64 = 5.0;

/// What the features of a group share, once one of them is used.
const SHARED: [(&[u32], f64); 4] = [
    (&[AGE_FORK, AGE_EXEC], CLOCK_NS),
    (
        &[WAKER_BURST, WAKER_RAN, WAKER_PRED, WAKER_NONE],
        STORAGE_NS,
    ),
    (&[QUEUE_DEPTH, CPU_LOAD], CPU_NS),
    (&[NAME_BURST, PAIR_BURST], NAME_NS + PROFILE_NS),
];

/// Features that lie ready in the task's context.
const READY: [u32; 7] = [
    LAST_BURST,
    PREV_BURST,
    AVG_BURST,
    LOG_BURST,
    KIND_BURST,
    BURST_SPREAD,
    WAKER_NONE,
];

/// What feature `i` would cost beside those `chosen`, ns.
pub fn price_ns(i: usize, chosen: &[usize]) -> f64 {
    let i = i as u32;
    let own = match i {
        PAIR_BURST => PROFILE_NS,
        _ if READY.contains(&i) => 0.0,
        _ => LOG_NS,
    };
    let shared = SHARED
        .iter()
        .filter(|(group, _)| group.contains(&i))
        .filter(|(group, _)| !chosen.iter().any(|&c| group.contains(&(c as u32))));
    TERM_NS + own + shared.map(|(_, ns)| ns).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_shares_is_paid_once() {
        let (fork, exec) = (AGE_FORK as usize, AGE_EXEC as usize);
        assert!(price_ns(fork, &[]) > CLOCK_NS);
        assert!(price_ns(fork, &[exec]) < CLOCK_NS);
        assert_eq!(price_ns(LOG_BURST as usize, &[]), TERM_NS);
    }
}
