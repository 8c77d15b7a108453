//! A connection to one API server, from a kubeconfig or from inside a pod.
//!
//! kube's own inference reads the environment; here all of it is handed in, so that one place decides where it comes from.

use std::{fmt, fs, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::version::Info;
use kube::{
    config::{KubeConfigOptions, Kubeconfig as KubeconfigFile, KubeconfigError},
    runtime::watcher,
};
use tokio::time::timeout;

use crate::Error;

/// How to find the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// From inside a pod, with its service account.
    InCluster(InCluster),
    Kubeconfig(Kubeconfig),
}

/// What a pod knows about its API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InCluster {
    /// `KUBERNETES_SERVICE_HOST`.
    pub host: String,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: u16,
    /// Directory with `token`, `ca.crt` and `namespace`; see [`SERVICE_ACCOUNT_DIR`].
    pub service_account: PathBuf,
}

/// Where the kubelet mounts a pod's service account.
pub const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Kubeconfig files and what to choose in them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kubeconfig {
    /// Merged as kubectl does: the first file to set a value wins; files that do not exist are skipped while one does.
    pub paths: Vec<PathBuf>,
    /// Instead of the current one.
    pub context: Option<String>,
    /// For clusters whose kubeconfig entry names no `proxy-url`.
    pub proxy: Option<Proxy>,
}

/// A proxy as `HTTPS_PROXY` and `NO_PROXY` give it. Never used for loopback addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxy {
    pub url: String,
    /// Comma-separated host names, domain suffixes, addresses, or `*`.
    pub except: String,
}

/// Longest wait for a connection to be set up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for the answer to one plain request; streams are not bound by it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// One cluster's API server and the credentials for it. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
    server: Arc<str>,
    credentials: Arc<str>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("server", &self.server)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads configuration and credentials. Sends nothing yet; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// `Reject` for anything wrong with the configuration.
    pub async fn open(connection: &Connection) -> Result<Self, Error> {
        let (mut config, credentials) = match connection {
            Connection::InCluster(pod) => (
                pod.config()?,
                format!("the service account in {}", pod.service_account.display()),
            ),
            Connection::Kubeconfig(kubeconfig) => kubeconfig.config().await?,
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Callers wait and retry themselves: they know when a late answer is worth more than a quick error.
        config.default_retry = false;
        let server: Arc<str> = config.cluster_url.to_string().trim_end_matches('/').into();
        // Two TLS providers may be linked in; an earlier choice by the process stands.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = kube::Client::try_from(config)
            .map_err(|error| Error::from_kube(error, &server, &credentials))?;
        Ok(Self {
            client,
            server,
            credentials: credentials.into(),
        })
    }

    /// Wraps a client made elsewhere; `server` and `credentials` are for messages.
    pub fn new(client: kube::Client, server: &str, credentials: &str) -> Self {
        Self {
            client,
            server: server.into(),
            credentials: credentials.into(),
        }
    }

    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// URL of the API server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Where the credentials come from, for messages.
    pub fn credentials(&self) -> &str {
        &self.credentials
    }

    /// The pod's own namespace, or that of the kubeconfig context.
    pub fn default_namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// Asks the server for its version: the cheapest proof that address, TLS and credentials work.
    ///
    /// # Errors
    /// Whatever stands in the way, told apart.
    pub async fn fetch_version(&self) -> Result<Info, Error> {
        self.within(self.client.apiserver_version()).await
    }

    /// Bounds one plain request in time and sorts out its error.
    ///
    /// # Errors
    /// `TimedOut`, or what the request failed with.
    pub async fn within<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        timeout(REQUEST_TIMEOUT, request)
            .await
            .map_err(|_| Error::TimedOut {
                server: self.server.to_string(),
                waited: REQUEST_TIMEOUT,
            })?
            .map_err(|error| self.error(error))
    }

    /// Sorts out the error of a request to this cluster.
    pub fn error(&self, error: kube::Error) -> Error {
        Error::from_kube(error, &self.server, &self.credentials)
    }

    /// Sorts out what stands in a watch's way.
    pub fn watch_error(&self, error: watcher::Error) -> Error {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => self.error(error),
            watcher::Error::WatchError(status) => {
                Error::from_status(*status, &self.server, &self.credentials)
            }
            watcher::Error::NoResourceVersion => Error::Malformed {
                server: self.server.to_string(),
                reason: "a list or event without a resource version".to_owned(),
            },
        }
    }
}

