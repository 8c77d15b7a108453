//! The assembler alone: joining, positions, cuts, and that any crash leaves each line stored once.

use proptest::prelude::*;
use tawny_model::{Admission, StreamId, admit, gap::GAP_ATTRIBUTE};

use super::*;

const MAX_LINE: usize = 1 << 20;

fn assembler(end: Option<StreamEnd>) -> StreamAssembler {
    let id = StreamId {
        cluster: "".into(),
        pod_uid: "u".into(),
        container: "c".into(),
        restart: 0,
    };
    StreamAssembler::new(
        Arc::new(Stream::new(id, "ns", "pod")),
        WriterId(1),
        end,
        MAX_LINE,
    )
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn cri(secs: i64, tag: &str, text: &str) -> String {
    format!("{} {tag} {text}", at(secs))
}

fn feed(assembler: &mut StreamAssembler, line: &str, now: i64) {
    assembler.file_line(
        line.as_bytes(),
        0,
        line.len() as u64 + 1,
        at(now),
        &mut LineScratch::default(),
    );
}

fn texts(batch: Option<&Batch>) -> Vec<&str> {
    batch
        .iter()
        .flat_map(|batch| batch.entries.iter())
        .map(|entry| entry.message())
        .collect()
}

#[test]
fn nothing_behind_an_open_line_of_either_output_is_cut_off() {
    let mut assembler = assembler(None);
    let lines = [
        cri(1, "stdout F", "a"),
        cri(2, "stdout P", "b"),
        cri(3, "stderr F", "c"),
        cri(4, "stdout F", "d"),
    ];
    for line in &lines[..3] {
        feed(&mut assembler, line, 0);
    }
    let first = assembler.cut();
    assert_eq!(texts(first.as_ref()), ["a"]);
    let first = first.unwrap();
    assert_eq!(first.end, Position(lines[0].len() as u64 + 1));
    assert_eq!(
        first.end_mark,
        ResumeMark {
            timestamp: at(1),
            n_lines: 1
        }
    );
    assert_eq!(assembler.cut(), None);
    feed(&mut assembler, &lines[3], 0);
    let second = assembler.cut().unwrap();
    assert_eq!(texts(Some(&second)), ["c", "bd"]);
    assert_eq!((second.start, second.end), (first.end, assembler.end()));
    assert_eq!(
        second.end_mark,
        ResumeMark {
            timestamp: at(4),
            n_lines: 1
        }
    );
    assert_eq!(
        second.entries.get(1).map(|entry| entry.timestamp()),
        Some(at(2))
    );
}

#[test]
fn an_open_line_is_given_out_when_its_rest_does_not_come() {
    let mut assembler = assembler(None);
    feed(&mut assembler, &cri(1, "stdout P", "half"), 100);
    let mut scratch = LineScratch::default();
    assembler.expire(at(129), &mut scratch);
    assert_eq!(assembler.cut(), None);
    assembler.expire(at(130), &mut scratch);
    let batch = assembler.cut().unwrap();
    assert_eq!(texts(Some(&batch)), ["half"]);
    assert_eq!(
        batch.entries.get(0).unwrap().attribute(PARTIAL),
        Some("true"),
        "VK-9"
    );
    feed(&mut assembler, &cri(2, "stdout F", "rest"), 131);
    assert_eq!(texts(assembler.cut().as_ref()), ["rest"]);
}

#[test]
fn an_open_line_expires_although_the_wall_clock_is_a_little_behind_the_timer() {
    let mut assembler = assembler(None);
    let mut scratch = LineScratch::default();
    feed(&mut assembler, &cri(1, "stdout P", "half"), 100);
    let woken = at(130).saturating_sub(Duration::from_micros(300));
    assembler.expire(woken, &mut scratch);
    assert_eq!(texts(assembler.cut().as_ref()), ["half"], "VK-9");
}

#[test]
fn an_open_line_expires_although_the_other_output_goes_on() {
    let mut assembler = assembler(None);
    let mut scratch = LineScratch::default();
    feed(&mut assembler, &cri(1, "stdout P", "half"), 100);
    for now in [110, 120, 129] {
        feed(&mut assembler, &cri(now, "stderr F", "busy"), now);
    }
    assembler.expire(at(130), &mut scratch);
    assert_eq!(
        texts(assembler.cut().as_ref()),
        ["busy", "busy", "busy", "half"],
        "VK-9"
    );
}

#[test]
fn an_open_line_does_not_hold_back_the_other_output_without_bound() {
    let mut assembler = assembler(None);
    feed(&mut assembler, &cri(1, "stdout P", "never"), 0);
    let text = "x".repeat(1 << 20);
    for _ in 0..8 {
        feed(&mut assembler, &cri(2, "stderr F", &text), 0);
        assert_eq!(assembler.cut(), None);
    }
    feed(&mut assembler, &cri(2, "stderr F", &text), 0);
    assert_eq!(assembler.cut().map(|batch| batch.entries.len()), Some(10));
}

#[test]
fn an_over_long_line_says_what_is_missing() {
    let mut assembler = assembler(None);
    let line = cri(1, "stdout F", &"x".repeat(MAX_LINE + 5));
    feed(&mut assembler, &line, 0);
    assembler.file_line(
        cri(2, "stdout F", "head").as_bytes(),
        1000,
        2000,
        at(0),
        &mut LineScratch::default(),
    );
    let batch = assembler.cut().unwrap();
    let cut: Vec<_> = batch
        .entries
        .iter()
        .map(|entry| entry.attribute(CUT_BYTES))
        .collect();
    assert_eq!(cut, [Some("5"), Some("1000")]);
    assert_eq!(batch.end, Position(line.len() as u64 + 1 + 2000));
    assert_eq!(
        assembler.take_lost(),
        Lost {
            n_cut: 2,
            ..Lost::default()
        }
    );
}

#[test]
fn a_gap_record_is_stored_with_the_line_behind_it_or_not_at_all() {
    let end = StreamEnd {
        end: Position(500),
        mark: ResumeMark {
            timestamp: at(5),
            n_lines: 2,
        },
    };
    let mut assembler = assembler(Some(end));
    assembler.gap(GapReason::Rotated, 0);
    assert_eq!(assembler.cut(), None);
    let line = cri(9, "stdout F", "a");
    feed(&mut assembler, &line, 0);
    let batch = assembler.cut().unwrap();
    let gap = batch.entries.get(0).unwrap();
    assert_eq!(gap.attribute(GAP_ATTRIBUTE), Some("rotated"));
    assert_eq!((gap.timestamp(), gap.end()), (at(5), Position(501)));
    assert_eq!(
        (batch.start, batch.end),
        (Position(500), Position(501 + line.len() as u64 + 1))
    );
    assert_eq!(
        batch.end_mark,
        ResumeMark {
            timestamp: at(9),
            n_lines: 1
        }
    );
}

#[test]
fn a_stream_that_ends_with_a_gap_record_is_not_read_again() {
    let mark = ResumeMark {
        timestamp: at(5),
        n_lines: 2,
    };
    let end = Position(500);
    let mut assembler = assembler(Some(StreamEnd { end, mark }));
    assembler.gap(GapReason::Rotated, 0);
    assembler.finish(at(9), &mut LineScratch::default());
    let batch = assembler.cut().unwrap();
    assert_eq!((batch.entries.len(), batch.end), (1, Position(501)));
    assert_eq!(batch.end_mark, ResumeMark { n_lines: 0, ..mark });
}

#[test]
fn a_malformed_line_counts_as_stamped_like_the_one_before() {
    let mut assembler = assembler(None);
    feed(&mut assembler, &cri(3, "stdout F", "a"), 0);
    feed(&mut assembler, "what is this", 0);
    let batch = assembler.cut().unwrap();
    let odd = batch.entries.get(1).unwrap();
    assert_eq!((odd.message(), odd.timestamp()), ("what is this", at(3)));
    assert_eq!(
        odd.attribute(MALFORMED),
        Some("the line does not start with an RFC 3339 time and a space")
    );
    assert_eq!(
        batch.end_mark,
        ResumeMark {
            timestamp: at(3),
            n_lines: 2
        }
    );
}

/// A store of one stream.
#[derive(Default)]
struct Store {
    end: Option<StreamEnd>,
    texts: Vec<String>,
}

impl Store {
    fn write(&mut self, batch: &Batch) -> bool {
        match admit(batch, self.end, None) {
            Admission::New { skip } => {
                self.texts.extend(
                    batch
                        .entries
                        .iter()
                        .skip(skip)
                        .map(|entry| entry.message().to_owned()),
                );
                self.end = Some(StreamEnd {
                    end: batch.end,
                    mark: batch.end_mark,
                });
                true
            }
            Admission::Duplicate => true,
            Admission::Gap { .. } | Admission::Fenced => false,
        }
    }
}

proptest! {
    /// Lines of both outputs in pieces, cut anywhere; the process dies between any two lines, with some of its last
    /// batches stored and some not, and the next one starts where the mark says: each line is stored once, in order.
    #[test]
    fn any_crash_leaves_each_line_once(
        lines in proptest::collection::vec((any::<bool>(), any::<bool>(), 0i64..3, "[a-z]{0,8}"), 1..80),
        events in proptest::collection::vec((1usize..20, any::<bool>(), 0usize..3), 1..30)) {
        let mut secs = 0;
        let lines: Vec<_> = lines.iter().map(|(is_err, is_partial, step, text)| {
            secs += step;
            cri(secs, &format!("{} {}", if *is_err { "stderr" } else { "stdout" }, if *is_partial { "P" } else { "F" }), text)
        }).collect();
        let reference = {
            let mut assembler = assembler(None);
            for line in &lines {
                feed(&mut assembler, line, 0);
            }
            assembler.finish(at(0), &mut LineScratch::default());
            assembler.cut().map_or(Vec::new(), |batch| texts(Some(&batch)).iter().map(|text| (*text).to_owned()).collect())
        };
        let mut store = Store::default();
        let mut next = 0;
        let mut current = assembler(None);
        let mut unsent: Vec<Batch> = Vec::new();
        let mut last_end = Position::ZERO;
        for (n_lines, crashes, n_stored) in events {
            for line in lines.iter().skip(next).take(n_lines) {
                feed(&mut current, line, 0);
            }
            next = (next + n_lines).min(lines.len());
            if let Some(batch) = current.cut() {
                prop_assert!(batch.start == last_end && batch.end > batch.start);
                last_end = batch.end;
                unsent.push(batch);
            }
            for batch in unsent.drain(..n_stored.min(unsent.len())) {
                prop_assert!(store.write(&batch));
            }
            if crashes {
                unsent.clear();
                let end = store.end.unwrap_or_default();
                // The place the mark names, as a reader of the file finds it.
                let mut running = ResumeMark::default();
                next = if end.mark.n_lines == 0 { 0 } else {
                    1 + lines.iter().position(|line| {
                        let time = line.split(' ').next().and_then(|time| Timestamp::parse_rfc3339(time.as_bytes())).unwrap();
                        running = running.after_line(time);
                        running == end.mark
                    }).unwrap()
                };
                current = assembler(store.end);
                last_end = end.end;
            }
        }
        for line in &lines[next..] {
            feed(&mut current, line, 0);
        }
        current.finish(at(0), &mut LineScratch::default());
        unsent.extend(current.cut());
        for batch in &unsent {
            prop_assert!(store.write(batch));
        }
        prop_assert_eq!(store.texts, reference);
    }
}
