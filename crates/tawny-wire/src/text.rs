//! Bytes to text, and text without terminal colours.

use std::borrow::Cow;

use memchr::memchr;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// The bytes as text; each invalid sequence becomes U+FFFD, for which alone `scratch` is used.
pub fn to_text<'a>(bytes: &'a [u8], scratch: &'a mut String) -> &'a str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => {
            scratch.clear();
            for chunk in bytes.utf8_chunks() {
                scratch.push_str(chunk.valid());
                if !chunk.invalid().is_empty() {
                    scratch.push(char::REPLACEMENT_CHARACTER);
                }
            }
            scratch
        }
    }
}

/// The text without ANSI escape sequences (CSI, OSC and two-byte ones): what a search sees (KL-67).
///
/// A sequence the line ends within is dropped whole.
pub fn strip_ansi(text: &str) -> Cow<'_, str> {
    if memchr(ESC, text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    strip_ansi_into(text, &mut plain);
    Cow::Owned(plain)
}

/// [`strip_ansi`], appended to `plain`.
pub(crate) fn strip_ansi_into(text: &str, plain: &mut String) {
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once(char::from(ESC)) {
        plain.push_str(before);
        rest = behind_sequence(escape);
    }
    plain.push_str(rest);
}

/// What follows the escape sequence whose ESC is already taken.
fn behind_sequence(text: &str) -> &str {
    let bytes = text.as_bytes();
    let end = match bytes.first() {
        // CSI: parameters and intermediates 0x20-0x3f, then one final byte 0x40-0x7e (ECMA-48, 5.4).
        Some(b'[') => match bytes[1..]
            .iter()
            .position(|byte| !matches!(byte, 0x20..=0x3f))
        {
            Some(at) if matches!(bytes[1 + at], 0x40..=0x7e) => at + 2,
            Some(at) => at + 1,
            None => bytes.len(),
        },
        // OSC: up to BEL or ESC `\`.
        Some(b']') => match memchr::memchr2(BEL, ESC, bytes) {
            Some(at) if bytes[at] == BEL => at + 1,
            Some(at) if bytes.get(at + 1) == Some(&b'\\') => at + 2,
            Some(at) => at,
            None => bytes.len(),
        },
        // Two bytes, such as ESC `(B`'s cousins ESC `7` and ESC `M`; charset designations take one more.
        Some(b'(' | b')') => bytes.len().min(2),
        Some(0x30..=0x7e) => 1,
        _ => 0,
    };
    // Falls inside a character only where the byte behind `ESC (` starts one; then that character is kept.
    text.get(end..).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_links_and_titles_are_taken_out() {
        for (raw, plain) in [
            ("plain", "plain"),
            ("\x1b[32mINFO\x1b[0m ok", "INFO ok"),
            ("\x1b[38;5;196mred\x1b[m", "red"),
            ("\x1b[38;2;1;2;3mtrue\x1b[0Kcolour", "truecolour"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x07!", "link!"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b7saved\x1b8 \x1b(Bascii", "saved ascii"),
            ("cut \x1b[3", "cut "),
            ("cut \x1b]0;ti", "cut "),
            ("\x1b", ""),
            ("\x1b[31é", "é"),
            ("\x1b(é", "(é"),
            ("é\x1b[1mü", "éü"),
        ] {
            assert_eq!(strip_ansi(raw), plain, "{raw:?}");
        }
    }

    #[test]
    fn invalid_bytes_become_replacement_characters() {
        let mut scratch = String::from("old");
        assert_eq!(to_text("grüße\0".as_bytes(), &mut scratch), "grüße\0");
        assert_eq!(
            to_text(b"a\xff\xfeb\xe2\x82", &mut scratch),
            "a\u{fffd}\u{fffd}b\u{fffd}"
        );
    }

    proptest! {
        #[test]
        fn text_agrees_with_the_standard_library(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut scratch = String::new();
            prop_assert_eq!(to_text(&bytes, &mut scratch), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn no_escape_is_left(text in "([a-zé\u{1b}\\[\\]0-9;m\u{7}\\\\(]|\\PC){0,40}") {
            prop_assert_eq!(strip_ansi(&text).find(char::from(ESC)), None);
        }
    }
}
