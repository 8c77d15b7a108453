//! Fetches the secrets and config maps that tokens are in, and goes on looking where one should be and is not.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Secret as SecretObject};
use kube::Api;
use rustc_hash::FxHashMap;
use tawny_kube::Cluster;
use tawny_model::Secret;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use crate::tokens::{self, Fetched, Holder, Resolved, Unfetched, Wanted};

/// Requests to the API server at once: a start among thousands of workspaces asks for as many secrets.
const CONCURRENT_REQUESTS: usize = 8;

/// The first and the longest wait before a token that should be there is looked for again.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The searches under way, one an object. Dropping it ends them.
pub(crate) struct Resolver {
    cluster: Cluster,
    permits: Arc<Semaphore>,
    searches: JoinSet<(String, Vec<Secret>)>,
    by_uid: FxHashMap<String, AbortHandle>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("searches", &self.searches.len())
            .finish_non_exhaustive()
    }
}

impl Resolver {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            permits: Arc::new(Semaphore::new(CONCURRENT_REQUESTS)),
            searches: JoinSet::new(),
            by_uid: FxHashMap::default(),
        }
    }

    /// Looks for the tokens of the object `uid` until there is one not in `refused`, or certainly none.
    pub(crate) fn start(
        &mut self,
        uid: String,
        namespace: String,
        wanted: Vec<Wanted>,
        refused: Vec<Secret>,
    ) {
        let search = Search {
            cluster: self.cluster.clone(),
            permits: Arc::clone(&self.permits),
            namespace,
            wanted,
            refused,
        };
        let key = uid.clone();
        let handle = (self.searches).spawn(async move { (key, search.run().await) });
        if let Some(before) = self.by_uid.insert(uid, handle) {
            before.abort();
        }
    }

    pub(crate) fn stop(&mut self, uid: &str) {
        if let Some(search) = self.by_uid.remove(uid) {
            search.abort();
        }
    }

    /// The next object whose tokens are known; waits for ever when none is searched for. CANCEL-SAFE.
    pub(crate) async fn next(&mut self) -> (String, Vec<Secret>) {
        loop {
            match self.searches.join_next().await {
                Some(Ok((uid, tokens))) => {
                    self.by_uid.remove(&uid);
                    return (uid, tokens);
                }
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => tracing::error!(%error, "search for tokens failed"),
                None => std::future::pending().await,
            }
        }
    }
}

fn unfetched(error: tawny_kube::Error) -> Unfetched {
    use tawny_kube::Error::{Forbidden, Refused};
    Unfetched {
        is_denied: matches!(error, Forbidden { .. } | Refused { .. }),
        reason: error.to_string(),
    }
}

struct Search {
    cluster: Cluster,
    permits: Arc<Semaphore>,
    namespace: String,
    wanted: Vec<Wanted>,
    refused: Vec<Secret>,
}

impl Search {
    async fn run(self) -> Vec<Secret> {
        let mut wait = FIRST_WAIT;
        let mut told = Vec::new();
        loop {
            let Resolved {
                mut tokens,
                problems,
            } = tokens::resolve(&self.wanted, &self.fetch().await);
            tokens.retain(|token| !self.refused.contains(token));
            for problem in problems.iter().filter(|problem| !told.contains(*problem)) {
                let namespace = &self.namespace;
                if self.wanted.iter().any(Wanted::is_named) {
                    tracing::warn!(namespace, %problem, "failed to resolve CODER_AGENT_TOKEN");
                } else {
                    tracing::debug!(namespace, %problem, "cannot look for CODER_AGENT_TOKEN in envFrom");
                }
            }
            let is_certain = problems.is_empty() && self.refused.is_empty();
            if !tokens.is_empty() || is_certain {
                return tokens;
            }
            told = problems;
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn fetch(&self) -> BTreeMap<Holder, Fetched> {
        let mut fetched = BTreeMap::new();
        let _permit = (self.permits.acquire().await).expect("the semaphore is never closed");
        for holder in tokens::holders(&self.wanted) {
            let values = match &holder {
                Holder::Secret(name) => {
                    let api: Api<SecretObject> = self.api();
                    let object = self.cluster.within(api.get_opt(name)).await;
                    object.map(|object| object.map(tokens::values_of_secret))
                }
                Holder::ConfigMap(name) => {
                    let api: Api<ConfigMap> = self.api();
                    let object = self.cluster.within(api.get_opt(name)).await;
                    object.map(|object| object.map(tokens::values_of_config_map))
                }
            };
            fetched.insert(holder, values.map_err(unfetched));
        }
        fetched
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.client().clone(), &self.namespace)
    }
}
