//! Which runtime runs here and which way leads to its logs: a pure decision over paths that the caller names (SX-6).

use std::{
    fmt,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use crate::SourceKind;

/// What runs the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runtime {
    Kubernetes,
    Docker,
    Podman,
}

impl Runtime {
    pub const ALL: [Self; 3] = [Self::Kubernetes, Self::Docker, Self::Podman];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where to look, in the order of the fields (SX-5); the first that is there wins. An empty path is not looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes {
    /// In every pod that has an identity (SX-2).
    pub service_account_token: PathBuf,
    /// Files to try, such as `~/.kube/config`.
    pub kubeconfigs: Vec<PathBuf>,
    /// Counts only when it is a socket (SX-3).
    pub docker_socket: PathBuf,
    /// As for Docker; rootless first.
    pub podman_sockets: Vec<PathBuf>,
}

impl Probes {
    /// Whether this process runs in a pod, as far as its token tells.
    pub fn is_in_pod(&self) -> bool {
        self.service_account_token.exists()
    }
}

/// Where Kubernetes puts a pod's own token (SX-2).
pub const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where Docker listens (SX-3).
pub const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Where Podman's system service listens.
pub const PODMAN_SOCKET: &str = "/run/podman/podman.sock";

/// A runtime that was asked for, and under which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explicit {
    /// The setting as the user wrote it: `STRIXLOG_ENV`, `--runtime`, …
    pub setting: String,
    pub value: String,
}

/// Why a runtime was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    Setting(String),
    ServiceAccountToken(PathBuf),
    Kubeconfig(PathBuf),
    Socket(PathBuf),
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(setting) => write!(f, "{setting} says so"),
            Self::ServiceAccountToken(path) => {
                write!(f, "service-account token {}", path.display())
            }
            Self::Kubeconfig(path) => write!(f, "kubeconfig {}", path.display()),
            Self::Socket(path) => write!(f, "socket {}", path.display()),
        }
    }
}

/// The runtime to collect from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    pub runtime: Runtime,
    pub because: Because,
}

/// No runtime could be chosen.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The text is that of SX-1: Go's `%q` around the value.
    #[error("unknown {setting}: {}", go_quoted(.value))]
    Unknown { setting: String, value: String },
    /// Contains the text of SX-4.
    #[error(
        "no runtime detected: set STRIXLOG_ENV=docker or STRIXLOG_ENV=kubernetes (or TAWNY_RUNTIME); looked for {}",
        .probed.join(", ")
    )]
    NoneFound { probed: Vec<String> },
}

/// Chooses the runtime: what is asked for, else the first that `probes` finds.
///
/// # Errors
/// [`Error::Unknown`] for an explicit value that names no runtime, [`Error::NoneFound`] with all that was looked for.
pub fn detect(explicit: Option<&Explicit>, probes: &Probes) -> Result<Detected, Error> {
    if let Some(Explicit { setting, value }) = explicit.filter(|e| !e.value.is_empty()) {
        return Runtime::ALL
            .into_iter()
            .find(|runtime| runtime.name() == value)
            .map(|runtime| Detected {
                runtime,
                because: Because::Setting(setting.clone()),
            })
            .ok_or_else(|| Error::Unknown {
                setting: setting.clone(),
                value: value.clone(),
            });
    }
    let Probes {
        service_account_token,
        kubeconfigs,
        docker_socket,
        podman_sockets,
    } = probes;
    let mut probed = Vec::new();
    if is_there("service-account token", service_account_token, &mut probed) {
        return Ok(Detected {
            runtime: Runtime::Kubernetes,
            because: Because::ServiceAccountToken(service_account_token.clone()),
        });
    }
    for kubeconfig in kubeconfigs {
        if is_there("kubeconfig", kubeconfig, &mut probed) {
            return Ok(Detected {
                runtime: Runtime::Kubernetes,
                because: Because::Kubeconfig(kubeconfig.clone()),
            });
        }
    }
    let sockets = [(Runtime::Docker, docker_socket)]
        .into_iter()
        .chain(podman_sockets.iter().map(|path| (Runtime::Podman, path)));
    for (runtime, socket) in sockets {
        if is_socket(runtime, socket, &mut probed) {
            return Ok(Detected {
                runtime,
                because: Because::Socket(socket.clone()),
            });
        }
    }
    Err(Error::NoneFound { probed })
}

/// How to get at the logs of Kubernetes: asked for, or the files where their root can be listed, else the API.
pub fn choose_kubernetes_source(asked: Option<SourceKind>, pod_logs_root: &Path) -> SourceKind {
    asked.unwrap_or_else(|| {
        // Listing needs the right to read, which an unprivileged pod lacks even where the directory is mounted.
        if std::fs::read_dir(pod_logs_root).is_ok() {
            SourceKind::Files
        } else {
            SourceKind::Api
        }
    })
}

