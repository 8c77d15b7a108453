//! What makes two occurrences one incident (section 4.5, row "Fingerprint").

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tawny_model::{Timestamp, stream::Fnv};

use crate::{Cause, Error, Subject};

/// Hash of place, class of cause, and detail; stable, because it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

/// One incident: its fingerprint and when it was opened, printed as `89abcdef01234567-1763740800`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct IncidentId {
    pub fingerprint: Fingerprint,
    pub opened_secs: i64,
}

impl Fingerprint {
    /// Of what went wrong and where.
    ///
    /// | cause | place |
    /// |---|---|
    /// | node | cluster, node |
    /// | sandbox | cluster, node (its network is the node's) |
    /// | volume with a named object | cluster, namespace (workloads share claims and secrets) |
    /// | image, missing object | cluster, namespace, workload (its containers share them) |
    /// | any other | cluster, namespace, workload (else pod), container |
    pub fn of(subject: &Subject, cause: &Cause) -> Self {
        let (workload_kind, workload_name) = match &subject.workload {
            Some(workload) => (&*workload.kind, &*workload.name),
            None if !subject.pod.is_empty() => ("Pod", &*subject.pod),
            None => ("Node", &*subject.node),
        };
        let place = match cause {
            Cause::Node { .. } | Cause::Sandbox { .. } => ["", "Node", &*subject.node, ""],
            Cause::Volume { object, .. } if !object.is_empty() => [&*subject.namespace, "", "", ""],
            Cause::ImagePull { .. }
            | Cause::Config {
                missing: Some(_), ..
            } => [&*subject.namespace, workload_kind, workload_name, ""],
            _ => [
                &*subject.namespace,
                workload_kind,
                workload_name,
                &*subject.container,
            ],
        };
        let detail = cause.detail();
        let mut hash = Fnv::default();
        let parts = [&*subject.cluster]
            .into_iter()
            .chain(place)
            .chain([cause.class(), &detail]);
        for part in parts {
            hash.write(part.as_bytes());
            hash.write(&[0]);
        }
        Self(hash.finish())
    }
}

impl IncidentId {
    pub(super) fn new(fingerprint: Fingerprint, opened: Timestamp) -> Self {
        Self {
            fingerprint,
            opened_secs: opened.as_secs(),
        }
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.fingerprint.0, self.opened_secs)
    }
}

impl FromStr for IncidentId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (fingerprint, opened) = text.split_once('-')?;
            if fingerprint.len() != 16 {
                return None;
            }
            Some(Self {
                fingerprint: Fingerprint(u64::from_str_radix(fingerprint, 16).ok()?),
                opened_secs: opened.parse().ok()?,
            })
        };
        parse().ok_or_else(|| Error::BadIncidentId {
            text: text.to_owned(),
        })
    }
}

impl From<IncidentId> for String {
    fn from(id: IncidentId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for IncidentId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}
