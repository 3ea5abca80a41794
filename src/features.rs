//! The features of a burst. The list itself is in `src/bpf/record.h`; here is what user space needs of it.

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
    native::FEATURES[i].name
}

/// Index of the feature with this name.
pub fn index(name: &str) -> Option<usize> {
    native::FEATURES.iter().position(|f| f.name == name)
}

/// Name of class `i`.
pub fn class_name(i: usize) -> &'static str {
    native::CLASSES[i].name
}

/// Identifies the list of features and classes: FNV-1a of all names in order. A model fits only the list that it was
/// trained with.
pub fn set_id() -> u64 {
    native::FEATURES
        .iter()
        .chain(native::CLASSES.iter())
        .flat_map(|d| d.name.bytes().chain([b'\n']))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
}
