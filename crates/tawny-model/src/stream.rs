//! Where lines come from: the output of one container instance.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Which of the container's two outputs a line was written to.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Output {
    #[default]
    Stdout = 0,
    Stderr = 1,
}

impl Output {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A logical byte offset in a stream: uncompressed bytes over all its rotated files, from the first byte ever seen.
///
/// A source that has no files counts the bytes it was handed. Positions of one stream only ever grow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    pub const ZERO: Self = Self(0);

    /// The position `len_bytes` further on, or the last one there is: a position that came over the network may lie
    /// anywhere.
    #[must_use]
    pub fn advance(self, len_bytes: u64) -> Self {
        Self(self.0.saturating_add(len_bytes))
    }

    /// Bytes from `earlier` to `self`, zero when `earlier` is later.
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a stream: one run of one container of one pod. Everything else is description and may arrive later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId {
    /// Empty where there is only one.
    pub cluster: Arc<str>,
    /// UID of the pod; the container id for Docker and Podman.
    pub pod_uid: Arc<str>,
    pub container: Arc<str>,
    /// How often the container had been restarted before this run; the `N` of `N.log`.
    pub restart: u32,
}

impl StreamId {
    /// A 64-bit hash that is the same in every process and release; used where a full identity would be too wide.
    pub fn key(&self) -> StreamKey {
        // FNV-1a 64, as KL-14 uses: short inputs, and stability matters more than speed (once per stream, not per line).
        let mut hash = Fnv::default();
        for part in [&self.cluster, &self.pod_uid, &self.container] {
            hash.write(part.as_bytes());
            hash.write(&[0]);
        }
        hash.write(&self.restart.to_le_bytes());
        StreamKey(hash.finish())
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.cluster.is_empty() {
            write!(f, "{}/", self.cluster)?;
        }
        write!(f, "{}/{}/{}", self.pod_uid, self.container, self.restart)
    }
}

/// Hash of a [`StreamId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub u64);

/// FNV-1a, 64 bit. Source: <http://www.isthe.com/chongo/tech/comp/fnv/>.
#[derive(Debug, Clone, Copy)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub fn finish(self) -> u64 {
        self.0
    }
}

/// The controller that owns a pod, resolved past ReplicaSet to Deployment and past Job to CronJob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `CronJob`, …
    pub kind: Arc<str>,
    pub name: Arc<str>,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// A stream with what is known about it now.
///
/// Path-derived fields (namespace, pod, container) are always there; the rest is empty until metadata arrives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub id: StreamId,
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
    /// Empty when unknown.
    pub node: Arc<str>,
    /// Image reference as the pod spec wrote it; empty when unknown.
    pub image: Arc<str>,
    pub workload: Option<Workload>,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

impl Stream {
    /// A stream of which only the path-derived part is known.
    pub fn new(id: StreamId, namespace: impl Into<Arc<str>>, pod: impl Into<Arc<str>>) -> Self {
        Self {
            id,
            namespace: namespace.into(),
            pod: pod.into(),
            node: "".into(),
            image: "".into(),
            workload: None,
            labels: BTreeMap::new(),
        }
    }

    pub fn container(&self) -> &str {
        &self.id.container
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(container: &str, restart: u32) -> StreamId {
        StreamId {
            cluster: "".into(),
            pod_uid: "u".into(),
            container: container.into(),
            restart,
        }
    }

    #[test]
    fn no_position_is_past_the_last() {
        assert_eq!(Position(3).advance(4), Position(7));
        assert_eq!(Position(u64::MAX - 1).advance(4), Position(u64::MAX));
    }

    #[test]
    fn key_tells_restarts_and_containers_apart_and_never_changes() {
        assert_ne!(id("a", 0).key(), id("a", 1).key());
        assert_ne!(id("a", 0).key(), id("b", 0).key());
        // Stored in databases: a change of this number is a change of format.
        assert_eq!(id("a", 0).key(), StreamKey(KEY_OF_A_0));
    }

    const KEY_OF_A_0: u64 = {
        let bytes = *b"\0u\0a\0\0\0\0\0";
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut i = 0;
        while i < bytes.len() {
            hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            i += 1;
        }
        hash
    };
}
