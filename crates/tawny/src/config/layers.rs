//! Values of settings with where they came from; the highest layer that has a key decides.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{
    Error,
    value::{Raw, Setting},
};

/// Where a value came from, lowest layer first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Default,
    /// A default that another program's variables bring with them.
    Profile(&'static str),
    File {
        path: PathBuf,
        line: Option<usize>,
    },
    Env(String),
    Flag(String),
}

impl Origin {
    /// The setting's name as its user wrote it, or its key.
    pub(crate) fn name_or<'a>(&'a self, key: &'a str) -> &'a str {
        match self {
            Self::Env(name) | Self::Flag(name) => name,
            Self::Default | Self::Profile(_) | Self::File { .. } => key,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Profile(why) => write!(f, "default, {why}"),
            Self::File { path, line: None } => write!(f, "file {}", path.display()),
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "file {}:{line}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The values that were given, by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers(BTreeMap<&'static str, (Origin, Raw)>);

impl Layers {
    /// Puts a value on top of what layers before it gave.
    pub(crate) fn put(&mut self, key: &'static str, origin: Origin, value: Raw) {
        self.0.insert(key, (origin, value));
    }

    pub(crate) fn get(&self, key: &str) -> Option<&(Origin, Raw)> {
        self.0.get(key)
    }

    pub(crate) fn origin(&self, key: &str) -> &Origin {
        self.get(key).map_or(&Origin::Default, |(origin, _)| origin)
    }

    /// The value in its type; `None` where no layer has it.
    pub(crate) fn value<T: Setting>(&self, key: &'static str) -> Result<Option<T>, Error> {
        let Some((origin, raw)) = self.get(key) else {
            return Ok(None);
        };
        T::from_raw(raw).map(Some).map_err(|rule| Error::Invalid {
            name: origin.name_or(key).to_owned(),
            value: if T::IS_SECRET {
                "***".to_owned()
            } else {
                raw.text()
            },
            rule,
            origin: origin.clone(),
        })
    }
}
