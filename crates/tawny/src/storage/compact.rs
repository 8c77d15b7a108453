//! `tawny storage compact`: one segment a day, as a server makes them only once they are many.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use tawny_model::ByteSize;
use tawny_runtime::{Registry, SystemClock};
use tawny_store::{LakeStore, lake::storage::LakeFiles};

use super::{StoreFlags, blocking, lake};
use crate::{
    cli::{Context, Exit, Failure, Outcome},
    config::Flags,
    serve,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    flags: Flags<StoreFlags>,
}

/// What the segments take.
#[derive(Debug, Clone, Copy)]
struct Size {
    n_segments: usize,
    n_bytes: u64,
}

pub(super) async fn run(args: Args, context: &Context) -> Outcome {
    let config = lake(context, args.flags, "compact")?;
    let before = size(&config.path).await?;
    let store = LakeStore::open(
        serve::lake_config(&config),
        Arc::new(SystemClock),
        &mut Registry::default(),
    )
    .await
    .map_err(|error| match error {
        tawny_store::Error::Locked { .. } => Failure::new(
            Exit::Failed,
            anyhow::Error::from(error).context("a running server merges by itself; to do it here"),
        ),
        error => error.into(),
    })?;
    store.compact().await?;
    // Waits for what the store is at.
    tokio::task::spawn_blocking(move || drop(store)).await?;
    let after = size(&config.path).await?;
    writeln!(
        io::stdout(),
        "{} segments of {} before, {} of {} now; the old files stay for a while, for readers from outside, and a server \
         removes them",
        before.n_segments,
        ByteSize(before.n_bytes),
        after.n_segments,
        ByteSize(after.n_bytes),
    )?;
    Ok(Exit::Found)
}

async fn size(path: &Path) -> Result<Size, anyhow::Error> {
    let path = path.to_owned();
    blocking(move |runtime| {
        let segments = LakeFiles::open(&path, runtime)?.summary()?.segments;
        Ok(Size {
            n_segments: segments.len(),
            n_bytes: segments.iter().map(|segment| segment.n_bytes).sum(),
        })
    })
    .await
}
