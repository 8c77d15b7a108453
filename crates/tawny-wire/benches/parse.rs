//! What a line costs from its bytes in a file to a row of a batch, per format.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tawny_model::{Entries, Position};
use tawny_wire::{PartialJoiner, Scratch, line, parse_message, to_text};

/// Small enough to stay in the cache, as a read buffer does.
const N_LINES: u64 = 1_000;

const MAX_LINE_BYTES: usize = 256 << 10;

/// Makes the lines of one format; numbers vary so that no branch is learnt by heart.
fn lines(line: impl Fn(u64) -> String) -> Vec<Vec<u8>> {
    (0..N_LINES)
        .map(|n| line(n * 7_919 % 1_000_003).into_bytes())
        .collect()
}

fn cri(n: u64, content: &str) -> String {
    format!("2026-11-02T10:00:00.{:09}Z stdout F {content}", n * 900)
}

fn json(n: u64) -> String {
    let (level, status) = [("info", 200), ("warn", 404), ("error", 503)]
        [usize::from(n.is_multiple_of(7)) + usize::from(n.is_multiple_of(31))];
    format!(
        r#"{{"level":"{level}","ts":1793610000.{n:06},"caller":"server/http.go:{}","msg":"request served","method":"GET","path":"/api/v1/carts/{n}","status":{status},"duration_ms":{}.{},"trace_id":"{n:032x}"}}"#,
        n % 900,
        n % 300,
        n % 10,
    )
}

fn nested_json(n: u64) -> String {
    format!(
        r#"{{"level":30,"time":17936100{n:06},"pid":1,"hostname":"web-7d4b9c6f5","req":{{"id":{n},"method":"POST","url":"/login?from=\"a\""}},"res":{{"statusCode":302}},"responseTime":{},"msg":"user \"u{n}\" logged in"}}"#,
        n % 300,
    )
}

fn logfmt(n: u64) -> String {
    format!(
        r#"ts=2026-11-02T10:00:00.{n:06}Z caller=compactor.go:{} level=info msg="compaction of block done" org_id=fake block=01J{n:010} duration={}ms shard={} bytes={n} host=ingester-{}"#,
        n % 900,
        n % 3_000,
        n % 64,
        n % 3,
    )
}

fn klog(n: u64) -> String {
    format!(
        r#"I1102 10:00:00.{n:06}       1 kubelet_volumes.go:{}] "Cleaned up orphaned pod volumes dir" podUID="{n:08x}-8d6f-4a0e-9d4c-3c1c1a7a1d11" path="/var/lib/kubelet/pods/{n:08x}/volumes""#,
        n % 900,
    )
}

fn access(n: u64) -> String {
    format!(
        r#"203.0.113.{} - - [02/Nov/2026:10:00:00 +0000] "GET /static/app.js?v={n} HTTP/1.1" 200 {n} "https://shop.example/" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130""#,
        n % 250,
    )
}

fn plain(n: u64) -> String {
    format!(
        "2026-11-02 10:00:00.{:03}  INFO 1 --- [nio-8080-exec-{}] c.e.shop.cart.CartController             : Cart {n} of customer {} saved with {} items, sending confirmation to the order service",
        n % 1_000,
        n % 10,
        n / 3,
        n % 9,
    )
}

fn docker(n: u64) -> String {
    let log = json(n).replace('"', r#"\""#);
    format!(
        r#"{{"log":"{log}\n","stream":"stdout","time":"2026-11-02T10:00:00.{:09}Z"}}"#,
        n * 900
    )
}

fn bench(criterion: &mut Criterion) {
    let formats = [
        ("cri_json", lines(|n| cri(n, &json(n)))),
        ("cri_nested_json", lines(|n| cri(n, &nested_json(n)))),
        ("cri_logfmt", lines(|n| cri(n, &logfmt(n)))),
        ("cri_klog", lines(|n| cri(n, &klog(n)))),
        ("cri_access", lines(|n| cri(n, &access(n)))),
        ("cri_plain", lines(|n| cri(n, &plain(n)))),
        ("docker_json", lines(docker)),
    ];
    let mut group = criterion.benchmark_group("parse");
    for (name, lines) in &formats {
        let bytes = lines.iter().map(|line| line.len() as u64 + 1).sum();
        group.throughput(Throughput::ElementsAndBytes {
            elements: N_LINES,
            bytes,
        });
        group.bench_function(*name, |bencher| {
            let mut reader = Reader::default();
            bencher.iter(|| reader.read(black_box(lines)));
        });
    }
    group.finish();
}

/// The parts of the collector's path that these formats cost.
struct Reader {
    joiner: PartialJoiner,
    unescaped: Vec<u8>,
    joined: Vec<u8>,
    text: String,
    scratch: Scratch,
    entries: Entries,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            joiner: PartialJoiner::new(MAX_LINE_BYTES),
            unescaped: Vec::new(),
            joined: Vec::new(),
            text: String::new(),
            scratch: Scratch::default(),
            entries: Entries::default(),
        }
    }
}

impl Reader {
    fn read(&mut self, lines: &[Vec<u8>]) -> usize {
        self.entries.clear();
        let mut end = Position::ZERO;
        for physical in lines {
            end = end.advance(physical.len() as u64 + 1);
            let raw =
                line::decode(physical, &mut self.unescaped).expect("the lines are well formed");
            let Some(line) = self.joiner.push(raw, &mut self.joined) else {
                continue;
            };
            let text = to_text(line.content, &mut self.text);
            let parsed = parse_message(text, &mut self.scratch);
            self.entries
                .push(
                    line.timestamp,
                    parsed.severity,
                    line.output,
                    parsed.message,
                    parsed.attributes(),
                    end,
                )
                .expect("the lines are far below 4 GiB");
        }
        self.entries.len()
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
