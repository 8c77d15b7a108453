//! Nodes, namespaces and the objects that make pods.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Condition, Deletion};
use crate::{Timestamp, Workload};

/// A node and its conditions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeState {
    pub name: Arc<str>,
    pub created: Option<Timestamp>,
    pub conditions: Vec<Condition>,
}

/// A namespace, which gets stuck when something in it cannot be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceState {
    pub uid: Arc<str>,
    pub name: Arc<str>,
    pub deletion: Option<Deletion>,
    pub conditions: Vec<Condition>,
}

/// A Job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobState {
    pub uid: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// The CronJob that made it; `None` for a Job of its own.
    pub cron_job: Option<Arc<str>>,
    /// Pods that failed so far.
    pub failed: u32,
    pub conditions: Vec<Condition>,
}

/// A CronJob.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CronJobState {
    pub uid: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// `spec.schedule`, five fields or a macro such as `@hourly`.
    pub schedule: Arc<str>,
    /// Distance of the schedule's time zone from UTC at the time of observation.
    pub utc_offset_secs: i32,
    pub suspended: bool,
    pub created: Option<Timestamp>,
    pub last_schedule: Option<Timestamp>,
}

/// A Deployment, ReplicaSet, StatefulSet or DaemonSet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadState {
    #[serde(default)]
    pub uid: Arc<str>,
    #[serde(default)]
    pub namespace: Arc<str>,
    /// The controller at the top: the Deployment for a ReplicaSet of one.
    pub workload: Workload,
    /// Pods asked for.
    #[serde(default)]
    pub desired: u32,
    /// Pods of the newest revision that are surely ready.
    #[serde(default)]
    pub ready: u32,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A HorizontalPodAutoscaler.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HpaState {
    pub uid: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub conditions: Vec<Condition>,
}
