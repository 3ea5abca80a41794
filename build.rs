//! Compiles the BPF scheduler and its skeleton, and the pure-integer headers once more for the host.

use std::path::Path;

use anyhow::Context;

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
        .enable_intf("src/bpf/intf.h", "bpf_intf.rs")
        .enable_skel("src/bpf/main.bpf.c", "bpf")
        .build()?;

    println!("cargo:rerun-if-changed=src/kernel/native.c");
    cc::Build::new()
        .file("src/kernel/native.c")
        .include(Path::new("src/bpf"))
        .flag("-std=gnu11")
        .warnings(true)
        .try_compile("scx_ml_native")?;
    Ok(())
}
