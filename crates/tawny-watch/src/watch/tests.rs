//! The whole loop between a stand-in API server, an archive in memory and a real directory.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tawny_incident::{Incident, report::LogLine};
use tawny_kube::fake::FakeKube;
use tawny_model::StreamId;
use tawny_runtime::ManualClock;
use tokio::sync::broadcast;

use super::*;
use crate::{ArchiveError, KeepLimits, Told as Heard, Wanted};

const START: Timestamp = Timestamp::from_secs(1_763_740_800);

/// All kinds but autoscalers, which the stand-in does not know.
const N_WATCHES: usize = 10;

#[derive(Debug, Default)]
struct Store {
    records: Mutex<Vec<LogEntry>>,
    lines: Mutex<BTreeMap<String, Vec<LogLine>>>,
    is_full: AtomicBool,
    tries: tokio::sync::watch::Sender<usize>,
}

#[async_trait]
impl Archive for Store {
    async fn keep(&self, records: Vec<LogEntry>) -> Result<(), ArchiveError> {
        if self.is_full.load(Ordering::Relaxed) {
            self.tries.send_modify(|n| *n += 1);
            return Err(ArchiveError {
                reason: "the disk is full".to_owned(),
                remedy: Remedy::Retry,
            });
        }
        self.records.lock().unwrap().extend(records);
        self.tries.send_modify(|n| *n += 1);
        Ok(())
    }

    async fn last_lines(
        &self,
        stream: &StreamId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<LogLine>, ArchiveError> {
        let lines = self.lines.lock().unwrap();
        let of_stream = lines.get(&stream.to_string()).into_iter().flatten();
        let mut found: Vec<LogLine> = of_stream
            .filter(|line| (from..to).contains(&line.timestamp))
            .cloned()
            .collect();
        Ok(found.split_off(found.len().saturating_sub(limit)))
    }
}

struct Running {
    kube: FakeKube,
    store: Arc<Store>,
    incidents: Incidents,
    health: WatchHealth,
    told: broadcast::Receiver<Arc<Heard>>,
    stop: CancellationToken,
    ooms: mpsc::Sender<OomProof>,
    task: JoinSet<Result<(), Error>>,
}

async fn start(kube: &FakeKube, dir: &Path, store: Arc<Store>) -> Running {
    start_with(kube, dir, store, N_WATCHES).await
}

async fn start_with(kube: &FakeKube, dir: &Path, store: Arc<Store>, n_watches: usize) -> Running {
    let clock = Arc::new(ManualClock::new(START));
    let now = tawny_runtime::Clock::now(&*clock);
    let incidents = Incidents::open(dir.join("incidents"), KeepLimits::default(), now)
        .await
        .unwrap();
    let (ooms, ooms_rx) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let health = WatchHealth::default();
    let watch = ClusterWatch {
        settings: WatchSettings::default(),
        cluster: kube.cluster(),
        archive: Arc::clone(&store) as Arc<dyn Archive>,
        incidents: incidents.clone(),
        metrics: WatchMetrics::default(),
        health: health.clone(),
        clock,
        vitals: None,
        ooms: ooms_rx,
        lease: None,
    };
    let told = incidents.subscribe();
    let mut task = JoinSet::new();
    task.spawn(watch.run(stop.clone()));
    kube.watched(n_watches).await;
    Running {
        kube: kube.clone(),
        store,
        incidents,
        health,
        told,
        stop,
        ooms,
        task,
    }
}

impl Running {
    async fn next(&mut self) -> Arc<Heard> {
        let day = Duration::from_secs(86_400);
        let told = tokio::time::timeout(day, self.told.recv()).await;
        told.expect("something is told within a day").unwrap()
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap().unwrap();
    }

    /// Waits until that many records were handed over.
    async fn recorded(&self, n_records: usize) -> Vec<String> {
        let mut tries = self.store.tries.subscribe();
        while self.messages().len() < n_records {
            tries.changed().await.unwrap();
        }
        self.messages()
    }

    fn messages(&self) -> Vec<String> {
        let records = self.store.records.lock().unwrap();
        records.iter().map(|it| it.message.clone()).collect()
    }

    fn all(&self) -> Vec<Incident> {
        self.incidents.list(&Wanted::default(), 100)
    }
}

fn time(secs: i64) -> String {
    Timestamp::from_secs(START.as_secs() + secs).to_string()
}

fn pod(name: &str, restarts: u32, state: Value, last: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "creationTimestamp": time(-60), "labels": {"app": name}},
        "spec": {"nodeName": "n1", "restartPolicy": "Always", "containers": [{"name": "web", "image": "web:1"}]},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "web", "image": "web:1", "imageID": "", "ready": true, "restartCount": restarts,
            "containerID": format!("containerd://{name}-{restarts}"),
            "state": state, "lastState": last,
        }]},
    })
}