impl InCluster {
    fn config(&self) -> Result<kube::Config, Error> {
        let read = |name: &str| {
            let path = self.service_account.join(name);
            fs::read_to_string(&path).map_err(|error| Error::ServiceAccount {
                reason: format!("{}: {error}", path.display()),
            })
        };
        let refuse = |reason: String| Error::ServiceAccount { reason };
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => self.host.clone(),
        };
        let uri = format!("https://{host}:{}", self.port);
        let uri = uri
            .parse()
            .map_err(|error| refuse(format!("the server address `{uri}` is no URL: {error}")))?;
        let mut config = kube::Config::new(uri);
        if read("token")?.trim().is_empty() {
            return Err(refuse("the token is empty".to_owned()));
        }
        let ca_file = self.service_account.join("ca.crt");
        read("ca.crt")?;
        config.default_namespace = read("namespace")?.trim().to_owned();
        // Both files are read again about once a minute: the kubelet rotates them.
        config.auth_info.token_file =
            Some(self.service_account.join("token").display().to_string());
        config.root_cert_file = Some(ca_file);
        // Present but empty, as the file decides: without it kube wants the system's roots, which a bare image lacks.
        config.root_cert = Some(Vec::new());
        Ok(config)
    }
}

impl Kubeconfig {
    /// The context names of the files and which is current; for messages and completion.
    ///
    /// # Errors
    /// `Reject` when no file is there or one cannot be read.
    pub fn load_contexts(&self) -> Result<(Vec<String>, Option<String>), Error> {
        let file = self.load()?;
        let names = file
            .contexts
            .into_iter()
            .map(|context| context.name)
            .collect();
        Ok((names, file.current_context.filter(|name| !name.is_empty())))
    }

    fn load(&self) -> Result<KubeconfigFile, Error> {
        let present: Vec<_> = self.paths.iter().filter(|path| path.exists()).collect();
        if present.is_empty() {
            return Err(Error::KubeconfigMissing {
                paths: self.paths.clone(),
            });
        }
        present
            .into_iter()
            .try_fold(KubeconfigFile::default(), |merged, path| {
                merged.merge(KubeconfigFile::read_from(path)?)
            })
            .map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &KubeconfigError) -> Error {
        Error::KubeconfigBroken {
            paths: self.paths.clone(),
            reason: error.to_string(),
        }
    }

    async fn config(&self) -> Result<(kube::Config, String), Error> {
        let file = self.load()?;
        let known = || {
            file.contexts
                .iter()
                .map(|context| context.name.clone())
                .collect()
        };
        let name = match self
            .context
            .clone()
            .or_else(|| file.current_context.clone())
        {
            Some(name) if !name.is_empty() => name,
            _ => {
                return Err(Error::NoCurrentContext {
                    paths: self.paths.clone(),
                    known: known(),
                });
            }
        };
        let Some(context) = file
            .contexts
            .iter()
            .find(|context| context.name == name)
            .and_then(|context| context.context.as_ref())
        else {
            return Err(Error::UnknownContext {
                paths: self.paths.clone(),
                context: name,
                known: known(),
            });
        };
        let proxy_url = file
            .clusters
            .iter()
            .find(|cluster| cluster.name == context.cluster)
            .and_then(|cluster| cluster.cluster.as_ref()?.proxy_url.clone())
            .filter(|url| !url.is_empty());
        let options = KubeConfigOptions {
            context: Some(name.clone()),
            ..KubeConfigOptions::default()
        };
        let mut config = kube::Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(|error| self.broken(&error))?;
        config.proxy_url = self.proxy_for(&config.cluster_url, proxy_url)?;
        Ok((config, format!("context `{name}`")))
    }

