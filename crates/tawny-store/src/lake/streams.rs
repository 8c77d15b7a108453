//! The streams the store knows: how far each is stored, and what is known of it now.

use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tawny_model::{Stream, StreamEnd, StreamId, StreamKey, Timestamp};

use crate::{Error, naming::merge_stream};

/// A stream as the writer knows it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) stream: Arc<Stream>,
    pub(super) key: StreamKey,
    /// `None` when all its entries came without positions.
    pub(super) end: Option<StreamEnd>,
    /// Its latest row.
    pub(super) last: Option<Last>,
    /// When something last came of it, by the store's clock.
    pub(super) written: Timestamp,
}

/// The latest time a stream has a row of, and the highest id given at or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Last {
    pub(super) micros: i64,
    pub(super) id: i64,
}

impl Known {
    pub(super) fn new(stream: Arc<Stream>, now: Timestamp) -> Self {
        Self {
            key: stream.id.key(),
            stream,
            end: None,
            last: None,
            written: now,
        }
    }

    /// Takes in what a writer says of the stream; true when that is news.
    pub(super) fn learn(&mut self, news: &Arc<Stream>) -> bool {
        if Arc::ptr_eq(&self.stream, news) || *self.stream == **news {
            return false;
        }
        let merged = merge_stream(&self.stream, news);
        let is_news = merged != *self.stream;
        if is_news {
            self.stream = Arc::new(merged);
        }
        is_news
    }
}

/// All streams; written to storage beside each commit of a segment, as of the same record of the log.
#[derive(Debug, Clone, Default)]
pub(super) struct Registry(FxHashMap<StreamId, Known>);

/// One line of the stored form.
#[derive(Serialize, Deserialize)]
struct StoredStream {
    stream: Arc<Stream>,
    end: Option<StreamEnd>,
    last: Option<Last>,
    written_ns: i64,
}

/// First line of the stored form.
#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    n_streams: usize,
}

const FORMAT: &str = "tawny-streams";
const VERSION: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

impl Registry {
    pub(super) fn get(&self, id: &StreamId) -> Option<&Known> {
        self.0.get(id)
    }

    pub(super) fn insert(&mut self, known: Known) {
        self.0.insert(known.stream.id.clone(), known);
    }

    pub(super) fn remove(&mut self, id: &StreamId) {
        self.0.remove(id);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.0.values()
    }

    /// JSON lines in a zstd frame with a checksum, so that a person can read it too.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            n_streams: self.0.len(),
        };
        put_line(&mut out, &header);
        for known in self.0.values() {
            let stored = StoredStream {
                stream: Arc::clone(&known.stream),
                end: known.end,
                last: known.last,
                written_ns: known.written.as_nanos(),
            };
            put_line(&mut out, &stored);
        }
        zstd::bulk::Compressor::new(ZSTD_LEVEL)
            .and_then(|mut compressor| {
                compressor.include_checksum(true)?;
                compressor.compress(&out)
            })
            .expect("memory to memory, at a level there is")
            .into()
    }

    /// # Errors
    /// `Quarantine` when the bytes are damaged, `Reject` when they are of a newer version.
    pub(super) fn decode(bytes: &[u8], place: &str) -> Result<Self, Error> {
        let damaged = |reason: String| Error::Damaged {
            path: place.into(),
            reason,
        };
        let text = zstd::stream::decode_all(bytes).map_err(|error| damaged(error.to_string()))?;
        let mut lines = text.split(|byte| *byte == b'\n');
        let header: Header = serde_json::from_slice(lines.next().unwrap_or_default())
            .map_err(|error| damaged(format!("line 1: {error}")))?;
        if header.format != FORMAT {
            return Err(damaged(format!(
                "it is `{}`, not `{FORMAT}`",
                header.format
            )));
        }
        if header.version > VERSION {
            return Err(Error::Newer {
                path: place.into(),
                found: header.version,
                supported: VERSION,
            });
        }
        let mut registry = Self::default();
        for (idx, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
            let stored: StoredStream = serde_json::from_slice(line)
                .map_err(|error| damaged(format!("line {}: {error}", idx + 2)))?;
            registry.insert(Known {
                key: stored.stream.id.key(),
                stream: stored.stream,
                end: stored.end,
                last: stored.last,
                written: Timestamp::from_nanos(stored.written_ns),
            });
        }
        if registry.len() != header.n_streams {
            return Err(damaged(format!(
                "it holds {} streams and says {}",
                registry.len(),
                header.n_streams
            )));
        }
        Ok(registry)
    }
}

fn put_line(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(&mut *out, value).expect("strings and numbers, into memory");
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use tawny_model::{Position, ResumeMark};

    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for n in 0..20 {
            let id = StreamId {
                cluster: "".into(),
                pod_uid: format!("uid-{n}").into(),
                container: "main".into(),
                restart: n,
            };
            let mut known = Known::new(
                Arc::new(Stream::new(id, "prod", "api \n \"quoted\"")),
                Timestamp::from_nanos(7),
            );
            if n % 2 == 0 {
                known.last = Some(Last {
                    micros: i64::MIN,
                    id: i64::MAX,
                });
                known.end = Some(StreamEnd {
                    end: Position(u64::from(n)),
                    mark: ResumeMark::default(),
                });
            }
            registry.insert(known);
        }
        registry
    }

    #[test]
    fn registry_reads_back_as_written() {
        let registry = registry();
        let back = Registry::decode(&registry.encode(), "here").unwrap();
        assert_eq!(back.len(), 20);
        for known in registry.iter() {
            let read = back.get(&known.stream.id).unwrap();
            assert_eq!(
                (&read.stream, read.end, read.last, read.written, read.key),
                (
                    &known.stream,
                    known.end,
                    known.last,
                    known.written,
                    known.key
                )
            );
        }
    }

    #[test]
    fn damage_anywhere_is_named() {
        let bytes = registry().encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x10;
            // A few bits of a frame's header say nothing that changes its content.
            if let Ok(read) = Registry::decode(&damaged, "here") {
                assert_eq!(read.encode().len(), bytes.len(), "byte {at}");
                assert_eq!(read.len(), 20, "byte {at}");
            }
            assert!(
                Registry::decode(&bytes[..at], "here").is_err(),
                "cut at {at}"
            );
        }
    }
}
