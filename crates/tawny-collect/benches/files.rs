//! What collecting costs: lines per CPU-second from files to a null sink, and memory and CPU of idle files.
//!
//! `cargo bench -p tawny-collect --bench files -- lines` or `-- idle 1000`; a process per figure, so that memory is its own.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tawny_collect::{
    DeliverSettings, Deliverer, FileSource, FilesSettings, Intake, IntakeParts, Metrics,
    NoMetadata, NullSink, Selection, Source,
};
use tawny_model::{Timestamp, WriterId};
use tawny_runtime::{CancellationToken, SystemClock};
use tokio::time::Instant;

/// Enough to run for seconds.
const N_LINES: u64 = 5_000_000;
const N_FILES: u64 = 100;

/// 2026-11-02T10:00:00Z
const START_NANOS: i64 = 1_793_613_600_000_000_000;

/// Kernel ticks a second in `/proc/self/stat`; 100 on every Linux architecture Rust supports (proc(5), USER_HZ).
const TICKS_PER_SEC: f64 = 100.0;

fn main() {
    let args: Vec<_> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["idle", n_files] => idle(n_files.parse().unwrap_or(1000)),
        ["lines", format] => lines(format),
        _ => lines("mixed"),
    }
}

/// One line of a program's output, about 200 bytes.
fn message(n: u64, format: &str) -> String {
    let kind = if format == "json" { 0 } else { n % 10 };
    match kind {
        0..=3 => format!(
            r#"{{"level":"{}","ts":1793610000.{:06},"caller":"server/http.go:{}","msg":"request served","method":"GET","path":"/api/v1/carts/{n}","status":{},"duration_ms":{}.{},"trace_id":"{n:032x}"}}"#,
            if n.is_multiple_of(31) {
                "error"
            } else {
                "info"
            },
            n % 1_000_000,
            n % 900,
            if n.is_multiple_of(31) { 503 } else { 200 },
            n % 300,
            n % 10,
        ),
        4 | 5 => format!(
            r#"ts=2026-11-02T10:00:00.{:06}Z caller=compactor.go:{} level=info msg="compaction of block done" org_id=fake block=01J{n:010} duration={}ms shard={} bytes={n} host=ingester-{}"#,
            n % 1_000_000,
            n % 900,
            n % 3_000,
            n % 64,
            n % 3,
        ),
        6 => format!(
            r#"I1102 10:00:00.{:06}       1 kubelet_volumes.go:{}] "Cleaned up orphaned pod volumes dir" podUID="{n:08x}-8d6f-4a0e-9d4c-3c1c1a7a1d11" path="/var/lib/kubelet/pods/{n:08x}/volumes""#,
            n % 1_000_000,
            n % 900,
        ),
        7 => format!(
            r#"10.0.{}.{} - - [02/Nov/2026:10:00:00 +0000] "GET /assets/app-{n:08x}.js HTTP/1.1" 200 {} "https://shop.example.com/cart" "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0""#,
            n % 200,
            n % 250,
            n % 90_000,
        ),
        _ => format!(
            "2026-11-02 10:00:00,{:03} WARN  [http-nio-8080-exec-{}] com.example.orders.OrderService - order {n} was not confirmed by the warehouse within 30 s, will try again with the next batch",
            n % 1_000,
            n % 32,
        ),
    }
}

/// Log files of `n_files` pods with `n_lines` in all.
#[expect(
    clippy::expect_used,
    reason = "a benchmark without its files has nothing to do"
)]
fn write_logs(root: &Path, n_files: u64, n_lines: u64, format: &str) -> u64 {
    let mut n_bytes = 0;
    for file in 0..n_files {
        let directory = root.join(format!(
            "ns-{}_pod-{file}_{file:08x}-8d6f-4a0e-9d4c-3c1c1a7a1d11/app",
            file % 20
        ));
        fs::create_dir_all(&directory).expect("a directory can be made");
        let mut log =
            BufWriter::new(File::create(directory.join("0.log")).expect("a file can be made"));
        for n in 0..n_lines / n_files {
            let number = n * n_files + file;
            let nanos = START_NANOS + i64::try_from(number).unwrap_or(i64::MAX) * 20_000;
            let line = format!(
                "{} stdout F {}\n",
                Timestamp::from_nanos(nanos),
                message(number, format)
            );
            n_bytes += line.len() as u64;
            log.write_all(line.as_bytes())
                .expect("the file can be written");
        }
        log.flush().expect("the file can be written");
    }
    n_bytes
}

