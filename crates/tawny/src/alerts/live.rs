//! Alert rules at work: every entry is shown to them once, as it is committed.

use std::{
    convert::Infallible,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tawny_incident::alert::{AlertChange, AlertChangeKind, Rules, State, Watch, sentence};
use tawny_notify::Handle;
use tawny_runtime::{CancellationToken, OnExit, SharedClock, Stage, Supervisor};
use tawny_store::{Committed, LogStore};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep, sleep_until},
};

use crate::notify::of_alert;

/// Counts are saved this often; a crash counts lines of this time again or not at all.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Starts to evaluate the rules, if there are any. What an earlier process counted goes on from `state`.
pub(crate) fn spawn(
    supervisor: &mut Supervisor,
    rules: &Rules,
    store: &Arc<dyn LogStore>,
    clock: &SharedClock,
    notices: Option<Handle>,
    state: PathBuf,
) {
    if rules.is_empty() {
        return;
    }
    let now = clock.now();
    let (watch, changes) = match load(&state) {
        Ok(Some(state)) => Watch::restore(rules, state, now),
        Ok(None) => (Watch::new(rules, now), Vec::new()),
        Err(error) => {
            let path = state.display();
            tracing::warn!(%path, %error, "alerts begin anew: what was counted does not read");
            (Watch::new(rules, now), Vec::new())
        }
    };
    let live = Live {
        watch,
        entries: store.subscribe(),
        clock: Arc::clone(clock),
        notices,
        state,
    };
    live.tell(&changes);
    supervisor.spawn("alerts", Stage::Deliver, OnExit::StopProcess, |stop| {
        live.run(stop)
    });
}

struct Live {
    watch: Watch,
    entries: broadcast::Receiver<Arc<Committed>>,
    clock: SharedClock,
    notices: Option<Handle>,
    state: PathBuf,
}

impl Live {
    async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut save_at = Instant::now() + SAVE_EVERY;
        loop {
            let next = self.watch.next_tick();
            let wait = next.map(|at| at.saturating_since(self.clock.now()));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep_until(save_at) => {
                    save_at = Instant::now() + SAVE_EVERY;
                    self.save().await;
                }
                () = sleep(wait.unwrap_or(SAVE_EVERY)) => {
                    let changes = self.watch.tick(self.clock.now());
                    self.tell(&changes);
                }
                committed = self.entries.recv() => match committed {
                    Ok(committed) => {
                        let now = self.clock.now();
                        for entry in &committed.entries {
                            let changes = self.watch.admit_entry(entry, now);
                            self.tell(&changes);
                        }
                    }
                    Err(RecvError::Lagged(n_missed)) => {
                        tracing::warn!(n_missed, "alert rules could not follow; some lines were not counted");
                    }
                    Err(RecvError::Closed) => break,
                },
            }
        }
        self.save().await;
        Ok(())
    }

    fn tell(&self, changes: &[AlertChange]) {
        for change in changes {
            let sentence = sentence(change);
            match change.kind {
                AlertChangeKind::Resolved(_) => {
                    tracing::info!(%sentence, "an alert is over")
                }
                _ => tracing::warn!(%sentence, "an alert fires"),
            }
            if let Some(notices) = &self.notices {
                notices.push_or_drop_newest(of_alert(change));
            }
        }
    }

    async fn save(&self) {
        let (state, path) = (self.watch.state(), self.state.clone());
        let saved = tokio::task::spawn_blocking(move || save(&path, &state)).await;
        if let Ok(Err(error)) = saved {
            let path = self.state.display();
            tracing::warn!(%path, %error, "cannot save what alert rules counted");
        }
    }
}

fn load(path: &Path) -> io::Result<Option<State>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the file at once, so that a crash leaves the old or the new one, whole.
fn save(path: &Path, state: &State) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let beside = path.with_extension("json.new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec(state).map_err(io::Error::other)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
