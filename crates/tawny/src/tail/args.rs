//! Options of `tawny tail`: stern's names and defaults.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args};
use regex::Regex;
use tawny_model::Severity;
use tawny_runtime::duration;

use super::select::{Condition, StateFilter};
use crate::render::{ColorChoice, Output, TimestampFormat};

#[derive(Debug, Clone, Args)]
pub(crate) struct TailArgs {
    /// A regular expression on pod names, or `kind/name` such as `deployment/web`; with --server, a search query.
    #[arg(value_name = "QUERY")]
    pub(crate) query: Option<String>,
    /// Follow what this server stores instead of the cluster, with the query language of `search`.
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Namespaces, separated by commas or repeated; default is the kubeconfig context's.
    #[arg(short, long, value_delimiter = ',', action = ArgAction::Append)]
    pub(crate) namespace: Vec<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Label selector.
    #[arg(short = 'l', long)]
    pub(crate) selector: Option<String>,
    /// Field selector.
    #[arg(long)]
    pub(crate) field_selector: Option<String>,
    /// Pods of this node only.
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Container name (regular expression).
    #[arg(short, long, default_value = ".*")]
    pub(crate) container: Regex,
    /// Container names to leave out (regular expression).
    #[arg(short = 'E', long, action = ArgAction::Append)]
    pub(crate) exclude_container: Vec<Regex>,
    /// Pod names to leave out (regular expression).
    #[arg(long, action = ArgAction::Append)]
    pub(crate) exclude_pod: Vec<Regex>,
    /// Pods with this condition only: `Ready`, `Ready=false`.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(super) condition: Option<Condition>,
    /// Containers in these states only.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "all")]
    pub(super) container_state: Vec<StateFilter>,
    /// Init containers too.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub(crate) init_containers: bool,
    /// Ephemeral containers too.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub(crate) ephemeral_containers: bool,
    /// Lines newer than this.
    #[arg(short, long, default_value = "48h", value_parser = duration::parse)]
    pub(crate) since: Duration,
    /// This many last lines of each container; -1 is all.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub(crate) tail: i64,
    /// The run before the present one, as `kubectl logs --previous`.
    #[arg(long)]
    pub(crate) previous: bool,
    /// Exit when all lines have been shown.
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// Print lines as they come, not in order of time.
    #[arg(long)]
    pub(crate) no_sort: bool,
    /// How long a line waits for earlier ones of other containers.
    #[arg(long, default_value = "500ms", value_parser = duration::parse, value_name = "DURATION")]
    pub(crate) watermark: Duration,
    /// Lines to show (regular expression); several are alternatives.
    #[arg(short, long, action = ArgAction::Append)]
    pub(crate) include: Vec<Regex>,
    /// Lines to leave out (regular expression).
    #[arg(short, long, action = ArgAction::Append)]
    pub(crate) exclude: Vec<Regex>,
    /// Parts of lines to mark (regular expression).
    #[arg(short = 'H', long, action = ArgAction::Append)]
    pub(crate) highlight: Vec<Regex>,
    /// Lines that match a query of the search language.
    #[arg(short = 'f', long = "filter", value_name = "QUERY")]
    pub(crate) filter: Option<String>,
    /// Lines of this level or worse.
    #[arg(long, value_parser = parse_level)]
    pub(crate) level: Option<Severity>,
    /// No markers for started and ended containers.
    #[arg(long)]
    pub(crate) only_log_lines: bool,
    /// What a line looks like.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Go template for a line, with stern's fields and functions.
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// File that holds the template.
    #[arg(short = 'T', long, value_name = "FILE")]
    pub(crate) template_file: Option<PathBuf>,
    /// Print times.
    #[arg(short, long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "default")]
    pub(crate) timestamps: Option<TimestampFormat>,
    /// Time zone of printed times, `Local` or an IANA name.
    #[arg(long, default_value = "Local")]
    pub(crate) timezone: String,
    /// When to colour.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) color: ColorChoice,
    /// SGR colours for pods, such as 91,92,93.
    #[arg(long, value_name = "SGR,…")]
    pub(crate) pod_colors: Option<String>,
    /// SGR colours for containers, as many as for pods.
    #[arg(long, value_name = "SGR,…", requires = "pod_colors")]
    pub(crate) container_colors: Option<String>,
    /// A colour for each container of a pod.
    #[arg(short, long)]
    pub(crate) diff_container: bool,
    /// Most containers followed at once; default 50, 5 with --no-follow.
    #[arg(long, value_name = "N")]
    pub(crate) max_log_requests: Option<usize>,
    /// Read lines from standard input instead of a cluster.
    #[arg(long)]
    pub(crate) stdin: bool,
    /// Print what would be followed, and exit.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn parse_level(text: &str) -> Result<Severity, String> {
    let text = text.strip_suffix('+').unwrap_or(text);
    Severity::from_text(text)
        .ok_or_else(|| "use trace, debug, info, warn, error or fatal".to_owned())
}