struct Collecting {
    sink: Arc<NullSink>,
    source: Box<dyn Source>,
    intake: Intake,
    deliverer: Deliverer,
    stop: CancellationToken,
}

fn collecting(root: &Path) -> Collecting {
    let sink = Arc::new(NullSink::default());
    let intake = Intake::new(IntakeParts {
        writer: WriterId(1),
        cluster: "".into(),
        sink: Arc::<NullSink>::clone(&sink),
        clock: Arc::new(SystemClock),
        metrics: Arc::new(Metrics::default()),
        selection: Arc::new(Selection::default()),
        metadata: Arc::new(NoMetadata::default()),
        bytes_in_flight: 8 << 20,
    });
    let settings = FilesSettings {
        root: root.to_owned(),
        ..FilesSettings::default()
    };
    Collecting {
        sink,
        source: Box::new(FileSource::new(settings)),
        deliverer: Deliverer::new(&intake, DeliverSettings::default()),
        intake,
        stop: CancellationToken::new(),
    }
}

/// Runs until `work` is done.
#[expect(clippy::expect_used, reason = "a figure of a run that failed is none")]
fn run<F: Future<Output = ()>>(root: &Path, work: impl FnOnce(Arc<NullSink>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let Collecting {
        sink,
        source,
        intake,
        deliverer,
        stop,
    } = collecting(root);
    let result = runtime.block_on(async {
        let work = async {
            work(sink).await;
            stop.cancel();
        };
        futures::join!(
            source.run(intake, stop.clone()),
            deliverer.run(stop.clone()),
            work
        )
    });
    result.0.and(result.1).expect("nothing can fail here");
}

fn lines(format: &str) {
    let root = temporary();
    let n_bytes = write_logs(root.path(), N_FILES, N_LINES, format);
    let (cpu_before, started) = (cpu_secs(), Instant::now());
    run(root.path(), |sink| async move {
        let mut n_lines = sink.n_lines();
        let _live = n_lines.wait_for(|n| *n >= N_LINES).await;
    });
    let (cpu, wall) = (cpu_secs() - cpu_before, started.elapsed().as_secs_f64());
    report(&format!(
        "{format}: {N_LINES} lines, {} bytes each, of {N_FILES} files: {:.0} lines/CPU-s, {:.2} CPU-s, {wall:.2} s, peak {} of memory",
        n_bytes / N_LINES,
        as_f64(N_LINES) / cpu,
        cpu,
        status("VmHWM"),
    ));
}

fn idle(n_files: u64) {
    const WATCHED: Duration = Duration::from_secs(20);
    let root = temporary();
    let before = status("RssAnon");
    write_logs(root.path(), n_files, n_files * 10, "mixed");
    run(root.path(), |sink| async move {
        let mut n_lines = sink.n_lines();
        let _live = n_lines.wait_for(|n| *n >= n_files * 10).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let cpu_before = cpu_secs();
        tokio::time::sleep(WATCHED).await;
        report(&format!(
            "{n_files} idle files: {:.2} % of a core; anonymous memory {} (before {before}), resident {}",
            (cpu_secs() - cpu_before) / WATCHED.as_secs_f64() * 100.0,
            status("RssAnon"),
            status("VmRSS"),
        ));
    });
}

#[expect(
    clippy::expect_used,
    reason = "a benchmark without its files has nothing to do"
)]
fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory can be made")
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn as_f64(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::print_stdout, reason = "the figure is the output")]
fn report(text: &str) {
    println!("{text}");
}

/// CPU time of all threads so far, user and system.
fn cpu_secs() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields behind the command in parentheses; utime and stime are numbers 14 and 15 of proc(5).
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<u64>().ok())
            .unwrap_or_default()
    };
    as_f64(ticks(11) + ticks(12)) / TICKS_PER_SEC
}

/// A line of `/proc/self/status`.
fn status(key: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.unwrap_or("unknown").trim().to_owned()
}
