//! The kernel's integer mathematics (`model.h`, `policy.h`) and tables (`record.h`, `intf.h`), compiled for the host by
//! `build.rs` from the same text. Names, signatures and types are generated from it, too.

use std::ffi::{CStr, c_char};
use std::sync::LazyLock;

use crate::kernel::bpf::intf::{burst_sample, scx_ml_consts_COMM_LEN};
use crate::kernel::bpf::{NR_CLASSES, NR_FEATURES};

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

/// Made by build/bindings.rs: what is a `static inline` function there is one of the same name, arguments and result here, and
/// is documented there.
#[allow(clippy::all)]
mod functions {
    use crate::kernel::bpf::intf::*;

    include!(concat!(env!("OUT_DIR"), "/native_functions.rs"));
}

pub use functions::*;

mod raw {
    use super::RawDesc;

    unsafe extern "C" {
        pub static native_features: [RawDesc; 0];
        pub static native_columns: [RawDesc; 0];
        pub static native_nr_columns: u32;
        pub static native_classes: [RawDesc; 0];
        pub static native_slice_sources: [RawDesc; 0];
        pub static native_nr_slice_sources: u32;
        pub static native_counters: [RawDesc; 0];
        pub static native_nr_counters: u32;
    }
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

/// [`name_key`] of a name as the kernel keeps it: cut to 15 bytes, zeroes behind.
pub fn name_key_of(name: &str) -> u32 {
    let mut comm = [0u8; 16];
    for (to, from) in comm.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let (lo, hi) = comm.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |w, &b| w << 8 | u64::from(b));
    name_key(word(lo), word(hi))
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
