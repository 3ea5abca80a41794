//! The features of a burst. The list itself is in `src/bpf/intf.h`; here is what user space needs of it.

use crate::bpf::NR_FEATURES;
use crate::native;

/// Features in Q8 as the kernel records them.
pub type FeaturesQ8 = [i16; NR_FEATURES];

/// Features as numbers: log2 of the quantity, or 0.0 and 1.0.
pub type Features = [f64; NR_FEATURES];

/// From the kernel's fixed point.
pub fn from_q8(q8: &FeaturesQ8) -> Features {
    std::array::from_fn(|i| f64::from(q8[i]) / 256.0)
}

/// Name of feature `i`.
pub fn name(i: usize) -> &'static str {
    native::features()[i].0
}
