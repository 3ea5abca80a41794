//! The kernel's integer mathematics (`model.h`, `policy.h`) and tables (`record.h`, `intf.h`), compiled for the host by
//! `build.rs` from the same text.

use std::ffi::{CStr, c_char};
use std::sync::LazyLock;

use crate::kernel::bpf::intf::{
    burst_sample, linear, policy_params, scx_ml_consts_COMM_LEN, watch,
};
use crate::kernel::bpf::{FEATURE_SLOTS, NR_CLASSES, NR_FEATURES};

#[repr(C)]
struct RawDesc {
    name: *const c_char,
    type_: *const c_char,
    unit: *const c_char,
    source: *const c_char,
    description: *const c_char,
    offset: u32,
    size: u32,
}

mod raw {
    use super::*;

    unsafe extern "C" {
        pub static native_policy_defaults: policy_params;
        pub static native_features: [RawDesc; 0];
        pub static native_columns: [RawDesc; 0];
        pub static native_nr_columns: u32;
        pub static native_classes: [RawDesc; 0];
        pub static native_slice_sources: [RawDesc; 0];
        pub static native_nr_slice_sources: u32;
        pub static native_counters: [RawDesc; 0];
        pub static native_nr_counters: u32;

        pub safe fn native_ilog2(v: u64) -> u32;
        pub safe fn native_log2_q16(v: u64) -> u32;
        pub safe fn native_log2_q8(v: u64) -> i32;
        pub safe fn native_count_q8(n: u64) -> i32;
        pub safe fn native_exp2_q16(x_q16: i64) -> u64;
        pub safe fn native_predict_q16(m: &linear, feature_q8: &[i16; FEATURE_SLOTS]) -> i32;
        pub safe fn native_task_class(kthread: bool, seen: u32, log_burst_q8: i32) -> u32;
        pub safe fn native_watch_add(
            w: &mut watch,
            generation: u64,
            err_model_q8: i64,
            err_avg_q8: i64,
        );
        pub safe fn native_watch_long(w: &mut watch, was_long: bool);
        pub safe fn native_watch_long_proven(w: &watch) -> bool;
        pub safe fn native_watch_quantile(w: &mut watch, above: bool);
        pub safe fn native_watched_margin_q16(margin_q16: i32, margin_shift_q16: i32) -> i32;
        pub safe fn native_is_new_start(avg_q8: i32, last_q8: i32, label_q8: i32) -> bool;
        pub safe fn native_burst_kind(waker_pid: u32) -> u32;
        pub safe fn native_yields_at_tick(
            pp: &policy_params,
            burst_ns: u64,
            key: u64,
            first_burst_ns: u64,
            first_key: u64,
        ) -> bool;
        pub safe fn native_reach(key: u64, vclock: u64, nr_waiting: u32) -> u64;
        pub safe fn native_task_error_q8(err_q8: i32, judged: u32, off_q8: i32) -> i32;
        pub safe fn native_avg_quarter(old: u64, new: u64) -> u64;
        pub safe fn native_virtual_ns(ns: u64, inv_weight_q16: u64) -> u64;
        pub safe fn native_bound_vruntime(
            vruntime: u64,
            vclock: u64,
            vlag: u64,
            woken: bool,
        ) -> u64;
        pub safe fn native_recip_q16(n: u32) -> u32;
        pub safe fn native_vclock_step(vused: u64, ahead: i64, nr_active: u32) -> u64;
        pub safe fn native_lane(quantum_ns: u64, burst_ns: u64, ahead: i64, vlag: u64) -> u32;
        pub safe fn native_is_sure(margin_q16: i32, err_q8: i32) -> bool;
        pub safe fn native_quantum_ns(
            pp: &policy_params,
            predicted: bool,
            pred_q16: i32,
            margin_q16: i32,
            proven_long: bool,
        ) -> u64;
        pub safe fn native_preemptible_at_ns(
            pp: &policy_params,
            run_start_ns: u64,
            burst_before_ns: u64,
            quantum_ns: u64,
            protect_until_ns: u64,
        ) -> u64;
        pub safe fn native_fair_key(
            pp: &policy_params,
            vruntime: u64,
            inv_weight_q16: u64,
            burst_ns: u64,
            predicted: bool,
            pred_q16: i32,
            margin_q16: i32,
        ) -> u64;
        pub safe fn native_sure_long(
            pp: &policy_params,
            pred_q16: i32,
            long_margin_q16: i32,
            err_q8: i32,
        ) -> bool;
        pub safe fn native_request_ns(pp: &policy_params, predicted: bool, pred_q16: i32) -> u64;
        pub safe fn native_fresh_delay_ns(
            pp: &policy_params,
            predicted: bool,
            pred_q16: i32,
        ) -> u64;
        pub safe fn native_base_slice_ns(pp: &policy_params, lane: u32, nr_waiting: u32) -> u64;
        pub safe fn native_quantile_left_ns(pred_q16: i32, margin_q16: i32, burst_ns: u64) -> u64;
        pub safe fn native_name_key(lo: u64, hi: u64) -> u32;
        pub safe fn native_profile_key(name: u32, waker: u32, seen: u32) -> u32;
        pub safe fn native_clamp_slice(pp: &policy_params, slice_ns: u64) -> u64;
    }
}

