//! A Kubernetes API within a test: lists, watches, single objects and logs, as far as features ask for them.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::Cluster;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The namespace of an object that names none.
const NAMESPACE: &str = "ws";

/// The kinds that are watched, by their plural.
const KINDS: [(&str, &str, &str); 10] = [
    ("pods", "v1", "Pod"),
    ("events", "v1", "Event"),
    ("nodes", "v1", "Node"),
    ("namespaces", "v1", "Namespace"),
    ("replicasets", "apps/v1", "ReplicaSet"),
    ("deployments", "apps/v1", "Deployment"),
    ("statefulsets", "apps/v1", "StatefulSet"),
    ("daemonsets", "apps/v1", "DaemonSet"),
    ("jobs", "batch/v1", "Job"),
    ("cronjobs", "batch/v1", "CronJob"),
];

/// Those that stand beside all namespaces.
const OF_CLUSTER: [&str; 2] = ["nodes", "namespaces"];

#[derive(Default)]
struct State {
    /// By plural, namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    watches: Vec<Watch>,
    asked: Vec<String>,
    /// Answers of 403 for these plurals.
    forbidden: Vec<&'static str>,
    log: String,
}

struct Watch {
    plural: String,
    namespace: Option<String>,
    events_tx: mpsc::Sender<Bytes>,
}

/// The API server and what is in it. Clones share the content.
#[derive(Clone)]
pub struct FakeKube {
    state: Arc<Mutex<State>>,
    changes: Arc<watch::Sender<usize>>,
}

impl Default for FakeKube {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            changes: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl fmt::Debug for FakeKube {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeKube").finish_non_exhaustive()
    }
}

