//! Each workload's own options.

use clap::{Args, ValueEnum};

use crate::workload::open_loop::Reveal;
use crate::workload::sizes::Shape;
use crate::workload::spin::Scope;

/// Who serves requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workers {
    /// A worker gets only short or only long ones.
    Dedicated,
    /// Any worker gets any.
    Shared,
}

/// The open loop.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Open loop")]
pub struct OpenArgs {
    #[arg(long, value_enum, default_value_t = Shape::Bimodal)]
    pub shape: Shape,

    /// Share of all CPUs' time that requests ask for.
    #[arg(long, default_value_t = 0.8)]
    pub load: f64,

    #[arg(long, value_enum, default_value_t = Workers::Dedicated)]
    pub workers: Workers,

    /// Probability that a request goes to a worker whose last one was of the same class. Takes precedence over
    /// --workers.
    #[arg(long)]
    pub persistence: Option<f64>,

    /// What tells the length of a request.
    #[arg(long, value_enum, default_value_t = Reveal::None)]
    pub reveal: Reveal,

    /// Probability that it tells the truth.
    #[arg(long, default_value_t = 1.0)]
    pub reveal_accuracy: f64,

    /// Workers per CPU; of each class, where they are dedicated.
    #[arg(long, default_value_t = 24)]
    pub threads_per_cpu: u32,

    #[arg(long, default_value_t = 1.0)]
    pub short_ms: f64,

    #[arg(long, default_value_t = 40.0)]
    pub long_ms: f64,

    #[arg(long, default_value_t = 0.05)]
    pub long_share: f64,

    /// Mean of the shapes without two modes.
    #[arg(long, default_value_t = 2.0)]
    pub mean_ms: f64,

    /// Pareto's tail index.
    #[arg(long, default_value_t = 1.5)]
    pub alpha: f64,

    /// Noise on each request's length, octaves; of schbench-locks, too.
    #[arg(long, default_value_t = 0.0)]
    pub spread: f64,

    /// CPU time that a task takes to hand out a request, in microseconds; 0: requests come by interrupts.
    #[arg(long, default_value_t = 0.0, value_name = "US")]
    pub generator_us: f64,
}

/// The closed loops of schbench; and what a wake-up costs in all of them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Closed loops")]
pub struct ClosedArgs {
    #[arg(long, default_value_t = 1)]
    pub messengers: u32,

    /// Workers per CPU.
    #[arg(long, default_value_t = 4)]
    pub workers_per_cpu: u32,

    /// CPU time of a request, in microseconds.
    #[arg(long, default_value_t = 1000.0, value_name = "US")]
    pub work_us: f64,

    /// Sleep before it, in microseconds.
    #[arg(long, default_value_t = 100.0, value_name = "US")]
    pub sleep_us: f64,

    /// CPU time of a wake-up, in microseconds: of who wakes, and of who was woken for its way back.
    #[arg(long, default_value_t = 5.0, value_name = "US")]
    pub wake_us: f64,

    /// How often a worker of schbench-locks sleeps before it works.
    #[arg(long, default_value_t = 1)]
    pub sleeps: u32,

    /// Share of sleeps of a worker of schbench-locks that do not block, as their timers are there before it is off its CPU.
    #[arg(long, default_value_t = 0.0)]
    pub missed_sleeps: f64,

    /// Which lock a worker of schbench-locks holds while it works.
    #[arg(long, value_enum, default_value_t = Scope::PerCpu)]
    pub locks: Scope,

    /// Locks in all, where they are global, and of yields.
    #[arg(long, default_value_t = 4)]
    pub nr_locks: u32,
}

/// Remote procedure calls.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Remote procedure calls")]
pub struct RpcArgs {
    #[arg(long, default_value_t = 1)]
    pub servers: u32,

    #[arg(long, default_value_t = 4)]
    pub clients_per_server: u32,

    /// Of a client, each with one request on its way
    #[arg(long, default_value_t = 1)]
    pub connections: u32,

    /// CPU time of a client before it asks, in microseconds.
    #[arg(long, default_value_t = 20.0, value_name = "US")]
    pub client_us: f64,

    /// CPU time of a request for its server, in microseconds.
    #[arg(long, default_value_t = 100.0, value_name = "US")]
    pub server_us: f64,

    /// CPU time for which a client runs on after it has asked, in microseconds.
    #[arg(long, default_value_t = 5.0, value_name = "US")]
    pub run_on_us: f64,

    /// Pause between an answer and the next request, in microseconds.
    #[arg(long, default_value_t = 0.0, value_name = "US")]
    pub think_us: f64,

    /// Wake-ups say that the waker is about to block.
    #[arg(long)]
    pub sync: bool,
}

/// Pipes and yields.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pipes and yields")]
pub struct PipesArgs {
    #[arg(long, default_value_t = 2)]
    pub groups: u32,

    /// Senders of a group, and as many receivers.
    #[arg(long, default_value_t = 20)]
    pub pairs: u32,

    /// Messages of each sender for each receiver of its group.
    #[arg(long, default_value_t = 100)]
    pub messages: u32,

    /// Messages that a pipe takes.
    #[arg(long, default_value_t = 640)]
    pub pipe_capacity: u32,

    /// CPU time of a message for its sender, in microseconds.
    #[arg(long, default_value_t = 2.0, value_name = "US")]
    pub send_us: f64,

    /// And for its receiver.
    #[arg(long, default_value_t = 2.0, value_name = "US")]
    pub receive_us: f64,

    /// Threads that yield.
    #[arg(long, default_value_t = 8)]
    pub yielders: u32,

    /// Yields of an event.
    #[arg(long, default_value_t = 200)]
    pub yields: u32,

    /// CPU time of each of a yield's two steps, in microseconds.
    #[arg(long, default_value_t = 2.0, value_name = "US")]
    pub step_us: f64,
}
