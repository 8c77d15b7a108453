//! The common half of sources that read a stream over a connection: finds the place again after each connect, makes
//! batches, hands them on.

use std::{sync::Arc, time::Duration};

use prometheus_client::metrics::counter::Counter;
use tawny_model::{GapReason, ResumeMark, Stream, Timestamp};
use tawny_runtime::CancellationToken;
use tawny_wire::RawLine;
use tokio::time::{Instant, sleep};

use crate::{Error, Intake, Lane, LineScratch, StreamAssembler, metrics::LostReason};

/// A batch is cut at this much text, so that one busy stream does not fill the budget with one batch.
const BATCH_BYTES: usize = 256 << 10;

/// Longest time a read line waits for others before its batch is cut.
const LINGER: Duration = Duration::from_millis(100);

/// How far from the mark a line's time may lie on the wrong side of it: stdout and stderr are stamped by two threads
/// and may be written in the other order.
const DISORDER: Duration = Duration::from_secs(1);

/// Lines younger than the mark that are held back until the mark is found or given up.
const MAX_HELD_BYTES: usize = 1 << 20;

/// Longest wait for room at the sink once told to stop; what does not go out in time is read again at the next start.
const STOP_FLUSH: Duration = Duration::from_secs(2);

/// One stream on its way from a connection to its lane.
#[derive(Debug)]
pub(crate) struct Feed {
    intake: Intake,
    stop: CancellationToken,
    lane: Lane,
    assembler: StreamAssembler,
    scratch: LineScratch,
    lines_read: Counter,
    /// Behind the last line taken; where a new connection is to go on.
    mark: ResumeMark,
    search: Option<Search>,
    /// When what is gathered is sent at the latest.
    due: Option<Instant>,
    /// A batch found no room before the stop, so nothing may follow it.
    is_given_up: bool,
}

/// Looking for the mark among lines that a new connection repeats.
#[derive(Debug, Default)]
struct Search {
    /// Lines in a row so far that are stamped with the mark's time.
    n_run: u32,
    held: Vec<Held>,
    held_bytes: usize,
}

/// A line that is either a repeat or new, which only the next lines tell.
#[derive(Debug)]
struct Held {
    timestamp: Timestamp,
    output: tawny_model::Output,
    is_partial: bool,
    content: Vec<u8>,
    cut_bytes: u64,
    len_bytes: u64,
}

impl Feed {
    /// Takes the stream over, where the sink's copy of it ends. Once `stop` is cancelled, whatever hands on waits two
    /// seconds for room and then drops what it has.
    ///
    /// # Errors
    /// What the sink says can never work.
    pub(crate) async fn open(
        intake: &Intake,
        stream: Arc<Stream>,
        max_line_bytes: usize,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let lane = intake
            .resume(std::slice::from_ref(&stream.id))
            .await?
            .pop()
            .expect("resume answers each stream asked for");
        let end = lane.end();
        let metrics = intake.metrics();
        metrics.streams.inc();
        Ok(Self {
            lines_read: metrics.lines_of(&stream.namespace),
            assembler: StreamAssembler::new(stream, intake.writer(), end, max_line_bytes),
            intake: intake.clone(),
            stop,
            lane,
            scratch: LineScratch::default(),
            mark: end.unwrap_or_default().mark,
            search: None,
            due: None,
            is_given_up: false,
        })
    }

    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Describes the stream anew, from the next batch on.
    pub(crate) fn describe(&mut self, stream: Stream) {
        if **self.assembler.stream() != stream {
            self.assembler.set_stream(Arc::new(stream));
        }
    }

    /// Begins a new connection, which is to send the lines from this time on; `None` asks for all there are.
    pub(crate) fn reconnect(&mut self) -> Option<Timestamp> {
        if self.mark == ResumeMark::default() {
            self.search = None;
            return None;
        }
        self.search = Some(Search::default());
        Some(self.mark.timestamp.saturating_sub(DISORDER))
    }

    /// Takes a line; skips those stored or sent before. `len_bytes` is its length on the wire.
    pub(crate) fn line(&mut self, raw: RawLine<'_>, cut_bytes: u64, len_bytes: u64) {
        self.intake.metrics().bytes_read.inc_by(len_bytes);
        let Some(search) = &mut self.search else {
            self.take(raw, cut_bytes, len_bytes);
            return;
        };
        if self.mark.n_lines == 0 {
            // Behind a gap record: the first younger line is next.
            if raw.timestamp > self.mark.timestamp {
                self.search = None;
                self.take(raw, cut_bytes, len_bytes);
            }
            return;
        }
        if raw.timestamp == self.mark.timestamp {
            search.n_run += 1;
            if search.n_run == self.mark.n_lines {
                self.search = None;
            }
            return;
        }
        search.n_run = 0;
        if raw.timestamp < self.mark.timestamp && search.held.is_empty() {
            return;
        }
        if search.held.is_empty() {
            // Told apart in a second, should nothing else come; not sooner, whatever an open line was waited for.
            self.due = Some(Instant::now() + DISORDER);
        }
        search.held_bytes += raw.content.len() + size_of::<Held>();
        search.held.push(Held {
            timestamp: raw.timestamp,
            output: raw.output,
            is_partial: raw.is_partial,
            content: raw.content.to_vec(),
            cut_bytes,
            len_bytes,
        });
        // However young the line is: behind a clock that was set back the mark may still follow.
        if search.held_bytes > MAX_HELD_BYTES {
            self.give_up_search();
        }
    }

