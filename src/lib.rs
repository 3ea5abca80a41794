//! `scx_ml`: a sched_ext scheduler that learns the machine's own workload.
//!
//! The way of the data, module by module:
//!
//! ```text
//! src/bpf/   wake-up ─ features ─ prediction ─ slice, deadline ─ runs ─ burst ends ─ record
//! ringbuf    drains the records to whoever wants them; backlog, the bounded channel to the learner
//! learner    keeps the window, fits (fit), judges (gate, drift)
//! trainer    the thread around the learner
//! profile    what tasks of a name do: a prior for those without history
//! recording  samples to files, and back
//! publish    writes an accepted model (model) into the BPF maps
//! model_file keeps models as text, between runs
//! offline    trains and evaluates models on recordings
//! scheduler  loads, attaches and watches the BPF part; stats, preflight, cli and tasks face the user
//! explain    says why a task got its slice, from what observe reads of it in the BPF maps
//! queues     the machine as the scheduler knows it, and what waits where
//! top        a dashboard of what stats and observe tell; ask is the client's end of their socket
//! openmetrics  statistics for Prometheus; latency, the kernel's histogram of wake-to-run latencies
//! privileges gives up what root may do and scheduling does not need
//! manual     manual pages and completions, from cli
//! ```
//!
//! The learner never touches libbpf, and the scheduler never waits for the learner.

pub mod ask;
pub mod backlog;
pub mod bpf;
pub mod cli;
pub mod clock;
pub mod drift;
pub mod explain;
pub mod features;
pub mod fit;
pub mod gate;
pub mod host;
pub mod latency;
pub mod learner;
pub mod manual;
pub mod model;
pub mod model_file;
pub mod moments;
pub mod native;
pub mod observe;
pub mod offline;
pub mod openmetrics;
pub mod pace;
pub mod preflight;
pub mod privileges;
pub mod profile;
pub mod publish;
pub mod quantum;
pub mod queues;
pub mod recording;
pub mod ringbuf;
pub mod robust;
pub mod sample;
pub mod scheduler;
pub mod shutdown;
pub mod stats;
pub mod syscalls;
pub mod tasks;
pub mod top;
pub mod topology;
pub mod trainer;

/// Name under which the scheduler appears to the user.
pub const SCHEDULER_NAME: &str = "scx_ml";
