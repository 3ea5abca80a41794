//! Kernels that no scheduler can be loaded on, and what the user is told there. On all others there is nothing to see.

use std::process::Command;

use scx_ml::kernel::preflight::Kernel;
use scx_utils::compat::malformed_scx_kfuncs;

use crate::harness::{SCX_ML, run, state};

/// Set where the kernel is known to be such a one, so that this is noticed when it no longer is.
const EXPECTED: &str = "SCX_ML_EXPECT_REFUSAL";

#[test]
fn a_kernel_whose_functions_cannot_be_called_is_refused_in_one_line() {
    if Kernel::running()
        .check_functions(&malformed_scx_kfuncs())
        .is_ok()
    {
        assert!(
            std::env::var_os(EXPECTED).is_none(),
            "this kernel is fine: run all tests on it"
        );
        return;
    }
    let (code, out, err) = run(&mut Command::new(SCX_ML));
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert_eq!(err.trim_end().lines().count(), 1, "{err}");
    assert!(err.contains("lets no program call scx_bpf_"), "{err}");
    assert!(err.contains("boot another build"), "{err}");
    assert_eq!(state(), "disabled");
}
