//! Why an image could not be pulled, from what runtimes and registries answer (section 4.2 row 7).

use serde::{Deserialize, Serialize};

use super::has_any;

/// Why an image cannot be had.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PullFailure {
    NotFound,
    Unauthorized,
    Certificate,
    Timeout,
    RateLimit,
    NoMatchingManifest,
    InvalidName,
    /// `imagePullPolicy: Never`, and the node does not have it.
    NeverPulled,
    /// The registry's name does not resolve or nothing listens there.
    Unreachable,
    Signature,
    NoSpace,
    #[default]
    Unknown,
}

impl PullFailure {
    /// As the end of "the image … cannot be pulled: ".
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NotFound => "the registry does not have it",
            Self::Unauthorized => "the registry refuses access",
            Self::Certificate => "the registry's certificate is not trusted",
            Self::Timeout => "the registry did not answer in time",
            Self::RateLimit => "the registry's rate limit is used up",
            Self::NoMatchingManifest => "it is not built for this node's platform",
            Self::InvalidName => "its name is not valid",
            Self::NeverPulled => "the node does not have it and the pull policy is Never",
            Self::Unreachable => "the registry cannot be reached",
            Self::Signature => "its signature is not valid",
            Self::NoSpace => "the node's disk is full",
            Self::Unknown => "the kubelet does not say why",
        }
    }
}

/// Reads the waiting reason and message, or an event's message.
///
/// The order matters: registries say "not found" along with what really went wrong.
pub fn pull_failure(reason: &str, message: &str) -> PullFailure {
    match reason {
        "InvalidImageName" => return PullFailure::InvalidName,
        "ErrImageNeverPull" => return PullFailure::NeverPulled,
        "SignatureValidationFailed" => return PullFailure::Signature,
        _ => {}
    }
    let says = |needles: &[&str]| has_any(message, needles);
    if says(&["toomanyrequests", "429 too many", "rate limit"]) {
        PullFailure::RateLimit
    } else if says(&["x509:", "tls: failed to verify certificate"]) {
        PullFailure::Certificate
    } else if says(&[
        "no match for platform",
        "no matching manifest",
        "no image found in manifest list for architecture",
        "no image found in image index for architecture",
    ]) {
        PullFailure::NoMatchingManifest
    } else if says(&["no space left on device"]) {
        PullFailure::NoSpace
    } else if says(&[
        "connection refused",
        "no such host",
        "network is unreachable",
        "no route to host",
        "server misbehaving",
    ]) {
        PullFailure::Unreachable
    } else if says(&[
        "i/o timeout",
        "deadline exceeded",
        "timeout exceeded",
        "request canceled",
        "handshake timeout",
    ]) {
        PullFailure::Timeout
    } else if says(&[
        "unauthorized",
        "403 forbidden",
        "pull access denied",
        "authorization failed",
        "insufficient_scope",
        "authentication required",
        "access forbidden",
        "no basic auth credentials",
    ]) {
        PullFailure::Unauthorized
    } else if says(&["invalid reference format", "couldn't parse image"]) {
        PullFailure::InvalidName
    } else if says(&["not found", "notfound", "manifest unknown"]) {
        PullFailure::NotFound
    } else if says(&["is not present with pull policy of never"]) {
        PullFailure::NeverPulled
    } else {
        PullFailure::Unknown
    }
}
