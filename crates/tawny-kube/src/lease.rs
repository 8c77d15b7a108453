//! A Lease: of several processes that could do a thing, one does it at a time (`coordination.k8s.io/v1`).
//!
//! By the rules of client-go's leader election, whose holders it understands and is understood by: another takes over
//! once the Lease has not changed for as long as its holder said, by the watcher's own clock.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease as LeaseObject, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff,
};
use kube::{Api, api::PostParams};
use tawny_runtime::{CancellationToken, SharedClock};
use tokio::time::{Instant, sleep, timeout};

use crate::{Cluster, Error};

/// How long a holder may be silent before another takes over. Source of all three: client-go's
/// `leaderelection` defaults as kube-controller-manager sets them (15 s, 10 s, 2 s).
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long stands down, before another can have taken over.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// One Lease and who would hold it.
#[derive(Debug, Clone)]
pub struct Lease {
    pub cluster: Cluster,
    pub namespace: String,
    pub name: String,
    /// Different for every process.
    pub holder: String,
    pub clock: SharedClock,
}

/// What is known of the Lease as another holds it.
#[derive(Debug, Default)]
struct Observed {
    version: Option<String>,
    since: Option<Instant>,
}

impl Lease {
    /// Waits until this process holds the Lease; `false` when `stop` came first. Failures are logged and retried;
    /// `on_wait` learns of each, and of each time that another holds it.
    pub async fn acquire(
        &self,
        stop: &CancellationToken,
        mut on_wait: impl FnMut(Option<&Error>),
    ) -> bool {
        let mut observed = Observed::default();
        let mut told = None;
        loop {
            let attempt = tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                attempt = self.attempt(&mut observed) => attempt,
            };
            on_wait(attempt.as_ref().err());
            match attempt {
                Ok(true) => return true,
                Ok(false) => told = None,
                Err(error) if told.replace(error.kind()) == Some(error.kind()) => {
                    tracing::debug!(%error, lease = self.name, "still cannot take the lease");
                }
                Err(error) => {
                    tracing::warn!(%error, lease = self.name, "cannot take the lease; trying again");
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                () = sleep(RETRY) => {}
            }
        }
    }

    /// Renews the Lease until it is lost. Drop it to stop, and then [`Self::release`].
    pub async fn keep(&self) {
        let mut renewed_at = Instant::now();
        let mut wait = RETRY;
        loop {
            sleep(wait).await;
            wait = RETRY;
            let left = RENEW_DEADLINE.saturating_sub(renewed_at.elapsed());
            let mut observed = Observed::default();
            match timeout(left, self.attempt(&mut observed)).await {
                Ok(Ok(true)) => renewed_at = Instant::now(),
                // Somebody else wrote to it, a person perhaps: the next look says who holds it.
                Ok(Ok(false)) if observed.version.is_none() => wait = Duration::ZERO,
                Ok(Ok(false)) => {
                    tracing::warn!(lease = self.name, "another process has taken the lease");
                    return;
                }
                Ok(Err(error)) if renewed_at.elapsed() < RENEW_DEADLINE => {
                    tracing::debug!(%error, lease = self.name, "cannot renew the lease; trying again");
                }
                Ok(Err(_)) | Err(_) => {
                    tracing::warn!(lease = self.name, "the lease could not be renewed in time");
                    return;
                }
            }
        }
    }

