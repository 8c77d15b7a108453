//! Kills by the kernel for want of memory: which run they ended, and which only took a child (section 4.2 rows 3 and 4).

use std::time::Duration;

use tawny_model::observed::{ContainerState, Terminated};

use super::{Look, OomProof};
use crate::{Cause, occurrence::Findings};

/// How far a kill counted in the cgroup may lie from the death it caused: the count is read every second, and
/// `finishedAt` is cut to whole seconds.
const OOM_WINDOW: Duration = Duration::from_secs(5);

/// Whether the kernel's count is about the run that ended.
pub(super) fn proves(proof: &OomProof, container: &str, terminated: &Terminated) -> bool {
    if !is_about(proof, container, &terminated.container_id) {
        return false;
    }
    let begun = terminated
        .started_at
        .is_none_or(|at| proof.at.saturating_add(OOM_WINDOW) >= at);
    // A child killed minutes before says nothing about who killed the main process.
    let near_end = terminated.finished_at.is_none_or(|at| {
        at.saturating_since(proof.at)
            .max(proof.at.saturating_since(at))
            <= OOM_WINDOW
    });
    begun && near_end
}

/// An id decides when both sides have one, else the container's name.
fn is_about(proof: &OomProof, container: &str, container_id: &str) -> bool {
    let bare = |id: &'_ str| -> String { id.rsplit('/').next().unwrap_or_default().to_owned() };
    let (proven, dead) = (bare(&proof.container_id), bare(container_id));
    if proven.is_empty() || dead.is_empty() {
        *proof.container == *container
    } else {
        proven == dead
    }
}

/// Kills in the cgroup of a container that goes on: a child process died (row 4).
pub(super) fn child_kills(
    look: &Look<'_>,
    container: &ContainerState,
    ended: &[&Terminated],
    found: &mut Findings,
) {
    for proof in &look.ooms {
        if !container.is_running() || !is_about(proof, &container.name, &container.container_id) {
            continue;
        }
        let is_of_a_death = ended
            .iter()
            .any(|terminated| proves(proof, &container.name, terminated));
        // The status of a main process that was killed may come a moment after the count.
        if is_of_a_death || !look.is_over(proof.at, OOM_WINDOW, found) {
            continue;
        }
        let mut occurrence =
            look.trouble(Some(container), Cause::ChildOutOfMemory, Some(proof.at), "");
        occurrence.key = format!(
            "oom/{}/{}/{}",
            look.pod.uid, container.container_id, proof.kills
        );
        found.occurrences.push(occurrence);
    }
}
