//! Compares CPU schedulers by measurement, and says how sure it is.
#![allow(dead_code)]
pub mod calibration;
pub mod error;
pub mod kernel;
pub mod metric;
pub mod plan;
pub mod settings;
#[cfg(test)]
mod settings_tests;
pub mod stats;
pub mod strict;
pub mod sys;
pub mod workload;
