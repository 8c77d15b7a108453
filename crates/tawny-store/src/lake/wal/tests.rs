use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use proptest::prelude::*;
use tawny_model::{
    Entries, EntryId, Output, Position, ResumeMark, Severity, Stream, StreamEnd, StreamId,
    Timestamp, Workload,
};

use super::{
    Change, Replayed, Report, Wal,
    disk::RealDisk,
    file::{FORMAT, HEADER_BYTES, Header},
    fuzzing,
    record::{Described, Descriptions},
    replay::Replay,
    replay::ReplayedGroup,
};
use crate::{Error, lake::rows::HotRows};

mod faults;
mod speed;

/// A change, owned, to write and to compare.
#[derive(Debug, Clone, PartialEq)]
enum Plain {
    Rows {
        stream: Arc<Stream>,
        rows: Vec<Row>,
        end: Option<StreamEnd>,
    },
    End {
        stream: Arc<Stream>,
        end: StreamEnd,
    },
    Forget(Vec<StreamId>),
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    ns: i64,
    id: i64,
    severity: Severity,
    output: Output,
    message: String,
    attributes: Vec<(String, String)>,
}

/// Rows as the store holds them, with `n_old` rows in front that had been stored before.
fn hot(stream: &Arc<Stream>, rows: &[Row], n_old: usize) -> HotRows {
    let mut entries = Entries::default();
    for row in rows.iter().cycle().take(n_old).chain(rows) {
        let attributes = row.attributes.iter();
        entries
            .push(
                Timestamp::from_nanos(row.ns),
                row.severity,
                row.output,
                &row.message,
                attributes.map(|(key, value)| (key.as_str(), value.as_str())),
                Position(9),
            )
            .unwrap();
    }
    let new = entries.len() - rows.len()..entries.len();
    let ids = rows.iter().map(|row| EntryId(row.id)).collect();
    HotRows::new(Arc::clone(stream), entries, new, ids)
}

fn plain(replayed: Replayed) -> Plain {
    match replayed {
        Replayed::Rows { rows, end } => {
            assert_eq!(rows.new, 0..rows.entries.len());
            assert_eq!(rows.ids.len(), rows.entries.len());
            let read: Vec<Row> = rows
                .entries
                .iter()
                .zip(&rows.ids)
                .map(|(row, id)| Row {
                    ns: row.timestamp().as_nanos(),
                    id: id.0,
                    severity: row.severity(),
                    output: row.output(),
                    message: row.message().to_owned(),
                    attributes: row
                        .attributes()
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .collect(),
                })
                .collect();
            let expected = hot(&rows.stream, &read, 0);
            assert_eq!((rows.first, rows.last), (expected.first, expected.last));
            Plain::Rows {
                stream: rows.stream,
                rows: read,
                end,
            }
        }
        Replayed::End { stream, end } => Plain::End { stream, end },
        Replayed::Forget { streams } => Plain::Forget(streams),
    }
}

type Group = Vec<Plain>;

/// Transactions with their sequence numbers.
type Groups = Vec<(u64, Group)>;

fn append(wal: &mut Wal, group: &[Plain]) -> Result<u64, Error> {
    let hots: Vec<Option<HotRows>> = group
        .iter()
        .map(|change| match change {
            Plain::Rows { stream, rows, .. } => Some(hot(stream, rows, rows.len().min(2))),
            _ => None,
        })
        .collect();
    let changes: Vec<Change<'_>> = group
        .iter()
        .zip(&hots)
        .map(|(change, rows)| match (change, rows) {
            (Plain::Rows { end, .. }, Some(rows)) => Change::Rows { rows, end: *end },
            (Plain::End { stream, end }, _) => Change::End { stream, end: *end },
            (Plain::Forget(streams), _) => Change::Forget { streams },
            (Plain::Rows { .. }, None) => unreachable!("rows were made for it"),
        })
        .collect();
    wal.append(&changes)
}

fn stream(number: u32, labels: &[(&str, &str)]) -> Arc<Stream> {
    let id = StreamId {
        cluster: "".into(),
        pod_uid: format!("uid-{number}").into(),
        container: "app".into(),
        restart: number,
    };
    let mut stream = Stream::new(id, "default", format!("pod-{number}"));
    stream.labels = labels
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect();
    if number % 2 == 1 {
        stream.node = "node".into();
        stream.image = "image:1".into();
        stream.workload = Some(Workload {
            kind: "Deployment".into(),
            name: "name".into(),
        });
    }
    Arc::new(stream)
}

