//! The manual pages and the shells' completions, made of the definition of the command line.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use scx_ml_text::Show;

use crate::cli::Opts;
use crate::cli::SCHEDULER_NAME;

/// Section of the manual: for administrators.
const SECTION: &str = "8";

/// Print the page of the command itself.
///
/// # Errors
/// When it cannot be written.
pub fn print_page(out: &mut impl Write) -> Result<()> {
    render(&command(), out)
        .map(drop)
        .context("cannot print the manual page")
}

/// Write all pages into a folder, which is created if it is not there: the command's, and one for each subcommand.
///
/// # Errors
/// When a file cannot be written.
pub fn write_pages(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot write the manual pages into {}", folder.shown());
    std::fs::create_dir_all(folder).with_context(cannot)?;
    let command = command();
    let subcommands = command.get_subcommands().filter(|c| !c.is_hide_set());
    std::iter::once(&command)
        .chain(subcommands)
        .map(|command| {
            let mut text = vec![];
            let name = render(command, &mut text).with_context(cannot)?;
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(cannot)?;
            Ok(path)
        })
        .collect()
}

/// The command as pages describe it: `man` stands for `help` there.
fn command() -> Command {
    let mut command = Opts::command().disable_help_subcommand(true);
    // Gives subcommands the names of their pages.
    command.build();
    command
}

/// Write a command's page; the name of its file.
fn render(command: &Command, out: &mut impl Write) -> std::io::Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let examples = command.get_after_help().map(ToString::to_string);
    // It would stand under "EXTRA", with its lines filled.
    let page = Man::new(command.clone().after_help(None::<&str>))
        .section(SECTION)
        // Without one it would be the date of the build.
        .date("")
        .source(format!("{SCHEDULER_NAME} {version}"))
        .manual("CPU schedulers");
    page.render(out)?;
    if let Some(examples) = examples {
        writeln!(out, ".SH EXAMPLES\n.nf")?;
        for line in examples.lines().filter(|line| *line != "Examples:") {
            writeln!(out, "{}", escaped(line))?;
        }
        writeln!(out, ".fi")?;
    }
    Ok(page.get_filename())
}

/// A line that roff prints as it is.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    match line.as_bytes().first() {
        Some(b'.' | b'\'') => format!("\\&{line}"),
        _ => line,
    }
}

/// Print a shell's completions.
pub fn print_completions(shell: Shell, out: &mut impl Write) {
    clap_complete::generate(shell, &mut Opts::command(), SCHEDULER_NAME, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn each_subcommand_has_a_page_with_its_options() {
        let folder = tempfile::tempdir().expect("created");
        let pages = write_pages(&folder.path().join("man8")).expect("written");
        let names: Vec<_> = pages
            .iter()
            .filter_map(|p| p.file_name()?.to_str())
            .collect();
        for name in ["scx_ml.8", "scx_ml-top.8", "scx_ml-explain.8"] {
            assert!(names.contains(&name), "no {name} in {names:?}");
        }
        let read = |name: &str| {
            let path = folder.path().join("man8").join(name);
            std::fs::read_to_string(path).expect("there")
        };
        let own = read("scx_ml.8");
        assert!(own.starts_with(".ie"), "no page: {own}");
        for text in [
            "slice\\-min\\-us",
            "refit\\-interval",
            ".SH EXAMPLES",
            "scx_ml\\-top(8)",
            "sudo scx_ml \\-\\-stats 2",
        ] {
            assert!(own.contains(text), "no {text} in\n{own}");
        }
        assert!(
            !own.contains("EXTRA") && !own.contains("scx_ml\\-help"),
            "{own}"
        );
        assert!(read("scx_ml-top.8").contains("once"));
    }

    #[test]
    fn no_line_is_taken_for_a_request_of_roff() {
        assert_eq!(escaped(".so x"), "\\&.so x");
        assert_eq!(escaped("a\\b -c"), "a\\eb \\-c");
    }

    #[test]
    fn every_shell_completes_subcommands_and_options() {
        for shell in Shell::value_variants() {
            let mut out = vec![];
            print_completions(*shell, &mut out);
            let text = String::from_utf8(out).expect("UTF-8");
            for word in ["explain", "slice-min-us", "once"] {
                assert!(text.contains(word), "{shell}: no {word}");
            }
        }
    }
}
