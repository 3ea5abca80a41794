//! What a recording's files hold. The columns come from the C side's tables; there is no second list of them.

use std::sync::LazyLock;

use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::schema::types::{Type, TypePtr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::bpf::intf::scx_ml_consts_FEATURE_ONE_Q8 as FEATURE_ONE_Q8;
use crate::kernel::native::{self, Desc};
use crate::kernel::sample::Sample;

use super::format::{FORMAT, PREFIX};
use super::meta::Meta;

/// How a column is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    U64,
    U32,
    S32,
    S16,
    /// A name of up to so many bytes, zeroes behind.
    Text(usize),
}

impl Kind {
    fn of(desc: &Desc) -> Self {
        match desc.c_type {
            "u64" => Self::U64,
            "u32" => Self::U32,
            "s32" => Self::S32,
            "s16" => Self::S16,
            _ => Self::Text(desc.size),
        }
    }

    /// Bytes in memory.
    pub fn size(self) -> usize {
        match self {
            Self::U64 => 8,
            Self::U32 | Self::S32 => 4,
            Self::S16 => 2,
            Self::Text(len) => len,
        }
    }

    /// Bytes that a value takes in a file at most, with a quarter for what a dictionary may cost in vain.
    pub(super) fn bytes_max(self) -> u64 {
        let stored = match self {
            Self::U64 => 8,
            Self::U32 | Self::S32 | Self::S16 => 4,
            // A length, and four bytes for each that has to be escaped.
            Self::Text(len) => 4 + 4 * len as u64,
        };
        stored * 5 / 4
    }

    pub(super) fn physical(self) -> PhysicalType {
        match self {
            Self::U64 => PhysicalType::INT64,
            Self::U32 | Self::S32 | Self::S16 => PhysicalType::INT32,
            Self::Text(_) => PhysicalType::BYTE_ARRAY,
        }
    }

    pub(super) fn logical(self) -> Option<LogicalType> {
        let integer = |bit_width, is_signed| {
            Some(LogicalType::Integer {
                bit_width,
                is_signed,
            })
        };
        match self {
            Self::U64 => integer(64, false),
            Self::U32 => integer(32, false),
            Self::S32 => None,
            Self::S16 => integer(16, true),
            Self::Text(_) => Some(LogicalType::String),
        }
    }
}

/// A column of a file: a field of the row's struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// Of the stored integer.
    pub unit: String,
    pub description: &'static str,
    pub kind: Kind,
    /// Of the field in the struct, bytes.
    pub offset: usize,
}

impl Column {
    fn new(desc: &Desc, unit: String) -> Self {
        let kind = Kind::of(desc);
        assert_eq!(
            kind.size(),
            desc.size,
            "{} is no {}",
            desc.name,
            desc.c_type
        );
        Self {
            name: desc.name,
            unit,
            description: desc.description,
            kind,
            offset: desc.offset,
        }
    }
}

/// What can be a row of a file: a struct of integers and text without padding.
pub trait Row: Copy + Send + FromBytes + Immutable + IntoBytes + 'static {
    /// Name of the table, and of its files: `NAME-000000.parquet`.
    const TABLE: &'static str;

    fn columns() -> &'static [Column];

    /// What is wrong with this row, if it cannot be one.
    fn flaw(&self) -> Option<String>;
}

impl Row for Sample {
    const TABLE: &'static str = "samples";

    fn columns() -> &'static [Column] {
        static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| {
            let plain = native::COLUMNS
                .iter()
                .chain([&native::COMM])
                .map(|d| Column::new(d, d.unit.to_string()));
            let features = native::FEATURES
                .iter()
                .map(|d| Column::new(d, format!("{} * {FEATURE_ONE_Q8}", d.unit)));
            plain.chain(features).collect()
        });
        &COLUMNS
    }

    fn flaw(&self) -> Option<String> {
        (self.class() >= NR_CLASSES).then(|| {
            format!(
                "its class is {}, there are {NR_CLASSES} (0 is the first)",
                self.class()
            )
        })
    }
}

/// Defines [`Loss`] and its columns.
macro_rules! loss {
    ($($name:ident: $unit:literal, $desc:literal;)*) => {
        /// What became of the bursts of one stretch of time, about a second.
        #[repr(C)]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, Immutable, IntoBytes)]
        pub struct Loss {
            $(#[doc = $desc] pub $name: u64,)*
        }

        static LOSS_COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| vec![
            $(Column {
                name: stringify!($name),
                unit: $unit.to_string(),
                description: $desc,
                kind: Kind::U64,
                offset: std::mem::offset_of!(Loss, $name),
            },)*
        ]);
    };
}

