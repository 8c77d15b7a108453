"""What dies on a real cluster becomes exactly the incident it is, with its last lines, and nothing else does.

What takes longer than a minute to be a trouble at all is not made here: a container that is not created (its mounts,
its sandbox) is given two minutes, a container out of service and a pod that is pending five.
"""

import json
import re
import time
from signal import SIGTERM

from harness import check, http, http_json, wait_until
from manifests import container, deployment, job, pod
from scene import NODE, scenario

NEVER = {"restartPolicy": "Never"}


def up(scene, name="up"):
    """Collects, watches and stores in one process."""
    args = ["--runtime", "kubernetes", "--source", "files", "--node-name", scene.cluster.node]
    return scene.server(*args, "-n", scene.namespace, verb="up", name=name)


class Incident:
    """An incident as the API shows it, with what is kept of its newest occurrence."""

    def __init__(self, server, face):
        self.face = face
        self.detail = http_json(f"{server.url}/api/v1/incidents/{face['id']}")
        self.name = face.get("workload", "").split("/")[-1] or face["pod"]
        self.what, self.count = face["class"], face["count"]
        self.facts = dict(map(tuple, self.detail["facts"]))
        self.lines = [line["message"] for line in self.detail["last_lines"]]

    def __repr__(self):
        told = {name: self.face.get(name) for name in ("state", "count", "quiet", "sentence")}
        return f"{self.name}/{self.what} {told} {self.facts} {self.lines[-3:]}"


def incidents(scene, server):
    """The incidents of the scenario's namespace, by name and class."""
    found = http_json(
        f"{server.url}/api/v1/incidents", state="all", quiet="true", limit=5000, namespace=scene.namespace
    )
    found = [Incident(server, face) for face in found["incidents"]]
    by_key = {(incident.name, incident.what): incident for incident in found}
    check(len(by_key) == len(found), f"two incidents of one kind: {found}")
    return by_key


def await_incidents(scene, server, expected, seconds):
    """Waits for all of `expected`, pairs of name and class, and returns the incidents; none other may be there."""
    expected, found = set(expected), {}

    def all_there():
        found.clear()
        found.update(incidents(scene, server))
        return expected <= set(found)

    def difference():
        missing, more = expected - set(found), [found[key] for key in set(found) - expected]
        return f"missing {sorted(missing)}, not expected {more}"

    try:
        wait_until(all_there, seconds, "all incidents")
    finally:
        check(set(found) == expected, difference())
    return dict(found)


def check_death(incident, exit, *lines, count=1):
    """One occurrence for each life, told with its exit, and what it wrote last."""
    check(incident.count == count, f"{count} deaths expected of {incident}")
    check(incident.facts.get("exit") == exit, f"{exit} expected of {incident}")
    check(incident.lines == list(lines), f"last lines {lines} expected of {incident}")


def await_deaths(scene, server, expected, also=(), seconds=60):
    """Waits for each of `expected`, by name and class its exit and last lines, and for those that are `also` there.

    The last lines are there two seconds after the death is known.
    """
    await_incidents(scene, server, {*expected, *also}, seconds)

    def check_all():
        found = await_incidents(scene, server, {*expected, *also}, 0)
        for key, (exit, *lines) in expected.items():
            check_death(found[key], exit, *lines)
        return found

    return wait_until(check_all, 20, "the exit and the last lines of each")


# Stops when it is asked to, without an error.
POLITE = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done"