    /// No more lines are at hand: what a search still holds back is new, and the mark's line is gone.
    fn caught_up(&mut self) {
        if self
            .search
            .as_ref()
            .is_some_and(|search| !search.held.is_empty())
        {
            self.give_up_search();
        }
    }

    fn give_up_search(&mut self) {
        let Some(Search { held, .. }) = self.search.take() else {
            return;
        };
        self.lost();
        for line in held {
            let raw = RawLine {
                timestamp: line.timestamp,
                output: line.output,
                is_partial: line.is_partial,
                content: &line.content,
            };
            self.take(raw, line.cut_bytes, line.len_bytes);
        }
    }

    /// Notes that lines behind the last one were deleted before they were read.
    pub(crate) fn lost(&mut self) {
        self.assembler.gap(GapReason::Rotated, 0);
        self.mark.n_lines = 0;
    }

    fn take(&mut self, raw: RawLine<'_>, cut_bytes: u64, len_bytes: u64) {
        self.mark = self.mark.after_line(raw.timestamp);
        let now = self.intake.clock().now();
        self.assembler
            .push(raw, cut_bytes, len_bytes, now, &mut self.scratch);
        self.note_due();
    }

    /// Keeps a line that has no time, behind the line before it; while the mark is looked for it counts as a repeat.
    pub(crate) fn malformed(&mut self, line: &[u8], cut_bytes: u64, len_bytes: u64) {
        if let Some(search) = &mut self.search {
            // It was counted with the line before it when the mark was made.
            if search.n_run > 0 {
                search.n_run += 1;
                if search.n_run == self.mark.n_lines {
                    self.search = None;
                }
            }
            return;
        }
        let now = self.intake.clock().now();
        self.mark = self.mark.after_line(self.mark.timestamp);
        self.assembler.malformed(
            line,
            &"no time",
            cut_bytes,
            len_bytes,
            now,
            &mut self.scratch,
        );
        self.note_due();
    }

    fn note_due(&mut self) {
        let soon = Instant::now() + LINGER;
        // Not later than that, though a line's next piece was waited for much longer.
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// When to [`Feed::flush`] although little is gathered.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether enough is gathered to flush now.
    pub(crate) fn is_full(&self) -> bool {
        self.assembler.text_bytes() >= BATCH_BYTES
    }

    /// Sends what is gathered and whole; waits while too much is unacknowledged, but not for long once told to stop.
    ///
    /// # Errors
    /// [`Error::Closed`] when the deliverer has ended.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        self.caught_up();
        let now = self.intake.clock().now();
        self.assembler.expire(now, &mut self.scratch);
        self.send().await?;
        self.due = self
            .assembler
            .has_open_partial()
            .then(|| Instant::now() + crate::assembler::PARTIAL_EXPIRY);
        Ok(())
    }

    /// Sends what is gathered when a connection breaks: what a search holds back is neither new nor a repeat yet, and
    /// the next connection brings it again.
    ///
    /// # Errors
    /// [`Error::Closed`] when the deliverer has ended.
    pub(crate) async fn break_off(&mut self) -> Result<(), Error> {
        self.search = None;
        self.flush().await
    }

    /// Sends everything, at the end of the stream.
    ///
    /// # Errors
    /// [`Error::Closed`] when the deliverer has ended.
    pub(crate) async fn finish(&mut self) -> Result<(), Error> {
        self.caught_up();
        let now = self.intake.clock().now();
        self.assembler.finish(now, &mut self.scratch);
        self.send().await
    }

