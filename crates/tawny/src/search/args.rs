//! Options of `tawny search`.

use clap::{ArgAction, ValueEnum};
use jiff::tz::TimeZone;
use regex::Regex;
use tawny_model::{Severity, Timestamp};
use tawny_query::{Expr, Field, FieldTest, Glob, Query};

use super::{parse_query, time};
use crate::{
    cli::{Exit, Failure},
    config::{Flags, flags::Group},
    render::{ColorChoice, Output, TimestampFormat},
};

/// Finds stored log lines by a query such as `level>=warn namespace:shop "timed out"`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = "\
Words all must match; `a OR b`, `-not`, \"a phrase\", pre*, *part*, /regex/, field:value, field:glo*, level>=warn,
label.app:web, status>=500. The exit code is 0 when something is found, 1 when nothing is.")]
pub(crate) struct Args {
    /// What to find; several words are one query. Nothing finds everything.
    #[arg(value_name = "QUERY")]
    pub(crate) query: Vec<String>,
    #[command(flatten)]
    pub(super) client: Flags<ClientFlags>,

    /// Not older than this: 2h, 3d, or a time as --from takes it.
    #[arg(long, value_name = "AGO", conflicts_with = "from", help_heading = TIME)]
    since: Option<String>,
    /// From this time on: RFC 3339, `2025-01-02 10:00`, 10:00, yesterday.
    #[arg(long, value_name = "TIME", help_heading = TIME)]
    from: Option<String>,
    /// Before this time.
    #[arg(long, visible_alias = "until", value_name = "TIME", help_heading = TIME)]
    to: Option<String>,
    #[command(flatten)]
    pub(super) looks: Looks,

    /// Most lines shown; 0 for all there are [default: 1000].
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    /// `latest` shows the newest lines in order of time, `newest` the newest first, `oldest` the oldest first.
    #[arg(long, value_enum, default_value_t)]
    pub(super) order: Order,
    /// Follow: show lines as they are stored, after the latest ones.
    #[arg(short, long, conflicts_with_all = ["to", "order", "quiet"])]
    pub(super) follow: bool,
    /// Show nothing: the exit code says whether there is anything.
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Of this level or worse.
    #[arg(long, value_parser = parse_level, help_heading = NARROW)]
    level: Option<Severity>,
    /// In these namespaces (`*` is wild); several by comma or repeated.
    #[arg(short, long, value_delimiter = ',', action = ArgAction::Append, help_heading = NARROW)]
    pub(super) namespace: Vec<String>,
    /// Of these pods (`*` is wild).
    #[arg(short, long, value_delimiter = ',', action = ArgAction::Append, help_heading = NARROW)]
    pod: Vec<String>,
    /// Of these containers (`*` is wild).
    #[arg(short, long, value_delimiter = ',', action = ArgAction::Append, help_heading = NARROW)]
    container: Vec<String>,
    /// Of pods on these nodes (`*` is wild).
    #[arg(long, value_delimiter = ',', action = ArgAction::Append, help_heading = NARROW)]
    node: Vec<String>,
    /// Of pods with all these labels: `app=web,tier=front`.
    #[arg(short = 'l', long, value_delimiter = ',', value_parser = parse_label, action = ArgAction::Append, help_heading = NARROW)]
    selector: Vec<(String, String)>,
}

const TIME: &str = "Time";
const NARROW: &str = "Narrow down";
const LOOKS: &str = "Looks";

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Looks {
    /// What a line looks like.
    #[arg(short, long, value_enum, default_value_t, help_heading = LOOKS)]
    pub(super) output: Output,
    /// Go template for a line, with stern's fields and functions.
    #[arg(long, help_heading = LOOKS)]
    pub(super) template: Option<String>,
    /// How times are shown [default: short with -o default, else none].
    #[arg(short, long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "default", help_heading = LOOKS)]
    pub(super) timestamps: Option<Times>,
    /// Time zone of times given and shown: `Local` or an IANA name.
    #[arg(long, default_value = "Local", help_heading = LOOKS)]
    timezone: String,
    /// Parts of lines to mark (regular expression).
    #[arg(short = 'H', long, action = ArgAction::Append, help_heading = LOOKS)]
    pub(super) highlight: Vec<Regex>,
    /// When to colour.
    #[arg(long, value_enum, default_value_t, help_heading = LOOKS)]
    pub(super) color: ColorChoice,
}

