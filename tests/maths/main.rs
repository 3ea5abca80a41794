//! The kernel's integer mathematics against floating point, over the whole range of inputs. The text under test is
//! `src/bpf/model.h`, `src/bpf/policy.h` and `src/bpf/frequency.h` themselves, compiled for the host.

mod clocks;
mod lanes;
mod logarithms;
mod speeds;
mod watch;
mod weights;

use proptest::prelude::*;
use scx_ml::kernel::bpf::intf::policy_params;
use scx_ml::kernel::native::policy_defaults;

const FRESH: u32 = 0;
const FAIR: u32 = 1;

const ONE_Q16: u64 = 1 << 16;
/// The inverse weight of nice 19.
const NICE_19_Q16: u64 = 1024 * ONE_Q16 / 15;

fn params() -> policy_params {
    policy_defaults()
}

/// log2 of a time in ns, Q16.
fn log2_q16_of(ns: f64) -> i32 {
    (ns.log2() * 65536.0) as i32
}

/// Any u64, with every order of magnitude equally likely.
fn magnitude() -> impl Strategy<Value = u64> {
    (0u32..64, any::<u64>()).prop_map(|(shift, v)| v >> shift)
}
