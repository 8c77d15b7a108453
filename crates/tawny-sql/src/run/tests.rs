//! Statements over both engines, with and without filters put to the store.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use proptest::{
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tawny_model::LogEntry;
use tawny_query::testing;
use tawny_runtime::ManualClock;
use tawny_store::{LakeConfig, LakeStore, SqliteConfig, SqliteStore};
use tempfile::TempDir;

use super::*;
use crate::{Encoder, Format};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Engine {
    Sqlite,
    Lake,
}

const LIMITS: SqlLimits = SqlLimits {
    memory: ByteSize::mib(64),
    time: Duration::from_secs(30),
    n_threads: 2,
};

/// Ten seconds after the first entry may be.
fn clock() -> SharedClock {
    Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_010)))
}

pub(crate) async fn store_of(
    engine: Engine,
    entries: Vec<LogEntry>,
) -> (TempDir, Arc<dyn LogStore>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let clock = clock();
    let mut registry = tawny_runtime::Registry::default();
    let store: Arc<dyn LogStore> = match engine {
        Engine::Sqlite => {
            let config = SqliteConfig::new(path);
            Arc::new(
                SqliteStore::open(config, clock, &mut registry)
                    .await
                    .unwrap(),
            )
        }
        Engine::Lake => {
            // Rows become segments all the time.
            let config = LakeConfig {
                memory: ByteSize::kib(48),
                flush_age: Duration::ZERO,
                ..LakeConfig::new(path)
            };
            Arc::new(LakeStore::open(config, clock, &mut registry).await.unwrap())
        }
    };
    for part in entries.chunks(50) {
        store.append(part.to_vec()).await.unwrap();
    }
    (dir, store)
}

/// The physical plan of a statement.
pub(crate) async fn plan_of(store: Arc<dyn LogStore>, sql: &str) -> String {
    let sql = format!("EXPLAIN {sql}");
    let mut answer = Sql::new(store, clock(), LIMITS)
        .query(&sql, 100)
        .await
        .unwrap();
    let batch = answer.next().await.unwrap().unwrap();
    let plans = arrow_array::StringArray::from(
        datafusion::arrow::compute::cast(batch.column(1), &arrow_schema::DataType::Utf8)
            .unwrap()
            .to_data(),
    );
    plans.iter().flatten().collect::<Vec<_>>().join("\n")
}

