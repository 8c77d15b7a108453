//! The SQLite store under a realistic load: `cargo bench -p tawny-store --bench sqlite [-- LINES]`.
//!
//! One million made-up Kubernetes lines of a fixed seed (20 namespaces, 200 pods; JSON, logfmt, klog, access logs) are
//! written in calls of 4,000, each durable before the next, then asked for. Figures go to `docs/benchmarks.md`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time and prints"
)]

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Instant};

use tawny_model::{
    Batch, Entries, Output, Position, ResumeMark, Severity, Stream, StreamId, Timestamp, Workload,
    WriterId,
};
use tawny_query::{Field, Query};
use tawny_runtime::{Registry, SystemClock};
use tawny_store::{
    FacetsRequest, Filter, HistogramRequest, LogStore, Order, SearchRequest, SqliteConfig,
    SqliteStore, Written,
};

const NAMESPACES: u64 = 20;
const PODS: u64 = 200;
/// Lines of a call: 16 streams × 250 lines.
const STREAMS_PER_CALL: u64 = 16;
const LINES_PER_BATCH: u64 = 250;
/// Lines come at 1,000 a second.
const STEP_NS: i64 = 1_000_000;
const START_NS: i64 = 1_700_000_000_000_000_000;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

const PATHS: [&str; 8] = [
    "/api/v1/orders",
    "/api/v1/users",
    "/healthz",
    "/api/v1/cart/items",
    "/login",
    "/metrics",
    "/api/v2/payments",
    "/static/app.js",
];
const VERBS: [&str; 5] = ["GET", "GET", "GET", "POST", "DELETE"];
const WHAT: [&str; 10] = [
    "request completed",
    "cache miss for key",
    "retrying upstream call",
    "connection pool resized",
    "user session refreshed",
    "order accepted",
    "payment authorised",
    "job finished",
    "lease renewed",
    "reconciling object",
];
const FAILURES: [&str; 6] = [
    "connection refused by upstream",
    "context deadline exceeded",
    "i/o timeout while dialing",
    "permission denied for resource",
    "duplicate key value violates unique constraint",
    "no healthy upstream",
];

struct Line {
    severity: Severity,
    message: String,
    attributes: Vec<(&'static str, String)>,
}

fn line(rng: &mut Rng, n: u64, kind: u64) -> Line {
    let is_error = rng.below(50) == 0;
    let is_warn = !is_error && rng.below(20) == 0;
    let severity = if is_error {
        Severity::Error
    } else if is_warn {
        Severity::Warn
    } else if rng.below(6) == 0 {
        Severity::Debug
    } else {
        Severity::Info
    };
    let trace = format!("{:016x}", rng.next());
    let millis = rng.below(900).to_string();
    let what = if is_error {
        rng.pick(&FAILURES)
    } else {
        rng.pick(&WHAT)
    };
    let path = rng.pick(&PATHS);
    match kind % 4 {
        0 => {
            let status = if is_error { "503" } else { "200" };
            Line {
                severity,
                message: format!(
                    r#"{{"level":"{severity}","msg":"{what}","trace_id":"{trace}","path":"{path}","status":{status},"duration_ms":{millis}}}"#
                ),
                attributes: vec![
                    ("trace_id", trace),
                    ("path", path.to_owned()),
                    ("status", status.to_owned()),
                    ("duration_ms", millis),
                ],
            }
        }
        1 => {
            let user = rng.below(50_000).to_string();
            Line {
                severity,
                message: format!(
                    "level={severity} msg=\"{what}\" user={user} trace_id={trace} took={millis}ms"
                ),
                attributes: vec![
                    ("user", user),
                    ("trace_id", trace),
                    ("took", format!("{millis}ms")),
                ],
            }
        }
        2 => Line {
            severity,
            message: format!(
                "{}1114 22:13:20.{:06} {:7} controller.go:{}] {what} namespace/object-{} attempt={}",
                severity.name().to_uppercase().chars().next().unwrap_or('I'),
                rng.below(1_000_000),
                rng.below(99_999),
                rng.below(900),
                rng.below(3_000),
                rng.below(9),
            ),
            attributes: Vec::new(),
        },
        _ => Line {
            severity,
            message: format!(
                "10.{}.{}.{} - - [14/Nov/2023:22:13:20 +0000] \"{} {path}?id={n} HTTP/1.1\" {} {} \"-\" \"kube-probe/1.29\"",
                rng.below(8),
                rng.below(256),
                rng.below(256),
                rng.pick(&VERBS),
                if is_error { 502 } else { 200 },
                rng.below(20_000),
            ),
            attributes: Vec::new(),
        },
    }
}

fn streams() -> Vec<Arc<Stream>> {
    (0..PODS)
        .map(|pod| {
            let id = StreamId {
                cluster: "".into(),
                pod_uid: format!("0b5e1f6a-77aa-4c1e-9f57-{pod:012x}").into(),
                container: "app".into(),
                restart: 0,
            };
            let app = format!("app-{}", pod / 4);
            Arc::new(Stream {
                node: format!("node-{}", pod % 7).into(),
                image: format!("registry.local/{app}:1.4").into(),
                workload: Some(Workload {
                    kind: "Deployment".into(),
                    name: app.as_str().into(),
                }),
                labels: BTreeMap::from([("app".into(), app.as_str().into())]),
                ..Stream::new(
                    id,
                    format!("ns-{}", pod % NAMESPACES),
                    format!("{app}-6d5f9c7b4-{pod:05}"),
                )
            })
        })
        .collect()
}

/// User and system time of this process, all threads, from `/proc/self/stat` (fields 14 and 15, in 1/100 s).
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().unwrap());
    ticks.sum::<f64>() / 100.0
}

