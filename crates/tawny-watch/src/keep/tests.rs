use tawny_incident::{Cause, Exit, Health, Scope, Severity, Subject};

use super::*;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_763_740_800 + secs)
}

fn crash(pod: &str, n: i64) -> Occurrence {
    Occurrence {
        key: format!("death/{pod}/{n}"),
        at: at(n),
        cause: Cause::Crash {
            exit: Some(Exit {
                code: 1,
                signal: None,
            }),
        },
        subject: Subject {
            namespace: "shop".into(),
            pod: pod.into(),
            pod_uid: format!("uid-{pod}").into(),
            node: "n1".into(),
            container: "web".into(),
            ..Subject::default()
        },
        run: None,
        message: "".into(),
        signatures: Vec::new(),
        existing: false,
    }
}

fn found(occurrence: Occurrence) -> Findings {
    Findings {
        occurrences: vec![occurrence],
        ..Findings::default()
    }
}

async fn open(dir: &std::path::Path) -> Incidents {
    let dir = dir.join("incidents");
    Incidents::open(dir, KeepLimits::default(), at(1_000))
        .await
        .unwrap()
}

/// Counts an occurrence and freezes it, as the watch does.
async fn happen(incidents: &Incidents, occurrence: Occurrence) -> IncidentId {
    let news = incidents.observe(found(occurrence), at(100));
    let (id, occurrence, changes) = news.occurrences.into_iter().next().unwrap();
    let mut bundle = Bundle::new(id, occurrence, at(100));
    bundle.untold = changes;
    assert!(incidents.is_freezing());
    incidents.freeze(&bundle).await.unwrap();
    id
}

#[tokio::test]
async fn book_and_bundles_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let incidents = open(dir.path()).await;
    let id = happen(&incidents, crash("a", 1)).await;
    assert_eq!(happen(&incidents, crash("a", 2)).await, id);
    incidents.mute(id, at(5_000), at(100)).await.unwrap();
    incidents.save(at(100)).await.unwrap();
    assert!(!incidents.is_changed());
    drop(incidents);

    let incidents = open(dir.path()).await;
    assert_eq!(incidents.get(id).unwrap().count, 2);
    assert_eq!(incidents.watching_since(), at(1_000));
    assert_eq!(incidents.muted_until(id), Some(at(5_000)));
    let bundles = incidents.bundles(id);
    assert_eq!(bundles.len(), 2);
    let bundle = incidents.load_bundle(bundles[1]).await.unwrap();
    assert_eq!(bundle.occurrence, crash("a", 2));
    let report = bundle.report(&incidents.get(id).unwrap(), at(200));
    assert_eq!(report.incident.timestamp, at(2));
    assert_eq!(report.incident.count, 2);
}

#[tokio::test]
async fn what_was_frozen_and_not_yet_counted_comes_back_once() {
    let dir = tempfile::tempdir().unwrap();
    let incidents = open(dir.path()).await;
    let counted = happen(&incidents, crash("a", 1)).await;
    incidents.save(at(100)).await.unwrap();
    let lost = happen(&incidents, crash("b", 2)).await;
    drop(incidents);
    for n_starts in 1..=2 {
        let incidents = open(dir.path()).await;
        let counts = [counted, lost].map(|id| incidents.get(id).map(|it| it.count));
        assert_eq!(counts, [Some(1), Some(1)], "start {n_starts}");
        assert_eq!(incidents.bundles(lost).len(), 1);
        let again = incidents.list(&Wanted::default(), 10);
        assert_eq!(again.len(), 2);
        assert!(again.iter().all(|incident| incident.count == 1));
        let recovered = incidents.take_recovered();
        // Neither is sealed, and of neither was anybody told.
        assert_eq!(recovered.len(), 2);
        assert!(recovered.iter().all(|it| it.changes.len() == 1));
        assert!(incidents.take_recovered().is_empty());
    }
}

