//! How a connection to a service is made: over TCP, with TLS for `https`; tests make theirs within the process.

use std::{fmt, io, pin::Pin, sync::Arc};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use url::Url;

/// A two-way stream of bytes.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type BoxedIo = Box<dyn Io>;

pub(crate) type DialFuture<'a> = Pin<Box<dyn Future<Output = io::Result<BoxedIo>> + Send + 'a>>;

pub(crate) trait Dial: fmt::Debug + Send + Sync + 'static {
    fn dial<'a>(&'a self, url: &'a Url) -> DialFuture<'a>;
}

/// The network, and who may vouch for the certificates of services.
pub(crate) struct Network {
    tls: TlsConnector,
}

impl Network {
    pub(crate) fn new(roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            tls: TlsConnector::from(Arc::new(config)),
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Dial for Network {
    fn dial<'a>(&'a self, url: &'a Url) -> DialFuture<'a> {
        Box::pin(async move {
            let unfit = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
            let host = url
                .host_str()
                .ok_or_else(|| unfit("the URL names no host"))?;
            let host = host.trim_matches(['[', ']']);
            let port =
                (url.port_or_known_default()).ok_or_else(|| unfit("the URL names no port"))?;
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            if url.scheme() != "https" {
                return Ok(Box::new(stream) as BoxedIo);
            }
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| unfit("its host can have no certificate"))?;
            Ok(Box::new(self.tls.connect(name, stream).await?))
        })
    }
}
