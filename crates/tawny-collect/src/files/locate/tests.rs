//! Marks are found by content, over generations plain and compressed.

use std::io::{Seek as _, Write as _};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::*;

const MAX_LINE: usize = 1 << 20;

fn plain(text: &[u8]) -> Content {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text).unwrap();
    Content::new(file, false)
}

fn gz(text: &[u8]) -> Content {
    let mut encoder = GzEncoder::new(tempfile::tempfile().unwrap(), Compression::fast());
    encoder.write_all(text).unwrap();
    let mut file = encoder.finish().unwrap();
    file.rewind().unwrap();
    Content::new(file, true)
}

fn find(generations: &mut [Content], mark: ResumeMark) -> Found {
    let mut generations: Vec<_> = generations.iter_mut().map(Some).collect();
    locate(&mut generations, mark, MAX_LINE, &mut vec![0; 64 << 10])
}

fn cri(nanos: i64, text: &str) -> String {
    format!("{} stdout F {text}\n", Timestamp::from_nanos(nanos))
}

fn mark(nanos: i64, n_lines: u32) -> ResumeMark {
    ResumeMark {
        timestamp: Timestamp::from_nanos(nanos),
        n_lines,
    }
}

fn at(generation: usize, offset: usize) -> Place {
    Place {
        generation,
        offset: offset as u64,
    }
}

#[test]
fn the_start_needs_no_mark() {
    let mut generations = [plain(cri(1, "a").as_bytes())];
    assert_eq!(
        find(&mut generations, ResumeMark::default()),
        Found::Mark(at(0, 0))
    );
}

#[test]
fn behind_a_gap_the_place_is_the_first_younger_line() {
    let (first, second) = ([cri(1, "a"), cri(5, "b")].concat(), cri(7, "c"));
    let mut generations = [plain(first.as_bytes()), gz(second.as_bytes())];
    let mut place = |nanos| find(&mut generations, mark(nanos, 0));
    assert_eq!(place(3), Found::Mark(at(0, cri(1, "a").len())));
    assert_eq!(place(5), Found::Mark(at(1, 0)));
    assert_eq!(
        place(9),
        Found::Mark(at(1, second.len())),
        "nothing is read twice"
    );
}

#[test]
fn lines_of_one_instant_are_counted_across_files() {
    let first = [cri(1, "a"), cri(5, "b"), cri(5, "c")].concat();
    let second = [cri(5, "d"), cri(5, "e"), cri(9, "f")].concat();
    for pack in [plain, gz] {
        let mut generations = [pack(first.as_bytes()), plain(second.as_bytes())];
        let line = cri(5, "d").len();
        assert_eq!(
            find(&mut generations, mark(5, 1)),
            Found::Mark(at(0, 2 * line))
        );
        assert_eq!(
            find(&mut generations, mark(5, 2)),
            Found::Mark(at(0, 3 * line))
        );
        assert_eq!(find(&mut generations, mark(5, 3)), Found::Mark(at(1, line)));
        assert_eq!(
            find(&mut generations, mark(9, 1)),
            Found::Mark(at(1, 3 * line))
        );
        assert_eq!(
            find(&mut generations, mark(5, 5)),
            Found::Gone(at(1, 2 * line))
        );
        assert_eq!(find(&mut generations, mark(4, 1)), Found::Gone(at(0, line)));
    }
}

#[test]
fn a_mark_rotated_away_goes_on_with_the_oldest_line() {
    let mut generations = [gz(cri(10, "a").as_bytes()), plain(cri(11, "b").as_bytes())];
    assert_eq!(find(&mut generations, mark(9, 4)), Found::Gone(at(0, 0)));
    assert_eq!(find(&mut [], mark(9, 4)), Found::Gone(at(0, 0)));
}

#[test]
fn a_mark_at_the_end_of_a_torn_line_is_found() {
    let text = format!("{}{}", cri(1, "a"), cri(2, "torn").trim_end());
    let mut generations = [plain(text.as_bytes())];
    assert_eq!(
        find(&mut generations, mark(2, 1)),
        Found::Mark(at(0, text.len()))
    );
}

