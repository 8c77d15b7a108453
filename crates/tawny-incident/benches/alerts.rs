//! What rules cost a line: one rule and a hundred, on lines of which one in a hundred matters, and a hundred without
//! the sieve to compare with.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tawny_incident::alert::{Rules, Watch};
use tawny_model::{EntryId, LogEntry, Output, Severity, Stream, StreamId, Timestamp};

const MESSAGES: [&str; 4] = [
    "GET /api/v1/users/8121/orders?limit=50 200 1.2ms upstream=10.42.3.17:8080 request served",
    "reconciled deployment default/api in 31ms, 4 of 4 replicas available, nothing to do",
    "\x1b[32mINFO\x1b[0m cache warmed: 18232 keys in 3 shards, hit ratio 0.98 over the last minute",
    "Benutzer Müller hat die Sitzung beendet; Übertragung läuft noch und wird abgewartet",
];
const BAD: &str = "connection refused: dial tcp 10.0.0.1:5432, retrying in 250ms (attempt 3 of 10)";

fn entries(now: Timestamp) -> (Arc<Stream>, Vec<LogEntry>) {
    let id = StreamId {
        cluster: "".into(),
        pod_uid: "7c1d4b0e".into(),
        container: "app".into(),
        restart: 0,
    };
    let stream = Arc::new(Stream::new(id, "prod", "api-7f9c-x2x9"));
    let entries = (0..1_000)
        .map(|n| LogEntry {
            id: EntryId(0),
            timestamp: now,
            severity: if n % 100 == 0 {
                Severity::Error
            } else {
                Severity::Info
            },
            output: Output::Stdout,
            message: if n % 100 == 0 { BAD } else { MESSAGES[n % 4] }.to_owned(),
            attributes: vec![("status".to_owned(), "200".to_owned())],
            stream: Arc::clone(&stream),
        })
        .collect();
    (stream, entries)
}

/// Rules that need a text, a text and a level, a namespace, or an attribute of errors; the first one hits.
fn rules(n: usize) -> Rules {
    let rules: String = (0..n)
        .map(|n| {
            let query = match n % 4 {
                0 if n == 0 => r#"'"connection refused"'"#.to_owned(),
                0 => format!("'\"failure number{n} of\"'"),
                1 => format!("'timeout{n} OR deadline{n}'"),
                2 => format!("'namespace:shop-{n} level>=warn'"),
                _ => format!("'level>=error status>=5{:02}'", n % 100),
            };
            format!("  - {{name: r{n}, query: {query}, window: 5m, threshold: '>= 1000000', group_by: [namespace]}}\n")
        })
        .collect();
    let text = format!("rules:\n{rules}");
    Rules::load([("bench", text.as_str())]).expect("the rules are valid")
}

fn bench(criterion: &mut Criterion) {
    let now = Timestamp::from_secs(1_700_000_000);
    let (_, entries) = entries(now);
    let mut group = criterion.benchmark_group("alerts");
    group.throughput(Throughput::Elements(entries.len() as u64));
    for n in [1, 100] {
        let rules = rules(n);
        let mut watch = Watch::new(&rules, now);
        group.bench_function(format!("watch, {n} rules"), |bencher| {
            bencher.iter(|| {
                let changes = entries
                    .iter()
                    .map(|entry| watch.admit_entry(black_box(entry), now).len());
                changes.sum::<usize>()
            });
        });
        group.bench_function(format!("every query asked, {n} rules"), |bencher| {
            bencher.iter(|| {
                let hits = entries.iter().map(|entry| {
                    let entry = black_box(entry);
                    rules
                        .iter()
                        .filter(|rule| rule.query.matches(entry))
                        .count()
                });
                hits.sum::<usize>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
