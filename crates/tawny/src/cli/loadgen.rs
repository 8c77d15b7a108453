//! `tawny loadgen` as a subcommand.

use super::{Context, Exit, Outcome, Run};
pub(super) use crate::loadgen::LoadgenArgs as Args;
use crate::loadgen::run;

impl Run for Args {
    async fn run(self, _context: Context) -> Outcome {
        let sent = run(&self).await?;
        Ok(if sent.n_failed == 0 {
            Exit::Found
        } else {
            Exit::Failed
        })
    }
}
