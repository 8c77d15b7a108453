//! Admission, durability, append, hand-off to subscribers.

use std::{collections::BTreeMap, sync::Arc};

use tawny_model::{
    LogEntry, Output, Position, Remedy, ResumeMark, Severity, Stream, StreamEnd, Timestamp,
    Workload, WriterId,
};
use tokio::task::JoinSet;

use super::{Feed, Line, Place, T0, feed::messages, filter, newest, search_all, stream, times};
use crate::{LogStore, Written, limits::MAX_MESSAGE_BYTES};

/// KL-15: read-your-writes, without a flush.
pub async fn what_was_written_is_found_at_once(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    for round in 0..20 {
        feed.write(&*store, [Line::at(round, format!("round {round}"))])
            .await;
        let found = search_all(&*store, &format!("\"round {round}\"")).await;
        assert_eq!(times(&found), [round]);
    }
    assert_eq!(store.count(&filter("")).await.unwrap(), 20);
}

pub async fn entry_comes_back_exactly_as_it_was_written(place: &impl Place) {
    let store = place.open().await;
    let stream = Arc::new(Stream {
        node: "node-1".into(),
        image: "registry/api:1.2".into(),
        workload: Some(Workload {
            kind: "Deployment".into(),
            name: "api".into(),
        }),
        labels: BTreeMap::from([("app".into(), "api".into()), ("tier".into(), "".into())]),
        ..(*stream("api-1")).clone()
    });
    let mut line = Line::at(123_456_789, "GET /\tpath  200")
        .severity(Severity::Fatal)
        .with("status", "200");
    line.output = Output::Stderr;
    Feed::of(Arc::clone(&stream))
        .write(&*store, [line.clone()])
        .await;
    let found = search_all(&*store, "").await;
    let expected = LogEntry {
        id: found[0].id,
        ..line.entry(&stream)
    };
    assert_eq!(found, [expected]);
}

pub async fn repeated_batch_is_stored_once(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    let batch = feed.batch([Line::at(1, "one"), Line::at(2, "two")]);
    let written = store
        .write(vec![batch.clone(), batch.clone()])
        .await
        .unwrap();
    let end = batch.end;
    assert_eq!(
        written,
        [Written::New { end, n_new: 2 }, Written::Duplicate { end }]
    );
    let written = store.write(vec![batch]).await.unwrap();
    assert_eq!(written, [Written::Duplicate { end }]);
    assert_eq!(times(&search_all(&*store, "").await), [1, 2]);
}

pub async fn overlapping_batch_is_trimmed(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    let lines = |range: std::ops::Range<i64>| range.map(|n| Line::at(n, format!("line {n}")));
    let mut again = feed.clone();
    feed.write(&*store, lines(0..4)).await;
    let batch = again.batch(lines(0..7));
    let written = store.write(vec![batch.clone()]).await.unwrap();
    assert_eq!(
        written,
        [Written::New {
            end: batch.end,
            n_new: 3
        }]
    );
    assert_eq!(
        times(&search_all(&*store, "").await),
        (0..7).collect::<Vec<_>>()
    );
}

pub async fn batch_behind_a_hole_is_refused_and_names_the_end(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    feed.write(&*store, [Line::at(0, "one")]).await;
    let committed = feed.position;
    let lost = feed.batch([Line::at(1, "lost")]);
    let next = feed.batch([Line::at(2, "next")]);
    let written = store.write(vec![next.clone()]).await.unwrap();
    assert_eq!(written, [Written::Gap { committed }]);
    assert_eq!(times(&search_all(&*store, "").await), [0]);
    store.write(vec![lost, next]).await.unwrap();
    assert_eq!(times(&search_all(&*store, "").await), [0, 1, 2]);

    let mut other = Feed::new("web");
    other.position = Position(10);
    let written = store
        .write(vec![other.batch([Line::at(0, "x")])])
        .await
        .unwrap();
    assert_eq!(
        written,
        [Written::Gap {
            committed: Position::ZERO
        }],
        "never seen"
    );
}

