//! Messages in the formats programs log in.

use std::fmt::Write as _;

use tawny_model::{Output, Severity, Timestamp};

use super::Rng;

/// How a made-up program writes its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Logfmt,
    Klog,
    Access,
    Java,
    Plain,
}

const ACTIONS: [&str; 16] = [
    "user login successful",
    "database query executed",
    "cache miss",
    "request timeout",
    "connection established",
    "file not found",
    "rate limit exceeded",
    "service restarted",
    "order placed",
    "payment authorised",
    "session expired",
    "index rebuilt",
    "message published to queue",
    "upstream connect error or disconnect/reset before headers",
    "retrying after transient failure",
    "configuration reloaded",
];

const FAILURES: [&str; 8] = [
    "connection refused",
    "context deadline exceeded",
    "deadlock detected, transaction rolled back",
    "no space left on device",
    "x509: certificate has expired or is not yet valid",
    "TLS handshake timeout",
    "too many open files",
    "permission denied",
];

const PATHS: [&str; 10] = [
    "/healthz",
    "/api/v1/orders",
    "/api/v1/users",
    "/login",
    "/static/app.js",
    "/api/v1/cart",
    "/metrics",
    "/search",
    "/api/v2/catalog/items",
    "/checkout",
];

const METHODS: [&str; 5] = ["GET", "GET", "GET", "POST", "PUT"];

/// Chooses how bad the next line is: per thousand, `error_per_mille` errors and as many warnings as half of 100.
fn severity(error_per_mille: u64, rng: &mut Rng) -> Severity {
    let roll = rng.below(1_000);
    if roll < error_per_mille {
        Severity::Error
    } else if roll < error_per_mille + 50 {
        Severity::Warn
    } else if roll < error_per_mille + 250 {
        Severity::Debug
    } else {
        Severity::Info
    }
}

/// Appends one message as a program of this format would write it at `now`; answers where it goes.
///
/// A message may hold line ends (stack traces): each of its lines is a line of the log.
pub(crate) fn write_message(
    format: Format,
    now: Timestamp,
    error_per_mille: u64,
    rng: &mut Rng,
    out: &mut String,
) -> Output {
    let severity = severity(error_per_mille, rng);
    let is_bad = severity >= Severity::Error;
    let action = if is_bad {
        *rng.pick(&FAILURES)
    } else {
        *rng.pick(&ACTIONS)
    };
    let written = match format {
        Format::Json => json(severity, action, now, rng, out),
        Format::Logfmt => logfmt(severity, action, now, rng, out),
        Format::Klog => klog(severity, action, now, rng, out),
        Format::Access => access(severity, now, rng, out),
        Format::Java => java(severity, action, now, rng, out),
        Format::Plain => plain(severity, action, rng, out),
    };
    written.expect("a String takes any text");
    let writes_errors_apart = matches!(format, Format::Klog | Format::Java | Format::Plain);
    if is_bad && writes_errors_apart || format == Format::Klog {
        Output::Stderr
    } else {
        Output::Stdout
    }
}

fn json(
    severity: Severity,
    action: &str,
    now: Timestamp,
    rng: &mut Rng,
    out: &mut String,
) -> std::fmt::Result {
    write!(
        out,
        r#"{{"ts":"{now}","level":"{severity}","msg":"{action}","trace_id":"{:016x}{:016x}","user_id":{},"duration_ms":{},"status":{}}}"#,
        rng.next_u64(),
        rng.next_u64(),
        rng.below(50_000),
        rng.below(900),
        if severity >= Severity::Error {
            500
        } else {
            200
        },
    )
}

fn logfmt(
    severity: Severity,
    action: &str,
    now: Timestamp,
    rng: &mut Rng,
    out: &mut String,
) -> std::fmt::Result {
    write!(
        out,
        r#"time={now} level={severity} msg="{action}" component=pool-{} request_id={:08x} attempt={} elapsed={}ms"#,
        rng.below(16),
        rng.below(1 << 32),
        rng.below(4) + 1,
        rng.below(2_000),
    )
}

fn klog(
    severity: Severity,
    action: &str,
    now: Timestamp,
    rng: &mut Rng,
    out: &mut String,
) -> std::fmt::Result {
    let letter = match severity {
        Severity::Error | Severity::Fatal => 'E',
        Severity::Warn => 'W',
        _ => 'I',
    };
    let text = now.to_string();
    let (month, day, time) = (
        text.get(5..7).unwrap_or("01"),
        text.get(8..10).unwrap_or("01"),
        text.get(11..26).unwrap_or(""),
    );
    write!(
        out,
        r#"{letter}{month}{day} {time}       1 reconciler.go:{}] "{action}" object="item-{}" generation={}"#,
        100 + rng.below(400),
        rng.below(5_000),
        rng.below(90),
    )
}

