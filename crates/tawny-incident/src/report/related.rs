//! Which events belong to a report (section 4.5, row "Correlate").

use std::time::Duration;

use tawny_model::observed::KubeEvent;

use crate::Occurrence;

/// Events this long before an occurrence may have led to it …
const BEFORE: Duration = Duration::from_secs(10 * 60);
/// … and this long after it may follow from it.
const AFTER: Duration = Duration::from_secs(2 * 60);

/// The events about an occurrence's pod, its workload and its node around it, the oldest first.
pub fn related_events<'a>(
    occurrence: &Occurrence,
    events: impl IntoIterator<Item = &'a KubeEvent>,
) -> Vec<&'a KubeEvent> {
    let from = occurrence.at.saturating_sub(BEFORE);
    let to = occurrence.at.saturating_add(AFTER);
    let mut related: Vec<&KubeEvent> = events
        .into_iter()
        .filter(|event| (from..=to).contains(&event.at) && is_about(event, occurrence))
        .collect();
    related.sort_by_key(|event| event.at);
    related
}

fn is_about(event: &KubeEvent, occurrence: &Occurrence) -> bool {
    let (object, subject) = (&event.object, &occurrence.subject);
    if &*object.kind == "Node" {
        return !subject.node.is_empty() && object.name == subject.node;
    }
    if object.namespace != subject.namespace {
        return false;
    }
    if &*object.kind == "Pod" {
        return object.uid == subject.pod_uid && !object.uid.is_empty();
    }
    subject.workload.as_ref().is_some_and(|workload| {
        let is_itself = object.kind == workload.kind && object.name == workload.name;
        // The ReplicaSet of a Deployment and the Job of a CronJob are named after it and their pods after them.
        let is_between = !subject.pod.is_empty()
            && is_made_by(&object.name, &workload.name)
            && is_made_by(&subject.pod, &object.name);
        is_itself || is_between
    })
}

fn is_made_by(name: &str, maker: &str) -> bool {
    name.strip_prefix(maker)
        .is_some_and(|suffix| suffix.starts_with('-'))
}
