//! Which containers are collected, and why: pure rules over paths and, where known, facts.

use std::{fmt, sync::Arc};

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::{Error, PodFacts, metadata::StringMap, selector::Selector};

/// What the user wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionConfig {
    /// Only these namespaces, when not empty; `*` stands for any characters (KL-27).
    pub include_namespaces: Vec<String>,
    /// Never these; wins over every include (KL-27).
    pub exclude_namespaces: Vec<String>,
    /// Only containers whose name this expression matches somewhere.
    pub include_containers: Option<String>,
    /// Never containers whose name this expression matches somewhere.
    pub exclude_containers: Option<String>,
    /// Only pods with these labels, in Kubernetes' syntax.
    pub label_selector: String,
    /// Only pods with these fields, in Kubernetes' syntax.
    pub field_selector: String,
    /// Only pods that ask for it with `tawny.dev/collect` or `strixlog.io/collect` (SX-21).
    pub opt_in: bool,
}

/// Compiled rules.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    include_namespaces: Vec<Regex>,
    exclude_namespaces: Vec<Regex>,
    include_containers: Option<Regex>,
    exclude_containers: Option<Regex>,
    labels: Selector,
    fields: Selector,
    opt_in: bool,
    own: OwnPod,
}

/// The pod this process runs in, so that it does not read its own lines in a loop (SX-13); empty parts match nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnPod {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

/// The container instance asked about; what its path tells.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub pod_uid: &'a str,
    pub container: &'a str,
}

/// What is known of the pod besides its path.
#[derive(Debug, Clone, Copy)]
pub enum Facts<'a> {
    Known(&'a PodFacts),
    /// They may still come.
    Pending,
    /// They will not come.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Collect(Why),
    Skip(Why),
    /// Facts may change the answer: hold the file, wait a little, ask again.
    Wait,
}

/// The rule that decided; its text is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    NoRuleAgainst,
    /// Labels and annotations were never learnt; no rule needs them.
    PathAlone,
    OwnPod,
    NamespaceExcluded,
    NamespaceNotIncluded,
    ContainerExcluded,
    ContainerNotIncluded,
    /// A label or annotation of the pod or its namespace says so.
    Marked {
        key: &'static str,
    },
    LabelsDoNotMatch {
        selector: Arc<str>,
    },
    FieldsDoNotMatch {
        selector: Arc<str>,
    },
    NotOptedIn,
    /// A rule needs labels or fields, and they could not be learnt.
    FactsMissing,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRuleAgainst => f.write_str("no rule against it"),
            Self::PathAlone => {
                f.write_str("no rule against it; labels and annotations are unknown")
            }
            Self::OwnPod => f.write_str("it is the collector's own pod"),
            Self::NamespaceExcluded => f.write_str("its namespace is excluded"),
            Self::NamespaceNotIncluded => f.write_str("its namespace is not among those included"),
            Self::ContainerExcluded => f.write_str("its container name is excluded"),
            Self::ContainerNotIncluded => f.write_str("its container name is not included"),
            Self::Marked { key } => write!(f, "`{key}` is set"),
            Self::LabelsDoNotMatch { selector } => {
                write!(f, "its labels do not match `{selector}`")
            }
            Self::FieldsDoNotMatch { selector } => {
                write!(f, "its fields do not match `{selector}`")
            }
            Self::NotOptedIn => {
                f.write_str("it has no `tawny.dev/collect=true`, which is asked for")
            }
            Self::FactsMissing => f.write_str("its labels are unknown and a rule needs them"),
        }
    }
}

impl Verdict {
    pub fn is_collect(&self) -> bool {
        matches!(self, Self::Collect(_))
    }
}

/// Labels or annotations of a pod that keep it out when true (requirements §7, row 15).
const EXCLUDE_KEYS: [&str; 4] = [
    "tawny.dev/exclude",
    "vector.dev/exclude",
    "kail.ignore",
    "fluentbit.io/exclude",
];

/// Labels of a namespace that keep its pods out when true.
const NAMESPACE_EXCLUDE_KEYS: [&str; 2] = ["tawny.dev/exclude", "vector.dev/exclude"];

/// Annotations or labels that list containers to keep out, by comma.
const EXCLUDE_CONTAINERS_KEYS: [&str; 2] = [
    "tawny.dev/exclude-containers",
    "vector.dev/exclude-containers",
];

/// Labels or annotations that ask for collection when true, and forbid it when false.
const COLLECT_KEYS: [&str; 2] = ["tawny.dev/collect", "strixlog.io/collect"];

/// `fluentbit.io/exclude-<container>` keeps one container out.
const FLUENT_BIT_CONTAINER_KEY: &str = "fluentbit.io/exclude-";

impl Selection {
    /// Compiles the rules.
    ///
    /// # Errors
    /// `Reject` for a broken expression or selector; says where.
    pub fn build(config: &SelectionConfig, own: OwnPod) -> Result<Self, Error> {
        let SelectionConfig {
            include_namespaces,
            exclude_namespaces,
            include_containers,
            exclude_containers,
            label_selector,
            field_selector,
            opt_in,
        } = config;
        let globs = |globs: &[String]| {
            globs
                .iter()
                .map(|glob| glob_regex(glob))
                .collect::<Result<_, _>>()
        };
        let container = |pattern: &Option<String>| pattern.as_deref().map(compile).transpose();
        Ok(Self {
            include_namespaces: globs(include_namespaces)?,
            exclude_namespaces: globs(exclude_namespaces)?,
            include_containers: container(include_containers)?,
            exclude_containers: container(exclude_containers)?,
            labels: Selector::labels(label_selector)?,
            fields: Selector::fields(field_selector)?,
            opt_in: *opt_in,
            own,
        })
    }

