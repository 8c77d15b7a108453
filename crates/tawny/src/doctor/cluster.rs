//! The API server: reached, recognised, and what it lets us do.

use std::time::Duration;

use tawny_kube::{Access, Cluster, Permit};
use tawny_model::Timestamp;
use tawny_runtime::{Clock as _, SystemClock};

use super::report::Report;
use crate::config::{Loaded, env::Env, keys::Config, value::Switch};

/// Clocks further apart make `--since` and the order of lines from several nodes misleading.
const MAX_SKEW: Duration = Duration::from_secs(5);

pub(super) async fn examine(loaded: &Loaded, env: &Env, report: &mut Report) {
    let cluster = match Cluster::open(&loaded.connection(env)).await {
        Ok(cluster) => cluster,
        Err(error) => return report.failure("credentials", error.to_string()),
    };
    report.ok("credentials", cluster.credentials());
    match cluster.fetch_version().await {
        Ok(version) => report.ok(
            "api server",
            format!("{} runs {}", cluster.server(), version.git_version),
        ),
        // Whatever stands in the way stands in the way of all that follows.
        Err(error) => return report.failure("api server", error.to_string()),
    }
    examine_clock(&cluster, report).await;
    examine_access(&cluster, &loaded.config, report).await;
}

async fn examine_clock(cluster: &Cluster, report: &mut Report) {
    match fetch_time(cluster).await {
        Some(theirs) => {
            let ours = SystemClock.now();
            let skew = ours
                .saturating_since(theirs)
                .max(theirs.saturating_since(ours));
            if skew > MAX_SKEW {
                report.problem(
                    "clock",
                    format!("differs from the API server's by {} s", skew.as_secs()),
                    "let NTP set the clock of this machine, or of the API server's",
                );
            } else {
                report.ok("clock", "agrees with the API server's");
            }
        }
        None => report.note(
            "clock",
            "the API server did not tell its time",
            "compare the clocks by hand",
        ),
    }
}

/// The server's time to the second, from the head of an answer. Source: RFC 9110, 6.6.1.
async fn fetch_time(cluster: &Cluster) -> Option<Timestamp> {
    let request = http::Request::get("/version")
        .body(kube::client::Body::empty())
        .ok()?;
    let response = cluster.client().send(request).await.ok()?;
    let date = response.headers().get(http::header::DATE)?.to_str().ok()?;
    let zoned = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(Timestamp::from_secs(zoned.timestamp().as_second()))
}

async fn examine_access(cluster: &Cluster, config: &Config, report: &mut Report) {
    let namespaces = &config.collect.namespaces;
    // A pattern names no namespace a right can be asked for.
    let named: Vec<String> = namespaces
        .iter()
        .filter(|namespace| !namespace.contains('*'))
        .cloned()
        .collect();
    let mut wanted = if named.len() < namespaces.len() {
        Access::for_api_source(&[])
    } else {
        Access::for_api_source(&named)
    };
    let n_needed = wanted.len();
    let watch = &config.watch;
    if watch.cluster.set() != Some(Switch::Off) {
        wanted.extend(Access::for_watch(&watch.namespaces));
    }
    // Marks on whole namespaces.
    wanted.extend(["list", "watch"].map(|verb| Access::core(verb, "namespaces", None)));
    let mut asked = std::collections::HashSet::new();
    wanted.retain(|access| asked.insert(access.clone()));
    let verdicts = match cluster.review(wanted).await {
        Ok(verdicts) => verdicts,
        Err(error) => return report.failure("access", error.to_string()),
    };
    for (idx, verdict) in verdicts.iter().enumerate() {
        match &verdict.permit {
            Permit::Allowed => report.ok("access", format!("may {}", verdict.access)),
            Permit::Denied { reason } => {
                let because = if reason.is_empty() {
                    String::new()
                } else {
                    format!(" ({reason})")
                };
                let text = format!("may not {}{because}", verdict.access);
                if idx < n_needed {
                    report.problem("access", text, verdict.access.rule_hint());
                } else {
                    // Lines are collected all the same; marks on namespaces, events or incidents are missed.
                    report.note("access", text, verdict.access.rule_hint());
                }
            }
        }
    }
}
