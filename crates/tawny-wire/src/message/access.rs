//! Access logs: common and combined log format, nginx, ingress-nginx, and any line with a quoted request and a status.

use std::ops::Range;

use memchr::{memchr, memmem, memrchr};
use tawny_model::Severity;

use super::{
    fields::{Fields, Name, Text},
    level,
};
use crate::json::Cursor;

/// The request stands near the start of a line.
const MAX_HEAD_BYTES: usize = 256;

/// Lifts the request and what surrounds it; severity is that of the status (KL-67). The message stays the line.
pub(super) fn lift(base: &str, fields: &mut Fields) -> bool {
    let bytes = base.as_bytes();
    let head = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
    let Some(quote_at) = memchr(b'"', head) else {
        return false;
    };
    let Some(quoted) = Cursor::new(bytes, quote_at).string() else {
        return false;
    };
    let Some(status) = status(bytes, quoted.end + 1) else {
        return false;
    };
    let request = request(bytes, quoted.start..quoted.end);
    let client = client(bytes, quote_at);
    if request.is_none() && client.is_none() {
        return false;
    }
    fields.severity = match bytes[status.start] {
        b'5' => Some(Severity::Error),
        b'4' => Some(Severity::Warn),
        _ if client.is_some() => Some(Severity::Info),
        // A logger wrote it and may say that it is for debugging.
        _ => level::severity(bytes).or(Some(Severity::Info)),
    };
    let mut add = |name, range: Range<usize>| {
        if !matches!(bytes.get(range.clone()), None | Some(b"" | b"-")) {
            let value = Text::base(range.start, range.end);
            fields.add(base, Text::Name(name), value, true);
        }
    };
    if let Some(client) = &client {
        add(Name::Client, client.address.clone());
        add(Name::UserId, client.user.clone());
    }
    if let Some(request) = request {
        add(Name::Method, request.method);
        add(Name::Path, request.path);
    }
    let mut rest = Rest {
        cursor: Cursor::new(bytes, status.end),
    };
    add(Name::Status, status);
    if client.is_some() {
        // Formats beyond the common one add fields at the end, so each found makes the next one possible.
        let mut behind = || {
            add(Name::Bytes, rest.number()?);
            add(Name::Referer, rest.quoted()?);
            add(Name::UserAgent, rest.quoted()?);
            // ingress-nginx: request length, seconds, [upstream], [alternative], addresses …, request id.
            rest.number()?;
            add(Name::Duration, rest.number()?);
            add(Name::Upstream, rest.bracketed()?);
            add(Name::RequestId, rest.last_word()?);
            Some(())
        };
        behind();
    }
    true
}

/// `GET /path HTTP/1.1`, as ranges of the line.
struct Request {
    method: Range<usize>,
    path: Range<usize>,
}

fn request(bytes: &[u8], quoted: Range<usize>) -> Option<Request> {
    let text = &bytes[quoted.clone()];
    let method_len = text.iter().position(|byte| !byte.is_ascii_uppercase())?;
    let path_end = memrchr(b' ', text)?;
    let is_request = (3..=9).contains(&method_len)
        && text[method_len] == b' '
        && path_end > method_len
        && text[path_end + 1..].starts_with(b"HTTP/");
    is_request.then(|| Request {
        method: quoted.start..quoted.start + method_len,
        path: quoted.start + method_len + 1..quoted.start + path_end,
    })
}

/// A blank and three digits behind the request.
fn status(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let status = at + 1..at + 4;
    let is_status = bytes.get(at) == Some(&b' ')
        && matches!(
            bytes.get(status.clone())?,
            [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9']
        )
        && matches!(bytes.get(status.end), None | Some(b' '));
    is_status.then_some(status)
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
