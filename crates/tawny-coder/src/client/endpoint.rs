//! One Coder deployment: where its interface is and how a connection to it is made.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::uri::{Authority, PathAndQuery};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::Url;

use crate::{Error, Settings};

/// Longest wait for a connection to be set up, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A two-way stream of bytes.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type BoxedIo = Box<dyn Io>;

pub(crate) type DialFuture<'a> = Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send + 'a>>;

/// Makes connections; tests make theirs within the process.
pub(crate) trait Dial: fmt::Debug + Send + Sync + 'static {
    fn dial(&self) -> DialFuture<'_>;
}

/// A Coder deployment. Cheap to clone; clones share what was learned about it.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Host and port as the `Host` header names them.
    authority: Authority,
    /// What comes before `/api`, for a Coder that shares its host.
    base: String,
    dial: Box<dyn Dial>,
    prefers_rpc: AtomicBool,
}

impl Endpoint {
    /// Reads certificates where the URL asks for them. Sends nothing yet.
    ///
    /// # Errors
    /// `Reject` when the URL names no host or the certificates cannot be read.
    pub(crate) fn open(settings: &Settings) -> Result<Self, Error> {
        let url = &settings.url;
        let broken = |reason: &str| Error::UrlBroken {
            got: url.to_string(),
            reason: reason.to_owned(),
        };
        let host = url.host_str().ok_or_else(|| broken("it names no host"))?;
        let port = url
            .port_or_known_default()
            .ok_or_else(|| broken("it names no port"))?;
        let bare_host = host.trim_matches(['[', ']']).to_owned();
        let tls = if url.scheme() == "https" {
            let name = ServerName::try_from(bare_host.clone())
                .map_err(|_| broken("its host can have no certificate"))?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring speaks the default versions of TLS")
                .with_root_certificates(settings.roots.load()?)
                .with_no_client_auth();
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        let network = Network {
            host: bare_host,
            port,
            tls,
        };
        Self::with_dial(url, Box::new(network))
    }

    pub(crate) fn with_dial(url: &Url, dial: Box<dyn Dial>) -> Result<Self, Error> {
        let authority = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let authority = authority.parse().map_err(|_| Error::UrlBroken {
            got: url.to_string(),
            reason: "its host cannot stand in a header".to_owned(),
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                authority,
                base: url.path().trim_end_matches('/').to_owned(),
                dial,
                prefers_rpc: AtomicBool::new(false),
            }),
        })
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.shared.authority
    }

    /// `path` of the interface, below whatever the URL has.
    pub(crate) fn path(&self, path: &str) -> Result<PathAndQuery, Error> {
        let path = format!("{}{path}", self.shared.base);
        path.parse().map_err(|_| Error::UrlBroken {
            got: path,
            reason: "it is no path".to_owned(),
        })
    }

    pub(crate) async fn dial(&self) -> Result<BoxedIo, Error> {
        let source = match timeout(CONNECT_TIMEOUT, self.shared.dial.dial()).await {
            Ok(Ok(io)) => return Ok(io),
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {CONNECT_TIMEOUT:?}"),
            ),
        };
        Err(Error::Unreachable {
            server: self.shared.authority.to_string(),
            source,
        })
    }

    /// Whether lines go by the RPC; by HTTP at first.
    pub(crate) fn prefers_rpc(&self) -> bool {
        self.shared.prefers_rpc.load(Ordering::Relaxed)
    }

    /// This deployment lacks one way, so every agent takes the other from now on.
    pub(crate) fn prefer_rpc(&self, is_preferred: bool) {
        (self.shared.prefers_rpc).store(is_preferred, Ordering::Relaxed);
    }
}

/// Over TCP, with TLS for `https`.
struct Network {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Dial for Network {
    fn dial(&self) -> DialFuture<'_> {
        Box::pin(async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.set_nodelay(true)?;
            Ok(match &self.tls {
                Some((connector, name)) => {
                    Box::new(connector.connect(name.clone(), stream).await?) as BoxedIo
                }
                None => Box::new(stream),
            })
        })
    }
}

#[cfg(test)]
mod tests;
