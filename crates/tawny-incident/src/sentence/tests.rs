//! What people read.

use tawny_model::observed::{ConditionStatus, NodeState, PodPhase};

use super::*;
use crate::{
    Book, Evidence, OomProof,
    detect::{self, LogSignature},
    testing::{
        at, condition, context, dead, deletion, ended, event, event_of, look, only, pod, restarted,
        waiting, with_state,
    },
};

#[test]
fn a_sentence_says_what_died_where_why_and_how_often() {
    let mut book = Book::new();
    for n in 0..3u32 {
        let end = 100 + i64::from(n) * 60;
        let found = look(&restarted(dead(139, "Error", end, n), n), &[], end);
        book.observe(found, at(end));
    }
    let incident = book.incidents().next().unwrap();
    let story = story(incident);
    assert_eq!(
        story.sentence,
        "Container web of Deployment shop/api (pod api-5d4f8c7b9d-x2x9z on node n1) crashed on an invalid memory access (SIGSEGV, exit code 139), 3 times since 2026-11-21 10:01 UTC."
    );
    let fact = |name: &str| {
        story
            .facts
            .iter()
            .find(|(fact, _)| fact == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(fact("exit"), Some("SIGSEGV"));
    assert_eq!(fact("ran for"), Some("30 s"));
    assert_eq!(fact("memory limit"), Some("512 MiB"));
    assert_eq!(fact("image"), Some("registry.test/api:1.4"));
    assert_eq!(fact("message"), None);
    assert!(story.hints[0].contains("native crash"));
}

#[test]
fn each_kind_of_trouble_has_a_sentence_of_its_own() {
    let place = "Deployment shop/api (pod api-5d4f8c7b9d-x2x9z on node n1)";
    let tell = |found: crate::Findings| sentence(&only(found));
    let killed = || restarted(dead(137, "Error", 100, 0), 0);

    assert_eq!(
        tell(look(
            &restarted(dead(137, "OOMKilled", 100, 0), 0),
            &[],
            101
        )),
        format!(
            "Container web of {place} was killed by the kernel because it reached its memory limit of 512 MiB."
        )
    );
    let proof = OomProof {
        pod_uid: pod().uid,
        container_id: "web-0".into(),
        container: "".into(),
        at: at(100),
        kills: 1,
    };
    let evidence = Evidence {
        ooms: std::slice::from_ref(&proof),
        ..Evidence::default()
    };
    assert_eq!(
        tell(detect::pod(
            Some(&pod()),
            &killed(),
            evidence,
            &context(101)
        )),
        format!(
            "Container web of {place} was killed by the kernel because it reached its memory limit of 512 MiB, which its cgroup counted."
        )
    );
    let killing = event(
        "Killing",
        "Container web failed liveness probe, will be restarted",
        90,
    );
    assert_eq!(
        tell(look(&killed(), &[killing], 101)),
        format!(
            "Container web of {place} was killed by the kubelet because its liveness probe failed."
        )
    );
    let mut overrun = ended(dead(137, "Error", 100, 0), 0);
    overrun.deletion = Some(deletion(70));
    assert_eq!(
        tell(look(&overrun, &[], 101)),
        format!(
            "Container web of {place} did not stop within the 30 s it was given and was killed."
        )
    );
    let plain = tell(look(&killed(), &[], 101));
    assert!(plain.contains("SIGKILL") && plain.contains("not known to have run out of memory"));
    assert_eq!(
        tell(look(
            &with_state(waiting("ErrImagePull", "x: not found")),
            &[],
            10
        )),
        format!(
            "Container web of {place} waits for image registry.test/api:1.4: the registry does not have it."
        )
    );
    assert_eq!(
        tell(look(
            &with_state(waiting(
                "CreateContainerConfigError",
                "secret \"db\" not found"
            )),
            &[],
            10
        )),
        format!("Container web of {place} cannot be created: secret \"db\" is missing.")
    );
    let mut evicted = pod();
    evicted.phase = PodPhase::Failed;
    evicted.reason = "Evicted".into();
    evicted.message = "The node was low on resource: memory.".into();
    evicted.containers.clear();
    evicted.workload = None;
    assert_eq!(
        tell(look(&evicted, &[], 10)),
        "Pod shop/api-5d4f8c7b9d-x2x9z (on node n1) was evicted because its node ran low on memory."
    );
    let node = NodeState {
        name: "n1".into(),
        conditions: vec![condition("DiskPressure", ConditionStatus::True, "", 0)],
        ..NodeState::default()
    };
    assert_eq!(
        tell(detect::node(&node, &context(5))),
        "Node n1 is low on disk."
    );
    let quota = event_of(
        "ReplicaSet",
        "api-5d4f8c7b9d",
        "FailedCreate",
        "forbidden: exceeded quota: q",
    );
    assert_eq!(
        tell(detect::event(
            &quota,
            detect::EventContext::default(),
            &context(5)
        )),
        "Deployment shop/api cannot create its pods: the namespace's quota is used up."
    );
}

#[test]
fn unschedulable_counts_nodes_per_cause() {
    let mut pending = pod();
    pending.phase = PodPhase::Pending;
    pending.node = "".into();
    pending.containers.clear();
    let mut refused = condition("PodScheduled", ConditionStatus::False, "Unschedulable", 0);
    refused.message =
        "0/5 nodes are available: 3 Insufficient cpu, 2 node(s) had untolerated taint {a: b}."
            .into();
    pending.conditions = vec![refused];
    assert_eq!(
        sentence(&only(look(&pending, &[], 100))),
        "A pod of Deployment shop/api (pod api-5d4f8c7b9d-x2x9z) finds no node that takes it: 3 × Insufficient cpu, 2 × had untolerated taint {a: b}."
    );
}

#[test]
fn what_the_last_lines_say_comes_first_among_the_hints() {
    let mut occurrence = only(look(&restarted(dead(2, "Error", 100, 0), 0), &[], 101));
    assert_eq!(occurrence.severity(), crate::Severity::Medium);
    occurrence.signatures = vec![LogSignature::Panic, LogSignature::DatabaseRefused];
    // Section 4.3, row 2.
    assert_eq!(occurrence.severity(), crate::Severity::High);
    let hints = hints(&occurrence);
    assert!(hints[0].contains("panic"));
    assert!(hints[1].contains("database"));
    occurrence.run.as_mut().unwrap().back_off_secs = Some(80);
    assert!(
        crate::hints::hints(&occurrence)
            .last()
            .unwrap()
            .contains("crash loop")
    );
}

#[test]
fn quotes_are_one_line_and_bounded() {
    let mut occurrence = only(look(
        &with_state(waiting(
            "CreateContainerError",
            &format!("first\nsecond\t{}", "x".repeat(900)),
        )),
        &[],
        10,
    ));
    let text = sentence(&occurrence);
    assert!(text.contains("first second xxx") && text.ends_with("…."));
    assert!(text.chars().count() < 400);
    occurrence.message = "".into();
    assert!(sentence(&occurrence).ends_with("(CreateContainerError)."));
}

#[test]
fn memory_is_told_in_whole_units() {
    assert_eq!(memory(0), "0 B");
    assert_eq!(memory(512 << 20), "512 MiB");
    assert_eq!(memory(1 << 40), "1024 GiB");
    assert_eq!(memory(1536 << 10), "1536 KiB");
    assert_eq!(memory(1_000_000_001), "1000000001 B");
}
