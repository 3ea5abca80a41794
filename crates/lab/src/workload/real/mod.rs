//! Programs that others wrote, run as their packages install them, each alone or in company.
//!
//! What they share: [`tool`] finds and runs a program, [`server`] keeps one up for as long as it is asked things,
//! [`company`] loads the machine beside them, [`roles`] tells apart who used the CPUs, [`served`] names what all
//! servers report the same.

mod company;
pub(super) mod cyclictest;
pub(super) mod memcached;
mod memcached_client;
pub(super) mod nginx;
pub(super) mod perf_bench;
pub(super) mod pgbench;
mod pgbench_log;
mod postgres;
pub(super) mod redis;
mod roles;
mod rounds;
pub(super) mod rt_hackbench;
pub(super) mod schbench;
mod served;
mod server;
pub(super) mod sysbench;
mod tool;

pub(super) use company::{Beside, Company};
use roles::Roles;
pub(super) use tool::{Tool, run};

/// The number that was given, or where none was (0) the default, which depends on the machine.
pub(super) fn given_or(given: usize, default: usize) -> usize {
    if given == 0 { default } else { given }
}

/// Whole seconds, as most programs take them: rounded up, at least one.
fn whole_seconds(seconds: f64) -> String {
    format!("{:.0}", seconds.ceil().max(1.0))
}
