//! Jobs that failed and CronJobs that do not run (section 4.2 rows 17 and 18).

use std::{sync::Arc, time::Duration};

use tawny_model::{
    Workload,
    observed::{ConditionStatus, CronJobState, JobState, condition},
};

use super::{Context, cron::Schedule, is_over};
use crate::{
    Cause,
    occurrence::{Findings, Health, Occurrence, Subject, bounded},
};

/// The CronJob controller may be this late without anything being wrong.
const LATE_GRACE: Duration = Duration::from_secs(60);

/// Looks at a Job: an occurrence when it failed for good, health for its CronJob or itself when it succeeded.
pub fn job(job: &JobState, context: &Context) -> Findings {
    let mut found = Findings::default();
    let workload = match &job.cron_job {
        Some(name) => named("CronJob", name),
        None => named("Job", &job.name),
    };
    let subject = Subject {
        cluster: Arc::clone(&context.cluster),
        namespace: Arc::clone(&job.namespace),
        workload: Some(workload),
        ..Subject::default()
    };
    let is = |kind: &str| {
        condition(&job.conditions, kind)
            .filter(|condition| condition.status == ConditionStatus::True)
    };
    if is("Complete").is_some() {
        let scope = subject.workload_scope();
        found
            .health
            .extend(scope.map(|scope| (scope, Health::Healthy)));
        return found;
    }
    let Some(failed) = is("Failed") else {
        return found;
    };
    let reason = if failed.reason.is_empty() {
        "Failed".into()
    } else {
        Arc::clone(&failed.reason)
    };
    found.occurrences.push(Occurrence {
        key: job_key(&job.uid),
        at: failed.changed.unwrap_or(context.now),
        cause: Cause::Job { reason },
        subject,
        signatures: Vec::new(),
        run: None,
        message: bounded(&failed.message),
        existing: failed.changed.is_none_or(|at| at < context.watching_since),
    });
    found
}

/// A Job fails once.
pub(super) fn job_key(uid: &str) -> String {
    format!("job/{uid}")
}

/// Looks at a CronJob: an occurrence when two runs in a row are overdue.
pub fn cron_job(cron: &CronJobState, context: &Context) -> Findings {
    let mut found = Findings::default();
    if cron.suspended {
        return found;
    }
    let subject = Subject {
        cluster: Arc::clone(&context.cluster),
        namespace: Arc::clone(&cron.namespace),
        workload: Some(named("CronJob", &cron.name)),
        ..Subject::default()
    };
    let trouble = |key: String, reason: &str, at, message: &str| Occurrence {
        key,
        at,
        cause: Cause::CronJob {
            reason: reason.into(),
        },
        subject: subject.clone(),
        signatures: Vec::new(),
        run: None,
        message: bounded(message),
        existing: at < context.watching_since,
    };
    let Some(schedule) = Schedule::parse(&cron.schedule) else {
        found.occurrences.push(trouble(
            format!("cronjob/{}/schedule/{}", cron.uid, cron.schedule),
            "UnparseableSchedule",
            context.now,
            &cron.schedule,
        ));
        return found;
    };
    let Some(last) = cron.last_schedule.or(cron.created) else {
        return found;
    };
    let second = schedule
        .next_after(last, cron.utc_offset_secs)
        .and_then(|first| schedule.next_after(first, cron.utc_offset_secs));
    let Some(due) = second else {
        return found;
    };
    if is_over(context.now, due, LATE_GRACE, &mut found) {
        found.occurrences.push(trouble(
            format!("cronjob/{}/missed/{}", cron.uid, last.as_secs()),
            "MissSchedule",
            due,
            "",
        ));
    }
    found
}

fn named(kind: &str, name: &str) -> Workload {
    Workload {
        kind: kind.into(),
        name: name.into(),
    }
}
