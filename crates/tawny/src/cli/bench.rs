//! `tawny bench` as a subcommand.

use super::{Context, Exit, Outcome, Run, note};
use crate::bench::{StoreArgs, store};

/// Measures this program on this machine.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Ingest and search over made-up lines, every answer checked, beside another store if there is one.
    Store(Box<StoreArgs>),
}

impl Run for Args {
    async fn run(self, _context: Context) -> Outcome {
        let What::Store(args) = self.what;
        let wrong = store(&args).await?;
        for answer in &wrong {
            note(&format!("wrong answer: {answer}"));
        }
        Ok(if wrong.is_empty() {
            Exit::Found
        } else {
            Exit::Failed
        })
    }
}