fn access(severity: Severity, now: Timestamp, rng: &mut Rng, out: &mut String) -> std::fmt::Result {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = now.to_string();
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or("00").to_owned();
    let month = part(5..7)
        .parse::<usize>()
        .ok()
        .and_then(|month| MONTHS.get(month.wrapping_sub(1)))
        .unwrap_or(&"Jan");
    let status = match severity {
        Severity::Error | Severity::Fatal => *rng.pick(&[500, 502, 503, 504]),
        Severity::Warn => *rng.pick(&[400, 401, 404, 429]),
        _ => *rng.pick(&[200, 200, 200, 201, 204, 304]),
    };
    write!(
        out,
        r#"10.{}.{}.{} - - [{}/{month}/{}:{} +0000] "{} {} HTTP/1.1" {status} {} "-" "Mozilla/5.0 (X11; Linux x86_64)""#,
        rng.below(250),
        rng.below(250),
        rng.below(250),
        part(8..10),
        part(0..4),
        part(11..19),
        rng.pick(&METHODS),
        rng.pick(&PATHS),
        rng.below(40_000),
    )
}

fn java(
    severity: Severity,
    action: &str,
    now: Timestamp,
    rng: &mut Rng,
    out: &mut String,
) -> std::fmt::Result {
    let text = now.to_string();
    let (date, time) = (text.get(..10).unwrap_or(""), text.get(11..23).unwrap_or(""));
    let level = severity.name().to_ascii_uppercase();
    write!(
        out,
        "{date} {time} {level:<5} [worker-{}] c.e.recommender.Scorer - {action}",
        rng.below(12)
    )?;
    if severity >= Severity::Error {
        write!(
            out,
            "\njava.lang.IllegalStateException: {action}\n\tat com.example.recommender.Scorer.score(Scorer.java:{})\n\tat com.example.recommender.Worker.run(Worker.java:{})\n\tat java.base/java.lang.Thread.run(Thread.java:1583)",
            10 + rng.below(400),
            10 + rng.below(200),
        )?;
    }
    Ok(())
}

fn plain(severity: Severity, action: &str, rng: &mut Rng, out: &mut String) -> std::fmt::Result {
    match severity {
        Severity::Error | Severity::Fatal => {
            write!(out, "[ERROR] {action} (shard {})", rng.below(32))
        }
        Severity::Warn => write!(out, "WARNING: {action}, {} items delayed", rng.below(900)),
        _ => write!(
            out,
            "epoch {} step {}: {action}, loss 0.{:04}",
            rng.below(40),
            rng.below(90_000),
            rng.below(10_000)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_nanos(1_763_700_000_123_456_789);

    fn lines(format: Format, error_per_mille: u64, n: usize) -> Vec<(Output, String)> {
        let mut rng = Rng::new(42);
        (0..n)
            .map(|_| {
                let mut text = String::new();
                let output = write_message(format, NOW, error_per_mille, &mut rng, &mut text);
                (output, text)
            })
            .collect()
    }

    #[test]
    fn the_parser_finds_the_share_of_errors_asked_for_in_every_format() {
        for format in [
            Format::Json,
            Format::Logfmt,
            Format::Klog,
            Format::Access,
            Format::Java,
            Format::Plain,
        ] {
            let mut scratch = tawny_wire::message::Scratch::default();
            let n_errors = lines(format, 200, 2_000)
                .iter()
                .filter(|(_, text)| {
                    let first = text.lines().next().unwrap_or_default();
                    tawny_wire::message::parse_message(first, &mut scratch).severity
                        >= Severity::Error
                })
                .count();
            assert!(
                (300..500).contains(&n_errors),
                "{format:?}: {n_errors} of 2000, 400 expected"
            );
        }
    }

    #[test]
    fn errors_of_programs_that_log_to_stderr_go_there() {
        assert!(
            lines(Format::Plain, 1_000, 10)
                .iter()
                .all(|(output, _)| *output == Output::Stderr)
        );
        assert!(
            lines(Format::Json, 1_000, 10)
                .iter()
                .all(|(output, _)| *output == Output::Stdout)
        );
    }
}
