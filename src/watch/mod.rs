//! Watching the scheduler: what it counts, keeps and decides, for people and machines. All of it only reads.
//!
//! ```text
//! stats        statistics on scx_stats' socket and as text;  openmetrics  the same for Prometheus
//! server       listens there, and bounds what clients can ask of the process
//! desk         answers who asks there, whatever fails;  printer  prints what it says
//! verdicts     how predictions turned out, class by class;  totals  what it has come to since the start
//! latency      the kernel's histogram of wake-to-run latencies
//! queues       the machine as the scheduler knows it, and what waits where
//! observe      reads tasks, models and queues in the BPF maps for whoever asks on the socket
//! ask          the client's end of the socket
//! explain      why a task got its slice
//! top          a dashboard
//! units        numbers as people write them
//! ```

pub mod ask;
pub mod desk;
pub mod explain;
pub mod latency;
pub mod observe;
pub mod openmetrics;
pub mod printer;
pub mod queues;
pub mod server;
pub mod stats;
pub mod top;
pub mod totals;
pub mod units;
pub mod verdicts;
