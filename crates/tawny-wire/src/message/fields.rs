//! The fields found in a line, as offsets into it, and what their keys mean (KL-64, KL-65).

use tawny_model::{Severity, entry::MAX_ATTRIBUTES};

use super::MAX_KEPT_BYTES;

/// Longest key lifted; a longer one is data, and would be copied with each field nested below it.
pub(super) const MAX_KEY_BYTES: usize = 512;

/// Text that lies in the line, in the arena (where it had to be unescaped or put together), or in the program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Text {
    Base { start: u32, end: u32 },
    Arena { start: u32, end: u32 },
    Name(Name),
}

/// Keys that are not in the line as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    TraceId,
    SpanId,
    RequestId,
    Caller,
    Service,
    UserId,
    Client,
    Method,
    Path,
    Status,
    Bytes,
    Referer,
    UserAgent,
    Duration,
    Upstream,
}

/// The names up to this many have aliases (KL-65).
const N_ALIASED: usize = Name::UserId as usize + 1;

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::TraceId => "trace_id",
            Self::SpanId => "span_id",
            Self::RequestId => "request_id",
            Self::Caller => "caller",
            Self::Service => "service",
            Self::UserId => "user_id",
            Self::Client => "client",
            Self::Method => "method",
            Self::Path => "path",
            Self::Status => "status",
            Self::Bytes => "bytes",
            Self::Referer => "referer",
            Self::UserAgent => "user_agent",
            Self::Duration => "duration",
            Self::Upstream => "upstream",
        }
    }
}

impl Text {
    pub(super) fn base(start: usize, end: usize) -> Self {
        Self::Base {
            start: offset(start),
            end: offset(end),
        }
    }

    fn of<'a>(self, base: &'a str, arena: &'a str) -> &'a str {
        let (text, start, end) = match self {
            Self::Base { start, end } => (base, start, end),
            Self::Arena { start, end } => (arena, start, end),
            Self::Name(name) => return name.as_str(),
        };
        text.get(start as usize..end as usize)
            .expect("texts are cut at ASCII bytes")
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("MAX_PARSED_BYTES keeps offsets small")
}

/// What a key means beside being a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    Level,
    /// Its value is the message; the lower rank wins.
    Message(u8),
    /// Stored under this name, whichever alias the program wrote (KL-65).
    Alias(Name),
}

/// Ranks below this one name nothing but the message, so the key need not be kept beside it.
const ERROR_RANK: u8 = 2;

/// Matched as bytes, which compiles to a decision tree; strings are compared one after the other.
fn role(key: &[u8]) -> Role {
    match key {
        b"level" | b"severity" | b"lvl" | b"log.level" | b"loglevel" | b"log_level"
        | b"levelname" | b"severity_text" | b"severityText" | b"@l" | b"Level" | b"LEVEL" => {
            Role::Level
        }
        b"msg" => Role::Message(0),
        // Also as tracing-subscriber nests it and as Serilog's compact format names it.
        b"message" | b"fields.message" | b"@m" | b"@mt" => Role::Message(1),
        b"error" => Role::Message(ERROR_RANK),
        b"err" => Role::Message(ERROR_RANK + 1),
        b"trace_id" | b"traceId" | b"trace-id" | b"traceID" => Role::Alias(Name::TraceId),
        b"span_id" | b"spanId" | b"span-id" | b"spanID" => Role::Alias(Name::SpanId),
        b"request_id" | b"requestId" | b"request-id" | b"requestID" | b"req_id" => {
            Role::Alias(Name::RequestId)
        }
        b"caller" | b"source" | b"file" | b"location" => Role::Alias(Name::Caller),
        b"service" | b"app" | b"application" => Role::Alias(Name::Service),
        b"user_id" | b"userId" | b"user" => Role::Alias(Name::UserId),
        _ => Role::Plain,
    }
}

#[derive(Debug, Clone, Copy)]
struct Attribute {
    /// As the program wrote it.
    written: Text,
    /// As it is stored.
    key: Text,
    value: Text,
}

/// Fields of one line. At most one more than `MAX_ATTRIBUTES`, since one may turn out to be the message.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) severity: Option<Severity>,
    /// Every field so far is held exactly as it was written.
    pub(super) is_whole: bool,
    attributes: Vec<Attribute>,
    arena: String,
    /// A bit per hash of a key, so that most keys are known to be new without a comparison.
    seen: u64,
    message: Option<(u8, u8)>,
    /// Which attribute holds the name.
    alias_owner: [Option<u8>; N_ALIASED],
    unescaped: Vec<u8>,
}

impl Fields {
    pub(super) fn clear(&mut self) {
        self.severity = None;
        self.is_whole = true;
        self.attributes.clear();
        self.arena.clear();
        self.arena.shrink_to(MAX_KEPT_BYTES);
        self.seen = 0;
        self.message = None;
        self.alias_owner = [None; N_ALIASED];
        self.unescaped.clear();
        self.unescaped.shrink_to(MAX_KEPT_BYTES);
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.arena.capacity()
            + self.unescaped.capacity()
            + self.attributes.capacity() * size_of::<Attribute>()
    }

    pub(super) fn text<'a>(&'a self, text: Text, base: &'a str) -> &'a str {
        text.of(base, &self.arena)
    }

