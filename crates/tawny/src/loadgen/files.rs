//! Load as pod log files: what a collector reads on a node.

use std::{collections::HashMap, path::Path};

use anyhow::Context as _;
use indicatif::ProgressBar;
use tawny_runtime::{Clock as _, SystemClock};

use super::{LoadgenArgs, Pace, Sent};
use crate::corpus::{Pod, PodLog, Rng, Rotation, pods, write_message};

/// Writes until the pace is over. Every message is a line; a stack trace is several, counted as one.
///
/// # Errors
/// Those of the file system, with the directory's name.
pub(super) async fn run(
    args: &LoadgenArgs,
    dir: &Path,
    progress: &ProgressBar,
) -> anyhow::Result<Sent> {
    let mut rng = Rng::new(args.seed);
    let pods = pods(
        usize::try_from(args.namespaces)?,
        usize::try_from(args.pods)?,
        &mut rng,
    );
    let rotation = Rotation {
        max_bytes: args.rotate_size.as_bytes(),
        max_files: usize::try_from(args.rotate_files)?,
    };
    let mut writer = Writer {
        root: dir.to_owned(),
        pods,
        rotation,
        rng,
        logs: HashMap::new(),
        error_percent: args.error_rate,
    };
    let mut pace = Pace::new(args.rate, args.duration, args.lines);
    let mut sent = Sent::default();
    while let Some(n) = pace.next(args.batch_size).await {
        let task = tokio::task::spawn_blocking(move || {
            let written = writer.write(n);
            (writer, written)
        });
        let (back, written) = task.await.context("the writer panicked")?;
        writer = back;
        sent.n_bytes +=
            written.with_context(|| format!("write pod logs under {}", dir.display()))?;
        sent.n_messages += n;
        progress.inc(n);
    }
    Ok(sent)
}

struct Writer {
    root: std::path::PathBuf,
    pods: Vec<Pod>,
    rotation: Rotation,
    rng: Rng,
    logs: HashMap<(usize, usize), PodLog>,
    error_percent: u64,
}

impl Writer {
    /// Writes `n` messages and hands them to the operating system; answers their bytes.
    fn write(&mut self, n: u64) -> std::io::Result<u64> {
        let mut n_bytes = 0;
        let mut message = String::new();
        for _ in 0..n {
            let pod_idx = usize::try_from(self.rng.below(self.pods.len() as u64)).unwrap_or(0);
            let pod = &self.pods[pod_idx];
            let container_idx =
                usize::try_from(self.rng.below(pod.containers.len() as u64)).unwrap_or(0);
            let container = &pod.containers[container_idx];
            let log = match self.logs.entry((pod_idx, container_idx)) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => entry.insert(PodLog::open(
                    &self.root,
                    pod,
                    container.name,
                    0,
                    self.rotation,
                )?),
            };
            let now = SystemClock.now();
            message.clear();
            let output = write_message(
                container.format,
                now,
                self.error_percent * 10,
                &mut self.rng,
                &mut message,
            );
            log.write(now, output, &message)?;
            n_bytes += message.len() as u64;
        }
        for log in self.logs.values_mut() {
            log.flush()?;
        }
        Ok(n_bytes)
    }
}
