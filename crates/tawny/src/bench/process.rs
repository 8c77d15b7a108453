//! What a server process costs: its CPU time, memory and disk, as the kernel counts them.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};

/// Longest wait for a server to start or to stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ticks of `/proc/PID/stat` in a second: `USER_HZ`, which is 100 wherever Linux runs today.
const TICKS_PER_SEC: f64 = 100.0;

/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// A server under measurement.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// `None` for one that somebody else started, and stops.
    child: Option<Child>,
    /// Reads what it says, so that it never waits for a full pipe.
    _listening: JoinSet<()>,
}

impl Process {
    /// Starts `command` and waits until its stderr has said each of `parts`; answers what stood behind them.
    pub(super) async fn start(
        mut command: Command,
        parts: &[&str],
    ) -> anyhow::Result<(Self, Vec<String>)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {:?}", command.as_std().get_program()))?;
        let pid = child.id().context("it ended at once")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = String::new();
        let mut found = vec![None; parts.len()];
        while found.contains(&None) {
            let line = timeout(PATIENCE, lines.next_line())
                .await
                .with_context(|| format!("it did not start within {PATIENCE:?}: {said}"))??
                .with_context(|| format!("it ended at its start: {said}"))?;
            for (part, found) in parts.iter().zip(&mut found) {
                if let Some((_, rest)) = line.split_once(part) {
                    *found = Some(rest.trim().to_owned());
                }
            }
            said.push_str(&line);
            said.push('\n');
        }
        let mut listening = JoinSet::new();
        listening.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let process = Self {
            pid,
            child: Some(child),
            _listening: listening,
        };
        Ok((process, found.into_iter().flatten().collect()))
    }

    /// One that runs already.
    pub(super) fn running(pid: u32) -> Self {
        Self {
            pid,
            child: None,
            _listening: JoinSet::new(),
        }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.child.is_some()
    }

    /// Ends it in order; one that somebody else started is left alone.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .context("no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        timeout(PATIENCE, child.wait())
            .await
            .with_context(|| format!("process {pid:?} did not stop"))??;
        Ok(())
    }

    /// User and system time of all its threads so far, in seconds.
    pub(super) fn cpu_secs(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name before may hold anything; `utime` and `stime` are the 12th and 13th fields behind it.
        let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
        let ticks = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(str::parse::<f64>)
            .sum::<Result<f64, _>>()?;
        Ok(ticks / TICKS_PER_SEC)
    }

    /// Waits until background work is done: at least `least`, then until it uses next to no CPU for two seconds.
    pub(super) async fn settle(&self, least: Duration) -> anyhow::Result<()> {
        const LONGEST: Duration = Duration::from_secs(300);
        sleep(least).await;
        let started = Instant::now();
        let mut before = self.cpu_secs()?;
        let mut n_quiet = 0;
        while n_quiet < 4 && started.elapsed() < LONGEST {
            sleep(Duration::from_millis(500)).await;
            let now = self.cpu_secs()?;
            n_quiet = if now - before < 0.03 { n_quiet + 1 } else { 0 };
            before = now;
        }
        Ok(())
    }

    /// Starts to watch its anonymous memory.
    pub(super) fn watch_memory(&self) -> Memory {
        let peak = Arc::new(AtomicU64::new(0));
        let mut watching = JoinSet::new();
        let (pid, seen) = (self.pid, Arc::clone(&peak));
        watching.spawn(async move {
            let mut ticks = interval(SAMPLE_EVERY);
            loop {
                ticks.tick().await;
                seen.fetch_max(anonymous_bytes(pid), Ordering::Relaxed);
            }
        });
        Memory {
            peak,
            _watching: watching,
        }
    }
}

/// The peak of a process's anonymous memory since [`Process::watch_memory`].
#[derive(Debug)]
pub(super) struct Memory {
    peak: Arc<AtomicU64>,
    _watching: JoinSet<()>,
}

impl Memory {
    pub(super) fn peak_bytes(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

/// 0 once the process has ended.
fn anonymous_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// What everything below `dir` takes on the disk. What vanishes meanwhile is not counted.
pub(super) fn disk_bytes(dir: &Path) -> io::Result<u64> {
    let mut n_bytes = 0;
    for item in fs::read_dir(dir)? {
        let item = item?;
        let Ok(metadata) = item.metadata() else {
            continue;
        };
        n_bytes += if metadata.is_dir() {
            disk_bytes(&item.path())?
        } else {
            // Blocks are of 512 bytes. Source: stat(2).
            metadata.blocks() * 512
        };
    }
    Ok(n_bytes)
}

/// Empties the page cache of the whole machine.
///
/// # Errors
/// Where that is not allowed.
pub(super) fn drop_page_cache() -> anyhow::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
        .context("drop the page cache: it takes root on the machine itself")
}
