//! Configuration: a YAML file, `TAWNY_*` variables with their aliases, and flags, in rising order.

pub(crate) mod aliases;
pub(crate) mod env;
mod file;
pub(crate) mod flags;
pub(crate) mod keys;
pub(crate) mod layers;
pub(crate) mod reference;
pub(crate) mod value;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use env::Env;
pub(crate) use flags::{Flags, Given};
use keys::{Config, KEYS, Key};
use layers::{Layers, Origin};
use tawny_collect::detect::{self, Explicit, Probes};
use tawny_kube::{Connection, Kubeconfig};
use tawny_model::ByteSize;

/// A setting that cannot be used, said so that its user finds it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    #[error("{}{name} = {value:?}: {rule}", place(.origin))]
    Invalid {
        name: String,
        value: String,
        rule: String,
        origin: Origin,
    },
    #[error("{}unknown key `{name}`{}", place(.origin), did_you_mean(.nearest.as_deref(), '`'))]
    UnknownKey {
        name: String,
        nearest: Option<String>,
        origin: Origin,
    },
    #[error("{one} and {other} both set `{key}`, to different values; unset one")]
    Conflict {
        key: &'static str,
        one: String,
        other: String,
    },
    #[error("{name}={value} is not supported: {why}")]
    Unsupported {
        name: &'static str,
        value: String,
        why: &'static str,
    },
    #[error(transparent)]
    Runtime(detect::Error),
    #[error("{}: {reason}", .path.display())]
    Yaml { path: PathBuf, reason: String },
    #[error("cannot read configuration file {}: {source}", .path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn place(origin: &Origin) -> String {
    match origin {
        Origin::File { path, line: None } => format!("{}: ", path.display()),
        Origin::File {
            path,
            line: Some(line),
        } => format!("{}:{line}: ", path.display()),
        Origin::Default | Origin::Profile(_) | Origin::Env(_) | Origin::Flag(_) => String::new(),
    }
}

fn did_you_mean(nearest: Option<&str>, quote: char) -> String {
    let quote = if quote == ' ' {
        String::new()
    } else {
        quote.to_string()
    };
    nearest.map_or_else(String::new, |nearest| {
        format!("; did you mean {quote}{nearest}{quote}?")
    })
}

/// All that is wrong with a configuration; never empty.
#[derive(Debug)]
pub(crate) struct Problems(Vec<Error>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Problems {}

impl From<Error> for Problems {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

/// Something that was set and does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Warning {
    UnknownVariable {
        name: String,
        nearest: Option<String>,
    },
    NoEffect {
        name: &'static str,
        why: &'static str,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVariable { name, nearest } => write!(
                f,
                "unknown variable {name} has no effect{}",
                did_you_mean(nearest.as_deref(), ' ')
            ),
            Self::NoEffect { name, why } => write!(f, "{name} has no effect: {why}"),
        }
    }
}

/// Everything a configuration is made of.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) env: &'a Env,
    /// A file that was asked for, and so must be there.
    pub(crate) named_file: Option<PathBuf>,
    /// Files that are read if they are there, later ones on top.
    pub(crate) default_files: Vec<PathBuf>,
    pub(crate) flags: Vec<Given>,
}

impl<'a> Sources<'a> {
    /// The sources of a command: `--config`, else TAWNY_CONFIG, else the files in their usual places.
    pub(crate) fn of(env: &'a Env, config_flag: Option<PathBuf>, flags: Vec<Given>) -> Self {
        Self {
            env,
            named_file: config_flag.or_else(|| env.get(env::CONFIG).map(PathBuf::from)),
            default_files: file::default_paths(env.config_home().as_deref()),
            flags,
        }
    }
}

/// A configuration with where each value came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) layers: Layers,
    pub(crate) warnings: Vec<Warning>,
    /// Files that were read.
    pub(crate) files: Vec<PathBuf>,
}

/// A setting as it is in force.
#[derive(Debug)]
pub(crate) struct Effective<'a> {
    pub(crate) key: &'static Key,
    pub(crate) value: String,
    pub(crate) origin: &'a Origin,
}

