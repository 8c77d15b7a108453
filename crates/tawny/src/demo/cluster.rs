//! The made-up cluster: its pods, what becomes of them, and the log files they write.

use std::{collections::VecDeque, io, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tawny_model::{Output, Timestamp};

use crate::corpus::{Container, Format, Pod, PodLog, Rng, Rotation, pods, write_message};

/// Name of the one node.
pub(super) const NODE: &str = "demo-node";

/// Small, so that a few minutes of the demo show rotation and compression.
const ROTATION: Rotation = Rotation {
    max_bytes: 256 << 10,
    max_files: 4,
};

/// What befalls the pods that do not simply run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Runs,
    /// Panics a few seconds after each start: exit code 2, back-off doubling.
    Crashes,
    /// Eats memory until the kernel kills it: exit code 137, reason OOMKilled.
    IsOomKilled,
}

#[derive(Debug)]
struct Death {
    at: Timestamp,
    started: Timestamp,
    exit_code: i32,
    reason: &'static str,
}

#[derive(Debug)]
struct Running {
    container: Container,
    log: PodLog,
    started: Timestamp,
    restart: u32,
    /// Set while dead.
    revives_at: Option<Timestamp>,
    last_death: Option<Death>,
    n_lines_since_start: u64,
}

#[derive(Debug)]
struct Member {
    pod: Pod,
    fate: Fate,
    created: Timestamp,
    containers: Vec<Running>,
    resource_version: u64,
}

/// A change as the API's watch tells it.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) resource_version: u64,
    pub(super) object: Value,
}

/// Changes a watch can be resumed from; older ones are answered 410 and listed again.
const MAX_CHANGES: usize = 1_000;

/// Lives between ticks; owned by one task, read by the API through [`Self::list`] and [`Self::changes_since`].
#[derive(Debug)]
pub(super) struct Cluster {
    root: PathBuf,
    members: Vec<Member>,
    rng: Rng,
    lines_per_second: u64,
    last_tick: Timestamp,
    resource_version: u64,
    changes: VecDeque<Change>,
}

const CRASHER: Container = Container {
    name: "crasher",
    image: "registry.example/crasher:0.0.1",
    format: Format::Logfmt,
};
const HUNGRY: Container = Container {
    name: "hungry",
    image: "registry.example/hungry:2.1.0",
    format: Format::Json,
};

const LIFE_OF_A_CRASHER: Duration = Duration::from_secs(6);
const LIFE_OF_A_HUNGRY: Duration = Duration::from_secs(20);
const FIRST_BACKOFF: Duration = Duration::from_secs(4);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

impl Cluster {
    /// Makes the cluster and writes `history` worth of past lines.
    ///
    /// # Errors
    /// Those of the file system under `root`.
    pub(super) fn new(
        root: PathBuf,
        seed: u64,
        lines_per_second: u64,
        history: Duration,
        now: Timestamp,
    ) -> io::Result<Self> {
        let mut rng = Rng::new(seed);
        let born = now.saturating_sub(history);
        let mut made: Vec<(Pod, Fate)> = pods(3, 12, &mut rng)
            .into_iter()
            .map(|pod| (pod, Fate::Runs))
            .collect();
        for (container, workload, fate) in [
            (CRASHER, "crasher", Fate::Crashes),
            (HUNGRY, "hungry", Fate::IsOomKilled),
        ] {
            let template_hash = rng.name(10);
            let name = format!("{workload}-{template_hash}-{}", rng.name(5));
            let uid = rng.uuid();
            made.push((
                Pod {
                    namespace: "shop".to_owned(),
                    workload,
                    name,
                    template_hash,
                    uid,
                    containers: vec![container],
                },
                fate,
            ));
        }
        let mut cluster = Self {
            root,
            members: Vec::new(),
            rng,
            lines_per_second,
            last_tick: born,
            resource_version: 1,
            changes: VecDeque::new(),
        };
        for (pod, fate) in made {
            cluster.resource_version += 1;
            let resource_version = cluster.resource_version;
            let containers = pod
                .containers
                .iter()
                .map(|container| {
                    let log = PodLog::open(&cluster.root, &pod, container.name, 0, ROTATION)?;
                    Ok(Running {
                        container: container.clone(),
                        log,
                        started: born,
                        restart: 0,
                        revives_at: None,
                        last_death: None,
                        n_lines_since_start: 0,
                    })
                })
                .collect::<io::Result<_>>()?;
            cluster.members.push(Member {
                pod,
                fate,
                created: born,
                containers,
                resource_version,
            });
        }
        const HISTORY_STEP: Duration = Duration::from_secs(1);
        while cluster.last_tick.saturating_add(HISTORY_STEP) <= now {
            cluster.tick(cluster.last_tick.saturating_add(HISTORY_STEP))?;
        }
        Ok(cluster)
    }

