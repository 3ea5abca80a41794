//! Names of tasks as text.

use scx_ml_text::{Show, name_of};

/// A name as it is shown, without the zeroes behind it. Nothing is lost by that: a name is cut after 15 bytes, wherever that is.
pub(super) fn escape(name: &[u8]) -> String {
    let end = name.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
    name[..end].shown().to_string()
}

/// Undo [`escape`], into `name`; whether that was possible.
pub(super) fn unescape(text: &[u8], name: &mut [u8]) -> bool {
    name.fill(0);
    let found = std::str::from_utf8(text).ok().and_then(name_of);
    match found.filter(|found| found.len() <= name.len()) {
        Some(found) => {
            name[..found.len()].copy_from_slice(&found);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_are_no_text_are_escaped() {
        assert_eq!(escape(b"worker\0\0"), "worker");
        assert_eq!(escape(b"a\\b\0c"), "a\\\\b\\x00c");
        assert_eq!(escape(b"caf\xc3\x1b"), "caf\\xc3\\x1b");
        let mut name = [0; 4];
        for bad in ["12345", "\\", "\\x1", "\\xg0", "\\n"] {
            assert!(!unescape(bad.as_bytes(), &mut name), "{bad}");
        }
        assert!(!unescape(b"\xff", &mut name));
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
