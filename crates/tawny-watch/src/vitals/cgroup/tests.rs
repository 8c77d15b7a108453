//! Recorded trees of both versions, as kubelets and runtimes make them, in a folder.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use serde_json::json;

use super::{
    measure::{self, V1Dirs},
    tree::{Places, Tree},
    *,
};

const UID: &str = "7b0a3e9c-5f1d-4c2b-9e1f-3d8f5a6b7c8d";
const UID_2: &str = "d139a543-25c5-475d-a545-3a1329f323f9";

/// The nth container's id.
fn id(n: u64) -> String {
    format!("{n:064x}")
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_795_294_200 + secs)
}

/// A folder in which cgroups are made by writing their files.
struct Node {
    dir: tempfile::TempDir,
    tracker: Tracker,
}

/// What the files of a cgroup say; its processor time grows with what happens.
#[derive(Clone, Copy)]
struct Cgroup {
    kills: u64,
    usage: u64,
}

const QUIET: Cgroup = Cgroup {
    kills: 0,
    usage: 50_003_968,
};

impl Node {
    fn v1() -> Self {
        let node = Self::empty();
        fs::create_dir_all(node.path("memory")).unwrap();
        fs::create_dir_all(node.path("cpuacct")).unwrap();
        fs::create_dir_all(node.path("cpu")).unwrap();
        fs::create_dir_all(node.path("unified")).unwrap();
        fs::write(node.path("unified/cgroup.controllers"), "").unwrap();
        node
    }

    fn v2() -> Self {
        let node = Self::empty();
        fs::write(node.path("cgroup.controllers"), "cpu memory pids\n").unwrap();
        node
    }

    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tracker = Tracker::new(dir.path().to_owned());
        Self { dir, tracker }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// As Linux 6.18 writes the files of v2.
    fn put_v2(&self, path: &str, cgroup: Cgroup) {
        let Cgroup { kills, usage } = cgroup;
        for (name, text) in [
            ("memory.current", format!("{usage}\n")),
            ("memory.max", "67108864\n".to_owned()),
            (
                "memory.stat",
                "anon 46465024\nfile 3538944\nkernel 458752\ninactive_anon 46432256\nactive_anon 0\n\
                 inactive_file 3162112\nactive_file 376832\n"
                    .to_owned(),
            ),
            (
                "memory.events",
                format!("low 0\nhigh 0\nmax 41\noom {kills}\noom_kill {kills}\noom_group_kill 0\n"),
            ),
            (
                "cpu.stat",
                format!(
                    "usage_usec {}\nuser_usec 1000000\nsystem_usec 234567\nnr_periods 20\n\
                     nr_throttled 3\nthrottled_usec 250000\n",
                    1_234_567 + kills
                ),
            ),
        ] {
            self.write(&format!("{path}/{name}"), &text);
        }
    }

    /// As Linux 6.18 writes the files of v1, processor controllers apart.
    fn put_v1(&self, path: &str, cgroup: Cgroup) {
        let Cgroup { kills, usage } = cgroup;
        for (name, text) in [
            ("memory/{}/memory.usage_in_bytes", format!("{usage}\n")),
            ("memory/{}/memory.limit_in_bytes", "67108864\n".to_owned()),
            (
                "memory/{}/memory.stat",
                "cache 3538944\nrss 46465024\ninactive_file 1000\nactive_file 0\n\
                 hierarchical_memory_limit 67108864\ntotal_cache 3538944\ntotal_inactive_file 3162112\n"
                    .to_owned(),
            ),
            (
                "memory/{}/memory.oom_control",
                format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"),
            ),
            (
                "cpuacct/{}/cpuacct.usage",
                format!("{}\n", 1_234_567_891 + kills),
            ),
            (
                "cpu/{}/cpu.stat",
                "nr_periods 20\nnr_throttled 3\nthrottled_time 250000001\n".to_owned(),
            ),
        ] {
            self.write(&name.replace("{}", path), &text);
        }
    }

    fn remove(&self, path: &str) {
        fs::remove_dir_all(self.path(path)).unwrap();
    }

    fn walk(&mut self, secs: i64) -> Walk {
        self.tracker.walk(at(secs)).unwrap()
    }
}

