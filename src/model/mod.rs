//! The models: what they are, their text, and their way into the kernel.
//!
//! ```text
//! linear   models of log2(burst), one a class of tasks: as fitted, and as the kernel reads them
//! file     a bank of them as text, kept between runs
//! sink     where models go, as the learner knows it
//! wanted   the profiles that the kernel is to have
//! publish  the sink that writes into the kernel's maps
//! ```

pub mod file;
mod linear;
pub mod publish;
pub mod sink;
pub mod wanted;

pub use linear::{
    COEF_LIMIT, Chosen, Dropped, INTERCEPT_LIMIT, LOG2_MAX, Linear, Model, QUANTISATION_BOUND,
    QuantiseError,
};
