//! `key=value` lines, and `key=value` tails of lines (KL-62).

use memchr::memchr;

use super::fields::{Fields, Text};
use crate::json::Cursor;

/// Lifts the pairs of a line, if they are fields and not prose with a `=` in it; else leaves `fields` empty.
///
/// Fields they are when at least two pairs start the line, end it with hardly a word between them, or fill half of it,
/// or when a single one does that is a level or a message.
pub(super) fn lift(base: &str, fields: &mut Fields) -> bool {
    if memchr(b'=', base.as_bytes()).is_none() {
        return false;
    }
    let found = pairs(base, 0, fields);
    let is_dense = found.pair_bytes * 2 >= base.len();
    let is_logfmt = match found.n_pairs {
        0 => false,
        1 => is_dense && (fields.severity.is_some() || fields.has_message()),
        _ => is_dense || found.is_first || found.n_words_behind * 2 <= found.n_pairs,
    };
    if !is_logfmt {
        fields.clear();
    } else if found.n_words > 0 {
        fields.is_whole = false;
    }
    is_logfmt
}

/// Lifts the pairs from `at` on, however many they are.
pub(super) fn lift_tail(base: &str, at: usize, fields: &mut Fields) {
    pairs(base, at, fields);
}

#[derive(Debug, Default)]
struct Found {
    n_pairs: usize,
    n_words: usize,
    pair_bytes: usize,
    /// A pair starts the line.
    is_first: bool,
    /// Words that follow a pair.
    n_words_behind: usize,
}

/// Walks the tokens of `base` from `at` on.
fn pairs(base: &str, at: usize, fields: &mut Fields) -> Found {
    let bytes = base.as_bytes();
    let mut found = Found::default();
    let mut at = at;
    loop {
        while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            at += 1;
        }
        if at >= bytes.len() {
            return found;
        }
        let start = at;
        match key_end(bytes, at) {
            Some(equals) => {
                let key = Text::base(start, equals);
                let (value, end) = value(base, equals + 1, fields);
                fields.add(base, key, value, true);
                at = end;
                found.is_first |= found.n_pairs == 0 && found.n_words == 0;
                found.n_pairs += 1;
                found.pair_bytes += at - start + 1;
            }
            None => {
                at = word_end(bytes, at);
                found.n_words += 1;
                found.n_words_behind += usize::from(found.n_pairs > 0);
            }
        }
    }
}

/// Where the `=` is, if a key starts here.
fn key_end(bytes: &[u8], at: usize) -> Option<usize> {
    if !matches!(bytes[at], b'a'..=b'z' | b'A'..=b'Z' | b'_') {
        return None;
    }
    let len = bytes[at..]
        .iter()
        .position(|byte| KINDS[usize::from(*byte)] != Kind::Key)?;
    (bytes[at + len] == b'=').then_some(at + len)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Key,
    Blank,
    Other,
}

/// What each byte may be part of; a lookup costs less than the comparisons it stands for.
const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Other; 256];
    let mut byte = 0u8;
    loop {
        kinds[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => Kind::Key,
            b' ' | b'\t' | b'\r' | b'\n' => Kind::Blank,
            _ => Kind::Other,
        };
        if byte == u8::MAX {
            break kinds;
        }
        byte += 1;
    }
};

/// The end of a token that is no pair; one that starts with a quote goes on to the closing one.
fn word_end(bytes: &[u8], at: usize) -> usize {
    let at = Cursor::new(bytes, at)
        .string()
        .map_or(at, |string| string.end + 1);
    blank(bytes, at)
}

fn blank(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|byte| KINDS[usize::from(*byte)] == Kind::Blank)
        .map_or(bytes.len(), |len| at + len)
}

/// The value at `at`, and the end of its token.
fn value(base: &str, at: usize, fields: &mut Fields) -> (Text, usize) {
    let bytes = base.as_bytes();
    if let Some(string) = Cursor::new(bytes, at).string() {
        let end = blank(bytes, string.end + 1);
        // Anything between the quote and the next blank, a comma mostly, is not held by the value.
        fields.is_whole &= end == string.end + 1;
        let value = if string.has_escapes {
            fields.unescape(
                base.get(string.start..string.end)
                    .expect("quotes are ASCII bytes"),
            )
        } else {
            Text::base(string.start, string.end)
        };
        return (value, end);
    }
    let end = blank(bytes, at);
    let has_comma = end > at && matches!(bytes[end - 1], b',' | b';');
    fields.is_whole &= !has_comma;
    (Text::base(at, end - usize::from(has_comma)), end)
}