fn keys(walk: &Walk) -> BTreeSet<(String, String)> {
    let key = |sample: &ContainerSample| {
        let container = &sample.container;
        (
            container.pod_uid.to_string(),
            container.container_id.to_string(),
        )
    };
    walk.samples.iter().map(key).collect()
}

fn kills(walk: &Walk) -> Vec<(String, u64)> {
    let kill = |proof: &OomProof| (proof.container_id.to_string(), proof.kills);
    walk.proofs.iter().map(kill).collect()
}

fn gone(walk: &Walk) -> Vec<String> {
    let id = |sample: &ContainerSample| sample.container.container_id.to_string();
    walk.gone.iter().map(id).collect()
}

fn systemd_pod(uid: &str) -> String {
    let uid = uid.replace('-', "_");
    format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice")
}

fn scope(uid: &str, n: u64) -> String {
    format!("{}/cri-containerd-{}.scope", systemd_pod(uid), id(n))
}

fn cgroupfs(uid: &str, n: u64) -> String {
    format!("kubepods/burstable/pod{uid}/{}", id(n))
}

#[test]
fn v2_containers_of_each_driver_and_runtime_are_found() {
    let underscored = UID_2.replace('-', "_");
    let kind = format!(
        "docker/{}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
         kubelet-kubepods-besteffort-pod{underscored}.slice",
        id(99)
    );
    for (path, uid) in [
        (scope(UID, 1), UID),
        (cgroupfs(UID, 1), UID),
        (format!("kubepods/pod{UID}/{}", id(1)), UID),
        (
            format!(
                "kubepods.slice/kubepods-pod{underscored}.slice/crio-{}.scope",
                id(1)
            ),
            UID_2,
        ),
        (format!("{}/docker-{}.scope", systemd_pod(UID), id(1)), UID),
        (format!("{kind}/cri-containerd-{}.scope", id(1)), UID_2),
        (
            format!("k8s.io/kubelet/kubepods/besteffort/pod{UID}/{}", id(1)),
            UID,
        ),
        (
            format!(
                "system.slice/containerd.service/kubepods-burstable-pod{underscored}.slice:cri-containerd:{}",
                id(1)
            ),
            UID_2,
        ),
    ] {
        let mut node = Node::v2();
        node.put_v2(&path, QUIET);
        node.put_v2("system.slice/sshd.service", QUIET);
        assert_eq!(
            keys(&node.walk(0)),
            BTreeSet::from([(uid.to_owned(), id(1))]),
            "{path}"
        );
    }
}

#[test]
fn monitors_and_what_lies_inside_a_container_are_no_containers() {
    let mut node = Node::v2();
    let pod = systemd_pod(UID);
    node.put_v2(&format!("{pod}/crio-{}.scope/container", id(1)), QUIET);
    node.put_v2(&format!("{pod}/crio-{}.scope", id(1)), QUIET);
    node.put_v2(&format!("{pod}/crio-conmon-{}.scope", id(1)), QUIET);
    node.put_v2(
        &format!("{pod}/crio-{}.scope/kubepods/pod{UID_2}/{}", id(1), id(2)),
        QUIET,
    );
    assert_eq!(
        keys(&node.walk(0)),
        BTreeSet::from([(UID.to_owned(), id(1))])
    );
}

#[test]
fn v2_measures_of_a_recorded_cgroup() {
    let mut node = Node::v2();
    node.put_v2(&scope(UID, 1), Cgroup { kills: 2, ..QUIET });
    let walk = node.walk(7);
    assert_eq!(
        walk.samples,
        [ContainerSample {
            at: at(7),
            container: Arc::new(ContainerKey {
                pod_uid: UID.into(),
                container_id: id(1).into(),
            }),
            measures: Measures {
                memory_bytes: Some(50_003_968 - 3_162_112),
                memory_limit_bytes: Some(67_108_864),
                cpu_ns: Some(1_234_569_000),
                throttled_ns: Some(250_000_000),
                oom_kills: Some(2),
            },
        }]
    );
}