fn peak_memory_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn bytes_by_table(file: &Path) -> Vec<(String, i64)> {
    let conn = rusqlite::Connection::open(file).unwrap();
    let mut select = conn
        .prepare("SELECT name, sum(pgsize) FROM dbstat GROUP BY name HAVING sum(pgsize) > 100000 ORDER BY 2 DESC")
        .unwrap();
    let rows = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

fn call(rng: &mut Rng, streams: &[Arc<Stream>], ends: &mut [Position], first: u64) -> Vec<Batch> {
    let n_streams = streams.len() as u64;
    let from_stream = first / LINES_PER_BATCH;
    (0..STREAMS_PER_CALL)
        .map(|of_call| {
            let idx = ((from_stream + of_call) % n_streams) as usize;
            let start = ends[idx];
            let mut entries = Entries::default();
            let mut mark = ResumeMark::default();
            for n in 0..LINES_PER_BATCH {
                // Streams interleave in time, with a jitter below a microsecond's thousand.
                let step = (first + n * STREAMS_PER_CALL + of_call) as i64;
                let timestamp =
                    Timestamp::from_nanos(START_NS + step * STEP_NS + rng.below(900_000) as i64);
                let line = line(rng, first + n, idx as u64);
                ends[idx] = ends[idx].advance(line.message.len() as u64 + 1);
                mark = mark.after_line(timestamp);
                let attributes = line
                    .attributes
                    .iter()
                    .map(|(key, value)| (*key, value.as_str()));
                entries
                    .push(
                        timestamp,
                        line.severity,
                        Output::Stdout,
                        &line.message,
                        attributes,
                        ends[idx],
                    )
                    .unwrap();
            }
            Batch {
                stream: Arc::clone(&streams[idx]),
                writer: WriterId(1),
                start,
                end: ends[idx],
                end_mark: mark,
                entries,
            }
        })
        .collect()
}

/// The same lines into kubelogs' schema (KL-12 to KL-17: buffer of 1,000 rows, its indexes, triggers and pragmas).
fn ingest_kubelogs(n_lines: u64) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubelogs.db");
    let mut conn = rusqlite::Connection::open(&file).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -64000;
         CREATE TABLE logs (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER NOT NULL, namespace TEXT NOT NULL,
             pod TEXT NOT NULL, container TEXT NOT NULL, severity INTEGER NOT NULL, message TEXT NOT NULL, attributes TEXT,
             dedup_hash INTEGER);
         CREATE INDEX logs_k8s ON logs (namespace, pod, container);
         CREATE INDEX logs_timestamp ON logs (timestamp DESC);
         CREATE INDEX logs_severity ON logs (severity);
         CREATE UNIQUE INDEX logs_dedup ON logs (dedup_hash) WHERE dedup_hash IS NOT NULL;
         CREATE VIRTUAL TABLE logs_fts USING fts5 (message, content = logs, content_rowid = id,
             tokenize = 'porter unicode61 remove_diacritics 1');
         CREATE TRIGGER logs_ai AFTER INSERT ON logs BEGIN
             INSERT INTO logs_fts (rowid, message) VALUES (new.id, new.message);
         END;",
    )
    .unwrap();
    let streams = streams();
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut ends = vec![Position::ZERO; streams.len()];
    let per_call = STREAMS_PER_CALL * LINES_PER_BATCH;
    let (mut wall, mut cpu, mut n) = (0.0, 0.0, 0u64);
    for first in (0..n_lines).step_by(per_call as usize) {
        let batches = call(&mut rng, &streams, &mut ends, first);
        let rows: Vec<_> = batches
            .iter()
            .flat_map(|batch| batch.entries.iter().map(|entry| (&batch.stream, entry)))
            .collect();
        let (cpu_before, started) = (cpu_seconds(), Instant::now());
        for buffer in rows.chunks(1_000) {
            let transaction = conn.transaction().unwrap();
            {
                let mut insert = transaction
                    .prepare_cached(
                        "INSERT OR IGNORE INTO logs (timestamp, namespace, pod, container, severity, message, attributes,
                         dedup_hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    )
                    .unwrap();
                for (stream, entry) in buffer {
                    let attributes: BTreeMap<_, _> = entry.attributes().collect();
                    let attributes = serde_json::to_string(&attributes).unwrap();
                    let mut hash = tawny_model::stream::Fnv::default();
                    hash.write(&entry.timestamp().as_nanos().to_le_bytes());
                    for part in [&*stream.namespace, &*stream.pod, stream.container()] {
                        hash.write(part.as_bytes());
                        hash.write(&[0]);
                    }
                    hash.write(entry.message().as_bytes());
                    insert
                        .execute(rusqlite::params![
                            entry.timestamp().as_nanos(),
                            stream.namespace,
                            stream.pod,
                            stream.container(),
                            entry.severity().number(),
                            entry.message(),
                            attributes,
                            hash.finish().cast_signed(),
                        ])
                        .unwrap();
                }
            }
            transaction.commit().unwrap();
        }
        wall += started.elapsed().as_secs_f64();
        cpu += cpu_seconds() - cpu_before;
        n += rows.len() as u64;
    }
    drop(conn);
    let n = n as f64;
    println!(
        "kubelogs' schema: ingest {:.0} lines/s, {:.0} lines/CPU-s",
        n / wall,
        n / cpu
    );
    println!(
        "kubelogs' schema: file {:.1} bytes/line",
        fs::metadata(&file).unwrap().len() as f64 / n
    );
}

