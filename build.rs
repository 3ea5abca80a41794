//! Compiles the BPF scheduler and its skeleton, and makes the shared headers Rust: see the modules in build/.

use std::path::{Path, PathBuf};

use anyhow::Context;

#[path = "build/bindings.rs"]
mod bindings;
#[path = "build/tables.rs"]
mod tables;

fn main() {
    if let Err(e) = build() {
        for line in format!("{e:#}").lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

fn build() -> anyhow::Result<()> {
    scx_cargo::BpfBuilder::new()
        .context("cannot use the clang named by BPF_CLANG; scx_ml needs clang 18 or newer")?
        .enable_skel("src/bpf/main.bpf.c", "bpf")
        .build()?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    bindings::generate(&out)?;
    tables::generate(&out)?;

    cc::Build::new()
        .file(out.join(bindings::WRAPPERS))
        .includes([".", "src/bpf"])
        .flags(["-std=gnu11", "-fwrapv"])
        .warnings(true)
        .try_compile("scx_ml_native")?;
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {path:?}"))
}
