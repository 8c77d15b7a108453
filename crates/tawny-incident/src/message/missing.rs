//! The object a pod names and the cluster does not have (section 4.2 rows 8 and 14).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::quoted;

/// A missing object, or a missing key of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Missing {
    pub kind: MissingKind,
    /// Empty when the message names only the key.
    pub name: Arc<str>,
    /// The key that is missing; empty when the whole object is.
    #[serde(default)]
    pub key: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingKind {
    Secret,
    ConfigMap,
    ServiceAccount,
    VolumeClaim,
}

impl MissingKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::ConfigMap => "configmap",
            Self::ServiceAccount => "serviceaccount",
            Self::VolumeClaim => "persistentvolumeclaim",
        }
    }
}

impl Missing {
    /// `secret "db"`, or `key "url" of secret "db"`.
    pub fn label(&self) -> String {
        let kind = self.kind.name();
        match (&*self.name, &*self.key) {
            (name, "") => format!("{kind} \"{name}\""),
            ("", key) => format!("key \"{key}\" of a {kind}"),
            (name, key) => format!("key \"{key}\" of {kind} \"{name}\""),
        }
    }
}

/// Reads what a kubelet or scheduler misses, in the wordings of `pkg/kubelet` and `pkg/volume`:
/// `secret "x" not found`, `couldn't find key k in ConfigMap ns/c`, `references non-existent secret key: k`.
pub fn missing(message: &str) -> Option<Missing> {
    key_of_object(message)
        .or_else(|| key_of_volume(message))
        .or_else(|| object(message))
}

fn key_of_object(message: &str) -> Option<Missing> {
    let (_, rest) = message.split_once("couldn't find key ")?;
    let (key, rest) = rest.split_once(" in ")?;
    let mut words = rest.split_ascii_whitespace();
    let kind = match words.next()? {
        "Secret" => MissingKind::Secret,
        "ConfigMap" => MissingKind::ConfigMap,
        _ => return None,
    };
    let place = words.next()?;
    let name = place.rsplit_once('/').map_or(place, |(_, name)| name);
    Some(Missing {
        kind,
        name: name.into(),
        key: key.into(),
    })
}

fn key_of_volume(message: &str) -> Option<Missing> {
    let (before, key) = message.split_once(" key: ")?;
    let kind = if before.ends_with("non-existent secret") {
        MissingKind::Secret
    } else if before.ends_with("non-existent config") {
        MissingKind::ConfigMap
    } else {
        return None;
    };
    Some(Missing {
        kind,
        name: "".into(),
        key: key.split_ascii_whitespace().next()?.into(),
    })
}

fn object(message: &str) -> Option<Missing> {
    let kinds = [
        ("secret ", MissingKind::Secret),
        ("secrets ", MissingKind::Secret),
        ("configmap ", MissingKind::ConfigMap),
        ("configmaps ", MissingKind::ConfigMap),
        ("serviceaccount ", MissingKind::ServiceAccount),
        ("serviceaccounts ", MissingKind::ServiceAccount),
        ("persistentvolumeclaim ", MissingKind::VolumeClaim),
        ("persistentvolumeclaims ", MissingKind::VolumeClaim),
    ];
    kinds.into_iter().find_map(|(before, kind)| {
        // The name must stand at once behind its kind and be what is not found.
        let opening = format!("{before}\"");
        let (_, rest) = message.split_once(&opening)?;
        let (name, rest) = rest.split_once('"')?;
        let is_missing = rest.starts_with(" not found") || rest.starts_with(" does not exist");
        (is_missing && quoted(message, before).is_some()).then(|| Missing {
            kind,
            name: name.into(),
            key: "".into(),
        })
    })
}
