//! Compiles the measuring probe and generates its Rust bindings.

use std::path::PathBuf;

use bindgen::callbacks::{DeriveInfo, ParseCallbacks};

/// Lets the kernel's bytes be read as a struct: the derive compiles only where any bytes are one.
#[derive(Debug)]
struct Views;

impl ParseCallbacks for Views {
    fn add_derives(&self, _: &DeriveInfo<'_>) -> Vec<String> {
        vec!["zerocopy::FromBytes".into()]
    }
}

fn main() -> anyhow::Result<()> {
    scx_cargo::BpfBuilder::new()?
        .enable_skel("src/bpf/probe.bpf.c", "probe")
        .build()?;
    bindgen::Builder::default()
        .header("src/bpf/intf.h")
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .parse_callbacks(Box::new(Views))
        .generate()?
        .write_to_file(PathBuf::from(std::env::var("OUT_DIR")?).join("bpf_intf.rs"))?;
    Ok(())
}
