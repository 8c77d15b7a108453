//! `tawny tail` as a subcommand.

use anyhow::anyhow;
use clap::{Args as _, FromArgMatches as _};
use tawny_runtime::CancellationToken;

use super::{Context, Exit, Failure, OrExit as _, Outcome, Run};
use crate::{
    config::{Flags, flags::Group},
    search,
    tail::{Looks, TailArgs, run, run_stdin, search_words},
};

/// Follows the logs of pods straight from a cluster, in order of time, or those a server stores.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    tail: TailArgs,
    #[command(flatten)]
    kubernetes: Flags<KubernetesFlags>,
}

#[derive(Debug)]
struct KubernetesFlags;

impl Group for KubernetesFlags {
    const KEYS: &'static [&'static str] = &["kubernetes"];
}

impl Run for Args {
    async fn run(self, context: Context) -> Outcome {
        if let Some(server) = &self.tail.server {
            let words = search_words(&self.tail, server).map_err(|option| {
                Failure::new(
                    Exit::Usage,
                    anyhow!("{option} needs a cluster: leave out --server"),
                )
            })?;
            let command = search::Args::augment_args(clap::Command::new("search"));
            let matches = command.try_get_matches_from(words).or_exit(Exit::Usage)?;
            return search::Args::from_arg_matches(&matches)
                .or_exit(Exit::Usage)?
                .run(context)
                .await;
        }
        let loaded = context.load(self.kubernetes.given())?;
        let looks = Looks {
            no_color: !context.env.is_color_allowed(),
            force_color: context.env.is_color_forced(),
        };
        // Never fired: the process is ended by its signal.
        let stop = CancellationToken::new();
        let n_lines = if self.tail.stdin {
            run_stdin(&self.tail, looks, stop).await?
        } else {
            let connection = loaded.connection(&context.env);
            run(&self.tail, &connection, looks, stop).await?
        };
        Ok(if n_lines == 0 {
            Exit::NothingFound
        } else {
            Exit::Found
        })
    }
}
