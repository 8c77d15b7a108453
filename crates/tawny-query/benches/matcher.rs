//! What it costs to look at one line: the price of a tail's filter and of a search without an index.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tawny_model::{EntryId, LogEntry, Output, Severity, Stream, StreamId, Timestamp};
use tawny_query::Query;

const MESSAGES: [&str; 4] = [
    "GET /api/v1/users/8121/orders?limit=50 200 1.2ms upstream=10.42.3.17:8080 request served",
    "connection refused: dial tcp 10.0.0.1:5432, retrying in 250ms (attempt 3 of 10)",
    "\x1b[32mINFO\x1b[0m reconciled deployment default/api in 31ms, 4 of 4 replicas available",
    "Benutzer Müller hat die Sitzung größtenteils beendet; Übertragung läuft noch",
];

fn entries() -> Vec<LogEntry> {
    let id = StreamId {
        cluster: "".into(),
        pod_uid: "7c1d4b0e".into(),
        container: "app".into(),
        restart: 0,
    };
    let stream = Arc::new(Stream::new(id, "prod", "api-7f9c-x2x9"));
    let entry = |message: &&str| LogEntry {
        id: EntryId(0),
        timestamp: Timestamp::from_secs(0),
        severity: Severity::Info,
        output: Output::Stdout,
        message: (*message).to_owned(),
        attributes: vec![("status".to_owned(), "200".to_owned())],
        stream: Arc::clone(&stream),
    };
    MESSAGES.iter().map(entry).collect()
}

fn bench(criterion: &mut Criterion) {
    let entries = entries();
    let mut group = criterion.benchmark_group("match");
    group.throughput(Throughput::Elements(entries.len() as u64));
    for text in [
        "timeout",
        "\"connection refused\"",
        "*refus*",
        "/refused|timeout/",
        "namespace:prod pod:api-* level>=info status>=200",
        "error OR panic OR fatal OR refused",
    ] {
        let query = Query::parse(text).expect("the list holds valid queries");
        group.bench_function(text, |bencher| {
            bencher.iter(|| {
                entries
                    .iter()
                    .filter(|entry| query.matches(black_box(*entry)))
                    .count()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