    /// Overrides what kube found in the environment.
    fn proxy_for(
        &self,
        server: &http::Uri,
        of_cluster: Option<String>,
    ) -> Result<Option<http::Uri>, Error> {
        let host = server.host().unwrap_or_default();
        let url = match (&of_cluster, &self.proxy) {
            _ if is_loopback(host) => return Ok(None),
            (Some(url), _) => url,
            (None, Some(proxy)) if !proxy.url.is_empty() && !proxy.spares(host) => &proxy.url,
            (None, _) => return Ok(None),
        };
        url.parse()
            .map(Some)
            .map_err(|error| Error::KubeconfigBroken {
                paths: self.paths.clone(),
                reason: format!("the proxy `{url}` is no URL: {error}"),
            })
    }
}

impl Proxy {
    /// Whether `host` is to be reached directly.
    fn spares(&self, host: &str) -> bool {
        self.except.split(',').map(str::trim).any(|except| {
            let domain = except.trim_start_matches('.');
            except == "*"
                || (!domain.is_empty()
                    && (host.eq_ignore_ascii_case(domain)
                        || host
                            .to_ascii_lowercase()
                            .strip_suffix(&domain.to_ascii_lowercase())
                            .is_some_and(|front| front.ends_with('.'))))
        })
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// A stand-in for the API server: a function from request to response.
#[cfg(test)]
pub(crate) mod testing {
    use std::io;

    use bytes::Bytes;
    use http::{Request, Response, Uri};
    use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
    use kube::client::Body;

    use super::Cluster;

    /// A request with its body read.
    #[derive(Debug)]
    pub(crate) struct Asked {
        pub(crate) uri: Uri,
        pub(crate) body: Bytes,
    }

    impl Asked {
        /// The value of a query parameter, percent-decoding `%3D`-like escapes only.
        pub(crate) fn query(&self, name: &str) -> Option<String> {
            let query = self.uri.query()?;
            query.split('&').find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                (key == name).then(|| {
                    value
                        .replace("%3D", "=")
                        .replace("%2C", ",")
                        .replace("%3A", ":")
                        .replace("%21", "!")
                })
            })
        }
    }

    pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

