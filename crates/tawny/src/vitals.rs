//! Measuring the node and its containers, as a task of this process.

use std::{convert::Infallible, sync::Arc};

use tawny_incident::OomProof;
use tawny_runtime::{CancellationToken, OnExit, SharedClock, Stage, Supervisor};
use tawny_watch::{
    Vitals,
    vitals::{
        Sampler,
        ring::{DEFAULT_MAX_BYTES, Ring, SharedRing, Window},
    },
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    cli::{Exit, Failure, OrExit as _},
    config::{keys::Config, value::Switch},
};

/// Starts to measure, if that is wanted: `by_default` unless the user says so.
///
/// # Errors
/// `Usage` for a window that is too short or too long.
pub(crate) fn spawn(
    supervisor: &mut Supervisor,
    config: &Config,
    clock: &SharedClock,
    ooms_tx: mpsc::Sender<OomProof>,
    by_default: bool,
) -> Result<Option<Vitals>, Failure> {
    let vitals = &config.vitals;
    let is_wanted = match vitals.measure.set() {
        Some(switch) => switch == Switch::On,
        None => by_default,
    };
    if !is_wanted {
        return Ok(None);
    }
    let window = Window::new(vitals.window)
        .map_err(|error| anyhow::anyhow!("vitals.window: {error}"))
        .or_exit(Exit::Usage)?;
    let ring = SharedRing::new(Ring::new(window, DEFAULT_MAX_BYTES));
    let sampler = Sampler::new(vitals.proc.clone(), vitals.cgroups.clone(), ring.clone());
    let every = vitals.interval.max(std::time::Duration::from_millis(100));
    let clock = Arc::clone(clock);
    supervisor.spawn("vitals", Stage::Intake, OnExit::StopProcess, |stop| {
        run(sampler, every, clock, ooms_tx, stop)
    });
    Ok(Some(Vitals {
        ring,
        node: config
            .collect
            .node_name
            .as_deref()
            .unwrap_or_default()
            .into(),
    }))
}

async fn run(
    mut sampler: Sampler,
    every: std::time::Duration,
    clock: SharedClock,
    ooms_tx: mpsc::Sender<OomProof>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let now = clock.now();
        let sampling = tokio::task::spawn_blocking(move || {
            let sampled = sampler.sample(now);
            (sampler, sampled)
        });
        let sampled = match sampling.await {
            Ok((back, sampled)) => {
                sampler = back;
                sampled
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        for proof in sampled.proofs {
            // Waits while the watch is busy; it ends only with the process.
            if ooms_tx.send(proof).await.is_err() {
                return Ok(());
            }
        }
    }
}