/// All rows as JSON lines; an error's text.
async fn ask(sql: &Sql, statement: &str, max_rows: usize) -> Result<Vec<String>, String> {
    let mut answer = sql
        .query(statement, max_rows)
        .await
        .map_err(|error| error.to_string())?;
    let mut encoder = Encoder::new(Format::Json, answer.schema()).unwrap();
    let mut text = String::new();
    while let Some(batch) = answer.next().await {
        let bytes = encoder
            .rows(&batch.map_err(|error| error.to_string())?)
            .unwrap();
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    Ok(text.lines().map(str::to_owned).collect())
}

async fn ask_sorted(sql: &Sql, statement: &str) -> Result<Vec<String>, String> {
    let mut rows = ask(sql, statement, 100_000).await?;
    rows.sort();
    Ok(rows)
}

fn runner(seed: u8) -> TestRunner {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    TestRunner::new_with_rng(Config::default(), rng)
}

fn draw<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

const TEXTS: &[&str] = &[
    "namespace",
    "pod",
    "node",
    "cluster",
    "workload",
    "image",
    "container",
    "\"label.app\"",
    "\"label.app.kubernetes.io/name\"",
    "status",
    "\"Status\"",
    "\"attr.pod\"",
    "\"odd key\"",
    "nothing_has_this",
    "severity",
    "output",
    "message",
    "message",
];

const LITERALS: &[&str] = &[
    "",
    "api",
    "API",
    "api-1",
    "web_1",
    "prod",
    "Größe",
    "Deployment/api",
    "CronJob/API",
    "200",
    "500",
    "5e2",
    "slow",
    "Slow",
    "a b",
    "\"",
    "*",
    "error",
    "info",
    "unknown",
    "stderr",
    "stdout",
    "é",
    "\u{212a}afka",
    "kafka",
    "it's",
    "%",
    "31m",
    "timeout",
    "(",
    "a.b",
];

const PATTERNS: &[&str] = &[
    "%",
    "api%",
    "%api",
    "%rr%",
    "%o_t%",
    "_",
    "%",
    "%é%",
    "%500%",
    "%31m%",
    "S%",
    "%it's%",
    "Deployment/%",
    "api",
    "%\n%",
    "%fka%",
    "",
];

const REGEXES: &[&str] = &[
    "err",
    "(?i)err",
    "^api$",
    r"\d+",
    "a/p",
    "^$",
    "[A-Z]",
    "api",
    "Deployment",
    "é",
];

/// A predicate as text.
fn predicate() -> impl Strategy<Value = String> {
    let text = || select(TEXTS);
    let literal = || select(LITERALS).prop_map(quoted);
    let comparison = || select(&["=", "<>", "<", "<=", ">", ">="][..]);
    let time = || {
        (0i64..10_000_000_000).prop_map(|ns| {
            let time = Timestamp::from_nanos(1_700_000_000_000_000_000 + ns);
            format!("'{time}'")
        })
    };
    let leaf = prop_oneof![
        4 => (text(), comparison(), literal()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (literal(), comparison(), text()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        2 => (text(), select(&["IN", "NOT IN"][..]), proptest::collection::vec(literal(), 1..5))
            .prop_map(|(a, op, list)| format!("{a} {op} ({})", list.join(", "))),
        1 => (text(), literal()).prop_map(|(a, b)| format!("{a} NOT IN ({b}, NULL)")),
        3 => (text(), select(&["LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"][..]), select(PATTERNS))
            .prop_map(|(a, op, b)| format!("{a} {op} {}", quoted(b))),
        2 => (text(), select(&["~", "!~"][..]), select(REGEXES))
            .prop_map(|(a, op, b)| format!("{a} {op} {}", quoted(b))),
        1 => (text(), select(&["IS NULL", "IS NOT NULL"][..])).prop_map(|(a, op)| format!("{a} {op}")),
        1 => (text(), literal(), literal()).prop_map(|(a, b, c)| format!("{a} BETWEEN {b} AND {c}")),
        2 => (comparison(), -1i64..8).prop_map(|(op, n)| format!("severity_number {op} {n}")),
        1 => (comparison(), -1i64..4).prop_map(|(op, n)| format!("restart {op} {n}")),
        1 => proptest::collection::vec(-1i64..4, 1..3).prop_map(|list| format!("restart IN ({})", list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
        2 => (comparison(), time()).prop_map(|(op, time)| format!("timestamp {op} {time}")),
        1 => (time(), time()).prop_map(|(a, b)| format!("timestamp NOT BETWEEN {a} AND {b}")),
        3 => testing::query().prop_map(|query| format!("matches({})", quoted(query.text()))),
        1 => (comparison(), 0..600i64).prop_map(|(op, n)| format!("TRY_CAST(status AS DOUBLE) {op} {n}")),
        1 => (0..40i64).prop_map(|n| format!("length(message) > {n}")),
        1 => Just("(matches('error') = (status = '500'))".to_owned()),
        1 => Just("(status = '500') IS NOT TRUE".to_owned()),
        1 => Just("NULL".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4)
                .prop_map(|parts| format!("({})", parts.join(" AND "))),
            proptest::collection::vec(inner.clone(), 2..4)
                .prop_map(|parts| format!("({})", parts.join(" OR "))),
            inner.prop_map(|part| format!("(NOT {part})")),
        ]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_put_to_the_store_change_no_answer() {
    const SEED: u8 = 3;
    let mut runner = runner(SEED);
    let strategy = proptest::collection::vec(testing::entry(), 300);
    let mut entries = draw(&mut runner, &strategy);
    // Of several descriptions of a stream each engine may show another.
    let mut streams = std::collections::HashMap::new();
    for entry in &mut entries {
        let known = streams.entry(entry.stream.id.clone());
        entry.stream = Arc::clone(known.or_insert_with(|| Arc::clone(&entry.stream)));
    }
    let (_a, sqlite) = store_of(Engine::Sqlite, entries.clone()).await;
    let (_b, lake) = store_of(Engine::Lake, entries).await;
    let asked = [
        (Arc::clone(&sqlite), true),
        (sqlite, false),
        (Arc::clone(&lake), true),
        (lake, false),
    ]
    .map(|(store, pushes_down)| Sql {
        pushes_down,
        ..Sql::new(store, clock(), LIMITS)
    });
    let (mut n_found, mut n_cut) = (0, 0);
    for case in 0..300 {
        let predicate = draw(&mut runner, &predicate());
        let context = format!("seed {SEED}, case {case}: {predicate}");
        let statement = format!(
            "SELECT timestamp, message, pod_uid, container, severity, attributes FROM logs WHERE {predicate}"
        );
        let mut answers = Vec::new();
        for sql in &asked {
            answers.push(ask_sorted(sql, &statement).await.expect(&context));
        }
        n_found += answers[0].len();
        n_cut += usize::from(answers[0].len() < 300);
        for (idx, answer) in answers.iter().enumerate() {
            let missing: Vec<_> = answers[0]
                .iter()
                .filter(|row| !answer.contains(row))
                .collect();
            let more: Vec<_> = answer
                .iter()
                .filter(|row| !answers[0].contains(row))
                .collect();
            assert!(
                *answer == answers[0],
                "{context}: {idx} lacks {missing:#?} and has {more:#?}"
            );
        }
    }
    assert!(
        n_found > 10_000 && n_cut > 200,
        "{n_found} rows, {n_cut} cut"
    );
}

async fn both() -> Vec<(Engine, TempDir, Sql)> {
    let mut runner = runner(5);
    let entries = draw(
        &mut runner,
        &proptest::collection::vec(testing::entry(), 200),
    );
    let mut all = Vec::new();
    for engine in [Engine::Sqlite, Engine::Lake] {
        let (dir, store) = store_of(engine, entries.clone()).await;
        all.push((engine, dir, Sql::new(store, clock(), LIMITS)));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_of_every_kind_are_answered_alike() {
    let both = both().await;
    for (statement, n_rows) in [
        ("SELECT count(*) FROM logs", 1),
        (
            "SELECT severity, count(*) AS n FROM logs GROUP BY severity",
            7,
        ),
        (
            "SELECT namespace, approx_percentile_cont(TRY_CAST(status AS DOUBLE), 0.99) FROM logs WHERE status IS NOT NULL GROUP BY 1",
            8,
        ),
        ("SELECT level, ns, stream FROM logs LIMIT 5", 5),
        (
            "SELECT status AS n, count(*) FILTER (WHERE matches('error')) FROM logs GROUP BY n",
            16,
        ),
        (
            "SELECT TRY_CAST(status AS DOUBLE) AS status FROM logs ORDER BY status LIMIT 3",
            3,
        ),
        (
            "WITH bad AS (SELECT * FROM logs WHERE matches('level>=error')) SELECT pod, count(*) FROM bad GROUP BY pod",
            8,
        ),
        (
            "SELECT a.pod FROM logs a JOIN logs b ON a.id = b.id AND a.message = b.message WHERE matches(a, 'error') LIMIT 4",
            4,
        ),
        ("SELECT 1 UNION ALL SELECT count(*) FROM logs", 2),
        (
            "SELECT labels['app'] AS app FROM logs WHERE labels['app'] IS NOT NULL LIMIT 2",
            2,
        ),
        (
            "SELECT date_trunc('second', timestamp) AS t, count(*) FROM logs GROUP BY t ORDER BY t",
            10,
        ),
        ("SELECT * FROM logs WHERE status = '500' LIMIT 1", 1),
        ("SHOW TABLES", 8),
        ("DESCRIBE logs", 17),
        ("EXPLAIN SELECT * FROM logs", 2),
    ] {
        let mut answers = Vec::new();
        for (engine, _, sql) in &both {
            let rows = ask(sql, statement, 1_000).await;
            let rows = rows.unwrap_or_else(|error| panic!("{engine:?}: {statement}: {error}"));
            assert_eq!(rows.len(), n_rows, "{engine:?}: {statement}: {rows:#?}");
            answers.push(rows);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn star_gives_the_fixed_columns_whatever_else_is_named() {
    let (_dir, store) = store_of(Engine::Lake, Vec::new()).await;
    let sql = Sql::new(store, clock(), LIMITS);
    for (statement, n_columns) in [
        ("SELECT * FROM logs", 17),
        (
            "SELECT * FROM logs WHERE status = '500' AND matches('x')",
            17,
        ),
        ("SELECT *, status FROM logs", 18),
        ("SELECT l.*, status FROM logs AS l", 18),
        ("SELECT * FROM (SELECT pod, status FROM logs)", 2),
        ("SELECT * EXCLUDE (id) FROM logs WHERE status = '1'", 16),
    ] {
        let answer = sql.query(statement, 10).await.unwrap();
        assert_eq!(answer.schema().fields().len(), n_columns, "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_writes_is_refused() {
    let (_dir, store) = store_of(Engine::Sqlite, Vec::new()).await;
    let sql = Sql::new(store, clock(), LIMITS);
    for statement in [
        "INSERT INTO logs VALUES (1)",
        "DELETE FROM logs",
        "UPDATE logs SET pod = 'x'",
        "DROP TABLE logs",
        "CREATE TABLE t AS SELECT * FROM logs",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY logs TO '/tmp/x.csv'",
        "COPY (SELECT 1) TO '/tmp/x.csv' STORED AS CSV",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "EXPLAIN INSERT INTO logs VALUES (1)",
        "EXPLAIN ANALYZE DELETE FROM logs",
        "SELECT * INTO t FROM logs",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "WITH x AS (SELECT 1) INSERT INTO logs SELECT * FROM x",
        "TRUNCATE logs",
    ] {
        let error = sql.query(statement, 10).await.unwrap_err();
        assert!(
            matches!(error, Error::ReadOnly { .. } | Error::Syntax { .. }),
            "{statement}: {error:?}"
        );
    }
    for statement in [
        "SELECT * FROM 'file.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT repeat('x', 1000000000)",
        "SELECT 1; SELECT 2",
        "",
        "WITH x AS (INSERT INTO logs VALUES (1) RETURNING id) SELECT * FROM x",
    ] {
        let error = sql.query(statement, 10).await.unwrap_err();
        assert_eq!(
            error.remedy(),
            tawny_model::Remedy::Reject,
            "{statement}: {error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_with_their_place() {
    let (_dir, store) = store_of(Engine::Sqlite, Vec::new()).await;
    let sql = Sql::new(store, clock(), LIMITS);
    for (statement, message) in [
        (
            "SELECT *\nFROM logs WHERE )",
            "SQL does not parse: Expected: an expression, found: ) at line 2, column 17",
        ),
        (
            "SELECT 'x",
            "SQL does not parse: Unterminated string literal at line 1, column 8",
        ),
        ("SELECT matches('(a') FROM logs", "matches('(a'): "),
        (
            "SELECT matches(pod) FROM logs",
            "matches takes a query as text",
        ),
        (
            "SELECT x FROM (SELECT pod FROM logs) AS t",
            "there is no column `x`",
        ),
        (
            "SELECT * FROM nowhere",
            "table 'datafusion.public.nowhere' not found",
        ),
        (
            "SELECT nofunction(pod) FROM logs",
            "Invalid function 'nofunction'",
        ),
        ("SELECT CAST('x' AS INT)", "Cast error"),
    ] {
        let error = match ask(&sql, statement, 10).await {
            Ok(rows) => panic!("{statement}: {rows:?}"),
            Err(error) => error,
        };
        assert!(error.starts_with(message), "{statement}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_beyond_the_limit_are_cut_and_that_is_said() {
    let both = both().await;
    for (_, _, sql) in &both {
        for (max_rows, is_truncated) in [(199, true), (200, false), (201, false)] {
            let mut answer = sql.query("SELECT id FROM logs", max_rows).await.unwrap();
            let mut n_rows = 0;
            while let Some(batch) = answer.next().await {
                n_rows += batch.unwrap().num_rows();
            }
            assert_eq!(
                (n_rows, answer.is_truncated()),
                (max_rows.min(200), is_truncated)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_time_are_limited() {
    let (_dir, store) = store_of(Engine::Sqlite, Vec::new()).await;
    let big = "SELECT a.value, count(*) FROM generate_series(1, 3000000) AS a GROUP BY 1";
    let small = SqlLimits {
        memory: ByteSize::mib(1),
        ..LIMITS
    };
    let error = ask(&Sql::new(Arc::clone(&store), clock(), small), big, 10)
        .await
        .unwrap_err();
    assert!(
        error.contains("more memory than SQL may take (1MiB"),
        "{error}"
    );
    let hasty = SqlLimits {
        time: Duration::from_millis(20),
        ..LIMITS
    };
    let endless =
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let error = ask(&Sql::new(store, clock(), hasty), endless, 10)
        .await
        .unwrap_err();
    assert!(error.contains("took longer than 20ms"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statement_whose_reader_has_gone_stops() {
    let (_dir, store) = store_of(Engine::Sqlite, Vec::new()).await;
    let sql = Sql::new(store, clock(), LIMITS);
    let endless = "SELECT * FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let mut answer = sql.query(endless, 1 << 40).await.unwrap();
    assert!(answer.next().await.unwrap().is_ok());
    drop(answer);
    let started = sql.started.get().unwrap();
    let metrics = started.runtime.as_ref().unwrap().metrics();
    let stopped = async {
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), stopped).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn now_is_the_time_of_the_clock() {
    for (_, _, sql) in &both().await {
        let rows = ask(sql, "SELECT now() AS now, count(*) AS n FROM logs WHERE timestamp > now() - interval '1 hour'", 1).await;
        assert_eq!(
            rows.unwrap(),
            ["{\"now\":\"2023-11-14T22:13:30Z\",\"n\":200}"]
        );
    }
}

/// The newest rows of many, which are read without the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newest_and_oldest_are_those_of_a_whole_sort() {
    for (engine, _, sql) in &both().await {
        let all = "SELECT timestamp, message FROM logs ORDER BY timestamp DESC, message";
        let all = ask(sql, all, 1_000).await.unwrap();
        let newest = "SELECT timestamp, message FROM logs ORDER BY timestamp DESC, message LIMIT 7";
        assert_eq!(
            ask(sql, newest, 1_000).await.unwrap(),
            all[..7],
            "{engine:?}"
        );
        let oldest = "SELECT timestamp, message FROM logs ORDER BY timestamp, message DESC LIMIT 7";
        let mut expected = all[all.len() - 7..].to_vec();
        expected.reverse();
        assert_eq!(
            ask(sql, oldest, 1_000).await.unwrap(),
            expected,
            "{engine:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_need_no_column() {
    for (_, _, sql) in &both().await {
        let mut answer = sql.query("SELECT count(*) FROM logs", 1).await.unwrap();
        let batch = answer.next().await.unwrap().unwrap();
        let counts = batch
            .column(0)
            .as_primitive::<arrow_array::types::Int64Type>();
        assert_eq!(counts.value(0), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_greatest_of_several_columns_are_each_the_greatest() {
    for (engine, _dir, sql) in both().await {
        for (together, alone) in [
            (
                "SELECT max(timestamp) AS t, max(length(message)) AS n FROM logs",
                ["max(timestamp) AS t", "max(length(message)) AS n"],
            ),
            (
                "SELECT max(timestamp) AS t, max(status) AS s FROM logs",
                ["max(timestamp) AS t", "max(status) AS s"],
            ),
        ] {
            let mut parts = Vec::new();
            for part in alone {
                let rows = ask(&sql, &format!("SELECT {part} FROM logs WHERE true"), 10).await;
                parts.push(rows.unwrap().concat().trim_matches(['{', '}']).to_owned());
            }
            let rows = ask(&sql, together, 10).await.unwrap();
            assert_eq!(rows, [format!("{{{}}}", parts.join(","))], "{engine:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_as_deep_as_it_is_long_is_answered_or_refused() {
    let (_, _dir, sql) = both().await.remove(0);
    let deep = format!("SELECT 1{} AS n", "+1".repeat(3_000));
    let answer = ask(&sql, &deep, 10).await;
    assert!(
        answer.is_err() || answer == Ok(vec![r#"{"n":3001}"#.to_owned()]),
        "{answer:?}"
    );
    let wide = vec!["a<'x'"; 1_000].join(" OR ");
    let answer = ask(
        &sql,
        &format!("SELECT count(*) AS n FROM logs WHERE {wide}"),
        10,
    )
    .await;
    assert!(
        answer.is_err() || answer == Ok(vec![r#"{"n":0}"#.to_owned()]),
        "{answer:?}"
    );
}
