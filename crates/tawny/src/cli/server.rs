//! `tawny server`: the store and its interfaces.

use std::sync::Arc;

use tawny_runtime::{Registry, SharedClock, StopSignals, Supervisor, SystemClock, metrics};
use tawny_server::Server;

use super::{Context, Outcome, Run};
use crate::{
    config::{Flags, value::ALL_ADDRESSES},
    serve::{self, ServeFlags},
    watch::{self, Among, How, WatchFlags},
};

/// Stores what agents send, and answers searches, over gRPC and HTTP.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    serve: Flags<ServeFlags>,
    #[command(flatten)]
    watch: Flags<WatchFlags>,
}

impl Run for Args {
    const STOPS_IN_ORDER: bool = true;

    async fn run(self, context: Context) -> Outcome {
        let mut flags = self.serve.given();
        flags.extend(self.watch.given());
        let loaded = context.load_and_log(flags)?;
        let config = &loaded.config;
        let signals = StopSignals::catch()?;
        let clock: SharedClock = Arc::new(SystemClock);
        let mut registry = Registry::default();
        metrics::register_process(&mut registry, env!("CARGO_PKG_VERSION"));
        let store =
            serve::open_store(config, &context.env, Arc::clone(&clock), &mut registry).await?;
        let listeners = serve::bind(config, ALL_ADDRESSES).await?;
        let limits = serve::limits(&config.limits, config.general.shutdown_timeout);
        let mut server = Server::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            limits,
            &mut registry,
        );
        let mut supervisor = Supervisor::default();
        let how = How {
            by_default: context.env.in_cluster().is_some(),
            among: Among::Others,
            is_on_node: false,
        };
        let watched = watch::spawn(
            &mut supervisor,
            (&loaded, &context.env),
            &store,
            &mut registry,
            &clock,
            how,
        );
        if let Some(watched) = watched.await? {
            server = server.with_incidents(watched.incidents, watched.health);
        }
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
}