#[tokio::test]
async fn limits_take_the_oldest_bundles_and_leave_the_incidents() {
    let dir = tempfile::tempdir().unwrap();
    let one = Bundle::new(
        "89abcdef01234567-1".parse().unwrap(),
        crash("a", 0),
        at(100),
    );
    let text = serde_json::to_vec(&one).unwrap();
    let n_bytes = zstd::encode_all(text.as_slice(), 3).unwrap().len() as u64;
    let limits = KeepLimits {
        max_age: Duration::from_secs(500),
        max_bytes: ByteSize(n_bytes * 5 / 2),
    };
    let incidents = Incidents::open(dir.path().join("i"), limits, at(0))
        .await
        .unwrap();
    let mut id = None;
    for n in 0..10 {
        id = Some(happen(&incidents, crash("a", n * 100)).await);
    }
    let id = id.unwrap();
    assert_eq!(incidents.apply_limits(at(700)).await, 8);
    let left = incidents.bundles(id);
    let times: Vec<i64> = left.iter().map(|name| name.at_millis / 1_000).collect();
    assert_eq!(times, [at(800).as_secs(), at(900).as_secs()]);
    assert_eq!(incidents.get(id).unwrap().count, 10);
    assert_eq!(incidents.apply_limits(at(701)).await, 0);
    let files = std::fs::read_dir(dir.path().join("i/bundles")).unwrap();
    assert_eq!(files.count(), 2);
}

#[tokio::test]
async fn a_damaged_book_is_put_aside_and_a_damaged_bundle_stays() {
    let dir = tempfile::tempdir().unwrap();
    let incidents = open(dir.path()).await;
    let id = happen(&incidents, crash("a", 1)).await;
    let name = incidents.bundles(id)[0];
    drop(incidents);
    let root = dir.path().join("incidents");
    let bundle = root.join("bundles").join(name.file_name());
    std::fs::write(&bundle, "{").unwrap();
    let incidents = open(dir.path()).await;
    assert!(incidents.list(&Wanted::default(), 10).is_empty());
    let error = incidents.load_bundle(name).await.unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert!(bundle.exists());
    drop(incidents);
    for text in ["", "{}", "[1]"] {
        std::fs::write(root.join("book.json"), text).unwrap();
        let incidents = open(dir.path()).await;
        assert!(incidents.list(&Wanted::default(), 10).is_empty());
        assert!(!root.join("book.json").exists());
    }
    let aside = std::fs::read_dir(&root).unwrap().filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_string_lossy().contains("damaged")
    });
    assert_eq!(aside.count(), 1);
}

#[tokio::test]
async fn without_a_book_what_was_told_is_counted_and_not_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let incidents = open(dir.path()).await;
    let id = happen(&incidents, crash("a", 1)).await;
    let name = incidents.bundles(id)[0];
    let mut bundle = incidents.load_bundle(name).await.unwrap();
    bundle.is_sealed = true;
    bundle.untold.clear();
    incidents.rewrite(&bundle).await.unwrap();
    drop(incidents);
    let incidents = open(dir.path()).await;
    assert_eq!(incidents.get(id).unwrap().count, 1);
    assert!(incidents.take_recovered().is_empty());
}

#[tokio::test]
async fn writers_of_the_book_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let incidents = open(dir.path()).await;
    let id = happen(&incidents, crash("a", 1)).await;
    let mut savers = tokio::task::JoinSet::new();
    for n in 0..40 {
        let incidents = incidents.clone();
        savers.spawn(async move { incidents.mute(id, at(5_000 + n), at(100)).await });
    }
    while let Some(saved) = savers.join_next().await {
        saved.unwrap().unwrap();
    }
    drop(incidents);
    assert!(open(dir.path()).await.muted_until(id).is_some());
}

#[tokio::test]
async fn leftovers_of_a_crash_while_writing_go() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await);
    let leftover = dir.path().join("incidents/bundles/x.json.zst.new");
    std::fs::write(&leftover, "half").unwrap();
    drop(open(dir.path()).await);
    assert!(!leftover.exists());
}

