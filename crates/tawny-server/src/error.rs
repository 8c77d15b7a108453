//! What can go wrong while answering, and the one table that turns it into an HTTP status, a gRPC code and a remedy.

use std::{borrow::Cow, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use tawny_model::{EntryId, Remedy};
use tawny_query::ParseError;
use tawny_wire::{
    api::{ErrorBody, ErrorResponse},
    kubelogs, push,
};

/// A request that was not answered as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("query does not parse: {0}")]
    Query(#[from] ParseError),
    #[error("parameter `{name}`: {reason}")]
    Parameter {
        name: Cow<'static, str>,
        reason: String,
    },
    #[error("there is no parameter `{name}` here")]
    UnknownParameter {
        name: String,
        known: &'static [&'static str],
    },
    #[error("there is nothing at `{path}`")]
    UnknownPath { path: String },
    #[error("only GET is answered, and POST where docs/api.md says so")]
    Method,
    #[error("address of {len_bytes} bytes exceeds limit of {limit_bytes} bytes")]
    UriTooLong { len_bytes: usize, limit_bytes: u64 },
    #[error("the body of the request does not read: {reason}")]
    Body { reason: String },
    #[error(
        "this server watches no cluster, so it knows no incidents; start it with --watch on, or ask the one that does"
    )]
    NotWatched,
    #[error(transparent)]
    Watch(#[from] tawny_watch::Error),
    #[error("there is no entry {id}")]
    NoEntry { id: EntryId },
    #[error("batch {batch_idx}: {source}")]
    Batch {
        batch_idx: usize,
        #[source]
        source: push::Error,
    },
    #[error("stream {stream_idx}: {source}")]
    Stream {
        stream_idx: usize,
        #[source]
        source: push::Error,
    },
    #[error("entry {entry_idx}: {source}")]
    Entry {
        entry_idx: usize,
        #[source]
        source: kubelogs::Error,
    },
    #[error("no answer within {allowed:?}; ask for less time or a rarer word")]
    Timeout { allowed: Duration },
    #[error("{limit} {what} are running, which is the limit; try again later")]
    Busy { what: &'static str, limit: usize },
    #[error("the server is stopping")]
    Stopping,
    #[error("the handler panicked")]
    Panic,
    #[error(transparent)]
    Sql(tawny_sql::Error),
    #[error(transparent)]
    Store(#[from] tawny_store::Error),
}

impl From<tawny_sql::Error> for Error {
    fn from(error: tawny_sql::Error) -> Self {
        match error {
            tawny_sql::Error::Store(error) => Self::Store(error),
            tawny_sql::Error::Time { allowed } => Self::Timeout { allowed },
            error => Self::Sql(error),
        }
    }
}

/// How an error is told to a client.
struct Face {
    /// For programs; the values are listed in docs/api.md.
    code: &'static str,
    http: StatusCode,
    grpc: tonic::Code,
    remedy: Remedy,
}

impl Error {
    pub(crate) fn parameter(name: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self::Parameter {
            name: name.into(),
            reason: reason.into(),
        }
    }

    /// The caller's next step.
    pub fn remedy(&self) -> Remedy {
        self.face().remedy
    }

    /// Exhaustive, so that a new variant must choose.
    fn face(&self) -> Face {
        use tawny_sql::Error as Sql;
        use tawny_store::Error as Store;
        use tonic::Code;
        let face = |code, http, grpc, remedy| Face {
            code,
            http,
            grpc,
            remedy,
        };
        let bad = |code| {
            face(
                code,
                StatusCode::BAD_REQUEST,
                Code::InvalidArgument,
                Remedy::Reject,
            )
        };
        let failed = |code, remedy| {
            face(
                code,
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Internal,
                remedy,
            )
        };
        match self {
            Self::Query(_) => bad("bad_query"),
            Self::Sql(error) => match error {
                Sql::Query { .. } | Sql::NoQuery { .. } => bad("bad_query"),
                Sql::Memory { .. } => face(
                    "too_expensive",
                    StatusCode::BAD_REQUEST,
                    Code::ResourceExhausted,
                    error.remedy(),
                ),
                error if error.remedy() == Remedy::Reject => bad("bad_sql"),
                error => failed("sql_failed", error.remedy()),
            },
            Self::Parameter { .. } => bad("bad_parameter"),
            Self::UnknownParameter { .. } => bad("unknown_parameter"),
            Self::Body { .. } => bad("bad_body"),
            Self::Batch { .. } | Self::Stream { .. } | Self::Entry { .. } => bad("malformed"),
            Self::UnknownPath { .. } => face(
                "unknown_path",
                StatusCode::NOT_FOUND,
                Code::Unimplemented,
                Remedy::Reject,
            ),
            Self::Method => face(
                "bad_method",
                StatusCode::METHOD_NOT_ALLOWED,
                Code::Unimplemented,
                Remedy::Reject,
            ),
            Self::UriTooLong { .. } => face(
                "uri_too_long",
                StatusCode::URI_TOO_LONG,
                Code::InvalidArgument,
                Remedy::Reject,
            ),
            Self::NotWatched => face(
                "not_watched",
                StatusCode::NOT_FOUND,
                Code::Unimplemented,
                Remedy::Reject,
            ),
            Self::Watch(error) => match error.remedy() {
                Remedy::Reject => face(
                    "no_incident",
                    StatusCode::NOT_FOUND,
                    Code::NotFound,
                    Remedy::Reject,
                ),
                remedy => failed("incidents_failed", remedy),
            },
            Self::NoEntry { .. } => face(
                "no_entry",
                StatusCode::NOT_FOUND,
                Code::NotFound,
                Remedy::Reject,
            ),
            Self::Timeout { .. } => face(
                "timeout",
                StatusCode::GATEWAY_TIMEOUT,
                Code::DeadlineExceeded,
                Remedy::Retry,
            ),
            Self::Busy { .. } => face(
                "busy",
                StatusCode::TOO_MANY_REQUESTS,
                Code::ResourceExhausted,
                Remedy::Retry,
            ),
            Self::Stopping | Self::Store(Store::Closed) => face(
                "stopping",
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                Remedy::Retry,
            ),
            Self::Panic => failed("internal", Remedy::Retry),
            Self::Store(error) => match error {
                Store::Invalid { .. } => bad("bad_request"),
                Store::TooExpensive { .. } => bad("too_expensive"),
                Store::DiskFull { .. } => face(
                    "disk_full",
                    StatusCode::INSUFFICIENT_STORAGE,
                    Code::ResourceExhausted,
                    error.remedy(),
                ),
                error => failed("store_failed", error.remedy()),
            },
        }
    }

    /// What the client reads. The inside of a failed store is for the log, not for the client.
    pub fn body(&self) -> ErrorBody {
        let face = self.face();
        let (message, column, hint) = match self {
            Self::Query(error) => (
                format!(
                    "query does not parse: column {}: expected {}, found {}",
                    error.column, error.expected, error.found
                ),
                Some(error.column),
                error.hint.clone(),
            ),
            Self::Sql(tawny_sql::Error::Syntax { column, .. }) => (self.to_string(), *column, None),
            Self::UnknownParameter { name, known } => {
                (self.to_string(), None, Some(nearest(name, known)))
            }
            Self::Store(_) if face.grpc == tonic::Code::Internal => (
                "the store could not answer; the server's log says why".to_owned(),
                None,
                None,
            ),
            _ => (self.to_string(), None, None),
        };
        let line = match self {
            Self::Sql(tawny_sql::Error::Syntax { line, .. }) => {
                line.and_then(|line| u32::try_from(line).ok())
            }
            _ => None,
        };
        ErrorBody {
            code: face.code.into(),
            message,
            line,
            column,
            hint,
        }
    }

    /// The code as a metric label.
    pub(crate) fn grpc_code(&self) -> tonic::Code {
        self.face().grpc
    }

    pub(crate) fn log(&self) {
        if self.face().http.is_server_error() && !matches!(self, Self::Stopping) {
            tracing::error!(error = self as &dyn std::error::Error, "request failed");
        } else {
            tracing::debug!(error = self as &dyn std::error::Error, "request refused");
        }
    }
}

/// `did you mean …`, or all names when none is near.
fn nearest(name: &str, known: &[&str]) -> String {
    /// Two edits mend a typo; more make another word.
    const MAX_EDITS: usize = 2;
    known
        .iter()
        .map(|known| {
            (
                strsim::osa_distance(&name.to_lowercase(), &known.to_lowercase()),
                known,
            )
        })
        .min()
        .filter(|(edits, known)| *edits <= MAX_EDITS.min(known.len() / 2))
        .map_or_else(
            || format!("known are {}", known.join(", ")),
            |(_, known)| format!("did you mean `{known}`?"),
        )
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.log();
        let face = self.face();
        let mut response = (face.http, Json(ErrorResponse { error: self.body() })).into_response();
        if face.remedy == Remedy::Retry {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        error.log();
        let body = error.body();
        let message = match body.hint {
            Some(hint) => format!("{}; {hint}", body.message),
            None => body.message,
        };
        Self::new(error.grpc_code(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_name_is_proposed_and_a_far_one_lists_all() {
        let known = &["limit", "order", "q"];
        assert_eq!(nearest("limti", known), "did you mean `limit`?");
        assert_eq!(nearest("Order", known), "did you mean `order`?");
        assert_eq!(nearest("banana", known), "known are limit, order, q");
        assert_eq!(nearest("x", known), "known are limit, order, q");
    }

    #[test]
    fn failed_store_keeps_its_inside_to_the_log() {
        let error = Error::Store(tawny_store::Error::Damaged {
            path: "/secret/place".into(),
            reason: "page 7".into(),
        });
        assert!(!error.body().message.contains("secret"));
        assert_eq!(error.grpc_code(), tonic::Code::Internal);
    }

    #[test]
    fn full_disk_is_told_as_such_and_may_be_retried() {
        let error = Error::Store(tawny_store::Error::DiskFull {
            path: "/data/db".into(),
        });
        assert_eq!(error.grpc_code(), tonic::Code::ResourceExhausted);
        assert_eq!(error.remedy(), Remedy::Retry);
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::INSUFFICIENT_STORAGE);
        assert!(response.headers().contains_key(RETRY_AFTER));
    }
}
