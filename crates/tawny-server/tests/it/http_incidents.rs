//! `/api/v1/incidents` and `/api/v1/health`, of a cluster that is watched for real but for its API server.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tawny_incident::report::LogLine;
use tawny_kube::fake::FakeKube;
use tawny_model::{LogEntry, StreamId, Timestamp};
use tawny_runtime::{CancellationToken, ManualClock};
use tawny_server::Limits;
use tawny_watch::{
    Archive, ArchiveError, ClusterWatch, Incidents, KeepLimits, WatchHealth, WatchMetrics,
    WatchSettings,
};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinSet};

use crate::fixture::{Fixture, NOW};

/// An archive with one line of every stream.
#[derive(Debug)]
struct OneLine;

#[async_trait]
impl Archive for OneLine {
    async fn keep(&self, _records: Vec<LogEntry>) -> Result<(), ArchiveError> {
        Ok(())
    }

    async fn last_lines(
        &self,
        stream: &StreamId,
        _from: Timestamp,
        to: Timestamp,
        _limit: usize,
    ) -> Result<Vec<LogLine>, ArchiveError> {
        Ok(vec![LogLine {
            timestamp: to,
            message: format!("last of {stream}"),
        }])
    }
}

struct Watching {
    fixture: Fixture,
    incidents: Incidents,
    kube: FakeKube,
    task: JoinSet<()>,
    stop: CancellationToken,
    _directory: TempDir,
}

async fn incidents(directory: &Path) -> Incidents {
    Incidents::open(directory.join("incidents"), KeepLimits::default(), NOW)
        .await
        .unwrap()
}

impl Watching {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let incidents = incidents(directory.path()).await;
        let kube = FakeKube::new();
        let health = WatchHealth::default();
        let (_ooms_tx, ooms) = mpsc::channel(1);
        let watch = ClusterWatch {
            settings: WatchSettings::default(),
            cluster: kube.cluster(),
            archive: Arc::new(OneLine),
            incidents: incidents.clone(),
            metrics: WatchMetrics::default(),
            health: health.clone(),
            clock: Arc::new(ManualClock::new(NOW)),
            vitals: None,
            ooms,
            lease: None,
        };
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let stopping = stop.clone();
        task.spawn(async move { Box::pin(watch.run(stopping)).await.unwrap() });
        kube.watched(10).await;
        let known = incidents.clone();
        let fixture = Fixture::finished(
            Limits::default(),
            |store| store,
            |server| server.with_incidents(known, health),
        )
        .await;
        Self {
            fixture,
            incidents,
            kube,
            task,
            stop,
            _directory: directory,
        }
    }

    /// Lets a pod die, and waits until that is told.
    async fn dies(&self, name: &str) -> String {
        let mut told = self.incidents.subscribe();
        let at = |secs| Timestamp::from_secs(NOW.as_secs() + secs).to_string();
        self.kube.put("pods", json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "creationTimestamp": at(0)},
            "spec": {"nodeName": "n1", "restartPolicy": "Always", "containers": [{"name": "web", "image": "web:1"}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "web", "image": "web:1", "imageID": "", "ready": true, "restartCount": 1,
                "containerID": "containerd://b", "state": {"running": {"startedAt": at(6)}},
                "lastState": {"terminated": {
                    "exitCode": 2, "reason": "Error", "startedAt": at(1), "finishedAt": at(5),
                    "containerID": format!("containerd://{name}"),
                }},
            }]},
        }));
        let told = told.recv().await.unwrap();
        told.incident.as_ref().unwrap().id.to_string()
    }

    async fn post(&mut self, path: &str, content_type: &str, body: &str) -> (StatusCode, Value) {
        let request = Request::post(path)
            .header("content-type", content_type)
            .body(Full::from(body.to_owned()))
            .unwrap();
        let answer = self.fixture.ask(request).await;
        (answer.status, answer.json())
    }

    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.task.join_next().await {
            ended.unwrap();
        }
        self.fixture.stopped().await;
    }
}

