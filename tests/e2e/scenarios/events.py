"""Kubernetes events are records of the store: each once per count, and found and followed between the lines."""

import json
import re
from collections import Counter
from signal import SIGKILL, SIGTERM

from harness import check, wait_until
from manifests import container, deployment, pod
from scene import NODE, scenario

# Events of the new style have no count of their own.
CHANGE = r'{.metadata.uid} count={.count} series={.series.count} {.reason}{"\n"}'


class Heard:
    """What the API tells of the scenario's events, change by change, beside Tawny."""

    def __init__(self, scene):
        argv = ["kubectl", "-n", scene.namespace, "get", "events", "--watch", "-o", f"jsonpath={CHANGE}"]
        self.program = scene.program(argv, scene.directory / "heard.txt")

    def counts(self):
        """Every (uid, count) there was, with its reason."""
        found = re.findall(r"(?m)^(\S+) count=(\d*) series=(\d*) (\S+)$", self.program.output())
        return {(uid, max(int(count or 1), int(series or 1))): reason for uid, count, series, reason in found}


def stored(scene, server):
    """How often each (uid, count) is in the store."""
    found = server.search(f"source:k8s_event namespace:{scene.namespace}")
    check(len(found) < 1000, "more events than one page has")
    return Counter((entry["attributes"]["event_uid"], int(entry["attributes"]["count"])) for entry in found)


def check_stored(scene, server, wanted, heard):
    """All of `wanted` come to be stored; nothing is there twice, and nothing the API never told."""
    missing = lambda: {key: heard.counts().get(key) for key in wanted if key not in stored(scene, server)}
    wait_until(lambda: not missing(), 20, f"all of {len(wanted)} events are stored")
    records = stored(scene, server)
    check(max(records.values()) == 1, f"stored more than once: {[key for key, n in records.items() if n > 1]}")
    wait_until(lambda: set(records) <= set(heard.counts()), 5, "the API told all that is stored")


def listed(scene):
    """The events the API has now, each with its count."""
    items = scene.cluster.get("-n", scene.namespace, "events")["items"]
    series = lambda item: (item.get("series") or {}).get("count") or 1
    return {(item["metadata"]["uid"], max(item.get("count") or 1, series(item))) for item in items}


def watching(scene):
    args = ["--runtime", "kubernetes", "--source", "files", "--node-name", scene.cluster.node]
    return scene.server(*args, "-n", scene.namespace, verb="up")


@scenario(NODE)
def events_are_stored_once(scene):
    """Section 4.4: once per (uid, count), over an orderly restart and a kill while they repeat every second."""
    server, heard = watching(scene), Heard(scene)
    unready = {"exec": {"command": ["false"]}, "periodSeconds": 1}
    scene.apply(
        pod("unready", [container("main", "sleep 100000", readinessProbe=unready)]),
        pod("loop", "exit 1"),
        pod("secretless", [container("main", "true", envFrom=[{"secretRef": {"name": "lost"}}])]),
    )
    repeats = lambda: max((count for (_, count), reason in heard.counts().items() if reason == "Unhealthy"), default=0)
    wait_until(lambda: repeats() >= 4, 60, "an event that repeats")
    # While it watches it sees every count.
    check_stored(scene, server, dict(heard.counts()), heard)
    for how in (SIGKILL, SIGTERM):
        server.program.stop(how)
        before = repeats()
        wait_until(lambda: repeats() >= before + 2, 40, "events while it is down")
        server.start()
        # What it missed is the latest count of each.
        check_stored(scene, server, listed(scene), heard)
    # And from then on every count again.
    before = set(heard.counts())
    wait_until(lambda: len(set(heard.counts()) - before) >= 3, 40, "events after the restarts")
    check_stored(scene, server, set(heard.counts()) - before, heard)


@scenario(NODE)
def events_between_lines(scene):
    """Found and followed with the language of lines, by the pod, its labels and its workload, and by their own words."""
    server = watching(scene)
    namespace = f"namespace:{scene.namespace}"
    tail = scene.program([scene.binary, "tail", namespace, "--server", server.url], scene.directory / "tail.log")
    lines = "echo good morning; sleep 2; echo good night; exit 1"
    scene.apply(deployment("web", lines, labels={"tier": "front"}))
    for text in ("Started container main", "good morning", "good night", "Back-off restarting failed container"):
        tail.printed(text, 60)
    told = tail.output()
    order = [told.index(text) for text in ("good morning", "good night", "Back-off restarting")]
    check(order == sorted(order), f"the crash's event does not come after its lines:\n{told}")

    web = scene.pod_name("app=web")
    (backoff, *_) = server.wait_for(f"{namespace} source:k8s_event reason:BackOff pod:{web}", 20)
    check(backoff["severity"] == "warn" and backoff["node"] == scene.cluster.node, f"level and node of {backoff}")
    for query in (
        "label.tier:front reason:Started",
        "workload:web reason:Started",
        "workload:web kind:ReplicaSet reason:SuccessfulCreate",
        "workload:web kind:Deployment reason:ScalingReplicaSet",
        f'"Created container main" pod:{web}',
    ):
        server.wait_for(f"{namespace} source:k8s_event {query}", 10)
    # One story: what the pod wrote and what was said of it, in the order of time.
    story = [entry["message"] for entry in reversed(server.search(f"{namespace} pod:{web}"))]
    first = lambda text: next(number for number, message in enumerate(story) if text in message)
    check(first("Started container") < first("good night") < first("Back-off"), f"out of order: {story}")

    shown = scene.tawny("events", "reason:BackOff", namespace, "--server", server.url, "--since", "1h", "-o", "json")
    reasons = {json.loads(line)["attributes"]["reason"] for line in shown.stdout.splitlines()}
    check(reasons == {"BackOff"}, f"tawny events reason:BackOff shows {reasons}")
    scene.tawny("events", "reason:NeverHeardOf", "--server", server.url, ok=(1,))
