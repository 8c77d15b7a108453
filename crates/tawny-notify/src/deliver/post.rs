//! One HTTP request on a connection of its own. Redirects are not followed, and no answer is too large.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tawny_model::Timestamp;
use url::Url;

use super::Dial;
use crate::{Error, mask::mask, notice::cut};

/// Most of an answer that is read: what a refusal says is in its first line or two.
const MAX_ANSWER_BYTES: usize = 4 << 10;
const MAX_SAID_CHARS: usize = 300;

/// Host and port, all that may be said of a URL that holds a secret.
pub(super) fn server(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Posts JSON and reads what became of it. `now` is for a `Retry-After` that names a time.
///
/// # Errors
/// `Retry` when the service cannot be reached or is busy, `Reject` when it refuses or redirects.
pub(super) async fn post(
    dial: &dyn Dial,
    url: &Url,
    mut headers: HeaderMap,
    body: String,
    now: Timestamp,
) -> Result<(), Error> {
    let server = server(url);
    let io = (dial.dial(url).await).map_err(|source| Error::Unreachable {
        server: server.clone(),
        source,
    })?;
    let broken = |error: hyper::Error| Error::Broken {
        server: server.clone(),
        reason: error.to_string(),
    };
    let host = HeaderValue::from_str(&server).map_err(|_| Error::HeaderMalformed {
        name: HOST.to_string(),
    })?;
    headers.insert(HOST, host);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (headers.entry(USER_AGENT)).or_insert(HeaderValue::from_static("tawny"));
    let mut target = url.path().to_owned();
    if let Some(query) = url.query() {
        target = format!("{target}?{query}");
    }
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.parse().map_err(|_| Error::Broken {
        server: server.clone(),
        reason: "the URL's path cannot be sent".to_owned(),
    })?;
    *request.headers_mut() = headers;

    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        judge(response, &server, now).await
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        outcome = &mut exchange => return outcome,
        _ended = connection => {}
    }
    // What arrived before the connection ended is still to be had.
    exchange.await
}

/// What an answer means for the message.
async fn judge(response: Response<Incoming>, server: &str, now: Timestamp) -> Result<(), Error> {
    let (head, body) = response.into_parts();
    let (status, code, server) = (head.status, head.status.as_u16(), server.to_owned());
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() {
        return Err(Error::Redirected {
            server,
            code,
            target: target(&head.headers),
        });
    }
    let message = said(body).await;
    let is_passing = status.is_server_error()
        || [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::TOO_EARLY,
        ]
        .contains(&status);
    if is_passing {
        let wait = (head.headers.get(RETRY_AFTER))
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, now));
        return Err(Error::Busy {
            server,
            code,
            message,
            wait,
        });
    }
    Err(Error::Refused {
        server,
        code,
        message,
    })
}

/// Where a redirect leads, without the path, which may be secret.
fn target(headers: &HeaderMap) -> String {
    let location = (headers.get(LOCATION)).and_then(|value| value.to_str().ok());
    match location.map(Url::parse) {
        Some(Ok(url)) if url.has_host() => format!("{}://{}", url.scheme(), server(&url)),
        Some(_) => "another path".to_owned(),
        None => "nowhere".to_owned(),
    }
}

/// What the answer says, in one short line without secrets. However it breaks off, what came is shown.
async fn said(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_ANSWER_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Ok(data) = frame.into_data() {
            let n_left = MAX_ANSWER_BYTES - bytes.len();
            bytes.extend(data.iter().take(n_left));
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = (text.split(|c: char| c.is_whitespace() || c.is_control()))
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() {
        return "it does not say why".to_owned();
    }
    cut(&mask(&words.join(" ")).text, MAX_SAID_CHARS).to_owned()
}

/// Seconds, with a fraction from Discord, or a date. Source: RFC 9110 sections 10.2.3 and 5.6.7 (IMF-fixdate).
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(secs) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(secs).ok();
    }
    // `Sun, 06 Nov 1994 08:49:37 GMT`
    let mut parts = value.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = 1 + MONTHS.iter().position(|name| *name == month)?;
    let at = Timestamp::parse_rfc3339(format!("{year}-{month:02}-{day}T{time}Z").as_bytes())?;
    Some(at.saturating_since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::parse_rfc3339(b"1994-11-06T08:49:07Z").unwrap();
        for (value, secs) in [
            ("30", Some(30.0)),
            ("0.65", Some(0.65)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30.0)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0.0)),
            ("-1", None),
            ("NaN", None),
            ("1e300", None),
            ("soon", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ] {
            let wait = retry_after(value, now).map(|wait| wait.as_secs_f64());
            assert_eq!(wait, secs, "{value}");
        }
    }
}
