//! The process's surroundings, read once: the only place that asks for the environment.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tawny_kube::{InCluster, Proxy};
use tawny_model::Secret;

use super::{
    Error, Warning, aliases, file,
    keys::KEYS,
    layers::{Layers, Origin},
    value::Raw,
};

/// Environment variables, and what else a pod is told without being asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Env {
    vars: BTreeMap<String, String>,
    /// Namespace of the pod this process runs in (SX-11).
    pub(crate) own_namespace: Option<String>,
}

/// Source: the service-account volume of every pod.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

impl Env {
    pub(crate) fn of_process() -> Self {
        Self {
            // Names and values that are no UTF-8 cannot be settings of ours.
            vars: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            own_namespace: std::fs::read_to_string(OWN_NAMESPACE)
                .ok()
                .map(|text| text.trim().to_owned()),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(vars: &[(&str, &str)]) -> Self {
        Self {
            vars: vars
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            own_namespace: None,
        }
    }

    /// The variable's value; an empty one counts as unset, as it does in the programs whose names we accept.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.vars
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str)
    }

    pub(crate) fn home(&self) -> Option<&Path> {
        self.get("HOME").map(Path::new)
    }

    /// `~/.config` or what XDG_CONFIG_HOME says.
    pub(crate) fn config_home(&self) -> Option<PathBuf> {
        self.get("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(self.home()?.join(".config")))
    }

    /// Directory of rootless sockets.
    pub(crate) fn runtime_dir(&self) -> Option<&Path> {
        self.get("XDG_RUNTIME_DIR").map(Path::new)
    }

    /// The API server as Kubernetes tells a pod of it; `None` outside a pod.
    pub(crate) fn in_cluster(&self) -> Option<InCluster> {
        let service_account = PathBuf::from(tawny_kube::client::SERVICE_ACCOUNT_DIR);
        if !service_account.join("token").exists() {
            return None;
        }
        Some(InCluster {
            host: self.get("KUBERNETES_SERVICE_HOST")?.to_owned(),
            port: self.get("KUBERNETES_SERVICE_PORT")?.parse().ok()?,
            service_account,
        })
    }

    /// The proxy for a kubeconfig's cluster, as kubectl takes it.
    pub(crate) fn proxy(&self) -> Option<Proxy> {
        let either = |upper: &str, lower: &str| self.get(upper).or_else(|| self.get(lower));
        Some(Proxy {
            url: either("HTTPS_PROXY", "https_proxy")?.to_owned(),
            except: either("NO_PROXY", "no_proxy")
                .unwrap_or_default()
                .to_owned(),
        })
    }

    /// What clouds tell their own tools, by the names of the `object_store` crate: roles, tokens, endpoints.
    pub(crate) fn cloud(&self) -> Vec<(String, Secret)> {
        let of_cloud = |name: &str| {
            ["AWS_", "GOOGLE_", "AZURE_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        self.vars
            .iter()
            .filter(|(name, value)| of_cloud(name) && !value.is_empty())
            .map(|(name, value)| (name.to_ascii_lowercase(), Secret::new(value)))
            .collect()
    }

    /// Whether colour is wanted beyond what a terminal decides. Sources: no-color.org, bixense.com/clicolors.
    pub(crate) fn is_color_allowed(&self) -> bool {
        self.get("NO_COLOR").is_none()
    }

    /// Whether colour is wanted even without a terminal.
    pub(crate) fn is_color_forced(&self) -> bool {
        self.is_color_allowed() && self.get("CLICOLOR_FORCE").is_some_and(|value| value != "0")
    }
}

/// Puts what the environment says on top of `layers`.
pub(crate) fn read(env: &Env, layers: &mut Layers) -> Result<Vec<Warning>, Vec<Error>> {
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    for key in KEYS {
        let mut given = Vec::new();
        let native = key.env();
        if let Some(value) = env.get(&native) {
            given.push((native, value.to_owned()));
        }
        match aliases::given(env, key) {
            Ok(by_alias) => given.extend(by_alias),
            Err(error) => {
                errors.push(error);
                continue;
            }
        }
        let canonical = |value: &str| (key.canonical)(&Raw::Text(value.to_owned()));
        let mut all = given.iter();
        let Some((name, value)) = all.next() else {
            if let Some((name, value)) = aliases::fallback(env, key.path) {
                layers.put(key.path, Origin::Env(name), Raw::Text(value));
            }
            continue;
        };
        if let Some((other, other_value)) =
            all.find(|(_, other)| canonical(other) != canonical(value))
        {
            errors.push(Error::Conflict {
                key: key.path,
                one: format!("{name}={value}"),
                other: format!("{other}={other_value}"),
            });
            continue;
        }
        layers.put(
            key.path,
            Origin::Env(name.clone()),
            Raw::Text(value.clone()),
        );
    }
    match aliases::without_key(env) {
        Ok(more) => warnings.extend(more),
        Err(more) => errors.extend(more),
    }
    warnings.extend(unknown(env));
    if errors.is_empty() {
        Ok(warnings)
    } else {
        Err(errors)
    }
}

/// Variables that look like ours and are not. Not an error, because others may name theirs so too.
fn unknown(env: &Env) -> impl Iterator<Item = Warning> {
    let known: Vec<String> = KEYS.iter().map(super::keys::Key::env).collect();
    env.names()
        .filter(|name| name.starts_with("TAWNY_") && *name != CONFIG && !is_service_link(name))
        .filter(|name| !known.iter().any(|known| known == name))
        .map(|name| Warning::UnknownVariable {
            name: name.to_owned(),
            nearest: file::nearest(name, known.iter().map(String::as_str)),
        })
        .collect::<Vec<_>>()
        .into_iter()
}

/// Names the configuration file.
pub(crate) const CONFIG: &str = "TAWNY_CONFIG";

/// Whether Kubernetes sets this variable for a Service of our name: `TAWNY_SERVICE_HOST`, `TAWNY_PORT_8080_TCP_ADDR`, …
///
/// Source: Kubernetes, "Accessing the Service: environment variables".
pub(crate) fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_PORT")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_are_no_settings() {
        for name in [
            "TAWNY_SERVER_SERVICE_HOST",
            "TAWNY_SERVER_SERVICE_PORT_GRPC",
            "TAWNY_SERVER_PORT",
            "TAWNY_PORT_50051_TCP_PROTO",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        assert!(!is_service_link("TAWNY_SERVER"));
        let env = Env::of(&[
            ("TAWNY_PORT", "tcp://10.0.0.1:80"),
            ("TAWNY_STORE_PTH", "x"),
        ]);
        let warnings = read(&env, &mut Layers::default()).unwrap();
        assert_eq!(warnings.len(), 1);
        assert_eq!(
            warnings[0].to_string(),
            "unknown variable TAWNY_STORE_PTH has no effect; did you mean TAWNY_STORE_PATH?"
        );
    }

    #[test]
    fn colour_follows_the_usual_variables() {
        assert!(Env::of(&[]).is_color_allowed());
        assert!(!Env::of(&[("NO_COLOR", "1")]).is_color_allowed());
        assert!(Env::of(&[("CLICOLOR_FORCE", "1")]).is_color_forced());
        assert!(!Env::of(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).is_color_forced());
    }
}