#[test]
fn v1_measures_of_a_recorded_cgroup_whatever_else_is_mounted() {
    let mut node = Node::v1();
    node.put_v1(&cgroupfs(UID, 1), Cgroup { kills: 2, ..QUIET });
    let walk = node.walk(7);
    assert_eq!(
        keys(&walk),
        BTreeSet::from([(UID.to_owned(), id(1))]),
        "an empty v2 tree at `unified` does not hide v1"
    );
    assert_eq!(
        walk.samples[0].measures,
        Measures {
            memory_bytes: Some(50_003_968 - 3_162_112),
            memory_limit_bytes: Some(67_108_864),
            cpu_ns: Some(1_234_567_893),
            throttled_ns: Some(250_000_001),
            oom_kills: Some(2),
        }
    );
}

#[test]
fn v1_controllers_of_the_processor_may_be_mounted_together() {
    let mut node = Node::v1();
    let path = scope(UID, 1);
    node.put_v1(&path, QUIET);
    fs::rename(node.path("cpu"), node.path("cpu,cpuacct")).unwrap();
    fs::rename(
        node.path(&format!("cpuacct/{path}/cpuacct.usage")),
        node.path(&format!("cpu,cpuacct/{path}/cpuacct.usage")),
    )
    .unwrap();
    node.remove("cpuacct");
    let measures = node.walk(0).samples[0].measures;
    assert_eq!(measures.cpu_ns, Some(1_234_567_891));
    assert_eq!(measures.throttled_ns, Some(250_000_001));
}

#[test]
fn container_without_a_limit_has_none() {
    let mut node = Node::v2();
    node.put_v2(&scope(UID, 1), QUIET);
    node.write(&format!("{}/memory.max", scope(UID, 1)), "max\n");
    assert_eq!(node.walk(0).samples[0].measures.memory_limit_bytes, None);

    let mut node = Node::v1();
    node.put_v1(&cgroupfs(UID, 1), QUIET);
    node.write(
        &format!("memory/{}/memory.limit_in_bytes", cgroupfs(UID, 1)),
        "9223372036854771712\n",
    );
    assert_eq!(node.walk(0).samples[0].measures.memory_limit_bytes, None);
}

#[test]
fn what_a_tree_does_not_tell_is_missing() {
    let mut node = Node::v2();
    node.put_v2(&scope(UID, 1), QUIET);
    for name in ["memory.current", "memory.stat", "memory.events"] {
        fs::remove_file(node.path(&format!("{}/{name}", scope(UID, 1)))).unwrap();
    }
    node.write(&format!("{}/memory.max", scope(UID, 1)), "many\n");
    let measures = node.walk(0).samples[0].measures;
    assert_eq!(
        measures,
        Measures {
            cpu_ns: Some(1_234_567_000),
            throttled_ns: Some(250_000_000),
            ..Measures::default()
        }
    );
}

/// Section 4.2 row 4.
#[test]
fn grown_kills_are_a_proof_once_on_either_version() {
    type Put = fn(&Node, Cgroup);
    let v1: (Node, Put) = (Node::v1(), |node, cgroup| {
        node.put_v1(&cgroupfs(UID, 1), cgroup)
    });
    let v2: (Node, Put) = (Node::v2(), |node, cgroup| {
        node.put_v2(&scope(UID, 1), cgroup)
    });
    for (mut node, put) in [v1, v2] {
        put(&node, QUIET);
        assert_eq!(node.walk(0).proofs, []);
        put(&node, Cgroup { kills: 1, ..QUIET });
        assert_eq!(
            node.walk(1).proofs,
            [OomProof {
                pod_uid: UID.into(),
                container_id: id(1).into(),
                container: "".into(),
                at: at(1),
                kills: 1,
            }]
        );
        assert_eq!(node.walk(2).proofs, [], "told once");
        put(&node, Cgroup { kills: 4, ..QUIET });
        assert_eq!(kills(&node.walk(3)), [(id(1), 4)]);
    }
}

#[test]
fn kills_from_before_watching_are_no_proof() {
    let mut node = Node::v2();
    node.put_v2(&scope(UID, 1), Cgroup { kills: 3, ..QUIET });
    node.put_v2(&systemd_pod(UID), Cgroup { kills: 5, ..QUIET });
    assert_eq!(node.walk(0).proofs, []);
    assert_eq!(node.walk(1).proofs, []);
    node.put_v2(&scope(UID, 1), Cgroup { kills: 4, ..QUIET });
    node.put_v2(&systemd_pod(UID), Cgroup { kills: 6, ..QUIET });
    assert_eq!(kills(&node.walk(2)), [(id(1), 4)]);
}

