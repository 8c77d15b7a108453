//! `--follow`: entries as the server stores them, across lost connections without a gap.

use std::time::Duration;

use tawny_model::{EntryId, LogEntry};
use tawny_runtime::{Backoff, Clock as _, SystemClock};
use tawny_wire::api::{TailLine, TailNotice};

use super::{of_client, pages::Range, print::Printer};
use crate::{
    cli::{Exit, Failure, note},
    client::{Answer, Client},
};

/// Shows entries until the process is ended; comes back only with an error that trying again cannot mend.
///
/// `last` is how many entries of the past to begin with; `None` for all in the range.
pub(super) async fn run(
    client: &Client,
    range: &Range,
    last: Option<usize>,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut first = range.parameters();
    first.extend(last.map(|last| ("last", last.to_string())));
    let started = SystemClock.now();
    let mut cursor = None;
    let mut backoff = Backoff::new(
        Duration::from_millis(200),
        Duration::from_secs(10),
        started.as_nanos().unsigned_abs(),
    );
    // The first failure is told at once: nothing was ever there.
    let mut answer = Some(client.get(TAIL, &first).await.map_err(of_client)?);
    loop {
        if let Some(mut answer) = answer.take() {
            backoff.reset();
            let ended = show(&mut answer, &mut cursor, printer).await?;
            note(&format!("{ended}; connecting again"));
        }
        tokio::time::sleep(backoff.next_delay()).await;
        let cursor = cursor.unwrap_or_else(|| EntryId::first_at(started));
        let again = [("q", range.query.clone()), ("cursor", cursor.to_string())];
        match client.get(TAIL, &again).await {
            Ok(connected) => answer = Some(connected),
            Err(error) if error.exit() == Exit::Failed => {}
            Err(error) => return Err(of_client(error)),
        }
    }
}

const TAIL: &str = "/api/v1/tail";

/// Shows what one connection brings, until it ends; answers why it did. An error is one of showing.
async fn show(
    answer: &mut Answer,
    cursor: &mut Option<EntryId>,
    printer: &mut Printer,
) -> Result<String, Failure> {
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => buffer.extend_from_slice(&chunk),
            Ok(None) => return Ok("the server ended the tail".to_owned()),
            Err(error) => return Ok(format!("{:#}", anyhow::Error::from(error))),
        }
        let Some(complete) = buffer.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        let rest = buffer.split_off(complete + 1);
        for line in buffer
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            match serde_json::from_slice(line)? {
                TailLine::Entry(entry) => {
                    let entry = LogEntry::from(*entry);
                    *cursor = Some(entry.id);
                    printer.entry(&entry)?;
                }
                TailLine::Notice(TailNotice::Live {}) => {}
                TailLine::Notice(TailNotice::Skipped { entries }) => note(&format!(
                    "{entries} lines were skipped: this reader is too slow; a search finds them"
                )),
                TailLine::Notice(TailNotice::Overwritten { .. }) => note(
                    "the server fell behind: lines that came late may be missing; a search finds them",
                ),
                TailLine::Notice(TailNotice::Ended { error }) => return Ok(error.message),
            }
        }
        buffer = rest;
        printer.flush()?;
    }
}