    pub(super) fn attributes<'a>(&'a self, base: &'a str) -> Attributes<'a> {
        Attributes {
            rest: self.attributes.iter(),
            base,
            arena: &self.arena,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.attributes.len()
    }

    /// Some field is the message.
    pub(super) fn has_message(&self) -> bool {
        self.message.is_some()
    }

    pub(super) fn is_full(&self) -> bool {
        self.attributes.len() > MAX_ATTRIBUTES
    }

    /// Puts what a JSON string stands for into the arena.
    pub(super) fn unescape(&mut self, raw: &str) -> Text {
        self.unescaped.clear();
        self.is_whole &= crate::json::unescape(raw.as_bytes(), &mut self.unescaped);
        let start = self.arena.len();
        // Text unescapes to text, so the checked conversion never has anything to replace.
        for chunk in self.unescaped.utf8_chunks() {
            self.arena.push_str(chunk.valid());
        }
        self.arena_from(start)
    }

    /// Puts `prefix.key` into the arena.
    pub(super) fn join(&mut self, prefix: Text, key: Text, base: &str) -> Text {
        let start = self.arena.len();
        for (part, dot) in [(prefix, "."), (key, "")] {
            match part {
                Text::Arena { start, end } => {
                    self.arena.extend_from_within(start as usize..end as usize)
                }
                part => self.arena.push_str(part.of(base, "")),
            }
            self.arena.push_str(dot);
        }
        self.arena_from(start)
    }

    fn arena_from(&self, start: usize) -> Text {
        Text::Arena {
            start: offset(start),
            end: offset(self.arena.len()),
        }
    }

    /// The arena's end, to give back with [`Self::release`] what no field came to hold.
    pub(super) fn arena_len(&self) -> usize {
        self.arena.len()
    }

    pub(super) fn release(&mut self, arena_len: usize) {
        self.arena.truncate(arena_len);
    }

    /// Adds a field; the first of a key stays. One that is not held as it is makes the fields less than whole.
    pub(super) fn add(&mut self, base: &str, key: Text, value: Text, is_string: bool) {
        let key_text = key.of(base, &self.arena);
        let role = role(key_text.as_bytes());
        if role == Role::Level && self.severity.is_none() {
            self.severity = level(value.of(base, &self.arena));
        }
        let is_key = (1..=MAX_KEY_BYTES).contains(&key_text.len());
        let Some(idx) = self
            .next_idx()
            .filter(|_| is_key && !self.has(key_text, base))
        else {
            self.is_whole = false;
            return;
        };
        self.seen |= bit(key_text);
        let mut stored = key;
        match role {
            Role::Message(rank) => {
                if is_string
                    && !value.of(base, &self.arena).is_empty()
                    && self.message.is_none_or(|(best, _)| rank < best)
                {
                    self.message = Some((rank, idx));
                }
            }
            Role::Alias(name) => {
                // The name belongs to the key that is spelled so, else to the first alias.
                let owner = &mut self.alias_owner[name as usize];
                match *owner {
                    Some(earlier) if key_text == name.as_str() => {
                        let earlier = &mut self.attributes[usize::from(earlier)];
                        earlier.key = earlier.written;
                        *owner = Some(idx);
                    }
                    Some(_) => {}
                    None => {
                        stored = Text::Name(name);
                        *owner = Some(idx);
                    }
                }
            }
            Role::Plain | Role::Level => {}
        }
        self.attributes.push(Attribute {
            written: key,
            key: stored,
            value,
        });
    }

    fn next_idx(&self) -> Option<u8> {
        (!self.is_full())
            .then_some(self.attributes.len())
            .and_then(|idx| u8::try_from(idx).ok())
    }

    fn has(&self, key: &str, base: &str) -> bool {
        self.seen & bit(key) != 0
            && self
                .attributes
                .iter()
                .any(|attribute| attribute.written.of(base, &self.arena) == key)
    }

    /// The message the fields name, taken out of the attributes (KL-66); an `error` stays there too, as its name says more.
    pub(super) fn take_message(&mut self) -> Option<Text> {
        let message = self.message.take().map(|(rank, idx)| {
            let idx = usize::from(idx);
            let value = self.attributes[idx].value;
            if rank < ERROR_RANK {
                self.attributes.remove(idx);
            }
            value
        });
        if self.is_full() {
            self.attributes.truncate(MAX_ATTRIBUTES);
            self.is_whole = false;
        }
        message
    }
}

/// A cheap hash of a key, as a bit.
fn bit(key: &str) -> u64 {
    let bytes = key.as_bytes();
    let (first, last) = (
        bytes.first().copied().unwrap_or(0),
        bytes.last().copied().unwrap_or(0),
    );
    1 << ((bytes.len() + usize::from(first) * 7 + usize::from(last) * 19) & 63)
}

/// A level as the value of a field: a word, or a number (KL-67).
fn level(value: &str) -> Option<Severity> {
    let value = value.trim_ascii();
    if let Some(severity) = Severity::from_text(value) {
        return Some(severity);
    }
    Some(match value.parse::<u8>().ok()? {
        // syslog, RFC 5424 6.2.1
        0..=2 => Severity::Fatal,
        3 => Severity::Error,
        4 => Severity::Warn,
        5 | 6 => Severity::Info,
        7 => Severity::Debug,
        // bunyan and pino; levels between are custom and count as the one below
        10..=19 => Severity::Trace,
        20..=29 => Severity::Debug,
        30..=39 => Severity::Info,
        40..=49 => Severity::Warn,
        50..=59 => Severity::Error,
        60 => Severity::Fatal,
        _ => return None,
    })
}

/// Fields of a line: key and value.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: std::slice::Iter<'a, Attribute>,
    base: &'a str,
    arena: &'a str,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let attribute = self.rest.next()?;
        Some((
            attribute.key.of(self.base, self.arena),
            attribute.value.of(self.base, self.arena),
        ))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rest.size_hint()
    }
}

impl ExactSizeIterator for Attributes<'_> {}