    async fn send(&mut self) -> Result<(), Error> {
        let metrics = self.intake.metrics();
        let lost = self.assembler.take_lost();
        metrics.lines_malformed.inc_by(lost.n_malformed);
        for (reason, n_lines) in [
            (LostReason::too_long, lost.n_cut),
            (LostReason::rotated, lost.n_rotated_gaps),
            (LostReason::unreadable, lost.n_unreadable_gaps),
        ] {
            if n_lines > 0 {
                metrics.lost(reason, n_lines);
            }
        }
        let Some(batch) = self.assembler.cut() else {
            return Ok(());
        };
        if self.is_given_up {
            return Ok(());
        }
        self.lines_read.inc_by(batch.entries.len() as u64);
        let out_of_time = async {
            self.stop.cancelled().await;
            sleep(STOP_FLUSH).await;
        };
        tokio::select! {
            biased;
            sent = self.lane.send(batch) => sent?,
            () = out_of_time => self.is_given_up = true,
        }
        Ok(())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.intake.metrics().streams.dec();
    }
}

#[cfg(test)]
mod tests {
    use tawny_model::Output;

    use super::*;
    use crate::{
        DeliverSettings, Deliverer,
        testing::{MemorySink, intake, stream_id},
    };

    /// Lines as (time, text).
    const LOG: [(i64, &str); 6] = [
        (1, "a"),
        (2, "b"),
        (2, "c"),
        (2, "d"),
        (4, "err"),
        (3, "out"),
    ];

    /// Hands on all that the feeds handed over.
    async fn deliver(intake: &Intake) {
        let stop = CancellationToken::new();
        stop.cancel();
        let deliverer = Deliverer::new(intake, DeliverSettings::default());
        deliverer.run(stop).await.unwrap();
    }

    fn feed_lines(feed: &mut Feed, lines: &[(i64, &str)]) {
        for (time, text) in lines {
            let raw = RawLine {
                timestamp: Timestamp::from_nanos(*time),
                output: Output::Stdout,
                is_partial: false,
                content: text.as_bytes(),
            };
            feed.line(raw, 0, text.len() as u64 + 1);
        }
    }

    async fn open(intake: &Intake) -> Feed {
        let stream = Arc::new(Stream::new(stream_id("c", 0), "shop", "web"));
        Feed::open(intake, stream, 1 << 20, CancellationToken::new())
            .await
            .unwrap()
    }

    /// What is stored after reading `first`, then, by another process, `second`.
    async fn stored(first: &[(i64, &str)], second: &[(i64, &str)]) -> Vec<String> {
        let sink = Arc::new(MemorySink::default());
        for (writer, lines) in [(1, first), (2, second)] {
            let intake = intake(&sink, writer);
            let mut feed = open(&intake).await;
            assert_eq!(feed.reconnect().is_some(), writer == 2 && !first.is_empty());
            feed_lines(&mut feed, lines);
            feed.finish().await.unwrap();
            deliver(&intake).await;
        }
        sink.messages()
    }

    #[tokio::test]
    async fn repeats_after_any_break_are_skipped_and_nothing_is_lost() {
        // KL-40: the API repeats whole seconds; two outputs may be stamped out of order.
        let all: Vec<_> = LOG.iter().map(|(_, text)| (*text).to_owned()).collect();
        for n_first in 0..=LOG.len() {
            for n_from in 0..n_first.clamp(1, 2) {
                let stored = stored(&LOG[..n_first], &LOG[n_from..]).await;
                assert_eq!(stored, all, "first {n_first} lines, then from {n_from}");
            }
        }
    }

    #[tokio::test]
    async fn a_mark_that_is_gone_leaves_a_gap_record() {
        let messages = stored(&LOG[..4], &[(5, "e"), (6, "f")]).await;
        assert_eq!(messages.len(), 7, "{messages:?}");
        assert!(messages[4].starts_with("gap: "), "{messages:?}");
        assert_eq!(messages[5..], ["e", "f"]);
        let far = stored(&LOG[..4], &[(2_000_000_000, "e")]).await;
        assert!(far[4].starts_with("gap: "), "{far:?}");
    }

    #[tokio::test]
    async fn fewer_lines_at_the_mark_than_counted_are_no_match() {
        let messages = stored(&LOG[..4], &[(2, "c"), (2, "d"), (9, "new")]).await;
        assert_eq!(messages.len(), 6, "{messages:?}");
        assert!(messages[4].starts_with("gap: "));
    }

