//! What scx_ml does with its predictions.

use clap::ValueEnum;

use crate::kernel::bpf::intf;

/// What the predictions are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Learn while scheduling; slices and order follow the predictions.
    Learn,
    /// Learn and predict, but schedule by the base policy: what would the model do?
    Shadow,
    /// Learn one model, or take that of --model, then keep it and stop learning.
    Frozen,
    /// The base policy alone: no samples, no model.
    Base,
}

impl Mode {
    /// As the kernel part knows it.
    pub fn kernel_mode(self) -> u32 {
        match self {
            Mode::Learn | Mode::Frozen => intf::scx_ml_mode_MODE_LEARN,
            Mode::Shadow => intf::scx_ml_mode_MODE_SHADOW,
            Mode::Base => intf::scx_ml_mode_MODE_BASE,
        }
    }

    /// As the user writes it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Learn => "learn",
            Mode::Shadow => "shadow",
            Mode::Frozen => "frozen",
            Mode::Base => "base",
        }
    }
}