    /// One try to take or renew it; whether this process holds it now.
    async fn attempt(&self, observed: &mut Observed) -> Result<bool, Error> {
        let api = self.api();
        let found = self.cluster.within(api.get_opt(&self.name)).await?;
        let Some(lease) = found else {
            let created = self.lease(None, None);
            let params = PostParams::default();
            return Self::won(self.cluster.within(api.create(&params, &created)).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder != self.holder && !holder.is_empty() {
            let duration = spec.lease_duration_seconds;
            let duration = duration.and_then(|secs| u64::try_from(secs).ok());
            let duration = duration.map_or(DURATION, Duration::from_secs);
            let now = Instant::now();
            if observed.version != lease.metadata.resource_version {
                observed
                    .version
                    .clone_from(&lease.metadata.resource_version);
                observed.since = Some(now);
            }
            let silent = observed.since.map_or(Duration::ZERO, |since| now - since);
            if silent < duration {
                return Ok(false);
            }
            tracing::info!(
                lease = self.name,
                holder,
                "its holder is silent; taking over"
            );
        }
        let next = self.lease(Some(&lease), Some(&spec));
        let params = PostParams::default();
        Self::won(
            (self.cluster)
                .within(api.replace(&self.name, &params, &next))
                .await,
        )
    }

    /// A conflict means that another was faster.
    fn won(written: Result<LeaseObject, Error>) -> Result<bool, Error> {
        match written {
            Ok(_) => Ok(true),
            Err(Error::BadRequest { code: 409, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets another take it at once. Best effort: without it the other waits until it is due.
    pub async fn release(&self) {
        let api = self.api();
        let Ok(Some(mut lease)) = self.cluster.within(api.get_opt(&self.name)).await else {
            return;
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.holder) {
            spec.holder_identity = Some(String::new());
            let params = PostParams::default();
            let replaced = self
                .cluster
                .within(api.replace(&self.name, &params, &lease));
            if let Err(error) = replaced.await {
                tracing::debug!(%error, lease = self.name, "cannot let go of the lease");
            }
        }
    }

    fn lease(&self, before: Option<&LeaseObject>, spec: Option<&LeaseSpec>) -> LeaseObject {
        let now = i128::from(self.clock.now().as_micros()) * 1_000;
        let now = jiff::Timestamp::from_nanosecond(now).ok().map(MicroTime);
        let is_renewal =
            spec.is_some_and(|spec| spec.holder_identity.as_ref() == Some(&self.holder));
        let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseObject {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                resource_version: before.and_then(|it| it.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.holder.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: if is_renewal {
                    spec.and_then(|spec| spec.acquire_time.clone())
                } else {
                    now.clone()
                },
                renew_time: now,
                lease_transitions: Some(if is_renewal || spec.is_none() {
                    transitions
                } else {
                    transitions.saturating_add(1)
                }),
                ..LeaseSpec::default()
            }),
        }
    }

    fn api(&self) -> Api<LeaseObject> {
        Api::namespaced(self.cluster.client().clone(), &self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tawny_model::Timestamp;
    use tawny_runtime::clock::ManualClock;

    use super::*;
    use crate::client::testing::{Answer, Asked, fake, json_body};

    /// The one Lease of a made-up API server, which may be deaf.
    #[derive(Debug, Default)]
    struct Server {
        lease: Option<Value>,
        version: u64,
        is_deaf: bool,
    }

    fn status(code: u16, reason: &str) -> Answer {
        json_body(
            code,
            &json!({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code}),
        )
    }

    impl Server {
        fn answer(&mut self, asked: &Asked) -> Answer {
            if self.is_deaf {
                return status(500, "InternalError");
            }
            if asked.body.is_empty() {
                return match &self.lease {
                    Some(lease) => json_body(200, lease),
                    None => status(404, "NotFound"),
                };
            }
            let mut written: Value = serde_json::from_slice(&asked.body).unwrap();
            let is_create = asked.uri.path().ends_with("/leases");
            let version = &written["metadata"]["resourceVersion"];
            let known = self
                .lease
                .as_ref()
                .map(|lease| &lease["metadata"]["resourceVersion"]);
            if (is_create && known.is_some()) || (!is_create && known != Some(version)) {
                return status(409, "Conflict");
            }
            self.version += 1;
            written["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.lease = Some(written.clone());
            json_body(200, &written)
        }
    }

    fn lease(server: &Arc<Mutex<Server>>, holder: &str) -> Lease {
        let server = Arc::clone(server);
        let cluster = fake(move |asked| {
            let answer = server.lock().unwrap().answer(&asked);
            async { answer }
        });
        Lease {
            cluster,
            namespace: "tawny".to_owned(),
            name: "tawny-watch".to_owned(),
            holder: holder.to_owned(),
            clock: Arc::new(ManualClock::new(Timestamp::from_secs(1_763_740_800))),
        }
    }

    fn held_by(server: &Arc<Mutex<Server>>) -> (String, i64) {
        let server = server.lock().unwrap();
        let spec = &server.lease.as_ref().unwrap()["spec"];
        let holder = spec["holderIdentity"].as_str().unwrap().to_owned();
        (holder, spec["leaseTransitions"].as_i64().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn another_takes_over_only_once_the_holder_is_silent() {
        let server = Arc::new(Mutex::new(Server::default()));
        let stop = CancellationToken::new();
        let (one, other) = (lease(&server, "one"), lease(&server, "other"));
        assert!(one.acquire(&stop, |_| {}).await);
        assert_eq!(held_by(&server), ("one".to_owned(), 0));
        let began = Instant::now();
        let keep = async {
            tokio::select! {
                () = one.keep() => {}
                () = sleep(Duration::from_secs(60)) => {}
            }
        };
        let (held, ()) = tokio::join!(other.acquire(&stop, |_| {}), keep);
        assert!(held);
        // Renewed for a minute, and then silent for as long as a Lease lasts.
        let waited = began.elapsed();
        assert!(waited >= Duration::from_secs(60 + 13), "{waited:?}");
        assert!(waited <= Duration::from_secs(60 + 15 + 5), "{waited:?}");
        assert_eq!(held_by(&server), ("other".to_owned(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_let_go_of_is_taken_at_once() {
        let server = Arc::new(Mutex::new(Server::default()));
        let stop = CancellationToken::new();
        let one = lease(&server, "one");
        assert!(one.acquire(&stop, |_| {}).await);
        one.release().await;
        assert_eq!(held_by(&server).0, "");
        let began = Instant::now();
        assert!(lease(&server, "other").acquire(&stop, |_| {}).await);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_cannot_renew_stands_down_before_another_may_take_over() {
        let server = Arc::new(Mutex::new(Server::default()));
        let stop = CancellationToken::new();
        let one = lease(&server, "one");
        assert!(one.acquire(&stop, |_| {}).await);
        server.lock().unwrap().is_deaf = true;
        let began = Instant::now();
        one.keep().await;
        assert!(began.elapsed() < DURATION, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_learns_that_another_took_it() {
        let server = Arc::new(Mutex::new(Server::default()));
        let stop = CancellationToken::new();
        let one = lease(&server, "one");
        assert!(one.acquire(&stop, |_| {}).await);
        let stolen = one.lease(None, None);
        let mut stolen = serde_json::to_value(stolen).unwrap();
        stolen["spec"]["holderIdentity"] = json!("thief");
        stolen["metadata"]["resourceVersion"] = json!("77");
        server.lock().unwrap().lease = Some(stolen);
        one.keep().await;
        assert_eq!(held_by(&server).0, "thief");
    }
}
