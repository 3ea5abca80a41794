//! Failures on purpose are for builds that the VM tests make for themselves: any other has nothing of them.

use std::process::Command;

const SCX_ML: &str = env!("CARGO_BIN_EXE_scx_ml");
const FOR_TESTS: bool = cfg!(feature = "fault-injection");

#[test]
fn the_variable_is_ignored() {
    let mut command = Command::new(SCX_ML);
    command.arg("features").env("SCX_ML_FAULT", "trainer-nap");
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), !FOR_TESTS, "{said}");
    assert_eq!(said.contains("which is no fault"), FOR_TESTS, "{said}");
}

#[test]
fn the_variable_is_not_in_the_program() {
    let program = std::fs::read(SCX_ML).expect("it can be read");
    let has = |text: &str| {
        let mut places = program.windows(text.len());
        places.any(|bytes| bytes == text.as_bytes())
    };
    assert!(
        has("scheduling, mode"),
        "it is not looked for as it should be"
    );
    assert_eq!(has("SCX_ML_FAULT"), FOR_TESTS);
}
