//! The kernel's integer mathematics (`model.h`, `policy.h`), compiled for the host by `build.rs` from the same text.

use std::ffi::{CStr, c_char};

use crate::bpf::intf::{model, policy_params};

#[repr(C)]
struct RawFeature {
    name: *const c_char,
    unit: *const c_char,
    description: *const c_char,
}

#[repr(C)]
struct RawCounter {
    name: *const c_char,
    description: *const c_char,
}

mod raw {
    use super::*;

    unsafe extern "C" {
        pub static native_features: [RawFeature; crate::bpf::NR_FEATURES];
        pub static native_counters: [RawCounter; 0];
        pub static native_nr_counters: u32;

        pub safe fn native_log2_q16(v: u64) -> u32;
        pub safe fn native_log2_q8(v: u64) -> i32;
        pub safe fn native_exp2_q16(x_q16: i64) -> u64;
        pub safe fn native_predict_q16(
            m: &model,
            feature_q8: &[i16; crate::bpf::NR_FEATURES],
        ) -> i32;
        pub safe fn native_avg_quarter(old: u64, new: u64) -> u64;
        pub safe fn native_virtual_ns(ns: u64, inv_weight_q16: u64) -> u64;
        pub safe fn native_bound_vruntime(vruntime: u64, vclock: u64, vlag: u64) -> u64;
        pub safe fn native_recip_q16(n: u32) -> u32;
        pub safe fn native_vclock_step(vused: u64, nr_active: u32) -> u64;
        pub safe fn native_lane(
            pp: &policy_params,
            burst_ns: u64,
            ahead: i64,
            vlag: u64,
            sure_long: bool,
        ) -> u32;
        pub safe fn native_sure_long(
            pp: &policy_params,
            pred_q16: i32,
            long_margin_q16: i32,
        ) -> bool;
        pub safe fn native_request_ns(pp: &policy_params, predicted: bool, pred_q16: i32) -> u64;
        pub safe fn native_base_slice_ns(pp: &policy_params, lane: u32, nr_waiting: u32) -> u64;
        pub safe fn native_quantile_left_ns(pred_q16: i32, margin_q16: i32, burst_ns: u64) -> u64;
        pub safe fn native_clamp_slice(pp: &policy_params, slice_ns: u64) -> u64;
    }
}

pub use raw::{
    native_avg_quarter as avg_quarter, native_base_slice_ns as base_slice_ns,
    native_bound_vruntime as bound_vruntime, native_clamp_slice as clamp_slice,
    native_exp2_q16 as exp2_q16, native_lane as lane, native_log2_q8 as log2_q8,
    native_log2_q16 as log2_q16, native_predict_q16 as predict_q16,
    native_quantile_left_ns as quantile_left_ns, native_recip_q16 as recip_q16,
    native_request_ns as request_ns, native_sure_long as sure_long,
    native_vclock_step as vclock_step, native_virtual_ns as virtual_ns,
};

/// A string literal of the C side.
///
/// # Safety
/// `s` must point to a NUL-terminated string that lives for ever.
unsafe fn literal(s: *const c_char) -> &'static str {
    // SAFETY: as the caller vouches; the literals are ASCII, anything else becomes a placeholder.
    unsafe { CStr::from_ptr(s) }.to_str().unwrap_or("?")
}

/// Name, unit and description of each feature, in the order of coefficients, from the list in `intf.h`.
pub fn features() -> [(&'static str, &'static str, &'static str); crate::bpf::NR_FEATURES] {
    std::array::from_fn(|i| {
        // SAFETY: the table is constant and holds string literals.
        unsafe {
            let f = &raw::native_features[i];
            (literal(f.name), literal(f.unit), literal(f.description))
        }
    })
}

/// Name and description of each counter, in the order of `struct counters`.
pub fn counters() -> Vec<(&'static str, &'static str)> {
    // SAFETY: the table is constant, has native_nr_counters entries, and holds string literals.
    unsafe {
        let table = std::slice::from_raw_parts(
            (&raw const raw::native_counters).cast::<RawCounter>(),
            raw::native_nr_counters as usize,
        );
        table
            .iter()
            .map(|c| (literal(c.name), literal(c.description)))
            .collect()
    }
}
