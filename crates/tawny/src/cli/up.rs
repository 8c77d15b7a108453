//! `tawny up`: everything in one process.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tawny_collect::{SourceKind, StoreSink};
use tawny_runtime::{Registry, SharedClock, StopSignals, Supervisor, SystemClock, metrics};
use tawny_server::Server;
use tawny_store::LogStore;

use super::{Context, Outcome, Run};
use crate::{
    collect::{self, CollectFlags},
    config::{Flags, Loaded, env::Env, value::ALL_ADDRESSES},
    serve::{self, ServeFlags},
    watch::{self, Among, How, WatchFlags},
};

/// Collects, stores and serves in one process; finds out by itself what runs the containers here.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    collect: Flags<CollectFlags>,
    #[command(flatten)]
    serve: Flags<ServeFlags>,
    #[command(flatten)]
    watch: Flags<WatchFlags>,
}

impl Run for Args {
    const STOPS_IN_ORDER: bool = true;

    async fn run(self, context: Context) -> Outcome {
        let mut flags = self.collect.given();
        flags.extend(self.serve.given());
        flags.extend(self.watch.given());
        let loaded = context.load_and_log(flags)?;
        let signals = StopSignals::catch()?;
        run(
            &loaded,
            &context.env,
            Supervisor::default(),
            signals,
            |_, _, _| {},
        )
        .await
    }
}

/// Runs all of Tawny beside what the supervisor already holds; `on_bound` learns the HTTP address and the store, and may
/// add tasks, before anything is collected.
pub(super) async fn run(
    loaded: &Loaded,
    env: &Env,
    mut supervisor: Supervisor,
    signals: StopSignals,
    on_bound: impl FnOnce(&mut Supervisor, Option<SocketAddr>, &Arc<dyn LogStore>),
) -> Outcome {
    let config = &loaded.config;
    let way = collect::choose(loaded, env)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let mut registry = Registry::default();
    metrics::register_process(&mut registry, env!("CARGO_PKG_VERSION"));
    let store = serve::open_store(config, env, Arc::clone(&clock), &mut registry).await?;
    // On a laptop nobody else is to read along; in a pod the kubelet's probes come from outside.
    let default_host = if env.in_cluster().is_some() {
        ALL_ADDRESSES
    } else {
        IpAddr::from([127, 0, 0, 1])
    };
    let listeners = serve::bind(config, default_host).await?;
    let http = listeners
        .http
        .as_ref()
        .and_then(|http| http.local_addr().ok());
    on_bound(&mut supervisor, http, &store);
    let limits = serve::limits(&config.limits, config.general.shutdown_timeout);
    let mut server = Server::new(
        Arc::clone(&store),
        Arc::clone(&clock),
        limits,
        &mut registry,
    );
    let how = How {
        by_default: way.source != SourceKind::Docker,
        among: Among::Alone,
        is_on_node: way.source == SourceKind::Files,
    };
    let watched = watch::spawn(
        &mut supervisor,
        (loaded, env),
        &store,
        &mut registry,
        &clock,
        how,
    );
    if let Some(watched) = watched.await? {
        server = server.with_incidents(watched.incidents, watched.health);
    }
    collect::spawn(
        &mut supervisor,
        loaded,
        env,
        way,
        Arc::new(StoreSink(Arc::clone(&store))),
        &mut registry,
        Arc::clone(&clock),
    )
    .await?;
    serve::spawn(
        &mut supervisor,
        server,
        listeners,
        registry,
        store,
        clock,
        &config.store,
    );
    serve::run(supervisor, signals, config.general.shutdown_timeout).await
}
