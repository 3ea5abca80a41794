//! Explanations: why a task got the slice it got.
//!
//! ```text
//! observe (watch/) reads what the kernel keeps of a task, in the scheduler's process
//! reason          makes an Explanation of that: pure, any bytes will do; decision is its part about slice and lane
//! render          an Explanation as text
//! threads         finds threads by name, and says who they are
//! command         `scx_ml explain`: asks the running scheduler and prints
//! ```
//!
//! A field that a feature of the record (`src/bpf/record.h`) stands for is called as that is.

pub mod command;
mod decision;
pub mod reason;
pub mod render;
pub mod threads;

#[cfg(test)]
mod tests;

use scx_ml_text::Show;
use serde::{Deserialize, Serialize};

use threads::Identity;

/// What explanations are asked for as, on the stats socket; the argument `pid` is the thread's id.
pub const TARGET: &str = "explain";

/// What the scheduler answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Explanation(Box<Explanation>),
    Refusal(Refusal),
}

/// Why there is nothing to explain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    #[error("'{}' is no thread id", .0.shown())]
    NotAnId(String),
    #[error("there is no thread {pid}: it has ended, or its id is another")]
    NoTask { pid: u32 },
    #[error(
        "thread {pid} ({comm}) is not under sched_ext: its policy is {policy}, which the kernel serves before sched_ext"
    )]
    HigherClass {
        pid: u32,
        comm: String,
        policy: String,
    },
    #[error(
        "thread {pid} ({comm}) is not under sched_ext: its policy is {policy}, and with --partial scx_ml schedules \
         SCHED_EXT only"
    )]
    Partial {
        pid: u32,
        comm: String,
        policy: String,
    },
    #[error("the scheduler keeps nothing of thread {pid} ({comm}): it is about to end")]
    NoContext { pid: u32, comm: String },
    #[error("the scheduler cannot read what the kernel keeps of thread {pid}: {reason}")]
    Failed { pid: u32, reason: String },
}

/// Why a task got the slice it got. Times are in nanoseconds, errors and logarithms in octaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Of the scheduler: learn, shadow, frozen or base.
    pub mode: String,
    pub task: Identity,
    /// Its effective weight inside its cgroups; 100 is nice 0 in the root.
    pub weight: f64,
    /// Who woke it last; None: the idle task or an interrupt, or it was not woken yet.
    pub waker: Option<Waker>,
    /// Which of the bank's models is its, as of the last wake-up; None in base mode or without a wake-up.
    pub class: Option<Class>,
    pub burst: Burst,
    pub history: History,
    /// By what it is decided who waits for whose end; None where nothing is known of bursts that begin like this one.
    pub expectation: Option<Expectation>,
    pub prediction: Predicted,
    /// The last slice; None: it never had one.
    pub slice: Option<Slice>,
    /// The last queueing; None: there was none.
    pub queueing: Option<Queueing>,
    /// Of the last predicted bursts.
    pub outcomes: Outcomes,
    /// Whether it is one of the scheduler's own, which neither teach it nor judge it.
    pub own_thread: bool,
    /// Whether the kernel left all of this alone while it was read.
    pub steady: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waker {
    pub pid: u32,
    /// None: it has ended since.
    pub comm: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Class {
    pub name: String,
    pub description: String,
    /// The kernel's own watch over the class's model; None before the first model.
    pub watch: Option<Watch>,
}

/// The kernel's watch over a class's model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// The kind's average has taken over.
    pub fallback: bool,
    /// Running mean |error| of the model and of the kind's average.
    pub error_model: f64,
    pub error_avg: f64,
    /// How often it fell back, and returned.
    pub fallbacks: u32,
    pub returns: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Since the scheduler was loaded.
    NeverWoken,
    Waiting,
    Running,
    Blocked,
}