@scenario(NODE)
def churn_is_no_incident(scene):
    """Rollouts, scaling, evictions, deletions and Jobs that succeed are planned, however the programs take them."""
    server = up(scene)
    # How programs end that are asked to: well, by the signal's code, or with one of their own.
    codes = {"well": 0, "by-signal": 143, "badly": 1}
    for name, code in codes.items():
        workload = deployment(name, POLITE.replace("exit 0", f"exit {code}"), replicas=2)
        workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 10
        scene.apply(workload)
    deployments = [f"deployment/{name}" for name in codes]

    def change(*args):
        scene.kubectl(*args)
        for name in deployments:
            scene.kubectl("rollout", "status", name, "--timeout=60s")

    scene.apply(job("chore", "echo done"), pod("single", POLITE, terminationGracePeriodSeconds=10))
    for replicas in ("3", "1", "2"):
        change("scale", "--replicas", replicas, *deployments)
    # Changed again before it is done.
    scene.kubectl("rollout", "restart", *deployments)
    change("set", "env", *deployments, "ROUND=2")
    change("delete", "pod", "--all", "--wait=false")
    for item in scene.cluster.get("-n", scene.namespace, "pods", "-l", "app in (well,badly)")["items"]:
        # One that is on its way out already may be gone by now.
        if "deletionTimestamp" not in item["metadata"]:
            evict(scene, item["metadata"]["name"])
    change("delete", "job", "chore")
    scene.kubectl("delete", *deployments)
    # This kubelet tells up to a minute later that a pod is gone whose containers are.
    running = "jsonpath={.items[*].status.containerStatuses[*].state.running}"
    wait_until(lambda: not scene.kubectl("get", "pods", "-o", running), 60, "no container runs")
    # Its watch is not behind: it knows of what the cluster did last.
    killings = scene.cluster.get("-n", scene.namespace, "events", "--field-selector=reason=Killing")["items"]
    server.wait_for(f"source:k8s_event reason:Killing namespace:{scene.namespace}", 20, count=len(killings))
    found = incidents(scene, server)
    check(not found, f"{len(found)} incidents of nothing: {list(found.values())}")
    scene.tawny("incidents", "--all", "--quiet-too", "-n", scene.namespace, "--server", server.url, ok=(1,))


def evict(scene, name):
    """What `kubectl drain` does to each pod of a node."""
    metadata = {"name": name, "namespace": scene.namespace}
    body = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{scene.namespace}/pods/{name}/eviction"
    scene.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


# A shell that is process 1 survives its own signals: a child dies of them, and the shell hands its status on. The
# kubelet makes one dollar of two.
BY_SIGNAL = "echo about to get {0}; sleep 1; sh -c 'kill -{0} $$$$'; exit $?"

# By name: the script, and the class, exit and last lines of its death.
DEATHS = {
    "exit-1": ("echo one; echo two; exit 1", "crash", "exit 1", ["one", "two"]),
    "exit-2": ("echo panic: oh no; exit 2", "crash", "exit 2", ["panic: oh no"]),
    "exit-3-at-once": ("exit 3", "crash", "exit 3", []),
    "not-executable": ("/etc/hosts 2>/dev/null; exit $?", "crash", "exit 126", []),
    "not-found": ("no-such-command 2>/dev/null; s=$?; echo no go; exit $s", "crash", "exit 127", ["no go"]),
    "exit-255": ("echo minus one; exit 255", "crash", "exit 255", ["minus one"]),
    "segv": (BY_SIGNAL.format("SEGV"), "crash", "SIGSEGV", ["about to get SEGV", "Segmentation fault"]),
    "abort": (BY_SIGNAL.format("ABRT"), "crash", "SIGABRT", ["about to get ABRT", "Aborted"]),
    "terminated": (BY_SIGNAL.format("TERM"), "terminated", "SIGTERM", ["about to get TERM", "Terminated"]),
    # Not for want of memory, of which there is no proof.
    "killed": (BY_SIGNAL.format("KILL"), "killed", "SIGKILL", ["about to get KILL", "Killed"]),
}


@scenario(NODE)
def incidents_by_exit_code(scene):
    """Section 4.3: every death is one incident with its code or signal; what ends well is none."""
    server = up(scene)
    scene.apply(*(pod(name, script, **NEVER) for name, (script, *_) in DEATHS.items()))
    # Nothing to run: the runtime says so, and no shell.
    scene.apply(pod("no-program", [container("main", "") | {"command": ["/no/such/program"]}], **NEVER))
    scene.apply(pod("done", "echo done", **NEVER), job("job-done", "echo done"))
    expected = {(name, what): (exit, *lines) for name, (_, what, exit, lines) in DEATHS.items()}
    await_deaths(scene, server, expected, {("no-program", "start_failed")})
    scene.wait_phase("done", "Succeeded")
    found = await_deaths(scene, server, expected, {("no-program", "start_failed")})
    sentence = found["no-program", "start_failed"].face["sentence"]
    check("/no/such/program" in sentence, f"what cannot be started is not named: {sentence}")
    health = http_json(f"{server.url}/api/v1/health")
    check(health["status"] == "healthy", f"health: {health}")
    _, metrics = http(f"{server.url}/metrics")
    crashes = int(re.search(r'(?m)^k8s_pod_events_total\{type="crash"\} (\d+)', metrics).group(1))
    check(crashes >= len(expected), f"{crashes} crashes are counted")


