//! `scx_ml`: a sched_ext scheduler that learns the machine's own workload.
//!
//! The way of the data, room by room. Each may use those above it in this list, and none below; `tests/rooms.rs` sees to
//! it that no arrow runs the other way or in a circle.
//!
//! ```text
//! src/bpf/    wake-up ─ features ─ prediction ─ slice, deadline ─ runs ─ burst ends ─ record
//! kernel      user space's end of that: generated types, the shared mathematics, records, the machine
//! model       models, their files, and their way into the kernel's maps
//! learn       from samples to models: streams, fits, judges, the thread around them
//! recording   samples to files, and back
//! offline     training and evaluation on those
//! watch       statistics, explanations, the dashboard
//! cli         the command line, its subcommands, manual pages
//! scheduler   loads, attaches and watches the BPF part; main ties all of it
//! ```
//!
//! Without the cargo feature `recording` the rooms `recording` and `offline` are not built.
//!
//! The learner never touches libbpf, and the scheduler never waits for the learner.

pub mod cli;
pub mod kernel;
pub mod learn;
pub mod model;
#[cfg(feature = "recording")]
pub mod offline;
#[cfg(feature = "recording")]
pub mod recording;
pub mod scheduler;
pub mod shutdown;
pub mod watch;
