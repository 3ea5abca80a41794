//! The features of a burst. The list itself is in `src/bpf/record.h`; here is what user space needs of it.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use crate::kernel::bpf::{MODEL_TERMS, NR_FEATURES};
use crate::kernel::native::{self, Desc};

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

/// A line of the table that `scx_ml features` prints.
#[derive(Debug, Serialize)]
pub struct Line {
    pub name: &'static str,
    #[serde(rename = "type")]
    pub c_type: &'static str,
    pub unit: &'static str,
    /// What one unit of the stored integer is worth.
    pub scale: f64,
    pub source: &'static str,
    /// Whether a model may use it.
    pub model: bool,
    pub description: &'static str,
}

/// Everything that a record holds: the columns, the features, and the name.
pub fn table() -> Vec<Line> {
    let line = |d: &Desc, scale: f64, model: bool| Line {
        name: d.name,
        c_type: d.c_type,
        unit: d.unit,
        scale,
        source: d.source,
        model,
        description: d.description,
    };
    let columns = native::COLUMNS.iter().map(|d| {
        let fraction_bits = if d.name.ends_with("_q16") { 16 } else { 0 };
        line(d, 1.0 / f64::from(1 << fraction_bits), false)
    });
    let features = native::FEATURES.iter().map(|d| line(d, 1.0 / 256.0, true));
    let comm = line(&native::COMM, 1.0, false);
    columns.chain([comm]).chain(features).collect()
}

/// Print the table for a person.
pub fn print_table(w: &mut impl Write) -> Result<()> {
    let lines = table();
    let width = |of: fn(&Line) -> usize| lines.iter().map(of).max().unwrap_or(0);
    let (name, unit, source) = (
        width(|l| l.name.len()),
        width(|l| l.unit.chars().count()),
        width(|l| l.source.chars().count()),
    );
    writeln!(
        w,
        "{:name$}  {:8}  {:unit$}  {:>7}  {:source$}  model  description",
        "name", "type", "unit", "scale", "source"
    )?;
    for l in &lines {
        let scale = match l.scale.recip() {
            1.0 => "1".to_string(),
            parts => format!("1/{parts}"),
        };
        writeln!(
            w,
            "{:name$}  {:8}  {:unit$}  {scale:>7}  {:source$}  {:5}  {}",
            l.name,
            l.c_type,
            l.unit,
            l.source,
            if l.model { "may" } else { "-" },
            l.description,
        )?;
    }
    writeln!(
        w,
        "\nA model uses at most {MODEL_TERMS} features; which, and why not the others, is logged with -v when one is published."
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::intf::burst_sample;

    #[test]
    fn the_table_covers_the_record_without_gaps() {
        let mut next = 0;
        for d in native::COLUMNS.iter().chain(native::FEATURES.iter()) {
            assert_eq!(
                d.offset, next,
                "{} does not follow what is before it",
                d.name
            );
            next += d.size;
        }
        let rest = size_of::<burst_sample>() - next;
        assert!(
            (16..16 + 8 + 1).contains(&rest),
            "comm and padding take {rest} bytes"
        );
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = table().iter().map(|l| l.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