fn end(position: u64) -> StreamEnd {
    StreamEnd {
        end: Position(position),
        mark: ResumeMark {
            timestamp: Timestamp::from_nanos(-3),
            n_lines: 7,
        },
    }
}

fn row(ns: i64, message: &str) -> Row {
    Row {
        ns,
        id: EntryId::first_at(Timestamp::from_nanos(ns)).0 + 77,
        severity: Severity::Warn,
        output: Output::Stderr,
        message: message.to_owned(),
        attributes: vec![("k".to_owned(), format!("v {ns}"))],
    }
}

/// One line of stream `number`, told apart by `tag`.
fn line(number: u32, tag: u64) -> Group {
    vec![Plain::Rows {
        stream: stream(number, &[("app", "a")]),
        rows: vec![row(i64::try_from(tag).unwrap(), &format!("line {tag}"))],
        end: Some(end(tag)),
    }]
}

fn read_all(mut replay: Replay) -> Result<(Groups, Wal, Report), Error> {
    let mut read = Vec::new();
    while let Some(ReplayedGroup { seq, changes }) = replay.next()? {
        read.push((seq, changes.into_iter().map(plain).collect()));
    }
    let (wal, report) = replay.finish()?;
    Ok((read, wal, report))
}

fn reopen(directory: &Path, applied: u64) -> (Groups, Wal, Report) {
    read_all(Wal::open(directory, applied).unwrap()).unwrap()
}

/// Writes groups, one commit for each list; answers what a replay gives.
fn write(wal: &mut Wal, commits: &[Vec<Group>]) -> Groups {
    let mut written = Vec::new();
    for commit in commits {
        for group in commit {
            written.push((append(wal, group).unwrap(), group.clone()));
        }
        wal.commit().unwrap();
    }
    written
}

fn log_files(directory: &Path) -> Vec<PathBuf> {
    files(directory, "wal")
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn n_records(n: u64) -> Report {
    Report {
        n_records: n,
        ..Report::default()
    }
}

#[test]
fn every_kind_of_change_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let (read, mut wal, report) = reopen(directory.path(), 0);
    assert_eq!((read.len(), report, wal.committed()), (0, n_records(0), 0));
    assert_eq!(log_files(directory.path()).len(), 0, "created when needed");
    let one = stream(1, &[("app", "a"), ("tier", "")]);
    let same_again = Arc::new((*one).clone());
    let relabelled = stream(1, &[("app", "b")]);
    let rows = vec![
        row(5, "first"),
        Row {
            id: i64::MIN,
            severity: Severity::Fatal,
            output: Output::Stdout,
            attributes: vec![],
            ..row(i64::MIN, "")
        },
        Row {
            id: i64::MAX,
            attributes: vec![
                ("b".to_owned(), "ü\0".to_owned()),
                ("a".to_owned(), String::new()),
                ("b".to_owned(), "again".to_owned()),
            ],
            ..row(i64::MAX, "\u{1b}[31mred\u{1b}[0m")
        },
    ];
    let rows_of = |stream: &Arc<Stream>, end| Plain::Rows {
        stream: Arc::clone(stream),
        rows: rows.clone(),
        end,
    };
    let written = write(
        &mut wal,
        &[
            vec![vec![
                rows_of(&one, Some(end(u64::MAX))),
                rows_of(&one, None),
            ]],
            vec![
                vec![],
                vec![
                    Plain::End {
                        stream: same_again,
                        end: end(0),
                    },
                    rows_of(&relabelled, None),
                    Plain::Forget(vec![one.id.clone(), stream(2, &[]).id.clone()]),
                ],
            ],
            vec![vec![rows_of(&relabelled, None), Plain::Forget(vec![])]],
        ],
    );
    assert_eq!(wal.committed(), 4);
    let len_bytes = wal.len_bytes();
    drop(wal);
    let (read, wal, report) = reopen(directory.path(), 0);
    assert_eq!(read, written);
    assert_eq!(report, n_records(4));
    assert_eq!(wal.len_bytes(), len_bytes);
    let on_disk = fs::metadata(&log_files(directory.path())[0]).unwrap().len();
    assert_eq!(len_bytes, on_disk);
}

