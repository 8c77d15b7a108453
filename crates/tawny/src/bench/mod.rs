//! `tawny bench`: measures Tawny over made-up lines, beside a peer if there is one, and checks every answer on the way.

mod corpus;
mod fleet;
mod http;
mod ingest;
mod measure;
mod peer;
mod process;
mod queries;
mod report;
mod system;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tawny_runtime::duration;

use self::{
    corpus::Corpus,
    fleet::Fleet,
    measure::named,
    queries::{NEEDLE_QUESTION, Question, TAIL_QUESTION},
    report::Figures,
    system::{Kind, System},
};
use crate::cli::note;

/// Options of `tawny bench store`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// Lines to make; they span two and a half hours.
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    lines: u64,
    /// The same seed makes the same lines.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Engine of the measured server; unset takes its default.
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
    /// Sets any key of the measured server's configuration; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    server_set: Vec<String>,
    /// Send batches uncompressed; agents compress them.
    #[arg(long)]
    uncompressed: bool,
    /// Store to measure beside: `victorialogs=PROGRAM` starts it, `victorialogs=http://HOST:PORT` takes one that runs
    /// empty.
    #[arg(long, value_name = "NAME=PROGRAM|URL")]
    peer: Option<Peer>,
    /// Process of a peer that runs already.
    #[arg(long, value_name = "PID", requires = "peer")]
    peer_pid: Option<u32>,
    /// Data directory of a peer that runs already.
    #[arg(long, value_name = "DIR", requires = "peer")]
    peer_dir: Option<PathBuf>,
    /// Measure cold starts, too. Empties the page cache of the whole machine, which only root may do.
    #[arg(long)]
    cold: bool,
    /// Least time given to background work before it counts as done.
    #[arg(long, default_value = "5s", value_parser = duration::parse)]
    settle: Duration,
    /// How long four clients ask at once.
    #[arg(long, default_value = "10s", value_parser = duration::parse)]
    mixed: Duration,
    /// Where the lines and the stores are kept during the run; twenty gigabytes for five million lines with a peer are
    /// plenty.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What to measure beside.
#[derive(Debug, Clone)]
enum Peer {
    Program(PathBuf),
    Running(SocketAddr),
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(("victorialogs", place)) = text.split_once('=') else {
            return Err("the only peer known is `victorialogs=…`".to_owned());
        };
        match place.strip_prefix("http://") {
            Some(address) => address
                .trim_end_matches('/')
                .parse()
                .map(Self::Running)
                .map_err(|_| format!("`{address}` is no address and port")),
            None => Ok(Self::Program(place.into())),
        }
    }
}

/// Runs it all and prints the table on standard output; answers what was wrong.
///
/// # Errors
/// When a store cannot be started, written or asked.
pub(crate) async fn store(args: &StoreArgs) -> anyhow::Result<Vec<String>> {
    let scratch = match &args.dir {
        Some(dir) => {
            fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
            tempfile::tempdir_in(dir)?
        }
        None => tempfile::tempdir()?,
    };
    let peer = args.peer_kind(scratch.path())?;
    let fleet = Fleet::new(args.seed);
    let mut questions = queries::all(&fleet);
    let progress = progress_bar("making lines", args.lines);
    let lines = scratch.path().join("lines");
    fs::create_dir(&lines)?;
    let (corpus, questions) = {
        let (n_lines, seed, with_json) = (args.lines, args.seed, peer.is_some());
        let progress = progress.clone();
        let writing = move || {
            corpus::write(
                &lines,
                &fleet,
                n_lines,
                seed,
                with_json,
                &mut questions,
                &progress,
            )
            .map(|corpus| (corpus, questions))
        };
        tokio::task::spawn_blocking(writing).await??
    };
    progress.finish_and_clear();
    tell_corpus(&corpus);

    let mut settings = args.server_set.clone();
    settings.extend(
        args.engine
            .iter()
            .map(|name| format!("store.engine={name}")),
    );
    let tawny = Kind::Tawny {
        settings,
        is_compressed: !args.uncompressed,
    };
    let dir = scratch.path().join("tawny");
    let ours = figures(tawny, dir, args, &corpus, &questions).await?;
    let beside = match peer {
        Some((kind, dir)) => Some(figures(kind, dir, args, &corpus, &questions).await?),
        None => None,
    };
    print(&report::table(&questions, &ours, beside.as_ref()));
    let wrong = [Some(&ours), beside.as_ref()]
        .into_iter()
        .flatten()
        .flat_map(|figures| &figures.warm)
        .filter_map(|timed| timed.wrong.clone());
    Ok(wrong.collect())
}

