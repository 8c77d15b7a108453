//! A server of the S3 protocol on a directory, in this process: it notes what is asked, and may be told to fail.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use tawny_model::Secret;
use tawny_store::BucketConfig;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};

const KEY: &str = "AKIATAWNY";
const SECRET: &str = "not much of a secret";

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is done, and the answer is this status.
    Status(u16),
    /// It is done and answered as it should be, later.
    Slow(Duration),
    /// It is done, and the answer ends in the middle.
    HalfBody,
    /// It is done, and the connection closed without an answer.
    NoAnswer,
}

/// A request as it was asked for; `path` is the key in the bucket.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Of the answer's body.
    pub(crate) len_bytes: u64,
}

type Trouble = Box<dyn FnMut(&Method, &str) -> Option<Fault> + Send>;

#[derive(Default)]
struct Inner {
    asked: Mutex<Vec<Asked>>,
    trouble: Mutex<Option<Trouble>>,
    n_faults: AtomicUsize,
    /// The server looks whether an object is there before it writes it, one after the other only by this.
    puts: tokio::sync::Mutex<()>,
}

/// A running server with one bucket. Dropped it is gone, with what it holds.
pub(crate) struct S3 {
    endpoint: String,
    inner: Arc<Inner>,
    stop_tx: Option<oneshot::Sender<()>>,
    serving: Option<thread::JoinHandle<()>>,
    directory: Arc<TempDir>,
}

impl S3 {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("bucket")).unwrap();
        Self::on(Arc::new(directory))
    }

    /// Another way to the same bucket, with troubles of its own.
    pub(crate) fn beside(&self) -> Self {
        Self::on(Arc::clone(&self.directory))
    }

    fn on(directory: Arc<TempDir>) -> Self {
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(directory.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let (service, inner) = (builder.build(), Arc::<Inner>::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (stop_tx, stop_rx) = oneshot::channel();
        let served = Arc::clone(&inner);
        // Of its own: a store that is being closed blocks the test's thread.
        let serving = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = stop_rx => {}
                    () = serve(listener, service, served) => {}
                }
            });
        });
        Self {
            endpoint,
            inner,
            stop_tx: Some(stop_tx),
            serving: Some(serving),
            directory,
        }
    }

    pub(crate) fn bucket(&self) -> BucketConfig {
        let option = |name: &str, value: &str| (name.to_owned(), Secret::new(value));
        let options = vec![
            option("aws_endpoint", &self.endpoint),
            option("aws_allow_http", "true"),
            option("aws_region", "eu-central-1"),
            option("aws_access_key_id", KEY),
            option("aws_secret_access_key", SECRET),
        ];
        BucketConfig::new("s3://bucket/some/prefix", options)
    }

    /// From now on requests fail as this says, which sees method and key of each.
    pub(crate) fn fail(
        &self,
        trouble: impl FnMut(&Method, &str) -> Option<Fault> + Send + 'static,
    ) {
        *self.inner.trouble.lock().unwrap() = Some(Box::new(trouble));
        self.inner.n_faults.store(0, SeqCst);
    }

    /// Requests are answered again; how many were not.
    pub(crate) fn recover(&self) -> usize {
        *self.inner.trouble.lock().unwrap() = None;
        self.inner.n_faults.swap(0, SeqCst)
    }

    /// What was asked for since this was last called.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.inner.asked.lock().unwrap())
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop_tx = None;
        if let Some(serving) = self.serving.take() {
            serving.join().unwrap();
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (service, inner) = (service.clone(), Arc::clone(&inner));
        connections.spawn(async move {
            let mut connection = BufReader::new(socket);
            // Whoever goes away ends the connection as a fault does.
            while let Ok(Some(request)) = read_request(&mut connection).await {
                let answered = answer(request, connection.get_mut(), &service, &inner);
                if !matches!(answered.await, Ok(true)) {
                    break;
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Reads what the client of `object_store` sends: HTTP/1.1, bodies of a length told before.
async fn read_request(connection: &mut BufReader<TcpStream>) -> io::Result<Option<Request<Bytes>>> {
    let mut line = String::new();
    if connection.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let mut request = Request::builder()
        .method(words.next().unwrap())
        .uri(words.next().unwrap());
    let mut len_bytes = 0;
    loop {
        line.clear();
        connection.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            len_bytes = value.parse().unwrap();
        }
        request = request.header(name, value);
    }
    let mut body = vec![0; len_bytes];
    connection.read_exact(&mut body).await?;
    Ok(Some(request.body(body.into()).unwrap()))
}

/// Answers a request; `false` when the connection is to end.
async fn answer(
    request: Request<Bytes>,
    socket: &mut TcpStream,
    service: &S3Service,
    inner: &Inner,
) -> io::Result<bool> {
    let method = request.method().clone();
    let path = request
        .uri()
        .path()
        .trim_start_matches("/bucket/")
        .to_owned();
    let fault = inner
        .trouble
        .lock()
        .unwrap()
        .as_mut()
        .and_then(|trouble| trouble(&method, &path));
    inner
        .n_faults
        .fetch_add(usize::from(fault.is_some()), SeqCst);
    let (parts, body) = match fault {
        Some(Fault::Status(status)) => {
            let code = if status == 503 {
                "SlowDown"
            } else {
                "InternalError"
            };
            let body = format!("<Error><Code>{code}</Code><Message>try later</Message></Error>");
            let response = Response::builder()
                .status(status)
                .header("retry-after", "1");
            response.body(Bytes::from(body)).unwrap().into_parts()
        }
        _ => {
            if let Some(Fault::Slow(wait)) = fault {
                tokio::time::sleep(wait).await;
            }
            let _turn = match method {
                Method::PUT | Method::POST => Some(inner.puts.lock().await),
                _ => None,
            };
            let answered = service.call(request.map(s3s::Body::from)).await;
            let (parts, body) = answered
                .map_err(|e| io::Error::other(format!("{e:?}")))?
                .into_parts();
            let body = body
                .collect()
                .await
                .map_err(|e| io::Error::other(format!("{e:?}")))?;
            (parts, body.to_bytes())
        }
    };
    let is_head = method == Method::HEAD;
    inner.asked.lock().unwrap().push(Asked {
        method,
        path,
        len_bytes: body.len() as u64,
    });
    if fault == Some(Fault::NoAnswer) {
        return Ok(false);
    }
    let mut head = format!("HTTP/1.1 {}\r\n", parts.status);
    for (name, value) in &parts.headers {
        if is_head || (name != "content-length" && name != "transfer-encoding") {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
    }
    if !is_head {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes()).await?;
    let is_cut = fault == Some(Fault::HalfBody);
    let n_sent = if is_cut { body.len() / 2 } else { body.len() };
    socket.write_all(&body[..n_sent]).await?;
    socket.flush().await?;
    Ok(!is_cut)
}
