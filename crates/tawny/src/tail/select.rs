//! Which pods and containers to follow: stern's rules over what is known of a pod.

use std::str::FromStr;

use regex::Regex;
use tawny_kube::facts::{ContainerFacts, ContainerKind, ContainerState, PodFacts};

/// The positional argument: a regular expression on pod names, or `kind/name`.
#[derive(Debug, Clone)]
pub(super) enum PodQuery {
    Name(Regex),
    Resource { kind: ResourceKind, name: String },
}

/// Kinds that a pod is found through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResourceKind {
    Pod,
    Node,
    /// Found by its selector, which the API is asked for.
    Service,
    /// Found by the pod's owner; the kind as Kubernetes writes it.
    Workload(&'static str),
}

const KINDS: [(&str, ResourceKind); 31] = [
    ("po", ResourceKind::Pod),
    ("pod", ResourceKind::Pod),
    ("pods", ResourceKind::Pod),
    ("no", ResourceKind::Node),
    ("node", ResourceKind::Node),
    ("nodes", ResourceKind::Node),
    ("svc", ResourceKind::Service),
    ("service", ResourceKind::Service),
    ("services", ResourceKind::Service),
    ("deploy", ResourceKind::Workload("Deployment")),
    ("deployment", ResourceKind::Workload("Deployment")),
    ("deployments", ResourceKind::Workload("Deployment")),
    ("rs", ResourceKind::Workload("ReplicaSet")),
    ("replicaset", ResourceKind::Workload("ReplicaSet")),
    ("replicasets", ResourceKind::Workload("ReplicaSet")),
    ("sts", ResourceKind::Workload("StatefulSet")),
    ("statefulset", ResourceKind::Workload("StatefulSet")),
    ("statefulsets", ResourceKind::Workload("StatefulSet")),
    ("ds", ResourceKind::Workload("DaemonSet")),
    ("daemonset", ResourceKind::Workload("DaemonSet")),
    ("daemonsets", ResourceKind::Workload("DaemonSet")),
    ("job", ResourceKind::Workload("Job")),
    ("jobs", ResourceKind::Workload("Job")),
    ("cj", ResourceKind::Workload("CronJob")),
    ("cronjob", ResourceKind::Workload("CronJob")),
    ("cronjobs", ResourceKind::Workload("CronJob")),
    ("rc", ResourceKind::Workload("ReplicationController")),
    (
        "replicationcontroller",
        ResourceKind::Workload("ReplicationController"),
    ),
    (
        "replicationcontrollers",
        ResourceKind::Workload("ReplicationController"),
    ),
    ("deploy.apps", ResourceKind::Workload("Deployment")),
    ("deployment.apps", ResourceKind::Workload("Deployment")),
];

/// The argument selects nothing that exists.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("`{text}` is no regular expression for pod names: {source}")]
    Regex {
        text: String,
        #[source]
        source: regex::Error,
    },
    #[error(
        "`{kind}` is no kind to find pods by: use pod, node, service, deployment, replicaset, statefulset, daemonset, job, cronjob or replicationcontroller"
    )]
    Kind { kind: String },
}

impl FromStr for PodQuery {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((kind, name)) = text.split_once('/') {
            let lower = kind.to_ascii_lowercase();
            let kind = KINDS
                .iter()
                .find(|(known, _)| *known == lower)
                .map(|(_, kind)| *kind);
            return match kind {
                Some(kind) => Ok(Self::Resource {
                    kind,
                    name: name.to_owned(),
                }),
                None => Err(QueryError::Kind { kind: lower }),
            };
        }
        Regex::new(text)
            .map(Self::Name)
            .map_err(|source| QueryError::Regex {
                text: text.to_owned(),
                source,
            })
    }
}

impl PodQuery {
    /// Whether a pod is meant. A service is matched by the labels its selector asks for, given as `service_selector`.
    pub(super) fn selects(&self, pod: &PodFacts, service_selector: &[(String, String)]) -> bool {
        match self {
            Self::Name(regex) => regex.is_match(&pod.name),
            Self::Resource {
                kind: ResourceKind::Pod,
                name,
            } => *pod.name == **name,
            Self::Resource {
                kind: ResourceKind::Node,
                name,
            } => *pod.node == **name,
            Self::Resource {
                kind: ResourceKind::Service,
                ..
            } => {
                !service_selector.is_empty()
                    && service_selector.iter().all(|(key, value)| {
                        pod.labels.get(key.as_str()).is_some_and(|v| **v == **value)
                    })
            }
            Self::Resource {
                kind: ResourceKind::Workload(kind),
                name,
            } => {
                // A ReplicaSet of a Deployment and a Job of a CronJob are known by the longer name of their pods.
                let is_owner = pod
                    .workload
                    .as_ref()
                    .is_some_and(|owner| *owner.kind == **kind && *owner.name == **name);
                let is_generation = match *kind {
                    "ReplicaSet" => pod.labels.get("pod-template-hash").is_some_and(|hash| {
                        pod.workload
                            .as_ref()
                            .is_some_and(|owner| format!("{}-{hash}", owner.name) == *name)
                    }),
                    "Job" => pod
                        .labels
                        .get("job-name")
                        .is_some_and(|job| **job == **name),
                    _ => false,
                };
                is_owner || is_generation
            }
        }
    }
}

/// A pod condition that is asked for: `Ready`, `Ready=false`. Names and values are matched without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    name: String,
    value: String,
}

