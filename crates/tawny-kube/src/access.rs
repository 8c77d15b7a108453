//! What the credentials may do: asked of the API server, or read out of its refusal, with the rule that would allow it.

use std::fmt;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};

use crate::{Cluster, Error};

/// One thing done to one kind of object, in one namespace or in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    /// `get`, `list`, `watch`, …
    pub verb: String,
    /// Empty for the core group.
    pub group: String,
    /// Plural, with the subresource behind a slash: `pods`, `pods/log`.
    pub resource: String,
    /// `None`: in all namespaces, or the resource has none.
    pub namespace: Option<String>,
}

/// What the server says to an [`Access`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    Allowed,
    /// With the server's reason, often empty.
    Denied {
        reason: String,
    },
}

/// An access with the server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub access: Access,
    pub permit: Permit,
}

/// Reviews in flight at once: each takes one round trip, and doctor asks about a dozen.
const CONCURRENT_REVIEWS: usize = 8;

impl Access {
    /// An access to a resource of the core group.
    pub fn core(verb: &str, resource: &str, namespace: Option<&str>) -> Self {
        Self {
            verb: verb.to_owned(),
            group: String::new(),
            resource: resource.to_owned(),
            namespace: namespace.map(str::to_owned),
        }
    }

    /// What collecting through the API takes: list and watch pods, look one up, read logs (SX-32).
    ///
    /// `namespaces` empty means all.
    pub fn for_api_source(namespaces: &[String]) -> Vec<Self> {
        Self::in_each(
            namespaces,
            &[
                ("list", "pods"),
                ("watch", "pods"),
                ("get", "pods"),
                ("get", "pods/log"),
            ],
        )
    }

    /// What metadata for log files takes (VK-14): list and watch pods, which needs no more for a node's own pods.
    pub fn for_file_source() -> Vec<Self> {
        Self::in_each(&[], &[("list", "pods"), ("watch", "pods")])
    }

    /// What watching a cluster for events and incidents takes; `namespaces` empty means all, and nodes and namespaces too.
    pub fn for_watch(namespaces: &[String]) -> Vec<Self> {
        let grouped = [
            ("", "pods"),
            ("", "events"),
            ("apps", "deployments"),
            ("apps", "replicasets"),
            ("apps", "statefulsets"),
            ("apps", "daemonsets"),
            ("batch", "jobs"),
            ("batch", "cronjobs"),
            ("autoscaling", "horizontalpodautoscalers"),
        ];
        let mut wanted = Self::in_each(namespaces, &[("get", "pods/log")]);
        for (group, resource) in grouped {
            let both = Self::in_each(namespaces, &[("list", resource), ("watch", resource)]);
            wanted.extend(both.into_iter().map(|access| Self {
                group: group.to_owned(),
                ..access
            }));
        }
        if namespaces.is_empty() {
            for resource in ["nodes", "namespaces"] {
                wanted.extend(["list", "watch"].map(|verb| Self::core(verb, resource, None)));
            }
        }
        wanted
    }

    fn in_each(namespaces: &[String], wanted: &[(&str, &str)]) -> Vec<Self> {
        let scopes: Vec<Option<&str>> = if namespaces.is_empty() {
            vec![None]
        } else {
            namespaces.iter().map(|ns| Some(ns.as_str())).collect()
        };
        scopes
            .iter()
            .flat_map(|ns| {
                wanted
                    .iter()
                    .map(|(verb, resource)| Self::core(verb, resource, *ns))
            })
            .collect()
    }

    /// The rule that allows it, as one line of YAML.
    pub fn rule(&self) -> String {
        format!(
            "{{apiGroups: [\"{}\"], resources: [\"{}\"], verbs: [\"{}\"]}}",
            self.group, self.resource, self.verb
        )
    }

    /// Where to put the rule, and the rule.
    pub fn rule_hint(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!(
                "add to a Role in namespace {namespace} that is bound to it: {}",
                self.rule()
            ),
            None => format!("add to a ClusterRole that is bound to it: {}", self.rule()),
        }
    }

    /// A whole manifest that allows `accesses` to `subject` (a service account as `namespace:name`), for `kubectl apply`.
    pub fn manifest(accesses: &[Self], service_account: (&str, &str)) -> String {
        let mut scopes: Vec<Option<&str>> =
            accesses.iter().map(|a| a.namespace.as_deref()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        let mut yaml = String::new();
        for scope in scopes {
            let (role, binding) = match scope {
                Some(_) => ("Role", "RoleBinding"),
                None => ("ClusterRole", "ClusterRoleBinding"),
            };
            let metadata = match scope {
                Some(namespace) => format!("{{name: tawny-log-reader, namespace: {namespace}}}"),
                None => "{name: tawny-log-reader}".to_owned(),
            };
            let rules: String = accesses
                .iter()
                .filter(|access| access.namespace.as_deref() == scope)
                .map(|access| format!("- {}\n", access.rule()))
                .collect();
            let (sa_namespace, sa_name) = service_account;
            yaml.push_str(&format!(
                "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {role}\nmetadata: {metadata}\nrules:\n{rules}\
                 ---\napiVersion: rbac.authorization.k8s.io/v1\nkind: {binding}\nmetadata: {metadata}\n\
                 roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {role}, name: tawny-log-reader}}\n\
                 subjects: [{{kind: ServiceAccount, name: {sa_name}, namespace: {sa_namespace}}}]\n"
            ));
        }
        yaml
    }

    /// Reads the user and the missing access out of the message of a 403.
    ///
    /// Source: `k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go`, `forbiddenMessage`.
    pub(crate) fn from_forbidden(message: &str) -> Option<(String, Self)> {
        let (_, rest) = message.split_once("User \"")?;
        let (user, rest) = rest.split_once("\" cannot ")?;
        let (verb, rest) = rest.split_once(" resource \"")?;
        let (resource, rest) = rest.split_once("\" in API group \"")?;
        let (group, rest) = rest.split_once('"')?;
        let namespace = rest
            .strip_prefix(" in the namespace \"")
            .and_then(|rest| rest.split_once('"'))
            .map(|(namespace, _)| namespace.to_owned());
        let access = Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace,
        };
        Some((user.to_owned(), access))
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => f.write_str(" in all namespaces"),
        }
    }
}

