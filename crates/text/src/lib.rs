//! Names of tasks, cgroups and files as text that harms no terminal.
//!
//! Problem: any user names a thread, a cgroup or a file, and root looks at it. A name may hold bytes that a terminal obeys, that
//! turn a line around, that cannot be seen, or that are no text at all.
//! How: such bytes are shown as `\xNN`, and a backslash as `\\`, so that each name has a text of its own and can be had back from
//! it. [`Show::shown`] does that where a name becomes part of a text. [`lines`] and [`json`] stand where text leaves the program,
//! for what came there on another way; they leave alone what is shown already.
//! Possible limitation: letters are not told apart from others that look like them, and those of scripts that are written from
//! the right stay letters. Accents that are characters of their own are escaped: they would change what stands before them.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Letters and symbols, to Unicode, that show nothing: fillers of Hangul, and the empty pattern of Braille.
const BLANK: [char; 5] = ['\u{115f}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{ffa0}'];

/// Whether a character is seen as what it is. The standard library knows which are: no control characters, no overrides of the
/// direction, nothing without width, no space but the one; neither what has no meaning yet.
pub fn is_printable(c: char) -> bool {
    match c {
        // Escaped there for the sake of Rust's own literals.
        '\'' | '"' | '\\' => true,
        c if c.is_ascii() => !c.is_ascii_control(),
        c => !BLANK.contains(&c) && c.escape_debug().len() == 1,
    }
}

/// A name, to be written with what cannot be printed as `\xNN`, and `\\` for a backslash.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(&'a [u8]);

/// What has a name.
pub trait Show {
    /// It as text.
    fn shown(&self) -> Shown<'_>;
}

impl Show for [u8] {
    fn shown(&self) -> Shown<'_> {
        Shown(self)
    }
}

impl Show for str {
    fn shown(&self) -> Shown<'_> {
        Shown(self.as_bytes())
    }
}

impl Show for OsStr {
    fn shown(&self) -> Shown<'_> {
        Shown(self.as_bytes())
    }
}

impl Show for Path {
    fn shown(&self) -> Shown<'_> {
        self.as_os_str().shown()
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Width and alignment are those of the whole.
        let mut text = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    c if is_printable(c) => text.push(c),
                    c => push_bytes(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            push_bytes(&mut text, chunk.invalid());
        }
        f.pad(&text)
    }
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
        text.extend(['\\', 'x', digit(byte >> 4), digit(byte & 15)]);
    }
}

