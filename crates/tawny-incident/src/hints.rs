//! What to look at, per cause, exit code and what the last lines say (section 4.5, row "Hints").

use crate::{
    Cause, Occurrence,
    cause::Refusal,
    detect::LogSignature,
    exit::{SIGABRT, SIGSEGV},
    message::{MountFailure, PullFailure},
};

/// The hints for an occurrence, the likeliest first.
pub(crate) fn hints(occurrence: &Occurrence) -> Vec<String> {
    let by_logs = occurrence.signatures.iter().filter_map(|it| signature(*it));
    let by_cause = cause(&occurrence.cause);
    let loops = occurrence
        .run
        .as_ref()
        .and_then(|run| run.back_off_secs)
        .map(|_| "It is in a crash loop: the kubelet waits longer before each start, up to 5 min.");
    by_logs
        .chain(by_cause)
        .chain(loops)
        .map(str::to_owned)
        .collect()
}

fn signature(signature: LogSignature) -> Option<&'static str> {
    Some(match signature {
        LogSignature::Panic => {
            "Its last lines hold a panic: read the first frame of the trace that is your own code."
        }
        LogSignature::StackTrace => {
            "Its last lines hold a stack trace: the last \"caused by\" is where it began."
        }
        LogSignature::OutOfMemory => {
            "It says itself that memory ran out: raise the limit, or its own heap setting."
        }
        LogSignature::NoSpace => "A disk is full: look at its volumes and at the node's disk.",
        LogSignature::DatabaseRefused => {
            "Its database or broker refuses connections: is that up, and is the address right?"
        }
        LogSignature::ConnectionRefused => {
            "Something it calls refuses connections: is that up, and is the port right?"
        }
        LogSignature::NameNotResolved => {
            "A host name does not resolve: check the service's name and namespace, and DNS."
        }
        LogSignature::Certificate => {
            "A certificate is not trusted or has expired: check the CA bundle and the clock."
        }
        LogSignature::Forbidden => {
            "It lacks a permission: check its service account's roles, or the file's owner and mode."
        }
        LogSignature::AddressInUse => {
            "Its port is taken: look for two containers of the pod, or hostNetwork, on one port."
        }
        LogSignature::ReadOnly => {
            "It writes to a read-only file system: mount an emptyDir at that path."
        }
        LogSignature::Timeout => {
            "Something it waits for does not answer: look at what it calls, and at network policies."
        }
        LogSignature::Fatal => return None,
    })
}

