//! Load through `kubelogs.storage.v1.StorageService/Write`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use indicatif::ProgressBar;
use tawny_runtime::{Clock as _, SystemClock};
use tawny_wire::{
    message::{Scratch, parse_message},
    proto::kubelogs::{LogEntry, WriteRequest, storage_service_client::StorageServiceClient},
};
use tonic::transport::Endpoint;

use super::{LoadgenArgs, Pace, Sent};
use crate::corpus::{Pod, Rng, pods, write_message};

/// Sends until the pace is over.
///
/// # Errors
/// When no connection can be made.
pub(super) async fn run(args: &LoadgenArgs, progress: &ProgressBar) -> anyhow::Result<Sent> {
    let url = url_of(&args.addr);
    let endpoint = Endpoint::from_shared(url.clone())
        .with_context(|| format!("`{url}` is no address: write host:port"))?;
    let channel = endpoint
        .connect()
        .await
        .with_context(|| format!("no storage service answers at {url}: start one with `tawny server`, or name it with --addr"))?;
    let mut client = StorageServiceClient::new(channel);
    let mut rng = Rng::new(args.seed);
    let pods = pods(
        usize::try_from(args.namespaces)?,
        usize::try_from(args.pods)?,
        &mut rng,
    );
    let mut scratch = Scratch::default();
    let mut pace = Pace::new(args.rate, args.duration, args.lines);
    let mut sent = Sent::default();
    while let Some(n) = pace.next(args.batch_size).await {
        let entries: Vec<LogEntry> = (0..n)
            .map(|_| entry(&pods, args.error_rate, &mut rng, &mut scratch))
            .collect();
        let n_bytes: usize = entries.iter().map(|entry| entry.message.len()).sum();
        match client.write(WriteRequest { entries }).await {
            Ok(answer) => {
                sent.n_messages += n;
                sent.n_bytes += n_bytes as u64;
                if args.verbose {
                    progress.println(format!("{} entries stored", answer.into_inner().count));
                }
            }
            Err(status) => {
                sent.n_failed += n;
                progress.println(format!("{n} entries refused: {}", status.message()));
            }
        }
        progress.inc(n);
    }
    Ok(sent)
}

/// `:port` means this machine, as in kubelogs.
fn url_of(addr: &str) -> String {
    if addr.contains("://") {
        addr.to_owned()
    } else if addr.starts_with(':') {
        format!("http://127.0.0.1{addr}")
    } else {
        format!("http://{addr}")
    }
}

fn entry(pods: &[Pod], error_percent: u64, rng: &mut Rng, scratch: &mut Scratch) -> LogEntry {
    let now = SystemClock.now();
    let pod = rng.pick(pods);
    let container = rng.pick(&pod.containers);
    let mut text = String::new();
    write_message(container.format, now, error_percent * 10, rng, &mut text);
    let parsed = parse_message(&text, scratch);
    let attributes: BTreeMap<String, String> = parsed
        .attributes()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .chain([("pod_uid".to_owned(), pod.uid.clone())])
        .collect();
    LogEntry {
        id: 0,
        timestamp_nanos: now.as_nanos(),
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        container: container.name.to_owned(),
        severity: u32::from(parsed.severity.number()),
        message: parsed.message.to_owned(),
        attributes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_host_is_this_machine() {
        assert_eq!(url_of(":50051"), "http://127.0.0.1:50051");
        assert_eq!(url_of("server:1"), "http://server:1");
        assert_eq!(url_of("https://server:1"), "https://server:1");
    }
}
