//! `/api/v1/sql`: one statement in, its rows out as they come.
//!
//! A short answer is held until it is whole, so that its head says how it went; of a longer one that is told in trailers,
//! or by breaking off where the client takes none.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tawny_sql::{Answer, Encoder, Format};
use tawny_wire::api::{ErrorResponse, SQL_ERROR, SQL_LIMIT, SQL_TRUNCATED, SqlRequest};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{SharedState, params::Params};
use crate::{Error, metrics::Asked, shared::Shared};

/// Longest request: the longest statement, escaped as JSON.
const MAX_REQUEST_BYTES: usize = 512 << 10;

/// An answer of up to this is held until it is whole.
const WHOLE_BYTES: usize = 256 << 10;

pub(super) async fn sql(
    State(shared): SharedState,
    uri: Uri,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Error> {
    let SqlRequest { sql, format, limit } = read(&uri, &headers, request.into_body()).await?;
    let format: Format = match format.as_deref() {
        None => Format::default(),
        Some(name) => name.parse().map_err(|()| {
            let names = Format::ALL.map(Format::name).join(", ");
            Error::parameter("format", format!("`{name}` is none of {names}"))
        })?,
    };
    let max_rows = shared.limits.sql_max_rows;
    let limit = limit.unwrap_or_else(|| shared.limits.sql_rows.min(max_rows));
    if !(1..=max_rows).contains(&limit) {
        return Err(Error::parameter(
            "limit",
            format!("{limit} is not from 1 to {max_rows}"),
        ));
    }
    let turn = shared.turn_to_keep().await?;
    let begun = Instant::now();
    let answer = shared.sql.query(&sql, limit).await;
    let mut rows = match answer {
        Ok(answer) => Rows {
            encoder: Some(Encoder::new(format, answer.schema())?),
            answer,
            _running: Running {
                shared: Arc::clone(&shared),
                begun,
                _turn: turn,
            },
        },
        Err(error) => {
            shared.metrics.query(Asked::Sql, begun.elapsed());
            return Err(error.into());
        }
    };
    let mut held = Vec::new();
    while held.len() <= WHOLE_BYTES {
        match rows.next().await {
            Some(Ok(bytes)) => held.extend(bytes),
            Some(Err(error)) => return Err(error),
            None => {
                let mut response = head(format, limit, held.into());
                let is_truncated = truncated(rows.is_truncated());
                response.headers_mut().insert(SQL_TRUNCATED, is_truncated);
                return Ok(response);
            }
        }
    }
    let takes_trailers = headers
        .get_all(header::TE)
        .iter()
        .any(|te| te.to_str().is_ok_and(|te| te.contains("trailers")));
    let body = Body::new(StreamBody::new(frames(held.into(), rows, takes_trailers)));
    let mut response = head(format, limit, body);
    if takes_trailers {
        let names = HeaderValue::from_static("x-tawny-truncated, x-tawny-error");
        response.headers_mut().insert(header::TRAILER, names);
    }
    Ok(response)
}

async fn read(uri: &Uri, headers: &HeaderMap, body: Body) -> Result<SqlRequest, Error> {
    let params = Params::read(uri, &["sql", "format", "limit"])?;
    let body = axum::body::to_bytes(body, MAX_REQUEST_BYTES)
        .await
        .map_err(|_| Error::Body {
            reason: format!("it does not come whole, or exceeds {MAX_REQUEST_BYTES} bytes"),
        })?;
    let content_type = headers.get(header::CONTENT_TYPE);
    let is_json = content_type.is_some_and(|kind| {
        let kind = kind.to_str().unwrap_or_default();
        kind.starts_with("application/json")
    });
    let mut request = if is_json {
        serde_json::from_slice(&body).map_err(|error| Error::Body {
            reason: error.to_string(),
        })?
    } else {
        SqlRequest {
            sql: std::str::from_utf8(&body)
                .map_err(|error| Error::Body {
                    reason: error.to_string(),
                })?
                .to_owned(),
            format: None,
            limit: None,
        }
    };
    match params.text("sql") {
        Some(sql) if request.sql.is_empty() => request.sql = sql.to_owned(),
        Some(_) => {
            return Err(Error::parameter("sql", "cannot stand beside a body"));
        }
        None => {}
    }
    if request.format.is_none() {
        request.format = params.text("format").map(str::to_owned);
    }
    if request.limit.is_none() {
        request.limit = params.parsed("limit", "a number")?;
    }
    Ok(request)
}

fn head(format: Format, limit: usize, body: Body) -> Response {
    let limit = HeaderValue::from(limit);
    (
        [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static(format.content_type()),
            ),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (HeaderName::from_static(SQL_LIMIT), limit),
        ],
        body,
    )
        .into_response()
}

fn truncated(is_truncated: bool) -> HeaderValue {
    HeaderValue::from_static(if is_truncated { "true" } else { "false" })
}

/// Rows on their way out, encoded.
struct Rows {
    answer: Answer,
    /// `None` once the end is written.
    encoder: Option<Encoder>,
    _running: Running,
}

/// A statement that takes its turn, counted when it ends.
struct Running {
    shared: Arc<Shared>,
    begun: Instant,
    _turn: OwnedSemaphorePermit,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.metrics.query(Asked::Sql, self.begun.elapsed());
    }
}

impl Rows {
    async fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
        let encoder = self.encoder.as_mut()?;
        match self.answer.next().await {
            Some(Ok(batch)) => Some(encoder.rows(&batch).map_err(Error::from)),
            Some(Err(error)) => Some(Err(error.into())),
            None => {
                let encoder = self.encoder.take()?;
                Some(encoder.finish().map_err(Error::from))
            }
        }
    }

    fn is_truncated(&self) -> bool {
        self.answer.is_truncated()
    }
}

/// What is held, then the rest of the rows, then how it went.
fn frames(
    held: Bytes,
    rows: Rows,
    takes_trailers: bool,
) -> impl Stream<Item = Result<Frame<Bytes>, Error>> {
    enum Next {
        Held(Bytes, Rows),
        Rows(Rows),
        End,
    }
    stream::unfold(Next::Held(held, rows), move |next| async move {
        let mut rows = match next {
            Next::Held(held, rows) => return Some((Ok(Frame::data(held)), Next::Rows(rows))),
            Next::Rows(rows) => rows,
            Next::End => return None,
        };
        match rows.next().await {
            Some(Ok(bytes)) => Some((Ok(Frame::data(bytes.into())), Next::Rows(rows))),
            Some(Err(error)) if takes_trailers => {
                error.log();
                let error = ErrorResponse {
                    error: error.body(),
                };
                let text = serde_json::to_string(&error).expect("texts and numbers are JSON");
                Some((Ok(trailers(SQL_ERROR, text_value(&text))), Next::End))
            }
            Some(Err(error)) => {
                error.log();
                Some((Err(error), Next::End))
            }
            None if takes_trailers => {
                let is_truncated = truncated(rows.is_truncated());
                Some((Ok(trailers(SQL_TRUNCATED, is_truncated)), Next::End))
            }
            None => None,
        }
    })
}

fn trailers(name: &'static str, value: HeaderValue) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert(HeaderName::from_static(name), value);
    Frame::trailers(trailers)
}

/// JSON as a header takes it: all but ASCII escaped.
fn text_value(json: &str) -> HeaderValue {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\x7f' {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    HeaderValue::try_from(ascii).expect("JSON on one line has no control characters")
}
