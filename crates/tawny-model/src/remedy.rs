//! The one question every caller may ask of an error: what do I do now?

/// What the caller should do; the only part of an error that code branches on across crates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// The same request may succeed later; retry with backoff, keep the data.
    Retry,
    /// The same request can never succeed; answer the client, count, drop.
    Reject,
    /// Another writer owns this stream or directory; stop writing now.
    StandDown,
    /// Stored bytes are wrong; quarantine the file and alert.
    Quarantine,
}
