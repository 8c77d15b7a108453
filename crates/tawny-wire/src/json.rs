//! Finds where JSON values end, over bytes and without building a tree.
//!
//! Shared by docker's lines and by messages; lenient where leniency loses nothing (control characters in strings).

use std::ops::Range;

/// Deepest nesting followed; text nested deeper is called malformed.
const MAX_DEPTH: u32 = 128;

/// A place in JSON text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

/// A string as written, between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawString {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) has_escapes: bool,
}

/// Where the text of a string is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogText {
    /// In the JSON, but for the newline at its end.
    AsWritten {
        start: usize,
        end: usize,
        has_newline: bool,
    },
    Unescaped,
}

/// Every method answers `None` where the text is malformed or ends.
impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(crate) fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Skips space and takes the byte, if it is the next.
    pub(crate) fn take(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Takes what separates two members: `Some(true)` for a comma, `Some(false)` for the closing brace.
    pub(crate) fn comma_or_brace(&mut self) -> Option<bool> {
        self.skip_space();
        let is_comma = match self.peek()? {
            b',' => true,
            b'}' => false,
            _ => return None,
        };
        self.at += 1;
        Some(is_comma)
    }

    /// Takes a string; the cursor is at its opening quote.
    pub(crate) fn string(&mut self) -> Option<RawString> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let mut end = start;
        let mut has_escapes = false;
        loop {
            end = string_stop(self.bytes, end)?;
            if self.bytes[end] == b'"' {
                break;
            }
            has_escapes = true;
            end += 2;
        }
        self.at = end + 1;
        Some(RawString {
            start,
            end,
            has_escapes,
        })
    }

    /// Takes a string and puts what it stands for into `out`, if it has an escape besides a newline at its end.
    pub(crate) fn text(&mut self, out: &mut Vec<u8>) -> Option<LogText> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let mut at = string_stop(self.bytes, start)?;
        let is_whole = match self.bytes.get(at..)? {
            [b'"', ..] => Some((at + 1, false)),
            [b'\\', b'n', b'"', ..] => Some((at + 3, true)),
            _ => None,
        };
        if let Some((behind, has_newline)) = is_whole {
            self.at = behind;
            return Some(LogText::AsWritten {
                start,
                end: at,
                has_newline,
            });
        }
        out.clear();
        out.extend_from_slice(&self.bytes[start..at]);
        while self.bytes[at] != b'"' {
            let (len, _) = unescape_one(&self.bytes[at..], out);
            at = copy_run(self.bytes, at + len, out)?;
        }
        self.at = at + 1;
        Some(LogText::Unescaped)
    }

    /// Takes a number and answers where it lies.
    pub(crate) fn number(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        self.digits()?;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(start..self.at)
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    pub(crate) fn literal(&mut self, word: &[u8]) -> Option<()> {
        self.bytes
            .get(self.at..)?
            .starts_with(word)
            .then(|| self.at += word.len())
    }

    /// Takes an object or array whole; brackets must match, what lies between them is not checked further.
    pub(crate) fn container(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        // One bit per open bracket, the innermost lowest: 1 for an object.
        let mut open: u128 = 0;
        let mut depth = 0;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                bracket @ (b'{' | b'[') => {
                    if depth == MAX_DEPTH {
                        return None;
                    }
                    depth += 1;
                    open = open << 1 | u128::from(bracket == b'{');
                }
                bracket @ (b'}' | b']') => {
                    if open & 1 != u128::from(bracket == b'}') {
                        return None;
                    }
                    open >>= 1;
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Some(start..self.at);
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Takes a value of any kind.
    pub(crate) fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' | b'[' => self.container().map(drop),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number().map(drop),
        }
    }
}

const fn splat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// High bit of each byte that is zero; exact for the lowest one, which is all that is asked.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(splat(0x01)) & !word & splat(0x80)
}

/// High bit of each byte that is `"` or `\`; exact for the lowest one.
fn stops_in(chunk: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(chunk);
    zero_bytes(word ^ splat(b'"')) | zero_bytes(word ^ splat(b'\\'))
}

