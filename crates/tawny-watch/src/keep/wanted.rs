//! Which incidents a reader asks for.

use tawny_incident::{Incident, Severity, book::Quiet};
use tawny_model::Timestamp;

/// Which incidents are asked for. Empty and `None` do not restrict.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub is_open: Option<bool>,
    /// This or more.
    pub severity: Option<Severity>,
    pub namespace: Option<String>,
    /// Part of the workload's or the pod's name.
    pub name: Option<String>,
    pub node: Option<String>,
    pub class: Option<String>,
    /// Only what happened in `[from, to)`.
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Leave out what is part of another incident, or was there when watching began.
    pub skip_quiet: bool,
}

impl Wanted {
    pub(super) fn takes(&self, incident: &Incident) -> bool {
        let Self {
            is_open,
            severity,
            namespace,
            name,
            node,
            class,
            from,
            to,
            skip_quiet,
        } = self;
        let subject = incident.subject();
        let has_name = |part: &String| {
            let workload = subject.workload.as_ref().map(|it| &*it.name);
            workload.is_some_and(|name| name.contains(part.as_str()))
                || subject.pod.contains(part.as_str())
        };
        is_open.is_none_or(|is_open| incident.is_open() == is_open)
            && severity.is_none_or(|least| incident.severity >= least)
            && (namespace.as_ref()).is_none_or(|it| *subject.namespace == **it)
            && name.as_ref().is_none_or(has_name)
            && node.as_ref().is_none_or(|it| *subject.node == **it)
            && (class.as_ref()).is_none_or(|it| incident.cause().class() == it)
            && from.is_none_or(|from| incident.last_at >= from)
            && to.is_none_or(|to| incident.first_at < to)
            && !(*skip_quiet && matches!(incident.quiet(), Some(Quiet::Baseline | Quiet::Child)))
    }
}