loss! {
    start_ns: "ns, CLOCK_MONOTONIC", "when the stretch began";
    end_ns: "ns, CLOCK_MONOTONIC", "when it ended";
    bursts: "count", "bursts ended, the scheduler's own threads left out";
    kept: "count", "samples put into the ring buffer";
    ring_dropped: "count", "samples lost because the ring buffer was full";
    sampled_out: "count", "bursts that sampling left out";
    excluded: "count", "bursts of the scheduler's own threads, not among the bursts";
    channel_dropped: "count", "samples lost because the recorder was behind";
    undecodable: "count", "records that were no samples";
    not_recorded: "count", "samples lost to the limit or to an error of the disk";
}

impl Loss {
    /// Add what came after.
    pub fn add(&mut self, later: &Self) {
        let first = *self == Self::default();
        *self = Self {
            start_ns: if first { later.start_ns } else { self.start_ns },
            end_ns: later.end_ns,
            bursts: self.bursts + later.bursts,
            kept: self.kept + later.kept,
            ring_dropped: self.ring_dropped + later.ring_dropped,
            sampled_out: self.sampled_out + later.sampled_out,
            excluded: self.excluded + later.excluded,
            channel_dropped: self.channel_dropped + later.channel_dropped,
            undecodable: self.undecodable + later.undecodable,
            not_recorded: self.not_recorded + later.not_recorded,
        };
    }
}

impl Row for Loss {
    const TABLE: &'static str = "losses";

    fn columns() -> &'static [Column] {
        &LOSS_COLUMNS
    }

    fn flaw(&self) -> Option<String> {
        (self.end_ns < self.start_ns).then(|| {
            format!(
                "it ends at {} ns, before its start at {} ns",
                self.end_ns, self.start_ns
            )
        })
    }
}

/// The Parquet schema of a table.
///
/// # Errors
/// Never for names that Parquet allows.
pub(super) fn parquet_schema<R: Row>() -> Result<TypePtr, ParquetError> {
    let fields = R::columns()
        .iter()
        .map(|c| {
            Ok(TypePtr::new(
                Type::primitive_type_builder(c.name, c.kind.physical())
                    .with_repetition(Repetition::REQUIRED)
                    .with_logical_type(c.kind.logical())
                    .build()?,
            ))
        })
        .collect::<Result<_, ParquetError>>()?;
    Ok(TypePtr::new(
        Type::group_type_builder(R::TABLE)
            .with_fields(fields)
            .build()?,
    ))
}

/// All of a file's metadata but the seal.
pub(super) fn metadata<R: Row>(meta: &Meta) -> Vec<KeyValue> {
    let own = [
        ("format", FORMAT.to_string()),
        ("table", R::TABLE.to_string()),
    ];
    own.into_iter()
        .chain(meta.pairs())
        .map(|(key, value)| KeyValue::new(format!("{PREFIX}{key}"), value))
        .chain(R::columns().iter().flat_map(|c| {
            [
                KeyValue::new(format!("{PREFIX}unit.{}", c.name), c.unit.clone()),
                KeyValue::new(
                    format!("{PREFIX}description.{}", c.name),
                    c.description.to_string(),
                ),
            ]
        }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::intf::burst_sample;
    use crate::kernel::features;

    #[test]
    fn the_columns_cover_every_byte_of_a_row() {
        fn covered<R: Row>() -> usize {
            let mut seen = vec![false; size_of::<R>()];
            for c in R::columns() {
                for byte in &mut seen[c.offset..c.offset + c.kind.size()] {
                    assert!(!*byte, "{} overlaps another", c.name);
                    *byte = true;
                }
            }
            seen.iter().filter(|seen| **seen).count()
        }
        let pad = size_of_val(&burst_sample::default().pad);
        assert_eq!(covered::<Sample>(), size_of::<burst_sample>() - pad);
        assert_eq!(covered::<Loss>(), size_of::<Loss>());
    }

    #[test]
    fn every_column_tells_its_unit() {
        let meta = Meta::here("1", "learn", 1, false);
        let pairs = metadata::<Sample>(&meta);
        let unit = |name: &str| {
            let key = format!("scx_ml.unit.{name}");
            pairs
                .iter()
                .find(|p| p.key == key)
                .and_then(|p| p.value.clone())
                .unwrap_or_else(|| panic!("no {key}"))
        };
        for line in features::table() {
            assert!(!unit(line.name).is_empty());
        }
        assert_eq!(unit("burst_ns"), "ns");
        assert_eq!(unit("last_burst"), "log2(ns) * 256");
        assert_eq!(unit("comm"), "text");
    }
}