#[test]
fn applied_records_are_not_replayed_and_their_files_go() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = reopen(directory.path(), 0);
    let mut written = write(&mut wal, &[vec![line(1, 1)], vec![line(1, 2)]]);
    assert_eq!(wal.rotate().unwrap(), 2);
    assert_eq!(wal.rotate().unwrap(), 2, "nothing to rotate is no error");
    written.extend(write(&mut wal, &[vec![line(1, 3)], vec![line(1, 4)]]));
    drop(wal);
    for applied in [0, 1] {
        let (read, _, _) = reopen(directory.path(), applied);
        assert_eq!(read[..], written[usize::try_from(applied).unwrap()..]);
        assert_eq!(log_files(directory.path()).len(), 2);
    }
    // The description of the stream is in an applied record.
    let (read, _, _) = reopen(directory.path(), 3);
    assert_eq!(read[..], written[3..]);
    assert_eq!(log_files(directory.path()).len(), 1);
    let (read, wal, report) = reopen(directory.path(), 4);
    assert_eq!((read, report), (vec![], n_records(0)));
    assert_eq!((wal.len_bytes(), wal.committed()), (0, 4));
    assert_eq!(log_files(directory.path()).len(), 0);
}

#[test]
fn files_are_removed_once_all_they_hold_is_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = reopen(directory.path(), 0);
    for tag in 1..=6 {
        write(&mut wal, &[vec![line(1, tag)]]);
        if tag % 2 == 0 {
            wal.rotate().unwrap();
        }
    }
    write(&mut wal, &[vec![line(1, 7)]]);
    for (through, n_files) in [(1, 4), (2, 3), (3, 3), (6, 1), (7, 1)] {
        wal.remove_through(through).unwrap();
        assert_eq!(log_files(directory.path()).len(), n_files, "{through}");
        let on_disk: u64 = log_files(directory.path())
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum();
        assert_eq!(wal.len_bytes(), on_disk);
    }
}

#[test]
fn tail_torn_at_any_byte_is_cut_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = reopen(directory.path(), 0);
    let written = write(&mut wal, &[vec![line(1, 1)], vec![line(2, 2)]]);
    let before_last = wal.len_bytes();
    write(&mut wal, &[vec![line(1, 3)]]);
    drop(wal);
    let path = log_files(directory.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    for len in usize::try_from(before_last).unwrap()..whole.len() {
        for n_zeros in [0, 1, 5_000] {
            let mut torn = whole[..len].to_vec();
            torn.resize(len + n_zeros, 0);
            if torn == whole {
                continue;
            }
            fs::write(&path, &torn).unwrap();
            let (read, mut wal, report) = reopen(directory.path(), 0);
            assert_eq!(read, written, "{len}+{n_zeros}");
            let cut_bytes = torn.len() as u64 - before_last;
            assert_eq!(
                report,
                Report {
                    cut_bytes,
                    ..n_records(2)
                }
            );
            assert_eq!(wal.len_bytes(), before_last);
            assert_eq!(fs::metadata(&path).unwrap().len(), before_last);
            // What is written next follows, and the second start finds nothing to mend.
            let mut all = written.clone();
            all.extend(write(&mut wal, &[vec![line(1, 4)]]));
            drop(wal);
            let (read, _, report) = reopen(directory.path(), 0);
            assert_eq!((read, report), (all, n_records(3)));
            fs::remove_file(&log_files(directory.path())[1]).unwrap();
        }
    }
    assert_eq!(files(directory.path(), "damaged").len(), 0);
}

#[test]
fn file_torn_while_it_was_created_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = reopen(directory.path(), 0);
    let written = write(&mut wal, &[vec![line(1, 1)]]);
    wal.rotate().unwrap();
    write(&mut wal, &[vec![line(1, 2)]]);
    drop(wal);
    let path = log_files(directory.path()).remove(1);
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        let zeroed = vec![0; len];
        for torn in [&whole[..len], &zeroed] {
            fs::write(&path, torn).unwrap();
            let (read, wal, report) = reopen(directory.path(), 0);
            assert_eq!(read, written, "{len}");
            let has_header = torn.len() >= HEADER_BYTES && torn[0] != 0;
            let kept = if has_header { HEADER_BYTES } else { 0 };
            assert_eq!(path.exists(), has_header);
            assert_eq!(report.cut_bytes, (len - kept) as u64);
            assert_eq!((report.n_damaged, report.n_lost), (0, 0));
            assert!(wal.next_seq >= 2, "{len}");
        }
    }
}

