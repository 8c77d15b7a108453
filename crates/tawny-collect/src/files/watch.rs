//! One inotify instance for everything: tells early what the reconcile scan would find out late.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};

use super::layout::LogName;

/// Directories: what is created, renamed, removed in them, and which of their files are written to.
const MASK: WatchMask = WatchMask::CREATE
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::DELETE)
    .union(WatchMask::MODIFY)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// Events are at least 16 bytes, and log file names make them 48; a full read is a few hundred events.
const EVENT_BUFFER_BYTES: usize = 16 << 10;

/// Something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// A file of this run of a container was written to.
    Written { watch: i32, restart: u32 },
    /// Entries of a watched directory came, went or changed names.
    Changed { watch: i32 },
    /// The watch is gone, with its directory.
    Ended { watch: i32 },
    /// Events were lost: look at everything.
    Overflow,
}

/// Watches on directories. Without inotify, or when its watches run out, there are none, and the caller polls.
#[derive(Debug)]
pub(super) struct Watcher {
    inotify: Option<Inotify>,
    watches: Option<Watches>,
    n_watches: usize,
    max_watches: usize,
    buffer: Vec<u8>,
}

/// A watch on one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watch(WatchDescriptor);

impl Watch {
    pub(super) fn id(&self) -> i32 {
        self.0.get_watch_descriptor_id()
    }
}

impl Watcher {
    /// Opens the instance. `max_watches` bounds the share of the system's watches.
    pub(super) fn open(max_watches: usize) -> Self {
        let inotify = Inotify::init()
            .inspect_err(
                |error| tracing::warn!(%error, "inotify is not to be had; files are polled"),
            )
            .ok();
        Self {
            watches: inotify.as_ref().map(Inotify::watches),
            inotify,
            n_watches: 0,
            max_watches,
            buffer: vec![0; EVENT_BUFFER_BYTES],
        }
    }

    /// A descriptor that becomes readable when there are events.
    pub(super) fn readiness(&self) -> Option<io::Result<OwnedFd>> {
        self.inotify
            .as_ref()
            .map(|inotify| inotify.as_fd().try_clone_to_owned())
    }

    /// Watches a directory.
    ///
    /// # Errors
    /// `StorageFull` when no watch is left; `NotFound` when the directory is gone.
    pub(super) fn add(&mut self, directory: &Path) -> io::Result<Watch> {
        let Some(watches) = &mut self.watches else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        if self.n_watches >= self.max_watches {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let watch = watches.add(directory, MASK)?;
        self.n_watches += 1;
        Ok(Watch(watch))
    }

    /// Ends a watch; one whose directory is gone has ended by itself.
    pub(super) fn remove(&mut self, watch: Watch) {
        if let Some(watches) = &mut self.watches {
            let _gone_already = watches.remove(watch.0);
        }
        self.n_watches = self.n_watches.saturating_sub(1);
    }

    /// Appends all events there are now, without repeats in a row.
    pub(super) fn read(&mut self, hints: &mut Vec<Hint>) {
        let Some(inotify) = &mut self.inotify else {
            return;
        };
        // No event is left when a read finds none; an error (as EAGAIN) says so too.
        while let Ok(events) = inotify.read_events(&mut self.buffer) {
            let mut is_empty = true;
            for event in events {
                is_empty = false;
                let watch = event.wd.get_watch_descriptor_id();
                let hint = if event.mask.contains(EventMask::Q_OVERFLOW) {
                    Hint::Overflow
                } else if event
                    .mask
                    .intersects(EventMask::IGNORED | EventMask::MOVE_SELF)
                {
                    Hint::Ended { watch }
                } else if event.mask.contains(EventMask::MODIFY) {
                    let name = event
                        .name
                        .and_then(|name| name.to_str())
                        .and_then(LogName::parse);
                    let Some(name) = name else { continue };
                    Hint::Written {
                        watch,
                        restart: name.restart,
                    }
                } else {
                    Hint::Changed { watch }
                };
                if hints.last() != Some(&hint) {
                    hints.push(hint);
                }
            }
            if is_empty {
                break;
            }
        }
    }
}
