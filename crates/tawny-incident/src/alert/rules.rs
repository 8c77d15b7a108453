//! Rules as YAML files write them: read, checked and merged; everything wrong with all files is told at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tawny_model::stream::Fnv;
use tawny_query::{Field, Query};

use super::{
    span::short,
    template::Template,
    threshold::Threshold,
    yaml::{Fields, Node, Problem, Reader, nearest},
};
use crate::{Error, Severity};

const DAY: Duration = Duration::from_hours(24);

/// A window is a second at least, for it is counted in sixtieths, and a day at most, for it is held in memory.
pub const WINDOWS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=DAY;

/// How long an alert's condition must be untrue before it is over, unless its rule says otherwise: long enough that a
/// count around its threshold is one alert.
pub const DEFAULT_RESOLVE_AFTER: Duration = Duration::from_mins(1);

/// How long a group that lines are missing of is waited for, unless its rule says otherwise.
pub const DEFAULT_FORGET_AFTER: Duration = DAY;

/// Groups of one rule, unless it says otherwise.
pub const DEFAULT_MAX_GROUPS: usize = 1_000;

/// Fields one rule can group by.
const MAX_GROUP_FIELDS: usize = 8;
const MAX_NAME_CHARS: usize = 100;

const TOP_KEYS: &[&str] = &["rules"];
const RULE_KEYS: &[&str] = &[
    "name",
    "query",
    "of",
    "min_lines",
    "window",
    "threshold",
    "group_by",
    "severity",
    "for",
    "resolve_after",
    "forget_after",
    "max_groups",
    "labels",
    "annotations",
    "summary",
    "enabled",
];

/// One rule: which lines, how many in what time, by what they are told apart, and how bad it is.
#[derive(Debug, Clone)]
pub struct Rule {
    pub name: Arc<str>,
    /// The file it was read from, as its reader named it.
    pub file: Arc<str>,
    pub line: usize,
    /// The lines that are counted.
    pub query: Query,
    /// The lines they are a share of; with [`Threshold::Share`] and with no other.
    pub of: Option<Query>,
    /// Lines of `of` in the window before a share is judged.
    pub min_lines: u64,
    pub window: Duration,
    pub threshold: Threshold,
    /// Lines are counted apart for each combination of the values of these; empty: all together.
    pub group_by: Vec<Field>,
    pub severity: Severity,
    /// How long the threshold must be reached before it is told.
    pub hold: Duration,
    /// How long it must not be reached before that is told.
    pub resolve_after: Duration,
    /// How long a group without a line is waited for; for [`Threshold::Below`].
    pub forget_after: Duration,
    pub max_groups: usize,
    /// A rule that is not enabled is checked and listed, and never evaluated.
    pub enabled: bool,
    pub(super) labels: Vec<(String, Template)>,
    pub(super) annotations: Vec<(String, Template)>,
    pub(super) summary: Option<Template>,
}

impl Rule {
    /// The lines it has to look at; the others cannot matter to it.
    pub(super) fn looked_at(&self) -> &Query {
        self.of.as_ref().unwrap_or(&self.query)
    }

    /// A hash of what its counts mean: counts are of no use to a rule of another.
    pub(super) fn meaning(&self) -> u64 {
        let mut hash = Fnv::default();
        let mut write = |text: &str| {
            hash.write(text.as_bytes());
            hash.write(&[0]);
        };
        write(&self.query.to_string());
        write(&self.of.as_ref().map(Query::to_string).unwrap_or_default());
        write(&self.threshold.to_string());
        write(&short(self.window));
        for field in &self.group_by {
            write(&field.to_string());
        }
        hash.finish()
    }
}

/// Checked rules, of one file or several, in the order of files and lines; names are unique.
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<Arc<Rule>>);

impl Rules {
    /// Reads the rules of some files, given as name and text.
    ///
    /// # Errors
    /// `Reject`: [`Error::BadAlerts`] with every problem of every file.
    pub fn load<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> Result<Self, Error> {
        let mut loading = Loading::default();
        for (file, text) in files {
            let mut reader = Reader::new(file, text);
            if let Some(value) = reader.parse().filter(|value| !value.is_null()) {
                let root = reader.root(&value);
                if let Some(fields) = reader.fields(&root, TOP_KEYS)
                    && let Some(rules) = fields.get("rules")
                {
                    loading.list(&mut reader, &rules);
                }
            }
            loading.problems.append(&mut reader.problems);
        }
        loading.finish()
    }

