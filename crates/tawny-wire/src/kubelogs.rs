//! Entries as `kubelogs.storage.v1` carries them (KL-4): no stream, no position, a flat map of attributes.

use std::sync::Arc;

use tawny_model::{EntryId, LogEntry, Output, Remedy, Severity, Stream, StreamId, Timestamp};

use crate::proto::kubelogs as pb;

/// Attribute in which kubelogs collectors name the pod's UID (KL-51).
pub const POD_UID: &str = "pod_uid";

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("severity {number} is none of 0 to 6")]
    Severity { number: u32 },
}

impl Error {
    /// A malformed entry stays malformed.
    pub fn remedy(&self) -> Remedy {
        Remedy::Reject
    }
}

/// The severity of that number (KL-11).
///
/// # Errors
/// `Reject` above 6.
pub fn severity(number: u32) -> Result<Severity, Error> {
    u8::try_from(number)
        .ok()
        .and_then(Severity::from_number)
        .ok_or(Error::Severity { number })
}

/// The entry of a wire message.
///
/// Its stream is told by the `pod_uid` attribute, which moves there; without one, `namespace/pod` stands in for the
/// UID. The output is not known and taken for stdout.
///
/// # Errors
/// `Reject` for a severity above 6.
pub fn decode(mut entry: pb::LogEntry) -> Result<LogEntry, Error> {
    let pod_uid = entry
        .attributes
        .remove(POD_UID)
        .filter(|uid| !uid.is_empty())
        .unwrap_or_else(|| stand_in(&entry.namespace, &entry.pod));
    let id = StreamId {
        cluster: "".into(),
        pod_uid: pod_uid.into(),
        container: entry.container.into(),
        restart: 0,
    };
    Ok(LogEntry {
        id: EntryId(entry.id),
        timestamp: Timestamp::from_nanos(entry.timestamp_nanos),
        severity: severity(entry.severity)?,
        output: Output::Stdout,
        message: entry.message,
        attributes: entry.attributes.into_iter().collect(),
        stream: Arc::new(Stream::new(id, entry.namespace, entry.pod)),
    })
}

/// The wire message of an entry; the pod's UID, where it is known, is an attribute again.
pub fn encode(entry: LogEntry) -> pb::LogEntry {
    let mut wire = pb::LogEntry {
        id: entry.id.0,
        timestamp_nanos: entry.timestamp.as_nanos(),
        namespace: entry.stream.namespace.as_ref().to_owned(),
        pod: entry.stream.pod.as_ref().to_owned(),
        container: entry.stream.container().to_owned(),
        severity: entry.severity.number().into(),
        message: entry.message,
        ..pb::LogEntry::default()
    };
    if let Some(uid) = known_pod_uid(&entry.stream) {
        wire.attributes.insert(POD_UID.to_owned(), uid.to_owned());
    }
    for (key, value) in entry.attributes {
        // The first of a repeated key counts, as everywhere.
        wire.attributes.entry(key).or_insert(value);
    }
    wire
}

/// The pod's UID, unless `namespace/pod` stands in for it.
pub fn known_pod_uid(stream: &Stream) -> Option<&str> {
    let uid = &*stream.id.pod_uid;
    let is_stand_in = uid
        .strip_prefix(&*stream.namespace)
        .and_then(|rest| rest.strip_prefix('/'))
        == Some(&*stream.pod);
    (!is_stand_in).then_some(uid)
}

fn stand_in(namespace: &str, pod: &str) -> String {
    format!("{namespace}/{pod}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(attributes: &[(&str, &str)]) -> pb::LogEntry {
        pb::LogEntry {
            id: 9,
            timestamp_nanos: 1_475_713_029_669_794_202,
            namespace: "prod".into(),
            pod: "api-1".into(),
            container: "app".into(),
            severity: 4,
            message: "hello".into(),
            attributes: attributes
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn pod_uid_attribute_names_the_stream_and_comes_back_kl_51() {
        let entry = decode(wire(&[("pod_uid", "u-1"), ("a", "b")])).unwrap();
        assert_eq!(&*entry.stream.id.pod_uid, "u-1");
        assert_eq!(entry.attributes, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(entry.severity, Severity::Warn);
        assert_eq!(encode(entry), wire(&[("pod_uid", "u-1"), ("a", "b")]));
    }

    #[test]
    fn entry_without_uid_is_told_by_namespace_and_pod() {
        let entry = decode(wire(&[])).unwrap();
        assert_eq!(&*entry.stream.id.pod_uid, "prod/api-1");
        assert_eq!(encode(entry), wire(&[]));
    }

    #[test]
    fn severity_above_fatal_is_refused_kl_11() {
        let entry = pb::LogEntry {
            severity: 7,
            ..wire(&[])
        };
        assert_eq!(decode(entry), Err(Error::Severity { number: 7 }));
        assert_eq!(
            severity(u32::MAX),
            Err(Error::Severity { number: u32::MAX })
        );
    }

    proptest! {
        #[test]
        fn any_valid_entry_round_trips(id: i64, nanos: i64, namespace in "\\PC{0,5}", pod in "\\PC{0,5}",
                                       container in "\\PC{0,5}", severity in 0u32..7, message in "\\PC{0,9}",
                                       attributes in prop::collection::btree_map("[a-z]{1,3}", "\\PC{0,5}", 0..5)) {
            let wire = pb::LogEntry { id, timestamp_nanos: nanos, namespace, pod, container, severity, message, attributes };
            prop_assert_eq!(encode(decode(wire.clone()).unwrap()), wire);
        }
    }
}
