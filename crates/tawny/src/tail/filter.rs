//! Which lines to show: regular expressions over the raw line, level and query over what it says.

use std::sync::Arc;

use regex::Regex;
use tawny_model::{EntryId, LogEntry, Output, Severity, Stream, StreamId, Timestamp};
use tawny_query::Query;
use tawny_wire::{Scratch, parse_message};

use super::{TailArgs, follow::Target};

/// The line options of one command.
#[derive(Debug)]
pub(super) struct LineFilter {
    include: Vec<Regex>,
    exclude: Vec<Regex>,
    level: Option<Severity>,
    query: Option<Query>,
}

impl LineFilter {
    /// # Errors
    /// When the query of `--filter` does not parse; the text shows where.
    pub(super) fn new(args: &TailArgs) -> anyhow::Result<Self> {
        let query = args
            .filter
            .as_deref()
            .map(|text| {
                Query::parse(text)
                    .map_err(|error| anyhow::anyhow!("--filter: {}", error.render(text)))
            })
            .transpose()?;
        Ok(Self {
            include: args.include.clone(),
            exclude: args.exclude.clone(),
            level: args.level,
            query,
        })
    }

    /// What can be told from the text alone.
    pub(super) fn passes_text(&self, text: &str) -> bool {
        let is_included =
            self.include.is_empty() || self.include.iter().any(|regex| regex.is_match(text));
        is_included
            && !self.exclude.iter().any(|regex| regex.is_match(text))
            && self
                .level
                .is_none_or(|level| parse_message(text, &mut Scratch::default()).severity >= level)
    }

    pub(super) fn passes(&self, timestamp: Timestamp, text: &str, target: &Target) -> bool {
        self.passes_text(text)
            && self
                .query
                .as_ref()
                .is_none_or(|query| query.matches(&entry(timestamp, text, target)))
    }
}

/// The line as a store would hold it, so that a query means the same here and there.
fn entry(timestamp: Timestamp, text: &str, target: &Target) -> LogEntry {
    let mut scratch = Scratch::default();
    let parsed = parse_message(text, &mut scratch);
    let stream = match target.pod.container(&target.container) {
        Some(container) => target.pod.stream("".into(), container, target.restart),
        None => {
            let id = StreamId {
                cluster: "".into(),
                pod_uid: Arc::clone(&target.pod.uid),
                container: Arc::clone(&target.container),
                restart: target.restart,
            };
            Stream::new(
                id,
                Arc::clone(&target.pod.namespace),
                Arc::clone(&target.pod.name),
            )
        }
    };
    LogEntry {
        id: EntryId::first_at(timestamp),
        timestamp,
        severity: parsed.severity,
        output: Output::Stdout,
        message: parsed.message.to_owned(),
        attributes: parsed
            .attributes()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        stream: Arc::new(stream),
    }
}
