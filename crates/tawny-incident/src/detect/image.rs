//! Images that cannot be pulled (section 4.2 row 7).

use std::sync::Arc;

use super::Look;
use crate::{
    Cause,
    message::{PullFailure, pull_failure, strip_combined},
    occurrence::Findings,
};

/// Waiting reasons of `pkg/kubelet/images/types.go` and the CRI. `ErrImagePull` and `ImagePullBackOff` take turns.
const REASONS: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

pub(super) fn detect(look: &Look<'_>, found: &mut Findings) {
    for container in &look.pod.containers {
        let reason = container.waiting_reason();
        if !REASONS.contains(&reason) {
            continue;
        }
        // While it backs off, the status forgets why; the event remembers.
        let event = look.event_where(
            Some(&container.name),
            &["Failed", "InspectFailed"],
            // Which only repeats the waiting reason.
            |event| !event.message.starts_with("Error: "),
        );
        let mut message = container.waiting_message();
        let mut failure = pull_failure(reason, message);
        if let (PullFailure::Unknown, Some(event)) = (failure, event) {
            message = strip_combined(&event.message);
            failure = pull_failure(reason, message);
        }
        let cause = Cause::ImagePull {
            image: Arc::clone(&container.image),
            failure,
        };
        let since = look.since(event);
        found
            .occurrences
            .push(look.trouble(Some(container), cause, since, message));
    }
}
