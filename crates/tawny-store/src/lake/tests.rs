//! The whole engine where only its inside shows what is meant.

mod full;

use std::{path::PathBuf, sync::Arc};

use futures::future::join_all;
use prometheus_client::encoding::text::encode;
use tawny_model::Timestamp;
use tawny_runtime::{ManualClock, Registry};

use super::{LakeConfig, LakeStore};
use crate::{
    Error, LogStore,
    conformance::{Line, T0, stream},
};

async fn open(dir: &tempfile::TempDir, registry: &mut Registry) -> LakeStore {
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(T0)));
    let config = LakeConfig::new(dir.path().join("lake"));
    LakeStore::open(config, clock, registry).await.unwrap()
}

#[tokio::test]
async fn gauges_know_at_the_start_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let entry = |pod: &str, at| Line::at(at, "a line").entry(&stream(pod));
    let store = open(&dir, &mut Registry::default()).await;
    store
        .append(vec![entry("a", 0), entry("a", 1)])
        .await
        .unwrap();
    // Nothing is older, but all that was in memory is in segments now.
    store.delete_older_than(Timestamp::MIN).await.unwrap();
    store.append(vec![entry("b", 2)]).await.unwrap();
    drop(store);
    let mut registry = Registry::default();
    let _store = open(&dir, &mut registry).await;
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for metric in ["tawny_store_stored_entries 3\n", "tawny_store_streams 2\n"] {
        assert!(text.contains(metric), "no {metric} in\n{text}");
    }
}

#[tokio::test]
async fn a_fresh_file_system_is_a_place_for_a_store() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("lake/lost+found")).unwrap();
    let store = open(&dir, &mut Registry::default()).await;
    store
        .append(vec![Line::at(0, "a line").entry(&stream("a"))])
        .await
        .unwrap();
    drop(store);
    let again = open(&dir, &mut Registry::default()).await;
    assert_eq!(again.stats().await.unwrap().n_entries, 1);
}

#[tokio::test]
async fn an_append_that_meets_damage_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, &mut Registry::default()).await;
    let (damaged, sound) = (stream("damaged"), stream("sound"));
    store
        .append(vec![Line::at(10, "first").entry(&damaged)])
        .await
        .unwrap();
    store.delete_older_than(Timestamp::MIN).await.unwrap();
    drop(store);
    for segment in segments(&dir) {
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[8..].fill(0xa5);
        std::fs::write(segment, bytes).unwrap();
    }
    let store = open(&dir, &mut Registry::default()).await;
    // All at once, so that they share a record of the log: each hundredth may be a repeat of what is damaged.
    let appends = (0..200).map(|n| {
        let stream = if n % 100 == 50 { &damaged } else { &sound };
        let at = if n % 100 == 50 { 10 } else { 20 + n };
        store.append(vec![Line::at(at, format!("line {n}")).entry(stream)])
    });
    for (n, answer) in join_all(appends).await.into_iter().enumerate() {
        if n % 100 == 50 {
            assert!(
                matches!(answer, Err(Error::Damaged { .. })),
                "{n}: {answer:?}"
            );
        } else {
            assert_eq!(answer.unwrap(), 1, "{n}");
        }
    }
}

fn segments(dir: &tempfile::TempDir) -> Vec<PathBuf> {
    let days = std::fs::read_dir(dir.path().join("lake/logs")).unwrap();
    days.flat_map(|day| std::fs::read_dir(day.unwrap().path()).into_iter().flatten())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "parquet"))
        .collect()
}
