//! What can go wrong between Tawny and an API server, each with what the user can do about it.

use std::{error::Error as StdError, fmt, io, path::PathBuf, time::Duration};

use kube::core::Status;
use tawny_model::Remedy;

use crate::access::Access;

type Source = Box<dyn StdError + Send + Sync>;

/// Talking to a Kubernetes API server failed. The text of each variant ends with the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("no kubeconfig: {} not found; name one with --kubeconfig or KUBECONFIG", list(.paths))]
    KubeconfigMissing { paths: Vec<PathBuf> },
    #[error("kubeconfig {} cannot be used: {reason}", list(.paths))]
    KubeconfigBroken { paths: Vec<PathBuf>, reason: String },
    #[error("kubeconfig {} has no context `{context}`; it has: {}", list(.paths), or_none(.known))]
    UnknownContext {
        paths: Vec<PathBuf>,
        context: String,
        known: Vec<String>,
    },
    #[error(
        "kubeconfig {} has no current context; choose one with --context: {}", list(.paths), or_none(.known)
    )]
    NoCurrentContext {
        paths: Vec<PathBuf>,
        known: Vec<String>,
    },
    #[error(
        "cannot use the pod's service account: {reason}; mount a token (automountServiceAccountToken) or give a kubeconfig"
    )]
    ServiceAccount { reason: String },
    #[error(
        "cannot reach the API server {server}: {reason}; check the address, the network and that the server runs"
    )]
    Unreachable {
        server: String,
        reason: String,
        #[source]
        source: Source,
    },
    #[error("no secure connection to {server}: {reason}")]
    Tls {
        server: String,
        reason: String,
        #[source]
        source: Source,
    },
    #[error(
        "cannot get credentials from {credentials}: {reason}; log in again with the tool that made them"
    )]
    Credentials { credentials: String, reason: String },
    #[error(
        "{server} does not accept the credentials of {credentials} (401): they have expired, were revoked or belong to another cluster; log in again or renew the token or client certificate"
    )]
    Unauthorized { server: String, credentials: String },
    #[error("not allowed (403): {user} may not {access}; {}", .access.rule_hint())]
    Forbidden { user: String, access: Box<Access> },
    #[error("not allowed (403): {message}")]
    Refused { message: String },
    #[error("not found (404): {message}")]
    NotFound { message: String },
    #[error("the resource version is too old (410); list again")]
    Gone,
    #[error("the API server asks to slow down (429): {message}")]
    Throttled {
        message: String,
        retry_after: Option<Duration>,
    },
    #[error("the API server failed ({code}): {message}")]
    Server {
        code: u16,
        message: String,
        retry_after: Option<Duration>,
    },
    #[error("the API server refused the request ({code}): {message}")]
    BadRequest { code: u16, message: String },
    #[error("the answer of {server} is not what a Kubernetes API server says: {reason}")]
    Malformed { server: String, reason: String },
    #[error("the connection to {server} broke: {source}")]
    Interrupted {
        server: String,
        #[source]
        source: io::Error,
    },
    #[error("{server} did not answer within {waited:?}")]
    TimedOut { server: String, waited: Duration },
}

impl Error {
    /// The caller's next step; exhaustive, so a new variant must choose.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. }
            | Self::Gone
            | Self::Throttled { .. }
            | Self::Server { .. }
            | Self::Interrupted { .. }
            | Self::TimedOut { .. } => Remedy::Retry,
            Self::KubeconfigMissing { .. }
            | Self::KubeconfigBroken { .. }
            | Self::UnknownContext { .. }
            | Self::NoCurrentContext { .. }
            | Self::ServiceAccount { .. }
            | Self::Tls { .. }
            | Self::Credentials { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Refused { .. }
            | Self::NotFound { .. }
            | Self::BadRequest { .. }
            | Self::Malformed { .. } => Remedy::Reject,
        }
    }

    /// How long the server asked to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } | Self::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A short name for metric labels and for telling a repeated failure from a new one.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::KubeconfigMissing { .. }
            | Self::KubeconfigBroken { .. }
            | Self::UnknownContext { .. }
            | Self::NoCurrentContext { .. }
            | Self::ServiceAccount { .. } => "config",
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { .. } => "tls",
            Self::Credentials { .. } | Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden { .. } | Self::Refused { .. } => "forbidden",
            Self::NotFound { .. } => "not_found",
            Self::Gone => "gone",
            Self::Throttled { .. } => "throttled",
            Self::Server { .. } => "server",
            Self::BadRequest { .. } => "bad_request",
            Self::Malformed { .. } => "malformed",
            Self::Interrupted { .. } => "interrupted",
            Self::TimedOut { .. } => "timed_out",
        }
    }

    /// Sorts out an answer of the server that is no success.
    pub(crate) fn from_status(status: Status, server: &str, credentials: &str) -> Self {
        let retry_after = status
            .details
            .as_ref()
            .map(|details| details.retry_after_seconds)
            .filter(|secs| *secs > 0)
            .map(|secs| Duration::from_secs(u64::from(secs)));
        let Status { code, message, .. } = status;
        match code {
            401 => Self::Unauthorized {
                server: server.to_owned(),
                credentials: credentials.to_owned(),
            },
            403 => match Access::from_forbidden(&message) {
                Some((user, access)) => Self::Forbidden {
                    user,
                    access: Box::new(access),
                },
                None => Self::Refused { message },
            },
            404 => Self::NotFound { message },
            410 => Self::Gone,
            429 => Self::Throttled {
                message,
                retry_after,
            },
            500.. => Self::Server {
                code,
                message,
                retry_after,
            },
            _ => Self::BadRequest { code, message },
        }
    }

    pub(crate) fn from_kube(error: kube::Error, server: &str, credentials: &str) -> Self {
        match error {
            kube::Error::Api(status) => Self::from_status(*status, server, credentials),
            kube::Error::Auth(error) => Self::Credentials {
                credentials: credentials.to_owned(),
                reason: error.to_string(),
            },
            kube::Error::SerdeError(error) => Self::Malformed {
                server: server.to_owned(),
                reason: error.to_string(),
            },
            kube::Error::FromUtf8(error) => Self::Malformed {
                server: server.to_owned(),
                reason: error.to_string(),
            },
            kube::Error::ReadEvents(source) => Self::Interrupted {
                server: server.to_owned(),
                source,
            },
            other => Self::from_transport(Box::new(other), server, credentials),
        }
    }

    /// Looks through the causes of a failed exchange for the one the user can do something about.
    fn from_transport(source: Source, server: &str, credentials: &str) -> Self {
        let server = server.to_owned();
        let mut reason = String::new();
        let mut next: Option<&(dyn StdError + 'static)> = Some(source.as_ref());
        while let Some(cause) = next {
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                let reason = tls_reason(tls);
                return Self::Tls {
                    server,
                    reason,
                    source,
                };
            }
            if let Some(auth) = cause.downcast_ref::<kube::client::AuthError>() {
                return Self::Credentials {
                    credentials: credentials.to_owned(),
                    reason: auth.to_string(),
                };
            }
            reason = cause.to_string();
            next = cause_of(cause);
        }
        Self::Unreachable {
            server,
            reason,
            source,
        }
    }
}