    /// A cluster whose every request is answered by `answer`.
    pub(crate) fn fake<F, Fut>(answer: F) -> Cluster
    where
        F: Fn(Asked) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = answer.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let asked = Asked {
                    uri: head.uri,
                    body,
                };
                Ok::<_, kube::Error>(answer(asked).await)
            }
        });
        Cluster::new(
            kube::Client::new(service, "default"),
            "https://fake",
            "context `test`",
        )
    }

    pub(crate) fn json_body(code: u16, value: &serde_json::Value) -> Answer {
        text_body(code, value.to_string())
    }

    pub(crate) fn text_body(code: u16, text: impl Into<Bytes>) -> Answer {
        answer(code, Full::new(text.into()).map_err(|never| match never {}))
    }

    pub(crate) fn answer(
        code: u16,
        body: impl hyper::body::Body<Data = Bytes, Error = io::Error> + Send + 'static,
    ) -> Answer {
        Response::builder()
            .status(code)
            .body(body.boxed_unsync())
            .expect("a status and a body make a response")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TWO_CONTEXTS: &str = r#"
apiVersion: v1
kind: Config
current-context: near
clusters:
- {name: near, cluster: {server: "https://127.0.0.1:6443", proxy-url: "http://proxy:1"}}
- {name: far, cluster: {server: "https://k8s.example.org"}}
users:
- {name: u, user: {token: t}}
contexts:
- {name: near, context: {cluster: near, user: u, namespace: shop}}
- {name: far, context: {cluster: far, user: u}}
"#;

    fn kubeconfig(dir: &Path, text: &str) -> Kubeconfig {
        let path = dir.join("config");
        fs::write(&path, text).unwrap();
        Kubeconfig {
            paths: vec![dir.join("absent"), path],
            ..Kubeconfig::default()
        }
    }

    async fn refusal(kubeconfig: Kubeconfig) -> String {
        Cluster::open(&Connection::Kubeconfig(kubeconfig))
            .await
            .unwrap_err()
            .to_string()
    }

    #[tokio::test]
    async fn kubeconfig_of_a_list_is_found_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = kubeconfig(dir.path(), TWO_CONTEXTS);
        let cluster = Cluster::open(&Connection::Kubeconfig(kubeconfig.clone()))
            .await
            .unwrap();
        assert_eq!(cluster.server(), "https://127.0.0.1:6443");
        assert_eq!(cluster.default_namespace(), "shop");
        assert_eq!(
            kubeconfig.load_contexts().unwrap(),
            (
                vec!["near".to_owned(), "far".to_owned()],
                Some("near".to_owned())
            )
        );
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_kubeconfig_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let absent = Kubeconfig {
            paths: vec![dir.path().join("none")],
            ..Kubeconfig::default()
        };
        assert!(refusal(absent).await.contains("--kubeconfig or KUBECONFIG"));
        let unknown = Kubeconfig {
            context: Some("prod".to_owned()),
            ..kubeconfig(dir.path(), TWO_CONTEXTS)
        };
        assert!(
            refusal(unknown)
                .await
                .ends_with("has no context `prod`; it has: near, far")
        );
        for (text, expected) in [
            (
                "clusters: {",
                "cannot be used: failed to parse kubeconfig YAML",
            ),
            ("", "no current context; choose one with --context: none"),
            (
                "current-context: a\ncontexts: [{name: a, context: {cluster: gone}}]",
                "failed to load the cluster of context: gone",
            ),
            (
                "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n\
                 clusters: [{name: c, cluster: {server: 'https://h', certificate-authority: /nowhere/ca.crt}}]",
                "/nowhere/ca.crt",
            ),
        ] {
            let error = refusal(kubeconfig(dir.path(), text)).await;
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn proxies_are_off_for_loopback_and_excepted_hosts() {
        let with_proxy = Kubeconfig {
            proxy: Some(Proxy {
                url: "http://proxy:3128".to_owned(),
                except: "localhost, .example.org,10.0.0.1".to_owned(),
            }),
            ..Kubeconfig::default()
        };
        for (server, of_cluster, expected) in [
            ("https://127.0.0.1:6443", Some("http://p:1"), None),
            ("https://localhost:6443", None, None),
            ("https://[::1]:6443", None, None),
            ("https://k8s.example.org", None, None),
            ("https://example.org", None, None),
            ("https://notexample.org", None, Some("http://proxy:3128/")),
            ("https://10.0.0.1", None, None),
            (
                "https://k8s.example.org",
                Some("http://p:1"),
                Some("http://p:1/"),
            ),
        ] {
            let uri = with_proxy
                .proxy_for(&server.parse().unwrap(), of_cluster.map(str::to_owned))
                .unwrap();
            assert_eq!(
                uri.map(|uri| uri.to_string()).as_deref(),
                expected,
                "{server}"
            );
        }
    }

    #[tokio::test]
    async fn service_account_without_token_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let pod = InCluster {
            host: "fd00::1".to_owned(),
            port: 443,
            service_account: dir.path().to_owned(),
        };
        let error = Cluster::open(&Connection::InCluster(pod))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("/token: No such file"),
            "{error}"
        );
    }

    #[test]
    fn pod_needs_no_certificates_but_its_service_accounts() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("token", "t"), ("ca.crt", ""), ("namespace", "shop\n")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let pod = InCluster {
            host: "10.0.0.1".to_owned(),
            port: 443,
            service_account: dir.path().to_owned(),
        };
        let config = pod.config().unwrap();
        assert_eq!(config.root_cert_file, Some(dir.path().join("ca.crt")));
        assert_eq!(config.root_cert, Some(Vec::new()));
        assert_eq!(config.default_namespace, "shop");
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let dir = tempfile::tempdir().unwrap();
        let text = TWO_CONTEXTS.replace("127.0.0.1:6443", &address.to_string());
        let kubeconfig = kubeconfig(dir.path(), &text);
        let cluster = Cluster::open(&Connection::Kubeconfig(kubeconfig))
            .await
            .unwrap();
        let error = cluster.fetch_version().await.unwrap_err();
        assert_eq!(error.kind(), "unreachable");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