# A volume that outlives the container: only its first life dies.
STATE = {"volumes": [{"name": "state", "emptyDir": {}}]}
STATE_MOUNT = [{"name": "state", "mountPath": "/state"}]

# Says in which of its lives it is, and dies.
LIVES = "n=$(cat /state/n || echo 0) 2>/dev/null; n=$((n + 1)); echo $n >/state/n; echo life $n; exit 1"


def once(name, dies, **more):
    """A container that dies as `dies` says, and after its restart lives."""
    script = f"[ -e /state/lived ] && sleep 100000; touch /state/lived; {dies}"
    return container(name, script, volumeMounts=STATE_MOUNT, **more)


def wait_second_life(scene, name):
    status = "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.running}"
    lives_again = lambda: re.match(r"1 \S", scene.kubectl("get", "pod", name, "-o", status))
    wait_until(lives_again, 60, f"{name} died and was started again")


def shell(command):
    return {"exec": {"command": ["sh", "-c", command]}}


def probe(command, seconds=1):
    return {**shell(command), "initialDelaySeconds": seconds, "periodSeconds": 1, "failureThreshold": 1}


def post_start(command):
    return {"postStart": shell(command)}


def memory(limit):
    return {"limits": {"memory": limit}}


def secret_key(secret):
    return [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "token"}}}]


@scenario(NODE)
def incidents_of_deaths_with_a_killer(scene):
    """Section 4.2 rows 1 to 6: want of memory, probes, hooks and init containers, each with its proof."""
    server = up(scene)
    unhealed = "echo up; sleep 100000"
    scene.apply(
        # A container killed in its first moments reads Error instead of OOMKilled.
        pod(
            "eats",
            [container("main", "echo eating; sleep 3; exec tail /dev/zero", resources=memory("32Mi"))],
            **NEVER,
        ),
        pod("deaf", [container("main", unhealed, livenessProbe=probe("false", 2))], **NEVER),
        # No startup probe: this kubelet acts on one with a later sync, minutes after.
        # It stops when asked to, with 0: nothing but the kubelet's event tells that the probe did it.
        pod(
            "polite",
            [
                once(
                    "main",
                    POLITE,
                    livenessProbe=probe("[ ! -e /state/sick ] || { rm /state/sick; false; }", 1),
                    lifecycle=post_start("[ -e /state/seen ] || touch /state/sick /state/seen"),
                )
            ],
            **STATE,
        ),
        pod(
            "hooked",
            [
                once(
                    "main",
                    POLITE,
                    lifecycle=post_start("[ -e /state/hooked ] || { touch /state/hooked; false; }"),
                )
            ],
            **STATE,
        ),
        pod("service", [once("main", "echo all done; exit 0")], **STATE),
        pod("again", [once("main", "echo first life; sleep 2; exit 1")], **STATE),
        pod(
            "uninitialised",
            [container("main", "sleep 100000")],
            initContainers=[container("setup", "echo cannot set up; exit 3")],
            **NEVER,
        ),
    )
    expected = {
        ("eats", "out_of_memory"): ("SIGKILL", "eating"),
        ("deaf", "probe_kill"): ("SIGKILL", "up"),
        ("polite", "probe_kill"): ("exit 0", "up", "bye"),
        ("service", "unexpected_completion"): ("exit 0", "all done"),
        ("again", "crash"): ("exit 1", "first life"),
        ("uninitialised", "init_failure"): ("exit 3", "cannot set up"),
    }
    # A busy kubelet takes its time for probes.
    found = await_deaths(scene, server, expected, {("hooked", "config")}, 150)
    check(found["hooked", "config"].count == 1, f"one occurrence of {found['hooked', 'config']}")
    limit = found["eats", "out_of_memory"].facts.get("memory limit")
    check(limit == "32 MiB", f"the memory limit is {limit}")
    for name in ("deaf", "polite"):
        sentence = found[name, "probe_kill"].face["sentence"]
        check("liveness probe" in sentence, f"the probe is not named: {sentence}")
    check(found["uninitialised", "init_failure"].face["container"] == "setup", "the init container is named")


