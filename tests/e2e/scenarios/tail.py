"""`tawny tail` straight from a cluster, with stern's names and looks, and the same from a server."""

import json

from harness import check, wait_until
from manifests import container, deployment, pod
from scene import API, NODE, scenario


@scenario(API)
def tail_follows_a_deployment(scene):
    """By kind and name; a replaced pod is followed by itself, and markers tell of both on stderr."""
    scene.apply(deployment("web", "n=0; while :; do n=$((n+1)); echo tick $n of $HOSTNAME; sleep 0.3; done"))
    scene.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    first = scene.pod_name("app=web")
    tail = scene.program([scene.binary, "tail", "deploy/web", "-n", scene.namespace], scene.directory / "tail.log")
    tail.printed(rf"(?m)^\+ {first} › main", 15)
    tail.printed(rf"(?m)^{first} main tick \d+", 5)
    scene.kubectl("delete", "pod", first, "--wait=false")
    tail.printed(r"(?m)^\+ web-(?!" + first.removeprefix("web-") + r")\S+ › main", 30)
    tail.printed(rf"(?m)^- {first} › main", 30)
    second = tail.printed(r"(?m)^(web-(?!" + first.removeprefix("web-") + r")\S+) main tick 1 of", 15).group(1)
    numbers = [int(line.split()[3]) for line in tail.output().splitlines() if line.startswith(f"{second} main tick")]
    check(numbers == list(range(1, len(numbers) + 1)), f"the second pod's lines from its first on: {numbers}")


@scenario(API)
def tail_selects(scene):
    """Names, labels, containers, counts and exit codes, each against what kubectl says."""
    lines = "for n in 1 2 3 4 5; do echo {0} $n; done; sleep 100000"
    scene.apply(
        pod(
            "red", [container("app", lines.format("red")), container("proxy", lines.format("proxy"))], {"tier": "front"}
        ),
        pod("blue", [container("app", lines.format("blue"))], {"tier": "back"}),
    )
    # `kubectl logs` asks the kubelet; `tail` goes by the status, which the kubelet reports up to seconds later.
    scene.kubectl("wait", "--for=condition=Ready", "pod/red", "pod/blue", "--timeout=60s")
    for name in ("red", "blue"):
        wait_until(lambda: f"{name} 5" in scene.kubectl("logs", name, "-c", "app"), 40, f"{name} wrote its lines")

    def tail(*args, ok=(0,)):
        args = ("tail", *args, "-n", scene.namespace, "--no-follow", "--only-log-lines", "-o", "raw")
        return sorted(scene.tawny(*args, ok=ok).stdout.splitlines())

    def five(word):
        return [f"{word} {n}" for n in range(1, 6)]

    check(tail("blue") == five("blue"), "by name")
    check(tail("-l", "tier=front") == five("proxy") + five("red"), "by label, all containers")
    check(tail("red", "-c", "app") == five("red"), "by container")
    check(tail("red", "-E", "app") == five("proxy"), "without a container")
    check(tail(".*", "--tail", "1", "-E", "proxy") == ["blue 5", "red 5"], "the last line of each")
    check(tail(".*", "-i", "red [12]") == ["red 1", "red 2"], "only lines that match")
    check(tail("nobody", ok=(1,)) == [], "exit code 1 when nothing is found")
    done = scene.tawny("tail", "blue", "-n", scene.namespace, "--no-follow", "-o", "json")
    first = json.loads(done.stdout.splitlines()[0])
    check(
        (first["podName"], first["containerName"], first["message"]) == ("blue", "app", "blue 1"), f"as JSON: {first}"
    )
    check("blue" in done.stderr and "blue 1" not in done.stderr, "stdout is data, markers go to stderr")
    scene.tawny("tail", "--no-such-flag", ok=(2,))


@scenario(NODE)
def tail_from_server(scene):
    """What a server stores is followed with the language of `search`, over all pods at once."""
    server = scene.server()
    scene.agent(server)
    scene.apply(deployment("pair", "while :; do echo wanted $HOSTNAME; echo noise; sleep 0.5; done", replicas=2))
    server.wait_for(f"wanted namespace:{scene.namespace}", 40)
    query = f"wanted namespace:{scene.namespace}"
    tail = scene.program([scene.binary, "tail", query, "--server", server.url], scene.directory / "tail.log")
    pods = [item["metadata"]["name"] for item in scene.cluster.get("-n", scene.namespace, "pods")["items"]]
    for name in pods:
        tail.printed(rf"{name} \S+ wanted", 15)
    check("noise" not in tail.output(), "a line the query does not match was shown")