pub async fn replaced_writer_is_fenced_and_may_resume(place: &impl Place) {
    let store = place.open().await;
    let mut old = Feed::new("api");
    let id = old.stream.id.clone();
    store
        .resume(old.writer, std::slice::from_ref(&id))
        .await
        .unwrap();
    old.write(&*store, [Line::at(0, "one")]).await;
    let mut new = Feed {
        writer: WriterId(2),
        ..old.clone()
    };
    let ends = store
        .resume(new.writer, std::slice::from_ref(&id))
        .await
        .unwrap();
    assert_eq!(ends[0].map(|end| end.end), Some(new.position));
    let late = old.batch([Line::at(1, "late")]);
    assert_eq!(
        store.write(vec![late.clone()]).await.unwrap(),
        [Written::Fenced]
    );
    new.write(&*store, [Line::at(1, "late")]).await;
    assert_eq!(store.write(vec![late]).await.unwrap(), [Written::Fenced]);
    store.resume(old.writer, &[id]).await.unwrap();
    old.write(&*store, [Line::at(2, "back")]).await;
    assert_eq!(
        messages(&search_all(&*store, "").await),
        ["one", "late", "back"]
    );
}

pub async fn resume_answers_end_and_mark_of_each_stream(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    feed.write(
        &*store,
        [Line::at(0, "a"), Line::at(7, "b"), Line::at(7, "c")],
    )
    .await;
    let streams = [stream("never").id.clone(), feed.stream.id.clone()];
    let ends = store.resume(WriterId(9), &streams).await.unwrap();
    let mark = ResumeMark {
        timestamp: Timestamp::from_nanos(T0 + 7),
        n_lines: 2,
    };
    assert_eq!(
        ends,
        [
            None,
            Some(StreamEnd {
                end: feed.position,
                mark
            })
        ]
    );
    assert_eq!(store.resume(WriterId(9), &[]).await.unwrap(), []);
}

pub async fn several_batches_of_a_call_are_answered_in_order(place: &impl Place) {
    let store = place.open().await;
    let (mut api, mut web) = (Feed::new("api"), Feed::new("web"));
    let (first, second) = (api.batch([Line::at(1, "a")]), api.batch([Line::at(2, "b")]));
    let other = web.batch([Line::at(3, "c")]);
    let written = store
        .write(vec![
            second.clone(),
            first.clone(),
            other.clone(),
            second.clone(),
            first.clone(),
        ])
        .await
        .unwrap();
    assert_eq!(
        written,
        [
            Written::Gap {
                committed: Position::ZERO
            },
            Written::New {
                end: first.end,
                n_new: 1
            },
            Written::New {
                end: other.end,
                n_new: 1
            },
            Written::New {
                end: second.end,
                n_new: 1
            },
            Written::Duplicate { end: second.end },
        ]
    );
    assert_eq!(store.write(Vec::new()).await.unwrap(), []);
}

pub async fn batch_without_entries_moves_the_end(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    let mut batch = feed.batch([]);
    batch.end = Position(100);
    batch.end_mark = ResumeMark {
        timestamp: Timestamp::from_nanos(T0),
        n_lines: 1,
    };
    let written = store.write(vec![batch.clone()]).await.unwrap();
    assert_eq!(
        written,
        [Written::New {
            end: Position(100),
            n_new: 0
        }]
    );
    let ends = store
        .resume(feed.writer, std::slice::from_ref(&feed.stream.id))
        .await
        .unwrap();
    assert_eq!(
        ends,
        [Some(StreamEnd {
            end: Position(100),
            mark: batch.end_mark
        })]
    );
    assert_eq!(store.count(&filter("")).await.unwrap(), 0);
}

