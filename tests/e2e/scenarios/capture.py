"""Lines get from a container to a search: by file and by API, of every kind of container, whole and described."""

import json
import time

from harness import check, http, wait_until
from manifests import RANDOMLOG, container, deployment, pod, reader, tawny_pod
from scene import NODE, scenario


def check_randomlog(scene, server, started):
    """SX-19: a line of the `randomlog` deployment within 30 s of the collector's start, as the program wrote it."""
    entries = server.wait_for(f"namespace:{scene.namespace} pod:randomlog-*", 30 - (time.monotonic() - started))
    entry = entries[0]
    check(entry["container"] == "main", f"container is {entry['container']}")
    lines = scene.kubectl("logs", entry["pod"]).splitlines()
    texts = {json.loads(line)["message"] for line in lines}
    check(any(text in entry["message"] for text in texts), f"{entry['message']!r} is no message of {texts}")
    # SX-31: the level is the line's own, not a guess.
    levels = {json.loads(line)["level"] for line in lines}
    wait_until(
        lambda: any(server.search(f"namespace:{scene.namespace} level:{level.lower()}") for level in levels),
        10,
        f"an entry of level {levels}",
    )


@scenario(NODE)
def capture_randomlog_files(scene):
    server = scene.server()
    scene.apply(deployment("randomlog", RANDOMLOG))
    scene.kubectl("rollout", "status", "deployment/randomlog", "--timeout=60s")
    started = time.monotonic()
    scene.agent(server)
    check_randomlog(scene, server, started)
    found = scene.search_command(server, f"namespace:{scene.namespace} pod:randomlog-*")
    check(found and all(entry["namespace"] == scene.namespace for entry in found), f"tawny search found {found[:2]}")


@scenario(NODE)
def capture_randomlog_api(scene):
    """Inside a pod, with the rights of SX-32 and no others: no host path, no node, one namespace (SX-11)."""
    server = scene.server()
    scene.apply(
        reader("strixlog-log-reader", {"pods": ["get", "list", "watch"], "pods/log": ["get"]}),
        deployment("randomlog", RANDOMLOG),
    )
    scene.kubectl("rollout", "status", "deployment/randomlog", "--timeout=60s")
    # Said strixlog's way: its own namespace is the one to collect.
    env = {"STRIXLOG_ENV": "kubernetes"}
    scene.apply(
        tawny_pod("collector", "strixlog-log-reader", "agent", "--server", server.grpc_url, "--source", "api", env=env)
    )
    scene.wait_running("collector")
    check_randomlog(scene, server, time.monotonic())
    # SX-13: a collector that read its own output would feed itself for ever.
    check(scene.kubectl("logs", "collector"), "the collector said nothing, so its exclusion shows nothing")
    own = server.search(f"namespace:{scene.namespace} pod:collector")
    check(not own, f"the collector collected itself: {own[:2]}")


@scenario(NODE)
def multi_container(scene):
    """Each container's lines under its own name, stdout and stderr both."""
    server = scene.server()
    scene.agent(server)
    scene.apply(
        pod(
            "pair",
            [
                container("left", "echo from-left-out; echo from-left-err >&2; sleep 100000"),
                container("right", "echo from-right; sleep 100000"),
            ],
        )
    )
    for word, name in (("from-left-out", "left"), ("from-left-err", "left"), ("from-right", "right")):
        (entry,) = server.wait_for(f'"{word}" namespace:{scene.namespace}', 40)
        check((entry["pod"], entry["container"]) == ("pair", name), f"{word} is of {entry['pod']}/{entry['container']}")


@scenario(NODE)
def init_containers(scene):
    """Init containers are over before anything else starts; their lines are kept like all others (KL-40)."""
    script = "echo from-{0}"
    initial = [container("first", script.format("first")), container("second", script.format("second"))]
    for source, server in scene.both_sources():
        name = f"init-{source}"
        scene.apply(pod(name, "echo from-main; sleep 100000", initContainers=initial))
        for word in ("first", "second", "main"):
            (entry,) = server.wait_for(f'"from-{word}" pod:{name}', 40)
            check(entry["container"] == word, f"{source}: from-{word} is of {entry['container']}")


@scenario(NODE)
def partial_lines(scene):
    """A line of 40,000 bytes reaches the log file in pieces of 16 KiB and the store as one entry, per stream."""
    server = scene.server()
    scene.agent(server)
    long = "head -c 40000 /dev/zero | tr '\\0' {0}; echo {1}"
    both = f"({long.format('o', 'end-out')}) & ({long.format('e', 'end-err')}) >&2 & wait; printf 'no newline'; "
    scene.apply(pod("long", both, restartPolicy="Never"))

    def whole():
        found = {m[-7:]: m for m in server.messages(namespace=scene.namespace) if m.endswith(("end-out", "end-err"))}
        return found if len(found) == 2 else None

    found = wait_until(whole, 40, "both long lines")
    check(found["end-out"] == "o" * 40_000 + "end-out", f"stdout's line has {len(found['end-out'])} bytes")
    check(found["end-err"] == "e" * 40_000 + "end-err", f"stderr's line has {len(found['end-err'])} bytes")
    # A piece whose rest never comes is given out after 30 s (VK-9).
    server.wait_for(f'"no newline" namespace:{scene.namespace}', 45, what="the last line, which no newline ends")
    check(len(server.messages(namespace=scene.namespace)) == 3, "pieces of lines were stored as lines")


@scenario(NODE)
def preexisting_logs(scene):
    """What a pod wrote before any collector ran is history like everything else."""
    scene.apply(pod("early", "for i in $(seq 1 500); do echo seq $i; done; sleep 100000"))
    wait_until(lambda: "seq 500" in scene.kubectl("logs", "early"), 40, "the writer is done")
    for source, server in scene.both_sources():
        wait_until(lambda: len(server.sequence("early")) >= 500, 30, f"500 earlier lines by {source}")
        check(sorted(server.sequence("early")) == list(range(1, 501)), f"{source}: not each line once")


@scenario(NODE)
def metadata_annotation(scene):
    """Labels, workload and node come with the line and can be searched, though the file says none of them."""
    server = scene.server()
    scene.agent(server)
    scene.apply(deployment("shop", "while :; do echo checkout; sleep 0.5; done", labels={"tier": "front"}))
    namespace = f"namespace:{scene.namespace}"
    for query in ("label.app:shop", "label.tier:front", "workload:shop", f"node:{scene.cluster.node}"):
        server.wait_for(f"checkout {namespace} {query}", 30)
    check(not server.search(f"{namespace} label.tier:back"), "a label nobody has finds entries")
    status, body = http(f"{server.url}/api/v1/search", q="checkout (")
    check(status == 400 and "column" in body, f"a query that does not parse: {status} {body}")
