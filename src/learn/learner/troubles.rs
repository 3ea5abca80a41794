//! What of the learner's work may fail for a while.

use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::features;
use crate::kernel::trouble::Trouble;
use crate::learn::gate::{Decision, Verdict};

/// See the module.
pub struct Troubles {
    /// By class.
    pub fitting: [Trouble; NR_CLASSES],
    pub publishing: Trouble,
    pub quantum: Trouble,
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
        }
    }

    /// Which classes could be fitted and which could not.
    pub fn note_fits(&mut self, verdict: &Verdict) {
        for (class, fitting) in self.fitting.iter_mut().enumerate() {
            if let Some((_, e)) = verdict.unfitted.iter().find(|(c, _)| *c == class) {
                let name = features::class_name(class);
                fitting.note(Err::<(), _>(format!(
                    "no model of {name} tasks can be fitted: {e}"
                )));
            } else if verdict.classes[class].decision != Decision::Unjudged {
                fitting.note(Ok::<_, String>(()));
            }
        }
    }
}
