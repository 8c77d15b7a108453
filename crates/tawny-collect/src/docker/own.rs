//! The container this process runs in, so that it does not read its own lines in a loop (SX-27); pure.

use super::engine::Inspected;

/// Compose's name for the service a container belongs to.
pub(crate) const COMPOSE_SERVICE: &str = "com.docker.compose.service";

/// Least length at which a host name counts as the front of a container id: engines use 12.
const MIN_ID_PREFIX: usize = 12;

/// Length of a full container id.
const ID_BYTES: usize = 64;

/// What is known of the own container. The default matches none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnContainer {
    host_name: String,
    ids: Vec<String>,
}

impl OwnContainer {
    /// Finds out from the `HOSTNAME` variable and the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`; each may
    /// be empty.
    pub fn find(host_name: &str, cgroup: &str, mountinfo: &str) -> Self {
        // 5:cpu:/docker/<id>, 0::/system.slice/docker-<id>.scope, 0::/…/libpod-<id>.scope
        let of_cgroup = cgroup
            .lines()
            .filter_map(|line| line.rsplit('/').find_map(id_in));
        // Only what engines mount into their own containers: on the host, the table lists those of all containers.
        let of_mounts = mountinfo.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(3);
            let (root, mount_point) = (fields.next()?, fields.next()?);
            matches!(
                mount_point,
                "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf"
            )
            .then(|| root.split('/').find_map(id_in))?
        });
        let mut ids: Vec<String> = of_cgroup.chain(of_mounts).map(str::to_owned).collect();
        ids.sort_unstable();
        ids.dedup();
        Self {
            host_name: host_name.to_owned(),
            ids,
        }
    }

    /// Whether `container` is this process's own.
    pub(crate) fn is(&self, container: &Inspected) -> bool {
        if self.ids.contains(&container.id) {
            return true;
        }
        let host_name = self.host_name.as_str();
        let is_id = host_name.len() >= MIN_ID_PREFIX && container.id.starts_with(host_name);
        let is_name = !host_name.is_empty() && container.name.trim_start_matches('/') == host_name;
        let service = container
            .config
            .labels
            .as_ref()
            .and_then(|labels| labels.get(COMPOSE_SERVICE));
        let is_service =
            !host_name.is_empty() && service.is_some_and(|service| service == host_name);
        is_id || is_name || is_service
    }
}

/// A container id in one segment of a path, bare or between a prefix and a suffix.
fn id_in(segment: &str) -> Option<&str> {
    segment
        .split(['-', '.', ':'])
        .find(|part| part.len() == ID_BYTES && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    fn container(id: &str, name: &str, service: &str) -> Inspected {
        serde_json::from_value(json!({
            "Id": id, "Name": name, "State": {"Running": true},
            "Config": {"Labels": {COMPOSE_SERVICE: service}},
        }))
        .unwrap()
    }

    #[test]
    fn own_container_is_known_by_host_name_in_all_its_meanings() {
        let by_id = OwnContainer::find("0123456789ab", "", "");
        assert!(by_id.is(&container(ID, "/x", "y")));
        assert!(!by_id.is(&container(OTHER, "/x", "y")));
        let by_name = OwnContainer::find("strixlog", "", "");
        assert!(by_name.is(&container(ID, "/strixlog", "y")));
        assert!(by_name.is(&container(ID, "/shop-strixlog-1", "strixlog")));
        assert!(!by_name.is(&container(ID, "/randomlog", "randomlog")));
        let short = OwnContainer::find("0123", "", "");
        assert!(!short.is(&container(ID, "/x", "y")));
        assert!(!OwnContainer::default().is(&container(ID, "/", "")));
    }

    #[test]
    fn own_id_is_read_from_cgroups_of_both_versions_and_from_mounts() {
        for (cgroup, mountinfo) in [
            (
                format!("12:cpu:/docker/{ID}\n11:memory:/docker/{ID}\n"),
                String::new(),
            ),
            (
                format!("0::/system.slice/docker-{ID}.scope\n"),
                String::new(),
            ),
            (
                format!("0::/machine.slice/libpod-{ID}.scope/container\n"),
                String::new(),
            ),
            (
                "0::/\n".to_owned(),
                format!(
                    "660 627 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/vda1 rw\n"
                ),
            ),
            (
                "0::/\n".to_owned(),
                format!(
                    "660 627 0:24 /containers/overlay-containers/{ID}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw\n"
                ),
            ),
        ] {
            let own = OwnContainer::find("a-host", &cgroup, &mountinfo);
            assert!(own.is(&container(ID, "/x", "y")), "{cgroup}{mountinfo}");
            assert!(!own.is(&container(OTHER, "/x", "y")));
        }
    }

    #[test]
    fn mounts_of_others_seen_from_the_host_do_not_count() {
        let mountinfo = format!(
            "700 30 0:50 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\nshort line\n"
        );
        let own = OwnContainer::find("host", "0::/user.slice/session-1.scope\n", &mountinfo);
        assert!(!own.is(&container(ID, "/x", "y")));
    }
}
