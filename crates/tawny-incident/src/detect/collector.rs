//! What Tawny itself cannot see or keep (section 4.2 row 24).

use std::sync::Arc;

use tawny_model::Timestamp;

use super::Context;
use crate::{
    Cause,
    occurrence::{Findings, Occurrence, Subject, bounded},
};

/// What an agent noticed about its own work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectorTrouble {
    /// A container that used to log has stopped to, though it runs.
    Silent { subject: Subject, since: Timestamp },
    /// Lines were gone before they could be read.
    LinesLost {
        subject: Subject,
        at: Timestamp,
        bytes: u64,
        /// `rotated`, …, as the gap record says.
        reason: Arc<str>,
    },
    /// The disk that holds the logs is full.
    DiskFull {
        node: Arc<str>,
        path: Arc<str>,
        at: Timestamp,
    },
}

/// Turns an agent's notice into an occurrence.
pub fn collector(trouble: &CollectorTrouble, context: &Context) -> Findings {
    let (name, subject, at, message) = match trouble {
        CollectorTrouble::Silent { subject, since } => (
            "silent",
            subject.clone(),
            *since,
            "the container runs but has stopped logging".to_owned(),
        ),
        CollectorTrouble::LinesLost {
            subject,
            at,
            bytes,
            reason,
        } => (
            "lines_lost",
            subject.clone(),
            *at,
            format!("{bytes} bytes of logs were lost: {reason}"),
        ),
        CollectorTrouble::DiskFull { node, path, at } => (
            "disk_full",
            Subject {
                node: Arc::clone(node),
                ..Subject::default()
            },
            *at,
            format!("no space left on {path}"),
        ),
    };
    let subject = Subject {
        cluster: Arc::clone(&context.cluster),
        ..subject
    };
    let key = format!(
        "collector/{name}/{}/{}/{}/{}",
        subject.node,
        subject.pod_uid,
        subject.container,
        at.as_nanos()
    );
    Findings {
        occurrences: vec![Occurrence {
            key,
            at,
            cause: Cause::Collector {
                trouble: name.into(),
            },
            subject,
            signatures: Vec::new(),
            run: None,
            message: bounded(&message),
            existing: at < context.watching_since,
        }],
        ..Findings::default()
    }
}
