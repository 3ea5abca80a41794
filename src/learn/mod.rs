//! Learning: from samples to models, beside scheduling.
//!
//! ```text
//! backlog    the bounded channel from the ring buffer
//! trainer    the thread that runs all below; it may die
//! learner    what is published and when; saver keeps it in a file
//! class      what is learned of a class of tasks: a stream of rows, the newest fit, what predicts
//! row        a sample as a fit sees it
//! thinning   how many of a class's samples are wanted; mean: a mean that forgets
//! stream     the rows of a class; which forgets; block: the newest ones, in integers; moments: the sums of all
//! fit        a correction of the kind's average, from the sums: choice of columns by price, least_squares (linfa)
//! judge      whether the model predicts, or that average; residuals: a model's margins
//! drift      whether the world has changed
//! quantum    the first quantum that the load asks for
//! profile    what tasks of a name do: a prior for those without history
//! ```

pub mod backlog;
pub mod block;
pub mod class;
pub mod drift;
pub mod fit;
pub mod judge;
pub mod learner;
pub mod least_squares;
pub mod mean;
pub mod moments;
pub mod price;
pub mod profile;
pub mod quantum;
pub mod residuals;
pub mod row;
pub mod saver;
pub mod stream;
pub mod thinning;
pub mod trainer;
