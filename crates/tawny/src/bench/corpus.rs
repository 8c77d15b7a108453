//! Writes a benchmark's lines to files, once, in the form in which each store takes them, and tells every question about
//! each line on the way, so that the right answers are known.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use bytes::Bytes;
use indicatif::ProgressBar;
use prost::Message as _;
use tawny_model::{
    Batch, Entries, Output, Position, ResumeMark, Severity, Stream, StreamId, Timestamp, WriterId,
};
use tawny_wire::{
    message::{Scratch, parse_message},
    proto::tawny as pb,
    push,
};

use super::{
    fleet::{CONNECTIONS, Fleet, MINUTE_NS, MINUTES, START, Source},
    queries::{CUT, Question},
};
use crate::corpus::{Format, Rng, write_message};

/// Stands in one message of the corpus.
pub(super) const NEEDLE: &str = "needle7f3a91c4";
/// The value of `trace_id` of one line.
pub(super) const TRACE_ID: &str = "feedc0de5eed0000feedc0de5eed0001";
/// Stands in [`PHRASE_HITS`] messages; its words stand alone in many others.
pub(super) const PHRASE: &str = "write barrier stalled";
pub(super) const PHRASE_HITS: u64 = 200;
/// Stands inside of [`PART_HITS`] words, each of which is there once.
pub(super) const PART: &str = "quasarflux";
pub(super) const PART_HITS: u64 = 37;

const ERRORS_PER_MILLE: u64 = 30;

/// Lines that wait on a node before its agent gets through: what one delivery of all streams holds.
const LINES_PER_FLUSH: u64 = 32_768;
/// A request is closed at so many lines or bytes; servers take 16 MiB.
const REQUEST_LINES: usize = 8_192;
const REQUEST_BYTES: usize = 4 << 20;

/// One line as questions look at it.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) stream: &'a Stream,
    pub(super) timestamp: Timestamp,
    pub(super) severity: Severity,
    pub(super) output: Output,
    pub(super) message: &'a str,
    pub(super) attributes: &'a [(&'a str, &'a str)],
}

/// One request: where it lies in the files of its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    push: (u64, usize),
    json: (u64, usize),
    pub(super) n_lines: u64,
    pub(super) newest: Timestamp,
}

/// The requests of one connection, in order.
#[derive(Debug)]
pub(super) struct Lane {
    push: File,
    json: Option<File>,
    pub(super) frames: Vec<Frame>,
}

impl Lane {
    /// A request as Tawny takes it.
    pub(super) fn push_request(&self, frame: &Frame) -> anyhow::Result<pb::PushRequest> {
        Ok(pb::PushRequest::decode(read(&self.push, frame.push)?)?)
    }

    /// The same lines as newline-delimited JSON.
    pub(super) fn json_lines(&self, frame: &Frame) -> anyhow::Result<Bytes> {
        let file = self.json.as_ref().context("no peer was to be measured")?;
        read(file, frame.json)
    }
}

fn read(file: &File, (at, len): (u64, usize)) -> anyhow::Result<Bytes> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at)
        .context("read the corpus")?;
    Ok(bytes.into())
}

/// The lines, on disk.
#[derive(Debug)]
pub(super) struct Corpus {
    pub(super) lanes: Vec<Arc<Lane>>,
    pub(super) n_lines: u64,
    pub(super) n_streams: u64,
    pub(super) message_bytes: u64,
    pub(super) attribute_bytes: u64,
    /// 0 without a peer.
    pub(super) json_bytes: u64,
}

