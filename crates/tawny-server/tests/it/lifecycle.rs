//! Probes, limits, and what happens when a client or the server goes away.

use std::{sync::Arc, time::Duration};

use http::{Request, StatusCode, Version};
use http_body_util::Empty;
use tawny_model::ByteSize;
use tawny_server::Limits;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::{
    fixture::{Fixture, six_entries},
    rigged::{Rigged, Trouble},
};

const PATIENCE: Duration = Duration::from_secs(60);

async fn rigged(limits: Limits) -> (Fixture, Arc<Rigged>) {
    let mut rigged = None;
    let fixture = Fixture::with(limits, |store| {
        let store = Rigged::new(store);
        rigged = Some(Arc::clone(&store));
        store
    })
    .await;
    (fixture, rigged.unwrap())
}

#[tokio::test]
async fn all_health_paths_answer() {
    let mut fixture = Fixture::start().await;
    assert_eq!(fixture.get("/health").await.text, r#"{"status":"ok"}"#);
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = fixture.get(path).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (StatusCode::OK, "ok\n"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn readiness_falls_first_when_stopping_and_liveness_stays() {
    let mut fixture = Fixture::start().await;
    let mut health = HealthClient::new(fixture.channel().await);
    let check = || HealthCheckRequest {
        service: "kubelogs.storage.v1.StorageService".to_owned(),
    };
    let serving = health.check(check()).await.unwrap().into_inner();
    assert_eq!(serving.status(), ServingStatus::Serving);
    let mut watch = health.watch(check()).await.unwrap().into_inner();
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );

    fixture.readiness.stopping();
    let answer = fixture.get("/readyz").await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    );
    assert_eq!(fixture.get("/livez").await.status, StatusCode::OK);
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );

    // The watch has no end of its own; the stop gives it one.
    timeout(PATIENCE, fixture.stopped()).await.unwrap();
    assert!(watch.message().await.unwrap().is_none());
}

#[tokio::test]
async fn store_that_cannot_be_written_is_not_ready_and_recovers_by_itself() {
    let (mut fixture, rigged) = rigged(Limits::default()).await;
    fixture.append(six_entries()).await;
    rigged.set(Trouble::DiskFull);
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let answer = fixture.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text.contains("no space left"), "{}", answer.text);
    // Queries are served all the while.
    rigged.set(Trouble::None);
    assert_eq!(fixture.get("/api/v1/search").await.status, StatusCode::OK);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(fixture.get("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions_kl_3_kl_10() {
    let fixture = Fixture::start().await;
    let channel = fixture.channel().await;
    let wanted = [
        "grpc.health.v1.Health",
        "kubelogs.storage.v1.StorageService",
        "tawny.v1.Ingest",
    ];

    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut answers = v1::server_reflection_client::ServerReflectionClient::new(channel.clone())
        .server_reflection_info(futures::stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<String> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in wanted {
        assert!(
            names.iter().any(|known| known == name),
            "{name} in {names:?}"
        );
    }

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                "kubelogs.storage.v1.StorageService".to_owned(),
            ),
        ),
    };
    let mut answers = v1alpha::server_reflection_client::ServerReflectionClient::new(channel)
        .server_reflection_info(futures::stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    assert!(matches!(
        answer,
        v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)
    ));
}