pub async fn stream_end_and_entries_outlive_a_restart(place: &impl Place) {
    let mut feed = Feed::new("api");
    let store = place.open().await;
    feed.write(&*store, [Line::at(0, "before"), Line::at(5, "it")])
        .await;
    let before = search_all(&*store, "").await;
    drop(store);

    let store = place.open().await;
    assert_eq!(search_all(&*store, "").await, before);
    let ends = store
        .resume(feed.writer, std::slice::from_ref(&feed.stream.id))
        .await
        .unwrap();
    let mark = ResumeMark {
        timestamp: Timestamp::from_nanos(T0 + 5),
        n_lines: 1,
    };
    assert_eq!(
        ends,
        [Some(StreamEnd {
            end: feed.position,
            mark
        })]
    );
    feed.write(&*store, [Line::at(9, "after")]).await;
    assert_eq!(
        messages(&search_all(&*store, "").await),
        ["before", "it", "after"]
    );
    assert_eq!(store.count(&filter("after")).await.unwrap(), 1);
}

fn described(stream: &Stream) -> Arc<Stream> {
    Arc::new(Stream {
        node: "node-1".into(),
        labels: BTreeMap::from([("app".into(), "shop".into())]),
        ..stream.clone()
    })
}

pub async fn metadata_that_comes_late_is_seen_on_earlier_entries(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    feed.write(&*store, [Line::at(0, "early")]).await;
    assert_eq!(search_all(&*store, "label.app:shop").await, []);
    feed.stream = described(&feed.stream);
    feed.write(&*store, [Line::at(1, "late")]).await;
    let found = search_all(&*store, "label.app:shop node:node-1").await;
    assert_eq!(messages(&found), ["early", "late"]);
    assert_eq!(found[0].stream, feed.stream);
    assert_eq!(store.count(&filter("label.app:shop")).await.unwrap(), 2);
}

pub async fn metadata_once_known_is_not_wiped_out_by_a_reader_that_knows_less(place: &impl Place) {
    let mut feed = Feed::new("api");
    let poor = Arc::clone(&feed.stream);
    feed.stream = described(&poor);
    let store = place.open().await;
    feed.write(&*store, [Line::at(0, "a")]).await;
    let rich = std::mem::replace(&mut feed.stream, poor);
    feed.write(&*store, [Line::at(1, "b")]).await;
    drop(store);
    let store = place.open().await;
    let found = search_all(&*store, "label.app:shop").await;
    assert_eq!(messages(&found), ["a", "b"]);
    assert_eq!(found[1].stream, rich);
}

/// KL-14.
pub async fn appended_repeats_are_dropped(place: &impl Place) {
    let store = place.open().await;
    let (api, web) = (stream("api"), stream("web"));
    let line = || Line::at(1, "same");
    let entries = vec![
        line().entry(&api),
        line().entry(&api),
        line().entry(&web),
        Line::at(2, "same").entry(&api),
        Line::at(1, "other").entry(&api),
        // Neither severity nor attributes make it another entry.
        line().severity(Severity::Error).with("k", "v").entry(&api),
    ];
    assert_eq!(store.append(entries.clone()).await.unwrap(), 4);
    assert_eq!(store.append(entries).await.unwrap(), 0);
    assert_eq!(store.append(Vec::new()).await.unwrap(), 0);
    assert_eq!(store.count(&filter("")).await.unwrap(), 4);

    // A line that came in a batch counts as stored, too.
    let mut feed = Feed::of(Arc::clone(&web));
    feed.write(&*store, [Line::at(9, "batched")]).await;
    assert_eq!(
        store
            .append(vec![Line::at(9, "batched").entry(&web)])
            .await
            .unwrap(),
        0
    );
}

