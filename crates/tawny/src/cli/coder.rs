//! `tawny coder`: tells the users of Coder workspaces what happens to their pods.

use std::sync::Arc;

use tawny_coder::{CoderMetrics, Logstream, Settings};
use tawny_kube::Cluster;
use tawny_runtime::{
    OnExit, Registry, SharedClock, Stage, StopSignals, Supervisor, SystemClock, metrics,
};

use super::{Context, Exit, Failure, OrExit as _, Outcome, Run};
use crate::{
    config::{Flags, flags::Group, keys::CoderConfig, value::ALL_ADDRESSES},
    serve,
};

/// Sends the life of Coder workspaces' pods to Coder as startup logs, as coder-logstream-kube does.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    coder: Flags<CoderFlags>,
}

#[derive(Debug)]
struct CoderFlags;

impl Group for CoderFlags {
    const KEYS: &'static [&'static str] = &["coder", "kubernetes", "shutdown_timeout"];
}

impl Run for Args {
    const STOPS_IN_ORDER: bool = true;

    async fn run(self, context: Context) -> Outcome {
        let loaded = context.load_and_log(self.coder.given())?;
        let config = &loaded.config;
        // CL-1: wrong settings end with 1 there.
        let settings = Settings::try_from(of_crate(&config.coder)).or_exit(Exit::Refused)?;
        let signals = StopSignals::catch()?;
        let cluster = Cluster::open(&loaded.connection(&context.env)).await;
        let cluster = cluster.map_err(|error| Failure::new(Exit::Failed, error))?;
        let clock: SharedClock = Arc::new(SystemClock);
        let mut registry = Registry::default();
        metrics::register_process(&mut registry, env!("CARGO_PKG_VERSION"));
        let coder_metrics = CoderMetrics::default();
        coder_metrics.register(&mut registry);
        let mut supervisor = Supervisor::default();
        if let Some(listen) = config.coder.metrics {
            let flag = ("coder.metrics", "--metrics-addr");
            let listener = serve::bind_one(flag, listen, ALL_ADDRESSES).await?;
            super::note(&format!(
                "metrics listening on http://{}",
                listener.local_addr()?
            ));
            serve::spawn_probes(&mut supervisor, listener, registry, config);
        }
        let logstream = Logstream {
            settings,
            cluster,
            clock,
            metrics: coder_metrics,
        };
        supervisor.spawn("coder", Stage::Deliver, OnExit::StopProcess, |stop| {
            logstream.run(stop)
        });
        serve::run(supervisor, signals, config.general.shutdown_timeout).await
    }
}

fn of_crate(config: &CoderConfig) -> tawny_coder::CoderConfig {
    let CoderConfig {
        url,
        namespaces,
        field_selector,
        label_selector,
        metrics: _,
        ca_file,
        ca_dirs,
        env_from,
        reasons,
        last_lines,
        state_file,
    } = config.clone();
    tawny_coder::CoderConfig {
        url,
        namespaces,
        field_selector,
        label_selector,
        ca_file,
        ca_dirs,
        env_from,
        reasons,
        last_lines,
        state_file,
    }
}