/// Where the first `"` or `\` from `at` on is.
///
/// Eight bytes at a time: most strings in logs are shorter than the set-up of a vectorised search.
#[inline]
pub(crate) fn string_stop(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let stops = stops_in(*chunk);
        if stops != 0 {
            return Some(at + stops.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    let len = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    Some(at + len)
}

/// Appends the text a JSON string stands for, and tells whether it is exact.
///
/// An unknown escape is kept as written and half a surrogate pair becomes U+FFFD; both answer `false`.
pub(crate) fn unescape(raw: &[u8], out: &mut Vec<u8>) -> bool {
    let mut is_exact = true;
    let mut at = 0;
    while let Some(stop) = copy_run(raw, at, out) {
        // A quote can only be one that a backslash came before, unless it was no escape.
        if raw[stop] == b'"' {
            out.push(b'"');
            at = stop + 1;
        } else {
            let (len, is_known) = unescape_one(&raw[stop..], out);
            is_exact &= is_known;
            at = stop + len;
        }
    }
    is_exact
}

/// Appends bytes from `at` on up to the first `"` or `\`, which it answers, or to the end.
///
/// Text that was JSON before it was escaped has a stop every few bytes: eight are copied at once and the surplus cut.
fn copy_run(bytes: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        out.extend_from_slice(chunk);
        let stops = stops_in(*chunk);
        if stops != 0 {
            let len = stops.trailing_zeros() as usize / 8;
            out.truncate(out.len() - 8 + len);
            return Some(at + len);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    let len = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
    out.extend_from_slice(&rest[..len.unwrap_or(rest.len())]);
    len.map(|len| at + len)
}

/// Appends what the escape at the start of `escape` stands for; answers its length and whether it is one.
fn unescape_one(escape: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
    let plain = match escape.get(1) {
        Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(b'b') => 0x08,
        Some(b'f') => 0x0c,
        Some(b'u') => {
            let (char, len) = unicode(escape);
            let is_half = char.is_none() && len == 6;
            if let Some(char) = char.or_else(|| is_half.then_some(char::REPLACEMENT_CHARACTER)) {
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                out.extend_from_slice(b"\\u");
            }
            return (len, char.is_some());
        }
        _ => {
            out.push(b'\\');
            return (1, false);
        }
    };
    out.push(plain);
    (2, true)
}

/// The character a `\uXXXX` at the start stands for, and the bytes it takes: 6, or 12 for a surrogate pair.
///
/// No character with 6 bytes is half a pair, with 2 bytes no escape at all.
fn unicode(escape: &[u8]) -> (Option<char>, usize) {
    let Some(first) = hex4(escape) else {
        return (None, 2);
    };
    if let Some(char) = char::from_u32(first) {
        return (Some(char), 6);
    }
    let second = escape
        .get(6..)
        .filter(|rest| rest.starts_with(b"\\u"))
        .and_then(hex4);
    match second {
        Some(second @ 0xdc00..=0xdfff) if first < 0xdc00 => {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            (char::from_u32(code), 12)
        }
        _ => (None, 6),
    }
}

/// The four hex digits behind `\u`.
fn hex4(escape: &[u8]) -> Option<u32> {
    escape.get(2..6)?.iter().try_fold(0, |sum, digit| {
        char::from(*digit)
            .to_digit(16)
            .map(|digit| sum << 4 | digit)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(raw: &str) -> (String, bool) {
        let mut out = Vec::new();
        let is_exact = unescape(raw.as_bytes(), &mut out);
        (String::from_utf8(out).unwrap(), is_exact)
    }

    #[test]
    fn escapes_become_what_they_stand_for() {
        for (raw, text) in [
            (r#"a\"b\\c\/d"#, "a\"b\\c/d"),
            (r"\n\t\r\b\f", "\n\t\r\u{8}\u{c}"),
            (r"\u00e9 \u001b \u0000", "é \u{1b} \0"),
            (r"\ud83d\ude00!", "😀!"),
        ] {
            assert_eq!(text_of(raw), (text.to_owned(), true), "{raw}");
        }
    }

    #[test]
    fn what_is_no_escape_is_kept_and_told() {
        for (raw, text) in [
            (r"\x", r"\x"),
            (r"\u12", r"\u12"),
            (r"\ud83d", "\u{fffd}"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"\ude00x", "\u{fffd}x"),
            (r"a\", r"a\"),
        ] {
            assert_eq!(text_of(raw), (text.to_owned(), false), "{raw}");
        }
    }

    #[test]
    fn containers_end_at_their_own_bracket() {
        let end = |text: &str| {
            Cursor::new(text.as_bytes(), 0)
                .container()
                .map(|range| range.end)
        };
        assert_eq!(end(r#"[1,{"a":"]"}] x"#), Some(13));
        assert_eq!(end("[{]}"), None);
        assert_eq!(end("[1"), None);
        assert_eq!(end(&"[".repeat(1000)), None);
    }

    proptest! {
        #[test]
        fn first_stop_is_found_wherever_it_is(text in "[a-z]{0,90}", tail in "[\"\\\\a]{0,9}") {
            let bytes = [text.as_bytes(), tail.as_bytes()].concat();
            prop_assert_eq!(string_stop(&bytes, 0), bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')));
        }

        #[test]
        fn strings_written_by_serde_read_back(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let raw = Cursor::new(json.as_bytes(), 0).string().unwrap();
            prop_assert_eq!(raw.end + 1, json.len());
            prop_assert_eq!(text_of(json.get(raw.start..raw.end).unwrap()), (text, true));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _end = Cursor::new(&bytes, 0).value();
            let mut out = Vec::new();
            unescape(&bytes, &mut out);
            prop_assert!(out.len() <= bytes.len());
        }
    }
}
