//! Levels in free text: `[ERROR]`, `ERROR:`, `level=error`, `WARN ` behind a time (KL-63).

use tawny_model::Severity;

/// A level stands near the start of a line; further on the word is prose.
const MAX_HEAD_BYTES: usize = 160;

/// Bare capitals count as a level behind at most this many words (a logger, a thread), not in the middle of a sentence.
const MAX_WORDS_BEFORE: usize = 3;

/// Finds the first level a line declares.
///
/// | form | case |
/// |---|---|
/// | `[X]`, `[ X ]`, <code>\|X\|</code> | any |
/// | `X:` before a blank or the end | any |
/// | `level=X`, `"level":"X"`, `severity: X` | any |
/// | `X` right behind a time, or `X - ` at the start | any; one capital letter behind a time |
/// | `X` elsewhere, as a token near the start | capitals |
pub(super) fn severity(text: &[u8]) -> Option<Severity> {
    let head = &text[..text.len().min(MAX_HEAD_BYTES)];
    let mut at = 0;
    let mut n_words = 0;
    while let Some(word) = Word::next(head, at) {
        at = word.end;
        if at == head.len() && at < text.len() {
            // The head may end within this word.
            return None;
        }
        if let Some(severity) = word.level(head, n_words) {
            return Some(severity);
        }
        let is_token = word.start == 0 || head[word.start - 1] == b' ';
        if is_token
            && head[word.start..word.end]
                .iter()
                .any(u8::is_ascii_lowercase)
        {
            n_words += 1;
        }
    }
    None
}

/// A run of letters.
#[derive(Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
}

impl Word {
    fn next(text: &[u8], at: usize) -> Option<Self> {
        let start = at + text[at..].iter().position(u8::is_ascii_alphabetic)?;
        let len = text[start..]
            .iter()
            .position(|byte| !byte.is_ascii_alphabetic())
            .unwrap_or(text.len() - start);
        Some(Self {
            start,
            end: start + len,
        })
    }

    fn level(self, text: &[u8], n_words: usize) -> Option<Severity> {
        let word = &text[self.start..self.end];
        let before = &text[..self.start];
        let after = &text[self.end..];
        if word.len() == 1 {
            let is_alone = matches!(after.first(), Some(b' ' | b']'));
            let is_marked = follows_time(before) || (before.ends_with(b"[") && self.start <= 1);
            return (word[0].is_ascii_uppercase() && is_alone && is_marked)
                .then(|| Severity::from_bytes(word))
                .flatten();
        }
        if is_level_key(word) {
            return assigned(after);
        }
        let severity = known(word)?;
        let is_part =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if after
            .first()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            || before
                .last()
                .is_some_and(|byte| is_part(byte) && !before.ends_with(b" -"))
        {
            return None;
        }
        let is_capital = word.iter().all(u8::is_ascii_uppercase);
        let is_declared = is_bracketed(before, after)
            || is_label(before, after, is_capital)
            || follows_time(before)
            || (self.start == 0 && after.trim_ascii_start().starts_with(b"- "))
            || (is_capital && n_words <= MAX_WORDS_BEFORE && is_token(before, after));
        is_declared.then_some(severity)
    }
}

/// Words that mean a level in free text; the model knows more, which are prose here (`log`, `config`, `fine`).
fn known(word: &[u8]) -> Option<Severity> {
    if !(3..=13).contains(&word.len()) {
        return None;
    }
    if word.eq_ignore_ascii_case(b"fail") || word == b"LOG" {
        return Some(if word == b"LOG" {
            Severity::Info
        } else {
            Severity::Error
        });
    }
    if word.eq_ignore_ascii_case(b"dbug") {
        return Some(Severity::Debug);
    }
    if word.eq_ignore_ascii_case(b"trce") {
        return Some(Severity::Trace);
    }
    let is_prose = [
        &b"log"[..],
        b"config",
        b"fine",
        b"finer",
        b"finest",
        b"silly",
        b"unknown",
        b"unk",
    ]
    .iter()
    .any(|prose| word.eq_ignore_ascii_case(prose));
    if is_prose {
        None
    } else {
        Severity::from_bytes(word)
    }
}

fn is_level_key(word: &[u8]) -> bool {
    [&b"level"[..], b"severity", b"lvl"]
        .iter()
        .any(|key| word.eq_ignore_ascii_case(key))
}

/// The level behind `=`, `:` or `":"`.
fn assigned(after: &[u8]) -> Option<Severity> {
    let sign = after
        .iter()
        .take(4)
        .take_while(|byte| matches!(byte, b'=' | b':' | b'"' | b'\'' | b' '));
    let len = sign.count();
    if !after[..len].iter().any(|byte| matches!(byte, b'=' | b':')) {
        return None;
    }
    let word = Word::next(after, len).filter(|word| word.start == len)?;
    Severity::from_bytes(&after[word.start..word.end])
}

fn is_bracketed(before: &[u8], after: &[u8]) -> bool {
    let opening = before.trim_ascii_end();
    let closing = after.trim_ascii_start().first();
    match opening.last() {
        Some(b'[') => {
            // `names[error]` is an index.
            let is_index = opening.len() > 1 && opening[opening.len() - 2].is_ascii_alphanumeric();
            closing == Some(&b']') && !is_index
        }
        Some(b'|') => closing == Some(&b'|'),
        _ => false,
    }
}

fn is_label(before: &[u8], after: &[u8], is_capital: bool) -> bool {
    let starts = before
        .last()
        .is_none_or(|byte| !matches!(byte, b'/' | b'"' | b'='));
    starts
        && match after {
            [b':'] => true,
            [b':', next, ..] => is_capital || matches!(next, b' ' | b'\t'),
            _ => false,
        }
}

fn is_token(before: &[u8], after: &[u8]) -> bool {
    matches!(
        before.last(),
        None | Some(b' ' | b'\t' | b'[' | b'(' | b'|' | b'<' | b'}' | b']' | b':')
    ) && matches!(
        after.first(),
        None | Some(b' ' | b'\t' | b']' | b')' | b'|' | b'>' | b':' | b'/' | b',' | b'!' | b'[')
    )
}

/// The token before is a time of day, perhaps in brackets, perhaps with a zone.
fn follows_time(before: &[u8]) -> bool {
    let before = before.trim_ascii_end();
    let token_at = memchr::memrchr(b' ', before).map_or(0, |space| space + 1);
    let token = &before[token_at..];
    let token = token.strip_prefix(b"[").unwrap_or(token);
    token.first().is_some_and(u8::is_ascii_digit)
        && token.iter().filter(|byte| **byte == b':').count() >= 2
        && token.iter().all(|byte| {
            matches!(
                byte,
                b'0'..=b'9' | b':' | b'.' | b',' | b'-' | b'+' | b'/' | b'T' | b'Z' | b']'
            )
        })
}