#[tokio::test]
async fn an_incident_is_listed_shown_reported_muted_and_resolved() {
    let mut it = Watching::start().await;
    let id = it.dies("api").await;
    let list = it.fixture.json("/api/v1/incidents?state=open").await;
    let first = &list["incidents"][0];
    assert_eq!(first["id"], json!(id));
    assert_eq!(first["class"], "crash");
    assert_eq!(first["first_at"], "2026-01-31T12:00:05.000000000Z");
    let none = it.fixture.json("/api/v1/incidents?namespace=other").await;
    assert_eq!(none["incidents"], json!([]));

    let short = id.get(..8).unwrap();
    let detail = it.fixture.json(&format!("/api/v1/incidents/{short}")).await;
    assert_eq!(detail["lines_from"], "store");
    assert_eq!(detail["last_lines"][0]["message"], "last of uid-api/web/0");
    assert_eq!(detail["query"], "pod_uid:uid-api container:web restart:0");
    let shown = detail["shown"].as_str().unwrap().to_owned();
    assert_eq!(detail["occurrences"][0]["name"], json!(shown));
    let again = format!("/api/v1/incidents/{id}?occurrence={shown}");
    assert_eq!(it.fixture.json(&again).await["shown"], json!(shown));

    let report = format!("/api/v1/incidents/{id}/report");
    let text = it.fixture.get(&report).await.text;
    assert!(text.starts_with("=== INCIDENT REPORT ===\n"), "{text}");
    assert!(text.contains("last of uid-api/web/0"), "{text}");
    let report = it.fixture.json(&format!("{report}?format=json")).await;
    assert_eq!(report["incident"]["exit_code"], 2);

    let mute = format!("/api/v1/incidents/{id}/mute");
    let json_type = "application/json";
    let (status, muted) = it.post(&mute, json_type, r#"{"for": "2h"}"#).await;
    assert_eq!(status, StatusCode::OK, "{muted}");
    assert_eq!(muted["muted_until"], "2026-01-31T14:00:00.000000000Z");
    for (body, part) in [("{}", "for"), (r#"{"for": "soon"}"#, "soon"), ("", "2h")] {
        let (status, refused) = it.post(&mute, json_type, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    }
    let resolve = format!("/api/v1/incidents/{id}/resolve");
    // What a form of another site can send.
    let (status, _) = it.post(&resolve, "text/plain", "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, resolved) = it.post(&resolve, json_type, "null").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(resolved["state"], "resolved");
    let open = it.fixture.json("/api/v1/incidents?state=open").await;
    assert_eq!(open["incidents"], json!([]));
    it.end().await;
}

#[tokio::test]
async fn changes_are_streamed_as_they_happen() {
    let mut it = Watching::start().await;
    let request = Request::get("/api/v1/incidents/stream")
        .body(Full::<bytes::Bytes>::default())
        .unwrap();
    let mut body = it.fixture.open(request).await.into_body();
    let id = it.dies("api").await;
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let change: Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(change["change"], "opened");
    assert_eq!(change["id"], json!(id));
    assert_eq!(change["last_line"], "last of uid-api/web/0");
    it.end().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_by_name() {
    let mut it = Watching::start().await;
    for (path, status, code) in [
        ("/api/v1/incidents/nope", 404, "no_incident"),
        ("/api/v1/incidents?severity=bad", 400, "bad_parameter"),
        ("/api/v1/incidents?limit=0", 400, "bad_parameter"),
        ("/api/v1/incidents?stat=open", 400, "unknown_parameter"),
        ("/api/v1/incidents?since=1h&from=2h", 400, "bad_parameter"),
    ] {
        let answer = it.fixture.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert_eq!(answer.json()["error"]["code"], code, "{path}");
    }
    it.end().await;
}

#[tokio::test]
async fn health_has_its_parts_bb_18_bb_36() {
    let mut it = Watching::start().await;
    let health = it.fixture.json("/api/v1/health").await;
    assert_eq!(health["status"], "healthy", "{health}");
    assert_eq!(health["service"], "blackbox-daemon");
    for part in [
        "store",
        "api_connectivity",
        "event_freshness",
        "watch_state",
        "permission_state",
    ] {
        assert_eq!(health["components"][part]["status"], "healthy", "{health}");
    }
    it.end().await;
}

#[tokio::test]
async fn a_server_that_watches_nothing_says_how_to_change_that() {
    let mut fixture = Fixture::start().await;
    let answer = fixture.get("/api/v1/incidents").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "not_watched");
    assert!(error["message"].as_str().unwrap().contains("--watch on"));
    assert_eq!(fixture.json("/api/v1/health").await["status"], "healthy");
}
