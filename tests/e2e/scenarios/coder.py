"""Startup logs of Coder workspaces, from a real cluster's pods, events and deaths (CL-1 … CL-30)."""

import time

from coder_server import CoderServer
from harness import check, wait_until
from manifests import container, deployment, pod
from scene import API, scenario


def secret(name, token):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"token": token}}


def start(scene, coder, *args):
    argv = [scene.binary, "coder", "--coder-url", coder.url, "--namespaces", scene.namespace]
    state = scene.directory / "coder-state.json"
    program = scene.program([*argv, "--state-file", state, *args], scene.directory / "coder.log")
    program.printed(r"watching for pods of Coder workspaces")
    # Kubernetes tells creation to the second, and what is of the second of the start counts as before it (CL-14).
    over = int(time.time()) + 1
    wait_until(lambda: time.time() >= over, 5, "the second of the start is over")
    return program


def workspace(name, script, *env, **spec):
    return pod(name, [container("dev", script, env=list(env))], **spec)


BY_VALUE = {"name": "CODER_AGENT_TOKEN", "value": "token-by-value"}
BY_SECRET = {"name": "CODER_AGENT_TOKEN", "valueFrom": {"secretKeyRef": {"name": "agent", "key": "token"}}}


@scenario(API)
def coder_startup_logs(scene):
    """Life and events of a workspace's pod arrive in order, a death with its reason, a deletion, and nothing twice."""
    coder = CoderServer(scene)
    scene.apply(secret("agent", "token-by-secret"))
    program = start(scene, coder, "--reasons", "--last-lines", "5")
    scene.apply(workspace("ws-value", "echo up; sleep 100000", BY_VALUE))
    scene.apply(workspace("ws-secret", "echo about to fail; exit 7", BY_SECRET, restartPolicy="Never"))
    scene.apply(pod("stranger", "sleep 100000"))

    created = ("debug", "🐳 \x1b[1mCreated pod\x1b[0m: ws-value")
    started = lambda: [text for _, text in coder.lines("token-by-value") if "tarted container" in text or "ontainer started" in text]
    wait_until(started, 60, "the event of the start arrives")
    check(coder.lines("token-by-value")[0] == created, f"first came {coder.lines('token-by-value')[0]}")

    died = lambda: [text for _, text in coder.lines("token-by-secret") if "exit 7" in text or "exit code 7" in text]
    wait_until(died, 60, "the death arrives with its exit code")
    last_words = lambda: [text for _, text in coder.lines("token-by-secret") if "about to fail" in text]
    wait_until(last_words, 30, "the last line of the dead container arrives")

    # A restart repeats nothing, and what it had told before stays the first.
    program.stop()
    before = coder.lines("token-by-value")
    start(scene, coder, "--reasons", "--last-lines", "5")
    scene.kubectl("delete", "pod", "ws-value", "--timeout=60s")
    deleted = ("error", "🗑️ \x1b[1mDeleted pod\x1b[0m: ws-value")
    wait_until(lambda: deleted in coder.lines("token-by-value"), 30, "the deletion arrives")
    after = coder.lines("token-by-value")
    check(after[: len(before)] == before, "what was told before the restart changed")
    check(after.count(created) == 1, "the creation was told twice")
    check(set(coder.told) == {"token-by-value", "token-by-secret"}, f"strangers were told: {sorted(coder.told)}")


@scenario(API)
def coder_replica_set(scene):
    """A Deployment's ReplicaSet and its pod are told to the agent of its template (CL-17, CL-20)."""
    coder = CoderServer(scene)
    start(scene, coder)
    workload = deployment("ws", "sleep 100000")
    workload["spec"]["template"]["spec"]["containers"][0]["env"] = [BY_VALUE]
    scene.apply(workload)
    queued = lambda: [
        text for _, text in coder.lines("token-by-value") if "Queued pod from ReplicaSet" in text and ": ws-" in text
    ]
    wait_until(queued, 60, "the ReplicaSet is told")
    made = lambda: [text for _, text in coder.lines("token-by-value") if "Created pod\x1b[0m: ws-" in text]
    wait_until(made, 60, "its pod is told")