/// Reads all sources; flags win over the environment, that over files, those over defaults.
///
/// # Errors
/// All problems found, not only the first.
pub(crate) fn load(sources: &Sources<'_>) -> Result<Loaded, Problems> {
    let mut layers = Layers::default();
    let mut errors = Vec::new();
    let mut files = Vec::new();
    aliases::profiles(sources.env, &mut layers);
    let candidates = match &sources.named_file {
        Some(named) => vec![(named, true)],
        None => sources
            .default_files
            .iter()
            .map(|path| (path, false))
            .collect(),
    };
    for (path, must_exist) in candidates {
        match read_file(path, must_exist) {
            Ok(Some(text)) => {
                files.push(path.clone());
                errors.extend(
                    file::read(path, &text, &mut layers)
                        .err()
                        .into_iter()
                        .flatten(),
                );
            }
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    let warnings = env::read(sources.env, &mut layers).unwrap_or_else(|more| {
        errors.extend(more);
        Vec::new()
    });
    for given in &sources.flags {
        layers.put(given.key.path, given.origin.clone(), given.value.clone());
    }
    let config = Config::read(&layers).map_err(|more| errors.extend(more));
    if let Ok(config) = &config {
        errors.extend(broken_rules(config, &layers));
    }
    match config {
        Ok(config) if errors.is_empty() => Ok(Loaded {
            config,
            layers,
            warnings,
            files,
        }),
        _ => Err(Problems(errors)),
    }
}

/// What a type alone does not say of a value.
fn broken_rules(config: &Config, layers: &Layers) -> Vec<Error> {
    const AT_LEAST_1: &str = "must be at least 1";
    let (collect, limits) = (&config.collect, &config.limits);
    let rules = [
        (
            "shutdown_timeout",
            !config.general.shutdown_timeout.is_zero(),
            "must be longer than 0s, or nothing would be handed on",
        ),
        ("collect.max_streams", collect.max_streams > 0, AT_LEAST_1),
        (
            "collect.batch_entries",
            collect.batch_entries > 0,
            AT_LEAST_1,
        ),
        (
            "collect.max_line",
            collect.max_line >= ByteSize::kib(1),
            "must be at least 1KiB",
        ),
        (
            "collect.max_in_flight",
            collect.max_in_flight.as_bytes() / 4 >= collect.max_line.as_bytes(),
            "must be at least four times collect.max_line",
        ),
        (
            "limits.max_message",
            limits.max_message >= ByteSize::mib(4),
            "must be at least 4MiB, which agents may send",
        ),
        ("limits.max_queries", limits.max_queries > 0, AT_LEAST_1),
        ("limits.sql_rows", limits.sql_rows > 0, AT_LEAST_1),
        ("limits.sql_max_rows", limits.sql_max_rows > 0, AT_LEAST_1),
        (
            "limits.max_connections",
            limits.max_connections > 0,
            AT_LEAST_1,
        ),
        (
            "limits.query_timeout",
            !limits.query_timeout.is_zero(),
            "must be longer than 0s",
        ),
    ];
    rules
        .into_iter()
        .filter(|(_, is_kept, _)| !is_kept)
        .map(|(key, _, rule)| {
            let origin = layers.origin(key);
            Error::Invalid {
                name: origin.name_or(key).to_owned(),
                value: layers
                    .get(key)
                    .map(|(_, raw)| raw.text())
                    .unwrap_or_default(),
                rule: rule.to_owned(),
                origin: origin.clone(),
            }
        })
        .collect()
}

/// Largest configuration file that is read; a hand-written one is a hundredth of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

fn read_file(path: &Path, must_exist: bool) -> Result<Option<String>, Error> {
    use std::io::Read as _;

    let unreadable = |source| Error::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(Some(text))
}

impl Loaded {
    /// Every setting as it is in force, in the order of the reference.
    pub(crate) fn effective(&self) -> impl Iterator<Item = Effective<'_>> {
        KEYS.iter().map(|key| Effective {
            key,
            value: match self.layers.get(key.path) {
                // A value that did not fit its type would have stopped `load`.
                Some((_, raw)) => (key.canonical)(raw).unwrap_or_else(|_| raw.text()),
                None => (key.default)(),
            },
            origin: self.layers.origin(key.path),
        })
    }

    /// The runtime that was asked for, under the name it was asked by.
    pub(crate) fn explicit_runtime(&self) -> Option<Explicit> {
        let runtime = self.config.general.runtime.set()?;
        Some(Explicit {
            setting: self.layers.origin("runtime").to_string(),
            value: runtime.name().to_owned(),
        })
    }

    /// Kubeconfig files to look into: those named, else the usual one.
    fn kubeconfigs(&self, env: &Env) -> Vec<PathBuf> {
        match (&self.config.kubernetes.kubeconfig, env.home()) {
            (Some(list), _) => std::env::split_paths(list).collect(),
            (None, Some(home)) => vec![home.join(".kube").join("config")],
            (None, None) => Vec::new(),
        }
    }

    /// The way to the API server: the pod's own, unless a kubeconfig is named or there is none.
    pub(crate) fn connection(&self, env: &Env) -> Connection {
        let kubernetes = &self.config.kubernetes;
        let is_named = kubernetes.kubeconfig.is_some() || kubernetes.context.is_some();
        if !is_named && let Some(in_cluster) = env.in_cluster() {
            return Connection::InCluster(in_cluster);
        }
        Connection::Kubeconfig(Kubeconfig {
            paths: self.kubeconfigs(env),
            context: kubernetes.context.clone(),
            proxy: env.proxy(),
        })
    }

    /// Where runtimes are looked for.
    pub(crate) fn probes(&self, env: &Env) -> Probes {
        let config = &self.config;
        let rootless = env.runtime_dir().map(|dir| dir.join("podman/podman.sock"));
        Probes {
            service_account_token: detect::SERVICE_ACCOUNT_TOKEN.into(),
            kubeconfigs: self.kubeconfigs(env),
            docker_socket: config.engine.docker_socket.clone(),
            podman_sockets: rootless
                .into_iter()
                .chain([config.engine.podman_socket.clone()])
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
