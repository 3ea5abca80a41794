//! A predicted burst.

use scx_ml::kernel::native;

/// A predicted log2(burst in ns), and how far its quantiles are from it. Q16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prediction {
    pub pred_q16: i32,
    /// To the 95 % quantile.
    pub margin_q16: i32,
    /// Down to the 5 % quantile.
    pub long_margin_q16: i32,
    /// Mean |error| about this task lately, Q8.
    pub err_q8: i32,
    /// Bursts that were surely long have proven to be.
    pub long_proven: bool,
}

impl Prediction {
    /// policy_is_sure()
    pub fn is_sure(&self) -> bool {
        native::policy_is_sure(self.margin_q16, self.err_q8)
    }
}
