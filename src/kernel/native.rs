//! The kernel's integer mathematics (`model.h`, `policy.h`) and tables (`record.h`, `intf.h`), compiled for the host by
//! `build.rs` from the same text. Names, signatures and types are generated from it, too.

use std::iter::Sum;
use std::mem::offset_of;

use crate::kernel::bpf::intf::{burst_sample, counters, s16, s32, scx_ml_consts_COMM_LEN};
use crate::kernel::bpf::{NR_CLASSES, NR_FEATURES};

// The lists, as macros of the names that they have in C; made by build/tables.rs.
include!(concat!(env!("OUT_DIR"), "/tables.rs"));
pub(crate) use SCX_ML_COUNTERS;

/// Made by build/bindings.rs: what is a `static inline` function there is one of the same name, arguments and result here, and
/// is documented there.
#[allow(clippy::all)]
mod functions {
    use crate::kernel::bpf::intf::*;

    include!(concat!(env!("OUT_DIR"), "/native_functions.rs"));
}

pub use functions::*;

/// A line of one of the lists that C and Rust share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desc {
    pub name: &'static str,
    /// C type: u64, u32, s32 or s16.
    pub c_type: &'static str,
    pub unit: &'static str,
    /// Where in the kernel it comes from.
    pub source: &'static str,
    pub description: &'static str,
    /// Byte offset and size in `struct burst_sample`.
    pub offset: usize,
    pub size: usize,
}

impl Desc {
    /// What is no part of the record.
    const fn value(name: &'static str, description: &'static str) -> Self {
        Self {
            name,
            c_type: "",
            unit: "",
            source: "",
            description,
            offset: 0,
            size: 0,
        }
    }
}

macro_rules! features {
    ($([$id:ident, $name:ident, $unit:literal, $source:literal, $desc:literal])*) => {{
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Index {
            $($id,)*
        }
        [$(Desc {
            name: stringify!($name),
            c_type: "s16",
            unit: $unit,
            source: $source,
            description: $desc,
            offset: offset_of!(burst_sample, feature_q8) + size_of::<s16>() * Index::$id as usize,
            size: size_of::<s16>(),
        },)*]
    }};
}

/// The features, in the order of their indices.
pub static FEATURES: [Desc; NR_FEATURES] = SCX_ML_FEATURES!(features);

macro_rules! columns {
    ($([$type:ident, $name:ident, $unit:literal, $source:literal, $desc:literal])*) => {
        [$(Desc {
            name: stringify!($name),
            c_type: stringify!($type),
            unit: $unit,
            source: $source,
            description: $desc,
            offset: offset_of!(burst_sample, $name),
            size: size_of::<$type>(),
        },)*]
    };
}

/// The other columns of a record, in the order of `struct burst_sample`.
pub static COLUMNS: &[Desc] = &SCX_ML_COLUMNS!(columns);

/// The one column that is no integer: the task's name, zeroes behind.
pub const COMM: Desc = Desc {
    name: "comm",
    c_type: "char[16]",
    unit: "text",
    source: "task_struct",
    description: "the task's name at the wake-up",
    offset: offset_of!(burst_sample, comm),
    size: scx_ml_consts_COMM_LEN as usize,
};

macro_rules! values {
    ($([$id:ident, $name:ident, $desc:literal])*) => {
        [$(Desc::value(stringify!($name), $desc),)*]
    };
}

/// The classes of tasks, each with a model of its own.
pub static CLASSES: [Desc; NR_CLASSES] = SCX_ML_CLASSES!(values);

/// Where a slice can come from, in the order of `enum slice_source`.
pub static SLICE_SOURCES: &[Desc] = &SCX_ML_SLICE_SOURCES!(values);

macro_rules! sum {
    ($([$name:ident, $desc:literal])*) => {
        impl Sum for counters {
            fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
                each.fold(Self::default(), |sum, c| Self {
                    $($name: sum.$name.wrapping_add(c.$name),)*
                })
            }
        }
    };
}

SCX_ML_COUNTERS!(sum);

/// [`name_key`] of a name as the kernel keeps it: cut to 15 bytes, zeroes behind.
pub fn name_key_of(name: impl AsRef<[u8]>) -> u32 {
    let mut comm = [0u8; 16];
    for (to, from) in comm.iter_mut().take(15).zip(name.as_ref()) {
        *to = *from;
    }
    let (lo, hi) = comm.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |w, &b| w << 8 | u64::from(b));
    name_key(word(lo), word(hi))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_is_summed_for_itself() {
        let cpu = |bursts, waits| counters {
            bursts,
            waits,
            ..Default::default()
        };
        let sum: counters = [cpu(1, 10), cpu(2, 20)].into_iter().sum();
        assert_eq!((sum.bursts, sum.kept, sum.waits), (3, 0, 30));
    }
}