impl FromStr for Condition {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').unwrap_or((text, "true"));
        if name.is_empty() {
            return Err("write a condition's name, such as Ready or Ready=false");
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

impl Condition {
    /// A pod that does not have the condition is not selected, whatever the value.
    pub(super) fn selects(&self, pod: &PodFacts) -> bool {
        let mut conditions = pod.conditions.iter();
        conditions.any(|(name, value)| {
            name.eq_ignore_ascii_case(&self.name) && value.eq_ignore_ascii_case(&self.value)
        })
    }
}

/// States `--container-state` speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum StateFilter {
    Running,
    Waiting,
    Terminated,
    All,
}

/// What is asked of containers.
#[derive(Debug, Clone)]
pub(super) struct ContainerFilter {
    pub(super) include: Regex,
    pub(super) exclude: Vec<Regex>,
    pub(super) states: Vec<StateFilter>,
    pub(super) has_init: bool,
    pub(super) has_ephemeral: bool,
}

impl ContainerFilter {
    pub(super) fn selects(&self, container: &ContainerFacts) -> bool {
        let is_kind = match container.kind {
            ContainerKind::Init => self.has_init,
            ContainerKind::Ephemeral => self.has_ephemeral,
            ContainerKind::Regular | ContainerKind::Sidecar => true,
        };
        let is_state = self.states.iter().any(|state| match state {
            StateFilter::All => true,
            StateFilter::Running => matches!(container.state, ContainerState::Running { .. }),
            StateFilter::Waiting => matches!(container.state, ContainerState::Waiting { .. }),
            StateFilter::Terminated => matches!(container.state, ContainerState::Ended(_)),
        });
        is_kind
            && is_state
            && self.include.is_match(&container.name)
            && !self
                .exclude
                .iter()
                .any(|regex| regex.is_match(&container.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tawny_kube::facts::pod_facts;

    use super::*;

    fn pod(name: &str, labels: Value, owner: Option<(&str, &str)>) -> PodFacts {
        let owners: Vec<Value> = owner
            .map(|(kind, name)| json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": "o", "controller": true}))
            .into_iter()
            .collect();
        let pod = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": "u", "labels": labels, "ownerReferences": owners},
            "spec": {"nodeName": "n1", "initContainers": [{"name": "setup"}], "containers": [{"name": "main"}, {"name": "side"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [
                {"name": "main", "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": {"running": {}}},
                {"name": "side", "ready": false, "restartCount": 1, "image": "", "imageID": "", "state": {"waiting": {"reason": "x"}}}]},
        });
        pod_facts(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    fn selects(query: &str, pod: &PodFacts) -> bool {
        query.parse::<PodQuery>().unwrap().selects(pod, &[])
    }

    #[test]
    fn a_query_is_a_regex_or_a_resource() {
        let web = pod(
            "web-5d4-x2",
            json!({"pod-template-hash": "5d4"}),
            Some(("ReplicaSet", "web-5d4")),
        );
        assert!(selects("^web-", &web) && selects("5d4", &web) && !selects("^api", &web));
        assert!(selects("pod/web-5d4-x2", &web) && !selects("pod/web", &web));
        assert!(
            selects("deploy/web", &web)
                && selects("Deployment/web", &web)
                && !selects("deploy/we", &web)
        );
        assert!(selects("rs/web-5d4", &web) && !selects("rs/web-5d5", &web));
        assert!(selects("node/n1", &web) && !selects("node/n2", &web));
        assert!(!selects("sts/web", &web));
        let service = "svc/web".parse::<PodQuery>().unwrap();
        assert!(service.selects(&web, &[("pod-template-hash".into(), "5d4".into())]));
        assert!(
            !service.selects(&web, &[]),
            "a service without selector selects nothing"
        );
        assert_eq!(
            "thing/x"
                .parse::<PodQuery>()
                .unwrap_err()
                .to_string()
                .split(':')
                .next()
                .unwrap(),
            "`thing` is no kind to find pods by"
        );
        assert!("(".parse::<PodQuery>().is_err());
    }

    #[test]
    fn a_condition_is_true_unless_a_value_is_named() {
        let pod = pod("p", json!({}), None);
        let selects = |text: &str| text.parse::<Condition>().unwrap().selects(&pod);
        assert!(selects("ready=FALSE") && !selects("Ready") && !selects("Initialized=false"));
        assert!("=true".parse::<Condition>().is_err());
    }

    #[test]
    fn containers_are_chosen_by_name_kind_and_state() {
        let pod = pod("p", json!({}), None);
        let names = |filter: &ContainerFilter| -> Vec<String> {
            pod.containers
                .iter()
                .filter(|container| filter.selects(container))
                .map(|container| container.name.to_string())
                .collect()
        };
        let all = ContainerFilter {
            include: Regex::new(".*").unwrap(),
            exclude: vec![],
            states: vec![StateFilter::All],
            has_init: true,
            has_ephemeral: true,
        };
        assert_eq!(names(&all), ["setup", "main", "side"]);
        assert_eq!(
            names(&ContainerFilter {
                has_init: false,
                ..all.clone()
            }),
            ["main", "side"]
        );
        assert_eq!(
            names(&ContainerFilter {
                states: vec![StateFilter::Running],
                ..all.clone()
            }),
            ["main"]
        );
        assert_eq!(
            names(&ContainerFilter {
                exclude: vec![Regex::new("^s").unwrap()],
                ..all
            }),
            ["main"]
        );
    }
}