#[test]
fn kills_of_a_container_that_started_since_are_a_proof() {
    let mut node = Node::v1();
    assert_eq!(node.walk(0), Walk::default());
    node.put_v1(&cgroupfs(UID, 1), Cgroup { kills: 1, ..QUIET });
    // The kubelet's own cgroup came after the first walk and is searched for again.
    assert_eq!(node.walk(9).samples, []);
    assert_eq!(kills(&node.walk(10)), [(id(1), 1)]);
    node.put_v1(&cgroupfs(UID, 2), Cgroup { kills: 2, ..QUIET });
    assert_eq!(kills(&node.walk(11)), [(id(2), 2)]);
}

#[test]
fn container_that_could_not_be_seen_for_a_while_is_not_new() {
    let mut node = Node::v2();
    let path = scope(UID, 1);
    node.put_v2(&path, Cgroup { kills: 2, ..QUIET });
    node.walk(0);
    fs::rename(node.path(&path), node.path("aside")).unwrap();
    assert_eq!(gone(&node.walk(1)), [id(1)]);
    fs::rename(node.path("aside"), node.path(&path)).unwrap();
    assert_eq!(node.walk(2).proofs, []);
    // A file that could not be read once does not hide what grew meanwhile.
    let events = format!("{path}/memory.events");
    fs::remove_file(node.path(&events)).unwrap();
    node.write(&format!("{path}/cpu.stat"), "usage_usec 1900000\n");
    let walk = node.walk(3);
    assert_eq!(
        (walk.samples[0].measures.oom_kills, walk.proofs),
        (None, vec![])
    );
    node.write(&events, "oom_kill 3\n");
    node.write(&format!("{path}/cpu.stat"), "usage_usec 2000000\n");
    assert_eq!(kills(&node.walk(4)), [(id(1), 3)]);
}

#[test]
fn idle_container_is_read_again_when_it_runs_and_at_least_every_ten_seconds() {
    type Put = fn(&Node, Cgroup);
    let v1: (Node, Put, String) = (
        Node::v1(),
        |node, cgroup| node.put_v1(&cgroupfs(UID, 1), cgroup),
        format!("memory/{}/memory.limit_in_bytes", cgroupfs(UID, 1)),
    );
    let v2: (Node, Put, String) = (
        Node::v2(),
        |node, cgroup| node.put_v2(&scope(UID, 1), cgroup),
        format!("{}/memory.max", scope(UID, 1)),
    );
    for (mut node, put, limit) in [v1, v2] {
        put(&node, QUIET);
        node.walk(0);
        let mut limit_at = |secs| node_limit(&node.tracker.walk(at(secs)).unwrap());
        fs::write(node.dir.path().join(&limit), "1048576\n").unwrap();
        assert_eq!(limit_at(1), Some(67_108_864), "as it was: nothing ran");
        assert_eq!(limit_at(9), Some(67_108_864));
        assert_eq!(limit_at(10), Some(1_048_576), "read anyway");
        fs::write(node.dir.path().join(&limit), "max\n").unwrap();
        assert_eq!(limit_at(11), Some(1_048_576), "and not again at once");
        put(&node, Cgroup { kills: 1, ..QUIET });
        let walk = node.walk(12);
        assert_eq!(node_limit(&walk), Some(67_108_864), "read because it ran");
        assert_eq!(kills(&walk), [(id(1), 1)]);
    }
}

fn node_limit(walk: &Walk) -> Option<u64> {
    walk.samples[0].measures.memory_limit_bytes
}

#[test]
fn container_that_is_gone_leaves_its_last_measures_once() {
    let mut node = Node::v2();
    node.put_v2(&scope(UID, 1), QUIET);
    node.put_v2(&scope(UID, 2), QUIET);
    node.walk(0);
    node.remove(&scope(UID, 2));
    let walk = node.walk(1);
    assert_eq!(gone(&walk), [id(2)]);
    assert_eq!(walk.gone[0].at, at(0));
    assert_eq!(walk.gone[0].measures.memory_bytes, Some(46_841_856));
    assert_eq!(node.walk(2).gone, []);
}