@scenario(NODE)
def incident_of_a_child_out_of_memory(scene):
    """Section 4.2 row 4: no status tells of it, only the container's cgroup; the container itself goes on."""
    server = up(scene)
    script = "echo hungry; sleep 3; tail /dev/zero; echo goes on; sleep 100000"
    scene.apply(pod("parent", [container("main", script, resources=memory("32Mi"))]))
    server.wait_for(f'"goes on" namespace:{scene.namespace}', 40)
    (incident,) = await_incidents(scene, server, {("parent", "child_out_of_memory")}, 20).values()
    check(incident.count == 1, f"one kill is one occurrence: {incident}")


@scenario(NODE)
def incidents_of_what_does_not_start(scene):
    """Section 4.2 rows 7, 8, 13, 17 and 19, and a crash loop, which is one incident however often it dies (row 2)."""
    server = up(scene)
    image = lambda name, pull="Never": container("main", "sleep 100000", image=name) | {"imagePullPolicy": pull}
    limited = job("overdue", POLITE)
    limited["spec"]["activeDeadlineSeconds"] = 5
    homeless = deployment("homeless", "sleep 100000")
    homeless["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"
    scene.apply(
        pod("loop", [container("main", LIVES, volumeMounts=STATE_MOUNT)], **STATE),
        pod("never-pulled", [image("localhost/none:1")]),
        pod("misnamed", [image("Not/An:Image:Name")]),
        pod("unreachable", [image("127.0.0.1:1/none:1", "Always")]),
        pod("secretless", [container("main", "sleep 100000", env=secret_key("lost"))]),
        pod("too-big", [container("main", "sleep 100000", resources={"requests": {"cpu": "1000"}})]),
        pod("overtime", POLITE, activeDeadlineSeconds=5, **NEVER),
        job("fails", "echo no luck; exit 4"),
        limited,
        homeless,
    )
    expected = {
        ("loop", "crash"),
        ("never-pulled", "image_pull"),
        ("misnamed", "image_pull"),
        ("unreachable", "image_pull"),
        ("secretless", "config"),
        ("too-big", "unschedulable"),
        ("overtime", "deadline"),
        ("fails", "job"),
        ("overdue", "job"),
        ("homeless", "rollout"),
    }
    # A pod no node takes is one after a minute.
    died = {("fails", "crash"): ("exit 4", "no luck")}
    found = await_deaths(scene, server, died, expected, 90)
    for name, text in {
        ("never-pulled", "image_pull"): "localhost/none:1",
        ("misnamed", "image_pull"): "Not/An:Image:Name",
        ("unreachable", "image_pull"): "127.0.0.1:1/none:1",
        ("secretless", "config"): 'secret "lost"',
        ("too-big", "unschedulable"): "Insufficient cpu",
        ("homeless", "rollout"): "service account",
        ("overdue", "job"): "deadline",
    }.items():
        check(text in found[name].face["sentence"], f"{text} is not named by {found[name]}")
        check(name == ("homeless", "rollout") or found[name].count == 1, f"one occurrence of {found[name]}")
    # The Job failed because its container did: that is told once.
    cause = found["fails", "crash"].face["id"]
    check(found["fails", "job"].face.get("parent") == cause, f"{found['fails', 'job']} is no part of the crash")

    def counted():
        deaths = scene.container_status("loop")
        lives = deaths["restartCount"] + ("running" not in deaths["state"])
        incident = incidents(scene, server)["loop", "crash"]
        return lives >= 3 and incident.count == lives and incident

    loop = wait_until(counted, 30, "as many occurrences of the crash loop as it had lives")
    names = [occurrence["name"] for occurrence in loop.detail["occurrences"]]
    check(len(names) == loop.count, f"what is kept of {loop}: {names}")
    for life, name in enumerate(names, start=1):

        def lines(which):
            kept = http_json(f"{server.url}/api/v1/incidents/{loop.face['id']}", occurrence=name)
            return [line["message"] for line in kept[which]]

        wait_until(
            lambda: lines("last_lines") == [f"life {life}"], 10, f"the lines of life {life}: {lines('last_lines')}"
        )
        before = [f"life {life - 1}"] if life > 1 else []
        check(lines("previous_lines") == before, f"the life before life {life} wrote {lines('previous_lines')}")


class Exits:
    """What the API tells of how the scenario's containers end, change by change."""

    def __init__(self, scene):
        argv = ["kubectl", "-n", scene.namespace, "get", "pods", "--watch", "-o", f"jsonpath={CHANGE}"]
        self.scene, self.program = scene, scene.program(argv, scene.directory / "exits.txt")

    def sees_killed(self, pod):
        """Deletes a pod that does not stop by itself; whether the API tells of its SIGKILL, and not of nothing."""
        self.scene.kubectl("delete", "pod", pod, "--wait=false")
        look = lambda: re.search(rf"(?m)^{pod} deleted=\S+ (137|ContainerCreating)$", self.program.output())
        return wait_until(look, 60, f"the end of {pod}").group(1) == "137"


STATE_OF = "{.status.containerStatuses[*].state"
CHANGE = f"{{.metadata.name}} deleted={{.metadata.deletionTimestamp}} {STATE_OF}.terminated.exitCode}}"
CHANGE += STATE_OF + '.waiting.reason}{"\\n"}'


@scenario(NODE)
def incident_outlives_its_pod(scene):
    """A pod that is deleted the moment it died leaves its last words, also after a restart; a deletion is no death."""
    server, witness = up(scene), Exits(scene)
    deaf = [f"deaf-{number}" for number in range(4)]
    stopping = {
        "polite": POLITE,
        "rude": POLITE.replace("exit 0", "exit 143"),
        "upset": POLITE.replace("exit 0", "exit 9"),
    }
    scene.apply(
        *(
            pod(name, POLITE.replace("echo bye; exit 0", "echo i stay"), terminationGracePeriodSeconds=2)
            for name in deaf
        ),
        *(pod(name, script, terminationGracePeriodSeconds=20) for name, script in stopping.items()),
    )
    for name in (*deaf, *stopping):
        scene.wait_running(name)
        server.wait_for(f'"up" namespace:{scene.namespace} pod:{name}', 20)
    scene.kubectl("delete", "pod", *stopping, "--wait=false")
    # A busy kubelet of 1.20 may lose how a container ended before it tells: the first whose end the API knows counts.
    overrun = next((name for name in deaf if witness.sees_killed(name)), None)
    check(overrun, "the cluster told of no container's SIGKILL")
    scene.apply(pod("brief", "echo famous last words; exit 1", **NEVER), pod("ended", "echo over; exit 5", **NEVER))
    for name in ("brief", "ended"):
        scene.wait_phase(name, "Failed")
        scene.kubectl("delete", "pod", name, "--grace-period=0", "--force")
    for name in (overrun, *stopping, "brief", "ended"):
        wait_until(lambda: not scene.kubectl("get", "pod", name, "--ignore-not-found"), 90, f"{name} is gone")
    expected = {(overrun, "grace_overrun"): ("SIGKILL", "up", "i stay")}
    expected |= {("brief", "crash"): ("exit 1", "famous last words"), ("ended", "crash"): ("exit 5", "over")}

    before = await_deaths(scene, server, expected)
    check(server.program.stop(SIGTERM) == 0, "an orderly stop")
    server.start()
    after = await_deaths(scene, server, expected)
    ids = lambda found: {key: incident.face["id"] for key, incident in found.items()}
    check(ids(before) == ids(after), "a restart gave incidents other names")
    told = [
        scene.tawny("incidents", *args, "--server", server.url, "-n", scene.namespace, "-o", "json")
        for args in (("--all", "--quiet-too"), ("brief", "--all"))
    ]
    check(
        [len(done.stdout.splitlines()) for done in told] == [len(expected), 1],
        f"tawny incidents: {[done.stdout for done in told]}",
    )
    shown = scene.tawny("incidents", "show", after["brief", "crash"].face["id"], "--server", server.url)
    check("famous last words" in shown.stdout, f"tawny incidents show:\n{shown.stdout}")


@scenario(NODE)
def incident_survives_kill(scene):
    """Killed at any moment between a death and the end of its report, and with the pod gone: it is there, once."""
    server = up(scene)
    # An orderly stop saves the book, so that what comes after is news.
    moments = {"calm": None, "at-once": 0.0, "soon": 0.5, "midway": 1.5, "late": 2.5}
    for name, delay in moments.items():
        scene.apply(pod(name, f"echo {name} says farewell; exit 1", **NEVER))
        scene.wait_phase(name, "Failed")
        if delay is None:
            server.program.stop()
            server.start()
            continue
        time.sleep(delay)
        server.program.kill()
        # Names of incidents are of the second they open in: it comes back in another.
        over = int(time.time()) + 1
        wait_until(lambda: time.time() >= over, 5, "the second of the kill is over")
        if name == "late":
            scene.kubectl("delete", "pod", name, "--grace-period=0", "--force")
        server.start()
    expected = {(name, "crash"): ("exit 1", f"{name} says farewell") for name in moments}
    for incident in await_deaths(scene, server, expected).values():
        check(len(incident.detail["occurrences"]) == 1, f"kept more than once: {incident.detail['occurrences']}")
        check(incident.face.get("quiet") is None, f"what happened while it watched is news: {incident}")


@scenario(NODE)
def incident_of_an_absence(scene):
    """What died while nobody watched is told afterwards as news; to one that never watched it was there before."""
    server = up(scene)
    dies = "echo waiting; while [ ! -e /state/go ]; do sleep 0.1; done; echo told to go; exit 1"
    scene.apply(pod("absent", [once("main", dies)], **STATE))
    server.wait_for(f"waiting namespace:{scene.namespace}", 40)
    server.program.stop()
    scene.kubectl("exec", "absent", "--", "touch", "/state/go")
    wait_second_life(scene, "absent")
    server.start()
    for name, each, quiet in (("restarted", server, None), ("fresh", up(scene, "fresh"), "baseline")):
        (incident,) = await_deaths(scene, each, {("absent", "crash"): ("exit 1", "waiting", "told to go")}).values()
        check(incident.face.get("quiet") == quiet, f"{name}: quiet is {incident.face.get('quiet')}, not {quiet}")


@scenario(NODE)
def incident_while_server_is_down(scene):
    """A server of its own that is killed, and an agent that goes on: what dies meanwhile is told with its lines, once."""
    server = scene.server("--watch", "on")
    scene.agent(server)
    scene.apply(pod("early", "echo heard; exit 1", **NEVER))
    heard = {("early", "crash"): ("exit 1", "heard")}
    before = await_deaths(scene, server, heard)
    server.program.kill()
    scene.apply(
        pod("late", "echo nobody listens; exit 6", **NEVER),
        pod("again", [once("main", "echo first life; exit 1")], **STATE),
    )
    scene.wait_phase("late", "Failed")
    wait_second_life(scene, "again")
    server.start()
    unheard = {("late", "crash"): ("exit 6", "nobody listens"), ("again", "crash"): ("exit 1", "first life")}
    after = await_deaths(scene, server, heard | unheard)
    check(after["early", "crash"].face["id"] == before["early", "crash"].face["id"], "an incident changed its name")
    for key in unheard:
        check(after[key].face.get("quiet") is None, f"what died while it was down is news: {after[key]}")


@scenario(NODE, alone=True)
def incident_of_a_lost_node(scene):
    """Section 4.2 row 16: a kubelet that is silent for 40 s is one incident of its node, and none of its pods."""
    server = up(scene)
    scene.apply(deployment("web", POLITE, replicas=2))
    scene.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    lost = lambda: [
        face
        for face in http_json(f"{server.url}/api/v1/incidents", **{"class": "node"}, quiet="true")["incidents"]
        if "not ready" in face["sentence"]
    ]
    check(not lost(), f"the node is ready: {lost()}")
    with scene.cluster.kubelet_paused():
        (incident,) = wait_until(lost, 75, "the node's incident")
        check((incident["node"], incident["severity"]) == (scene.cluster.node, "critical"), f"what is lost: {incident}")
        server.wait_for(f"source:k8s_event reason:NodeNotReady namespace:{scene.namespace}", 20)
    scene.kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=40s")
    await_incidents(scene, server, set(), 5)
    check([face["id"] for face in lost()] == [incident["id"]], f"one incident of the node: {lost()}")