impl FakeKube {
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panics while it holds the lock has failed already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of it.
    pub fn cluster(&self) -> Cluster {
        let this = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = this.answer(
                request.uri().path(),
                request.uri().query().unwrap_or_default(),
            );
            this.changes.send_modify(|n| *n += 1);
            std::future::ready(Ok::<_, kube::Error>(answer))
        });
        let client = kube::Client::new(service, "default");
        Cluster::new(client, "https://fake", "context `test`")
    }

    /// Waits until `n` watches are open, so that no change falls between a list and its watch.
    ///
    /// # Panics
    /// When they are not within a day of the paused clock.
    pub async fn watched(&self, n: usize) {
        let mut changes = self.changes.subscribe();
        while self
            .lock()
            .watches
            .iter()
            .filter(|watch| !watch.events_tx.is_closed())
            .count()
            < n
        {
            let change = tokio::time::timeout(Duration::from_secs(86_400), changes.changed());
            let changed = change.await.expect("watches open within a day");
            changed.expect("the sender is this one's");
        }
    }

    /// Path and query of every request so far.
    pub fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    /// Answers 403 for this plural from now on.
    pub fn forbid(&self, plural: &'static str) {
        self.lock().forbidden.push(plural);
    }

    /// Forbids nothing any more.
    pub fn allow_all(&self) {
        self.lock().forbidden.clear();
    }

    /// The log of every container.
    pub fn set_log(&self, log: &str) {
        log.clone_into(&mut self.lock().log);
    }

    /// Makes or changes an object; its namespace is `ws` unless it says otherwise or has none.
    pub fn put(&self, plural: &str, mut object: Value) {
        let metadata = &mut object["metadata"];
        if metadata["namespace"].is_null() && !OF_CLUSTER.contains(&plural) {
            metadata["namespace"] = json!(NAMESPACE);
        }
        metadata["resourceVersion"] = json!("100");
        let key = key(plural, &object);
        let mut state = self.lock();
        let kind = match state.objects.insert(key, object.clone()) {
            Some(_) => "MODIFIED",
            None => "ADDED",
        };
        state.send(plural, kind, &object);
    }

    /// Deletes an object of that namespace, or of the cluster.
    ///
    /// # Panics
    /// When there is none.
    pub fn delete(&self, plural: &str, name: &str) {
        let object = self.delete_unseen(plural, name);
        self.lock().send(plural, "DELETED", &object);
    }

    /// As if the watch had missed it.
    ///
    /// # Panics
    /// When there is none.
    pub fn delete_unseen(&self, plural: &str, name: &str) -> Value {
        let namespace = if OF_CLUSTER.contains(&plural) {
            ""
        } else {
            NAMESPACE
        };
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let removed = self.lock().objects.remove(&key);
        removed.expect("the object is there")
    }

    /// Ends the watches of a kind, because their resource version is too old.
    pub fn expire(&self, plural: &str) {
        let mut state = self.lock();
        let status = json!({"kind": "Status", "code": 410, "status": "Failure", "reason": "Expired", "message": "too old"});
        state.send(plural, "ERROR", &status);
        state.watches.retain(|watch| watch.plural != plural);
    }

    fn answer(&self, path: &str, query: &str) -> Answer {
        let mut state = self.lock();
        state.asked.push(format!("{path}?{query}"));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let within = match parts.as_slice() {
            ["api", _, within @ ..] | ["apis", _, _, within @ ..] => within,
            other => other,
        };
        let (namespace, rest) = match within {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
                (Some((*namespace).to_owned()), rest)
            }
            rest => (None, rest),
        };
        if let Some(plural) = state
            .forbidden
            .iter()
            .find(|plural| rest.first() == Some(plural))
        {
            let message = format!(
                "{plural} is forbidden: User \"u\" cannot list resource \"{plural}\" in API group \"\" at the cluster scope"
            );
            return status(403, &message);
        }
        match rest {
            [_, _, "log"] => text(200, state.log.clone()),
            [plural, name] => {
                let namespace = namespace.unwrap_or_default();
                let key = ((*plural).to_owned(), namespace, (*name).to_owned());
                match state.objects.get(&key) {
                    Some(object) => text(200, object.to_string()),
                    None => status(404, "not found"),
                }
            }
            [plural] if query.contains("watch=true") && KINDS.iter().any(|it| it.0 == *plural) => {
                let (events_tx, events_rx) = mpsc::channel(10_000);
                state.watches.push(Watch {
                    plural: (*plural).to_owned(),
                    namespace,
                    events_tx,
                });
                let events =
                    stream::unfold(events_rx, |mut rx| async { Some((rx.recv().await?, rx)) });
                let frames = events.map(|line| Ok(Frame::data(line)));
                Response::new(StreamBody::new(frames).boxed_unsync())
            }
            [plural] => {
                let Some((_, version, kind)) = KINDS.into_iter().find(|known| known.0 == *plural)
                else {
                    return status(404, "the server could not find the requested resource");
                };
                let items: Vec<&Value> = (state.objects.iter())
                    .filter(|((of, within, _), _)| {
                        of == plural && namespace.as_ref().is_none_or(|n| n == within)
                    })
                    .map(|(_, object)| object)
                    .collect();
                let list = json!({"apiVersion": version, "kind": format!("{kind}List"), "metadata": {"resourceVersion": "100"}, "items": items});
                text(200, list.to_string())
            }
            _ => status(404, "no such path"),
        }
    }
}

impl State {
    fn send(&mut self, plural: &str, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        let within = object["metadata"]["namespace"].as_str();
        for watch in &self.watches {
            let is_seen = within.is_none()
                || watch.namespace.is_none()
                || watch.namespace.as_deref() == within;
            if watch.plural == plural && is_seen {
                drop(watch.events_tx.try_send(line.clone().into()));
            }
        }
    }
}

fn key(plural: &str, object: &Value) -> (String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    (
        plural.to_owned(),
        text(&metadata["namespace"]),
        text(&metadata["name"]),
    )
}

fn text(code: u16, text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).boxed_unsync();
    let answer = Response::builder().status(code).body(body);
    answer.expect("a status and a body make a response")
}

fn status(code: u16, message: &str) -> Answer {
    let reason = if code == 404 { "NotFound" } else { "Forbidden" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message});
    text(code, status.to_string())
}
