//! Failures: on purpose, for the tests of such days, and what a panic says of itself.
//!
//! A build with the feature `fault-injection` looks for the name of a fault in the environment, in `SCX_ML_FAULT`. In any
//! other, the released one among them, there is no fault and no such variable.

#[cfg(feature = "fault-injection")]
pub use injection::{FAULT_VARIABLE, UnknownFault, asked_for};

/// Something that fails on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The trainer panics.
    TrainerPanic,
    /// The trainer never comes back.
    TrainerSpin,
    /// The process is killed between the halves of a publication.
    PublishKilled,
    /// The recorder panics.
    RecorderPanic,
    /// The recorder is slow, until something is lost by that.
    RecorderSlow,
}

/// Whether this fault is asked for.
#[cfg(feature = "fault-injection")]
pub fn is_asked_for(fault: Fault) -> bool {
    // Read once. A name that is none ends the program as it starts.
    static ASKED_FOR: std::sync::LazyLock<Option<Fault>> =
        std::sync::LazyLock::new(|| asked_for().unwrap_or_default());
    *ASKED_FOR == Some(fault)
}

/// Whether this fault is asked for: never, without the feature.
#[cfg(not(feature = "fault-injection"))]
pub const fn is_asked_for(_: Fault) -> bool {
    false
}

#[cfg(feature = "fault-injection")]
mod injection {
    use scx_ml_text::Show;

    use super::Fault;

    /// Environment variable that asks for a fault by its name.
    pub const FAULT_VARIABLE: &str = "SCX_ML_FAULT";

    /// The variable asks for something else.
    #[derive(Debug, thiserror::Error)]
    #[error("{FAULT_VARIABLE} is '{}', which is no fault; there are {names}", .0.shown(), names = Fault::ALL.map(Fault::name).join(", "))]
    pub struct UnknownFault(String);

    impl Fault {
        const ALL: [Self; 5] = [
            Self::TrainerPanic,
            Self::TrainerSpin,
            Self::PublishKilled,
            Self::RecorderPanic,
            Self::RecorderSlow,
        ];

        /// As the variable has it.
        pub const fn name(self) -> &'static str {
            match self {
                Self::TrainerPanic => "trainer-panic",
                Self::TrainerSpin => "trainer-spin",
                Self::PublishKilled => "publish-killed",
                Self::RecorderPanic => "recorder-panic",
                Self::RecorderSlow => "recorder-slow",
            }
        }
    }

    /// The fault that is asked for, if one is.
    ///
    /// # Errors
    /// When the variable names none.
    pub fn asked_for() -> Result<Option<Fault>, UnknownFault> {
        let Some(name) = std::env::var_os(FAULT_VARIABLE) else {
            return Ok(None);
        };
        match Fault::ALL.into_iter().find(|fault| name == fault.name()) {
            Some(fault) => Ok(Some(fault)),
            None => Err(UnknownFault(name.to_string_lossy().into_owned())),
        }
    }
}

/// What a panic says of itself.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}
