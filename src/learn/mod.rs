//! Learning: from samples to models, beside scheduling.
//!
//! ```text
//! backlog    the bounded channel from the ring buffer
//! trainer    the thread that runs all below; it may die
//! learner    what is published and when; saver keeps it in a file
//! class      what is learned of a class of tasks: a stream of rows, the newest fit, what predicts
//! row        a sample as a fit sees it
//! moments    the sums of a stream, which forget
//! fit        a correction of the kind's average, from the sums: choice of columns by price, least_squares (linfa)
//! judge      whether the model predicts, or that average; residuals: a model's margins
//! quantum    the first quantum that the load asks for
//! profile    what tasks of a name do: a prior for those without history
//! ```

pub mod backlog;
pub mod class;
pub mod fit;
pub mod judge;
pub mod learner;
pub mod least_squares;
pub mod moments;
pub mod price;
pub mod profile;
pub mod quantum;
pub mod residuals;
pub mod row;
pub mod saver;
pub mod trainer;
