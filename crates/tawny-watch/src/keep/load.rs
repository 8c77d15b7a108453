//! What an earlier process left: the book, and the bundles it was not done with.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tawny_incident::{Book, IncidentId};
use tawny_model::Timestamp;

use super::{Recovered, State, files::Files};
use crate::{Error, bundle::BundleName};

/// The book's file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) version: u32,
    pub(super) saved_at: Timestamp,
    pub(super) book: Book,
    #[serde(default)]
    pub(super) muted: BTreeMap<IncidentId, Timestamp>,
    pub(super) watching_since: Timestamp,
    #[serde(default)]
    pub(super) unsealed: BTreeSet<String>,
}

pub(super) const VERSION: u32 = 1;

/// At most this long before a book was saved, bundles were frozen that it does not count: saving waits a second, and
/// file systems round.
const UNSAVED: Duration = Duration::from_secs(60);

/// Reads book and bundles, and counts the occurrences of bundles that the book does not.
pub(super) async fn load(files: &Files, now: Timestamp) -> Result<(State, Vec<Recovered>), Error> {
    let stored = match files.load_book::<Stored>().await {
        Err(error @ Error::Damaged { .. }) => {
            let aside = files.put_book_aside(now).await?;
            tracing::error!(%error, aside = %aside.display(), "put the book of incidents aside; counting again what bundles there are");
            None
        }
        stored => stored?,
    };
    let bundles = files.list_bundles().await?;
    let mut state = State {
        bundles: (bundles.iter())
            .map(|(name, file)| (*name, file.n_bytes))
            .collect(),
        watching_since: now,
        ..State::default()
    };
    let mut saved_at = None;
    if let Some(stored) = stored {
        saved_at = Some(stored.saved_at);
        state.book = stored.book;
        state.muted = stored.muted;
        state.watching_since = stored.watching_since;
        let unsealed = stored.unsealed.iter().filter_map(|name| name.parse().ok());
        state.unsealed = unsealed.filter(|name| bundles.contains_key(name)).collect();
    }
    // Those frozen by a process that died before it saved the book; without a book, all. And those it was not done with.
    let is_recent = |written_at: Timestamp| {
        saved_at.is_none_or(|saved_at| written_at >= saved_at.saturating_sub(UNSAVED))
    };
    let mut left: Vec<(Timestamp, BundleName)> = (bundles.iter())
        .filter(|(name, file)| is_recent(file.written_at) || state.unsealed.contains(name))
        .map(|(name, file)| (file.written_at, *name))
        .collect();
    left.sort_unstable();
    let mut recovered = Vec::new();
    for (_, name) in left {
        let bundle = match files.load_bundle(name).await {
            Ok(bundle) => bundle,
            Err(error) => {
                tracing::warn!(%error, "a bundle cannot be read; it is left where it is");
                continue;
            }
        };
        // As of when it was counted before, so that it gets the same id.
        let new = state
            .book
            .apply(bundle.occurrence.clone(), bundle.frozen_at);
        state.n_changes += u64::from(!new.is_empty());
        if bundle.is_sealed && (bundle.untold.is_empty() || saved_at.is_none()) {
            continue;
        }
        let changes = if bundle.untold.is_empty() {
            new
        } else {
            bundle.untold.clone()
        };
        state.unsealed.insert(name);
        recovered.push(Recovered { bundle, changes });
    }
    Ok((state, recovered))
}
