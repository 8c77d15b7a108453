//! Names of cgroups: which belong to pods and containers, and whose they are.
//!
//! | driver | pod | container |
//! |---|---|---|
//! | cgroupfs | `kubepods/burstable/pod<uid>` | `<id>`, `crio-<id>` |
//! | systemd | `kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice`, `_` for `-` in the uid | `cri-containerd-<id>.scope`, `crio-<id>.scope`, `docker-<id>.scope` |
//! | mixed | containerd on cgroupfs below a kubelet on systemd: both in one name, `kubepods-burstable-pod<uid>.slice:cri-containerd:<id>` | |

/// Whether the kubelet keeps all pods below a cgroup of this name: `kubelet-kubepods.slice` where it was given a root
/// of its own, as kind does.
pub(super) fn holds_pods(name: &str) -> bool {
    name == "kubepods" || name == "kubepods.slice" || name.ends_with("-kubepods.slice")
}

/// The UID of the pod a cgroup is of.
pub(super) fn pod_uid(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    is_uid(&uid).then_some(uid)
}

/// The id of the container a cgroup right below a pod's is of.
pub(super) fn container_id(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (runtime, id) = name.rsplit_once('-').unwrap_or(("", name));
    // CRI-O's monitor of a container has a cgroup beside the container's, with the same id.
    (is_id(id) && !runtime.ends_with("conmon")).then_some(id)
}

/// Pod and container of a name that has both.
pub(super) fn pod_and_container(name: &str) -> Option<(String, &str)> {
    let (slice, rest) = name.split_once(':')?;
    let (_runtime, id) = rest.split_once(':')?;
    Some((pod_uid(slice)?, container_id(id)?))
}

/// A UUID, or the 32 digits of a static pod's hash.
fn is_uid(uid: &str) -> bool {
    (32..=36).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Runtimes give 64 hex digits; shorter ones are taken too, but no word that happens to be of such letters.
fn is_id(id: &str) -> bool {
    (32..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "7b0a3e9c-5f1d-4c2b-9e1f-3d8f5a6b7c8d";
    const ID: &str = "0f6c3a1b9d8e7f605142332415061728394a5b6c7d8e9f00112233445566778f";

    #[test]
    fn pods_of_both_drivers_are_known_by_uid() {
        let underscored = UID.replace('-', "_");
        for name in [
            format!("pod{UID}"),
            format!("kubepods-pod{underscored}.slice"),
            format!("kubepods-burstable-pod{underscored}.slice"),
            format!("kubelet-kubepods-besteffort-pod{underscored}.slice"),
        ] {
            assert_eq!(pod_uid(&name).as_deref(), Some(UID), "{name}");
        }
        let hash = "3f1c9b0a7d5e4f60a1b2c3d4e5f60718";
        assert_eq!(pod_uid(&format!("pod{hash}")).as_deref(), Some(hash));
        for name in [
            "burstable",
            "kubepods-burstable.slice",
            "podman",
            "pod",
            "kubepods.slice",
            "pod-of-whales-that-is-32-long-aa",
        ] {
            assert_eq!(pod_uid(name), None, "{name}");
        }
    }

    #[test]
    fn containers_of_each_runtime_are_known_by_id() {
        for name in [
            ID.to_owned(),
            format!("cri-containerd-{ID}.scope"),
            format!("crio-{ID}.scope"),
            format!("crio-{ID}"),
            format!("docker-{ID}.scope"),
        ] {
            assert_eq!(container_id(&name), Some(ID), "{name}");
        }
        for name in [
            format!("crio-conmon-{ID}.scope"),
            "container".to_owned(),
            "init.scope".to_owned(),
            "deadbeef".to_owned(),
            String::new(),
        ] {
            assert_eq!(container_id(&name), None, "{name}");
        }
    }

    #[test]
    fn name_of_mixed_drivers_has_both() {
        let name = format!(
            "kubepods-burstable-pod{}.slice:cri-containerd:{ID}",
            UID.replace('-', "_")
        );
        assert_eq!(pod_and_container(&name), Some((UID.to_owned(), ID)));
        assert_eq!(pod_and_container("a:b:c"), None);
    }

    #[test]
    fn pods_lie_below_the_kubelets_root_whatever_its_own_root_is() {
        for name in ["kubepods", "kubepods.slice", "kubelet-kubepods.slice"] {
            assert!(holds_pods(name), "{name}");
        }
        for name in ["kubelet.slice", "kubepods-burstable.slice", "docker"] {
            assert!(!holds_pods(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_survived(name in ".{0,80}") {
            let _found = (pod_uid(&name), container_id(&name), pod_and_container(&name), holds_pods(&name));
        }
    }
}
