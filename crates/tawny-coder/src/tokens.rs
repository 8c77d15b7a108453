//! Where a pod's agent tokens are: in the specification itself, or in secrets and config maps it refers to.
//!
//! Pure: [`wanted`] says what is to be fetched, [`resolve`] finds the tokens in what was. The rules are the kubelet's:
//! an `env` entry wins over `envFrom`, a later `envFrom` over an earlier one, and an optional reference that leads nowhere
//! sets nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    ConfigMap, EnvFromSource, EnvVar, EnvVarSource, PodSpec, Secret as SecretObject,
};
use tawny_model::Secret;

/// The variable whose value says which agent a container belongs to (CL-10).
pub const VARIABLE: &str = "CODER_AGENT_TOKEN";

/// An object that may hold tokens, in the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    Secret(String),
    ConfigMap(String),
}

/// The values of a holder, or why they are not to be had; `Ok(None)` when it does not exist.
pub type Fetched = Result<Option<BTreeMap<String, Secret>>, Unfetched>;

/// Why a holder could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfetched {
    /// The credentials may not read it.
    pub is_denied: bool,
    pub reason: String,
}

/// One place a token may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Value(Secret),
    Key {
        holder: Holder,
        key: String,
        /// Whether the holder may be missing, and the key with it.
        is_optional: bool,
        /// All of the holder is taken (`envFrom`), and the token may or may not be among it.
        is_shared: bool,
    },
}

/// One token a pod may have: the first of these places that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    sources: Vec<Source>,
}

/// What came of the search.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// Each once, in the order of containers.
    pub tokens: Vec<Secret>,
    /// Why a token that should be there is not; never holds a value.
    pub problems: Vec<String>,
}

impl Wanted {
    /// Whether the specification names the variable, so that there is to be a token.
    pub fn is_named(&self) -> bool {
        !(self.sources.iter()).all(|source| {
            matches!(
                source,
                Source::Key {
                    is_shared: true,
                    ..
                }
            )
        })
    }
}

/// The tokens that containers of all kinds may have (CL-10 to CL-13); for a ReplicaSet, of its template (CL-20).
///
/// `follows_env_from`: look into `envFrom` too, where most secrets and config maps hold no token.
pub fn wanted(spec: &PodSpec, follows_env_from: bool) -> Vec<Wanted> {
    let plain = (spec.init_containers.iter().flatten())
        .chain(&spec.containers)
        .map(|container| (&container.env, &container.env_from));
    let ephemeral = (spec.ephemeral_containers.iter().flatten())
        .map(|container| (&container.env, &container.env_from));
    let mut wanted = Vec::new();
    for (env, env_from) in plain.chain(ephemeral) {
        let env_from = env_from.iter().flatten().filter(|_| follows_env_from);
        let shared: Vec<Source> = env_from.rev().filter_map(from_all).collect();
        let own: Vec<Source> = env.iter().flatten().filter_map(from_one).collect();
        if own.is_empty() && !shared.is_empty() {
            wanted.push(Wanted { sources: shared });
            continue;
        }
        wanted.extend(own.into_iter().map(|source| Wanted {
            sources: [source].into_iter().chain(shared.iter().cloned()).collect(),
        }));
    }
    wanted
}

fn from_one(variable: &EnvVar) -> Option<Source> {
    if variable.name != VARIABLE {
        return None;
    }
    if let Some(value) = variable.value.as_ref().filter(|value| !value.is_empty()) {
        return Some(Source::Value(Secret::new(value.clone())));
    }
    let EnvVarSource {
        secret_key_ref,
        config_map_key_ref,
        ..
    } = variable.value_from.as_ref()?;
    let (holder, key, optional) = match (secret_key_ref, config_map_key_ref) {
        (Some(secret), _) => (
            Holder::Secret(secret.name.clone()),
            &secret.key,
            secret.optional,
        ),
        (None, Some(map)) => (Holder::ConfigMap(map.name.clone()), &map.key, map.optional),
        (None, None) => return None,
    };
    Some(Source::Key {
        holder,
        key: key.clone(),
        is_optional: optional == Some(true),
        is_shared: false,
    })
}

