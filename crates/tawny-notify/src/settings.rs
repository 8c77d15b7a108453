//! Who is told of what, and where: receivers and routes, read from YAML as written and checked as a whole.

mod check;
mod config;
mod locate;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::Deserialize;
use tawny_incident::Severity;
use tawny_model::Secret;
use url::Url;

pub(crate) use check::parse_url;
pub use config::{
    AlertmanagerConfig, FileConfig, Hidden, MatchConfig, NotifyConfig, ReceiverConfig, RouteConfig,
    SlackConfig, StdoutConfig, StormConfig, WebhookConfig,
};

use crate::{
    Error, Outgoing,
    glob::Glob,
    notice::{Kind, label},
};
use check::check;
use locate::{Step, locate};

/// Settings that passed every check.
#[derive(Debug, Clone)]
pub struct Settings {
    pub receivers: Vec<Receiver>,
    /// In the order they are tried.
    pub routes: Vec<Route>,
    pub storm: Storm,
    /// A message that could not be delivered for so long is dropped.
    pub give_up_after: Duration,
}

/// Somewhere messages go.
#[derive(Debug, Clone)]
pub struct Receiver {
    pub name: String,
    pub to: Destination,
}

#[derive(Debug, Clone)]
pub enum Destination {
    Webhook(Webhook),
    Slack(Slack),
    Alertmanager(Alertmanager),
    Stdout(Form),
    File(PathBuf),
}

/// A JSON body to a URL.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub url: Address,
    pub sender: Sender,
}

/// Slack's incoming webhook, or that of a chat that takes the same.
#[derive(Debug, Clone)]
pub struct Slack {
    pub url: Address,
    pub dialect: Dialect,
    pub sender: Sender,
}

/// All instances of an Alertmanager; each is sent everything, as Prometheus does.
#[derive(Debug, Clone)]
pub struct Alertmanager {
    /// Of `/api/v2/alerts` itself.
    pub urls: Vec<Address>,
    /// How often open alerts are sent again; they end by themselves when four in a row do not arrive.
    pub resend_after: Duration,
    pub sender: Sender,
}

/// What goes with each request.
#[derive(Debug, Clone)]
pub struct Sender {
    pub headers: BTreeMap<String, Secret>,
    pub token: Option<Token>,
    /// Longest time of one try, connecting included.
    pub timeout: Duration,
}

#[derive(Debug, Clone)]
pub enum Token {
    Value(Secret),
    /// Read at each try, so that it may change.
    File(PathBuf),
}

/// A URL that may hold a secret, as those of chats do.
#[derive(Clone)]
pub enum Address {
    Url(Url),
    /// Read at each try.
    File(PathBuf),
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(f, "Url({}/***)", url.origin().ascii_serialization()),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// How a chat marks up text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Slack's own, which can be switched off for a text.
    Slack,
    /// Markdown, as Mattermost, Discord and Rocket.Chat read it whatever the message says.
    Markdown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// One sentence a line.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Which notices go to which receivers, and how patiently.
#[derive(Debug, Clone)]
pub struct Route {
    pub severity: Option<Severity>,
    pub namespaces: Vec<Glob>,
    pub types: Vec<Glob>,
    pub labels: BTreeMap<String, Glob>,
    /// Indices into [`Settings::receivers`].
    pub receivers: Vec<usize>,
    /// Routes behind this one are tried although it matches.
    pub continues: bool,
    pub group_wait: Duration,
    pub repeat_interval: Duration,
    pub tells_resolved: bool,
}

/// When single messages give way to a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storm {
    /// Most messages a receiver gets one by one within [`Self::within`].
    pub more_than: usize,
    pub within: Duration,
}

impl Route {
    /// A digest is about everything, so only its severity counts.
    pub fn matches(&self, notice: &Outgoing) -> bool {
        let any = |globs: &[Glob], name: &str| {
            globs.is_empty() || globs.iter().any(|glob| glob.matches(name))
        };
        self.severity.is_none_or(|least| notice.severity >= least)
            && (notice.kind == Kind::Digest
                || any(&self.namespaces, notice.label(label::NAMESPACE))
                    && any(&self.types, &notice.class)
                    && (self.labels.iter()).all(|(name, glob)| glob.matches(notice.label(name))))
    }

    fn takes_everything(&self) -> bool {
        self.severity.is_none_or(|least| least == Severity::Low)
            && self.namespaces.is_empty()
            && self.types.is_empty()
            && self.labels.is_empty()
    }
}

impl Destination {
    /// The section it is written in.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Alertmanager(_) => "alertmanager",
            Self::Stdout(_) => "stdout",
            Self::File(_) => "file",
        }
    }
}

impl Settings {
    /// Reads and checks settings.
    ///
    /// # Errors
    /// `Reject`, with the line, what is wrong there and what to write instead; never with a value that may be secret.
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        let config: NotifyConfig = serde_yaml_ng::from_str(yaml).map_err(|error| {
            let at = error.location();
            Error::Yaml {
                line: at.as_ref().map_or(1, |at| at.line()),
                column: at.as_ref().map_or(1, |at| at.column()),
                problem: config::without_values(&error.to_string()),
            }
        })?;
        check(config).map_err(|complaint| Error::Setting {
            line: locate(yaml, &complaint.at),
            key: Step::path(&complaint.at),
            problem: complaint.problem,
            advice: complaint.advice,
        })
    }
}

#[cfg(test)]
mod tests;
