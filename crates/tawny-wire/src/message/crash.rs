//! First lines of crashes, which carry no level: Java, Python, Go, Rust, JavaScript, .NET (KL-67).

use memchr::memmem;
use tawny_model::Severity;

const PREFIXES: [(&[u8], Severity); 13] = [
    (b"panic: ", Severity::Fatal),
    (b"fatal error: ", Severity::Fatal),
    (b"goroutine ", Severity::Fatal),
    (b"thread '", Severity::Fatal),
    (b"Segmentation fault", Severity::Fatal),
    (b"[signal SIG", Severity::Fatal),
    (b"SIGSEGV: ", Severity::Fatal),
    (b"Traceback (most recent call last)", Severity::Error),
    (b"Exception in thread ", Severity::Error),
    (b"Caused by: ", Severity::Error),
    (b"Unhandled exception", Severity::Fatal),
    (b"Uncaught ", Severity::Error),
    (b"UnhandledPromiseRejection", Severity::Error),
];

/// Longest class name taken for an exception.
const MAX_CLASS_BYTES: usize = 160;

/// The severity of a line that opens a crash report.
pub(super) fn severity(text: &[u8]) -> Option<Severity> {
    // Nearly no line starts so; its first byte tells.
    let first = *text.first()?;
    let known = PREFIXES
        .iter()
        .find(|(prefix, _)| prefix[0] == first && text.starts_with(prefix));
    if let Some((prefix, severity)) = known {
        let is_crash = match *prefix {
            b"goroutine " => memmem::find(&text[..text.len().min(80)], b"[running]:").is_some(),
            b"thread '" => memmem::find(&text[..text.len().min(200)], b" panicked at").is_some(),
            _ => true,
        };
        return is_crash.then_some(*severity);
    }
    exception(text).then_some(Severity::Error)
}

/// `java.lang.IllegalStateException: …`, `requests.exceptions.ConnectionError: …`, `TypeError: …`.
fn exception(text: &[u8]) -> bool {
    if !text[0].is_ascii_alphabetic() {
        return false;
    }
    let head = &text[..text.len().min(MAX_CLASS_BYTES)];
    let len = head
        .iter()
        .position(
            |byte| !matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'$'),
        )
        .unwrap_or(head.len());
    let (class, behind) = head.split_at(len);
    let is_end = behind.is_empty() || behind.starts_with(b": ") || behind == b":";
    // A lone word that ends so is prose or a level; a class has a name before the suffix.
    let name = class
        .strip_suffix(b"Exception")
        .or_else(|| class.strip_suffix(b"Error"));
    is_end && name.is_some_and(|name| name.last().is_some_and(u8::is_ascii_alphanumeric))
}
