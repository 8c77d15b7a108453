//! Container logs through `pods/log`: one request, one container run, lines with timestamps.

use std::{fmt, io, pin::Pin};

use futures::{AsyncBufRead, AsyncBufReadExt as _};
use k8s_openapi::{api::core::v1::Pod, jiff};
use kube::{
    Api,
    api::{LogParams, Request},
};
use tawny_model::Timestamp;

use crate::{Cluster, Error, PodFacts, pod_facts};

/// Which log to read, and from where. Lines always come with timestamps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogRequest {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    /// Stay with the log until the container ends.
    pub follow: bool,
    /// The run before the latest.
    pub previous: bool,
    /// Lines of this second and later; the API knows no finer times (KL-40).
    pub since: Option<Timestamp>,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
}

/// Of a log's end, at least this much is handed out if there is so much, and less than twice of it.
pub const MAX_END_BYTES: usize = 64 << 10;

/// Most that is read on the way to a log's end: a last line may be long.
const MAX_READ_BYTES: usize = 8 << 20;

/// An open log. Bytes arrive as the kubelet sends them; see [`LogStream::fill`].
pub struct LogStream {
    reader: Pin<Box<dyn AsyncBufRead + Send>>,
    server: String,
}

impl fmt::Debug for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStream").finish_non_exhaustive()
    }
}

impl Cluster {
    /// Opens a log. The kubelet may send nothing, not even headers, until the first line is written: a silent container
    /// keeps this waiting, so the caller bounds it together with the wait for lines.
    ///
    /// # Errors
    /// `BadRequest` while the container has not started or has no previous run; `NotFound` when the pod is gone.
    pub async fn open_logs(&self, request: &LogRequest) -> Result<LogStream, Error> {
        let path = <Pod as kube::Resource>::url_path(&(), Some(&request.namespace));
        let mut http = Request::new(path)
            .logs(&request.pod, &request.params())
            .map_err(|error| self.error(kube::Error::BuildRequest(error)))?;
        http.extensions_mut().insert("logs");
        let reader = self
            .client()
            .request_stream(http)
            .await
            .map_err(|error| self.error(error))?;
        Ok(LogStream {
            reader: Box::pin(reader),
            server: self.server().to_owned(),
        })
    }

    /// Reads the end of a log that does not follow, some [`MAX_END_BYTES`] of it, as times and texts. What the kubelet
    /// itself puts in, which has no time, is left out.
    ///
    /// `limit_bytes` of the request is not for this: the kubelet counts it from the first line it sends.
    ///
    /// # Errors
    /// As [`Self::open_logs`], and `Interrupted` when the connection breaks.
    pub async fn read_log_end(
        &self,
        request: &LogRequest,
    ) -> Result<Vec<(Timestamp, String)>, Error> {
        let mut log = self.open_logs(request).await?;
        let mut bytes = Vec::new();
        let mut n_read = 0;
        while n_read < MAX_READ_BYTES {
            let piece = log.fill().await?;
            if piece.is_empty() {
                break;
            }
            bytes.extend_from_slice(piece);
            let n_bytes = piece.len();
            log.consume(n_bytes);
            n_read += n_bytes;
            if bytes.len() > 2 * MAX_END_BYTES {
                let cut = bytes.len() - MAX_END_BYTES;
                let line_end = bytes[cut..].iter().position(|byte| *byte == b'\n');
                bytes.drain(..line_end.map_or(cut, |end| cut + end + 1));
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().filter_map(|line| {
            let (time, message) = line.split_once(' ').unwrap_or((line, ""));
            Some((
                Timestamp::parse_rfc3339(time.as_bytes())?,
                message.to_owned(),
            ))
        });
        Ok(lines.collect())
    }

    /// Looks one pod up, past all caches; `None` when it is gone.
    ///
    /// # Errors
    /// Anything but a 404.
    pub async fn fetch_pod(&self, namespace: &str, name: &str) -> Result<Option<PodFacts>, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client().clone(), namespace);
        let pod = self.within(pods.get_opt(name)).await?;
        Ok(pod.as_ref().and_then(pod_facts))
    }
}

impl LogRequest {
    fn params(&self) -> LogParams {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        LogParams {
            container: Some(self.container.clone()),
            follow: self.follow,
            previous: self.previous,
            // Whole seconds towards the past: the client library would round to the nearest and could skip lines.
            since_time: self
                .since
                .and_then(|since| jiff::Timestamp::from_second(since.as_secs()).ok()),
            tail_lines: self.tail_lines.map(signed),
            limit_bytes: self.limit_bytes.map(signed),
            timestamps: true,
            ..LogParams::default()
        }
    }
}