/// Which lines are shown when there are more than the limit, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Order {
    #[default]
    Latest,
    Newest,
    Oldest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Times {
    None,
    /// RFC 3339 with nine fraction digits.
    #[value(alias = "rfc3339")]
    Default,
    /// Month, day and time of day.
    Short,
}

/// How a server is found.
#[derive(Debug, Clone)]
pub(crate) struct ClientFlags;

impl Group for ClientFlags {
    const KEYS: &'static [&'static str] = &["server"];
}

fn parse_level(text: &str) -> Result<Severity, String> {
    Severity::from_text(text.strip_suffix('+').unwrap_or(text))
        .ok_or_else(|| "use trace, debug, info, warn, error or fatal".to_owned())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.trim_start_matches('=').to_owned()))
        .ok_or_else(|| "write LABEL=VALUE".to_owned())
}

impl Args {
    /// The query with what the options add to it.
    pub(super) fn query(&self) -> Result<Query, Failure> {
        let any_of = |field: &Field, patterns: &[String]| {
            let tests = patterns.iter().map(|pattern| {
                let test = if pattern.contains(['*', '?']) {
                    FieldTest::Glob(Glob::new(pattern))
                } else {
                    return Expr::equals(field.clone(), pattern);
                };
                Expr::Field(field.clone(), test)
            });
            (!patterns.is_empty()).then(|| Expr::any_of(tests))
        };
        let Self {
            level,
            namespace,
            pod,
            container,
            node,
            selector,
            ..
        } = self;
        let labels = selector
            .iter()
            .map(|(key, value)| Expr::equals(Field::Label(key.clone()), value));
        let added = [
            level.map(Expr::at_least),
            any_of(&Field::Namespace, namespace),
            any_of(&Field::Pod, pod),
            any_of(&Field::Container, container),
            any_of(&Field::Node, node),
        ];
        let query = parse_query(&self.query.join(" "))?;
        Ok(query.and(Expr::all_of(added.into_iter().flatten().chain(labels))))
    }

    pub(super) fn from(
        &self,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<Option<Timestamp>, Failure> {
        match (&self.since, &self.from) {
            (Some(since), _) => moment("--since", since, now, zone),
            (None, Some(from)) => moment("--from", from, now, zone),
            (None, None) => Ok(None),
        }
    }

    pub(super) fn to(&self, now: Timestamp, zone: &TimeZone) -> Result<Option<Timestamp>, Failure> {
        match &self.to {
            Some(to) => moment("--to", to, now, zone),
            None => Ok(None),
        }
    }
}

fn moment(
    flag: &str,
    text: &str,
    now: Timestamp,
    zone: &TimeZone,
) -> Result<Option<Timestamp>, Failure> {
    time::parse(text, now, zone)
        .map(Some)
        .map_err(|rule| Failure::new(Exit::Usage, anyhow::anyhow!("{flag} {text:?} {rule}")))
}

impl Looks {
    pub(super) fn zone(&self) -> Result<TimeZone, Failure> {
        match self.timezone.as_str() {
            "Local" => Ok(TimeZone::system()),
            name => TimeZone::get(name).map_err(|_| {
                Failure::new(
                    Exit::Usage,
                    anyhow::anyhow!(
                        "--timezone {name:?} is no IANA time zone, such as Europe/Berlin"
                    ),
                )
            }),
        }
    }

    pub(super) fn times(&self) -> Option<TimestampFormat> {
        match self.timestamps {
            Some(Times::None) => None,
            Some(Times::Default) => Some(TimestampFormat::Default),
            Some(Times::Short) => Some(TimestampFormat::Short),
            None => (self.output == Output::Default).then_some(TimestampFormat::Short),
        }
    }
}