    /// Lets the time since the last tick pass: lines are written, containers die and are started again.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn tick(&mut self, now: Timestamp) -> io::Result<()> {
        let elapsed = now.saturating_since(self.last_tick);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let n_lines = self.lines_per_second.saturating_mul(elapsed_ms) / 1_000;
        for line_idx in 0..n_lines {
            // Spread over the tick, so that lines have times of their own.
            let offset_ns = i64::try_from(
                u64::try_from(elapsed.as_nanos()).unwrap_or(0) / n_lines.max(1) * line_idx,
            )
            .unwrap_or(0);
            let at = Timestamp::from_nanos(self.last_tick.as_nanos() + offset_ns + 1);
            self.write_line(at)?;
        }
        self.last_tick = now;
        for member_idx in 0..self.members.len() {
            if self.members[member_idx].live(now, &self.root)? {
                self.resource_version += 1;
                self.members[member_idx].resource_version = self.resource_version;
                let object = self.members[member_idx].object();
                self.changes.push_back(Change {
                    resource_version: self.resource_version,
                    object,
                });
                if self.changes.len() > MAX_CHANGES {
                    self.changes.pop_front();
                }
            }
            for container in &mut self.members[member_idx].containers {
                container.log.flush()?;
            }
        }
        Ok(())
    }

    fn write_line(&mut self, at: Timestamp) -> io::Result<()> {
        const ERRORS_PER_MILLE: u64 = 20;
        let n_members = self.members.len() as u64;
        let member = usize::try_from(self.rng.below(n_members)).unwrap_or(0);
        let member = &mut self.members[member];
        let n_containers = member.containers.len() as u64;
        let container = usize::try_from(self.rng.below(n_containers)).unwrap_or(0);
        let running = &mut member.containers[container];
        if running.revives_at.is_some() {
            return Ok(());
        }
        let mut message = String::new();
        let output = if member.fate == Fate::IsOomKilled {
            let megabytes = 20 + running.n_lines_since_start * 7;
            message = format!(
                r#"{{"level":"info","msg":"batch loaded into memory","batch":{},"rss_mb":{megabytes}}}"#,
                running.n_lines_since_start
            );
            Output::Stdout
        } else {
            write_message(
                running.container.format,
                at,
                ERRORS_PER_MILLE,
                &mut self.rng,
                &mut message,
            )
        };
        running.n_lines_since_start += 1;
        running.log.write(at, output, &message)
    }

    /// All pods, as a `PodList`'s items, and the version they stand at.
    pub(super) fn list(&self) -> (Vec<Value>, u64) {
        (
            self.members.iter().map(Member::object).collect(),
            self.resource_version,
        )
    }

    /// Changes after a version; `None` when it is too old to tell.
    pub(super) fn changes_since(&self, resource_version: u64) -> Option<Vec<Change>> {
        let oldest_known = self
            .changes
            .front()
            .map_or(self.resource_version + 1, |change| change.resource_version);
        if resource_version + 1 < oldest_known
            && resource_version < self.resource_version
            && self.changes.len() == MAX_CHANGES
        {
            return None;
        }
        Some(
            self.changes
                .iter()
                .filter(|change| change.resource_version > resource_version)
                .cloned()
                .collect(),
        )
    }
}