    /// Reads the rules that stand as a list within another file.
    pub(super) fn inline(reader: &mut Reader<'_>, list: &Node<'_>) -> Option<Self> {
        let before = reader.problems.len();
        let mut loading = Loading::default();
        loading.list(reader, list);
        (reader.problems.len() == before).then_some(Self(loading.rules))
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Rule>> {
        self.0.iter()
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Rule>> {
        self.0.iter().find(|rule| &*rule.name == name)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Default)]
struct Loading {
    rules: Vec<Arc<Rule>>,
    /// Where each name was first given.
    names: BTreeMap<String, (String, usize)>,
    problems: Vec<Problem>,
}

impl Loading {
    fn list(&mut self, reader: &mut Reader<'_>, list: &Node<'_>) {
        for node in reader.list(list).unwrap_or_default() {
            let Some(fields) = reader.fields(&node, RULE_KEYS) else {
                continue;
            };
            let name = self.name(reader, &fields);
            let before = reader.problems.len();
            let rule = rule(reader, &fields, name.as_deref().unwrap_or_default());
            if let (Some(rule), Some(_), true) = (rule, name, reader.problems.len() == before) {
                self.rules.push(Arc::new(rule));
            }
        }
    }

    fn name(&mut self, reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<String> {
        let Some(node) = fields.get("name") else {
            reader.tell(
                fields.node(),
                "has no name; add one such as `name: api-errors`",
            );
            return None;
        };
        let name = reader.text(&node)?;
        let chars = name.chars().count();
        if name.trim() != name
            || !(1..=MAX_NAME_CHARS).contains(&chars)
            || name.contains(char::is_control)
        {
            let message = format!(
                "must be 1 to {MAX_NAME_CHARS} characters without space around and without control characters"
            );
            reader.tell(&node, message);
            return None;
        }
        if let Some((file, line)) = self.names.get(&name) {
            let message = format!("`{name}` is the name of the rule at {file}:{line} already");
            reader.tell(&node, message);
            return None;
        }
        let place = (reader.file().to_owned(), reader.line_of(&node));
        self.names.insert(name.clone(), place);
        Some(name)
    }

    fn finish(self) -> Result<Rules, Error> {
        if self.problems.is_empty() {
            Ok(Rules(self.rules))
        } else {
            Err(Error::BadAlerts {
                problems: self.problems,
            })
        }
    }
}

/// `None` when something that must be there is not; what is wrong with the rest is told as well.
fn rule(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) -> Option<Rule> {
    let query = query(reader, fields, "query");
    if fields.get("query").is_none() {
        reader.tell(
            fields.node(),
            "has no query; add one such as `query: level>=error`",
        );
    }
    let of = self::query(reader, fields, "of");
    let window = span(reader, fields, "window", WINDOWS);
    if fields.get("window").is_none() {
        reader.tell(fields.node(), "has no window; add one such as `window: 5m`");
    }
    let threshold = threshold(reader, fields);
    let group_by = group_by(reader, fields);
    let severity = severity(reader, fields);
    let hold = span(reader, fields, "for", Duration::ZERO..=DAY).unwrap_or_default();
    let resolve_after = span(reader, fields, "resolve_after", Duration::ZERO..=DAY);
    let shortest_wait = window.unwrap_or_default() * 2 + hold;
    let forget_after = forget_after(reader, fields, threshold, shortest_wait);
    let min_lines = fields
        .get("min_lines")
        .and_then(|node| reader.whole(&node, 1..=1_000_000_000));
    if let (Some(node), None) = (fields.get("min_lines"), fields.get("of")) {
        reader.tell(
            &node,
            "is the least number of lines of `of`, which this rule has not",
        );
    }
    let max_groups = fields
        .get("max_groups")
        .and_then(|node| reader.whole(&node, 1..=100_000));
    let enabled = fields
        .get("enabled")
        .and_then(|node| reader.flag(&node))
        .unwrap_or(true);
    let labels = templates(reader, fields, "labels", &group_by);
    let annotations = templates(reader, fields, "annotations", &group_by);
    let summary = fields.get("summary").and_then(|node| {
        let text = reader.text(&node)?;
        template(reader, &node, &text, &group_by)
    });
    Some(Rule {
        name: name.into(),
        file: reader.file().into(),
        line: reader.line_of(fields.node()),
        query: query?,
        of,
        min_lines: min_lines.unwrap_or(1),
        window: window?,
        threshold: threshold?,
        group_by,
        severity,
        hold,
        resolve_after: resolve_after.unwrap_or(DEFAULT_RESOLVE_AFTER),
        forget_after,
        max_groups: max_groups
            .and_then(|most| usize::try_from(most).ok())
            .unwrap_or(DEFAULT_MAX_GROUPS),
        enabled,
        labels,
        annotations,
        summary,
    })
}

fn query(reader: &mut Reader<'_>, fields: &Fields<'_>, key: &str) -> Option<Query> {
    let node = fields.get(key)?;
    let text = reader.text(&node)?;
    match Query::parse(&text) {
        Ok(query) => Some(query),
        Err(error) => {
            let drawn = error.render(&text);
            let lines: Vec<&str> = drawn.lines().take(2).collect();
            reader.tell_with(&node, error.to_string(), lines.join("\n"));
            None
        }
    }
}

fn span(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    key: &str,
    range: std::ops::RangeInclusive<Duration>,
) -> Option<Duration> {
    let node = fields.get(key)?;
    reader.span(&node, range)
}

/// A count of one line, where nothing is written; checked against `of`.
fn threshold(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Threshold> {
    let of = fields.get("of");
    let Some(node) = fields.get("threshold") else {
        if let Some(of) = of {
            reader.tell(
                &of,
                "needs a threshold that is a share, such as `threshold: \">= 5%\"`",
            );
            return None;
        }
        return Some(Threshold::AtLeast(1));
    };
    let text = reader.text(&node)?;
    let threshold = Threshold::parse(&text)
        .map_err(|message| reader.tell(&node, message))
        .ok()?;
    match (threshold, of) {
        (Threshold::Share(_), None) => {
            reader.tell(
                &node,
                "is a share: say of which lines, such as `of: \"namespace:shop\"`",
            );
            None
        }
        (Threshold::AtLeast(_) | Threshold::Below(_), Some(of)) => {
            reader.tell(
                &of,
                "goes with a threshold that is a share, such as `>= 5%`",
            );
            None
        }
        _ => Some(threshold),
    }
}

/// A group is waited for through two windows and the time the rule holds: with less it were forgotten before it fires.
fn forget_after(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    threshold: Option<Threshold>,
    least: Duration,
) -> Duration {
    let default = DEFAULT_FORGET_AFTER.max(least);
    let Some(node) = fields.get("forget_after") else {
        return default;
    };
    if !matches!(threshold, None | Some(Threshold::Below(_))) {
        let message = "is for rules that watch for too few lines (`absent`, `< 3`)";
        reader.tell(&node, message);
        return default;
    }
    reader.span(&node, least..=DAY * 90).unwrap_or(default)
}

fn group_by(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<Field> {
    /// Names long enough that a near miss is no name of an attribute.
    const LONG_NAMES: [&str; 5] = ["namespace", "container", "workload", "cluster", "severity"];
    let mut group_by = Vec::new();
    let Some(list) = fields.get("group_by") else {
        return group_by;
    };
    for (node, name) in reader.texts(&list) {
        let field = Field::named(&name);
        if name.is_empty() {
            reader.tell(
                &node,
                "must be the name of a field, such as namespace or label.app",
            );
        } else if let (Field::Attribute(key), Some(near)) = (&field, nearest(&name, LONG_NAMES))
            && *key == name
        {
            let message = format!(
                "`{name}` looks like `{near}`; write attr.{name} if an attribute is called so"
            );
            reader.tell(&node, message);
        } else if group_by.contains(&field) {
            reader.tell(&node, format!("`{field}` is in the list already"));
        } else if group_by.len() == MAX_GROUP_FIELDS {
            reader.tell(&node, format!("has more than {MAX_GROUP_FIELDS} fields"));
            break;
        } else {
            group_by.push(field);
        }
    }
    group_by
}

fn severity(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Severity {
    let severities = [
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ];
    let Some(node) = fields.get("severity") else {
        return Severity::Medium;
    };
    let text = reader.text(&node).unwrap_or_default();
    let found = severities.into_iter().find(|known| known.name() == text);
    found.unwrap_or_else(|| {
        let message = format!("`{text}` is no severity; write low, medium, high or critical");
        reader.tell(&node, message);
        Severity::Medium
    })
}

fn templates(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    key: &str,
    group_by: &[Field],
) -> Vec<(String, Template)> {
    let Some(node) = fields.get(key) else {
        return Vec::new();
    };
    reader
        .pairs(&node)
        .into_iter()
        .filter_map(|(name, node, text)| Some((name, template(reader, &node, &text, group_by)?)))
        .collect()
}

fn template(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
    text: &str,
    group_by: &[Field],
) -> Option<Template> {
    Template::parse(text, group_by)
        .map_err(|message| reader.tell(node, message))
        .ok()
}

#[cfg(test)]
mod tests;