/// The cause of an error; also the one an [`io::Error`] wraps and does not name as its source.
fn cause_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn tls_reason(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Bad};
    let advice = match error {
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the server's certificate has expired; renew it, and check this machine's clock"
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "the server's certificate is not valid yet; check this machine's clock"
        }
        rustls::Error::InvalidCertificate(
            Bad::NotValidForName | Bad::NotValidForNameContext { .. },
        ) => {
            "the server's certificate is for another name; use the name it was issued for or set tls-server-name"
        }
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "the server's certificate is not signed by the trusted authority; check certificate-authority in the kubeconfig"
        }
        rustls::Error::AlertReceived(Alert::CertificateExpired) => {
            "the client certificate has expired; renew it"
        }
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::CertificateUnknown
            | Alert::AccessDenied,
        ) => "the server does not trust the client certificate; is it for this cluster?",
        rustls::Error::InvalidMessage(_) => {
            "what answers there does not speak TLS; check scheme and port of the server address"
        }
        _ => return error.to_string(),
    };
    format!("{error}: {advice}")
}

fn list(paths: &[PathBuf]) -> impl fmt::Display {
    let texts: Vec<_> = paths
        .iter()
        .map(|path| format!("`{}`", path.display()))
        .collect();
    texts.join(", ")
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Error {
        Error::from_status(
            Status::failure(message, "").with_code(code),
            "https://s",
            "context `c`",
        )
    }

    #[test]
    fn answers_of_the_server_become_errors_that_say_what_to_do() {
        for (code, kind, remedy, text) in [
            (401, "unauthorized", Remedy::Reject, "log in again"),
            (404, "not_found", Remedy::Reject, "m"),
            (410, "gone", Remedy::Retry, "list again"),
            (422, "bad_request", Remedy::Reject, "(422): m"),
            (429, "throttled", Remedy::Retry, "slow down"),
            (500, "server", Remedy::Retry, "(500): m"),
            (503, "server", Remedy::Retry, "(503): m"),
        ] {
            let error = status(code, "m");
            assert_eq!((error.kind(), error.remedy()), (kind, remedy), "{code}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn forbidden_names_verb_resource_namespace_and_the_rule() {
        let error = status(
            403,
            r#"pods "x" is forbidden: User "system:serviceaccount:shop:tawny" cannot get resource "pods/log" in API group "" in the namespace "shop""#,
        );
        assert_eq!(
            error.to_string(),
            "not allowed (403): system:serviceaccount:shop:tawny may not get pods/log in namespace shop; \
             add to a Role in namespace shop that is bound to it: {apiGroups: [\"\"], resources: [\"pods/log\"], verbs: [\"get\"]}"
        );
    }

    #[test]
    fn retry_after_is_kept() {
        let mut status = Status::failure("slow", "TooManyRequests").with_code(429);
        status.details = Some(serde_json::from_str(r#"{"retryAfterSeconds": 7}"#).unwrap());
        let error = Error::from_status(status, "s", "c");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_tls_error_inside_an_io_error_is_found() {
        let inner = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = kube::Error::Service(Box::new(io::Error::other(inner)));
        let error = Error::from_kube(error, "https://s", "c");
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
        assert!(
            error.to_string().contains("certificate-authority"),
            "{error}"
        );
    }
}