    /// Decides, and says by which rule. Rules over paths come first, so most answers need no facts.
    pub fn decide(&self, subject: Subject<'_>, facts: Facts<'_>) -> Verdict {
        if let Some(why) = self.against_path(subject) {
            return Verdict::Skip(why);
        }
        match facts {
            Facts::Known(facts) => match self.against_facts(subject, facts) {
                Some(why) => Verdict::Skip(why),
                None => Verdict::Collect(Why::NoRuleAgainst),
            },
            Facts::Pending => Verdict::Wait,
            Facts::Unknown if self.opt_in || !self.labels.is_empty() || !self.fields.is_empty() => {
                Verdict::Skip(Why::FactsMissing)
            }
            Facts::Unknown => Verdict::Collect(Why::PathAlone),
        }
    }

    fn against_path(&self, subject: Subject<'_>) -> Option<Why> {
        let Subject {
            namespace,
            pod,
            pod_uid,
            container,
        } = subject;
        let own = &self.own;
        let is_own_uid = !own.uid.is_empty() && own.uid == pod_uid;
        let is_own_name = !own.name.is_empty()
            && own.name == pod
            && (own.namespace.is_empty() || own.namespace == namespace);
        if is_own_uid || is_own_name {
            return Some(Why::OwnPod);
        }
        let any = |patterns: &[Regex]| patterns.iter().any(|pattern| pattern.is_match(namespace));
        if any(&self.exclude_namespaces) {
            return Some(Why::NamespaceExcluded);
        }
        if !self.include_namespaces.is_empty() && !any(&self.include_namespaces) {
            return Some(Why::NamespaceNotIncluded);
        }
        if self
            .exclude_containers
            .as_ref()
            .is_some_and(|pattern| pattern.is_match(container))
        {
            return Some(Why::ContainerExcluded);
        }
        if self
            .include_containers
            .as_ref()
            .is_some_and(|pattern| !pattern.is_match(container))
        {
            return Some(Why::ContainerNotIncluded);
        }
        None
    }

    fn against_facts(&self, subject: Subject<'_>, facts: &PodFacts) -> Option<Why> {
        let pod_says =
            |key: &str| value(&facts.annotations, key).or_else(|| value(&facts.labels, key));
        let is_true = |key: &&&str| pod_says(key).is_some_and(truth);
        if let Some(key) = EXCLUDE_KEYS.iter().find(is_true) {
            return Some(Why::Marked { key });
        }
        let is_namespace_true =
            |key: &&&str| value(&facts.namespace_labels, key).is_some_and(truth);
        if let Some(key) = NAMESPACE_EXCLUDE_KEYS.iter().find(is_namespace_true) {
            return Some(Why::Marked { key });
        }
        let lists_container = |key: &&&str| {
            pod_says(key)
                .is_some_and(|list| list.split(',').any(|name| name.trim() == subject.container))
        };
        if let Some(key) = EXCLUDE_CONTAINERS_KEYS.iter().find(lists_container) {
            return Some(Why::Marked { key });
        }
        let is_fluent_bit_container = |(key, value): (&Arc<str>, &Arc<str>)| {
            key.strip_prefix(FLUENT_BIT_CONTAINER_KEY) == Some(subject.container) && truth(value)
        };
        if facts.annotations.iter().any(is_fluent_bit_container) {
            return Some(Why::Marked {
                key: "fluentbit.io/exclude-<container>",
            });
        }
        let asks = |key: &&&str| pod_says(key).is_some_and(|value| !truth(value));
        if let Some(key) = COLLECT_KEYS.iter().find(asks) {
            return Some(Why::Marked { key });
        }
        if self.opt_in && !COLLECT_KEYS.iter().any(|key| is_true(&key)) {
            return Some(Why::NotOptedIn);
        }
        if !self.labels.matches(|key| value(&facts.labels, key)) {
            return Some(Why::LabelsDoNotMatch {
                selector: self.labels.as_str().into(),
            });
        }
        if !self.fields.matches(|key| facts.field(key)) {
            return Some(Why::FieldsDoNotMatch {
                selector: self.fields.as_str().into(),
            });
        }
        None
    }
}

fn value<'a>(map: &'a StringMap, key: &str) -> Option<&'a str> {
    map.get(key).map(AsRef::as_ref)
}

/// What people write for yes; anything else is no.
fn truth(value: &str) -> bool {
    ["true", "1", "yes", "on"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
}

fn glob_regex(glob: &str) -> Result<Regex, Error> {
    let parts: Vec<_> = glob.split('*').map(regex::escape).collect();
    compile(&format!("^(?:{})$", parts.join(".*")))
}

fn compile(pattern: &str) -> Result<Regex, Error> {
    Regex::new(pattern).map_err(|source| Error::Pattern {
        pattern: pattern.to_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests;