/// Makes the corpus in `dir`; the same `fleet` and `seed` give the same lines.
///
/// # Errors
/// Those of the file system.
pub(super) fn write(
    dir: &Path,
    fleet: &Fleet,
    n_lines: u64,
    seed: u64,
    with_json: bool,
    questions: &mut [Question],
    progress: &ProgressBar,
) -> anyhow::Result<Corpus> {
    let mut writer = Writer::create(dir, with_json)?;
    let mut lines = Lines::new(n_lines, seed);
    let mut shares_rng = Rng::new(!seed);
    // By place and pod: a pod that was replaced has still lines to deliver.
    let mut pending: BTreeMap<(usize, usize), Pending> = BTreeMap::new();
    let mut ends: BTreeMap<(usize, usize), (Position, ResumeMark)> = BTreeMap::new();
    let mut n_pending = 0;
    for minute in 0..MINUTES {
        let upto = |minute: u64| n_lines * minute / MINUTES;
        let n_of_minute = upto(minute + 1) - upto(minute);
        for (place, n) in fleet
            .shares(n_of_minute, &mut shares_rng)
            .into_iter()
            .enumerate()
        {
            if n == 0 {
                continue;
            }
            let key = (place, fleet.pod_at(place, minute));
            let pending = pending.entry(key).or_insert_with(|| {
                let (start, mark) = ends.get(&key).copied().unwrap_or_default();
                Pending::new(fleet.source(key.0, key.1), start, mark)
            });
            let source = pending.source.clone();
            for timestamp in times(minute, n, &mut lines.rng) {
                lines.next(&source, timestamp, |raw_len, line| {
                    for question in questions.iter_mut() {
                        question.see(line);
                    }
                    pending.push(raw_len, line, with_json)
                })?;
            }
        }
        n_pending += n_of_minute;
        progress.inc(n_of_minute);
        if n_pending >= LINES_PER_FLUSH || minute + 1 == MINUTES {
            n_pending = 0;
            for (key, pending) in std::mem::take(&mut pending) {
                ends.insert(key, (pending.batch.end, pending.batch.end_mark));
                writer.add(pending)?;
            }
            writer.end_requests()?;
        }
    }
    let json_bytes = writer.lanes.iter().map(|lane| lane.json_len).sum();
    Ok(Corpus {
        lanes: writer.finish()?,
        n_lines,
        n_streams: ends.len() as u64,
        message_bytes: lines.message_bytes,
        attribute_bytes: lines.attribute_bytes,
        json_bytes,
    })
}

/// Times of `n` lines within a minute, in order.
fn times(minute: u64, n: u64, rng: &mut Rng) -> Vec<Timestamp> {
    let from = START.as_nanos() + i64::try_from(minute).expect("minutes are few") * MINUTE_NS;
    let mut times: Vec<i64> = (0..n)
        .map(|_| from + i64::try_from(rng.below(MINUTE_NS.unsigned_abs())).expect("below a minute"))
        .collect();
    times.sort_unstable();
    times.into_iter().map(Timestamp::from_nanos).collect()
}

/// Makes the text of one line after the other.
struct Lines {
    rng: Rng,
    n_lines: u64,
    n_made: u64,
    is_trace_planted: bool,
    raw: String,
    message: String,
    scratch: Scratch,
    message_bytes: u64,
    attribute_bytes: u64,
}

impl Lines {
    fn new(n_lines: u64, seed: u64) -> Self {
        Self {
            rng: Rng::new(seed ^ 0x11e5),
            n_lines,
            n_made: 0,
            is_trace_planted: false,
            raw: String::new(),
            message: String::new(),
            scratch: Scratch::default(),
            message_bytes: 0,
            attribute_bytes: 0,
        }
    }

