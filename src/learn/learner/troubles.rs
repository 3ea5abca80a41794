//! What of the learner's work may fail for a while.

use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::features;
use crate::kernel::trouble::Trouble;

/// See the module.
pub struct Troubles {
    /// By class.
    pub fitting: [Trouble; NR_CLASSES],
    pub publishing: Trouble,
    pub quantum: Trouble,
    pub thinning: Trouble,
}

impl Troubles {
    pub fn new() -> Self {
        Self {
            fitting: std::array::from_fn(|class| {
                let name = features::class_name(class);
                Trouble::new(format!("models of {name} tasks are fitted"))
            }),
            publishing: Trouble::new("the kernel is told of models"),
            quantum: Trouble::new("the kernel is told of first quanta"),
            thinning: Trouble::new("the kernel is told how many samples are wanted"),
        }
    }
}