#[test]
fn cgroup_that_goes_while_it_is_read_is_gone() {
    let mut node = Node::v2();
    node.put_v2(&scope(UID, 1), QUIET);
    node.walk(0);
    // As the kernel shows a removed cgroup to who still has it open: a folder without files.
    for entry in fs::read_dir(node.path(&scope(UID, 1))).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(gone(&node.walk(1)), [id(1)]);
}

/// Section 4.2 row 3: the whole container is killed, and its cgroup removed before it could be read again.
#[test]
fn v2_kills_that_only_the_pod_still_counts_are_those_of_the_container_that_is_gone() {
    let mut node = Node::v2();
    node.put_v2(&systemd_pod(UID), QUIET);
    node.put_v2(&scope(UID, 1), QUIET);
    node.put_v2(&scope(UID, 2), Cgroup { kills: 0, ..QUIET });
    node.walk(0);
    node.put_v2(&scope(UID, 2), Cgroup { kills: 1, ..QUIET });
    node.put_v2(&systemd_pod(UID), Cgroup { kills: 1, ..QUIET });
    assert_eq!(kills(&node.walk(1)), [(id(2), 1)]);
    node.remove(&scope(UID, 2));
    node.put_v2(&systemd_pod(UID), Cgroup { kills: 2, ..QUIET });
    let walk = node.walk(2);
    assert_eq!(kills(&walk), [(id(2), 2)]);
    assert_eq!(walk.proofs[0].at, at(2));
    assert_eq!(node.walk(3).proofs, []);
    // The next container that goes has nothing to do with it.
    node.remove(&scope(UID, 1));
    assert_eq!(node.walk(4).proofs, []);
}

#[test]
fn v2_kill_counted_between_the_pods_file_and_the_containers_is_told_once() {
    let mut node = Node::v2();
    node.put_v2(&systemd_pod(UID), QUIET);
    node.put_v2(&scope(UID, 1), QUIET);
    node.put_v2(&scope(UID, 2), QUIET);
    node.walk(0);
    node.put_v2(&scope(UID, 1), Cgroup { kills: 1, ..QUIET });
    assert_eq!(kills(&node.walk(1)), [(id(1), 1)]);
    node.put_v2(&systemd_pod(UID), Cgroup { kills: 1, ..QUIET });
    node.remove(&scope(UID, 2));
    assert_eq!(node.walk(2).proofs, []);
}

#[test]
fn v2_kills_that_fit_two_containers_accuse_neither() {
    let mut node = Node::v2();
    node.put_v2(&systemd_pod(UID), QUIET);
    node.put_v2(&scope(UID, 1), QUIET);
    node.put_v2(&scope(UID, 2), QUIET);
    node.put_v2(&scope(UID, 3), QUIET);
    node.walk(0);
    node.remove(&scope(UID, 1));
    node.remove(&scope(UID, 2));
    node.put_v2(&systemd_pod(UID), Cgroup { kills: 1, ..QUIET });
    assert_eq!(node.walk(1).proofs, []);
    node.remove(&scope(UID, 3));
    assert_eq!(node.walk(2).proofs, []);
}

#[test]
fn root_without_a_tree_says_what_to_mount_and_one_mounted_later_is_found() {
    let mut node = Node::empty();
    let error = node.tracker.walk(at(0)).unwrap_err().to_string();
    assert!(error.contains("mount the host's /sys/fs/cgroup"), "{error}");
    node.write("cgroup.controllers", "memory\n");
    node.put_v2(&scope(UID, 1), Cgroup { kills: 2, ..QUIET });
    let walk = node.walk(10);
    assert_eq!(walk.samples.len(), 1);
    assert_eq!(walk.proofs, [], "nothing was watched before");
}

#[test]
fn clock_that_goes_back_does_not_stop_the_search() {
    let mut node = Node::v2();
    node.walk(10_000);
    node.put_v2(&scope(UID, 1), QUIET);
    assert_eq!(node.walk(0).samples.len(), 1);
}

#[test]
fn container_listed_under_two_roots_is_measured_once() {
    let mut node = Node::v2();
    node.put_v2(&scope(UID, 1), QUIET);
    node.put_v2(&format!("k8s.io/{}", scope(UID, 1)), QUIET);
    assert_eq!(node.walk(0).samples.len(), 1);
}

