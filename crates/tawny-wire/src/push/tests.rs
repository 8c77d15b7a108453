//! Round trips of any batch, and every way a batch can be malformed.

use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use super::*;

fn stream() -> Stream {
    let mut stream = Stream::new(
        StreamId {
            cluster: "c1".into(),
            pod_uid: "uid".into(),
            container: "app".into(),
            restart: 3,
        },
        "prod",
        "api-1",
    );
    stream.node = "n1".into();
    stream.image = "registry/app:1".into();
    stream.workload = Some(Workload {
        kind: "Deployment".into(),
        name: "api".into(),
    });
    stream.labels = [("app".into(), "api".into()), ("tier".into(), "".into())].into();
    stream
}

type Row = (i64, u8, bool, String, Vec<(String, String)>, u16);

fn batch(start: u64, rows: &[Row]) -> Batch {
    let mut entries = Entries::default();
    let mut end = Position(start);
    for (ns, severity, stderr, message, attributes, len) in rows {
        end = end.advance(u64::from(*len));
        entries
            .push(
                Timestamp::from_nanos(*ns),
                Severity::from_number(*severity).unwrap(),
                if *stderr {
                    Output::Stderr
                } else {
                    Output::Stdout
                },
                message,
                attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())),
                end,
            )
            .unwrap();
    }
    Batch {
        stream: Arc::new(stream()),
        writer: WriterId(7),
        start: Position(start),
        end: end.advance(5),
        end_mark: ResumeMark {
            timestamp: Timestamp::from_nanos(-1),
            n_lines: 2,
        },
        entries,
    }
}

fn two_rows() -> pb::Batch {
    encode(&batch(
        100,
        &[
            (
                10,
                3,
                false,
                "één".into(),
                vec![("k".into(), "v".into())],
                8,
            ),
            (20, 5, true, "two".into(), vec![("k".into(), "ü".into())], 9),
        ],
    ))
}

proptest! {
    #[test]
    fn any_batch_comes_back_as_it_went(start in 0u64..1 << 60, rows in vec(
        (any::<i64>(), 0u8..7, any::<bool>(), "\\PC{0,12}", vec(("[a-d]{0,2}", "\\PC{0,4}"), 0..4), any::<u16>()), 0..20)) {
        let batch = batch(start, &rows);
        let bytes = encode(&batch).encode_to_vec();
        let back = decode(pb::Batch::decode(&*bytes).unwrap(), WriterId(7)).unwrap();
        prop_assert_eq!(back, batch);
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(batch) = pb::Batch::decode(&*bytes) {
            let _decoded = decode(batch, WriterId(1));
        }
    }

    /// One byte of a good batch changed: refused, or a batch whose columns agree.
    #[test]
    fn a_changed_byte_is_survived(at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = two_rows().encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(batch) = pb::Batch::decode(&*bytes)
            && let Ok(batch) = decode(batch, WriterId(1)) {
            prop_assert!(batch.entries.iter().all(|row| batch.start <= row.end() && row.end() <= batch.end));
        }
    }
}

#[test]
fn every_malformation_is_named() {
    type Change<'a> = &'a dyn Fn(&mut pb::Batch);
    let spoil = |change: Change<'_>| {
        let mut batch = two_rows();
        change(&mut batch);
        decode(batch, WriterId(1)).unwrap_err().to_string()
    };
    let cases: [(Change<'_>, &str); 17] = [
        (&|b| b.stream = None, "`stream` is missing"),
        (
            &|b| b.stream.as_mut().unwrap().id = None,
            "`stream.id` is missing",
        ),
        (
            &|b| {
                b.stream
                    .as_mut()
                    .unwrap()
                    .id
                    .as_mut()
                    .unwrap()
                    .pod_uid
                    .clear();
            },
            "`stream.id.pod_uid` is missing",
        ),
        (&|b| b.end = 99, "batch ends at 99, before its start 100"),
        (
            &|b| b.timestamp_deltas_nanos.truncate(1),
            "`timestamp_deltas_nanos` has 1 values where 2 are needed",
        ),
        (
            &|b| b.end_deltas.push(0),
            "`end_deltas` has 3 values where 2 are needed",
        ),
        (
            &|b| b.attribute_counts.clear(),
            "`attribute_counts` has 0 values where 2 are needed",
        ),
        (
            &|b| b.attribute_counts = vec![u32::MAX, u32::MAX],
            "`attribute_key_idxs` has 2 values where 8589934590 are needed",
        ),
        (
            &|b| b.attribute_value_lens.clear(),
            "`attribute_value_lens` has 0 values where 2 are needed",
        ),
        (
            &|b| b.message_lens = vec![u32::MAX, 3],
            "lengths of `messages` do not add up to its 8 bytes",
        ),
        (
            &|b| b.attribute_values = Bytes::new(),
            "lengths of `attribute_values` do not add up to its 0 bytes",
        ),
        (
            &|b| b.message_lens = vec![1, 7],
            "`messages` is not UTF-8, or a length cuts a character",
        ),
        (
            &|b| b.messages = Bytes::from_static(b"\xff1234567"),
            "`messages` is not UTF-8, or a length cuts a character",
        ),
        (
            &|b| b.kinds = Bytes::from_static(&[3, 7]),
            "row 1 has kind 0x07",
        ),
        (
            &|b| b.kinds = Bytes::from_static(&[0x23, 0]),
            "row 0 has kind 0x23",
        ),
        (
            &|b| b.attribute_key_idxs = vec![0, 1],
            "attribute key 1 of 1 does not exist",
        ),
        (
            &|b| b.end_deltas = vec![1, u64::MAX],
            "row 1 ends outside of [100, 122)",
        ),
    ];
    for (change, wanted) in cases {
        assert_eq!(spoil(change), wanted);
    }
}

#[test]
fn too_many_attributes_in_a_row_are_refused() {
    let n = usize::from(u16::MAX) + 1;
    let mut batch = two_rows();
    batch.attribute_counts = vec![u32::try_from(n).unwrap(), 0];
    batch.attribute_key_idxs = vec![0; n];
    batch.attribute_value_lens = vec![0; n];
    batch.attribute_values = Bytes::new();
    assert!(matches!(
        decode(batch, WriterId(1)),
        Err(Error::Full { row_idx: 0, .. })
    ));
}

#[test]
fn absent_mark_is_the_start_of_the_stream() {
    let mut batch = two_rows();
    batch.end_mark = None;
    assert_eq!(
        decode(batch, WriterId(1)).unwrap().end_mark,
        ResumeMark::default()
    );
}
