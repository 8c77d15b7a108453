//! Settings as the user writes them. Every key is documented with what it costs; nothing secret can be printed.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};
use tawny_incident::Severity;
use tawny_model::Secret;

use super::{Dialect, Form};

/// The file of `notify:`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// Where messages go. Each keeps at most 256 waiting messages in memory, and has a task of its own.
    #[serde(default)]
    pub receivers: Vec<ReceiverConfig>,
    /// Who is told of what; the first that matches decides, unless it says `continue: true`.
    #[serde(default)]
    pub routes: Vec<RouteConfig>,
    /// When a digest takes the place of single messages.
    #[serde(default)]
    pub storm: StormConfig,
    /// A message that could not be delivered for so long is dropped and counted.
    #[serde(default = "hour", deserialize_with = "duration")]
    pub give_up_after: Duration,
}

/// A receiver: its name, and exactly one of the others.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverConfig {
    /// What routes call it.
    pub name: String,
    /// JSON to a URL.
    pub webhook: Option<WebhookConfig>,
    /// Slack, Mattermost, Discord (`…/slack`), Rocket.Chat.
    pub slack: Option<SlackConfig>,
    /// Alertmanager 0.16 or newer, by its API v2.
    pub alertmanager: Option<AlertmanagerConfig>,
    /// The process's output.
    #[serde(default, deserialize_with = "present")]
    pub stdout: Option<StdoutConfig>,
    /// A file that grows by a line of JSON for each message.
    pub file: Option<FileConfig>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub url: Hidden,
    /// Sent with each message; values are kept out of logs.
    #[serde(default)]
    pub headers: BTreeMap<String, Hidden>,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Hidden>,
    /// File the token is read from at each try.
    pub token_file: Option<String>,
    /// Longest time of one try (BB-44).
    #[serde(default = "half_minute", deserialize_with = "duration")]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// URL of the incoming webhook. Whoever knows it can post.
    pub url: Option<Hidden>,
    /// File the URL is read from at each try.
    pub url_file: Option<String>,
    /// `slack`, or `markdown` for Mattermost, Rocket.Chat and Discord; known by the host for Slack and Discord.
    pub dialect: Option<Dialect>,
    /// Longest time of one try.
    #[serde(default = "half_minute", deserialize_with = "duration")]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertmanagerConfig {
    /// Base URL of every instance; each is sent everything and has a task of its own.
    pub urls: Vec<Hidden>,
    /// How often open alerts are sent again so that they do not end by themselves.
    #[serde(default = "minute", deserialize_with = "duration")]
    pub resend_after: Duration,
    /// Sent with each request; values are kept out of logs.
    #[serde(default)]
    pub headers: BTreeMap<String, Hidden>,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Hidden>,
    /// File the token is read from at each try.
    pub token_file: Option<String>,
    /// Longest time of one try.
    #[serde(default = "half_minute", deserialize_with = "duration")]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StdoutConfig {
    /// `text`: one sentence a line; `json`: one object a line.
    pub format: Form,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Opened anew for each message, so that it may be rotated.
    pub path: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Left out, everything matches.
    #[serde(default, rename = "match")]
    pub matches: MatchConfig,
    pub receiver: Option<String>,
    #[serde(default)]
    pub receivers: Vec<String>,
    /// Try the routes below as well. A receiver is told once, as the first route that names it says.
    #[serde(default, rename = "continue")]
    pub continues: bool,
    /// How long a notice waits for others of its incident or alert, to be one message with them.
    #[serde(default = "half_minute", deserialize_with = "duration")]
    pub group_wait: Duration,
    /// How often what still lasts is told again.
    #[serde(default = "four_hours", deserialize_with = "duration")]
    pub repeat_interval: Duration,
    /// Whether its end is told.
    #[serde(default = "yes")]
    pub resolved: bool,
}

/// What a route matches; all that is given must hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MatchConfig {
    /// This severity or a higher one: `low`, `medium`, `high`, `critical`.
    pub severity: Option<Severity>,
    /// Names of which one must match; `*` and `?` stand for any text and any character.
    pub namespaces: Vec<String>,
    /// Classes of which one must match, such as `out_of_memory` or `image_*`.
    pub types: Vec<String>,
    /// Labels that must all match; one that is missing counts as empty.
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StormConfig {
    /// Most messages that a chat, webhook or stdout gets one by one within the window; the rest is told as a digest.
    pub more_than: usize,
    /// The window, and how often the digest comes.
    #[serde(deserialize_with = "duration")]
    pub within: Duration,
}

impl Default for StormConfig {
    fn default() -> Self {
        Self {
            more_than: 20,
            within: minute(),
        }
    }
}

/// As `tawny_runtime::duration`, but from within the parser, so that a refusal has the line of the value.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Read;

    impl de::Visitor<'_> for Read {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as 30s")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            tawny_runtime::duration::parse(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Read)
}

fn half_minute() -> Duration {
    Duration::from_secs(30)
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn hour() -> Duration {
    Duration::from_secs(60 * 60)
}

fn four_hours() -> Duration {
    Duration::from_secs(4 * 60 * 60)
}

fn yes() -> bool {
    true
}

/// `stdout:` with nothing behind it is the default, not nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<StdoutConfig>, D::Error> {
    Option::<StdoutConfig>::deserialize(deserializer).map(|config| Some(config.unwrap_or_default()))
}

/// A secret in the settings.
#[derive(Clone, Default)]
pub struct Hidden(pub Secret);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

/// The parser's message without its position, told apart, and without the value it stumbled over, which may be a secret
/// in the wrong place.
pub(super) fn without_values(message: &str) -> String {
    let message = match message.rsplit_once(" at line ") {
        Some((message, _)) => message,
        None => message,
    };
    let Some((before, after)) = message.split_once("invalid type: ") else {
        return message.to_owned();
    };
    let Some((found, wanted)) = after.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    let kind = found.split(['"', '`']).next().unwrap_or_default().trim();
    format!("{before}invalid type: {kind}, expected {wanted}")
}