pub async fn appended_entries_have_no_stream_end(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    store
        .append(vec![Line::at(1, "pushed").entry(&feed.stream)])
        .await
        .unwrap();
    let ends = store
        .resume(feed.writer, std::slice::from_ref(&feed.stream.id))
        .await
        .unwrap();
    assert_eq!(ends, [None]);
    feed.write(&*store, [Line::at(2, "read")]).await;
    store
        .append(vec![Line::at(3, "pushed").entry(&feed.stream)])
        .await
        .unwrap();
    let ends = store
        .resume(feed.writer, std::slice::from_ref(&feed.stream.id))
        .await
        .unwrap();
    assert_eq!(ends[0].map(|end| end.end), Some(feed.position));
    assert_eq!(times(&search_all(&*store, "").await), [1, 2, 3]);
}

pub async fn strange_text_comes_back_byte_for_byte(place: &impl Place) {
    let store = place.open().await;
    let texts = [
        "",
        " ",
        "\0",
        "a\0b\0",
        "\u{feff}bom",
        "\r\n",
        "tab\tand\u{b}vt",
        "\u{1b}[31mred\u{1b}[0m",
        "quote \" ' ` \\ \\u0041",
        "東京 Größe ﬁ İ ς",
        "🦀👩‍👩‍👧‍👦",
        "\u{80}s1 \u{81}x",
        "\u{fffd}\u{10ffff}",
        "' OR 1=1; DROP TABLE logs; --",
        "NULL",
        "{\"a\":\"\\u0000\"}",
    ];
    let lines = texts.iter().enumerate().map(|(idx, text)| {
        Line::at(i64::try_from(idx).expect("few"), *text)
            .with(text, text)
            .with("plain", text)
    });
    Feed::new("\0pod \"x\" 東").write(&*store, lines).await;
    let found = search_all(&*store, "").await;
    assert_eq!(messages(&found), texts);
    for (entry, text) in found.iter().zip(texts) {
        let pair = |key: &str| (key.to_owned(), text.to_owned());
        assert_eq!(entry.attributes, [pair(text), pair("plain")]);
        assert_eq!(&*entry.stream.pod, "\0pod \"x\" 東");
    }
    assert_eq!(
        messages(&search_all(&*store, "größe").await),
        ["東京 Größe ﬁ İ ς"]
    );
}

pub async fn huge_message_is_stored_and_found(place: &impl Place) {
    let store = place.open().await;
    let filler = "x".repeat(3 << 20);
    let message = format!("start {filler} middle {filler} end");
    Feed::new("api")
        .write(
            &*store,
            [
                Line::at(0, "small"),
                Line::at(1, message.as_str()),
                Line::at(2, "small"),
            ],
        )
        .await;
    for query in ["middle", "start end", "\"middle\" level:info", "*xxxxx*"] {
        let found = search_all(&*store, query).await;
        assert_eq!(times(&found), [1], "{query}");
        assert!(found[0].message == message);
    }
    // A word of megabytes is a word.
    let long_word = filler.as_str();
    let query = tawny_query::Query::from_expr(tawny_query::Expr::Message(
        tawny_query::TextTest::Phrase(vec![long_word.to_owned()]),
    ));
    let request = crate::Filter {
        query,
        ..filter("")
    };
    assert_eq!(store.count(&request).await.unwrap(), 1);
}

pub async fn too_large_entry_is_refused_and_nothing_of_the_call_is_stored(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    let too_large = "x".repeat(MAX_MESSAGE_BYTES + 1);
    let batches = vec![
        Feed::new("web").batch([Line::at(0, "fine")]),
        feed.batch([Line::at(0, "fine"), Line::at(1, too_large.as_str())]),
    ];
    let error = store.write(batches).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Reject, "{error}");
    let error = store
        .append(vec![Line::at(1, too_large).entry(&feed.stream)])
        .await
        .unwrap_err();
    assert_eq!(error.remedy(), Remedy::Reject, "{error}");
    let mut backwards = Feed::new("api").batch([Line::at(0, "x")]);
    backwards.start = Position(50);
    let error = store.write(vec![backwards]).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Reject, "{error}");
    let mut too_far = Feed::new("api").batch([Line::at(0, "x")]);
    too_far.end = Position(i64::MAX.unsigned_abs() + 1);
    let error = store.write(vec![too_far]).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Reject, "{error}");
    assert_eq!(store.count(&filter("")).await.unwrap(), 0);
    Feed::new("api")
        .write(&*store, [Line::at(0, "goes on")])
        .await;
}

