//! Variables of the programs Tawny stands in for, and what each means here. This table is all there is to it.

use tawny_collect::detect;

use super::{
    Error, Warning,
    env::Env,
    keys::Key,
    layers::{Layers, Origin},
    value::Raw,
};

/// One variable that is not ours.
pub(crate) struct Alias {
    pub(crate) name: &'static str,
    pub(crate) meaning: Meaning,
}

pub(crate) enum Meaning {
    /// Another name of a key. Set beside it, or beside another alias, it must say the same.
    Of(&'static str, fn(&str) -> Result<String, Problem>),
    /// A variable others set for their own ends: taken where the key is given nowhere else in the environment.
    Fallback(&'static str, fn(&str) -> Option<String>),
    /// Changes nothing here; `Some` says why, for a warning.
    Ignored(fn(&str) -> Option<&'static str>),
    /// Asks for what Tawny cannot do; `Some` says what, and Tawny does not start.
    Refused(fn(&str) -> Option<&'static str>),
}

/// Why an alias's value cannot be taken.
pub(crate) enum Problem {
    Rule(&'static str),
    Runtime(detect::Error),
}

/// Every alias; `configuration.md` lists them beside their keys.
pub(crate) const ALIASES: &[Alias] = {
    use Meaning::{Fallback, Ignored, Of, Refused};
    const fn row(name: &'static str, meaning: Meaning) -> Alias {
        Alias { name, meaning }
    }
    &[
        // strixlog (SX-1, SX-11, SX-13, SX-30)
        row("STRIXLOG_ENV", Of("runtime", strixlog_env)),
        row("STRIXLOG_NAMESPACE", Of("collect.namespaces", same)),
        row("PORT", Of("http.listen", port)),
        row("HOSTNAME", Fallback("collect.self_pod", any)),
        // The downward API, as manifests commonly name its values
        row("NODE_NAME", Of("collect.node_name", same)),
        row("POD_NAME", Of("collect.self_pod", same)),
        row("POD_NAMESPACE", Of("collect.self_namespace", same)),
        row("POD_UID", Of("collect.self_uid", same)),
        // Vector
        row("VECTOR_SELF_NODE_NAME", Of("collect.node_name", same)),
        // kubectl, Docker and Podman
        row("KUBECONFIG", Fallback("kubernetes.kubeconfig", any)),
        row("DOCKER_HOST", Fallback("engine.docker_socket", unix_socket)),
        row(
            "CONTAINER_HOST",
            Fallback("engine.podman_socket", unix_socket),
        ),
        row("DOCKER_HOST", Ignored(remote_engine)),
        // The AWS command line
        row("AWS_ENDPOINT_URL_S3", Fallback("s3.endpoint", any)),
        row("AWS_ENDPOINT_URL", Fallback("s3.endpoint", any)),
        row("AWS_REGION", Fallback("s3.region", any)),
        row("AWS_DEFAULT_REGION", Fallback("s3.region", any)),
        row("AWS_ACCESS_KEY_ID", Fallback("s3.access_key_id", any)),
        row(
            "AWS_SECRET_ACCESS_KEY",
            Fallback("s3.secret_access_key", any),
        ),
        row("AWS_SESSION_TOKEN", Fallback("s3.session_token", any)),
        // coder-logstream-kube (CL-1 to CL-8)
        row("CODER_URL", Of("coder.url", same)),
        row("CODER_NAMESPACES", Of("coder.namespaces", same)),
        row("CODER_NAMESPACE", Of("coder.namespaces", same)),
        row("CODER_FIELD_SELECTOR", Of("coder.field_selector", same)),
        row("CODER_LABEL_SELECTOR", Of("coder.label_selector", same)),
        row("CODER_LOGSTREAM_METRICS_ADDR", Of("coder.metrics", same)),
        row("SSL_CERT_FILE", Fallback("coder.ca_file", any)),
        row("SSL_CERT_DIR", Fallback("coder.ca_dirs", any)),
        // kubelogs (KL-20 to KL-34)
        row("KUBELOGS_STORAGE_ADDR", Of("agent.server", same)),
        row("KUBELOGS_DB_PATH", Of("store.path", same)),
        row("KUBELOGS_MAX_STREAMS", Of("collect.max_streams", same)),
        row("KUBELOGS_BATCH_SIZE", Of("collect.batch_entries", same)),
        row("KUBELOGS_BATCH_TIMEOUT", Of("collect.batch_timeout", same)),
        row(
            "KUBELOGS_EXCLUDE_NS",
            Of("collect.exclude_namespaces", same),
        ),
        row("KUBELOGS_INCLUDE_NS", Of("collect.namespaces", same)),
        row("KUBELOGS_SHUTDOWN_TIMEOUT", Of("shutdown_timeout", same)),
        row(
            "KUBELOGS_STREAM_IDLE_TIMEOUT",
            Of("collect.idle_timeout", same),
        ),
        row("KUBELOGS_LISTEN_ADDR", Of("grpc.listen", same)),
        row("KUBELOGS_HTTP_ADDR", Of("http.listen", same)),
        row("KUBELOGS_HTTP_ENABLED", Of("http.enabled", same)),
        row("KUBELOGS_RETENTION_DAYS", Of("store.retention_age", days)),
        row("KUBELOGS_SINCE", Ignored(reads_all)),
        row("KUBELOGS_STREAM_BUFFER", Ignored(no_line_buffer)),
        row("KUBELOGS_AUTH_ENABLED", Refused(no_login)),
        row("KUBELOGS_SESSION_DURATION", Ignored(no_sessions)),
        row("KUBELOGS_SESSION_SECURE", Ignored(no_sessions)),
    ]
};

/// What aliases say of a key, as (variable, value).
pub(super) fn given(env: &Env, key: &Key) -> Result<Vec<(String, String)>, Error> {
    let mut given = Vec::new();
    for alias in ALIASES {
        let Meaning::Of(path, convert) = alias.meaning else {
            continue;
        };
        let Some(value) = env.get(alias.name).filter(|_| path == key.path) else {
            continue;
        };
        let value = convert(value).map_err(|problem| match problem {
            Problem::Runtime(error) => Error::Runtime(error),
            Problem::Rule(rule) => Error::Invalid {
                name: alias.name.to_owned(),
                value: value.to_owned(),
                rule: rule.to_owned(),
                origin: Origin::Env(alias.name.to_owned()),
            },
        })?;
        given.push((alias.name.to_owned(), value));
    }
    Ok(given)
}

/// The value a fallback has for a key that nothing else in the environment gives.
pub(super) fn fallback(env: &Env, path: &str) -> Option<(String, String)> {
    ALIASES.iter().find_map(|alias| match alias.meaning {
        Meaning::Fallback(of, convert) if of == path => {
            Some((alias.name.to_owned(), convert(env.get(alias.name)?)?))
        }
        _ => None,
    })
}

/// What is to be said about variables that set no key.
pub(super) fn without_key(env: &Env) -> Result<Vec<Warning>, Vec<Error>> {
    let mut warnings = Vec::new();
    let mut errors = Vec::new();
    for alias in ALIASES {
        let Some(value) = env.get(alias.name) else {
            continue;
        };
        let name = alias.name;
        match alias.meaning {
            Meaning::Ignored(why) => {
                warnings.extend(why(value).map(|why| Warning::NoEffect { name, why }));
            }
            Meaning::Refused(why) => errors.extend(why(value).map(|why| Error::Unsupported {
                name,
                value: value.to_owned(),
                why,
            })),
            Meaning::Of(..) | Meaning::Fallback(..) => {}
        }
    }
    if errors.is_empty() {
        Ok(warnings)
    } else {
        Err(errors)
    }
}

/// Defaults that come with the variables of another program, below the file.
///
/// kubelogs leaves `kube-system` out unless told otherwise (KL-27); strixlog collects its own namespace (SX-11).
pub(super) fn profiles(env: &Env, layers: &mut Layers) {
    let is_used = |prefix: &str| env.names().any(|name| name.starts_with(prefix));
    if is_used("KUBELOGS_") {
        layers.put(
            "collect.exclude_namespaces",
            Origin::Profile("because a KUBELOGS_ variable is set"),
            Raw::Text("kube-system".to_owned()),
        );
    }
    if let Some(namespace) = env.own_namespace.as_ref().filter(|_| is_used("STRIXLOG_")) {
        layers.put(
            "collect.namespaces",
            Origin::Profile("because a STRIXLOG_ variable is set"),
            Raw::Text(namespace.clone()),
        );
    }
}

fn same(value: &str) -> Result<String, Problem> {
    Ok(value.to_owned())
}

/// Only the two runtimes strixlog knows, in its words (SX-1).
fn strixlog_env(value: &str) -> Result<String, Problem> {
    match value {
        "docker" | "kubernetes" => Ok(value.to_owned()),
        _ => Err(Problem::Runtime(detect::Error::Unknown {
            setting: "STRIXLOG_ENV".to_owned(),
            value: value.to_owned(),
        })),
    }
}

/// A port alone meant all addresses (SX-30).
fn port(value: &str) -> Result<String, Problem> {
    value
        .parse::<u16>()
        .map(|port| format!(":{port}"))
        .map_err(|_| Problem::Rule("must be a port"))
}

fn days(value: &str) -> Result<String, Problem> {
    value
        .parse::<u32>()
        .map(|days| format!("{days}d"))
        .map_err(|_| Problem::Rule("must be a number of days, 0 for no limit"))
}

fn any(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn unix_socket(value: &str) -> Option<String> {
    value.strip_prefix("unix://").map(str::to_owned)
}

fn remote_engine(value: &str) -> Option<&'static str> {
    unix_socket(value)
        .is_none()
        .then_some("only engines behind a unix:// socket are read")
}

fn reads_all(_: &str) -> Option<&'static str> {
    Some(
        "a stream that was never read before is read from its first line, so that nothing is missed",
    )
}

fn no_line_buffer(_: &str) -> Option<&'static str> {
    Some("queues here are bounded by bytes, not lines")
}

fn no_login(value: &str) -> Option<&'static str> {
    let is_off = matches!(value.to_ascii_lowercase().as_str(), "false" | "f" | "0");
    (!is_off).then_some(
        "there is no login yet, and without one everyone who reaches the port may read; put an authenticating proxy in \
         front and unset it",
    )
}

fn no_sessions(_: &str) -> Option<&'static str> {
    Some("there is no login yet, so there are no sessions")
}

#[cfg(test)]
mod tests;
