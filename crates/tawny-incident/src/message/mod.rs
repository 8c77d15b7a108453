//! What the free text of statuses and events says, read out: causes, names, counts, and what repeats have in common.

mod image;
mod missing;
mod scheduling;
mod volume;

pub use image::{PullFailure, pull_failure};
pub use missing::{Missing, missing};
pub use scheduling::refusals;
pub use volume::{MountFailure, mount_failure, volume_of};

/// What client-go writes before a message it folded from more than ten similar ones in ten minutes
/// (`tools/record/events_cache.go`).
const COMBINED_PREFIX: &str = "(combined from similar events): ";

/// Longest template; the tail of a long message seldom tells causes apart.
const MAX_TEMPLATE_CHARS: usize = 160;

/// The message as it was before events were folded.
pub fn strip_combined(message: &str) -> &str {
    let mut message = message;
    while let Some(rest) = message.strip_prefix(COMBINED_PREFIX) {
        message = rest;
    }
    message
}

/// The message without what changes from one time to the next: `names` (a pod's, its UID), numbers and hashes
/// become `#`.
pub fn template(message: &str, names: &[&str]) -> String {
    let mut message = strip_combined(message).to_owned();
    for name in names.iter().filter(|name| !name.is_empty()) {
        message = message.replace(name, "#");
    }
    let mut out = String::with_capacity(message.len());
    let mut rest = message.as_str();
    while !rest.is_empty() {
        let (word, behind) = split_word(rest);
        push_word(&mut out, word);
        let between = behind
            .find(|c: char| c.is_ascii_alphanumeric())
            .unwrap_or(behind.len());
        let (gap, next) = behind.split_at(between);
        out.push_str(gap);
        rest = next;
    }
    collapse(&out).chars().take(MAX_TEMPLATE_CHARS).collect()
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn push_word(out: &mut String, word: &str) {
    if is_hash(word) {
        out.push('#');
        return;
    }
    let mut in_number = false;
    for c in word.chars() {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if !in_number {
            out.push('#');
        }
        in_number = c.is_ascii_digit();
    }
}

/// Hex digests and UUID parts, and the suffixes Kubernetes makes (`k8s.io/apimachinery/pkg/util/rand`).
fn is_hash(word: &str) -> bool {
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    let is_hex = word.len() >= 4 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_suffix = (5..=10).contains(&word.len())
        && word
            .bytes()
            .all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte));
    has_digit && (is_hex || is_suffix)
}

/// `#-#-#` and `#.#:#` say no more than `#`.
fn collapse(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if out.ends_with('#') {
            if c == '#' {
                continue;
            }
            if matches!(c, '-' | '.' | ':') && chars.peek() == Some(&'#') {
                continue;
            }
        }
        out.push(c);
    }
    out
}

/// Whole seconds of a Go duration such as `5m0s`, `1h2m3s`, `10s`.
pub(crate) fn go_duration_secs(text: &str) -> Option<u64> {
    let mut secs = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(end);
        let number: u64 = number.parse().ok()?;
        let unit = behind.chars().next()?;
        let factor = match unit {
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        secs = secs.checked_add(number.checked_mul(factor)?)?;
        rest = behind.strip_prefix(unit)?;
    }
    Some(secs)
}

/// The text between the first pair of `"` behind `before`.
pub(crate) fn quoted<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    let (_, rest) = rest.split_once('"')?;
    Some(rest.split_once('"')?.0).filter(|name| !name.is_empty())
}

/// Whether `text` holds one of `needles`, whatever the case.
pub(crate) fn has_any(text: &str, needles: &[&str]) -> bool {
    let lower = text.to_ascii_lowercase();
    needles.iter().any(|needle| lower.contains(needle))
}

#[cfg(test)]
mod tests;
