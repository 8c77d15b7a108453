//! What is told: plain data that any caller can make, and the same made fit to leave the process.

use std::{collections::BTreeMap, ops::Deref};

use serde::{Deserialize, Serialize};
use tawny_incident::Severity;
use tawny_model::Timestamp;

use crate::mask::mask;

/// Something people may want to know of: a change of an incident or of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The same over the whole life of one incident or alert, different for any two.
    pub key: String,
    pub kind: Kind,
    pub severity: Severity,
    /// The class routes select by: `out_of_memory`, `log_alert`, …
    #[serde(rename = "type")]
    pub class: String,
    /// Where it is, by the names in [`label`] and whatever an alert groups by. What is unknown is left out.
    pub labels: BTreeMap<String, String>,
    /// What died, where, why and how often, in one sentence with its full stop.
    pub sentence: String,
    /// Names and values worth showing beside it, in reading order.
    pub facts: Vec<(String, String)>,
    /// What to look at or do, the likeliest first.
    pub hints: Vec<String>,
    /// What it wrote last, the oldest first.
    pub last_lines: Vec<String>,
    /// Occurrences so far.
    pub count: u64,
    pub started_at: Timestamp,
    /// `None` while it lasts.
    pub ended_at: Option<Timestamp>,
    pub links: Vec<Link>,
}

/// Names of the usual labels.
pub mod label {
    pub const CLUSTER: &str = "cluster";
    pub const NAMESPACE: &str = "namespace";
    /// `Deployment/api`.
    pub const WORKLOAD: &str = "workload";
    pub const POD: &str = "pod";
    pub const CONTAINER: &str = "container";
    pub const NODE: &str = "node";
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Opened,
    /// It happened again, or still lasts.
    Recurred,
    /// It has come to a higher severity.
    Escalated,
    /// It was over and is there again.
    Regressed,
    Resolved,
    /// Many things at once, told together.
    Digest,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Recurred => "recurred",
            Self::Escalated => "escalated",
            Self::Regressed => "regressed",
            Self::Resolved => "resolved",
            Self::Digest => "digest",
        }
    }
}

/// Where to read on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub title: String,
    /// Absolute, with `http://` or `https://`.
    pub url: String,
}

impl Notice {
    /// The value of a label; empty when there is none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

const MAX_KEY_CHARS: usize = 512;
const MAX_SENTENCE_CHARS: usize = 1_500;
const MAX_FACTS: usize = 20;
const MAX_NAME_CHARS: usize = 100;
const MAX_FACT_CHARS: usize = 1_000;
const MAX_HINTS: usize = 6;
const MAX_HINT_CHARS: usize = 500;
const MAX_LABELS: usize = 32;
const MAX_LABEL_CHARS: usize = 256;
const MAX_LINKS: usize = 4;
const MAX_URL_CHARS: usize = 1_000;
const MAX_LINES: usize = 20;
const MAX_LINE_CHARS: usize = 500;
/// Lines and characters that are looked through for secrets: more than is kept, so that none is cut in two unseen.
const MAX_SEARCHED_LINES: usize = 60;
const MAX_SEARCHED_CHARS: usize = 4 * MAX_LINE_CHARS;

/// A notice without secrets and of bounded size (at most 65,536 characters, some 3,000 as a rule): the only form that is kept
/// or sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    notice: Notice,
    n_secrets: u64,
}

impl Outgoing {
    /// Masks every text that comes from outside and cuts what is too long.
    pub fn new(notice: Notice) -> Self {
        let mut n_secrets = 0;
        let mut clean = |text: &str, max_chars: usize| {
            let masked = mask(cut(text, max_chars * 2));
            n_secrets += masked.n_secrets;
            shorten(&masked.text, max_chars)
        };
        let Notice {
            key,
            kind,
            severity,
            class,
            labels,
            sentence,
            facts,
            hints,
            last_lines,
            count,
            started_at,
            ended_at,
            links,
        } = notice;
        let labels = (labels.iter().take(MAX_LABELS))
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (shorten(name, MAX_NAME_CHARS), clean(value, MAX_LABEL_CHARS)))
            .collect();
        let facts = (facts.iter().take(MAX_FACTS))
            .map(|(name, value)| (shorten(name, MAX_NAME_CHARS), clean(value, MAX_FACT_CHARS)))
            .collect();
        let hints = (hints.iter().take(MAX_HINTS))
            .map(|hint| clean(hint, MAX_HINT_CHARS))
            .collect();
        let links = (links.iter().take(MAX_LINKS))
            .filter(|link| link.url.chars().count() <= MAX_URL_CHARS)
            .map(|link| Link {
                title: clean(&link.title, MAX_NAME_CHARS),
                url: clean(&link.url, MAX_URL_CHARS),
            })
            .collect();
        let sentence = clean(&sentence, MAX_SENTENCE_CHARS);
        let (last_lines, n_in_lines) = clean_lines(&last_lines);
        n_secrets += n_in_lines;
        Self {
            notice: Notice {
                key: cut(&key, MAX_KEY_CHARS).to_owned(),
                kind,
                severity,
                class: shorten(&class, MAX_NAME_CHARS),
                labels,
                sentence,
                facts,
                hints,
                last_lines,
                count,
                started_at,
                ended_at,
                links,
            },
            n_secrets,
        }
    }

    /// Secrets that were masked.
    pub fn n_secrets(&self) -> u64 {
        self.n_secrets
    }

    /// The same, told as something else.
    pub(crate) fn told_as(&self, kind: Kind) -> Self {
        let mut told = self.clone();
        told.notice.kind = kind;
        told
    }
}

