//! A discrete-event simulator of CPU scheduling: 1 to 1,024 CPUs, and scx_ml's own policy among others.
//!
//! ```text
//! workload  arrivals, sleeps and work      ─┐
//! engine    clock, CPUs, accounting         ├─ record   latency, slowdown
//! policy    ml (policy.h and model.h), …   ─┘     │
//! learn     history, features, model              │
//! experiment  policies × seeds × parameters ── report
//! ```
//!
//! A run is a function of its settings and its seed: the same give the same bytes.

pub mod cli;
pub mod engine;
pub mod experiment;
pub mod heap;
pub mod learn;
pub mod machine;
pub mod policy;
pub mod record;
pub mod report;
pub mod topology;
pub mod workload;