fn running(name: &str) -> Value {
    let state = json!({"running": {"startedAt": time(-50)}});
    pod(name, 0, state, json!({}))
}

/// Died after run 0 with this code and was started again.
fn restarted(name: &str, code: i32) -> Value {
    let last = json!({"terminated": {
        "exitCode": code, "reason": "Error", "startedAt": time(-50), "finishedAt": time(5),
        "containerID": format!("containerd://{name}-0"),
    }});
    pod(name, 1, json!({"running": {"startedAt": time(6)}}), last)
}

fn event(uid: &str, pod: &str, reason: &str, message: &str, count: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": uid, "uid": uid, "creationTimestamp": time(1)},
        "involvedObject": {"kind": "Pod", "namespace": "ws", "name": pod, "uid": format!("uid-{pod}"), "fieldPath": "spec.containers{web}"},
        "reason": reason, "message": message, "type": "Warning", "count": count,
        "firstTimestamp": time(1), "lastTimestamp": time(i64::from(count)),
        "source": {"component": "kubelet", "host": "n1"},
    })
}

fn line(secs: i64, message: &str) -> LogLine {
    LogLine {
        timestamp: Timestamp::from_secs(START.as_secs() + secs),
        message: message.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_death_is_told_with_the_last_lines_of_exactly_the_run_that_died() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::default());
    store.lines.lock().unwrap().extend([
        (
            "uid-a/web/0".to_owned(),
            vec![line(1, "connecting"), line(4, "panic: no route")],
        ),
        ("uid-a/web/1".to_owned(), vec![line(7, "started again")]),
    ]);
    let kube = FakeKube::new();
    kube.put("pods", running("a"));
    let mut it = start(&kube, dir.path(), store).await;
    it.kube.put("pods", restarted("a", 2));
    let told = it.next().await;
    let incident = told.incident.clone().unwrap();
    assert_eq!(told.change, Told::Opened(incident.id));
    assert_eq!(incident.cause().class(), "crash");
    // Exit code 2 with a panic in the last lines matters more than a wrong option (section 4.3).
    assert_eq!(incident.severity, tawny_incident::Severity::High);
    let bundle = told.bundle.as_ref().unwrap();
    let texts: Vec<&str> = bundle.last_lines.iter().map(|it| &*it.message).collect();
    assert_eq!(texts, ["connecting", "panic: no route"]);
    assert_eq!(bundle.lines_from, Some(LinesFrom::Store));
    assert!(bundle.pod.is_some() && bundle.is_sealed);
    let name = it.incidents.bundles(incident.id)[0];
    let incidents = it.incidents.clone();
    it.stop().await;
    let told = Bundle {
        untold: Vec::new(),
        ..Bundle::clone(bundle)
    };
    assert_eq!(incidents.load_bundle(name).await.unwrap(), told);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_not_collected_has_its_last_lines_from_the_kubelet_else_its_message() {
    let dir = tempfile::tempdir().unwrap();
    let kube = FakeKube::new();
    kube.set_log(&format!(
        "{} from the kubelet\n{} of the next run\n",
        time(3),
        time(6)
    ));
    kube.put("pods", running("a"));
    let mut it = start(&kube, dir.path(), Arc::default()).await;
    it.kube.put("pods", restarted("a", 1));
    let told = it.next().await;
    let bundle = told.bundle.as_ref().unwrap();
    assert_eq!(bundle.lines_from, Some(LinesFrom::Api));
    assert_eq!(bundle.last_lines, [line(3, "from the kubelet")]);
    let asked = it.kube.asked();
    let log = asked.iter().find(|path| path.contains("/log?")).unwrap();
    assert!(log.contains("previous=true"), "{log}");

    it.kube.set_log("");
    let mut with_message = restarted("b", 1);
    with_message["status"]["containerStatuses"][0]["lastState"]["terminated"]["message"] =
        json!("cannot open config\nbye");
    it.kube.put("pods", running("b"));
    it.kube.put("pods", with_message);
    let told = it.next().await;
    let bundle = told.bundle.as_ref().unwrap();
    assert_eq!(bundle.lines_from, Some(LinesFrom::TerminationMessage));
    assert_eq!(bundle.last_lines.len(), 2);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_at_once_after_its_death_is_an_incident_once_over_restart_and_relist() {
    let dir = tempfile::tempdir().unwrap();
    let kube = FakeKube::new();
    kube.put("pods", running("a"));
    let mut it = start(&kube, dir.path(), Arc::default()).await;
    it.kube.put("pods", restarted("a", 1));
    it.kube.delete("pods", "a");
    let told = it.next().await;
    let id = told.incident.as_ref().unwrap().id;
    assert_eq!(told.incident.as_ref().unwrap().count, 1);
    assert_eq!(told.change, Told::Opened(id));
    // The pod has no workload that could bring it back.
    assert_eq!(it.next().await.change, Told::Resolved(id));
    it.kube.expire("pods");
    it.kube.watched(N_WATCHES).await;
    assert_eq!(it.all().len(), 1);
    it.stop().await;

    let it = start(&kube, dir.path(), Arc::default()).await;
    let again = it.all();
    assert_eq!((again.len(), again[0].count), (1, 1));
    assert_eq!(it.incidents.bundles(again[0].id).len(), 1);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_there_at_the_start_is_baseline_and_what_came_while_away_is_news() {
    let dir = tempfile::tempdir().unwrap();
    let kube = FakeKube::new();
    let mut old = restarted("old", 1);
    old["status"]["containerStatuses"][0]["lastState"]["terminated"]["finishedAt"] =
        json!(time(-30));
    kube.put("pods", old);
    let mut it = start(&kube, dir.path(), Arc::default()).await;
    let told = it.next().await;
    assert!(told.incident.as_ref().unwrap().baseline);
    it.stop().await;
    // Died after the book was saved.
    kube.put("pods", restarted("new", 3));
    let mut it = start(&kube, dir.path(), Arc::default()).await;
    let told = it.next().await;
    let incident = told.incident.as_ref().unwrap();
    assert_eq!(&*incident.subject().pod, "new");
    assert!(!incident.baseline);
    assert_eq!(it.all().len(), 2);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_event_is_recorded_with_its_object_and_repeats_only_when_its_count_grows() {
    let dir = tempfile::tempdir().unwrap();
    let kube = FakeKube::new();
    kube.put("pods", running("a"));
    kube.put("events", event("e1", "a", "BackOff", "again", 1));
    let it = start(&kube, dir.path(), Arc::default()).await;
    it.recorded(1).await;
    it.kube
        .put("events", event("e1", "a", "BackOff", "again", 4));
    it.recorded(2).await;
    it.kube.expire("events");
    it.kube.watched(N_WATCHES).await;
    it.kube
        .put("events", event("e2", "a", "Pulled", "image", 1));
    let messages = it.recorded(3).await;
    assert_eq!(
        messages,
        ["BackOff: again", "BackOff: again (x4)", "Pulled: image"]
    );
    let records = it.store.records.lock().unwrap().clone();
    assert_eq!(records[2].stream.labels.len(), 1);
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn records_wait_for_a_store_that_is_full_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let kube = FakeKube::new();
    let it = start(&kube, dir.path(), Arc::default()).await;
    it.store.is_full.store(true, Ordering::Relaxed);
    for n in 0..2_500 {
        let event = event(&format!("e{n}"), "a", "Pulled", &n.to_string(), 1);
        it.kube.put("events", event);
    }
    let mut tries = it.store.tries.subscribe();
    tries.wait_for(|n| *n >= 3).await.unwrap();
    it.store.is_full.store(false, Ordering::Relaxed);
    let messages = it.recorded(2_500).await;
    let mut numbers: Vec<u32> = (messages.iter())
        .map(|it| it.trim_start_matches("Pulled: ").parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..2_500));
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_not_allowed_is_told_and_the_others_go_on_bb_18() {
    let dir = tempfile::tempdir().unwrap();
    let kube = FakeKube::new();
    kube.put("pods", running("a"));
    kube.forbid("nodes");
    let mut it = start_with(&kube, dir.path(), Arc::default(), N_WATCHES - 1).await;
    it.kube.put("pods", restarted("a", 1));
    it.next().await;
    let watches = it.health.watches(START);
    assert!(matches!(watches["nodes"], WatchState::Denied { .. }));
    assert_eq!(watches["horizontalpodautoscalers"], WatchState::Unsupported);
    assert_eq!(watches["pods"], WatchState::Watching);
    let permission = &it.health.indicators(START)[3];
    assert!(!permission.is_healthy && permission.detail.contains("nodes"));
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_the_kernel_counted_makes_an_unexplained_death_out_of_memory() {
    let dir = tempfile::tempdir().unwrap();
    let kube = FakeKube::new();
    kube.put("pods", running("a"));
    let mut it = start(&kube, dir.path(), Arc::default()).await;
    let proof = OomProof {
        pod_uid: "uid-a".into(),
        container_id: "a-0".into(),
        container: "".into(),
        at: Timestamp::from_secs(START.as_secs() + 5),
        kills: 1,
    };
    it.ooms.send(proof).await.unwrap();
    it.kube.put("pods", restarted("a", 137));
    let told = it.next().await;
    assert_eq!(
        told.incident.as_ref().unwrap().cause().class(),
        "out_of_memory"
    );
    it.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_events_in_a_burst_are_each_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let kube = FakeKube::new();
    let it = start(&kube, dir.path(), Arc::default()).await;
    for n in 0..10_000 {
        let pod = format!("p{}", n % 50);
        it.kube
            .put("events", event(&format!("e{n}"), &pod, "Pulled", "m", 1));
    }
    assert_eq!(it.recorded(10_000).await.len(), 10_000);
    it.stop().await;
}