impl Cluster {
    /// Asks the server which of `accesses` the credentials have; answers come in the order asked.
    ///
    /// Any authenticated user may ask this about itself (`system:basic-user`).
    ///
    /// # Errors
    /// The first review that got no answer.
    pub async fn review(&self, accesses: Vec<Access>) -> Result<Vec<Verdict>, Error> {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client().clone());
        let answers: Vec<_> = stream::iter(accesses.into_iter().map(|access| {
            let reviews = reviews.clone();
            async move {
                let review = review_of(&access);
                let answer = self
                    .within(reviews.create(&PostParams::default(), &review))
                    .await?;
                let status = answer.status.unwrap_or_default();
                let permit = if status.allowed {
                    Permit::Allowed
                } else {
                    Permit::Denied {
                        reason: status.reason.unwrap_or_default(),
                    }
                };
                Ok(Verdict { access, permit })
            }
        }))
        .buffered(CONCURRENT_REVIEWS)
        .collect()
        .await;
        answers.into_iter().collect()
    }
}

fn review_of(access: &Access) -> SelfSubjectAccessReview {
    let (resource, subresource) = match access.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (access.resource.as_str(), None),
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(access.verb.clone()),
                group: Some(access.group.clone()),
                resource: Some(resource.to_owned()),
                subresource,
                namespace: access.namespace.clone(),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::testing::{fake, json_body};

    #[test]
    fn forbidden_messages_of_all_shapes_are_read() {
        for (message, user, access) in [
            (
                r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" at the cluster scope"#,
                "jane",
                Access::core("list", "pods", None),
            ),
            (
                r#"pods is forbidden: User "jane" cannot watch resource "pods" in API group "" in the namespace "a": RBAC: role not found"#,
                "jane",
                Access::core("watch", "pods", Some("a")),
            ),
            (
                r#"deployments.apps "d" is forbidden: User "system:serviceaccount:a:b" cannot get resource "deployments" in API group "apps" in the namespace "a""#,
                "system:serviceaccount:a:b",
                Access {
                    group: "apps".to_owned(),
                    ..Access::core("get", "deployments", Some("a"))
                },
            ),
        ] {
            assert_eq!(
                Access::from_forbidden(message),
                Some((user.to_owned(), access)),
                "{message}"
            );
        }
        assert_eq!(
            Access::from_forbidden("forbidden by the admission webhook"),
            None
        );
    }

    #[test]
    fn api_source_asks_in_each_namespace_or_in_all() {
        assert_eq!(Access::for_api_source(&[]).len(), 4);
        assert_eq!(
            Access::for_api_source(&["a".to_owned(), "b".to_owned()])[7],
            Access::core("get", "pods/log", Some("b"))
        );
    }

    #[test]
    fn manifest_holds_a_role_and_its_binding_per_scope() {
        let yaml = Access::manifest(
            &[
                Access::core("list", "pods", None),
                Access::core("get", "pods/log", Some("shop")),
            ],
            ("tawny", "agent"),
        );
        assert_eq!(yaml.matches("kind: ClusterRoleBinding\n").count(), 1);
        assert_eq!(yaml.matches("kind: Role\n").count(), 1);
        assert!(yaml.contains("metadata: {name: tawny-log-reader, namespace: shop}\nrules:\n- {apiGroups: [\"\"], resources: [\"pods/log\"], verbs: [\"get\"]}\n"), "{yaml}");
        assert!(
            yaml.contains("subjects: [{kind: ServiceAccount, name: agent, namespace: tawny}]"),
            "{yaml}"
        );
    }

    #[tokio::test]
    async fn review_asks_for_the_subresource_and_keeps_the_order() {
        let cluster = fake(|request| async move {
            let review: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            let attributes = &review["spec"]["resourceAttributes"];
            let allowed = attributes["resource"] == "pods" && attributes["subresource"] != "log";
            json_body(
                201,
                &json!({
                    "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": review["spec"],
                    "status": {"allowed": allowed, "reason": "r"},
                }),
            )
        });
        let wanted = Access::for_api_source(&["a".to_owned()]);
        let verdicts = cluster.review(wanted.clone()).await.unwrap();
        let (accesses, permits): (Vec<_>, Vec<_>) =
            verdicts.into_iter().map(|v| (v.access, v.permit)).unzip();
        assert_eq!(accesses, wanted);
        let denied = Permit::Denied {
            reason: "r".to_owned(),
        };
        assert_eq!(
            permits,
            [Permit::Allowed, Permit::Allowed, Permit::Allowed, denied]
        );
    }
}
