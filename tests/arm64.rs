//! Nothing assumes x86: the BPF program and the C side of the host compile for arm64 too, with that machine's vmlinux.h.
//! Running it there is another matter; docs/testing.md says what was.

use std::path::Path;
use std::process::Command;

use scx_ml_text::Show;

/// The headers that the build script has unpacked.
const HEADERS: &str = concat!(env!("OUT_DIR"), "/scx_utils-bpf_h");

/// libbpf's own headers, which its crate carries along.
fn libbpf_headers() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let bpf = dir.path().join("bpf");
    std::fs::create_dir(&bpf).expect("created");
    for (name, text) in libbpf_rs::libbpf_sys::API_HEADERS {
        std::fs::write(bpf.join(name), text).expect("written");
    }
    dir
}

/// What makes the policy's functions symbols that Rust can call.
const WRAPPERS: &str = concat!(env!("OUT_DIR"), "/native_functions.c");

/// Compile with the clang that the build uses; the object file.
fn compile(source: &str, args: &[&str]) -> Vec<u8> {
    let object = tempfile::NamedTempFile::new().expect("a file");
    let clang = std::env::var("BPF_CLANG").unwrap_or_else(|_| "clang-19".into());
    let output = Command::new(&clang)
        .args(["-O2", "-g", "-Wall", "-Werror", "-std=gnu11"])
        .args(args)
        .arg(format!("-I{HEADERS}"))
        .args(["-I.", "-Isrc/bpf", "-c", source, "-o"])
        .arg(object.path())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|e| panic!("{clang} cannot be run: {e}"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::read(object.path()).expect("the object file")
}

/// Machine of an ELF file: e_machine.
fn machine(elf: &[u8]) -> u16 {
    assert_eq!(&elf[..4], b"\x7fELF");
    u16::from_le_bytes([elf[18], elf[19]])
}

#[test]
fn the_bpf_program_compiles_against_the_types_of_an_arm64_kernel() {
    let libbpf = libbpf_headers();
    let include_libbpf = format!("-I{}", libbpf.path().shown());
    let arch = format!("-I{HEADERS}/arch/arm64");
    let compat = format!("-I{HEADERS}/bpf-compat");
    assert!(Path::new(HEADERS).join("arch/arm64/vmlinux.h").exists());
    let object = compile(
        "src/bpf/main.bpf.c",
        &[
            "-target",
            "bpf",
            "-mcpu=v4",
            "-D__TARGET_ARCH_arm64",
            "-D__SCX_TARGET_ARCH_arm64",
            "-Wno-compare-distinct-pointer-types",
            &arch,
            &compat,
            &include_libbpf,
        ],
    );
    assert_eq!(machine(&object), 247, "EM_BPF");
}

#[test]
fn the_policys_mathematics_compile_for_an_arm64_host() {
    let object = compile(WRAPPERS, &["--target=aarch64-linux-gnu", "-ffreestanding"]);
    assert_eq!(machine(&object), 183, "EM_AARCH64");
}
