//! Reaching a Coder over real sockets, and which certificates are trusted (CL-8).
//!
//! The certificates were made with openssl for these tests and are good for a hundred years; their keys guard nothing.

use std::{fs, path::Path, sync::Arc};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{CoderConfig, client::Roots};

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

/// A server that greets whoever gets through; its port.
async fn serve(tasks: &mut JoinSet<()>, with_tls: bool) -> u16 {
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
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if !with_tls {
                let mut stream = stream;
                drop(stream.write_all(b"hi").await);
            } else if let Ok(mut stream) = acceptor.accept(stream).await {
                drop(stream.write_all(b"hi").await);
                drop(stream.shutdown().await);
            }
        }
    });
    port
}

fn settings(url: &str, file: Option<&Path>, dirs: Option<&str>) -> Settings {
    let config = CoderConfig {
        url: url.to_owned(),
        ca_file: file.map_or_else(String::new, |file| file.display().to_string()),
        ca_dirs: dirs.unwrap_or_default().to_owned(),
        ..CoderConfig::default()
    };
    config.try_into().unwrap()
}

async fn greeting(settings: &Settings) -> Result<String, Error> {
    let mut io = Endpoint::open(settings)?.dial().await?;
    let mut text = String::new();
    io.read_to_string(&mut text).await.unwrap();
    Ok(text)
}

#[tokio::test]
async fn plain_http_needs_no_certificates() {
    let mut tasks = JoinSet::new();
    let port = serve(&mut tasks, false).await;
    let url = format!("http://127.0.0.1:{port}");
    let nowhere = Path::new("/nonexistent");
    assert_eq!(
        greeting(&settings(&url, Some(nowhere), None))
            .await
            .unwrap(),
        "hi"
    );
}

#[tokio::test]
async fn the_authority_of_a_file_or_a_directory_is_trusted_cl_8() {
    let mut tasks = JoinSet::new();
    let port = serve(&mut tasks, true).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    fs::write(&file, AUTHORITY).unwrap();
    fs::write(dir.path().join("note.txt"), "no certificate").unwrap();
    let empty = tempfile::tempdir().unwrap();
    let dirs = format!("{}:{}", empty.path().display(), dir.path().display());
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{port}");
        assert_eq!(
            greeting(&settings(&url, Some(&file), None)).await.unwrap(),
            "hi"
        );
        assert_eq!(
            greeting(&settings(&url, None, Some(&dirs))).await.unwrap(),
            "hi"
        );
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not_trusted_cl_8() {
    let mut tasks = JoinSet::new();
    let port = serve(&mut tasks, true).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    fs::write(&file, ANOTHER_AUTHORITY).unwrap();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let url = format!("https://localhost:{port}");
    let settings = settings(&url, Some(&file), empty.to_str());
    let error = greeting(&settings).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

#[test]
fn places_that_were_named_must_be_readable_and_hold_a_certificate_cl_8() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    fs::write(
        path.join("broken.pem"),
        "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let refusal = |roots: Roots| roots.load().unwrap_err().to_string();
    let none = Some(vec![]);
    for (name, reason) in [
        ("absent.pem", "No such file"),
        ("broken.pem", "cannot read certificates from"),
    ] {
        let roots = Roots {
            file: Some(path.join(name)),
            dirs: none.clone(),
        };
        assert!(refusal(roots).contains(reason), "{name}");
    }
    let absent = Roots {
        file: None,
        dirs: Some(vec![path.join("absent")]),
    };
    assert!(refusal(absent).contains("SSL_CERT_DIR"));
    fs::write(path.join("empty.pem"), "").unwrap();
    let empty = Roots {
        file: Some(path.join("empty.pem")),
        dirs: none,
    };
    assert!(refusal(empty).starts_with("no certificates of authorities found in"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}");
    let error = greeting(&settings(&url, None, None)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot reach Coder at 127.0.0.1:{port}: ")),
        "{text}"
    );
}

#[test]
fn a_coder_below_a_path_keeps_it() {
    let path = |url: &str| {
        let endpoint = Endpoint::open(&settings(url, None, None)).unwrap();
        let host = endpoint.authority().to_string();
        format!("{host} {}", endpoint.path("/api").unwrap())
    };
    assert_eq!(path("http://x"), "x /api");
    assert_eq!(path("http://x:80/"), "x /api");
    assert_eq!(path("http://x:3000/a/b/"), "x:3000 /a/b/api");
    assert_eq!(path("http://[::1]:3000"), "[::1]:3000 /api");
}