fn cause(cause: &Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::Crash {
            exit: Some(exit), ..
        }
        | Cause::InitFailure { exit: Some(exit) } => match (exit.signal(), exit.code) {
            (Some(SIGSEGV | SIGABRT | 4 | 7 | 8), _) => {
                "A native crash: look for an assertion or a library built for another CPU or libc."
            }
            (Some(24), _) => {
                "It ran into a CPU ulimit, which Kubernetes does not set: look at the image."
            }
            (Some(25), _) => {
                "It ran into a file size ulimit: look at the image and at what it writes."
            }
            (Some(31), _) => {
                "Its seccomp profile denies a system call: try RuntimeDefault or a profile of its own."
            }
            (_, 125 | 128) => {
                "The runtime did not start it: look at command, args and the node's runtime."
            }
            (_, 126) => "Make the command executable, and check that it is built for this CPU.",
            (_, 127) => "Check the command's path, and that the image has its shell and libraries.",
            _ => "Read its last lines.",
        },
        Cause::Crash { exit: None, .. } | Cause::InitFailure { exit: None } => {
            "Read its last lines."
        }
        Cause::UnexpectedCompletion => {
            "Use a Job if it should end, or keep its main process in the foreground."
        }
        Cause::OutOfMemory { .. } => {
            "Compare its memory before the end with the limit: a slow rise is a leak, a jump is a load."
        }
        Cause::ChildOutOfMemory => {
            "A worker or child process was killed: the container's limit holds for all its processes."
        }
        Cause::ProbeKill { .. } => {
            "Compare the probe's timeout and threshold with how long it takes to answer under load."
        }
        Cause::GraceOverrun { .. } => {
            "Its main process ignores SIGTERM, as a shell as process 1 does, or needs a longer grace."
        }
        Cause::Killed => {
            "Look for someone on the node or in the container, and at the node's own events."
        }
        Cause::Terminated => "Look for a process in the container that stops it.",
        Cause::Lost => "Look whether its node or the container runtime was restarted.",
        Cause::StartFailed { .. } => "Check command, args, working directory and mounts.",
        Cause::ImagePull { failure, .. } => match failure {
            PullFailure::NotFound => "Check the image's name and tag.",
            PullFailure::Unauthorized => {
                "Check imagePullSecrets, and that the name is right: some registries hide what is not there."
            }
            PullFailure::Certificate => "Make the node's runtime trust the registry's CA.",
            PullFailure::RateLimit => "Pull with an account, or through a mirror.",
            PullFailure::NoMatchingManifest => "Build the image for this node's architecture.",
            PullFailure::InvalidName => "Correct the image's name.",
            PullFailure::NeverPulled => "Load the image onto the node, or change the pull policy.",
            PullFailure::Signature => "Sign the image, or correct the node's signature policy.",
            PullFailure::NoSpace => "Make room on the node's disk.",
            PullFailure::Timeout | PullFailure::Unreachable => {
                "Check the node's way to the registry: DNS, proxy, firewall."
            }
            PullFailure::Unknown => "Look at the events of the pod.",
        },
        Cause::Config { missing, .. } => match missing {
            Some(_) => "Create it, correct the name, or mark the reference as optional.",
            None => "Look at the container's security context, mounts and hooks.",
        },
        Cause::Unready { .. } => "Call the probe's path by hand, and look at what it depends on.",
        Cause::Evicted { .. } => {
            "Give it a memory or ephemeral-storage request close to what it uses."
        }
        Cause::Unschedulable { .. } => {
            "Compare its requests, node selector and tolerations with the nodes."
        }
        Cause::Gated => "Whoever set its scheduling gates has to lift them.",
        Cause::Volume { failure, .. } => match failure {
            MountFailure::ObjectMissing => "Create it, or correct the name.",
            MountFailure::MultiAttach => {
                "A volume of one node is still held by the old pod: wait, or use the Recreate strategy."
            }
            MountFailure::HostPath => "Check the path on the node, or use type DirectoryOrCreate.",
            MountFailure::Provisioning => "Check the storage class and its provisioner.",
            MountFailure::Resize => "Check that the storage class allows expansion.",
            MountFailure::Timeout | MountFailure::Other => {
                "Look at the storage driver's pods on that node."
            }
        },
        Cause::Sandbox { .. } => "Look at the network plugin's pods on that node.",
        Cause::Node { condition } => match &**condition {
            "Ready" => "Look at the kubelet and the container runtime of the node.",
            "DiskPressure" | "FreeDiskSpaceFailed" | "ImageGCFailed" | "InvalidDiskCapacity" => {
                "Look at what fills the node's disk: images, logs, emptyDir volumes."
            }
            "MemoryPressure" | "SystemOOM" => "Look for pods without a memory limit on the node.",
            _ => return None,
        },
        Cause::Job { .. } => "Look at its pods' last lines.",
        Cause::CronJob { .. } => {
            "Look at the CronJob controller, at suspend and at startingDeadlineSeconds."
        }
        Cause::Rollout { refusal, .. } => match refusal {
            Refusal::Quota => "Raise the quota, or lower the requests.",
            Refusal::PodSecurity => "Correct the pods' security context.",
            Refusal::Webhook => "Look at the webhook's own pods.",
            Refusal::ServiceAccount => "Create the service account.",
            Refusal::LimitRange | Refusal::Forbidden | Refusal::Other => {
                "Look at why its new pods are not ready."
            }
        },
        Cause::StuckTerminating { finalizers } if finalizers.is_empty() => {
            "Look at the kubelet of its node; a hung mount holds a pod too."
        }
        Cause::StuckTerminating { .. } => {
            "Look at the controller that should take the finalizer off."
        }
        Cause::Autoscaler { .. } => "Look at metrics-server, and at the pods' resource requests.",
        Cause::Rejected { .. }
        | Cause::Deadline
        | Cause::SlowCreation
        | Cause::Pending
        | Cause::Collector { .. } => return None,
    })
}
