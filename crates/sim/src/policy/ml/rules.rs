//! What-if rules: changes of the policy that are tried here before they are written in C. The default is the kernel's
//! text, untouched; every other value departs from it in the way that its field says.

use clap::ValueEnum;

/// How long the first quantum is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantum {
    /// The parameter.
    Fixed,
    /// Learned from the bursts, see [`super::quantum::QuantumLearner`]; the parameter until there are enough.
    Learned,
}

/// By what the fair lane is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FairOrder {
    /// The virtual deadline.
    Deadline,
    /// The virtual deadline with the request of what is left of the predicted burst, under the same conditions as
    /// `Kept`.
    Remaining,
    /// The virtual deadline that it had when its burst began, if the prediction is sure, and as long as the burst is
    /// within its high quantile: what it has used does not send it back behind others of its length. A prediction
    /// that is not sure orders nothing.
    Kept,
}

/// See the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Rules {
    pub quantum: Quantum,
    /// Each burst has a first quantum of its own: none where it is surely long; its high quantile and an eighth, where the
    /// prediction is sure and that lies between one and so many first quanta; the parameter otherwise. 0: the same for
    /// all.
    pub own_quantum: u64,
    /// A timer ends a first quantum as soon as a fresh wake-up waits for the CPU, where the kernel's text waits for a
    /// tick or the next wake-up.
    pub quantum_timer: bool,
    /// A burst is surely long when its low quantile exceeds so many first quanta (POLICY_LONG_QUANTA).
    pub sure_long_quanta: u64,
    /// A fresh wake-up may preempt what is inside its first quantum, if that has at least so many octaves more left, as
    /// both are predicted. 0: never.
    pub preempt_octaves: u32,
    /// A predicted burst that fits the first quantum goes before one that is not predicted or does not: its key is its
    /// wake-up less this time. 0: all alike.
    pub sure_short_first: bool,
    pub fair_order: FairOrder,
    /// A request is at most so many lag bounds.
    pub request_lags: u64,
    /// Each LLC counts the wake-ups in its fresh lanes, and a search for one goes over the CPUs of an LLC whose count is
    /// not 0 only. It finds the same; what changes is how many queues are looked into.
    pub llc_counts: bool,
    /// A turn of the fair lane may be preempted like anything else.
    pub unprotected_turns: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            quantum: Quantum::Fixed,
            own_quantum: 0,
            quantum_timer: false,
            sure_long_quanta: LONG_QUANTA,
            preempt_octaves: 0,
            sure_short_first: false,
            fair_order: FairOrder::Deadline,
            request_lags: 1,
            llc_counts: false,
            unprotected_turns: false,
        }
    }
}

/// A prediction is sure when its high quantile is at most this far above it, octaves in Q16: what-if rules that trust
/// predictions more than the kernel's text does trust only such.
pub const SURE_MARGIN_Q16: i32 = 1 << 16;

/// POLICY_LONG_QUANTA of policy.h, which the native function has built in.
pub const LONG_QUANTA: u64 = 4;