fn from_all(all: &EnvFromSource) -> Option<Source> {
    let key = VARIABLE.strip_prefix(all.prefix.as_deref().unwrap_or_default())?;
    let (holder, optional) = match (&all.secret_ref, &all.config_map_ref) {
        (Some(secret), _) => (Holder::Secret(secret.name.clone()), secret.optional),
        (None, Some(map)) => (Holder::ConfigMap(map.name.clone()), map.optional),
        (None, None) => return None,
    };
    (!key.is_empty()).then(|| Source::Key {
        holder,
        key: key.to_owned(),
        is_optional: optional == Some(true),
        is_shared: true,
    })
}

/// What must be fetched before [`resolve`] can tell; empty when all tokens stand in the specification.
pub fn holders(wanted: &[Wanted]) -> BTreeSet<Holder> {
    (wanted.iter().flat_map(|wanted| &wanted.sources))
        .filter_map(|source| match source {
            Source::Value(_) => None,
            Source::Key { holder, .. } => Some(holder.clone()),
        })
        .collect()
}

/// Finds the tokens. A holder that `fetched` lacks counts as not existing.
pub fn resolve(wanted: &[Wanted], fetched: &BTreeMap<Holder, Fetched>) -> Resolved {
    let mut resolved = Resolved::default();
    for wanted in wanted {
        for source in &wanted.sources {
            match look_up(source, fetched) {
                Ok(Some(token)) => {
                    if !resolved.tokens.contains(&token) {
                        resolved.tokens.push(token);
                    }
                    break;
                }
                Ok(None) => {}
                Err(problem) => {
                    if !resolved.problems.contains(&problem) {
                        resolved.problems.push(problem);
                    }
                    break;
                }
            }
        }
    }
    resolved
}

fn look_up(source: &Source, fetched: &BTreeMap<Holder, Fetched>) -> Result<Option<Secret>, String> {
    let (holder, key, is_optional, is_shared) = match source {
        Source::Value(token) => return Ok(Some(token.clone())),
        Source::Key {
            holder,
            key,
            is_optional,
            is_shared,
        } => (holder, key, *is_optional, *is_shared),
    };
    let (Holder::Secret(name) | Holder::ConfigMap(name)) = holder;
    let kind = match holder {
        Holder::Secret(_) => "secret",
        Holder::ConfigMap(_) => "config map",
    };
    match fetched.get(holder) {
        // Whoever lets nobody read what all of a container's variables come from has hardly put a token there.
        Some(Err(unfetched)) if is_shared && unfetched.is_denied => Ok(None),
        Some(Err(Unfetched { reason, .. })) => Err(format!("{kind} {name}: {reason}")),
        None | Some(Ok(None)) if is_optional => Ok(None),
        None | Some(Ok(None)) => Err(format!("{kind} {name} does not exist")),
        Some(Ok(Some(values))) => match values.get(key).filter(|token| !is_blank(token)) {
            Some(token) => Ok(Some(token.clone())),
            None if is_optional || is_shared => Ok(None),
            None => Err(format!("{kind} {name} has no key {key}")),
        },
    }
}

fn is_blank(token: &Secret) -> bool {
    token.expose().trim().is_empty()
}

/// The values of a secret that are text; a token is.
pub fn values_of_secret(secret: SecretObject) -> BTreeMap<String, Secret> {
    (secret.data.into_iter().flatten())
        .filter_map(|(key, value)| Some((key, Secret::new(String::from_utf8(value.0).ok()?))))
        .collect()
}

pub fn values_of_config_map(map: ConfigMap) -> BTreeMap<String, Secret> {
    (map.data.into_iter().flatten())
        .map(|(key, value)| (key, Secret::new(value)))
        .collect()
}

#[cfg(test)]
mod tests;