impl StoreArgs {
    /// How the peer is reached, and where its data is: below `scratch` if we start it.
    fn peer_kind(&self, scratch: &Path) -> anyhow::Result<Option<(Kind, PathBuf)>> {
        Ok(match &self.peer {
            None => None,
            Some(Peer::Program(program)) => {
                let program = fs::canonicalize(program)
                    .with_context(|| format!("peer {}", program.display()))?;
                Some((Kind::VictoriaLogs { program }, scratch.join("peer")))
            }
            Some(Peer::Running(http)) => {
                let (Some(pid), Some(dir)) = (self.peer_pid, &self.peer_dir) else {
                    bail!("a peer that runs already needs --peer-pid and --peer-dir");
                };
                let kind = Kind::RunningVictoriaLogs { http: *http, pid };
                Some((kind, dir.clone()))
            }
        })
    }
}

/// Most of the lines are sent as fast as they go; the rest while questions are asked.
const PERCENT_AT_FULL_SPEED: u64 = 90;

/// Measures one store from its start to its end.
async fn figures(
    kind: Kind,
    dir: PathBuf,
    args: &StoreArgs,
    corpus: &Corpus,
    questions: &[Question],
) -> anyhow::Result<Figures> {
    fs::create_dir_all(&dir)?;
    let mut system = System::start(kind, dir).await?;
    let name = system.name();
    let [first, rest] = ingest::split(corpus, PERCENT_AT_FULL_SPEED);
    let tail = named(questions, TAIL_QUESTION)?;

    let progress = progress_bar(&format!("{name}: ingest"), corpus.n_lines);
    let ingested = ingest::load(&system, &first, args.settle, &progress).await?;
    let tails_while_ingesting = ingest::ask_while_loading(&system, &rest, tail, &progress).await?;
    progress.finish_and_clear();
    system.flush().await?;
    system.process.settle(args.settle).await?;
    let disk_bytes = process::disk_bytes(&system.dir)?;

    note(&format!(
        "{name}: {} lines in {:?}; asking",
        corpus.n_lines, ingested.elapsed
    ));
    let warm = measure::warm(&system, questions).await?;
    let queries_per_sec = measure::mixed(&system, questions, args.mixed).await?;
    let cold = if args.cold && system.process.is_ours() {
        let needle = measure::cold(&mut system, named(questions, NEEDLE_QUESTION)?).await?;
        Some((needle, measure::cold(&mut system, tail).await?))
    } else {
        None
    };
    let freshness = measure::freshness(&system).await?;
    system.stop().await?;
    #[expect(clippy::cast_precision_loss, reason = "figures for reading")]
    let disk_bytes_per_line = disk_bytes as f64 / corpus.n_lines as f64;
    Ok(Figures {
        name,
        ingested,
        disk_bytes_per_line,
        warm,
        cold,
        queries_per_sec,
        tails_while_ingesting,
        freshness,
    })
}

fn tell_corpus(corpus: &Corpus) {
    let per_line = |n_bytes: u64| n_bytes / corpus.n_lines;
    note(&format!(
        "{} lines of {} streams; {} bytes of message and {} of attributes a line, {} as JSON",
        corpus.n_lines,
        corpus.n_streams,
        per_line(corpus.message_bytes),
        per_line(corpus.attribute_bytes),
        per_line(corpus.json_bytes),
    ));
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn print(table: &str) {
    print!("{table}");
}

/// Hidden by itself where standard error is no terminal.
fn progress_bar(what: &str, n_lines: u64) -> ProgressBar {
    let bar = ProgressBar::new(n_lines);
    bar.set_style(
        ProgressStyle::with_template("{elapsed_precise} {msg} {wide_bar} {pos}/{len} {per_sec}")
            .expect("the template is fixed and valid"),
    );
    bar.set_message(what.to_owned());
    bar
}