/// Five records: one commit of one, one of three, one of one; all in one file or in two.
fn small_log(directory: &Path, is_split: bool) -> Groups {
    let (_, mut wal, _) = reopen(directory, 0);
    let mut written = write(&mut wal, &[vec![line(1, 1)]]);
    written.extend(write(&mut wal, &[vec![line(2, 2), line(1, 3), line(2, 4)]]));
    if is_split {
        wal.rotate().unwrap();
    }
    written.extend(write(&mut wal, &[vec![line(1, 5)]]));
    written
}

#[test]
fn flipped_byte_costs_at_most_its_record_and_those_it_describes() {
    for is_split in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let written = small_log(directory.path(), is_split);
        let paths = log_files(directory.path());
        assert_eq!(paths.len(), if is_split { 2 } else { 1 });
        for (file_idx, path) in paths.iter().enumerate() {
            let whole = fs::read(path).unwrap();
            for at in 0..whole.len() {
                for mask in [0x01, 0x80, 0xff] {
                    let mut flipped = whole.clone();
                    flipped[at] ^= mask;
                    fs::write(path, &flipped).unwrap();
                    let case = format!("split {is_split}, file {file_idx}, byte {at}, {mask:#x}");
                    let (read, _, report) = reopen(directory.path(), 0);
                    let seqs: BTreeSet<u64> = read.iter().map(|(seq, _)| *seq).collect();
                    let is_last = !is_split || file_idx == 1;
                    assert!(seqs.len() >= 4, "{case}: {seqs:?}");
                    assert!(read.is_sorted_by_key(|(seq, _)| *seq), "{case}");
                    for (seq, group) in &read {
                        let original = &written[usize::try_from(*seq).unwrap() - 1];
                        // Of a stream whose description was hit the numbered changes are left out.
                        assert!(group == &original.1 || group.is_empty(), "{case}");
                    }
                    let n_empty = read.iter().filter(|(_, group)| group.is_empty()).count();
                    assert_eq!(report.n_nameless, n_empty as u64, "{case}");
                    let n_missing = 5 - read.len() as u64;
                    if report.cut_bytes > 0 {
                        // The last commit, which nothing proves to have been acknowledged.
                        assert!(is_last && n_missing == 1 && !seqs.contains(&5), "{case}");
                        assert_eq!((report.n_lost, report.n_damaged), (0, 0), "{case}");
                    } else {
                        assert_eq!((report.n_lost, report.n_damaged), (n_missing, 1), "{case}");
                        let kept = files(directory.path(), "damaged").remove(0);
                        assert!(fs::metadata(&kept).unwrap().len() >= 1);
                        fs::remove_file(kept).unwrap();
                    }
                }
            }
            fs::write(path, &whole).unwrap();
        }
        let (read, _, report) = reopen(directory.path(), 0);
        assert_eq!((read, report), (written, n_records(5)));
    }
}

#[test]
fn commit_that_lost_its_beginning_is_cut_whole_unless_a_later_one_proves_it() {
    // The system wrote the pages of the commit out of order before the power went.
    for n_later in 0..2 {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut wal, _) = reopen(directory.path(), 0);
        let mut written = write(&mut wal, &[vec![line(1, 1)]]);
        let start = usize::try_from(wal.len_bytes()).unwrap();
        written.extend(write(&mut wal, &[vec![line(2, 2), line(3, 3), line(4, 4)]]));
        for tag in 0..n_later {
            written.extend(write(&mut wal, &[vec![line(4, 5 + tag)]]));
        }
        drop(wal);
        let path = log_files(directory.path()).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        bytes[start..start + 40].fill(0);
        let len_bytes = bytes.len();
        fs::write(&path, bytes).unwrap();
        let (read, _, report) = reopen(directory.path(), 0);
        if n_later == 0 {
            assert_eq!(read[..], written[..1]);
            let cut_bytes = (len_bytes - start) as u64;
            assert_eq!(
                report,
                Report {
                    cut_bytes,
                    ..n_records(1)
                }
            );
        } else {
            written.remove(1);
            assert_eq!(read, written);
            assert_eq!((report.n_lost, report.n_damaged), (1, 1));
        }
    }
}

#[test]
fn lost_file_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = reopen(directory.path(), 0);
    for tag in 0..6 {
        write(&mut wal, &[vec![line(1, tag)]]);
        if tag % 2 == 1 {
            wal.rotate().unwrap();
        }
    }
    drop(wal);
    fs::remove_file(&log_files(directory.path())[1]).unwrap();
    let (read, _, report) = reopen(directory.path(), 1);
    assert_eq!(
        read.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
        [2, 5, 6]
    );
    assert_eq!(
        report,
        Report {
            n_lost: 2,
            ..n_records(3)
        }
    );
}

