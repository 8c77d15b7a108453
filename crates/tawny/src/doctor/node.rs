//! This machine: log files, inotify, sockets, and room for the store.

use std::{fs, io, path::Path, time::Duration};

use tawny_collect::SourceKind;
use tawny_model::ByteSize;
use tokio::{net::UnixStream, time::timeout};

use super::report::Report;
use crate::config::keys::Config;

/// Below it a busy node's watches may not fit; kernels since 5.11 allow more by themselves.
const ENOUGH_WATCHES: u64 = 8_192;

/// Less free space than this is used up within minutes.
const ENOUGH_SPACE: ByteSize = ByteSize::mib(256);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn examine_files(
    config: &Config,
    source: SourceKind,
    is_in_pod: bool,
    report: &mut Report,
) {
    let root = &config.collect.pod_logs_root;
    match (fs::read_dir(root), source) {
        (Ok(entries), _) => report.ok(
            "log files",
            format!("{} holds {} pods", root.display(), entries.count()),
        ),
        (Err(error), SourceKind::Files) => report.problem(
            "log files",
            format!("cannot list {}: {error}", root.display()),
            "run as root with the directory mounted, or choose --source api",
        ),
        (Err(error), SourceKind::Api | SourceKind::Docker) => report.note(
            "log files",
            format!("cannot list {}: {error}", root.display()),
            "nothing, unless this is a node: the API is asked for logs instead",
        ),
    }
    if source != SourceKind::Files {
        return;
    }
    match &config.collect.node_name {
        Some(node) => report.ok("node", node),
        None if is_in_pod => report.problem(
            "node",
            "the name of this node is not known",
            NODE_NAME_REMEDY,
        ),
        None => report.note(
            "node",
            "the name of this node is not known, so pods of all nodes are watched",
            "set NODE_NAME or --node-name",
        ),
    }
}

/// How a pod learns the name of its node.
pub(crate) const NODE_NAME_REMEDY: &str = "set NODE_NAME in the pod's spec: {name: NODE_NAME, valueFrom: {fieldRef: \
     {fieldPath: spec.nodeName}}}, or give --node-name";

pub(super) async fn examine_socket(socket: &Path, report: &mut Report) {
    match timeout(CONNECT_TIMEOUT, UnixStream::connect(socket)).await {
        Ok(Ok(_)) => report.ok("engine", format!("{} answers", socket.display())),
        Ok(Err(error)) => {
            let fix = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "join the group that owns it (often `docker`), or run as root"
                }
                io::ErrorKind::NotFound => {
                    "start the engine, or name its socket with --docker-socket"
                }
                _ => "start the engine",
            };
            report.problem("engine", format!("{}: {error}", socket.display()), fix);
        }
        Err(_) => report.problem(
            "engine",
            format!("{} does not answer", socket.display()),
            "restart the engine",
        ),
    }
}

pub(super) fn examine_inotify(report: &mut Report) {
    let limit = |name: &str| -> Option<u64> {
        fs::read_to_string(Path::new("/proc/sys/fs/inotify").join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    match (limit("max_user_watches"), limit("max_user_instances")) {
        (Some(watches), _) if watches < ENOUGH_WATCHES => report.note(
            "inotify",
            format!("only {watches} watches a user"),
            format!("sysctl fs.inotify.max_user_watches={ENOUGH_WATCHES}; without, new lines are found by looking again"),
        ),
        (Some(watches), Some(instances)) => report.ok(
            "inotify",
            format!("{watches} watches and {instances} instances a user"),
        ),
        _ => report.note(
            "inotify",
            "not available",
            "nothing: new lines are found by looking again",
        ),
    }
}

pub(super) fn examine_store(path: &Path, report: &mut Report) {
    let dir = match path.parent() {
        _ if path.is_dir() => path,
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // Directories that are missing are made; what counts is the first that is there.
    let Some(there) = dir.ancestors().map(or_here).find(|dir| dir.exists()) else {
        return report.problem(
            "store",
            format!("no directory leads to {}", path.display()),
            "choose another place with --db",
        );
    };
    if let Err(error) = tempfile::tempfile_in(there) {
        return report.problem(
            "store",
            format!("cannot write in {}: {error}", there.display()),
            "choose another place with --db, or let this user write there",
        );
    }
    match rustix::fs::statvfs(there) {
        Ok(space) => {
            let free = ByteSize(space.f_bavail.saturating_mul(space.f_frsize));
            let text = format!("{} can be written, {free} free", path.display());
            if free < ENOUGH_SPACE {
                report.problem(
                    "store",
                    text,
                    "free space, or keep less with --retention-size",
                );
            } else {
                report.ok("store", text);
            }
        }
        Err(error) => report.note(
            "store",
            format!(
                "{} can be written; free space unknown: {error}",
                path.display()
            ),
            "look with df",
        ),
    }
}

/// The empty path is the current directory.
fn or_here(path: &Path) -> &Path {
    if path == Path::new("") {
        Path::new(".")
    } else {
        path
    }
}