impl LogStream {
    /// The bytes at hand, waiting for some; empty at the end of the log.
    ///
    /// CANCEL-SAFE: nothing is lost when the future is dropped; [`LogStream::consume`] alone moves on.
    ///
    /// # Errors
    /// `Interrupted` when the connection breaks: the log goes on, the stream does not.
    pub async fn fill(&mut self) -> Result<&[u8], Error> {
        match self.reader.fill_buf().await {
            Ok(bytes) => Ok(bytes),
            Err(source) => Err(interrupted(&self.server, source)),
        }
    }

    /// Moves past `n_bytes` of what [`LogStream::fill`] returned.
    pub fn consume(&mut self, n_bytes: usize) {
        self.reader.as_mut().consume(n_bytes);
    }
}

fn interrupted(server: &str, source: io::Error) -> Error {
    Error::Interrupted {
        server: server.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use serde_json::json;

    use super::*;
    use crate::client::testing::{answer, fake, json_body, text_body};

    fn request() -> LogRequest {
        LogRequest {
            namespace: "shop".to_owned(),
            pod: "web".to_owned(),
            container: "app".to_owned(),
            follow: true,
            ..LogRequest::default()
        }
    }

    #[tokio::test]
    async fn the_request_names_container_and_whole_seconds() {
        let uri = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&uri);
        let cluster = fake(move |asked| {
            *seen.lock().unwrap() = asked.uri.to_string();
            async { text_body(200, "") }
        });
        let request = LogRequest {
            since: Some(Timestamp::from_nanos(1_475_713_029_669_794_202)),
            tail_lines: Some(5),
            limit_bytes: Some(u64::MAX),
            previous: true,
            ..request()
        };
        let mut log = cluster.open_logs(&request).await.unwrap();
        assert!(log.fill().await.unwrap().is_empty());
        assert_eq!(
            *uri.lock().unwrap(),
            "/api/v1/namespaces/shop/pods/web/log?&container=app&follow=true&limitBytes=9223372036854775807&previous=true\
             &sinceTime=2016-10-06T00%3A17%3A09Z&tailLines=5&timestamps=true"
        );
    }

    #[tokio::test]
    async fn bytes_come_until_the_end_and_a_break_is_an_error() {
        let cluster = fake(|_| async {
            let frames = [Ok("a\nb"), Ok("c\n"), Err(io::ErrorKind::ConnectionReset)];
            let frames = frames.map(|frame| match frame {
                Ok(text) => Ok(Frame::data(text.into())),
                Err(kind) => Err(io::Error::from(kind)),
            });
            answer(200, StreamBody::new(stream::iter(frames)))
        });
        let mut log = cluster.open_logs(&request()).await.unwrap();
        assert_eq!(log.fill().await.unwrap(), b"a\nb");
        log.consume(2);
        assert_eq!(log.fill().await.unwrap(), b"b");
        log.consume(1);
        assert_eq!(log.fill().await.unwrap(), b"c\n");
        log.consume(2);
        let error = log.fill().await.unwrap_err();
        assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn the_end_of_a_log_is_times_and_texts() {
        let cluster = fake(|_| async {
            text_body(
                200,
                "1970-01-01T00:00:01Z one\nunable to retrieve\n1970-01-01T00:00:02Z\n1970-01-01T00:00:03Z  three",
            )
        });
        let lines = cluster.read_log_end(&request()).await.unwrap();
        let long: String = (0..1_000)
            .map(|n| format!("1970-01-01T00:00:01Z {n:>500}\n"))
            .collect();
        let of_long = fake(move |_| {
            let long = long.clone();
            async { text_body(200, long) }
        });
        let end = of_long.read_log_end(&request()).await.unwrap();
        assert!((100..300).contains(&end.len()), "{}", end.len());
        assert!(end[0].1.len() == 500 && end[end.len() - 1].1.ends_with("999"));
        let expected = [(1, "one"), (2, ""), (3, " three")];
        assert_eq!(
            lines,
            expected.map(|(secs, text)| (Timestamp::from_secs(secs), text.to_owned()))
        );
    }

    #[tokio::test]
    async fn refusals_are_told_apart() {
        for (code, kind) in [
            (400, "bad_request"),
            (403, "forbidden"),
            (404, "not_found"),
            (500, "server"),
        ] {
            let cluster = fake(move |_| async move {
                json_body(
                    code,
                    &json!({"kind": "Status", "status": "Failure", "message": "m", "code": code}),
                )
            });
            let error = cluster.open_logs(&request()).await.unwrap_err();
            assert_eq!(error.kind(), kind);
        }
    }

    #[tokio::test]
    async fn a_pod_that_is_gone_is_none() {
        let cluster = fake(|_| async {
            json_body(
                404,
                &json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "m", "code": 404}),
            )
        });
        assert_eq!(cluster.fetch_pod("shop", "web").await.unwrap(), None);
    }
}
