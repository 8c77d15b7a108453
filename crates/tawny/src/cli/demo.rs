//! `tawny demo` as a subcommand.

use std::sync::Arc;

use anyhow::Context as _;
use tawny_runtime::{StopSignals, Supervisor};

use super::{Context, Exit, OrExit as _, Outcome, Run, note, up};
use crate::{
    config::{
        Flags,
        flags::{Group, parse_set},
    },
    demo::{self, DemoArgs},
};

/// Runs a made-up cluster and the whole of Tawny around it: live, searchable, with nothing to install.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    demo: DemoArgs,
    #[command(flatten)]
    listen: Flags<ListenFlags>,
}

#[derive(Debug)]
struct ListenFlags;

impl Group for ListenFlags {
    const KEYS: &'static [&'static str] = &["http", "grpc"];
}

impl Run for Args {
    const STOPS_IN_ORDER: bool = true;

    async fn run(self, context: Context) -> Outcome {
        // Everything the demo writes goes with it.
        let dir = tempfile::Builder::new()
            .prefix("tawny-demo-")
            .tempdir()
            .context("make a directory for the demo: set TMPDIR to one that can be written")?;
        let signals = StopSignals::catch()?;
        let mut supervisor = Supervisor::default();
        note("making up a cluster and its recent past …");
        let demo = demo::start(&self.demo, dir.path(), &mut supervisor).await?;
        let store = format!("store.path={}", dir.path().join("store").display());
        let mut flags = Vec::new();
        for setting in demo.settings.iter().chain([&store]) {
            let given = parse_set(setting).map_err(|error| anyhow::anyhow!("{setting}: {error}"));
            flags.push(given.or_exit(Exit::Usage)?);
        }
        // Behind the demo's own, so that the user's win.
        flags.extend(self.listen.given());
        let loaded = context.load_and_log(flags)?;
        up::run(
            &loaded,
            &context.env,
            supervisor,
            signals,
            |supervisor, http, store| {
                if let Some(http) = http {
                    demo::spawn_welcome(supervisor, format!("http://{http}"), Arc::clone(store));
                }
            },
        )
        .await
    }
}
