//! The watch against a stand-in API server: what a relist, a 410 and a broken connection must not lose.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use tawny_model::Timestamp;
use tawny_runtime::ManualClock;

use super::*;
use crate::client::testing::{Answer, Asked, answer, fake, json_body};

fn pod(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": version.to_string(),
                     "labels": {"v": version.to_string()}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

fn facts(name: &str) -> PodFacts {
    pod_facts(&serde_json::from_value(pod(name, 1)).unwrap()).unwrap()
}

fn list(pods: &[Value]) -> Answer {
    json_body(
        200,
        &json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "100"}, "items": pods}),
    )
}

/// A watch that sends `events` and then either stays open or ends.
fn events(events: &[(&str, Value)], stays_open: bool) -> Answer {
    let lines: Vec<_> = events
        .iter()
        .map(|(kind, object)| {
            let line = format!("{}\n", json!({"type": kind, "object": object}));
            Ok(Frame::data(line.into()))
        })
        .collect();
    if stays_open {
        answer(
            200,
            StreamBody::new(stream::iter(lines).chain(stream::pending())),
        )
    } else {
        answer(200, StreamBody::new(stream::iter(lines)))
    }
}

type Step = fn() -> Answer;

/// Answers requests with the steps of a script, in order; afterwards leaves requests hanging.
fn scripted(steps: &'static [Step]) -> (Cluster, Asks) {
    let asks = Asks::default();
    let log = Arc::clone(&asks);
    let cluster = fake(move |asked| {
        let mut log = log.lock().unwrap();
        let step = steps.get(log.len());
        log.push(asked);
        async move {
            match step {
                Some(step) => step(),
                None => std::future::pending().await,
            }
        }
    });
    (cluster, asks)
}

type Asks = Arc<Mutex<Vec<Asked>>>;

struct Running {
    directory: PodDirectory,
    metrics: KubeMetrics,
    _tasks: tokio::task::JoinSet<Result<(), Error>>,
}

fn run(cluster: Cluster, scope: PodScope) -> Running {
    let directory = PodDirectory::default();
    let metrics = KubeMetrics::default();
    let watch = PodWatch {
        cluster,
        scope,
        directory: directory.clone(),
        metrics: metrics.clone(),
        clock: Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000))),
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(watch.run(CancellationToken::new()));
    Running {
        directory,
        metrics,
        _tasks: tasks,
    }
}

