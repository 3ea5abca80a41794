//! The lists of `record.h` and `intf.h` as Rust macros, expanded by the C preprocessor: what C makes an enum or a struct of, Rust
//! makes tables and statistics of, and neither can have a line that the other has not.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::write;

const LISTS: [&str; 5] = [
    "SCX_ML_COLUMNS",
    "SCX_ML_FEATURES",
    "SCX_ML_CLASSES",
    "SCX_ML_SLICE_SOURCES",
    "SCX_ML_COUNTERS",
];

/// Write `tables.rs` into `out`: a macro of the same name for each list. `LIST!(then ...)` is `then!(... [line] [line] ...)`,
/// a line being what C's `X()` gets.
///
/// # Errors
/// When the preprocessor cannot be run, or does not know a list.
pub fn generate(out: &Path) -> Result<()> {
    let source = out.join("tables.c");
    let mut text = String::from("#include \"intf.h\"\n#define X(...) [__VA_ARGS__]\n");
    for list in LISTS {
        writeln!(text, "BEGIN_{list} {list}(X) END_{list}")?;
    }
    write(&source, &text)?;
    let expanded = cc::Build::new()
        .file(&source)
        .include("src/bpf")
        .flag("-P")
        .try_expand()?;
    let expanded = String::from_utf8(expanded)?;

    let mut macros = String::new();
    for list in LISTS {
        let (_, rest) = expanded
            .split_once(&format!("BEGIN_{list}"))
            .with_context(|| format!("the preprocessor has lost {list}"))?;
        let (lines, _) = rest
            .split_once(&format!("END_{list}"))
            .with_context(|| format!("the preprocessor has lost the end of {list}"))?;
        writeln!(
            macros,
            "macro_rules! {list} {{ ($then:ident $($first:tt)*) => {{ $then! {{ $($first)* {lines} }} }}; }}"
        )?;
    }
    write(&out.join("tables.rs"), &macros)
}
