//! A predicted burst.

use scx_ml::kernel::bpf::intf::forecast;

/// A predicted log2(burst in ns), and how far its quantile is from it. Q16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prediction {
    pub pred_q16: i32,
    /// To the 95 % quantile.
    pub margin_q16: i32,
    /// Mean |error| about this task lately, Q8.
    pub err_q8: i32,
}

impl Prediction {
    /// The same for decide.h.
    pub fn forecast(&self) -> forecast {
        forecast {
            pred_q16: self.pred_q16,
            margin_q16: self.margin_q16,
            err_q8: self.err_q8,
            known: 1,
        }
    }
}