#[test]
fn stream_is_described_again_before_much_depends_on_one_description() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = reopen(directory.path(), 0);
    let first = write(&mut wal, &[vec![line(1, 1)]]);
    let first_len = usize::try_from(wal.len_bytes()).unwrap() - HEADER_BYTES;
    let written = write(
        &mut wal,
        &(2..1_000).map(|tag| vec![line(1, tag)]).collect::<Vec<_>>(),
    );
    drop(wal);
    let path = log_files(directory.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[HEADER_BYTES + 40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (read, _, report) = reopen(directory.path(), 0);
    assert_eq!(first.len(), 1);
    assert_eq!((report.n_lost, report.n_records), (1, 998));
    let n_nameless = usize::try_from(report.n_nameless).unwrap();
    assert!(
        n_nameless > 0 && n_nameless < 64 * first_len / 40,
        "{n_nameless}"
    );
    assert_eq!(read[n_nameless..], written[n_nameless..]);
    let n_described = bytes.windows(5).filter(|bytes| bytes == b"pod-1").count();
    assert!((2..60).contains(&n_described), "{n_described}");
}

#[test]
fn transaction_too_long_is_refused_and_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut wal, _) = reopen(directory.path(), 0);
    wal.max_body_bytes = 200;
    let long: Group = (0..5).flat_map(|tag| line(tag, u64::from(tag))).collect();
    assert!(matches!(
        append(&mut wal, &long),
        Err(Error::Invalid { .. })
    ));
    let first = append(&mut wal, &line(1, 1)).unwrap();
    assert!(matches!(
        append(&mut wal, &long),
        Err(Error::Invalid { .. })
    ));
    let second = append(&mut wal, &line(2, 2)).unwrap();
    wal.commit().unwrap();
    let (read, _, report) = reopen(directory.path(), 0);
    assert_eq!(read, [(first, line(1, 1)), (second, line(2, 2))]);
    assert_eq!(report, n_records(2));
}

#[test]
fn what_is_no_log_of_ours_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = Wal::open(directory.path(), 0)
            .and_then(read_all)
            .unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
        fs::remove_file(&path).unwrap();
        (error, path)
    };
    let first = "00000000000000000001.wal";
    let header = Header {
        version: FORMAT,
        first_seq: 1,
        committed: 0,
    };
    for (name, bytes) in [
        ("1.wal", &header.to_bytes()[..]),
        ("00000000000000000000.wal", &header.to_bytes()),
        ("99999999999999999999.wal", &header.to_bytes()),
        // Renamed.
        ("00000000000000000002.wal", &header.to_bytes()),
        (first, b"short"),
        (first, &b"SQLite format 3\0".repeat(100)),
    ] {
        let (error, path) = open(name, bytes);
        assert!(
            matches!(&error, Error::NotAStore { path: named, .. } if *named == path),
            "{name}: {error:?}"
        );
    }
    let newer = Header {
        version: FORMAT + 1,
        ..header
    };
    let (error, path) = open(first, &newer.to_bytes());
    assert!(
        matches!(&error, Error::Newer { path: named, found, supported } if *named == path && *found == FORMAT + 1 && *supported == FORMAT),
        "{error:?}"
    );
    // Not named like a log: nobody's business.
    fs::write(directory.path().join("notes.txt"), "x").unwrap();
    reopen(directory.path(), 0);
}

fn any_row() -> impl Strategy<Value = Row> {
    (
        prop_oneof![0..5_000i64, any::<i64>()],
        prop_oneof![Just(None), any::<i64>().prop_map(Some)],
        0..7u8,
        any::<bool>(),
        ".{0,30}",
        prop::collection::vec(("[a-c]{0,2}", ".{0,5}"), 0..4),
    )
        .prop_map(|(ns, id, severity, is_stderr, message, attributes)| Row {
            ns,
            id: id.unwrap_or_else(|| row(ns, "").id),
            severity: Severity::from_number(severity).unwrap(),
            output: if is_stderr {
                Output::Stderr
            } else {
                Output::Stdout
            },
            message,
            attributes,
        })
}

