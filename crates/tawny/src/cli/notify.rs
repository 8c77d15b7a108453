//! `tawny notify`: tries out who is told.

use std::{path::PathBuf, sync::Arc};

use clap::Subcommand;
use tawny_incident::Severity;
use tawny_notify::{Kind, Notice, NotifyMetrics, notice::label};
use tawny_runtime::{Clock as _, SharedClock, SystemClock};

use super::{Context, Exit, Failure, Outcome, Run, note};
use crate::notify;

/// Tries out the receivers of messages on incidents and alerts.
#[derive(Debug, clap::Args)]
#[group(id = "notify")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends a made-up incident to receivers and says how each answered.
    Test {
        /// The receivers by name; without any, all.
        receivers: Vec<String>,
        /// The file of receivers; unset takes `notify.path`.
        #[arg(long)]
        file: Option<PathBuf>,
    },
}

impl Run for Args {
    async fn run(self, context: Context) -> Outcome {
        let Command::Test { receivers, file } = self.command;
        let loaded = context.load(Vec::new())?;
        let config = &loaded.config;
        let Some(path) = file.or_else(|| config.notify.path.clone()) else {
            let error =
                anyhow::anyhow!("name the file of receivers with --file, or set `notify.path`");
            return Err(Failure::new(Exit::Usage, error));
        };
        let settings = notify::settings(&path)?;
        let clock: SharedClock = Arc::new(SystemClock);
        let notifier = notify::notifier(&settings, config, &clock, NotifyMetrics::default());
        let chosen = if receivers.is_empty() {
            settings
                .receivers
                .iter()
                .map(|it| it.name.clone())
                .collect()
        } else {
            receivers
        };
        let mut has_failed = false;
        for name in chosen {
            match notifier.notify_once(&name, &made_up()).await {
                Ok(()) => note(&format!("{name}: told")),
                Err(error) => {
                    has_failed = true;
                    note(&format!("{name}: {error}"));
                }
            }
        }
        Ok(if has_failed {
            Exit::Damaged
        } else {
            Exit::Found
        })
    }
}

fn made_up() -> Notice {
    let now = SystemClock.now();
    let labels = [
        (label::NAMESPACE, "tawny-test"),
        (label::WORKLOAD, "Deployment/example"),
        (label::CONTAINER, "web"),
    ];
    Notice {
        key: format!("test/{}", now.as_nanos()),
        kind: Kind::Opened,
        severity: Severity::Low,
        class: "test".to_owned(),
        labels: labels
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        sentence: "This is a test of Tawny's messages: nothing died.".to_owned(),
        facts: vec![("exit code".to_owned(), "0".to_owned())],
        hints: vec!["Nothing to do.".to_owned()],
        last_lines: vec!["the last line of a container would stand here".to_owned()],
        count: 1,
        started_at: now,
        ended_at: None,
        links: Vec::new(),
    }
}