#[tokio::test]
async fn incidents_are_found_by_what_is_wanted_and_by_the_start_of_their_id() {
    let dir = tempfile::tempdir().unwrap();
    let incidents = open(dir.path()).await;
    let a = happen(&incidents, crash("api-1", 1)).await;
    let b = happen(&incidents, crash("web-1", 50)).await;
    let ids = |wanted: Wanted| -> Vec<IncidentId> {
        let found = incidents.list(&wanted, 10);
        found.iter().map(|incident| incident.id).collect()
    };
    assert_eq!(ids(Wanted::default()), [b, a]);
    let wanted = Wanted {
        name: Some("web".to_owned()),
        namespace: Some("shop".to_owned()),
        node: Some("n1".to_owned()),
        class: Some("crash".to_owned()),
        is_open: Some(true),
        severity: Some(Severity::Low),
        ..Wanted::default()
    };
    assert_eq!(ids(wanted.clone()), [b]);
    for none in [
        Wanted {
            is_open: Some(false),
            ..wanted.clone()
        },
        Wanted {
            severity: Some(Severity::Critical),
            ..wanted.clone()
        },
        Wanted {
            namespace: Some("other".to_owned()),
            ..wanted.clone()
        },
        Wanted {
            class: Some("node".to_owned()),
            ..wanted.clone()
        },
        Wanted {
            from: Some(at(51)),
            ..wanted.clone()
        },
        Wanted {
            to: Some(at(50)),
            ..wanted
        },
    ] {
        assert!(ids(none.clone()).is_empty(), "{none:?}");
    }
    assert_eq!(incidents.list(&Wanted::default(), 1).len(), 1);
    let text = a.to_string();
    assert_eq!(incidents.find(&text).unwrap().id, a);
    assert_eq!(incidents.find(text.get(..12).unwrap()).unwrap().id, a);
    for (prefix, message) in [
        ("", "2 incidents begin"),
        ("zz", "there is no incident `zz`"),
    ] {
        let error = incidents.find(prefix).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[tokio::test]
async fn a_person_resolves_and_the_next_death_reopens() {
    let dir = tempfile::tempdir().unwrap();
    let incidents = open(dir.path()).await;
    let id = happen(&incidents, crash("a", 1)).await;
    let mut told = incidents.subscribe();
    assert!(incidents.resolve(id, at(10)).await.unwrap());
    assert!(!incidents.resolve(id, at(11)).await.unwrap());
    let change = told.recv().await.unwrap();
    assert_eq!(change.change, Change::Resolved(id));
    let incident = change.incident.as_ref().unwrap();
    assert!(!incident.is_open());
    let news = incidents.observe(found(crash("a", 20)), at(20));
    assert_eq!(news.occurrences[0].2, [Change::Regressed(id)]);
    let unknown = "89abcdef01234567-1".parse().unwrap();
    assert!(incidents.resolve(unknown, at(1)).await.is_err());
    assert!(incidents.mute(unknown, at(2), at(1)).await.is_err());
}

#[tokio::test]
async fn listeners_learn_what_is_muted() {
    let dir = tempfile::tempdir().unwrap();
    let incidents = open(dir.path()).await;
    let id = happen(&incidents, crash("a", 1)).await;
    let mut told = incidents.subscribe();
    incidents.mute(id, at(50), at(10)).await.unwrap();
    for (now, is_muted) in [(at(20), true), (at(60), false)] {
        incidents.tell(vec![Change::Recurred(id)], None, now);
        assert_eq!(told.recv().await.unwrap().is_muted, is_muted);
    }
    incidents.mute(id, Timestamp::MIN, at(61)).await.unwrap();
    assert_eq!(incidents.muted_until(id), None);
}

#[tokio::test]
async fn health_alone_is_no_news_and_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let incidents = open(dir.path()).await;
    let found = Findings {
        health: vec![(Scope::Pod("u".into()), Health::Healthy)],
        ..Findings::default()
    };
    let news = incidents.observe(found, at(1));
    assert!(news.changes.is_empty() && news.occurrences.is_empty());
}
