//! Failures: on purpose, for the tests of such days, and what a panic says of itself.

/// Environment variable that makes something fail on purpose: `trainer-panic`, `trainer-spin`, `publish-killed`,
/// `recorder-panic` or `recorder-slow`.
pub const FAULT_VARIABLE: &str = "SCX_ML_FAULT";

/// What a panic says of itself.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}
