//! What the server counts, and the two text forms in which it is scraped.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use tawny_runtime::Registry;
use tonic::Code;

/// From an index lookup to a scan that runs into the timeout.
const QUERY_SECONDS: [f64; 10] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];

/// `n` label names and values.
type Labels<const N: usize> = [(&'static str, &'static str); N];

type QuerySeconds = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// Counters of both faces; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    ingest_requests: Family<Labels<2>, Counter>,
    ingest_lines: Family<Labels<1>, Counter>,
    query_seconds: QuerySeconds,
    http_requests: Family<Labels<2>, Counter>,
    grpc_requests: Family<Labels<2>, Counter>,
    pub(crate) tails: Gauge,
    pub(crate) tail_skipped: Counter,
    kubelogs_writes: Counter,
    kubelogs_write_entries: Counter,
    kubelogs_queries: Counter,
    kubelogs_query_seconds: Histogram,
}

/// How entries came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tawny,
    Kubelogs,
}

/// What became of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineResult {
    New,
    Duplicate,
    /// Came behind a gap, or from a writer that was replaced: the sender sends again.
    Refused,
}

/// What was asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Search,
    Histogram,
    Facets,
    Count,
    Get,
    Stats,
    Sql,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            ingest_requests: Family::default(),
            ingest_lines: Family::default(),
            query_seconds: Family::new_with_constructor(query_histogram),
            http_requests: Family::default(),
            grpc_requests: Family::default(),
            tails: Gauge::default(),
            tail_skipped: Counter::default(),
            kubelogs_writes: Counter::default(),
            kubelogs_write_entries: Counter::default(),
            kubelogs_queries: Counter::default(),
            kubelogs_query_seconds: query_histogram(),
        };
        registry.register(
            "tawny_ingest_requests",
            "Requests that bring entries, by gRPC code",
            metrics.ingest_requests.clone(),
        );
        registry.register(
            "tawny_ingest_lines",
            "Entries received, by what became of them",
            metrics.ingest_lines.clone(),
        );
        registry.register(
            "tawny_query_duration_seconds",
            "Time the store took to answer",
            metrics.query_seconds.clone(),
        );
        registry.register(
            "tawny_http_requests",
            "HTTP requests answered, by route and status",
            metrics.http_requests.clone(),
        );
        registry.register(
            "tawny_grpc_requests",
            "Unary gRPC calls answered, by method and code; pushes are counted by tawny_ingest_requests",
            metrics.grpc_requests.clone(),
        );
        registry.register(
            "tawny_tail_clients",
            "Live tails open now",
            metrics.tails.clone(),
        );
        registry.register(
            "tawny_tail_skipped_lines",
            "Entries left out of a tail because its client read too slowly",
            metrics.tail_skipped.clone(),
        );
        // The names kubelogs documents (KL-99), so that its dashboards go on working.
        registry.register(
            "kubelogs_write",
            "Write requests of kubelogs.storage.v1",
            metrics.kubelogs_writes.clone(),
        );
        registry.register(
            "kubelogs_write_entries",
            "Entries taken by Write",
            metrics.kubelogs_write_entries.clone(),
        );
        registry.register(
            "kubelogs_query",
            "Queries over kubelogs' gRPC and HTTP interfaces",
            metrics.kubelogs_queries.clone(),
        );
        registry.register(
            "kubelogs_query_duration_seconds",
            "Time such a query took",
            metrics.kubelogs_query_seconds.clone(),
        );
        metrics
    }

    pub(crate) fn ingest_request(&self, protocol: Protocol, code: Code) {
        let protocol = match protocol {
            Protocol::Tawny => "tawny",
            Protocol::Kubelogs => "kubelogs",
        };
        self.ingest_requests
            .get_or_create(&[("protocol", protocol), ("code", code_name(code))])
            .inc();
    }

    pub(crate) fn ingest_lines(&self, result: LineResult, n: u64) {
        if n == 0 {
            return;
        }
        let result = match result {
            LineResult::New => "new",
            LineResult::Duplicate => "duplicate",
            LineResult::Refused => "refused",
        };
        self.ingest_lines
            .get_or_create(&[("result", result)])
            .inc_by(n);
    }

    pub(crate) fn query(&self, asked: Asked, took: Duration) {
        let kind = match asked {
            Asked::Search => "search",
            Asked::Histogram => "histogram",
            Asked::Facets => "facets",
            Asked::Count => "count",
            Asked::Get => "get",
            Asked::Stats => "stats",
            Asked::Sql => "sql",
        };
        self.query_seconds
            .get_or_create(&[("kind", kind)])
            .observe(took.as_secs_f64());
    }

    /// `route` is a pattern of the router, never a path of a client.
    pub(crate) fn http_request(&self, route: &'static str, status: StatusCode) {
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.http_requests
            .get_or_create(&[("route", route), ("code", class)])
            .inc();
    }

    pub(crate) fn grpc_request(&self, method: &'static str, code: Code) {
        self.grpc_requests
            .get_or_create(&[("method", method), ("code", code_name(code))])
            .inc();
    }

    pub(crate) fn kubelogs_write(&self, n_entries: u64) {
        self.kubelogs_writes.inc();
        self.kubelogs_write_entries.inc_by(n_entries);
    }

    pub(crate) fn kubelogs_query(&self, took: Duration) {
        self.kubelogs_queries.inc();
        self.kubelogs_query_seconds.observe(took.as_secs_f64());
    }
}

fn query_histogram() -> Histogram {
    Histogram::new(QUERY_SECONDS)
}

/// The code as gRPC's documents write it, in lower case.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::ResourceExhausted => "resource_exhausted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        _ => "other",
    }
}

/// The forms a scraper may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposition {
    OpenMetrics,
    /// Prometheus' own, version 0.0.4.
    Text,
}

impl Exposition {
    /// What an `Accept` header asks for; Prometheus names OpenMetrics first where it wants it.
    pub(crate) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    pub(crate) fn render(self, registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).expect("writing to a string does not fail");
        match self {
            Self::OpenMetrics => text,
            Self::Text => to_text_format(&text),
        }
    }
}

/// OpenMetrics as Prometheus' older text: families of counters and infos carry the suffix of their samples there, and
/// there are no units and no end marker.
fn to_text_format(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_expositions_name_a_counter_as_their_readers_expect() {
        let mut registry = Registry::default();
        tawny_runtime::metrics::register_process(&mut registry, "1.2.3");
        let metrics = Metrics::register(&mut registry);
        metrics.ingest_request(Protocol::Kubelogs, Code::Ok);
        metrics.ingest_lines(LineResult::New, 3);

        let open = Exposition::OpenMetrics.render(&registry);
        assert!(
            open.contains("# TYPE tawny_ingest_lines counter\n"),
            "{open}"
        );
        assert!(open.ends_with("# EOF\n"));

        let text = Exposition::Text.render(&registry);
        for line in [
            "# HELP tawny_ingest_lines_total Entries received, by what became of them.\n",
            "# TYPE tawny_ingest_lines_total counter\n",
            "tawny_ingest_lines_total{result=\"new\"} 3\n",
            "tawny_ingest_requests_total{protocol=\"kubelogs\",code=\"ok\"} 1\n",
            "# TYPE tawny_build_info gauge\n",
            "tawny_build_info{version=\"1.2.3\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    }

    #[test]
    fn scraper_gets_what_it_accepts() {
        assert_eq!(
            Exposition::accepted(
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2"
            ),
            Exposition::OpenMetrics
        );
        assert_eq!(Exposition::accepted("text/plain"), Exposition::Text);
        assert_eq!(Exposition::accepted("*/*"), Exposition::Text);
    }
}
