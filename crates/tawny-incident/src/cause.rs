//! What went wrong, as data: one variant per kind of trouble, with what tells two troubles of a kind apart.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Severity,
    exit::Exit,
    message::{Missing, MountFailure, PullFailure},
};

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "class", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// A container ended with an error of its own.
    Crash {
        /// `None` when the status says that it died but not how.
        exit: Option<Exit>,
    },
    /// An init container failed, so that the pod does not start.
    InitFailure { exit: Option<Exit> },
    /// A container that should run for ever ended with 0.
    UnexpectedCompletion,
    /// The kernel killed the container's main process for want of memory.
    OutOfMemory { proof: OomEvidence },
    /// The kernel killed a process in the container for want of memory; the container went on.
    ChildOutOfMemory,
    /// The kubelet killed the container because a probe failed.
    ProbeKill { probe: Probe },
    /// The container did not stop within the grace period of its pod's deletion.
    GraceOverrun { grace_secs: Option<u64> },
    /// SIGKILL that nothing explains.
    Killed,
    /// SIGTERM that nothing explains.
    Terminated,
    /// The kubelet lost sight of the container, as after a restart of its node.
    Lost,
    /// The runtime could not start the container's command.
    StartFailed { reason: Arc<str> },
    /// The image cannot be had.
    ImagePull {
        image: Arc<str>,
        failure: PullFailure,
    },
    /// The container cannot be created from its spec.
    Config {
        reason: Arc<str>,
        missing: Option<Missing>,
    },
    /// The container runs but its probe keeps it out of service.
    Unready { probe: Probe },
    /// The kubelet evicted the pod because its node ran low.
    Evicted { resource: Arc<str> },
    /// The kubelet refused or ended the pod.
    Rejected { reason: Arc<str> },
    /// The pod ran longer than its deadline.
    Deadline,
    /// No node takes the pod.
    Unschedulable {
        /// Nodes that refuse, by why they do.
        refusals: BTreeMap<String, u32>,
    },
    /// Held back by its scheduling gates.
    Gated,
    /// A volume cannot be had.
    Volume {
        object: Arc<str>,
        failure: MountFailure,
    },
    /// The pod's sandbox or network cannot be set up.
    Sandbox { template: Arc<str> },
    /// Not created after a while, and nothing says why.
    SlowCreation,
    /// Pending for long, and nothing says why.
    Pending,
    /// A node is in trouble.
    Node { condition: Arc<str> },
    /// A Job failed.
    Job { reason: Arc<str> },
    /// A CronJob does not run when it should.
    CronJob { reason: Arc<str> },
    /// A workload cannot make its pods or does not get them ready.
    Rollout { reason: Arc<str>, refusal: Refusal },
    /// An object stays after its deletion was due.
    StuckTerminating { finalizers: Vec<Arc<str>> },
    /// An autoscaler cannot do its work.
    Autoscaler { reason: Arc<str> },
    /// Tawny itself cannot see or keep what it should.
    Collector { trouble: Arc<str> },
}

/// How it is known that memory ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OomEvidence {
    /// The kubelet says `OOMKilled`.
    Status,
    /// The kernel's count of kills in the container's cgroup grew.
    Cgroup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    Liveness,
    Readiness,
    Startup,
}

impl Probe {
    pub fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        }
    }
}

/// Who refused to create a pod, for a workload that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    Quota,
    LimitRange,
    PodSecurity,
    Webhook,
    ServiceAccount,
    Forbidden,
    #[default]
    Other,
}

