//! Why a volume cannot be had, and which one (section 4.2 row 14).

use serde::{Deserialize, Serialize};

use super::{has_any, missing, quoted};

/// Why a volume cannot be had.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum MountFailure {
    /// Its secret, configmap or claim does not exist.
    ObjectMissing,
    /// Another node holds it.
    MultiAttach,
    /// A host path that is not of the type asked for.
    HostPath,
    Timeout,
    /// No volume could be made or found for a claim.
    Provisioning,
    Resize,
    #[default]
    Other,
}

impl MountFailure {
    pub fn name(self) -> &'static str {
        match self {
            Self::ObjectMissing => "object_missing",
            Self::MultiAttach => "multi_attach",
            Self::HostPath => "host_path",
            Self::Timeout => "timeout",
            Self::Provisioning => "provisioning",
            Self::Resize => "resize",
            Self::Other => "other",
        }
    }

    /// As the end of "the volume … cannot be used: ".
    pub fn meaning(self) -> &'static str {
        match self {
            Self::ObjectMissing => "what it is made from does not exist",
            Self::MultiAttach => "it is still attached to another node",
            Self::HostPath => "the path on the node is missing or of another type",
            Self::Timeout => "attaching or mounting it timed out",
            Self::Provisioning => "no storage could be provided for its claim",
            Self::Resize => "it could not be resized",
            Self::Other => "mounting it failed",
        }
    }
}

/// Reads an event's reason and message.
pub fn mount_failure(reason: &str, message: &str) -> MountFailure {
    match reason {
        "ProvisioningFailed" | "FailedBinding" => return MountFailure::Provisioning,
        "VolumeResizeFailed" | "FileSystemResizeFailed" => return MountFailure::Resize,
        _ => {}
    }
    if has_any(message, &["multi-attach error"]) {
        MountFailure::MultiAttach
    } else if missing(message).is_some() || has_any(message, &["not registered"]) {
        MountFailure::ObjectMissing
    } else if has_any(message, &["hostpath type check failed"]) {
        MountFailure::HostPath
    } else if has_any(message, &["timed out", "deadline exceeded", "timeout"]) {
        MountFailure::Timeout
    } else {
        MountFailure::Other
    }
}

/// What incidents of volumes are grouped by: the missing object, else the volume's name; empty if none is named.
pub fn volume_of(message: &str) -> String {
    if let Some(missing) = missing(message) {
        return missing.label();
    }
    if let Some(name) = quoted(message, "for volume ") {
        return format!("volume \"{name}\"");
    }
    // Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[…]: timed out …
    message
        .split_once("unmounted volumes=[")
        .and_then(|(_, rest)| rest.split_once(']'))
        .and_then(|(names, _)| names.split_ascii_whitespace().next())
        .map(|name| format!("volume \"{name}\""))
        .unwrap_or_default()
}