impl Deref for Outgoing {
    type Target = Notice;

    fn deref(&self) -> &Notice {
        &self.notice
    }
}

/// The last lines, masked as one text because keys span lines.
fn clean_lines(lines: &[String]) -> (Vec<String>, u64) {
    let first = lines.len().saturating_sub(MAX_SEARCHED_LINES);
    let searched: Vec<&str> = (lines.iter().skip(first))
        .map(|line| cut(line, MAX_SEARCHED_CHARS))
        .collect();
    let searched = searched.join("\n");
    let masked = mask(&searched);
    let mut last: Vec<String> = (masked.text.lines().rev())
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .take(MAX_LINES)
        .map(|line| shorten(line, MAX_LINE_CHARS))
        .collect();
    last.reverse();
    (last, masked.n_secrets)
}

/// The first `max_chars` of a text.
pub(crate) fn cut(text: &str, max_chars: usize) -> &str {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}

/// At most `max_chars`, of which the last is `…` where something was left out.
pub(crate) fn shorten(text: &str, max_chars: usize) -> String {
    if text.chars().nth(max_chars).is_none() {
        return text.to_owned();
    }
    format!("{}…", cut(text, max_chars.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::notice;

    #[test]
    fn no_text_of_a_notice_leaves_with_a_secret_section_8_row_15() {
        let secret = "password=hunter2";
        let outgoing = Outgoing::new(Notice {
            sentence: format!("Died with {secret}."),
            facts: vec![("message".to_owned(), secret.to_owned())],
            hints: vec![secret.to_owned()],
            last_lines: vec!["x".to_owned(), secret.to_owned()],
            labels: BTreeMap::from([("tenant".to_owned(), secret.to_owned())]),
            links: vec![Link {
                title: "search".to_owned(),
                url: format!("https://t.example/?{secret}"),
            }],
            ..notice("k", Kind::Opened)
        });
        let json = serde_json::to_string(&*outgoing).unwrap();
        assert!(!json.contains("hunter2"), "{json}");
        assert_eq!(outgoing.n_secrets(), 6);
    }

    #[test]
    fn a_key_over_many_lines_is_masked_as_one() {
        let lines = [
            "a",
            "-----BEGIN PRIVATE KEY-----",
            "MIIE",
            "-----END PRIVATE KEY-----",
            "b",
        ];
        let (clean, n_secrets) = clean_lines(&lines.map(str::to_owned));
        assert_eq!((clean.join(" ").as_str(), n_secrets), ("a *** b", 1));
    }

    #[test]
    fn the_last_lines_are_kept_and_long_ones_shortened() {
        let mut lines: Vec<String> = (0..1_000).map(|n| format!("line {n}")).collect();
        lines.push("é".repeat(10_000));
        lines.push(String::new());
        let (clean, _) = clean_lines(&lines);
        assert_eq!(clean.len(), MAX_LINES);
        assert_eq!(clean[0], "line 981");
        let last = clean.last().unwrap();
        assert_eq!(last.chars().count(), MAX_LINE_CHARS);
        assert!(last.ends_with("é…"));
    }

    #[test]
    fn a_huge_notice_is_cut_to_65_536_characters() {
        let long = "x".repeat(100_000);
        let outgoing = Outgoing::new(Notice {
            key: long.clone(),
            class: long.clone(),
            sentence: long.clone(),
            labels: (0..100)
                .map(|n| (format!("{n}{long}"), long.clone()))
                .collect(),
            facts: vec![(long.clone(), long.clone()); 100],
            hints: vec![long.clone(); 100],
            last_lines: vec![long.clone(); 100],
            links: vec![
                Link {
                    title: long,
                    url: "x".repeat(MAX_URL_CHARS),
                };
                100
            ],
            ..notice("k", Kind::Opened)
        });
        let len_bytes = serde_json::to_string(&*outgoing).unwrap().len();
        assert!(len_bytes <= 64 << 10, "{len_bytes}");
        assert_eq!(outgoing.links.len(), MAX_LINKS);
    }
}