#[tokio::test]
async fn silent_http2_client_is_pinged_and_let_go_kl_10() {
    const PING: u8 = 6;
    let fixture = Fixture::start().await;
    let mut socket = TcpStream::connect(fixture.grpc).await.unwrap();
    socket
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let mut pinged_after = None;
    // Frames: three bytes of length, one of kind, five of flags and stream. The end is a close or a reset.
    let mut head = [0; 9];
    while socket.read_exact(&mut head).await.is_ok() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        socket
            .read_exact(&mut vec![0; usize::try_from(len).unwrap()])
            .await
            .unwrap();
        if head[3] == PING {
            pinged_after.get_or_insert_with(|| started.elapsed());
        }
    }
    assert_eq!(pinged_after.unwrap().as_secs(), 15);
    assert_eq!(started.elapsed().as_secs(), 20);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_json_errors() {
    let mut fixture = Fixture::start().await;
    for path in ["/api/nothing", "/api/v1/", "/api", "/nothing"] {
        let answer = fixture.get(path).await;
        let (status, code, message) = answer.error();
        assert_eq!(
            (status, code.as_str()),
            (StatusCode::NOT_FOUND, "unknown_path"),
            "{path}"
        );
        assert_eq!(message, format!("there is nothing at `{path}`"));
    }
    let post = Request::post("/api/v1/search").body(Empty::new()).unwrap();
    assert_eq!(
        fixture.ask(post).await.error().0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let head = Request::head("/api/v1/search").body(Empty::new()).unwrap();
    assert_eq!(fixture.ask(head).await.status, StatusCode::OK);
}

#[tokio::test]
async fn both_http_versions_are_spoken_on_one_port() {
    let mut fixture = Fixture::start().await;
    assert_eq!(
        fixture.ask_h2c("/api/stats").await,
        (StatusCode::OK, Version::HTTP_2)
    );
    assert_eq!(fixture.get("/api/stats").await.status, StatusCode::OK);
}

#[tokio::test]
async fn address_that_is_too_long_is_refused() {
    let limits = Limits {
        max_uri: ByteSize(100),
        ..Limits::default()
    };
    let mut fixture = Fixture::with(limits, |store| store).await;
    let answer = fixture
        .get(&format!("/api/v1/search?q={}", "x".repeat(100)))
        .await;
    assert_eq!(answer.error().0, StatusCode::URI_TOO_LONG);
    assert!(
        answer.text.contains("117 bytes exceeds limit of 100 bytes"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn query_that_takes_too_long_is_504() {
    let limits = Limits {
        query_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let (mut fixture, rigged) = rigged(limits).await;
    rigged.set(Trouble::Gated);
    let answer = fixture.get("/api/v1/search").await;
    let (status, code, message) = answer.error();
    assert_eq!(
        (status, code.as_str()),
        (StatusCode::GATEWAY_TIMEOUT, "timeout")
    );
    assert!(message.contains("50ms"), "{message}");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(rigged.given_up.available_permits(), 1);
}

#[tokio::test]
async fn query_ends_when_its_client_leaves() {
    let (mut fixture, rigged) = rigged(Limits::default()).await;
    rigged.set(Trouble::Gated);
    let mut socket = TcpStream::connect(fixture.http).await.unwrap();
    socket
        .write_all(b"GET /api/v1/search HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    rigged.someone_waits().await;
    drop(socket);
    timeout(PATIENCE, rigged.given_up.acquire())
        .await
        .unwrap()
        .unwrap()
        .forget();
    fixture.stopped().await;
}

#[tokio::test]
async fn more_queries_than_the_limit_wait_and_are_then_refused() {
    let limits = Limits {
        max_queries: 1,
        ..Limits::default()
    };
    let (mut fixture, rigged) = rigged(limits).await;
    rigged.set(Trouble::Gated);
    let mut first = TcpStream::connect(fixture.http).await.unwrap();
    first
        .write_all(b"GET /api/v1/search HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    rigged.someone_waits().await;
    let answer = fixture.get("/api/v1/search").await;
    let (status, code, message) = answer.error();
    assert_eq!(
        (status, code.as_str()),
        (StatusCode::TOO_MANY_REQUESTS, "busy")
    );
    assert_eq!(
        message,
        "1 queries are running, which is the limit; try again later"
    );
}

#[tokio::test]
async fn stop_finishes_requests_in_flight_and_takes_no_new_ones() {
    let (mut fixture, rigged) = rigged(Limits::default()).await;
    fixture.append(six_entries()).await;
    rigged.set(Trouble::Gated);
    let mut socket = TcpStream::connect(fixture.http).await.unwrap();
    socket
        .write_all(b"GET /api/v1/search HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    rigged.someone_waits().await;
    fixture.stop.cancel();
    rigged.gate.add_permits(1);
    let mut answer = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("out of memory"));
    timeout(PATIENCE, fixture.stopped()).await.unwrap();
    assert!(TcpStream::connect(fixture.http).await.is_err());
}

#[tokio::test]
async fn request_that_outlasts_the_grace_is_cut_off() {
    let limits = Limits {
        stop_grace: Duration::from_millis(50),
        ..Limits::default()
    };
    let (mut fixture, rigged) = rigged(limits).await;
    rigged.set(Trouble::Gated);
    let mut socket = TcpStream::connect(fixture.http).await.unwrap();
    socket
        .write_all(b"GET /api/v1/search HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    rigged.someone_waits().await;
    timeout(PATIENCE, fixture.stopped()).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, socket.read_buf(&mut answer))
        .await
        .unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{answer:?}");
}

#[tokio::test]
async fn panic_in_a_handler_is_500_and_the_server_goes_on() {
    let (mut fixture, rigged) = rigged(Limits::default()).await;
    rigged.set(Trouble::Panic);
    let answer = fixture.get("/api/v1/search").await;
    assert_eq!(answer.error().0, StatusCode::INTERNAL_SERVER_ERROR);
    rigged.set(Trouble::None);
    assert_eq!(fixture.get("/api/v1/search").await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_not_http_does_not_disturb() {
    let mut fixture = Fixture::start().await;
    for garbage in [
        &b"\0\0\0\0\0\0"[..],
        b"PRI * HTTP/2.0\r\n\r\nnonsense",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        for address in [fixture.http, fixture.grpc] {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(garbage).await.unwrap();
            socket.shutdown().await.unwrap();
            let mut answer = Vec::new();
            // Whatever it says, it ends the connection.
            let _answer = timeout(PATIENCE, socket.read_to_end(&mut answer))
                .await
                .unwrap();
        }
    }
    assert_eq!(fixture.get("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_are_scraped_in_the_form_accepted() {
    let mut fixture = Fixture::start().await;
    let text = fixture.get("/metrics").await;
    assert_eq!(
        text.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert!(
        text.text
            .contains("tawny_build_info{version=\"0.0.0\"} 1\n"),
        "{}",
        text.text
    );

    let open = Request::get("/metrics")
        .header(
            "accept",
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        )
        .body(Empty::new())
        .unwrap();
    let open = fixture.ask(open).await;
    assert!(
        open.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(open.text.ends_with("# EOF\n"));
    assert!(
        open.text
            .contains("tawny_http_requests_total{route=\"/metrics\",code=\"2xx\"} 1"),
        "{}",
        open.text
    );
}