fn is_there(what: &str, path: &Path, probed: &mut Vec<String>) -> bool {
    if path.as_os_str().is_empty() {
        return false;
    }
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => true,
        Ok(_) => {
            probed.push(format!("{what} {} (is no file)", path.display()));
            false
        }
        Err(error) => {
            probed.push(format!("{what} {} ({})", path.display(), reason(&error)));
            false
        }
    }
}

fn is_socket(runtime: Runtime, path: &Path, probed: &mut Vec<String>) -> bool {
    if path.as_os_str().is_empty() {
        return false;
    }
    let why_not = match std::fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => return true,
        Ok(_) => "is no socket".to_owned(),
        Err(error) => reason(&error),
    };
    probed.push(format!("{runtime} socket {} ({why_not})", path.display()));
    false
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "not there".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// A string as Go's `%q` writes it. Source: `strconv.Quote`.
fn go_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\0'..=' ' | '\x7f' if c != ' ' => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use super::*;

    /// Probes below a directory of their own, in which nothing exists yet.
    fn probes_in(dir: &Path) -> Probes {
        Probes {
            service_account_token: dir.join("token"),
            kubeconfigs: vec![dir.join("kubeconfig-1"), dir.join("kubeconfig-2")],
            docker_socket: dir.join("docker.sock"),
            podman_sockets: vec![dir.join("podman-user.sock"), dir.join("podman.sock")],
        }
    }

    fn explicit(value: &str) -> Explicit {
        Explicit {
            setting: "STRIXLOG_ENV".to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn first_runtime_found_in_order_is_chosen_sx_1_to_6() {
        use Runtime::{Docker, Kubernetes, Podman};
        // asked for, files, sockets, expected
        type Row = (
            Option<&'static str>,
            &'static [&'static str],
            &'static [&'static str],
            Option<Runtime>,
        );
        let table: &[Row] = &[
            (Some("docker"), &["token"], &[], Some(Docker)),
            (Some("kubernetes"), &[], &["docker.sock"], Some(Kubernetes)),
            (Some("podman"), &["token"], &["docker.sock"], Some(Podman)),
            (Some(""), &[], &["docker.sock"], Some(Docker)),
            (None, &["token"], &["docker.sock"], Some(Kubernetes)),
            (None, &["token"], &[], Some(Kubernetes)),
            (None, &["kubeconfig-2"], &["docker.sock"], Some(Kubernetes)),
            (None, &[], &["docker.sock", "podman.sock"], Some(Docker)),
            (None, &[], &["podman.sock"], Some(Podman)),
            (None, &["docker.sock"], &["podman-user.sock"], Some(Podman)),
            (None, &["docker.sock", "podman.sock"], &[], None),
            (None, &[], &[], None),
        ];
        for (asked, files, sockets, expected) in table {
            let dir = tempfile::tempdir().unwrap();
            for file in *files {
                fs::write(dir.path().join(file), "x").unwrap();
            }
            let _open: Vec<UnixListener> = sockets
                .iter()
                .map(|socket| UnixListener::bind(dir.path().join(socket)).unwrap())
                .collect();
            let asked_for = asked.map(explicit);
            let found = detect(asked_for.as_ref(), &probes_in(dir.path()));
            assert_eq!(
                found.as_ref().ok().map(|detected| detected.runtime),
                *expected,
                "{asked:?} {files:?} {sockets:?}: {found:?}"
            );
        }
    }

    #[test]
    fn unknown_runtime_is_quoted_as_go_does_sx_1() {
        for (value, text) in [
            ("nomad", r#"unknown STRIXLOG_ENV: "nomad""#),
            ("a\"b\\", r#"unknown STRIXLOG_ENV: "a\"b\\""#),
            ("\t\u{1}é'", r#"unknown STRIXLOG_ENV: "\t\x01é'""#),
        ] {
            let error = detect(Some(&explicit(value)), &Probes::default()).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn nothing_found_lists_all_that_was_looked_for_sx_4() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("docker.sock"), "").unwrap();
        let error = detect(None, &probes_in(dir.path()))
            .unwrap_err()
            .to_string();
        for part in [
            "no runtime detected: set STRIXLOG_ENV=docker or STRIXLOG_ENV=kubernetes",
            "token (not there)",
            "kubeconfig-2 (not there)",
            "docker.sock (is no socket)",
            "podman-user.sock (not there)",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn files_are_read_where_they_can_be_listed() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert_eq!(
            choose_kubernetes_source(None, dir.path()),
            SourceKind::Files
        );
        assert_eq!(choose_kubernetes_source(None, &missing), SourceKind::Api);
        assert_eq!(
            choose_kubernetes_source(Some(SourceKind::Files), &missing),
            SourceKind::Files
        );
    }
}
