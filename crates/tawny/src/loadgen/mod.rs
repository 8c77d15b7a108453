//! `tawny loadgen`: made-up logs at a chosen rate, sent to a storage service or written as pod log files.

mod files;
mod grpc;
mod pace;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tawny_model::ByteSize;
use tawny_runtime::duration;

pub(crate) use pace::Pace;

/// Options of `tawny loadgen`; names and defaults are kubelogs' (KL-90).
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadgenArgs {
    /// Storage service to write to: `host:port`, or `:port` for this machine.
    #[arg(long, default_value = ":50051", value_name = "ADDR")]
    pub(crate) addr: String,
    /// Write pod log files under this directory instead, as containerd and the kubelet do.
    #[arg(long, value_name = "DIR", conflicts_with = "addr")]
    pub(crate) files: Option<PathBuf>,
    /// Messages per second; 0 is as fast as possible.
    #[arg(long, default_value_t = 100)]
    pub(crate) rate: u64,
    /// How long to run.
    #[arg(long, default_value = "1m", value_parser = duration::parse)]
    pub(crate) duration: Duration,
    /// Stop after this many messages.
    #[arg(long, value_name = "N")]
    pub(crate) lines: Option<u64>,
    /// Messages per request, or per write to a file.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) batch_size: u64,
    /// Namespaces to spread over, at most 20.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=20))]
    pub(crate) namespaces: u64,
    /// Pods to spread over.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) pods: u64,
    /// Percent of messages that are errors.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) error_rate: u64,
    /// The same seed makes the same messages.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Size at which a written file is rotated.
    #[arg(long, default_value = "10MiB", requires = "files")]
    pub(crate) rotate_size: ByteSize,
    /// Files kept per container.
    #[arg(long, default_value_t = 5, requires = "files", value_parser = clap::value_parser!(u64).range(2..=1_000))]
    pub(crate) rotate_files: u64,
    /// Tell each request.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) n_messages: u64,
    pub(crate) n_bytes: u64,
    pub(crate) n_failed: u64,
}

/// Runs to the end of `--duration` or `--lines` and tells the result on standard output.
///
/// # Errors
/// When the target cannot be reached or written; failed requests in between are counted and told.
pub(crate) async fn run(args: &LoadgenArgs) -> anyhow::Result<Sent> {
    let progress = progress_bar(args.lines);
    let started = tokio::time::Instant::now();
    let sent = match &args.files {
        Some(dir) => files::run(args, dir, &progress).await?,
        None => grpc::run(args, &progress).await?,
    };
    progress.finish_and_clear();
    report(&sent, started.elapsed());
    Ok(sent)
}

#[expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "the result of the command, for reading"
)]
fn report(sent: &Sent, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
    println!(
        "{} messages in {seconds:.1} s: {:.0} messages/s, {:.1} MB/s, {} failed",
        sent.n_messages,
        sent.n_messages as f64 / seconds,
        sent.n_bytes as f64 / seconds / 1e6,
        sent.n_failed,
    );
}

/// Hidden by itself where standard error is no terminal.
fn progress_bar(n_messages: Option<u64>) -> ProgressBar {
    let (bar, template) = match n_messages {
        Some(n) => (
            ProgressBar::new(n),
            "{elapsed_precise} {wide_bar} {pos}/{len} messages {per_sec} eta {eta}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{elapsed_precise} {spinner} {pos} messages {per_sec}",
        ),
    };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is fixed and valid"));
    bar
}

/// Lets kubelogs' single-dash spelling through: `-addr :50051` is `--addr :50051` (KL-90).
pub(crate) fn double_dashes(args: Vec<OsString>) -> Vec<OsString> {
    const LONG: [&str; 7] = [
        "addr",
        "rate",
        "duration",
        "batch-size",
        "namespaces",
        "pods",
        "error-rate",
    ];
    let mut is_loadgen = false;
    args.into_iter()
        .map(|arg| {
            is_loadgen |= arg == "loadgen";
            let is_long = arg
                .to_str()
                .and_then(|arg| arg.strip_prefix('-'))
                .is_some_and(|name| {
                    name.split('=')
                        .next()
                        .is_some_and(|name| LONG.contains(&name))
                });
            if is_loadgen && is_long {
                let mut doubled = OsString::from("-");
                doubled.push(arg);
                doubled
            } else {
                arg
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_dash_names_are_understood_after_loadgen_only() {
        let fixed = |text: &str| -> String {
            let fixed = double_dashes(text.split(' ').map(OsString::from).collect());
            fixed
                .iter()
                .map(|arg| arg.to_str().unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            fixed("tawny loadgen -addr :1 -rate=5 -v --pods 3"),
            "tawny loadgen --addr :1 --rate=5 -v --pods 3"
        );
        assert_eq!(fixed("tawny search -rate"), "tawny search -rate");
    }
}
