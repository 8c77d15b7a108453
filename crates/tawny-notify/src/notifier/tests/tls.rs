//! HTTPS over real sockets: who is trusted, and what a name that is not there looks like.
//!
//! The certificates were made with openssl for these tests and are good for a hundred years; their keys guard nothing.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBmjCCAT+gAwIBAgIUQOSf6LuqmWaQduJWLeN6fqBIoX0wCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOVGVzdCBhdXRob3JpdHkwIBcNMjYxMTIxMTgwOTMzWhgPMjEy
NjEwMjgxODA5MzNaMBkxFzAVBgNVBAMMDlRlc3QgYXV0aG9yaXR5MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAERW+vh0Vw+lvts7+eRIma6rj+rQJPYS/ES/RKIH6X
QrX20awC/n/tSNyGOpdqUzlULNRXrS9pNMTzvOCs1cMoMqNjMGEwHQYDVR0OBBYE
FOYie3m+/yr3naTrFLKZTuzuF0YoMB8GA1UdIwQYMBaAFOYie3m+/yr3naTrFLKZ
TuzuF0YoMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgIEMAoGCCqGSM49
BAMCA0kAMEYCIQDRfuc0ZQpnvhKSaYMKZbmDgkWZ3vglDMaz93VtKhlqcwIhANiy
lA8ZcSvMAG2RPwqkH/JzFJtiA300KKbHBY8x24cC
-----END CERTIFICATE-----
";

const ANOTHER_AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBjzCCATWgAwIBAgIUVxVjfWWVRIU2abUjXX7gtmn2IscwCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRQW5vdGhlciBhdXRob3JpdHkwIBcNMjYxMTIxMTgwOTMzWhgP
MjEyNjEwMjgxODA5MzNaMBwxGjAYBgNVBAMMEUFub3RoZXIgYXV0aG9yaXR5MFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEJ+H111Thz6KW4QyqcuX7mYTtAvyee9bb
vObeP5x2zkJZni/VoY/sTVBIgp7rdrsAHJ7UuZtAv2Pk+Sl9pUplmaNTMFEwHQYD
VR0OBBYEFMtXan/F/l5v/o63cBNTaBkCUB+VMB8GA1UdIwQYMBaAFMtXan/F/l5v
/o63cBNTaBkCUB+VMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIh
AL6izMZeZUV/MsFXqmMVV+GG5/BTaswfNYlYVpENpTmVAiArMdb7dDcMZdruVId2
r4od0kNjhfDRESZnQd4RZoi31A==
-----END CERTIFICATE-----
";

/// Of `localhost` and 127.0.0.1, signed by [`AUTHORITY`].
const SERVER: &str = "-----BEGIN CERTIFICATE-----
MIIBrzCCAVWgAwIBAgIUPSrupa75v07PJft1VTSTSdfEnwIwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOVGVzdCBhdXRob3JpdHkwIBcNMjYxMTIxMTgwOTMzWhgPMjEy
NjEwMjgxODA5MzNaMBQxEjAQBgNVBAMMCWxvY2FsaG9zdDBZMBMGByqGSM49AgEG
CCqGSM49AwEHA0IABB8sOKECKq3Zmq0fNndJj2fM1Q4o4WAQwZ1XjAHOnqhgX8ow
Ka5feLPupxVCdL8Flac7pLRCJ8Ih7wuytQWdIm+jfjB8MBoGA1UdEQQTMBGCCWxv
Y2FsaG9zdIcEfwAAATAJBgNVHRMEAjAAMBMGA1UdJQQMMAoGCCsGAQUFBwMBMB0G
A1UdDgQWBBSK7c3NVoPYpBtYGTv//G39eK2voTAfBgNVHSMEGDAWgBTmInt5vv8q
952k6xSymU7s7hdGKDAKBggqhkjOPQQDAgNIADBFAiAWBRouLq7gbp8IehnK381n
vSTi4gHqVlmfIOQfPfL7ngIhAOUKutgiP/OCzuOxlGWcKuLISgeAJ8MjbLyf5kiK
twsb
-----END CERTIFICATE-----
";

const SERVER_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg6rhOQnl5Njp2B36G
hU2JmxbKH5ZL9qSs3+5KT6LczHChRANCAAQfLDihAiqt2ZqtHzZ3SY9nzNUOKOFg
EMGdV4wBzp6oYF/KMCmuX3iz7qcVQnS/BZWnO6S0QifCIe8LsrUFnSJv
-----END PRIVATE KEY-----
";

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    roots
}

/// A service over TLS on a port of its own.
async fn listen(tasks: &mut JoinSet<()>, services: &Services) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let chain = vec![CertificateDer::from_pem_slice(SERVER.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let services = services.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                services.serve(stream).await;
            }
        }
    });
    port
}

async fn try_out(url: &str, roots: RootCertStore) -> Result<(), Error> {
    let yaml = format!(
        "receivers: [{{name: a, webhook: {{url: \"{url}\", token: sesame}}}}]\nroutes: [{{receiver: a}}]"
    );
    let notifier = Notifier::new(
        &settings(&yaml),
        roots,
        Box::new(tokio::io::sink()),
        Arc::new(PausedClock::new(STARTED)),
        NotifyMetrics::default(),
    );
    notifier.notify_once("a", &notice("x", Kind::Opened)).await
}

#[tokio::test]
async fn a_service_is_trusted_by_its_authority_and_gets_the_message() {
    let services = Services::start(|_| Answer::Fine);
    let mut tasks = JoinSet::new();
    let port = listen(&mut tasks, &services).await;
    for host in ["localhost", "127.0.0.1"] {
        try_out(&format!("https://{host}:{port}/in"), roots(AUTHORITY))
            .await
            .unwrap();
        assert_eq!(
            services.asked(host)[0].headers["authorization"],
            "Bearer sesame"
        );
    }
}

#[tokio::test]
async fn a_service_of_another_authority_gets_nothing() {
    let services = Services::start(|_| Answer::Fine);
    let mut tasks = JoinSet::new();
    let port = listen(&mut tasks, &services).await;
    let url = format!("https://localhost:{port}/in");
    let error = try_out(&url, roots(ANOTHER_AUTHORITY)).await.unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert!(services.asked("localhost").is_empty());
    // Nor does one that speaks TLS where none was asked for.
    let error = try_out(&format!("http://localhost:{port}/"), roots(AUTHORITY))
        .await
        .unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry);
    assert!(services.asked("localhost").is_empty());
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = try_out(
        &format!("http://127.0.0.1:{port}/secret"),
        RootCertStore::empty(),
    )
    .await
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot reach 127.0.0.1:{port}: ")),
        "{text}"
    );
    assert!(!text.contains("secret"));
}