/// The name that is shown so; None: none is.
pub fn name_of(shown: &str) -> Option<Vec<u8>> {
    let mut name = vec![];
    let mut from = shown.bytes();
    while let Some(byte) = from.next() {
        name.push(match byte {
            b'\\' => match from.next()? {
                b'\\' => b'\\',
                b'x' => {
                    let mut digit = || char::from(from.next()?).to_digit(16);
                    (digit()? << 4 | digit()?) as u8
                }
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(name)
}

/// Text of many lines, as it may be printed: what cannot be seen is escaped, ends of lines are not.
pub fn lines(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c == '\n' || is_printable(c) => safe.push(c),
            c => push_bytes(&mut safe, c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    safe
}

/// JSON that says the same without characters that cannot be seen. Its own syntax has none but ends of lines, so that all others
/// are inside of strings, where they may be given by number.
pub fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c == '\n' || is_printable(c) => safe.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    safe.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    safe
}

/// What clap says of a command line that it does not understand, and cites of it, without what harms; None: there is nothing.
fn harmless(error: &clap::Error) -> Option<String> {
    let said = error.to_string();
    let safe = lines(&said);
    (safe != said).then_some(safe)
}

/// End the program as clap would: with its message, or the help that was asked for.
pub fn exit_by(error: &clap::Error) -> ! {
    match harmless(error) {
        Some(text) => {
            eprint!("{text}");
            std::process::exit(error.exit_code())
        }
        None => error.exit(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_harms_a_terminal_is_escaped() {
        for (name, shown) in [
            (&b"worker"[..], "worker"),
            (b"it's \"a\" {b}", "it's \"a\" {b}"),
            (
                "caf\u{e9} \u{65e5}\u{672c}".as_bytes(),
                "caf\u{e9} \u{65e5}\u{672c}",
            ),
            (b"\x1b]0;evil\x07\xff", "\\x1b]0;evil\\x07\\xff"),
            (b"a\nb\t\x7f", "a\\x0ab\\x09\\x7f"),
            (b"a\\x1b", "a\\\\x1b"),
            (b"caf\xc3", "caf\\xc3"),
            ("\u{9b}2J".as_bytes(), "\\xc2\\x9b2J"),
            ("gpj\u{202e}exe".as_bytes(), "gpj\\xe2\\x80\\xaeexe"),
        ] {
            assert_eq!(name.shown().to_string(), shown);
        }
        assert_eq!(
            format!("{:>6}|{:<6}|", b"\x01".shown(), "a".shown()),
            "  \\x01|a     |"
        );
    }

    #[test]
    fn what_cannot_be_seen_is_not_printable() {
        // Controls, directions, joiners, spaces, separators, tags, annotations, fillers, variations, private, unassigned.
        let ranges = [
            0x00..=0x1f,
            0x7f..=0xa0,
            0xad..=0xad,
            0x34f..=0x34f,
            0x61c..=0x61c,
            0x115f..=0x1160,
            0x17b4..=0x17b5,
            0x180b..=0x180f,
            0x2000..=0x200f,
            0x2028..=0x202f,
            0x205f..=0x206f,
            0x2800..=0x2800,
            0x3000..=0x3000,
            0x3164..=0x3164,
            0xe000..=0xf8ff,
            0xfe00..=0xfe0f,
            0xfeff..=0xfeff,
            0xffa0..=0xffa0,
            0xfff0..=0xfffb,
            0x1bca0..=0x1bca3,
            0x1d173..=0x1d17a,
            0xe0000..=0xe0fff,
        ];
        for code in ranges.into_iter().flatten() {
            let c = char::from_u32(code).expect("a character");
            assert!(!is_printable(c), "U+{code:04x}");
        }
        assert!((0x20..0x7f).all(|code| is_printable(char::from(code as u8))));
    }

    #[test]
    fn what_shows_no_name_is_refused() {
        for bad in ["\\", "\\x1", "\\xg0", "\\n", "a\\"] {
            assert_eq!(name_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_cited_of_a_command_line_is_printable() {
        let refused = |argument: &str| {
            clap::Command::new("test")
                .try_get_matches_from(["test", argument])
                .expect_err("no arguments")
        };
        assert_eq!(harmless(&refused("--plain")), None);
        let text = harmless(&refused("--a\x07\u{202e}")).expect("it is cited");
        assert!(text.contains("--a\\xe2\\x80\\xae"), "{text}");
    }

    #[test]
    fn json_says_the_same() {
        let text = "\"a\\u001b\u{7f}\u{85}\u{202e}\u{e0001}\"";
        let expected = "\"a\\u001b\\u007f\\u0085\\u202e\\udb40\\udc01\"";
        assert_eq!(json(text), expected);
        assert_eq!(json("{\n  \"a\": 1\n}"), "{\n  \"a\": 1\n}");
    }

    proptest! {
        #[test]
        fn any_name_is_printable_and_can_be_had_back(name in any::<Vec<u8>>()) {
            let shown = name.shown().to_string();
            prop_assert!(shown.chars().all(is_printable));
            prop_assert_eq!(lines(&shown), &*shown);
            prop_assert_eq!(name_of(&shown), Some(name));
        }

        #[test]
        fn any_text_is_printable_but_for_its_ends_of_lines(text in any::<String>()) {
            let ok = |c: char| c == '\n' || is_printable(c);
            prop_assert!(lines(&text).chars().all(ok));
            prop_assert!(json(&text).chars().all(ok));
        }
    }
}
