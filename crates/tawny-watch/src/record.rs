//! A Kubernetes event as a log record, so that it is searched and tailed between the lines (section 4.4).

use std::{sync::Arc, time::Duration};

use tawny_model::{
    EntryId, LogEntry, Output, Stream, StreamId, Timestamp,
    observed::{EventKind, KubeEvent},
    stream::Fnv,
};

use crate::world::About;

/// The container name of the stream of events about one object. No container's own lines are ever in it.
pub const EVENT_CONTAINER: &str = "k8s-event";

/// The attribute that every record of an event has, and its value: `source:k8s_event` finds them all.
pub const EVENT_SOURCE: (&str, &str) = ("source", "k8s_event");

/// The record of an event. It is the same for the same event and count, and a store drops a repeat of it.
pub(crate) fn record(event: &KubeEvent, about: About, cluster: &Arc<str>) -> LogEntry {
    let object = &event.object;
    // Some clients leave the UID out; the name keeps the stream apart then.
    let uid = if object.uid.is_empty() {
        format!("{}/{}/{}", object.kind, object.namespace, object.name).into()
    } else {
        Arc::clone(&object.uid)
    };
    let id = StreamId {
        cluster: Arc::clone(cluster),
        pod_uid: uid,
        container: EVENT_CONTAINER.into(),
        restart: 0,
    };
    let name: Arc<str> = match &*object.kind {
        "Pod" => Arc::clone(&object.name),
        kind => format!("{}/{}", kind.to_ascii_lowercase(), object.name).into(),
    };
    let node = match &*object.kind {
        "Node" => &object.name,
        _ if about.node.is_empty() => &event.host,
        _ => &about.node,
    };
    let stream = Stream {
        node: Arc::clone(node),
        workload: about.workload,
        labels: about.labels,
        ..Stream::new(id, Arc::clone(&object.namespace), name)
    };
    let (source, k8s_event) = EVENT_SOURCE;
    let kind = match event.kind {
        EventKind::Normal => "Normal",
        EventKind::Warning => "Warning",
    };
    let count = event.count.to_string();
    let attributes = [
        (source, k8s_event),
        ("reason", &event.reason),
        ("type", kind),
        ("kind", &object.kind),
        ("name", &object.name),
        ("count", &count),
        ("component", &event.component),
        ("about_container", &object.container),
        ("event_uid", &event.uid),
    ];
    LogEntry {
        id: EntryId(0),
        timestamp: moment(event),
        severity: event.severity(),
        output: Output::Stdout,
        message: event.record_message(),
        attributes: attributes
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        stream: Arc::new(stream),
    }
}

/// When it happened. Most events know the second only, in which two alike would be one record: the UID tells them apart
/// within the first millisecond.
fn moment(event: &KubeEvent) -> Timestamp {
    if event.at.subsec_nanos() != 0 {
        return event.at;
    }
    let mut hash = Fnv::default();
    hash.write(event.uid.as_bytes());
    event
        .at
        .saturating_add(Duration::from_nanos(hash.finish() % 1_000_000))
}

#[cfg(test)]
mod tests {
    use tawny_model::{Severity, observed::ObjectRef};

    use super::*;

    fn event(kind: &str, uid: &str) -> KubeEvent {
        KubeEvent {
            uid: "e1".into(),
            object: ObjectRef {
                kind: kind.into(),
                namespace: "shop".into(),
                name: "api-1".into(),
                uid: uid.into(),
                container: "web".into(),
            },
            reason: "BackOff".into(),
            message: "Back-off restarting failed container".into(),
            kind: EventKind::Warning,
            count: 3,
            at: Timestamp::from_secs(50),
            component: "kubelet".into(),
            host: "n1".into(),
        }
    }

    #[test]
    fn record_of_an_event_has_its_object_count_and_level_section_4_4() {
        let about = About {
            labels: [("app".into(), "api".into())].into(),
            ..About::default()
        };
        let entry = record(&event("Pod", "u1"), about, &"prod".into());
        assert_eq!(
            entry.message,
            "BackOff: Back-off restarting failed container (x3)"
        );
        assert_eq!(entry.severity, Severity::Warn);
        assert_eq!(entry.timestamp.as_millis(), 50_000);
        assert_eq!(entry.stream.id.to_string(), "prod/u1/k8s-event/0");
        assert_eq!((&*entry.stream.pod, &*entry.stream.node), ("api-1", "n1"));
        assert_eq!(entry.stream.labels.len(), 1);
        for (key, value) in [
            ("source", "k8s_event"),
            ("reason", "BackOff"),
            ("type", "Warning"),
            ("count", "3"),
            ("about_container", "web"),
        ] {
            assert_eq!(entry.attribute(key), Some(value), "{key}");
        }
    }

    #[test]
    fn two_events_alike_in_one_second_are_two_records() {
        let one = event("Pod", "u1");
        let other = KubeEvent {
            uid: "e2".into(),
            ..one.clone()
        };
        let at = |event: &KubeEvent| record(event, About::default(), &"".into()).timestamp;
        assert_ne!(at(&one), at(&other));
        assert_eq!(at(&one), at(&event("Pod", "u1")));
        let exact = KubeEvent {
            at: Timestamp::from_millis(50_400),
            ..event("Pod", "u1")
        };
        assert_eq!(at(&exact), exact.at);
    }

    #[test]
    fn events_of_other_objects_are_told_apart_even_without_a_uid() {
        let node = record(&event("Node", ""), About::default(), &"".into());
        assert_eq!(&*node.stream.pod, "node/api-1");
        assert_eq!(&*node.stream.node, "api-1");
        let claim = record(
            &event("PersistentVolumeClaim", ""),
            About::default(),
            &"".into(),
        );
        assert_ne!(node.stream.id, claim.stream.id);
    }
}
