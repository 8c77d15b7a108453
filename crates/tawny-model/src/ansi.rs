//! Text without terminal colours: one definition for what is parsed and what is searched.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// The text without terminal escape sequences; borrowed when it has none.
///
/// Removed are CSI (`ESC [ … letter`: colours, cursor), OSC (`ESC ] … BEL` or `ESC ] … ESC \`: titles, links) and the
/// other sequences of ECMA-35 (`ESC`, bytes 20–2F, one byte 30–7E; `ESC ( B` of `tput sgr0`). An OSC without its end
/// loses only its two opening bytes, so that a line cannot hide the rest of itself. Any other `ESC` stays.
pub fn strip_ansi(text: &str) -> Cow<'_, str> {
    if memchr(ESC, text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut stripped = String::with_capacity(text.len());
    strip_ansi_into(text, &mut stripped);
    Cow::Owned(stripped)
}

/// [`strip_ansi`], appended to `stripped`.
pub fn strip_ansi_into(text: &str, stripped: &mut String) {
    let bytes = text.as_bytes();
    let (mut kept_from, mut search_from) = (0, 0);
    while let Some(at) = memchr(ESC, &bytes[search_from..]) {
        let escape = search_from + at;
        let len_bytes = escape_len(&bytes[escape..]);
        stripped.push_str(part(text, kept_from, escape));
        // An ESC that opens nothing is kept with what follows it.
        kept_from = escape + len_bytes;
        search_from = escape + len_bytes.max(1);
    }
    stripped.push_str(part(text, kept_from, text.len()));
}

fn part(text: &str, start: usize, end: usize) -> &str {
    text.get(start..end)
        .expect("cut at ASCII bytes, which are whole characters")
}

/// Length of the escape sequence these bytes begin with, 0 when they begin none; always ends behind an ASCII byte.
fn escape_len(bytes: &[u8]) -> usize {
    let run = |from: usize, low: u8, high: u8| {
        bytes[from..]
            .iter()
            .take_while(|byte| (low..=high).contains(byte))
            .count()
    };
    let ends = |at: usize, low: u8| bytes.get(at).is_some_and(|b| (low..=0x7e).contains(b));
    match bytes.get(1) {
        Some(b'[') => {
            let parameters = 2 + run(2, 0x30, 0x3f);
            let end = parameters + run(parameters, 0x20, 0x2f);
            end + usize::from(ends(end, 0x40))
        }
        Some(b']') => match memchr2(BEL, ESC, &bytes[2..]).map(|at| at + 2) {
            Some(at) if bytes[at] == BEL => at + 1,
            Some(at) if bytes.get(at + 1) == Some(&b'\\') => at + 2,
            _ => 2,
        },
        Some(0x20..=0x2f) => {
            let end = 1 + run(1, 0x20, 0x2f);
            if ends(end, 0x30) { end + 1 } else { 0 }
        }
        Some(0x30..=0x7e) => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_are_removed() {
        for (text, stripped) in [
            ("plain", "plain"),
            ("\x1b[31merror\x1b[0m", "error"),
            ("time\x1b[1;38;5;9mout\x1b[m", "timeout"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b]0;no end of this", "0;no end of this"),
            ("\x1b(B\x1b[mreset", "reset"),
            ("\x1bcclear", "clear"),
            ("cut \x1b[3", "cut "),
            ("\x1b[3é", "é"),
            ("alone\x1b", "alone\x1b"),
            ("\x1b\x1b[0mtwice", "\x1btwice"),
            ("\x1bé", "\x1bé"),
            ("\x1b7saved\x1b8 \x1b)0graphics", "saved graphics"),
            ("\x1b(é", "\x1b(é"),
            ("é\x1b[1mü", "éü"),
        ] {
            assert_eq!(strip_ansi(text), stripped, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_stripped_and_stripping_removes_only(text in "[\x1b\\[\\]()0-9a-zé;\x07\\\\]{0,40}") {
            let stripped = strip_ansi(&text);
            prop_assert!(stripped.len() <= text.len());
            if !text.contains('\x1b') {
                prop_assert_eq!(&stripped, &text);
            }
        }
    }
}
