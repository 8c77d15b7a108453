//! A Kubernetes API within the test: lists, watches, single objects and logs, as far as the feature asks for them.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use tawny_kube::Cluster;
use tokio::sync::{mpsc, watch};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The kinds that are watched, by their plural.
const KINDS: [(&str, &str, &str); 3] = [
    ("pods", "v1", "Pod"),
    ("replicasets", "apps/v1", "ReplicaSet"),
    ("events", "v1", "Event"),
];

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

#[derive(Clone)]
pub(crate) struct FakeKube {
    state: Arc<Mutex<State>>,
    changes: Arc<watch::Sender<usize>>,
}

impl FakeKube {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::default(),
            changes: Arc::new(watch::Sender::new(0)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn cluster(&self) -> Cluster {
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
    pub(crate) async fn watched(&self, n: usize) {
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
            change.await.expect("watches open within a day").unwrap();
        }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    pub(crate) fn forbid(&self, plural: &'static str) {
        self.lock().forbidden.push(plural);
    }

    pub(crate) fn allow_all(&self) {
        self.lock().forbidden.clear();
    }

    pub(crate) fn set_log(&self, log: &str) {
        log.clone_into(&mut self.lock().log);
    }

    /// Makes or changes an object; its namespace is `ws` unless it says otherwise.
    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        let metadata = &mut object["metadata"];
        if metadata["namespace"].is_null() {
            metadata["namespace"] = json!("ws");
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

    pub(crate) fn delete(&self, plural: &str, name: &str) {
        let object = self.delete_unseen(plural, name);
        self.lock().send(plural, "DELETED", &object);
    }

    /// As if the watch had missed it.
    pub(crate) fn delete_unseen(&self, plural: &str, name: &str) -> Value {
        let key = (plural.to_owned(), "ws".to_owned(), name.to_owned());
        self.lock().objects.remove(&key).unwrap()
    }

    /// Ends the watches of a kind, because their resource version is too old.
    pub(crate) fn expire(&self, plural: &str) {
        let mut state = self.lock();
        let status = json!({"kind": "Status", "code": 410, "status": "Failure", "reason": "Expired", "message": "too old"});
        state.send(plural, "ERROR", &status);
        state.watches.retain(|watch| watch.plural != plural);
    }

    fn answer(&self, path: &str, query: &str) -> Answer {
        let mut state = self.lock();
        state.asked.push(format!("{path}?{query}"));
        let parts: Vec<&str> = path
            .trim_start_matches("/api/v1/")
            .trim_start_matches("/apis/apps/v1/")
            .split('/')
            .collect();
        let (namespace, rest) = match parts.as_slice() {
            ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
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
                let key = ((*plural).to_owned(), namespace.unwrap(), (*name).to_owned());
                match state.objects.get(&key) {
                    Some(object) => text(200, object.to_string()),
                    None => status(404, "not found"),
                }
            }
            [plural] if query.contains("watch=true") => {
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
                let (_, version, kind) =
                    KINDS.into_iter().find(|known| known.0 == *plural).unwrap();
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
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let metadata = &object["metadata"];
    (
        plural.to_owned(),
        text(&metadata["namespace"]),
        text(&metadata["name"]),
    )
}

fn text(code: u16, text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn status(code: u16, message: &str) -> Answer {
    let reason = if code == 404 { "NotFound" } else { "Forbidden" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message});
    text(code, status.to_string())
}