impl Cause {
    /// The class as it is stored and filtered by; part of the fingerprint, so a name never changes.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::InitFailure { .. } => "init_failure",
            Self::UnexpectedCompletion => "unexpected_completion",
            Self::OutOfMemory { .. } => "out_of_memory",
            Self::ChildOutOfMemory => "child_out_of_memory",
            Self::ProbeKill { .. } => "probe_kill",
            Self::GraceOverrun { .. } => "grace_overrun",
            Self::Killed => "killed",
            Self::Terminated => "terminated",
            Self::Lost => "lost",
            Self::StartFailed { .. } => "start_failed",
            Self::ImagePull { .. } => "image_pull",
            Self::Config { .. } => "config",
            Self::Unready { .. } => "unready",
            Self::Evicted { .. } => "evicted",
            Self::Rejected { .. } => "rejected",
            Self::Deadline => "deadline",
            Self::Unschedulable { .. } => "unschedulable",
            Self::Gated => "gated",
            Self::Volume { .. } => "volume",
            Self::Sandbox { .. } => "sandbox",
            Self::SlowCreation => "slow_creation",
            Self::Pending => "pending",
            Self::Node { .. } => "node",
            Self::Job { .. } => "job",
            Self::CronJob { .. } => "cron_job",
            Self::Rollout { .. } => "rollout",
            Self::StuckTerminating { .. } => "stuck_terminating",
            Self::Autoscaler { .. } => "autoscaler",
            Self::Collector { .. } => "collector",
        }
    }

    /// What two incidents of one class and place differ by: exit code or signal, image, missing object, condition.
    pub fn detail(&self) -> String {
        match self {
            Self::Crash { exit } | Self::InitFailure { exit } => {
                exit.map_or_else(|| "unknown exit".to_owned(), Exit::label)
            }
            Self::ProbeKill { probe } | Self::Unready { probe } => probe.name().to_owned(),
            Self::ImagePull { image, .. } => image.to_string(),
            Self::Config { reason, missing } => missing
                .as_ref()
                .map_or_else(|| reason.to_string(), Missing::label),
            Self::Evicted { resource } => resource.to_string(),
            Self::StartFailed { reason }
            | Self::Rejected { reason }
            | Self::Job { reason }
            | Self::CronJob { reason }
            | Self::Rollout { reason, .. }
            | Self::Autoscaler { reason } => reason.to_string(),
            Self::Unschedulable { refusals } => {
                let why: Vec<&str> = refusals.keys().map(String::as_str).collect();
                why.join(", ")
            }
            Self::Volume { object, failure } if object.is_empty() => failure.name().to_owned(),
            Self::Volume { object, .. } => object.to_string(),
            Self::Sandbox { template } => template.to_string(),
            Self::Node { condition } => condition.to_string(),
            Self::Collector { trouble } => trouble.to_string(),
            Self::StuckTerminating { finalizers } if finalizers.is_empty() => String::new(),
            Self::StuckTerminating { .. } => "finalizers".to_owned(),
            Self::UnexpectedCompletion
            | Self::OutOfMemory { .. }
            | Self::ChildOutOfMemory
            | Self::GraceOverrun { .. }
            | Self::Killed
            | Self::Terminated
            | Self::Lost
            | Self::Deadline
            | Self::Gated
            | Self::SlowCreation
            | Self::Pending => String::new(),
        }
    }

    /// Severity of one occurrence, `restarting` when the container that died is started again (section 4.3).
    pub fn severity(&self, restarting: bool) -> Severity {
        match self {
            Self::Crash { exit } => exit.map_or(Severity::Medium, |exit| exit.severity(restarting)),
            // It happens while the pod goes anyway.
            Self::Config { reason, .. } if &**reason == "FailedPreStopHook" => Severity::Low,
            // The pod does not come up until it succeeds, whatever the code.
            Self::InitFailure { .. }
            | Self::OutOfMemory { .. }
            | Self::ProbeKill { .. }
            | Self::StartFailed { .. }
            | Self::ImagePull { .. }
            | Self::Config { .. }
            | Self::Rollout { .. }
            | Self::Collector { .. } => Severity::High,
            Self::Node { condition } => match &**condition {
                "Ready" => Severity::Critical,
                "Rebooted" | "InvalidDiskCapacity" => Severity::Medium,
                _ => Severity::High,
            },
            Self::ChildOutOfMemory
            | Self::Killed
            | Self::Terminated
            | Self::Lost
            | Self::Unready { .. }
            | Self::Evicted { .. }
            | Self::Deadline
            | Self::Unschedulable { .. }
            | Self::Volume { .. }
            | Self::Sandbox { .. }
            | Self::Job { .. }
            | Self::CronJob { .. }
            | Self::StuckTerminating { .. } => Severity::Medium,
            Self::UnexpectedCompletion
            | Self::GraceOverrun { .. }
            | Self::Rejected { .. }
            | Self::Gated
            | Self::SlowCreation
            | Self::Pending
            | Self::Autoscaler { .. } => Severity::Low,
        }
    }

    /// The severity repetition never lifts the cause above.
    pub fn ceiling(&self) -> Severity {
        match self {
            Self::Autoscaler { .. } | Self::Gated => Severity::Low,
            // A program that ignores SIGTERM does so at every rollout of every replica.
            Self::GraceOverrun { .. } => Severity::Medium,
            _ => Severity::Critical,
        }
    }

    /// The incident's type in the BlackBox contract (BB-35, section 7 row 7): `oom` only with proof, else `killed`.
    pub fn report_type(&self) -> &'static str {
        match self {
            Self::OutOfMemory { .. } | Self::ChildOutOfMemory => "oom",
            Self::Node { condition } if &**condition == "SystemOOM" => "oom",
            Self::Killed | Self::GraceOverrun { .. } | Self::ProbeKill { .. } => "killed",
            Self::Crash { .. }
            | Self::InitFailure { .. }
            | Self::UnexpectedCompletion
            | Self::Terminated
            | Self::Lost => "crash",
            Self::Deadline => "timeout",
            Self::Job { reason } if &**reason == "DeadlineExceeded" => "timeout",
            Self::Unready { .. }
            | Self::Evicted { .. }
            | Self::Rejected { .. }
            | Self::Gated
            | Self::SlowCreation
            | Self::Pending
            | Self::Node { .. }
            | Self::StuckTerminating { .. }
            | Self::Autoscaler { .. }
            | Self::Collector { .. } => "degraded",
            Self::StartFailed { .. }
            | Self::ImagePull { .. }
            | Self::Config { .. }
            | Self::Unschedulable { .. }
            | Self::Volume { .. }
            | Self::Sandbox { .. }
            | Self::Job { .. }
            | Self::CronJob { .. }
            | Self::Rollout { .. } => "error",
        }
    }

    /// How much it explains: a death known only as such (0) gives way to its code or signal (1), and that to who or
    /// what was behind it (2).
    pub(crate) fn certainty(&self) -> u8 {
        match self {
            Self::Crash { exit: None } | Self::InitFailure { exit: None } => 0,
            Self::Killed | Self::Terminated | Self::Lost => 1,
            _ => 2,
        }
    }

    /// Whether it follows from a trouble of the workload's pods, if there is one.
    pub fn is_consequence(&self) -> bool {
        match self {
            Self::Job { .. } | Self::SlowCreation | Self::Pending => true,
            Self::Rollout { reason, .. } => &**reason == "ProgressDeadlineExceeded",
            _ => false,
        }
    }

    /// Whether it follows from trouble of the pod's node, if there is any.
    pub fn follows_node(&self) -> bool {
        if let Self::Evicted { resource } = self {
            // A pod over its own limit is evicted from a healthy node too.
            return !resource.ends_with("limit");
        }
        matches!(
            self,
            Self::Unready { .. }
                | Self::Rejected { .. }
                | Self::Lost
                | Self::StuckTerminating { .. }
                | Self::Sandbox { .. }
                | Self::SlowCreation
                | Self::Pending
                | Self::Killed
        )
    }
}
