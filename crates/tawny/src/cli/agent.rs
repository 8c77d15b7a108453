//! `tawny agent`: collects on one node and hands on.

use std::sync::Arc;

use tawny_collect::{PushSink, Sink, StoreSink};
use tawny_runtime::{Registry, SharedClock, StopSignals, Supervisor, SystemClock, metrics};

use super::{Context, Exit, OrExit as _, Outcome, Run};
use crate::{
    collect::{self, CollectFlags},
    config::{Flags, flags::Group, layers::Origin, value::ALL_ADDRESSES},
    serve,
};

/// Collects and sends to a server; without a server, keeps the lines in a local store.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    agent: Flags<AgentFlags>,
    #[command(flatten)]
    collect: Flags<CollectFlags>,
}

#[derive(Debug)]
struct AgentFlags;

impl Group for AgentFlags {
    const KEYS: &'static [&'static str] = &["agent", "store", "http", "shutdown_timeout"];
    const HEADING: Option<&'static str> = Some("Handing on");
}

impl Run for Args {
    const STOPS_IN_ORDER: bool = true;

    async fn run(self, context: Context) -> Outcome {
        let mut flags = self.agent.given();
        flags.extend(self.collect.given());
        let loaded = context.load_and_log(flags)?;
        let (config, env) = (&loaded.config, &context.env);
        let signals = StopSignals::catch()?;
        let way = collect::choose(&loaded, env)?;
        let clock: SharedClock = Arc::new(SystemClock);
        let mut registry = Registry::default();
        metrics::register_process(&mut registry, env!("CARGO_PKG_VERSION"));
        let mut supervisor = Supervisor::default();
        let sink: Arc<dyn Sink> = match &config.agent.server {
            Some(address) => {
                tracing::info!(server = %address, "sending to a server");
                Arc::new(PushSink::new(address).or_exit(Exit::Usage)?)
            }
            None => {
                let path = config.store.path.display();
                tracing::info!(%path, "no server is named; keeping the lines here");
                let store =
                    serve::open_store(config, env, Arc::clone(&clock), &mut registry).await?;
                let kept = Arc::clone(&store);
                serve::spawn_upkeep(&mut supervisor, kept, Arc::clone(&clock), &config.store);
                Arc::new(StoreSink(store))
            }
        };
        collect::spawn(
            &mut supervisor,
            &loaded,
            env,
            way,
            sink,
            &mut registry,
            clock,
        )
        .await?;
        // Several agents may share a host, so none takes a port it was not given.
        if *loaded.layers.origin("http.listen") != Origin::Default
            && let Some(listener) = serve::bind_http(config, ALL_ADDRESSES).await?
        {
            serve::spawn_probes(&mut supervisor, listener, registry, config);
        }
        serve::run(supervisor, signals, config.general.shutdown_timeout).await
    }
}