/// KL-64.
pub async fn twenty_attributes_keep_their_order(place: &impl Place) {
    let store = place.open().await;
    let mut line = Line::at(0, "many");
    for n in (0..20).rev() {
        line = line.with(&format!("key{n}"), &format!("value {n}"));
    }
    let mut feed = Feed::new("api");
    feed.write(&*store, [line.clone(), Line::at(1, "none")])
        .await;
    let found = search_all(&*store, "").await;
    assert_eq!(found[0].attributes, line.attributes);
    assert_eq!(found[1].attributes, []);
    assert_eq!(times(&search_all(&*store, "key7:\"value 7\"").await), [0]);
}

pub async fn times_far_from_now_are_kept_to_the_nanosecond(place: &impl Place) {
    let store = place.open().await;
    let nanos = [
        i64::MIN,
        i64::MIN + 1,
        -2_300_000_000_000_000_001,
        -1,
        0,
        1,
        999,
        1_000,
        T0,
        T0 + 1,
        2_251_799_813_685_247_999,
        2_300_000_000_000_000_000,
        i64::MAX - 1,
    ];
    let line = |ns: i64| Line::at(ns.wrapping_sub(T0), format!("at {ns}"));
    let line = |ns: i64| Line {
        timestamp: Timestamp::from_nanos(ns),
        ..line(ns.max(T0))
    };
    let mut feed = Feed::new("api");
    feed.write(&*store, nanos.map(line)).await;
    feed.write(&*store, nanos.map(line)).await;
    for ns in nanos {
        let time = Timestamp::from_nanos(ns);
        let request = crate::SearchRequest {
            filter: crate::Filter {
                from: time,
                to: Timestamp::from_nanos(ns + 1),
                ..filter("")
            },
            ..newest("", 10)
        };
        let found = store.search(&request).await.unwrap().entries;
        assert_eq!(
            found
                .iter()
                .map(|entry| entry.timestamp)
                .collect::<Vec<_>>(),
            [time; 2],
            "{ns}"
        );
        for entry in found {
            assert_eq!(store.get(entry.id).await.unwrap().as_ref(), Some(&entry));
        }
    }
    assert_eq!(store.count(&filter("")).await.unwrap(), 26);
}

pub async fn many_writers_at_once_lose_nothing(place: &impl Place) {
    let store = place.open().await;
    let mut writers = JoinSet::new();
    for writer in 0..12i64 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let mut feed = Feed::new(&format!("pod-{writer}"));
            for round in 0..20 {
                feed.write(
                    &*store,
                    (0..5).map(|n| Line::at(round * 7 + n, format!("{writer} {round} {n}"))),
                )
                .await;
                let entry =
                    Line::at(round, format!("pushed {writer} {round}")).entry(&stream("shared"));
                assert_eq!(store.append(vec![entry]).await.unwrap(), 1);
            }
        });
    }
    while let Some(joined) = writers.join_next().await {
        joined.expect("no writer fails");
    }
    assert_eq!(store.count(&filter("")).await.unwrap(), 12 * 20 * 6);
    for writer in 0..12 {
        let n = store
            .count(&filter(&format!("pod:pod-{writer}")))
            .await
            .unwrap();
        assert_eq!(n, 100);
    }
}

/// A page of the newest, for [`newest`] to be used where a case needs it.
pub(super) async fn newest_times(store: &dyn LogStore, query: &str, limit: usize) -> Vec<i64> {
    times(
        &store
            .search(&newest(query, limit))
            .await
            .expect("search works")
            .entries,
    )
}
