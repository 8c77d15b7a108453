//! How a tail is written: server-sent events or JSON lines, with kubelogs' entries or our own.

use serde::Serialize;
use tawny_model::LogEntry;
use tawny_wire::api::{Entry, TailNotice};

use crate::http::KubelogsEntry;

/// Framing and shape of a tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Server-sent events with the entries of `/api/logs` (KL-71). Notices are comments or named events, which
    /// kubelogs' page does not hear.
    KubelogsEvents,
    /// Server-sent events with the entries of `/api/v1`.
    Events,
    /// One JSON value a line.
    Lines,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::KubelogsEvents | Self::Events => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        }
    }

    pub(super) fn entry(self, entry: &LogEntry, to: &mut Vec<u8>) {
        match self {
            Self::KubelogsEvents => event(entry, &KubelogsEntry::from(entry), to),
            Self::Events => event(entry, &Entry::from(entry), to),
            Self::Lines => {
                json(&Entry::from(entry), to);
                to.push(b'\n');
            }
        }
    }

    pub(super) fn notice(self, notice: &TailNotice, to: &mut Vec<u8>) {
        match (self, notice) {
            (Self::Lines, notice) => json(notice, to),
            (_, TailNotice::Live {}) => to.extend_from_slice(b": live\n"),
            (_, TailNotice::Skipped { entries }) => {
                to.extend_from_slice(b"event: skipped\ndata: ");
                json(&serde_json::json!({ "entries": entries }), to);
                to.push(b'\n');
            }
            (_, TailNotice::Overwritten { commits }) => {
                to.extend_from_slice(b"event: overwritten\ndata: ");
                json(&serde_json::json!({ "commits": commits }), to);
                to.push(b'\n');
            }
            (_, TailNotice::Ended { error }) => {
                to.extend_from_slice(b"event: ended\ndata: ");
                json(&serde_json::json!({ "error": error }), to);
                to.push(b'\n');
            }
        }
        to.push(b'\n');
    }

    /// A comment, or an empty line.
    pub(super) fn keep_alive(self) -> &'static [u8] {
        match self {
            Self::KubelogsEvents | Self::Events => b": keep-alive\n\n",
            Self::Lines => b"\n",
        }
    }
}

/// JSON has no raw newline, so the data is one line. The id lets a browser that reconnects go on where it was.
fn event(entry: &LogEntry, value: &impl Serialize, to: &mut Vec<u8>) {
    to.extend_from_slice(b"id: ");
    to.extend_from_slice(entry.id.to_string().as_bytes());
    to.extend_from_slice(b"\ndata: ");
    json(value, to);
    to.extend_from_slice(b"\n\n");
}

fn json(value: &impl Serialize, to: &mut Vec<u8>) {
    serde_json::to_writer(to, value).expect("texts and numbers are always JSON");
}
