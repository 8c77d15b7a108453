//! Objects of the Kubernetes API cut down to what the registry needs of them.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Event, Pod},
};
use kube::api::ObjectMeta;
use tawny_model::Timestamp;

use crate::{
    lines::Line,
    reasons::{Reason, instant, reasons},
    tokens::{Wanted, wanted},
};

/// The two kinds of objects that may have an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Pod,
    ReplicaSet,
}

/// A pod or ReplicaSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub uid: String,
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
    pub created: Option<Timestamp>,
    pub wanted: Vec<Wanted>,
    /// What is wrong with it now; empty where that is not asked for.
    pub reasons: Vec<Reason>,
}

/// How closely objects are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Say what is wrong with a pod.
    pub is_explained: bool,
    /// Look for tokens in `envFrom` too.
    pub follows_env_from: bool,
}

impl Seen {
    /// `None` for an object without a UID or name. `now` stands in for missing times.
    pub fn pod(pod: &Pod, look: Look, now: Timestamp) -> Option<Self> {
        let spec = pod.spec.as_ref();
        let wanted = spec.map(|spec| wanted(spec, look.follows_env_from));
        let wanted = wanted.unwrap_or_default();
        let reasons = if look.is_explained && !wanted.is_empty() {
            reasons(pod, now)
        } else {
            Vec::new()
        };
        Self::new(Kind::Pod, &pod.metadata, wanted, reasons)
    }

    /// The tokens are those of its pod template (CL-20).
    pub fn replica_set(set: &ReplicaSet, look: Look) -> Option<Self> {
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let pod = template.and_then(|template| template.spec.as_ref());
        let wanted = pod.map(|pod| wanted(pod, look.follows_env_from));
        let wanted = wanted.unwrap_or_default();
        Self::new(Kind::ReplicaSet, &set.metadata, wanted, Vec::new())
    }

    fn new(
        kind: Kind,
        metadata: &ObjectMeta,
        wanted: Vec<Wanted>,
        reasons: Vec<Reason>,
    ) -> Option<Self> {
        Some(Self {
            uid: metadata.uid.clone().filter(|uid| !uid.is_empty())?,
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone()?,
            created: metadata.creation_timestamp.as_ref().and_then(instant),
            wanted,
            reasons,
        })
    }
}

/// A Kubernetes event about a pod or ReplicaSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSeen {
    pub uid: String,
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
    /// Empty where the event's author gave none.
    pub about_uid: String,
    pub message: String,
    /// How often it came; at least 1.
    pub count: u32,
    /// From the first to the latest time.
    pub over: Duration,
    /// The latest time.
    pub at: Timestamp,
}

impl EventSeen {
    /// `None` for events of other kinds of objects, and for those without a UID.
    ///
    /// Of the two ways to count, `count` is that of the core interface and `series` that of `events.k8s.io`.
    pub fn new(event: &Event, now: Timestamp) -> Option<Self> {
        let about = &event.involved_object;
        let kind = match about.kind.as_deref()? {
            "Pod" => Kind::Pod,
            "ReplicaSet" => Kind::ReplicaSet,
            _ => return None,
        };
        let micro = |time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime| {
            i64::try_from(time.0.as_nanosecond())
                .ok()
                .map(Timestamp::from_nanos)
        };
        let series = event.series.as_ref();
        let begun = event.event_time.as_ref().and_then(micro);
        let created = (event.metadata.creation_timestamp.as_ref()).and_then(instant);
        let first = (event.first_timestamp.as_ref().and_then(instant))
            .or(begun)
            .or(created);
        let last = (series.and_then(|series| series.last_observed_time.as_ref()))
            .and_then(micro)
            .or_else(|| event.last_timestamp.as_ref().and_then(instant))
            .or(first);
        let at = last.unwrap_or(now);
        let count = event
            .count
            .max(series.and_then(|series| series.count))
            .unwrap_or(1);
        Some(Self {
            uid: event.metadata.uid.clone().filter(|uid| !uid.is_empty())?,
            kind,
            namespace: (about.namespace.clone())
                .or_else(|| event.metadata.namespace.clone())
                .unwrap_or_default(),
            name: about.name.clone().unwrap_or_default(),
            about_uid: about.uid.clone().unwrap_or_default(),
            message: event.message.clone().unwrap_or_default(),
            count: u32::try_from(count).unwrap_or(1).max(1),
            over: at.saturating_since(first.unwrap_or(at)),
            at,
        })
    }

    pub(crate) fn line(&self) -> Line {
        Line::event(&self.message, self.count, self.over, self.at)
    }
}
