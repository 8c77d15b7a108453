//! Access logs: common and combined log format, nginx, ingress-nginx, and any line with a quoted request and a status.

use std::ops::Range;

use memchr::{memchr, memmem, memrchr};
use tawny_model::Severity;

use super::fields::{Fields, Text};
use crate::json::Cursor;

/// The request stands near the start of a line.
const MAX_HEAD_BYTES: usize = 256;

/// Lifts the request and what surrounds it; severity is that of the status (KL-67). The message stays the line.
pub(super) fn lift(base: &str, fields: &mut Fields) -> bool {
    let bytes = base.as_bytes();
    let Some(request) = Request::find(bytes) else {
        return false;
    };
    fields.severity = Some(match bytes[request.status.start] {
        b'5' => Severity::Error,
        b'4' => Severity::Warn,
        _ => Severity::Info,
    });
    let mut add = |name, range: Range<usize>| {
        if !matches!(bytes.get(range.clone()), None | Some(b"" | b"-")) {
            let value = Text::base(range.start, range.end);
            fields.add(base, Text::Name(name), value, true);
        }
    };
    let client = client(bytes, request.quote_at);
    if let Some(client) = &client {
        add("client", client.address.clone());
        add("user_id", client.user.clone());
    }
    add("method", request.method.clone());
    add("path", request.path.clone());
    add("status", request.status.clone());
    if client.is_some() {
        let mut rest = Rest {
            cursor: Cursor::new(bytes, request.status.end),
        };
        // Formats beyond the common one add fields at the end, so each found makes the next one possible.
        let mut behind = || {
            add("bytes", rest.number()?);
            add("referer", rest.quoted()?);
            add("user_agent", rest.quoted()?);
            // ingress-nginx: request length, seconds, [upstream], [alternative], addresses …, request id.
            rest.number()?;
            add("duration", rest.number()?);
            add("upstream", rest.bracketed()?);
            add("request_id", rest.last_word()?);
            Some(())
        };
        behind();
    }
    true
}

/// `"GET /path HTTP/1.1" 200`, as ranges of the line.
struct Request {
    quote_at: usize,
    method: Range<usize>,
    path: Range<usize>,
    status: Range<usize>,
}

impl Request {
    fn find(bytes: &[u8]) -> Option<Self> {
        let head = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
        let quote_at = memchr(b'"', head)?;
        let method_len = bytes[quote_at + 1..]
            .iter()
            .position(|byte| !byte.is_ascii_uppercase())?;
        let method = quote_at + 1..quote_at + 1 + method_len;
        if !(3..=9).contains(&method_len) || bytes[method.end] != b' ' {
            return None;
        }
        let request = Cursor::new(bytes, quote_at).string()?;
        let path_end = memrchr(b' ', &bytes[..request.end])?;
        if path_end <= method.end || !bytes[path_end + 1..].starts_with(b"HTTP/") {
            return None;
        }
        let status = request.end + 2..request.end + 5;
        let is_status = bytes[request.end + 1..].first() == Some(&b' ')
            && matches!(
                bytes.get(status.clone())?,
                [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9']
            )
            && matches!(bytes.get(status.end), None | Some(b' '));
        is_status.then_some(Self {
            quote_at,
            method: method.clone(),
            path: method.end + 1..path_end,
            status,
        })
    }
}

struct Client {
    address: Range<usize>,
    user: Range<usize>,
}

/// `address identity user [time] ` before the request.
fn client(bytes: &[u8], quote_at: usize) -> Option<Client> {
    let head = bytes[..quote_at].strip_suffix(b"] ")?;
    let time_at = memmem::find(head, b" [")?;
    let address_end = memchr(b' ', &head[..time_at])?;
    let identity_end = address_end + 1 + memchr(b' ', head.get(address_end + 1..time_at)?)?;
    Some(Client {
        address: 0..address_end,
        user: identity_end + 1..time_at,
    })
}

/// The fields behind the status, one blank before each.
struct Rest<'a> {
    cursor: Cursor<'a>,
}

impl Rest<'_> {
    fn blank(&mut self) -> Option<()> {
        (self.cursor.peek()? == b' ').then(|| self.cursor.at += 1)
    }

    fn word(&mut self) -> Range<usize> {
        let start = self.cursor.at;
        let rest = &self.cursor.bytes[start..];
        self.cursor.at = start + memchr(b' ', rest).unwrap_or(rest.len());
        start..self.cursor.at
    }

    /// Digits and dots, or the dash that stands for nothing.
    fn number(&mut self) -> Option<Range<usize>> {
        self.blank()?;
        let range = self.word();
        let word = &self.cursor.bytes[range.clone()];
        let is_number = word == b"-" || word.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.'));
        is_number.then_some(range)
    }

    fn quoted(&mut self) -> Option<Range<usize>> {
        self.blank()?;
        self.cursor.string().map(|string| string.start..string.end)
    }

    fn bracketed(&mut self) -> Option<Range<usize>> {
        self.blank()?;
        let range = self.word();
        let is_bracketed = self.cursor.bytes[range.clone()].starts_with(b"[")
            && self.cursor.bytes[range.clone()].ends_with(b"]");
        is_bracketed.then(|| range.start + 1..range.end - 1)
    }

    fn last_word(&mut self) -> Option<Range<usize>> {
        let end = self.cursor.bytes.trim_ascii_end().len();
        let start = memrchr(b' ', self.cursor.bytes.get(self.cursor.at..end)?)?;
        Some(self.cursor.at + start + 1..end)
    }
}