impl Member {
    /// Lets containers die and come back; true when the pod's status changed.
    fn live(&mut self, now: Timestamp, root: &std::path::Path) -> io::Result<bool> {
        let life = match self.fate {
            Fate::Runs => return Ok(false),
            Fate::Crashes => LIFE_OF_A_CRASHER,
            Fate::IsOomKilled => LIFE_OF_A_HUNGRY,
        };
        let running = &mut self.containers[0];
        match running.revives_at {
            Some(at) if now >= at => {
                running.restart += 1;
                running.log = PodLog::open(
                    root,
                    &self.pod,
                    running.container.name,
                    running.restart,
                    ROTATION,
                )?;
                running.started = now;
                running.revives_at = None;
                running.n_lines_since_start = 0;
                Ok(true)
            }
            None if now.saturating_since(running.started) >= life => {
                let (exit_code, reason) = if self.fate == Fate::Crashes {
                    let words = "panic: runtime error: invalid memory address or nil pointer dereference\n\ngoroutine 1 [running]:\nmain.(*Cart).Total(...)\n\t/src/cart.go:42\nmain.main()\n\t/src/main.go:17 +0x1d";
                    running.log.write(now, Output::Stderr, words)?;
                    (2, "Error")
                } else {
                    (137, "OOMKilled")
                };
                let doublings = running.restart.min(8);
                let backoff = FIRST_BACKOFF
                    .saturating_mul(1 << doublings)
                    .min(LONGEST_BACKOFF);
                running.last_death = Some(Death {
                    at: now,
                    started: running.started,
                    exit_code,
                    reason,
                });
                running.revives_at = Some(now.saturating_add(backoff));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The pod as the API shows it.
    fn object(&self) -> Value {
        let pod = &self.pod;
        let spec: Vec<Value> = self
            .containers
            .iter()
            .map(|running| {
                json!({"name": running.container.name, "image": running.container.image,
                    "resources": {"limits": {"memory": "256Mi"}, "requests": {"memory": "64Mi"}}})
            })
            .collect();
        let statuses: Vec<Value> = self
            .containers
            .iter()
            .map(|running| running.status(&pod.uid))
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod.name, "namespace": pod.namespace, "uid": pod.uid,
                "resourceVersion": self.resource_version.to_string(),
                "creationTimestamp": seconds(self.created),
                "labels": {"app": pod.workload, "pod-template-hash": pod.template_hash},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                    "name": format!("{}-{}", pod.workload, pod.template_hash), "uid": format!("{}-rs", pod.uid)}],
            },
            "spec": {"nodeName": NODE, "containers": spec},
            "status": {"phase": "Running", "startTime": seconds(self.created), "containerStatuses": statuses},
        })
    }
}

impl Running {
    fn status(&self, pod_uid: &str) -> Value {
        let terminated = |death: &Death| {
            json!({"terminated": {"exitCode": death.exit_code, "reason": death.reason,
                "startedAt": seconds(death.started), "finishedAt": seconds(death.at)}})
        };
        let state = match (&self.revives_at, &self.last_death) {
            (Some(_), Some(death)) if self.restart == 0 => terminated(death),
            (Some(_), _) => json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            (None, _) => json!({"running": {"startedAt": seconds(self.started)}}),
        };
        json!({
            "name": self.container.name, "image": self.container.image, "imageID": "",
            "containerID": format!("demo://{pod_uid}-{}-{}", self.container.name, self.restart),
            "ready": self.revives_at.is_none(), "restartCount": self.restart, "state": state,
            "lastState": self.last_death.as_ref().map_or_else(|| json!({}), terminated),
        })
    }
}

/// RFC 3339 with whole seconds, as the API writes times.
fn seconds(time: Timestamp) -> String {
    let text = time.to_string();
    format!("{}Z", text.get(..19).unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_763_700_000);

    #[test]
    fn the_crasher_restarts_with_growing_pauses_and_the_hungry_one_is_oom_killed() {
        let root = tempfile::tempdir().unwrap();
        let cluster = Cluster::new(
            root.path().to_owned(),
            1,
            20,
            Duration::from_secs(120),
            START,
        )
        .unwrap();
        let (pods, version) = cluster.list();
        let status = |workload: &str| {
            pods.iter()
                .find(|pod| pod["metadata"]["labels"]["app"] == workload)
                .unwrap()["status"]["containerStatuses"][0]
                .clone()
        };
        assert!(
            status("crasher")["restartCount"].as_u64().unwrap() >= 3,
            "{}",
            status("crasher")
        );
        assert_eq!(status("crasher")["lastState"]["terminated"]["exitCode"], 2);
        assert_eq!(
            status("hungry")["lastState"]["terminated"]["reason"],
            "OOMKilled"
        );
        assert_eq!(pods.len(), 14);
        assert!(cluster.changes_since(version).unwrap().is_empty());
        assert!(!cluster.changes_since(2).unwrap().is_empty());
    }

    #[test]
    fn each_start_writes_a_log_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        drop(
            Cluster::new(
                root.path().to_owned(),
                1,
                20,
                Duration::from_secs(60),
                START,
            )
            .unwrap(),
        );
        let crasher = std::fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains("_crasher-"))
            .unwrap()
            .join("crasher");
        for restart in 0..2 {
            let text = std::fs::read_to_string(crasher.join(format!("{restart}.log"))).unwrap();
            assert!(text.contains("panic: runtime error"), "{restart}");
        }
    }
}