fn median_ms(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2] * 1e3
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run());
}

async fn run() {
    let n_lines = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .next()
        .unwrap_or(1_000_000u64);
    let directory = tempfile::tempdir().unwrap();
    let config = SqliteConfig::new(directory.path().join("logs.db"));
    let store = SqliteStore::open(config, Arc::new(SystemClock), &mut Registry::default())
        .await
        .unwrap();
    let streams = streams();
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut ends = vec![Position::ZERO; streams.len()];
    let per_call = STREAMS_PER_CALL * LINES_PER_BATCH;
    let (mut message_bytes, mut wall, mut cpu, mut slowest) = (0usize, 0.0, 0.0, 0.0f64);
    for first in (0..n_lines).step_by(per_call as usize) {
        let batches = call(&mut rng, &streams, &mut ends, first);
        message_bytes += batches
            .iter()
            .flat_map(|b| b.entries.iter())
            .map(|e| e.message().len())
            .sum::<usize>();
        let (cpu_before, started) = (cpu_seconds(), Instant::now());
        let written = store.write(batches).await.unwrap();
        let seconds = started.elapsed().as_secs_f64();
        wall += seconds;
        cpu += cpu_seconds() - cpu_before;
        slowest = slowest.max(seconds);
        assert!(
            written
                .iter()
                .all(|written| matches!(written, Written::New { .. }))
        );
    }
    let stats = store.stats().await.unwrap();
    let n = stats.n_entries as f64;
    println!(
        "lines {n} of {:.0} bytes of message",
        message_bytes as f64 / n
    );
    println!(
        "ingest {:.0} lines/s, {:.0} lines/CPU-s, slowest call of {per_call} {:.0} ms",
        n / wall,
        n / cpu,
        slowest * 1e3
    );
    println!(
        "disk {:.1} bytes/line (with the log not yet folded in)",
        stats.disk_bytes as f64 / n
    );
    println!("peak memory {:.0} MiB", peak_memory_mib());
    let last = stats.newest.unwrap();
    drop(store);
    let file = directory.path().join("logs.db");
    println!(
        "file {:.1} bytes/line",
        fs::metadata(&file).unwrap().len() as f64 / n
    );
    for (table, bytes) in bytes_by_table(&file) {
        println!("  {table} {:.1}", bytes as f64 / n);
    }
    let opened = Instant::now();
    let store = SqliteStore::open(
        SqliteConfig::new(&file),
        Arc::new(SystemClock),
        &mut Registry::default(),
    )
    .await
    .unwrap();
    println!("open {:.1} ms", opened.elapsed().as_secs_f64() * 1e3);

    let needle = {
        let request = SearchRequest {
            filter: filter("trace_id:*", None, last),
            order: Order::OldestFirst,
            limit: 500,
            after: None,
            before: None,
        };
        let page = store.search(&request).await.unwrap();
        page.entries[499].attribute("trace_id").unwrap().to_owned()
    };
    let pod = &streams[77].pod;
    let quarter = Some(900);
    for (name, query, since_secs) in [
        ("needle (a trace id, as a word)", needle.clone(), None),
        ("needle in an attribute", format!("trace_id:{needle}"), None),
        ("word that is nowhere", "xyzzy".to_owned(), None),
        (
            "phrase, newest 100",
            "\"connection refused\"".to_owned(),
            None,
        ),
        (
            "namespace and level>=error, last 15 min, newest 100",
            "namespace:ns-7 level>=error".to_owned(),
            quarter,
        ),
        ("last 15 min, newest 100", String::new(), quarter),
        ("one pod, newest 100", format!("pod:{pod}"), None),
        ("prefix, newest 100", "dead*".to_owned(), None),
        (
            "regex, newest 100",
            "/user=4[0-9]{3}9 .*took=8/".to_owned(),
            None,
        ),
        (
            "substring inside a word that is nowhere",
            "*xyzzy*".to_owned(),
            None,
        ),
        ("status>=500, newest 100", "status>=500".to_owned(), None),
    ] {
        let request = SearchRequest {
            filter: filter(&query, since_secs, last),
            order: Order::NewestFirst,
            limit: 100,
            after: None,
            before: None,
        };
        let mut times = Vec::new();
        let mut n_found = 0;
        for _ in 0..15 {
            let started = Instant::now();
            n_found = store.search(&request).await.unwrap().entries.len();
            times.push(started.elapsed().as_secs_f64());
        }
        println!(
            "search {name}: {:.2} ms ({n_found} found)",
            median_ms(times)
        );
    }
    for (name, query) in [
        ("a common word", "upstream"),
        ("a phrase", "\"connection refused\""),
        ("everything", ""),
        ("a namespace", "namespace:ns-7"),
        ("all but a word", "-upstream"),
    ] {
        let filter = filter(query, None, last);
        let mut times = Vec::new();
        let mut n_found = 0;
        for _ in 0..9 {
            let started = Instant::now();
            n_found = store.count(&filter).await.unwrap();
            times.push(started.elapsed().as_secs_f64());
        }
        println!("count {name}: {:.2} ms ({n_found})", median_ms(times));
    }
    for (name, query, bucket_secs) in [
        ("errors by minute", "level>=error", 60),
        ("a word by minute", "timeout", 60),
        ("all by 5 s", "", 5),
    ] {
        let request = HistogramRequest {
            filter: filter(query, None, last),
            bucket: std::time::Duration::from_secs(bucket_secs),
        };
        let mut times = Vec::new();
        for _ in 0..9 {
            let started = Instant::now();
            assert!(!store.histogram(&request).await.unwrap().buckets.is_empty());
            times.push(started.elapsed().as_secs_f64());
        }
        println!("histogram {name}: {:.2} ms", median_ms(times));
    }
    let request = FacetsRequest {
        filter: filter("level>=error", None, last),
        fields: vec![Field::Namespace, Field::Pod],
        limit: 10,
    };
    let mut times = Vec::new();
    for _ in 0..9 {
        let started = Instant::now();
        assert_eq!(store.facets(&request).await.unwrap().len(), 2);
        times.push(started.elapsed().as_secs_f64());
    }
    println!(
        "facets top 10 namespaces and pods by errors: {:.2} ms",
        median_ms(times)
    );
    drop(store);
    ingest_kubelogs(n_lines);
}

fn filter(query: &str, since_secs: Option<i64>, last: Timestamp) -> Filter {
    Filter {
        query: Query::parse(query).unwrap(),
        from: since_secs.map_or(Timestamp::MIN, |secs| {
            Timestamp::from_nanos(last.as_nanos() - secs * 1_000_000_000)
        }),
        to: Timestamp::MAX,
    }
}
