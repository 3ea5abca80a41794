//! The generated bindings: the BPF skeleton, and the types and constants of `src/bpf/intf.h` and what builds on it.

/// The skeleton of `src/bpf/main.bpf.c`.
#[allow(clippy::all, clippy::unwrap_used, missing_docs)]
pub mod skel {
    include!(concat!(env!("OUT_DIR"), "/bpf_skel.rs"));
}

/// Structs and constants that C and Rust share. Structs are all zeroes by default, and bytes both ways (`zerocopy`): the
/// compiler sees to it that they are integers without padding.
#[allow(
    non_upper_case_globals,
    non_camel_case_types,
    non_snake_case,
    dead_code,
    missing_docs,
    clippy::all
)]
pub mod intf {
    include!(concat!(env!("OUT_DIR"), "/bpf_intf.rs"));
}

/// Number of features in a record and coefficients in a model.
pub const NR_FEATURES: usize = intf::scx_ml_feature_NR_FEATURES as usize;

/// Number of classes of tasks, each with a model of its own.
pub const NR_CLASSES: usize = intf::task_class_NR_CLASSES as usize;

/// Most features that one model uses.
pub const MODEL_TERMS: usize = intf::scx_ml_consts_MODEL_TERMS as usize;

/// Banks of models that the kernel has room for: the published one, and the one before.
pub const NR_MODEL_SLOTS: usize = intf::scx_ml_consts_NR_MODEL_SLOTS as usize;

/// Size of the kernel's array of features; the first [`NR_FEATURES`] are used.
pub const FEATURE_SLOTS: usize = intf::scx_ml_consts_FEATURE_SLOTS as usize;

impl intf::watch {
    /// Running mean |error| of the model and of the kind's average, in octaves.
    pub fn errors(&self) -> (f64, f64) {
        // Q8, kept with some more bits.
        let octaves = |e: i32| f64::from(e) / 256.0 / f64::from(1 << intf::WATCH_SHIFT);
        (octaves(self.err_model_q8), octaves(self.err_avg_q8))
    }
}