#[test]
fn links_are_not_followed() {
    let mut node = Node::v2();
    node.put_v2(&scope(UID, 1), QUIET);
    std::os::unix::fs::symlink(node.dir.path(), node.path("kubepods.slice/again")).unwrap();
    std::os::unix::fs::symlink(node.dir.path(), node.path("loop")).unwrap();
    assert_eq!(node.walk(0).samples.len(), 1);
    let tree = Tree::find(node.dir.path()).unwrap();
    assert_eq!(tree.search(), [Path::new("kubepods.slice")]);
}

#[test]
fn search_finds_the_kubelets_cgroup_as_deep_as_kind_puts_it_and_no_deeper() {
    let node = Node::v2();
    node.write("a/b/c/d/e/kubepods/x", "");
    node.write("a/b/c/d/e/f/kubepods/x", "");
    let tree = Tree::find(node.dir.path()).unwrap();
    assert_eq!(tree.search(), [Path::new("a/b/c/d/e/kubepods")]);
    let mut places = Places::default();
    tree.list(Path::new("gone"), &mut places).unwrap();
    assert_eq!(places, Places::default());
}

#[test]
fn containers_of_one_node_are_bounded() {
    let node = Node::v2();
    let pod = node.path(&systemd_pod(UID));
    fs::create_dir_all(&pod).unwrap();
    for n in 0..4_200 {
        fs::create_dir(pod.join(format!("cri-containerd-{}.scope", id(n)))).unwrap();
    }
    let tree = Tree::find(node.dir.path()).unwrap();
    let mut places = Places::default();
    tree.list(Path::new("kubepods.slice"), &mut places).unwrap();
    assert_eq!((places.pods.len(), places.containers.len()), (1, 4_096));
}

#[test]
fn container_gone_for_ten_minutes_is_forgotten() {
    let mut node = Node::v2();
    let path = scope(UID, 1);
    node.put_v2(&path, Cgroup { kills: 2, ..QUIET });
    node.walk(0);
    fs::rename(node.path(&path), node.path("aside")).unwrap();
    node.walk(1);
    node.walk(601);
    fs::rename(node.path("aside"), node.path(&path)).unwrap();
    assert_eq!(kills(&node.walk(602)), [(id(1), 2)]);
}

#[test]
fn telemetry_of_a_container_has_cadvisors_names() {
    let mut node = Node::v2();
    node.put_v2(&scope(UID, 1), Cgroup { kills: 2, ..QUIET });
    let walk = node.walk(0);
    let entries: Vec<_> = walk.samples[0].telemetry().collect();
    let values: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry.kind.as_str(),
                entry.name.as_str(),
                entry.value.clone(),
            )
        })
        .collect();
    assert_eq!(
        values,
        [
            (
                "memory",
                "container_memory_working_set_bytes",
                json!(46_841_856)
            ),
            (
                "memory",
                "container_spec_memory_limit_bytes",
                json!(67_108_864)
            ),
            ("cpu", "container_cpu_usage_seconds_total", json!(1.234_569)),
            (
                "cpu",
                "container_cpu_cfs_throttled_seconds_total",
                json!(0.25)
            ),
            ("memory", "container_oom_events_total", json!(2)),
        ]
    );
    for entry in entries {
        assert_eq!(entry.source, "container");
        assert_eq!(entry.tags["pod_uid"], UID);
        assert_eq!(entry.tags["container_id"], id(1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_in_any_file_is_survived(
        which in 0..8usize, text in "(oom_kill|inactive_file|total_inactive_file|usage_usec)? ?[-0-9a-z \n]{0,60}",
    ) {
        let dir = tempfile::tempdir().unwrap();
        let names = ["memory.current", "memory.stat", "memory.max", "memory.events", "cpu.stat",
            "memory.usage_in_bytes", "memory.oom_control", "cpuacct.usage"];
        fs::write(dir.path().join("memory.current"), "100").unwrap();
        fs::write(dir.path().join("memory.usage_in_bytes"), "100").unwrap();
        fs::write(dir.path().join(names[which]), text).unwrap();
        let mut buffer = String::new();
        let path = dir.path();
        let v2 = measure::v2(path, None, &mut buffer);
        let v1 = measure::v1(V1Dirs { memory: path, cpuacct: Some(path), cpu: None }, None, &mut buffer);
        prop_assert!(which == 0 || v2.is_some());
        prop_assert!(which == 5 || v1.is_some());
    }
}
