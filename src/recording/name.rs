//! Names of tasks as text.

/// A name as text, without the zeroes behind it. Bytes that are no UTF-8 (a name is cut after 15 bytes, wherever that is) become `\xNN` and a
/// backslash becomes `\\`, so that nothing is lost.
pub(super) fn escape(name: &[u8]) -> String {
    let name = &name[..name.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1)];
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                // A zero inside a name: other programs would take it for the end.
                '\0' => text.push_str("\\x00"),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Undo [`escape`], into `name`; whether that was possible.
pub(super) fn unescape(text: &[u8], name: &mut [u8]) -> bool {
    name.fill(0);
    let mut to = name.iter_mut();
    let mut from = text.iter();
    while let Some(&byte) = from.next() {
        let byte = match byte {
            b'\\' => match from.next() {
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let mut digit = || (*from.next()? as char).to_digit(16);
                    match (digit(), digit()) {
                        (Some(high), Some(low)) => (high << 4 | low) as u8,
                        _ => return false,
                    }
                }
                _ => return false,
            },
            byte => byte,
        };
        match to.next() {
            Some(to) => *to = byte,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_are_no_text_are_escaped() {
        assert_eq!(escape(b"worker\0\0"), "worker");
        assert_eq!(escape(b"a\\b"), "a\\\\b");
        assert_eq!(escape(b"caf\xc3"), "caf\\xc3");
        assert_eq!(escape("caf\u{e9}".as_bytes()), "caf\u{e9}");
        let mut name = [0; 4];
        for bad in ["12345", "\\", "\\x1", "\\xg0", "\\n"] {
            assert!(!unescape(bad.as_bytes(), &mut name), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_name_survives(name in any::<[u8; 16]>()) {
            let mut back = [1; 16];
            prop_assert!(unescape(escape(&name).as_bytes(), &mut back));
            prop_assert_eq!(back, name);
        }
    }
}