    #[tokio::test]
    async fn a_clock_set_back_repeats_nothing() {
        // KL-40: the lines from before the step are seconds younger than the mark and are sent again.
        let second = 1_000_000_000;
        let log = [
            (60 * second, "a"),
            (61 * second, "b"),
            (5 * second, "c"),
            (6 * second, "d"),
        ];
        for n_first in 1..=log.len() {
            let messages = stored(&log[..n_first], &log).await;
            assert_eq!(messages, ["a", "b", "c", "d"], "first {n_first} lines");
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_with_a_gap_record_goes_on_behind_it() {
        let sink = Arc::new(MemorySink::default());
        for (writer, lines) in [(1, &LOG[..2]), (2, &LOG[..4]), (3, &LOG[..])] {
            let intake = intake(&sink, writer);
            let mut feed = open(&intake).await;
            feed.reconnect();
            feed_lines(&mut feed, lines);
            if writer == 2 {
                feed.lost();
            }
            feed.finish().await.unwrap();
            deliver(&intake).await;
        }
        let messages = sink.messages();
        assert!(messages[4].starts_with("gap: "), "{messages:?}");
        assert_eq!(messages[..4], ["a", "b", "c", "d"]);
        assert_eq!(messages[5..], ["err", "out"]);
    }

    #[tokio::test]
    async fn a_line_without_a_time_is_found_again_behind_its_mark() {
        let sink = Arc::new(MemorySink::default());
        for writer in [1, 2] {
            let intake = intake(&sink, writer);
            let mut feed = open(&intake).await;
            feed.reconnect();
            feed_lines(&mut feed, &LOG[..1]);
            feed.malformed(b"no time here", 0, 13);
            if writer == 2 {
                feed_lines(&mut feed, &LOG[1..2]);
            }
            feed.finish().await.unwrap();
            deliver(&intake).await;
        }
        assert_eq!(sink.messages(), ["a", "no time here", "b"]);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_while_the_mark_is_looked_for_repeats_nothing() {
        let sink = Arc::new(MemorySink::default());
        let intake = intake(&sink, 1);
        let mut feed = open(&intake).await;
        feed_lines(&mut feed, &LOG);
        feed.reconnect();
        // Younger than the mark, which is the line behind it.
        feed_lines(&mut feed, &LOG[4..5]);
        feed.break_off().await.unwrap();
        feed.reconnect();
        feed_lines(&mut feed, &LOG);
        feed.finish().await.unwrap();
        deliver(&intake).await;
        assert_eq!(sink.messages(), LOG.map(|(_, text)| text));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_do_not_wait_as_long_as_an_open_line_is_waited_for() {
        let sink = Arc::new(MemorySink::default());
        let mut feed = open(&intake(&sink, 1)).await;
        for is_partial in [true, false] {
            let raw = RawLine {
                timestamp: Timestamp::from_nanos(1),
                output: Output::Stdout,
                is_partial,
                content: b"piece",
            };
            feed.line(raw, 0, 6);
            let due = feed.due().expect("a line is gathered");
            assert_eq!(due - Instant::now(), LINGER);
            feed.flush().await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_line_from_before_does_not_cut_the_search_for_the_mark_short() {
        let sink = Arc::new(MemorySink::default());
        let mut feed = open(&intake(&sink, 1)).await;
        let raw = RawLine {
            timestamp: Timestamp::from_nanos(4),
            output: Output::Stdout,
            is_partial: true,
            content: b"piece",
        };
        feed.line(raw, 0, 6);
        feed.break_off().await.unwrap();
        let expiry = feed.due().expect("the line is open");
        tokio::time::advance(expiry - Instant::now() - Duration::from_millis(1)).await;
        feed.reconnect();
        // Younger than the mark, which may yet follow.
        feed_lines(&mut feed, &[(5, "younger")]);
        let due = feed.due().expect("a line is held back");
        assert_eq!(due - Instant::now(), DISORDER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sink_that_takes_nothing_does_not_hold_up_a_stop() {
        // Nobody delivers, so the budget of 8 MiB fills up.
        let sink = Arc::new(MemorySink::default());
        let stop = CancellationToken::new();
        let stream = Arc::new(Stream::new(stream_id("c", 0), "shop", "web"));
        let mut feed = Feed::open(&intake(&sink, 1), stream, 1 << 20, stop.clone())
            .await
            .unwrap();
        let line = "x".repeat(1 << 20);
        let hand_on = async {
            for n in 0..20 {
                feed_lines(&mut feed, &[(n, &line)]);
                feed.flush().await.unwrap();
            }
            feed.finish().await.unwrap();
        };
        let mut hand_on = std::pin::pin!(hand_on);
        let waits = tokio::time::timeout(Duration::from_secs(60), &mut hand_on).await;
        assert!(waits.is_err(), "the budget is full");
        stop.cancel();
        let stopped = tokio::time::timeout(STOP_FLUSH * 2, hand_on).await;
        assert!(stopped.is_ok(), "stops although the sink takes nothing");
    }

    #[tokio::test]
    async fn a_connection_without_new_lines_keeps_looking() {
        let sink = Arc::new(MemorySink::default());
        let intake = intake(&sink, 1);
        let mut feed = open(&intake).await;
        feed_lines(&mut feed, &LOG[..2]);
        feed.reconnect();
        feed.caught_up();
        feed_lines(&mut feed, &LOG[..3]);
        feed.finish().await.unwrap();
        deliver(&intake).await;
        assert_eq!(sink.messages(), ["a", "b", "c"]);
    }
}
