//! Lines of klog and glog: `I0102 15:04:05.000000       1 file.go:12] message` (KL-67).

use memchr::memmem;
use tawny_model::Severity;

use super::{
    fields::{Fields, Name, Text},
    logfmt,
};
use crate::json::Cursor;

/// Longest header looked at: klog pads the thread id to 7 digits, file names are short.
const MAX_HEADER_BYTES: usize = 200;

/// Lifts severity, caller and, behind a quoted message, the pairs of structured klog.
///
/// Source: `k8s.io/klog`, `formatHeader`. The message stays the line: date and thread are in no attribute.
pub(super) fn lift(base: &str, fields: &mut Fields) -> bool {
    let bytes = base.as_bytes();
    let Some((severity, caller, text_at)) = header(bytes) else {
        return false;
    };
    fields.severity = Some(severity);
    fields.add(base, Text::Name(Name::Caller), caller, true);
    if let Some(string) = Cursor::new(bytes, text_at).string() {
        logfmt::lift_tail(base, string.end + 1, fields);
        fields.take_message();
    }
    true
}

fn header(bytes: &[u8]) -> Option<(Severity, Text, usize)> {
    let severity = match bytes.first()? {
        b'I' => Severity::Info,
        b'W' => Severity::Warn,
        b'E' => Severity::Error,
        b'F' => Severity::Fatal,
        _ => return None,
    };
    // `0102 15:04:05`
    let shape = bytes.get(1..14)?.iter().zip(b"0000 00:00:00");
    let is_time = shape.into_iter().all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte == shape,
    });
    if !is_time {
        return None;
    }
    let head = &bytes[..bytes.len().min(MAX_HEADER_BYTES)];
    let end = memmem::find(head, b"] ").or_else(|| head.ends_with(b"]").then(|| head.len() - 1))?;
    let caller_at = memchr::memrchr(b' ', &head[..end])? + 1;
    let is_caller = caller_at > 14 && head[caller_at..end].contains(&b':');
    is_caller.then(|| {
        (
            severity,
            Text::base(caller_at, end),
            (end + 2).min(bytes.len()),
        )
    })
}