pub use raw::{
    native_avg_quarter as avg_quarter, native_base_slice_ns as base_slice_ns,
    native_bound_vruntime as bound_vruntime, native_burst_kind as burst_kind,
    native_clamp_slice as clamp_slice, native_count_q8 as count_q8, native_exp2_q16 as exp2_q16,
    native_fair_key as fair_key, native_fresh_delay_ns as fresh_delay_ns, native_ilog2 as ilog2,
    native_is_new_start as is_new_start, native_is_sure as is_sure, native_lane as lane,
    native_log2_q8 as log2_q8, native_log2_q16 as log2_q16, native_name_key as name_key_words,
    native_predict_q16 as predict_q16, native_preemptible_at_ns as preemptible_at_ns,
    native_profile_key as profile_key, native_quantile_left_ns as quantile_left_ns,
    native_quantum_ns as quantum_ns, native_reach as reach, native_recip_q16 as recip_q16,
    native_request_ns as request_ns, native_sure_long as sure_long,
    native_task_class as task_class, native_task_error_q8 as task_error_q8,
    native_vclock_step as vclock_step, native_virtual_ns as virtual_ns,
    native_watch_add as watch_add, native_watch_long as watch_long,
    native_watch_long_proven as watch_long_proven, native_watch_quantile as watch_quantile,
    native_watched_margin_q16 as watched_margin_q16, native_yields_at_tick as yields_at_tick,
};

/// The policy's parameters if nobody sets others.
pub fn policy_defaults() -> policy_params {
    // SAFETY: a constant of the C side.
    unsafe { raw::native_policy_defaults }
}

/// A line of one of the C side's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desc {
    pub name: &'static str,
    /// C type: u64, u32, s32 or s16.
    pub c_type: &'static str,
    pub unit: &'static str,
    /// Where in the kernel it comes from.
    pub source: &'static str,
    pub description: &'static str,
    /// Byte offset and size in its struct.
    pub offset: usize,
    pub size: usize,
}

/// The features, in the order of their indices.
pub static FEATURES: LazyLock<Vec<Desc>> =
    // SAFETY: the table has that many lines, constant and made of literals; the same for those below.
    LazyLock::new(|| unsafe { read((&raw const raw::native_features).cast(), NR_FEATURES) });

/// The other columns of a record, in the order of `struct burst_sample`.
pub static COLUMNS: LazyLock<Vec<Desc>> = LazyLock::new(|| unsafe {
    read(
        (&raw const raw::native_columns).cast(),
        raw::native_nr_columns as usize,
    )
});

/// The one column that is no integer: the task's name, zeroes behind.
pub const COMM: Desc = Desc {
    name: "comm",
    c_type: "char[16]",
    unit: "text",
    source: "task_struct",
    description: "the task's name at the wake-up",
    offset: std::mem::offset_of!(burst_sample, comm),
    size: scx_ml_consts_COMM_LEN as usize,
};

/// The classes of tasks, each with a model of its own.
pub static CLASSES: LazyLock<Vec<Desc>> =
    LazyLock::new(|| unsafe { read((&raw const raw::native_classes).cast(), NR_CLASSES) });

/// Where a slice can come from, in the order of `enum slice_source`.
pub static SLICE_SOURCES: LazyLock<Vec<Desc>> = LazyLock::new(|| unsafe {
    read(
        (&raw const raw::native_slice_sources).cast(),
        raw::native_nr_slice_sources as usize,
    )
});

/// `name_key()` of model.h for a name as the kernel keeps it: cut to 15 bytes, zeroes behind.
pub fn name_key(name: &str) -> u32 {
    let mut comm = [0u8; 16];
    for (to, from) in comm.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let (lo, hi) = comm.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |w, &b| w << 8 | u64::from(b));
    raw::native_name_key(word(lo), word(hi))
}

/// The kernel's counters, in the order of `struct counters`.
pub static COUNTERS: LazyLock<Vec<Desc>> = LazyLock::new(|| unsafe {
    read(
        (&raw const raw::native_counters).cast(),
        raw::native_nr_counters as usize,
    )
});

/// Copy a table.
///
/// # Safety
/// `table` must point to `len` constant lines whose strings are literals.
unsafe fn read(table: *const RawDesc, len: usize) -> Vec<Desc> {
    // SAFETY: as the caller vouches. The literals are ASCII; anything else becomes a placeholder.
    let literal =
        |s: *const c_char| -> &'static str { unsafe { CStr::from_ptr(s) }.to_str().unwrap_or("?") };
    // SAFETY: as the caller vouches.
    unsafe { std::slice::from_raw_parts(table, len) }
        .iter()
        .map(|d| Desc {
            name: literal(d.name),
            c_type: literal(d.type_),
            unit: literal(d.unit),
            source: literal(d.source),
            description: literal(d.description),
            offset: d.offset as usize,
            size: d.size as usize,
        })
        .collect()
}
