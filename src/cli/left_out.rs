//! What is said to somebody who asks for what this build leaves out.

use clap::error::{ContextKind, ContextValue};

const WHY: &str =
    "this build neither makes nor reads recordings; one with the cargo feature 'recording' does";

/// What clap has to say, and the reason where it does not know an option or a subcommand that is `left_out`.
pub fn explained(mut error: clap::Error, left_out: &[&str]) -> clap::Error {
    let unknown = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand];
    let asked = unknown.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(word) => Some(word.as_str()),
        _ => None,
    });
    if asked.is_some_and(|word| left_out.contains(&word)) {
        // Nothing that sounds alike is meant.
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedSubcommand);
        let why = ContextValue::StyledStrs(vec![WHY.into()]);
        error.insert(ContextKind::Suggested, why);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, arg};

    #[test]
    fn only_what_is_left_out_is_refused_with_the_reason() {
        let message = |args: &[&str]| {
            let command = Command::new("scx_ml")
                .arg(arg!(--records <FILE>))
                .subcommand(Command::new("trail"));
            let error = command
                .try_get_matches_from([&["scx_ml"], args].concat())
                .expect_err("refused");
            explained(error, &["--record", "train"]).to_string()
        };
        for args in [
            &["--record", "x"][..],
            &["--record=x"],
            &["train", "rec", "-o", "m"],
        ] {
            let message = message(args);
            assert!(message.contains(WHY), "{message}");
            assert_eq!(message.matches("tip:").count(), 1, "{message}");
        }
        for args in [&["--recorded"][..], &["trains"], &["--records"]] {
            assert!(!message(args).contains(WHY));
        }
    }
}