#[test]
fn behind_a_gap_record_the_first_younger_line_is_next() {
    let mut generations = [
        gz(cri(1, "a").as_bytes()),
        plain([cri(2, "b"), cri(3, "c")].concat().as_bytes()),
    ];
    assert_eq!(
        find(&mut generations, mark(2, 0)),
        Found::Mark(at(1, cri(2, "b").len()))
    );
    assert_eq!(find(&mut generations, mark(-1, 0)), Found::Mark(at(0, 0)));
    assert_eq!(
        find(&mut generations, mark(3, 0)),
        Found::Mark(at(1, 2 * cri(2, "b").len()))
    );
}

#[test]
fn unreadable_generations_count_as_empty() {
    let damaged = Content::new(
        {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"no gzip").unwrap();
            file.rewind().unwrap();
            file
        },
        true,
    );
    let mut generations = [
        damaged,
        plain([cri(1, "a"), cri(2, "b")].concat().as_bytes()),
    ];
    assert_eq!(
        find(&mut generations, mark(1, 1)),
        Found::Mark(at(1, cri(1, "a").len()))
    );
}

#[test]
fn a_run_of_one_instant_longer_than_the_slack_is_counted_from_its_start() {
    let filler = "x".repeat(2000);
    let mut text = cri(1, "first");
    let run_start = text.len();
    for n in 0..100 {
        // One line in the middle is out of order.
        text.push_str(&cri(if n == 60 { 4 } else { 5 }, &filler));
    }
    let line = cri(5, &filler).len();
    let mut generations = [plain(text.as_bytes())];
    assert_eq!(
        find(&mut generations, mark(5, 50)),
        Found::Mark(at(0, run_start + 50 * line))
    );
}

#[test]
fn a_mark_a_little_older_than_the_oldest_line_is_found() {
    let text = [
        cri(5, "stdout"),
        cri(4, "stderr, stamped before"),
        cri(6, "c"),
    ]
    .concat();
    let mut generations = [plain(text.as_bytes())];
    let place = at(0, text.len() - cri(6, "c").len());
    assert_eq!(find(&mut generations, mark(4, 1)), Found::Mark(place));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Behind every line there is a mark, and it leads back there, whatever the order of times within some slack.
    #[test]
    fn every_line_is_found_by_its_mark(
        gaps in proptest::collection::vec(0i64..3, 1..400), jitter in 0i64..3, wide: bool,
        files in proptest::collection::vec(any::<(prop::sample::Index, bool)>(), 0..4), pick: prop::sample::Index) {
        let filler = if wide { "x".repeat(2000) } else { String::new() };
        let mut time = 0;
        let mut lines = Vec::new();
        for (idx, gap) in gaps.iter().enumerate() {
            time += gap * 10;
            // Once in a while a line is stamped a little before the one in front of it, or is no log line at all.
            lines.push(match idx % 7 {
                3 => (Some(time - jitter), cri(time - jitter, &filler)),
                5 => (None, "no log line\n".to_owned()),
                _ => (Some(time), cri(time, &filler)),
            });
        }
        let mut cuts: Vec<_> = files.iter().map(|(at, is_gz)| (at.index(lines.len()), *is_gz)).collect();
        cuts.sort_unstable();
        cuts.push((lines.len(), false));
        let mut generations = Vec::new();
        let mut places = Vec::new();
        let mut running = ResumeMark::default();
        let mut start = 0;
        for (cut, is_gz) in cuts {
            let mut text = String::new();
            for (time, line) in &lines[start..cut] {
                text.push_str(line);
                running = running.after_line(time.map_or(running.timestamp, Timestamp::from_nanos));
                places.push((running, at(generations.len(), text.len())));
            }
            generations.push(if is_gz { gz(text.as_bytes()) } else { plain(text.as_bytes()) });
            start = cut;
        }
        let (wanted, place) = places[pick.index(places.len())];
        // Two runs of lines may carry the same time and count where times go back; the first is as good by its mark.
        let is_unique = places.iter().filter(|(mark, _)| *mark == wanted).count() == 1;
        let found = find(&mut generations, wanted);
        if is_unique {
            prop_assert_eq!(found, Found::Mark(place));
        } else {
            prop_assert!(matches!(found, Found::Mark(_)));
        }
    }
}