    /// Hands the next line to `take`, with its length as its program wrote it.
    fn next<R>(
        &mut self,
        source: &Source,
        timestamp: Timestamp,
        take: impl FnOnce(u64, &Line<'_>) -> R,
    ) -> R {
        self.raw.clear();
        let format = source.format;
        let output = write_message(
            format,
            timestamp,
            ERRORS_PER_MILLE,
            &mut self.rng,
            &mut self.raw,
        );
        let parsed = parse_message(&self.raw, &mut self.scratch);
        self.message.clear();
        self.message.push_str(parsed.message);
        add_details(format, &mut self.rng, &mut self.message);
        let mut attributes: Vec<(&str, &str)> = parsed.attributes().collect();
        plant(self.n_made, self.n_lines, &mut self.rng, &mut self.message);
        if !self.is_trace_planted
            && self.n_made >= self.n_lines / 2
            && let Some((_, value)) = attributes.iter_mut().find(|(key, _)| *key == "trace_id")
        {
            *value = TRACE_ID;
            self.is_trace_planted = true;
        }
        self.n_made += 1;
        self.message_bytes += self.message.len() as u64;
        self.attribute_bytes += attributes
            .iter()
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum::<u64>();
        take(
            (self.raw.len() + self.message.len() - parsed.message.len()) as u64,
            &Line {
                stream: &source.stream,
                timestamp,
                severity: parsed.severity,
                output,
                message: &self.message,
                attributes: &attributes,
            },
        )
    }
}

/// Ends the messages of programs that write sentences with what they are about.
fn add_details(format: Format, rng: &mut Rng, message: &mut String) {
    use std::fmt::Write as _;
    const NOTES: [&str; 8] = [
        "write queue drained",
        "barrier reached by all",
        "stalled peer dropped",
        "lease renewed early",
        "checkpoint saved",
        "batch accepted",
        "shadow copy kept",
        "quota near limit",
    ];
    if matches!(format, Format::Klog | Format::Access) {
        return;
    }
    write!(
        message,
        " ({}: order {}-{}, customer c{}, upstream 10.{}.{}.{}:8443 took {}ms)",
        rng.pick(&NOTES),
        rng.below(90) + 10,
        rng.below(900_000) + 100_000,
        rng.below(40_000),
        rng.below(16),
        rng.below(250),
        rng.below(16),
        rng.below(1_000),
    )
    .expect("a String takes any text");
}

/// Adds what questions look for, at fixed places of the corpus.
fn plant(idx: u64, n_lines: u64, rng: &mut Rng, message: &mut String) {
    use std::fmt::Write as _;
    let is_one_of = |n: u64| {
        let step = (n_lines / n).max(1);
        idx.is_multiple_of(step) && idx / step < n
    };
    if idx == n_lines / 3 {
        message.push(' ');
        message.push_str(NEEDLE);
    }
    if is_one_of(PHRASE_HITS) {
        message.push_str("; ");
        message.push_str(PHRASE);
    }
    if is_one_of(PART_HITS) {
        write!(
            message,
            " job{:06x}{PART}{:06x}",
            rng.below(1 << 24),
            rng.below(1 << 24)
        )
        .expect("a String takes any text");
    }
}

/// Lines of a stream of their own behind the end of the corpus, as both forms of a request, and a word that is in them only.
pub(super) fn fresh_lines(round: u32) -> anyhow::Result<(String, pb::PushRequest, Bytes)> {
    const LINES: u64 = 100;
    let word = format!("fresh{round:04}word");
    let id = StreamId {
        cluster: "bench".into(),
        pod_uid: format!("fresh-{round}").into(),
        container: "app".into(),
        restart: 0,
    };
    let stream = Arc::new(Stream::new(id, CUT, format!("fresh-{round}")));
    let source = Source {
        stream: Arc::clone(&stream),
        format: Format::Plain,
        connection: 0,
    };
    let mut pending = Pending::new(source, Position::ZERO, ResumeMark::default());
    let message = format!("{word} came after all others");
    for timestamp in times(
        MINUTES + u64::from(round),
        LINES,
        &mut Rng::new(u64::from(round)),
    ) {
        let line = Line {
            stream: &stream,
            timestamp,
            severity: Severity::Info,
            output: Output::Stdout,
            message: &message,
            attributes: &[],
        };
        pending.push(message.len() as u64, &line, true)?;
    }
    let request = pb::PushRequest {
        writer: pending.batch.writer.0,
        batches: vec![push::encode(&pending.batch)],
    };
    Ok((word, request, pending.json.into()))
}

/// What one container wrote and its agent has not delivered yet.
struct Pending {
    source: Source,
    batch: Batch,
    json: Vec<u8>,
}

impl Pending {
    fn new(source: Source, start: Position, end_mark: ResumeMark) -> Self {
        Self {
            batch: Batch {
                stream: Arc::clone(&source.stream),
                writer: WriterId(1 + source.connection as u64),
                start,
                end: start,
                end_mark,
                entries: Entries::default(),
            },
            source,
            json: Vec::new(),
        }
    }

    fn push(&mut self, raw_len: u64, line: &Line<'_>, with_json: bool) -> anyhow::Result<()> {
        let batch = &mut self.batch;
        batch.end = batch.end.advance(raw_len + 1);
        batch.end_mark = batch.end_mark.after_line(line.timestamp);
        batch.entries.push(
            line.timestamp,
            line.severity,
            line.output,
            line.message,
            line.attributes.iter().copied(),
            batch.end,
        )?;
        if with_json {
            super::peer::write_json_line(line, &mut self.json)?;
        }
        Ok(())
    }
}

/// A lane being written.
struct OpenLane {
    push: BufWriter<File>,
    push_len: u64,
    json: Option<BufWriter<File>>,
    json_len: u64,
    frames: Vec<Frame>,
    request: pb::PushRequest,
    request_json: Vec<u8>,
    n_lines: usize,
    text_bytes: usize,
    newest: Timestamp,
}

struct Writer {
    lanes: Vec<OpenLane>,
}

impl Writer {
    fn create(dir: &Path, with_json: bool) -> anyhow::Result<Self> {
        let create = |name: String| {
            let path = dir.join(name);
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .with_context(|| format!("create {}", path.display()))
                .map(BufWriter::new)
        };
        let lanes = (0..CONNECTIONS).map(|connection| {
            Ok(OpenLane {
                push: create(format!("{connection}.push"))?,
                push_len: 0,
                json: with_json
                    .then(|| create(format!("{connection}.ndjson")))
                    .transpose()?,
                json_len: 0,
                frames: Vec::new(),
                request: pb::PushRequest {
                    writer: 1 + connection as u64,
                    batches: Vec::new(),
                },
                request_json: Vec::new(),
                n_lines: 0,
                text_bytes: 0,
                newest: Timestamp::MIN,
            })
        });
        Ok(Self {
            lanes: lanes.collect::<anyhow::Result<_>>()?,
        })
    }

