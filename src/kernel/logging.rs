//! The log: where it goes, and that nothing gets there that a terminal obeys.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use log::{LevelFilter, Log, Metadata, Record};
use scx_ml_text::lines;
use simplelog::{ColorChoice, ConfigBuilder, TermLogger, TerminalMode};

/// What is logged on its way to whoever prints it.
struct Printable<L>(L);

impl<L: Log> Log for Printable<L> {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = lines(&record.args().to_string());
        self.0.log(
            &Record::builder()
                .metadata(record.metadata().clone())
                .args(format_args!("{text}"))
                .module_path(record.module_path())
                .file(record.file())
                .line(record.line())
                .build(),
        );
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Log to standard error from now on, libbpf's messages included.
///
/// # Errors
/// When there is a log already.
pub fn init(level: LevelFilter) -> Result<()> {
    let mut config = ConfigBuilder::new();
    config
        .set_location_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off);
    // Local time where it can be told; UTC otherwise.
    let _ = config.set_time_offset_to_local();
    let colour = match std::io::stderr().is_terminal() {
        true => ColorChoice::Auto,
        false => ColorChoice::Never,
    };
    let logger = TermLogger::new(level, config.build(), TerminalMode::Stderr, colour);
    log::set_boxed_logger(Box::new(Printable(logger))).context("cannot start logging")?;
    log::set_max_level(level);
    scx_utils::init_libbpf_logging(Some(if level == LevelFilter::Debug {
        libbpf_rs::PrintLevel::Debug
    } else {
        libbpf_rs::PrintLevel::Warn
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Keeps what is logged.
    #[derive(Default)]
    struct Kept(Mutex<String>);

    impl Log for Kept {
        fn enabled(&self, _: &Metadata) -> bool {
            true
        }

        fn log(&self, record: &Record) {
            let mut kept = self.0.lock().expect("not poisoned");
            kept.push_str(&format!("{} {}", record.level(), record.args()));
        }

        fn flush(&self) {}
    }

    #[test]
    fn what_is_logged_is_printable() {
        let log = Printable(Kept::default());
        let record = Record::builder()
            .level(log::Level::Warn)
            .args(format_args!("cannot read \x1b[2Ja\u{202e}b: no\nsuch file"))
            .build();
        log.log(&record);
        let kept = log.0.0.into_inner().expect("not poisoned");
        assert_eq!(
            kept,
            "WARN cannot read \\x1b[2Ja\\xe2\\x80\\xaeb: no\nsuch file"
        );
    }
}
