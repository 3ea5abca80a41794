//! Learning: from samples to models, beside scheduling.
//!
//! ```text
//! backlog  the bounded channel from the ring buffer
//! trainer  the thread that runs all below; it may die
//! learner  keeps the window, decides when to fit; pace and drift tell it, saver keeps its models in a file
//! row      a sample as a fit sees it
//! fit      weighted ridge regression: moments, choice of columns, least_squares (linfa), robust refinement
//! gate     what may be published
//! quantum  the first quantum that the load asks for
//! profile  what tasks of a name do: a prior for those without history
//! ```

pub mod backlog;
pub mod drift;
pub mod fit;
pub mod gate;
pub mod learner;
pub mod least_squares;
pub mod moments;
pub mod pace;
pub mod profile;
pub mod quantum;
pub mod robust;
pub mod row;
pub mod saver;
pub mod trainer;