impl Running {
    async fn until(&self, is_reached: impl Fn(&PodDirectory) -> bool + Sync + Send) {
        let mut versions = self.directory.subscribe();
        let reached = async {
            while !is_reached(&self.directory) {
                versions.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(3600), reached)
            .await
            .expect("the pods change within an hour of paused time");
    }
}

fn is_gone(directory: &PodDirectory, uid: &str) -> Option<bool> {
    directory.get(uid).map(|facts| facts.gone)
}

#[tokio::test(start_paused = true)]
async fn watch_is_scoped_to_node_and_selectors_and_reads_from_the_cache() {
    let (cluster, asks) = scripted(&[|| list(&[pod("a", 1)])]);
    let scope = PodScope {
        node: Some("n1".to_owned()),
        label_selector: Some("app=web".to_owned()),
        field_selector: Some("status.phase!=Failed".to_owned()),
        ..PodScope::default()
    };
    let running = run(cluster, scope);
    running.directory.synced().await;
    assert!(running.directory.get("uid-a").is_some());
    assert!(running.metrics.last_event_secs() > 1_699_999_999.0);
    let asks = asks.lock().unwrap();
    assert_eq!(asks[0].uri.path(), "/api/v1/pods");
    for (parameter, value) in [
        (
            "fieldSelector",
            Some("spec.nodeName=n1,status.phase!=Failed"),
        ),
        ("labelSelector", Some("app=web")),
        ("resourceVersion", Some("0")),
        ("limit", None),
        ("sendInitialEvents", None),
    ] {
        assert_eq!(
            asks[0].query(parameter).as_deref(),
            value,
            "{parameter} of {}",
            asks[0].uri
        );
    }
}

#[tokio::test(start_paused = true)]
async fn deleted_pod_keeps_its_metadata_until_released() {
    let (cluster, _) = scripted(&[
        || list(&[pod("a", 1), pod("b", 2)]),
        || events(&[("DELETED", pod("a", 3))], true),
    ]);
    let running = run(cluster, PodScope::default());
    running
        .until(|pods| is_gone(pods, "uid-a") == Some(true))
        .await;
    assert_eq!(&*running.directory.get("uid-a").unwrap().labels["v"], "3");
    running.directory.release("uid-a");
    running.directory.release("uid-b");
    assert_eq!(is_gone(&running.directory, "uid-a"), None);
    assert_eq!(is_gone(&running.directory, "uid-b"), Some(false));
}

#[tokio::test(start_paused = true)]
async fn relist_after_410_keeps_pods_it_does_not_name_and_finds_new_ones() {
    // VK-2, SX-15: the list after a 410 implies the deletes that were missed.
    let (cluster, _) = scripted(&[
        || list(&[pod("a", 1), pod("b", 2)]),
        || {
            let gone = json!({"kind": "Status", "status": "Failure", "reason": "Expired", "message": "too old", "code": 410});
            events(&[("ERROR", gone)], true)
        },
        || list(&[pod("b", 5), pod("c", 6)]),
    ]);
    let running = run(cluster, PodScope::default());
    running
        .until(|pods| is_gone(pods, "uid-a") == Some(true))
        .await;
    assert_eq!(is_gone(&running.directory, "uid-b"), Some(false));
    assert_eq!(is_gone(&running.directory, "uid-c"), Some(false));
    assert_eq!(&*running.directory.get("uid-a").unwrap().labels["v"], "1");
    assert_eq!(running.metrics.watch_restarts.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn watch_resumes_from_the_last_version_when_the_connection_ends() {
    let (cluster, asks) = scripted(&[
        || list(&[]),
        || events(&[("ADDED", pod("a", 7))], false),
        || events(&[("ADDED", pod("b", 8))], true),
    ]);
    let running = run(cluster, PodScope::default());
    running.until(|pods| pods.len() == 2).await;
    assert_eq!(
        asks.lock().unwrap()[2].query("resourceVersion").as_deref(),
        Some("7")
    );
}

#[tokio::test(start_paused = true)]
async fn server_failure_and_refusal_are_retried_until_they_pass() {
    let (cluster, _) = scripted(&[
        || {
            json_body(
                500,
                &json!({"kind": "Status", "message": "boom", "code": 500}),
            )
        },
        || {
            json_body(
                403,
                &json!({"kind": "Status", "message": "no", "reason": "Forbidden", "code": 403}),
            )
        },
        || list(&[pod("a", 1)]),
    ]);
    let running = run(cluster, PodScope::default());
    running.directory.synced().await;
    assert_eq!(running.metrics.watch_restarts.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn malformed_object_is_left_out_and_counted() {
    let (cluster, _) = scripted(&[
        || {
            let mut broken = pod("broken", 2);
            broken["spec"]["containers"] = json!("not a list");
            list(&[pod("a", 1), broken])
        },
        || {
            let nameless = json!({"metadata": {"resourceVersion": "3"}});
            events(&[("ADDED", nameless), ("ADDED", pod("b", 4))], true)
        },
    ]);
    let running = run(cluster, PodScope::default());
    running.until(|pods| pods.get("uid-b").is_some()).await;
    assert_eq!(running.directory.len(), 2);
    assert_eq!(running.metrics.malformed_objects.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_namespace_has_its_own_watch_and_relist() {
    let lists = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lists);
    let cluster = fake(move |asked| {
        let lists = Arc::clone(&counted);
        async move {
            let is_watch = asked.query("watch").is_some();
            let in_a = asked.uri.path() == "/api/v1/namespaces/a/pods";
            assert!(in_a || asked.uri.path() == "/api/v1/namespaces/b/pods");
            match (is_watch, in_a) {
                (false, _) => {
                    lists.fetch_add(1, Ordering::Relaxed);
                    list(&[pod(if in_a { "in-a" } else { "in-b" }, 1)])
                }
                (true, true) => events(&[("DELETED", pod("in-a", 2))], true),
                (true, false) => events(&[], true),
            }
        }
    });
    let scope = PodScope {
        namespaces: vec!["b".to_owned(), "a".to_owned(), "b".to_owned()],
        ..PodScope::default()
    };
    let running = run(cluster, scope);
    running.directory.synced().await;
    running
        .until(|pods| is_gone(pods, "uid-in-a") == Some(true))
        .await;
    assert_eq!(is_gone(&running.directory, "uid-in-b"), Some(false));
    assert_eq!(lists.load(Ordering::Relaxed), 2);
}

#[test]
fn changes_are_told_once_each_in_order() {
    let directory = PodDirectory::default();
    directory.put(facts("a"));
    directory.put(facts("b"));
    directory.put(facts("a"));
    let first = directory.changed_since(0);
    let names: Vec<_> = first.pods.iter().map(|pod| &*pod.name).collect();
    assert_eq!(names, ["a", "b"], "a pod put again unchanged is no change");
    let mut changed = facts("a");
    changed.phase = crate::Phase::Failed;
    directory.put(changed);
    let second = directory.changed_since(first.version);
    assert_eq!(second.pods.len(), 1);
    assert_eq!(&*second.pods[0].name, "a");
    assert!(directory.changed_since(second.version).pods.is_empty());
}

#[test]
fn pods_that_are_gone_are_bounded() {
    let directory = PodDirectory::default();
    for n in 0..MAX_GONE + 10 {
        directory.mark_gone(facts(&n.to_string()), 0);
    }
    assert_eq!(directory.len(), MAX_GONE);
    assert!(directory.get("uid-9").is_none());
    assert!(directory.get("uid-10").is_some());
    assert_eq!(directory.changed_since(0).pods.len(), MAX_GONE);
}

#[test]
fn end_of_an_old_mirror_does_not_hide_the_new_one() {
    let directory = PodDirectory::default();
    let mut old = facts("etcd");
    old.uid = "hash".into();
    let mut new = old.clone();
    new.object_uid = "second".into();
    directory.put(old.clone());
    directory.put(new);
    directory.mark_gone(old, 0);
    assert_eq!(is_gone(&directory, "hash"), Some(false));
}

#[tokio::test(start_paused = true)]
async fn namespace_labels_come_before_the_first_pod_and_follow_changes() {
    let (cluster, asks) = scripted(&[
        || {
            let shop = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                              "metadata": {"name": "shop", "resourceVersion": "1", "labels": {"tawny.dev/exclude": "true"}}});
            json_body(
                200,
                &json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                                   "metadata": {"resourceVersion": "1"}, "items": [shop]}),
            )
        },
        || list(&[pod("a", 1)]),
    ]);
    let scope = PodScope {
        namespace_labels: true,
        ..PodScope::default()
    };
    let running = run(cluster, scope);
    running.until(|pods| pods.get("uid-a").is_some()).await;
    let labels = Arc::clone(&running.directory.get("uid-a").unwrap().namespace_labels);
    assert_eq!(
        labels.get("tawny.dev/exclude").map(|value| &**value),
        Some("true")
    );
    assert_eq!(asks.lock().unwrap()[0].uri.path(), "/api/v1/namespaces");
    running
        .directory
        .label_namespace("shop".into(), Labels::new());
    assert!(
        running
            .directory
            .get("uid-a")
            .unwrap()
            .namespace_labels
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn pods_are_watched_although_namespaces_may_not_be() {
    let (cluster, _) = scripted(&[
        || {
            json_body(
                403,
                &json!({"kind": "Status", "message": "no", "reason": "Forbidden", "code": 403}),
            )
        },
        || list(&[pod("a", 1)]),
    ]);
    let scope = PodScope {
        namespace_labels: true,
        ..PodScope::default()
    };
    run(cluster, scope).directory.synced().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_for_ever_asks_less_and_less_often() {
    let n_asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&n_asked);
    let cluster = fake(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        async {
            json_body(
                403,
                &json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no"}),
            )
        }
    });
    let _running = run(cluster, PodScope::default());
    tokio::time::sleep(Duration::from_secs(600)).await;
    // 0.8 s doubling to 30 s, halved at most by jitter: some 40 lists in ten minutes. kube's own backoff makes 500.
    let n_asked = n_asked.load(Ordering::Relaxed);
    assert!((15..=60).contains(&n_asked), "{n_asked}");
}
