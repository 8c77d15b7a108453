//! Names of fields: their canonical form, the aliases other tools have taught people, and how odd names are quoted.

use std::fmt;

use crate::ast::Field;

/// Spellings of the fields of a stream, canonical first.
///
/// Sources: OpenTelemetry's semantic conventions, Fluent Bit's and Vector's Kubernetes records, Promtail's labels,
/// ECS, and OpenTelemetry names as Loki writes them.
const ALIASES: &[(Field, &[&str])] = &[
    (
        Field::Cluster,
        &["cluster", "k8s.cluster.name", "k8s_cluster_name"],
    ),
    (
        Field::Namespace,
        &[
            "namespace",
            "ns",
            "namespace_name",
            "kubernetes.namespace_name",
            "kubernetes.pod_namespace",
            "kubernetes.namespace",
            "k8s.namespace.name",
            "k8s_namespace_name",
        ],
    ),
    (
        Field::Pod,
        &[
            "pod",
            "pod_name",
            "kubernetes.pod_name",
            "kubernetes.pod.name",
            "k8s.pod.name",
            "k8s_pod_name",
        ],
    ),
    (
        Field::PodUid,
        &[
            "pod_uid",
            "kubernetes.pod_id",
            "kubernetes.pod_uid",
            "kubernetes.pod.uid",
            "k8s.pod.uid",
            "k8s_pod_uid",
        ],
    ),
    (
        Field::Container,
        &[
            "container",
            "container_name",
            "kubernetes.container_name",
            "kubernetes.container.name",
            "k8s.container.name",
            "k8s_container_name",
        ],
    ),
    (
        Field::Node,
        &[
            "node",
            "node_name",
            "kubernetes.host",
            "kubernetes.pod_node_name",
            "kubernetes.node.name",
            "k8s.node.name",
            "k8s_node_name",
        ],
    ),
    (
        Field::Image,
        &[
            "image",
            "container_image",
            "kubernetes.container_image",
            "container.image.name",
        ],
    ),
    (Field::Workload, &["workload"]),
    (
        Field::Output,
        &["output", "stream", "log.iostream", "log_iostream"],
    ),
    (
        Field::Restart,
        &[
            "restart",
            "restarts",
            "k8s.container.restart_count",
            "k8s_container_restart_count",
        ],
    ),
    (
        Field::Severity,
        &["level", "severity", "severity_text", "detected_level"],
    ),
];

/// Written like a field, these ask about the message.
pub(crate) const MESSAGE_NAMES: &[&str] = &["message", "msg"];

const LABEL_PREFIXES: &[&str] = &[
    "label.",
    "labels.",
    "kubernetes.labels.",
    "kubernetes.pod_labels.",
    "k8s.pod.label.",
];

/// Names an attribute even where a field of a stream is called the same.
const ATTRIBUTE_PREFIXES: &[&str] = &["attr.", "attributes."];

impl Field {
    /// The field people mean by a name, aliases resolved: `ns`, `k8s.pod.name`, `label.app`; any other is an attribute.
    ///
    /// Upper and lower case are told apart, as attributes tell them apart.
    pub fn named(name: &str) -> Self {
        let known = ALIASES
            .iter()
            .find(|(_, aliases)| aliases.contains(&name))
            .map(|(field, _)| field.clone());
        let prefixed = || match split_prefix(name) {
            Some((Prefix::Label, key)) if !key.is_empty() => Some(Self::Label(key.to_owned())),
            Some((Prefix::Attribute, key)) if !key.is_empty() => {
                Some(Self::Attribute(key.to_owned()))
            }
            _ => None,
        };
        known
            .or_else(prefixed)
            .unwrap_or_else(|| Self::Attribute(name.to_owned()))
    }

    /// Whether all entries of a stream have the same value.
    pub fn is_of_stream(&self) -> bool {
        !matches!(self, Self::Output | Self::Severity | Self::Attribute(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    Label,
    Attribute,
}

impl Prefix {
    pub(crate) fn field(self, key: String) -> Field {
        match self {
            Self::Label => Field::Label(key),
            Self::Attribute => Field::Attribute(key),
        }
    }
}

/// Cuts `label.` or `attr.`, in any spelling, off a name.
pub(crate) fn split_prefix(name: &str) -> Option<(Prefix, &str)> {
    let cut = |prefixes: &[&str]| prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
    cut(LABEL_PREFIXES)
        .map(|key| (Prefix::Label, key))
        .or_else(|| cut(ATTRIBUTE_PREFIXES).map(|key| (Prefix::Attribute, key)))
}

/// Length in bytes of the unquoted field name this text begins with; 0 when it begins with none.
///
/// A name begins with a letter or `_` and goes on with letters, digits, `_`, `.` and `-`; the key of a label may hold
/// a `/` too.
pub(crate) fn name_len(text: &str) -> usize {
    if !text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return 0;
    }
    let key_at = match split_prefix(text) {
        Some((Prefix::Label, key)) => text.len() - key.len(),
        _ => usize::MAX,
    };
    text.char_indices()
        .find(|(at, c)| {
            !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-') || (*c == '/' && *at > key_at))
        })
        .map_or(text.len(), |(at, _)| at)
}

/// As the query language writes it; [`Field::named`] and the parser read it back.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, key) = match self {
            Self::Label(key) => ("label.", key),
            Self::Attribute(key) => {
                let is_plain = !key.is_empty() && name_len(key) == key.len();
                let is_taken = MESSAGE_NAMES.contains(&key.as_str())
                    || split_prefix(key).is_some()
                    || Self::named(key) != *self;
                if is_plain && !is_taken {
                    return f.write_str(key);
                }
                ("attr.", key)
            }
            known => {
                let name = ALIASES
                    .iter()
                    .find(|(field, _)| field == known)
                    .and_then(|(_, aliases)| aliases.first());
                return f.write_str(name.expect("every other field is in the table"));
            }
        };
        let full = format!("{prefix}{key}");
        if !key.is_empty() && name_len(&full) == full.len() {
            f.write_str(&full)
        } else {
            write!(f, "{prefix}{}", crate::print::quoted(key))
        }
    }
}
