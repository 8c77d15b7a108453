//! One accept loop for both faces: connections are bounded, watched for life, and given time to finish.

use std::time::Duration;

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tawny_runtime::CancellationToken;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::Limits;

/// Pings of an idle HTTP/2 connection, and how long an answer may take (KL-10).
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that says nothing for so long after connecting, or within its headers, is let go.
const FIRST_WORD_TIMEOUT: Duration = Duration::from_secs(15);

/// A pause after a failed accept, which mostly means that no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Room for a request of the largest size to be on its way while another is worked on, without a round trip per 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Requests one connection may have open at a time.
const MAX_STREAMS: u32 = 256;

/// Serves until told to stop, then lets requests in flight finish within the grace.
pub(crate) async fn serve(
    face: &'static str,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_WORD_TIMEOUT);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => note(face, ended),
            accepted = listener.accept(), if connections.len() < limits.max_connections => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(connection(socket, http.clone(), router.clone(), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(face, %error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let finished = timeout(limits.stop_grace, async {
        while let Some(ended) = connections.join_next().await {
            note(face, ended);
        }
    });
    if finished.await.is_err() {
        tracing::warn!(
            face,
            connections = connections.len(),
            grace = ?limits.stop_grace,
            "requests still running were cut off"
        );
    }
}

async fn connection(
    socket: TcpStream,
    http: auto::Builder<TokioExecutor>,
    router: Router,
    stop: CancellationToken,
) {
    // Answers are small and asked for one by one: they should not wait for a full packet.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "connection lost before its first request");
        return;
    }
    let first_word = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        first = timeout(FIRST_WORD_TIMEOUT, socket.readable()) => first,
    };
    if !matches!(first_word, Ok(Ok(()))) {
        return;
    }
    let service = TowerToHyperService::new(router);
    let connection = http.serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "connection ended");
    }
}

fn note(face: &'static str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(face, %error, "connection panicked");
    }
}
