//! `tawny events`: what Kubernetes said, kept longer than Kubernetes keeps it.

use super::{Context, Outcome, Run};
use crate::search;

/// Finds stored Kubernetes events; takes what `tawny search` takes, such as `reason:FailedMount` or `kind:Node`.
#[derive(Debug, clap::Args)]
#[group(id = "events")]
pub(super) struct Args {
    #[command(flatten)]
    search: search::Args,
}

impl Run for Args {
    async fn run(self, context: Context) -> Outcome {
        let (source, k8s_event) = tawny_watch::EVENT_SOURCE;
        let mut search = self.search;
        let query = search.query.join(" ");
        let mut only = format!("{source}:{k8s_event}");
        if !query.trim().is_empty() {
            // A mistake is shown in the query as the user wrote it.
            search::parse_query(&query)?;
            only.push_str(&format!(" ({query})"));
        }
        search.query = vec![only];
        search.run(context).await
    }
}
