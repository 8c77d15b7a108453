//! How every engine names entries and describes streams, so that they answer alike.

use std::sync::Arc;

use tawny_model::{EntryId, Stream, StreamKey, Timestamp, entry::TIE_BITS};

const TIE_MASK: i64 = (1 << TIE_BITS) - 1;

/// Where an entry's id is looked for: its microsecond, at a place given by the stream.
///
/// Entries of one stream and microsecond share it and take the next free ids in the order they come, so that lines
/// keep their order; it lies in the lower half so that they have room.
pub(crate) fn base_id(timestamp: Timestamp, stream: StreamKey) -> i64 {
    let micro = Timestamp::from_micros(timestamp.as_micros());
    let tie = EntryId::derive(micro, stream, 0).0 & TIE_MASK;
    EntryId::first_at(timestamp).0 | (tie >> 1)
}

/// What is known of a stream after `news` of it came: an empty field says nothing new.
///
/// An agent that just started knows only the path of a log; it must not wipe out what an earlier one learned.
pub(crate) fn merge_stream(known: &Stream, news: &Stream) -> Stream {
    let pick =
        |known: &Arc<str>, news: &Arc<str>| Arc::clone(if news.is_empty() { known } else { news });
    Stream {
        id: known.id.clone(),
        namespace: pick(&known.namespace, &news.namespace),
        pod: pick(&known.pod, &news.pod),
        node: pick(&known.node, &news.node),
        image: pick(&known.image, &news.image),
        workload: news.workload.clone().or_else(|| known.workload.clone()),
        labels: if news.labels.is_empty() {
            known.labels.clone()
        } else {
            news.labels.clone()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tawny_model::StreamId;

    use super::*;

    #[test]
    fn unknown_facts_do_not_replace_known_ones() {
        let mut known = Stream::new(
            StreamId {
                cluster: "".into(),
                pod_uid: "u".into(),
                container: "c".into(),
                restart: 0,
            },
            "ns",
            "pod",
        );
        let poor = known.clone();
        known.node = "n1".into();
        known.labels = BTreeMap::from([("a".into(), "1".into())]);
        assert_eq!(merge_stream(&known, &poor), known);
        assert_eq!(merge_stream(&poor, &known), known);
        let mut moved = known.clone();
        moved.labels = BTreeMap::from([("b".into(), "2".into())]);
        assert_eq!(merge_stream(&known, &moved), moved, "labels are a whole");
    }
}
