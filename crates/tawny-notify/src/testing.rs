//! Notices and settings for tests.

use std::collections::BTreeMap;

use tawny_incident::Severity;
use tawny_model::Timestamp;

use crate::{
    Outgoing, Settings,
    notice::{Kind, Link, Notice, label},
};

pub(crate) const STARTED: Timestamp = Timestamp::from_secs(1_790_000_000);

/// An incident of high severity in namespace `shop`, as the book of incidents tells one.
pub(crate) fn notice(key: &str, kind: Kind) -> Notice {
    let labels = [
        (label::CLUSTER, "prod"),
        (label::NAMESPACE, "shop"),
        (label::WORKLOAD, "Deployment/api"),
        (label::POD, "api-5d4f8-x2"),
        (label::CONTAINER, "web"),
        (label::NODE, "n1"),
    ];
    Notice {
        key: key.to_owned(),
        kind,
        severity: Severity::High,
        class: "out_of_memory".to_owned(),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        sentence: "Container web of Deployment shop/api (pod api-5d4f8-x2 on node n1) was killed by the kernel because it reached its memory limit of 512 MiB, 3 times since 2026-09-21 14:13 UTC.".to_owned(),
        facts: vec![
            ("exit".to_owned(), "137 (SIGKILL)".to_owned()),
            ("memory limit".to_owned(), "512 MiB".to_owned()),
        ],
        hints: vec!["Raise the memory limit, or find what grows.".to_owned()],
        last_lines: vec!["loading cart".to_owned(), "allocating 300 MiB".to_owned()],
        count: 3,
        started_at: STARTED,
        ended_at: None,
        links: vec![Link {
            title: "incident".to_owned(),
            url: "https://tawny.example/incidents/1?a=b&c=d".to_owned(),
        }],
    }
}

pub(crate) fn outgoing(key: &str, kind: Kind) -> Outgoing {
    Outgoing::new(notice(key, kind))
}

pub(crate) fn with_severity(key: &str, kind: Kind, severity: Severity) -> Outgoing {
    Outgoing::new(Notice {
        severity,
        ..notice(key, kind)
    })
}

pub(crate) fn settings(yaml: &str) -> Settings {
    Settings::parse(yaml).unwrap()
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    (pairs.iter())
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