    fn add(&mut self, pending: Pending) -> anyhow::Result<()> {
        let lane = &mut self.lanes[pending.source.connection];
        let entries = &pending.batch.entries;
        lane.n_lines += entries.len();
        lane.text_bytes += entries.text_bytes();
        lane.newest = entries
            .iter()
            .map(|entry| entry.timestamp())
            .fold(lane.newest, Timestamp::max);
        lane.request.batches.push(push::encode(&pending.batch));
        lane.request_json.extend_from_slice(&pending.json);
        if lane.n_lines >= REQUEST_LINES || lane.text_bytes >= REQUEST_BYTES {
            lane.end_request()?;
        }
        Ok(())
    }

    fn end_requests(&mut self) -> anyhow::Result<()> {
        self.lanes.iter_mut().try_for_each(OpenLane::end_request)
    }

    fn finish(self) -> anyhow::Result<Vec<Arc<Lane>>> {
        self.lanes
            .into_iter()
            .map(|lane| {
                Ok(Arc::new(Lane {
                    push: lane.push.into_inner()?,
                    json: lane.json.map(BufWriter::into_inner).transpose()?,
                    frames: lane.frames,
                }))
            })
            .collect()
    }
}

impl OpenLane {
    fn end_request(&mut self) -> anyhow::Result<()> {
        if self.n_lines == 0 {
            return Ok(());
        }
        let bytes = self.request.encode_to_vec();
        self.push.write_all(&bytes)?;
        if let Some(json) = &mut self.json {
            json.write_all(&self.request_json)?;
        }
        self.frames.push(Frame {
            push: (self.push_len, bytes.len()),
            json: (self.json_len, self.request_json.len()),
            n_lines: self.n_lines as u64,
            newest: self.newest,
        });
        self.push_len += bytes.len() as u64;
        self.json_len += self.request_json.len() as u64;
        self.request.batches.clear();
        self.request_json.clear();
        self.n_lines = 0;
        self.text_bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(seed: u64) -> (Corpus, Vec<Bytes>) {
        let dir = tempfile::tempdir().unwrap();
        let fleet = Fleet::new(seed);
        let corpus = write(
            dir.path(),
            &fleet,
            3_000,
            seed,
            true,
            &mut [],
            &ProgressBar::hidden(),
        )
        .unwrap();
        let bytes = corpus
            .lanes
            .iter()
            .flat_map(|lane| lane.frames.iter().map(|frame| read(&lane.push, frame.push)))
            .collect::<anyhow::Result<_>>()
            .unwrap();
        (corpus, bytes)
    }

    #[test]
    fn the_same_seed_makes_the_same_bytes() {
        assert_eq!(written(3).1, written(3).1);
        assert_ne!(written(3).1, written(4).1);
    }

    #[test]
    fn both_forms_hold_every_line_and_batches_of_a_stream_follow_each_other() {
        let (corpus, _) = written(3);
        let (mut n_pushed, mut n_json) = (0, 0);
        let mut ends = BTreeMap::new();
        for lane in &corpus.lanes {
            for frame in &lane.frames {
                for batch in lane.push_request(frame).unwrap().batches {
                    let batch = push::decode(batch, WriterId(1)).unwrap();
                    n_pushed += batch.entries.len() as u64;
                    let end = ends.insert(batch.stream.id.clone(), batch.end);
                    assert_eq!(batch.start, end.unwrap_or_default());
                }
                let json = lane.json_lines(frame).unwrap();
                n_json += memchr::memchr_iter(b'\n', &json).count() as u64;
            }
        }
        assert_eq!((n_pushed, n_json), (3_000, 3_000));
    }
}
