//! Events of core/v1, which also shows those written through events.k8s.io (section 4.4).

use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::MicroTime};
use tawny_model::{
    Timestamp,
    observed::{EventCounts, EventKind, EventTimes, KubeEvent, ObjectRef, container_of_field},
};

use super::{moment, text};
use crate::facts::non_empty;

/// Extracts an event; `None` without a UID or any time, which the API never sends.
pub fn kube_event(event: &Event) -> Option<KubeEvent> {
    let meta = &event.metadata;
    let object = &event.involved_object;
    let series = event.series.as_ref();
    let source = event.source.as_ref();
    let times = EventTimes {
        series_last_observed: micro(series.and_then(|series| series.last_observed_time.as_ref())),
        last: moment(event.last_timestamp.as_ref()),
        event: micro(event.event_time.as_ref()),
        first: moment(event.first_timestamp.as_ref()),
        created: moment(meta.creation_timestamp.as_ref()),
    };
    let counts = EventCounts {
        series: series.and_then(|series| series.count),
        count: event.count,
    };
    let component = non_empty(source.and_then(|source| source.component.as_deref()))
        .or(event.reporting_component.as_deref())
        .unwrap_or_default();
    // The new API has no host; its reporting instance is `kubelet-…` or the node's name and no reliable one.
    let host = source.and_then(|source| source.host.as_ref());
    Some(KubeEvent {
        uid: non_empty(meta.uid.as_deref())?.into(),
        object: ObjectRef {
            kind: text(object.kind.as_ref()),
            // Events of cluster-wide objects stand in `default` and name no namespace in what they are about.
            namespace: text(object.namespace.as_ref()),
            name: text(object.name.as_ref()),
            uid: text(object.uid.as_ref()),
            container: object
                .field_path
                .as_deref()
                .and_then(container_of_field)
                .unwrap_or_default()
                .into(),
        },
        reason: text(event.reason.as_ref()),
        message: text(event.message.as_ref()),
        kind: match event.type_.as_deref() {
            Some("Warning") => EventKind::Warning,
            _ => EventKind::Normal,
        },
        count: counts.total(),
        at: times.latest()?,
        component: component.into(),
        host: text(host),
    })
}

fn micro(time: Option<&MicroTime>) -> Option<Timestamp> {
    time.and_then(|time| i64::try_from(time.0.as_nanosecond()).ok())
        .map(Timestamp::from_nanos)
}