/// The burst that goes on, or the last one of a task that is blocked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Burst {
    pub state: State,
    /// Time since it woke; None where that cannot be told.
    pub woke_ago_ns: Option<u64>,
    /// CPU time up to when the task last got or left a CPU.
    pub used_ns: u64,
    /// Time runnable but not running.
    pub wait_ns: u64,
    pub preemptions: u32,
    pub migrations: u32,
}

/// What is known of the bursts that have ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Bursts. None yet: log_burst_ns is the parent's, or a guess.
    pub seen: u32,
    pub last_burst_ns: u64,
    pub prev_burst_ns: u64,
    /// Moving averages: with weight 1/4, with weight 1/2, and with 1/4 of the logarithm.
    pub avg_burst_ns: u64,
    pub half_burst_ns: u64,
    pub log_burst_ns: u64,
    /// Octaves.
    pub burst_spread: f64,
    pub last_sleep_ns: u64,
    pub avg_sleep_ns: u64,
    pub last_wait_ns: u64,
    pub avg_wait_ns: u64,
}

/// What a burst is expected to take by what bursts that began alike took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    pub burst_ns: u64,
    /// How far off that has been about this task, octaves.
    pub error: f64,
    /// The same if the burst outlives its expectation, as such bursts did before; None: there were none, or they were of another kind.
    pub stretched_ns: Option<u64>,
    /// It was cut, and goes before those who would wait for its end.
    pub carries: bool,
}

/// What the last wake-up's prediction was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predicted {
    /// There was none; why, in words.
    None(String),
    Burst(Box<Prediction>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Of the model that predicted.
    pub generation: u64,
    /// Of the model whose coefficients these are; 0: none of them is left.
    pub terms_generation: u64,
    /// The features that the model uses, as they were at the wake-up; the largest contribution first.
    pub terms: Vec<Term>,
    pub intercept: f64,
    /// Intercept and contributions, log2(ns).
    pub sum: f64,
    /// What the kernel predicted, log2(ns), and as a time.
    pub log2: f64,
    pub burst_ns: u64,
    /// Whether sum and log2 are the same but for the quantisation.
    pub agrees: bool,
    /// What must be known to read this.
    pub notes: Vec<String>,
    /// What the kind's average predicted for the same burst.
    pub avg_burst_ns: u64,
    /// prediction + margin is the quantile that becomes the slice.
    pub margin: f64,
    pub quantile_ns: u64,
    /// The low quantile; None where the model is not left.
    pub low_quantile_ns: Option<u64>,
    /// Why the prediction was not used for scheduling, in words; None: it was.
    pub unused: Option<String>,
}

/// A feature's part of a prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Term {
    pub feature: String,
    pub unit: String,
    pub description: String,
    /// For a person.
    pub value: String,
    /// What the model multiplies: log2 of the quantity; 0 or 1 for a flag.
    pub log2: f64,
    pub coefficient: f64,
    /// Octaves.
    pub contribution: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    pub granted_ns: u64,
    /// The first one of the burst; 0: the burst that goes on had none yet, and the last one is of an earlier burst.
    pub first_ns: u64,
    /// none, base, predicted, raised, cut or outlived.
    pub source: String,
    /// In words.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Queueing {
    /// fresh, fair, or none for a wake-up that an idle CPU took.
    pub lane: String,
    /// In words.
    pub why: String,
    /// Beyond the time of the queueing (fresh lane) or the virtual clock (fair lane).
    pub deadline_after_ns: i64,
    /// In words; None where it waited nowhere.
    pub deadline: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Predicted bursts that have ended.
    pub judged: u32,
    /// The last of them, the newest first.
    pub last: Vec<Outcome>,
    /// Mean |error| over those; None without any.
    pub error_model: Option<f64>,
    pub error_avg: Option<f64>,
}

/// How a prediction turned out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub predicted_ns: u64,
    pub quantile_ns: u64,
    pub avg_burst_ns: u64,
    pub burst_ns: u64,
    /// Predicted less actual, octaves.
    pub error_model: f64,
    pub error_avg: f64,
    /// Whether the burst ended within the quantile.
    pub held: bool,
}
