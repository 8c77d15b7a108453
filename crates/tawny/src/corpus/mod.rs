//! Made-up but realistic cluster logs, the same for the same seed: what `demo` shows, `loadgen` sends and benchmarks read.
//!
//! The mix follows what clusters log: JSON, logfmt, klog, access logs, plain text and stack traces, mostly info, a few
//! percent of warnings and errors, and now and then a line worth finding.

mod message;
mod pod_log;
mod rng;

pub(crate) use message::{Format, write_message};
pub(crate) use pod_log::{PodLog, Rotation};
pub(crate) use rng::Rng;

/// One container of a made-up workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) name: &'static str,
    pub(crate) image: &'static str,
    pub(crate) format: Format,
}

/// One pod of a made-up workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    /// The Deployment's name; also the value of the label `app`.
    pub(crate) workload: &'static str,
    /// `<workload>-<template hash>-<suffix>`.
    pub(crate) name: String,
    pub(crate) template_hash: String,
    pub(crate) uid: String,
    pub(crate) containers: Vec<Container>,
}

const NAMESPACES: [&str; 20] = [
    "shop", "payments", "search", "media", "auth", "billing", "catalog", "checkout", "notify",
    "ml", "ingest", "edge", "crm", "reports", "chat", "maps", "ads", "games", "iot", "platform",
];

struct Workload {
    name: &'static str,
    containers: &'static [Container],
}

const fn container(name: &'static str, image: &'static str, format: Format) -> Container {
    Container {
        name,
        image,
        format,
    }
}

const PROXY: Container = container("proxy", "registry.example/envoy:1.31", Format::Access);

const WORKLOADS: [Workload; 10] = [
    Workload {
        name: "web",
        containers: &[
            container("app", "registry.example/web:4.2.0", Format::Json),
            PROXY,
        ],
    },
    Workload {
        name: "api",
        containers: &[container(
            "api",
            "registry.example/api:2.17.1",
            Format::Json,
        )],
    },
    Workload {
        name: "orders",
        containers: &[
            container("orders", "registry.example/orders:1.9.3", Format::Logfmt),
            PROXY,
            container("metrics", "registry.example/exporter:0.8", Format::Klog),
        ],
    },
    Workload {
        name: "gateway",
        containers: &[container(
            "nginx",
            "registry.example/nginx:1.27",
            Format::Access,
        )],
    },
    Workload {
        name: "worker",
        containers: &[container(
            "worker",
            "registry.example/worker:3.3.0",
            Format::Logfmt,
        )],
    },
    Workload {
        name: "controller",
        containers: &[container(
            "manager",
            "registry.example/controller:0.14",
            Format::Klog,
        )],
    },
    Workload {
        name: "recommender",
        containers: &[container(
            "jvm",
            "registry.example/recommender:7.0",
            Format::Java,
        )],
    },
    Workload {
        name: "trainer",
        containers: &[container(
            "python",
            "registry.example/trainer:0.3",
            Format::Plain,
        )],
    },
    Workload {
        name: "cache",
        containers: &[
            container("redis", "registry.example/redis:7.4", Format::Plain),
            container("metrics", "registry.example/exporter:0.8", Format::Klog),
        ],
    },
    Workload {
        name: "mailer",
        containers: &[container(
            "mailer",
            "registry.example/mailer:5.1",
            Format::Json,
        )],
    },
];

/// Makes `n_pods` pods spread over `n_namespaces` namespaces (at most 20), the same for the same `rng`.
pub(crate) fn pods(n_namespaces: usize, n_pods: usize, rng: &mut Rng) -> Vec<Pod> {
    let n_namespaces = n_namespaces.clamp(1, NAMESPACES.len());
    (0..n_pods)
        .map(|idx| {
            let workload = &WORKLOADS[idx / n_namespaces % WORKLOADS.len()];
            let template_hash = rng.name(10);
            Pod {
                namespace: NAMESPACES[idx % n_namespaces].to_owned(),
                workload: workload.name,
                name: format!("{}-{template_hash}-{}", workload.name, rng.name(5)),
                template_hash,
                uid: rng.uuid(),
                containers: workload.containers.to_vec(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_pods_with_names_of_their_own() {
        let made = pods(20, 200, &mut Rng::new(1));
        assert_eq!(made, pods(20, 200, &mut Rng::new(1)));
        let unique = |of: fn(&Pod) -> &str| made.iter().map(of).collect::<BTreeSet<_>>().len();
        assert_eq!(
            (
                unique(|pod| &pod.uid),
                unique(|pod| &pod.name),
                unique(|pod| &pod.namespace)
            ),
            (200, 200, 20)
        );
    }
}
