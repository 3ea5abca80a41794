//! Compares CPU schedulers by measurement, and says how sure it is.
//!
//! # Layout
//! - [`settings`], [`spec`], [`strict`], [`suite`], [`plan`]: what an experiment is, from TOML and the command line, and its
//!   order
//! - [`workload`], [`calibration`]: the loads, one file each, with typed [`metric`]s
//! - [`scheduler`], [`kernel`]: starting, watching and stopping what is tested
//! - [`cost`]: what the scheduler costs, from tracepoints and the kernel's accounting
//! - [`cell`], [`child`], [`bench`]: one cell for real, the process its workload runs in, and the loop over them behind a trait that tests replace
//! - [`results`], [`provenance`], [`parquet_file`]: what is kept
//! - [`stats`], [`compare`], [`report`]: what may be concluded from it, and how it is shown
//! - [`quick`]: the regression check against stored ratios
//! - [`cli`], [`experiment`], [`commands`], [`progress`]: the command line
//!
//! Only [`sys`], [`cost`] and the workloads that need it hold `unsafe` code, each with its reason.

pub mod bench;
mod bpf_intf;
pub mod calibration;
pub mod cell;
pub mod child;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod cost;
pub mod error;
pub mod experiment;
pub mod kernel;
pub mod metric;
#[cfg(feature = "parquet")]
pub mod parquet_file;
pub mod plan;
mod probe_skel;
pub mod progress;
pub mod provenance;
pub mod quick;
pub mod report;
pub mod results;
pub mod scheduler;
pub mod settings;
#[cfg(test)]
mod settings_tests;
pub mod spec;
pub mod stats;
pub mod strict;
pub mod suite;
pub mod sys;
pub mod workload;
