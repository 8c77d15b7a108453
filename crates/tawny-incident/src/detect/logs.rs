//! What the last lines of a container say about its death (section 4.2 row 23): it explains, and opens nothing.

use serde::{Deserialize, Serialize};

/// Something a log line says that helps to understand a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSignature {
    Panic,
    StackTrace,
    Fatal,
    OutOfMemory,
    NoSpace,
    DatabaseRefused,
    ConnectionRefused,
    NameNotResolved,
    Certificate,
    Forbidden,
    AddressInUse,
    ReadOnly,
    Timeout,
}

/// What a line holds when it has the signature; lower case.
const SIGNATURES: &[(LogSignature, &[&str])] = &[
    (
        LogSignature::Panic,
        &["panic:", "panicked at", "fatal error: ", "kernel panic"],
    ),
    (
        LogSignature::StackTrace,
        &[
            "traceback (most recent call last)",
            "goroutine 1 [",
            "exception in thread",
            "stack backtrace:",
            "\tat ",
            "    at ",
            "caused by: ",
        ],
    ),
    (
        LogSignature::Fatal,
        &[
            "fatal:",
            " fatal ",
            "[fatal]",
            "level=fatal",
            "\"level\":\"fatal\"",
            "unhandled exception",
            "segmentation fault",
            "assertion failed",
        ],
    ),
    (
        LogSignature::OutOfMemory,
        &[
            "out of memory",
            "outofmemoryerror",
            "heap out of memory",
            "cannot allocate memory",
            "memoryerror",
            "std::bad_alloc",
        ],
    ),
    (
        LogSignature::NoSpace,
        &["no space left on device", "enospc", "disk quota exceeded"],
    ),
    (
        LogSignature::NameNotResolved,
        &[
            "no such host",
            "name or service not known",
            "enotfound",
            "temporary failure in name resolution",
        ],
    ),
    (
        LogSignature::Certificate,
        &[
            "x509:",
            "certificate verify failed",
            "certificate has expired",
            "unable to get local issuer certificate",
        ],
    ),
    (
        LogSignature::Forbidden,
        &[
            "is forbidden: user",
            "permission denied",
            "eacces",
            "access denied",
            "403 forbidden",
            "unauthorized",
        ],
    ),
    (
        LogSignature::AddressInUse,
        &["address already in use", "eaddrinuse"],
    ),
    (LogSignature::ReadOnly, &["read-only file system", "erofs"]),
    (
        LogSignature::Timeout,
        &["deadline exceeded", "i/o timeout", "timed out", "etimedout"],
    ),
];

/// Ports whose refusal names the service behind them.
const DATABASE_PORTS: &[&str] = &[
    ":5432", ":3306", ":6379", ":27017", ":9092", ":1433", ":9042", ":5672",
];

/// The signatures of some lines, each once, those that explain most first.
pub fn log_signatures<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<LogSignature> {
    let mut found = Vec::new();
    for line in lines {
        let lower = line.to_ascii_lowercase();
        let has = |needle: &&str| lower.contains(*needle);
        if ["connection refused", "econnrefused"].iter().any(has) {
            found.push(if DATABASE_PORTS.iter().any(has) {
                LogSignature::DatabaseRefused
            } else {
                LogSignature::ConnectionRefused
            });
        }
        for (signature, needles) in SIGNATURES {
            if needles.iter().any(has) {
                found.push(*signature);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Errors come much faster than they use to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorStep {
    pub usual_per_minute: u64,
    pub now_per_minute: u64,
}

/// Fewer errors than this in a minute are no step, however quiet it was before.
const MIN_STEP: u64 = 10;
/// A step is this many times the busiest of the usual minutes.
const STEP_FACTOR: u64 = 3;

/// Compares the errors of a minute with those of each minute before; `None` without a past to compare with.
pub fn error_step(before: &[u64], now_per_minute: u64) -> Option<ErrorStep> {
    let busiest = *before.iter().max()?;
    let total: u64 = before
        .iter()
        .fold(0, |sum, count| sum.saturating_add(*count));
    let minutes = u64::try_from(before.len()).ok()?;
    let is_step =
        now_per_minute >= MIN_STEP && now_per_minute >= busiest.saturating_mul(STEP_FACTOR);
    is_step.then_some(ErrorStep {
        usual_per_minute: total / minutes,
        now_per_minute,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_tell_why() {
        // Section 4.2 row 23 and section 4.5, row "Hints".
        use LogSignature::*;
        for (line, expected) in [
            (
                "panic: runtime error: index out of range [3] with length 3",
                vec![Panic],
            ),
            ("thread 'main' panicked at src/main.rs:4:5:", vec![Panic]),
            ("Traceback (most recent call last):", vec![StackTrace]),
            (
                "dial tcp 10.96.3.7:5432: connect: connection refused",
                vec![DatabaseRefused],
            ),
            (
                "connect ECONNREFUSED 127.0.0.1:8081",
                vec![ConnectionRefused],
            ),
            (
                "java.lang.OutOfMemoryError: Java heap space",
                vec![OutOfMemory],
            ),
            ("write /data/wal: no space left on device", vec![NoSpace]),
            (
                "x509: certificate signed by unknown authority",
                vec![Certificate],
            ),
            (
                "pods is forbidden: User \"system:serviceaccount:a:b\" cannot list",
                vec![Forbidden],
            ),
            (
                "listen tcp :8080: bind: address already in use",
                vec![AddressInUse],
            ),
            ("getaddrinfo ENOTFOUND db", vec![NameNotResolved]),
            ("context deadline exceeded", vec![Timeout]),
            ("GET /healthz 200", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(log_signatures([line]), expected, "{line}");
        }
        assert_eq!(
            log_signatures(["panic: a", "panic: b", "timed out"]),
            [Panic, Timeout]
        );
    }

    #[test]
    fn a_step_in_errors_is_told_from_noise() {
        assert_eq!(error_step(&[], 1000), None);
        assert_eq!(error_step(&[0, 0, 0], 9), None);
        assert_eq!(error_step(&[4, 30, 5], 60), None);
        assert_eq!(
            error_step(&[4, 5, 6], 40),
            Some(ErrorStep {
                usual_per_minute: 5,
                now_per_minute: 40
            })
        );
        assert_eq!(
            error_step(&[u64::MAX, u64::MAX], u64::MAX),
            Some(ErrorStep {
                usual_per_minute: u64::MAX / 2,
                now_per_minute: u64::MAX,
            })
        );
    }
}
