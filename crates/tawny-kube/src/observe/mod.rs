//! API objects as incident detection reads them: pure extracts into the types of `tawny_model::observed`.
//!
//! What an object leaves out stays empty there. An object without name or UID, which the API never sends, is `None`.

mod cluster;
mod event;
mod pod;
mod quantity;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tawny_model::{Timestamp, observed::Deletion};

use crate::facts::{instant, non_empty};

pub use cluster::{
    autoscaler_state, cron_job_state, daemon_set_state, deployment_state, job_state,
    namespace_state, node_state, replica_set_state, stateful_set_state,
};
pub use event::kube_event;
pub use pod::pod_state;

fn text(text: Option<&String>) -> Arc<str> {
    text.map(String::as_str).unwrap_or_default().into()
}

/// A time that was set: the zero times of Go and of the runtime (year 1, the epoch) mean that it was not.
fn moment(time: Option<&Time>) -> Option<Timestamp> {
    time.and_then(instant)
        .filter(|time| *time > Timestamp::default())
}

fn count(number: Option<i32>) -> u32 {
    number.and_then(|it| u32::try_from(it).ok()).unwrap_or(0)
}

fn uid_and_name(meta: &ObjectMeta) -> Option<(Arc<str>, Arc<str>)> {
    let uid = non_empty(meta.uid.as_deref())?;
    let name = non_empty(meta.name.as_deref())?;
    Some((uid.into(), name.into()))
}

fn deletion(meta: &ObjectMeta) -> Option<Deletion> {
    Some(Deletion {
        due: moment(meta.deletion_timestamp.as_ref())?,
        grace_secs: meta
            .deletion_grace_period_seconds
            .and_then(|secs| u64::try_from(secs).ok()),
    })
}

/// Conditions of every kind of object have the same five fields and different types.
macro_rules! conditions {
    ($conditions:expr) => {
        $conditions
            .into_iter()
            .flatten()
            .map(|condition| tawny_model::observed::Condition {
                kind: condition.type_.as_str().into(),
                status: tawny_model::observed::ConditionStatus::from_text(&condition.status),
                reason: $crate::observe::text(condition.reason.as_ref()),
                message: $crate::observe::text(condition.message.as_ref()),
                changed: $crate::observe::moment(condition.last_transition_time.as_ref()),
            })
            .collect()
    };
}
use conditions;

#[cfg(test)]
mod tests;