fn any_change() -> impl Strategy<Value = Plain> {
    let any_stream = || (0..5u32, "[ab]").prop_map(|(n, label)| stream(n, &[("l", &label)]));
    let any_end = || {
        (any::<u64>(), any::<i64>(), any::<u32>()).prop_map(|(position, ns, n_lines)| StreamEnd {
            end: Position(position),
            mark: ResumeMark {
                timestamp: Timestamp::from_nanos(ns),
                n_lines,
            },
        })
    };
    prop_oneof![
        4 => (any_stream(), prop::collection::vec(any_row(), 0..6), prop::option::of(any_end()))
            .prop_map(|(stream, rows, end)| Plain::Rows { stream, rows, end }),
        1 => (any_stream(), any_end()).prop_map(|(stream, end)| Plain::End { stream, end }),
        1 => prop::collection::vec(any_stream().prop_map(|stream| stream.id.clone()), 0..3)
            .prop_map(Plain::Forget),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Group>),
    Rotate,
    /// As far as this share of what is committed, in 256ths.
    RemoveThrough(u8),
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let groups = prop::collection::vec(prop::collection::vec(any_change(), 0..4), 0..4);
    prop_oneof![
        5 => groups.prop_map(Step::Commit),
        2 => Just(Step::Rotate),
        1 => any::<u8>().prop_map(Step::RemoveThrough),
        2 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn log_replays_what_was_committed(steps in prop::collection::vec(any_step(), 0..25)) {
        let directory = tempfile::tempdir().unwrap();
        let (_, mut wal, _) = reopen(directory.path(), 0);
        let mut model: Groups = Vec::new();
        let (mut applied, mut last_seq) = (0, 0);
        for step in steps.into_iter().chain([Step::Reopen]) {
            match step {
                Step::Commit(groups) => {
                    for (seq, group) in write(&mut wal, &[groups]) {
                        prop_assert!(seq > last_seq, "never used again");
                        last_seq = seq;
                        model.push((seq, group));
                    }
                }
                Step::Rotate => prop_assert_eq!(wal.rotate().unwrap(), last_seq),
                Step::RemoveThrough(share) => {
                    applied = applied.max(last_seq * u64::from(share) / 256);
                    wal.remove_through(applied).unwrap();
                    model.retain(|(seq, _)| *seq > applied);
                }
                Step::Reopen => {
                    drop(wal);
                    let (read, reopened, report) = reopen(directory.path(), applied);
                    prop_assert_eq!(&read, &model);
                    prop_assert_eq!(report, n_records(model.len() as u64));
                    prop_assert_eq!(reopened.committed(), last_seq);
                    wal = reopened;
                }
            }
        }
    }

    #[test]
    fn any_bytes_as_a_body_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _decoded = Descriptions::default().decode(&bytes);
    }

    #[test]
    fn body_with_any_byte_changed_is_survived(
        group in prop::collection::vec(any_change(), 1..4), at: prop::sample::Index, byte: u8, is_cut: bool) {
        let directory = tempfile::tempdir().unwrap();
        let mut wal = reopen(directory.path(), 0).1;
        append(&mut wal, &group).unwrap();
        let mut body = wal.buffer.split_off(HEADER_BYTES + super::RECORD_HEAD_BYTES);
        let at = at.index(body.len());
        if is_cut {
            body.truncate(at);
            if let Ok(decoded) = Descriptions::default().decode(&body) {
                // It was cut between two changes.
                let changes: Group = decoded.changes.into_iter().map(plain).collect();
                prop_assert!(group.starts_with(&changes));
            }
        } else {
            body[at] = byte;
            let _decoded = Descriptions::default().decode(&body);
        }
    }

    #[test]
    fn file_of_any_bodies_with_any_bytes_changed_is_survived(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..4),
        junk in prop::option::of((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..40)))) {
        let directory = tempfile::tempdir().unwrap();
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let whole = fuzzing::log_file(&bodies);
        let mut bytes = whole.clone();
        for (at, mask) in &flips {
            bytes[at.index(whole.len())] ^= mask;
        }
        if let Some((at, junk)) = junk {
            let at = at.index(whole.len());
            bytes.splice(at..at, junk);
        }
        // A damaged magic with no record behind it is refused.
        if let Ok((seqs, n_places)) = fuzzing::replay_file(directory.path(), &bytes) {
            prop_assert!(seqs.is_sorted() && seqs.iter().all(|seq| (1..=bodies.len() as u64).contains(seq)));
            prop_assert!(seqs.len() == bodies.len() || n_places > 0);
        }
    }
}
