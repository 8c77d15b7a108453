"""No line lost, none repeated: over restarts and kills of agent and server, rotation, and a lost API server."""

import itertools
import pathlib
import time
from signal import SIGKILL, SIGTERM

from harness import check, check_sequence, ranges, wait_until
from manifests import counting, pod
from scene import API, NODE, scenario
from witness import Witness


def check_all_arrive(server, pod_name, last, seconds, namespace=None):
    server_has = lambda: last in server.sequence(pod_name, namespace)[-2000:]
    wait_until(server_has, seconds, f"line {last} of {pod_name}")
    check_sequence(server.sequence(pod_name, namespace), last)


def interrupted(server, agent, *interruptions):
    """Stops and starts a program while lines flow, once per signal, each time after it has made progress."""
    for name, how in interruptions:
        before = len(server.sequence("writer"))
        wait_until(lambda: len(server.sequence("writer")) > before + 500, 30, "progress before the next interruption")
        program = agent if name == "agent" else server.program
        code = program.stop(how)
        if how == SIGTERM:
            check(code == 0, f"{name} ended with {code} on SIGTERM:\n{program.output()[-1500:]}")
        time.sleep(1.5)  # lines it must catch up with
        agent.start() if name == "agent" else server.start()


@scenario(NODE)
def checkpoint_restart_agent(scene):
    server = scene.server()
    agent = scene.agent(server)
    scene.apply(pod("writer", counting(20_000)))
    interrupted(server, agent, ("agent", SIGTERM), ("agent", SIGKILL), ("agent", SIGKILL), ("agent", SIGTERM))
    check_all_arrive(server, "writer", 20_000, 60)


@scenario(NODE)
def checkpoint_restart_server(scene):
    """An ack follows the durable commit: what a killed server had not committed comes again, the rest does not."""
    server = scene.server()
    agent = scene.agent(server)
    scene.apply(pod("writer", counting(20_000)))
    interrupted(server, agent, ("server", SIGKILL), ("server", SIGTERM), ("server", SIGKILL))
    check_all_arrive(server, "writer", 20_000, 60)


@scenario(API)
def checkpoint_restart_api(scene):
    """The API resumes by whole seconds; the resume mark makes that exact."""
    server = scene.server()
    agent = scene.agent(server, source="api")
    scene.apply(pod("writer", counting(10_000, padding=10)))
    interrupted(server, agent, ("agent", SIGTERM), ("agent", SIGKILL), ("server", SIGKILL))
    check_all_arrive(server, "writer", 10_000, 60)


def rotating_writer(scene, last):
    """A writer of 8 MiB a minute; returns the folder where the kubelet rotates its log at 1 MiB."""
    scene.apply(pod("writer", counting(last, per_burst=250, pause=0.2, padding=120)))
    scene.wait_running("writer")
    uid = scene.kubectl("get", "pod", "writer", "-o", "jsonpath={.metadata.uid}")
    return pathlib.Path(f"/var/log/pods/{scene.namespace}_writer_{uid}/main")


def rotated(directory):
    return {file.name.removesuffix(".gz") for file in directory.iterdir()} - {"0.log"}


@scenario(NODE)
def rotation_while_writing(scene):
    """The kubelet renames, compresses and deletes under the reader."""
    server = scene.server()
    scene.agent(server)
    directory, seen = rotating_writer(scene, 60_000), set()
    wait_until(lambda: seen.update(rotated(directory)) or len(seen) >= 3, 90, "three rotations")
    check_all_arrive(server, "writer", 60_000, 120)


@scenario(NODE)
def rotation_while_agent_is_down(scene):
    """What was renamed and compressed while nobody read is found again in its rotated files, by position."""
    server = scene.server()
    agent = scene.agent(server)
    directory = rotating_writer(scene, 40_000)
    wait_until(lambda: len(server.sequence("writer")) > 500, 30, "the writer's first lines")
    agent.kill()
    wait_until(lambda: any(file.suffix == ".gz" for file in directory.iterdir()), 60, "a compressed file")
    agent.start()
    check_all_arrive(server, "writer", 40_000, 90)


@scenario(API)
def rotation_under_api_stream(scene):
    """A rotation wedges the kubelet's follow stream, and its API shows one file only: loss there is never silent.

    What the API handed out has to arrive. What it did not, a gap has to tell, unless the kubelet went on to the new
    file within one answer and left lines of the old one out of it: that no client can see.
    """
    server, witness = scene.server(), Witness(scene)
    scene.agent(server, source="api", env=scene.env(witness.kubeconfig, KUBELOGS_STREAM_IDLE_TIMEOUT="3s"))
    scene.apply(pod("writer", counting(30_000, per_burst=250, pause=0.2, padding=120)))
    wait_until(lambda: 30_000 in server.sequence("writer")[-2000:], 120, "the writer's last line")
    numbers = server.sequence("writer")
    check(len(numbers) == len(set(numbers)), "lines were repeated")
    answers = witness.sequences()
    handed_out = {number for answer in answers for number in answer}
    dropped = handed_out - set(numbers)
    check(not dropped, f"the API handed out {ranges(dropped)}, and they are not stored")
    skipped = {pair for answer in answers for pair in itertools.pairwise(answer) if pair[1] > pair[0] + 1}
    holes = [(a, b) for a, b in itertools.pairwise([0, *numbers]) if b != a + 1]
    if any(hole not in skipped for hole in holes):
        gaps = [message for message in server.messages(pod="writer") if message.startswith("gap:")]
        check(gaps, f"{30_000 - len(numbers)} lines are lost and no gap says so: {holes}")


@scenario(NODE)
def two_agents_one_server(scene):
    """One by files, one by API, one server: each stream whole, and each agent under its own node's name."""
    other = scene.new_namespace(f"{scene.namespace}-other")
    server = scene.server()
    scene.agent(server, name="agent-files")
    scene.agent(server, source="api", namespaces=(other,), name="agent-api")
    scene.apply(pod("writer", counting(5_000)))
    scene.apply(pod("writer", counting(5_000)), namespace=other)
    for namespace in (scene.namespace, other):
        check_all_arrive(server, "writer", 5_000, 60, namespace)


@scenario(NODE, alone=True)
def api_server_restart(scene):
    """Files are read on without an API server; API streams and watches come back by themselves."""
    server_files, server_api = scene.server(name="server-files"), scene.server(name="server-api")
    scene.agent(server_files, name="agent-files")
    scene.agent(server_api, source="api", name="agent-api")
    scene.apply(pod("writer", counting(10_000, padding=10)))
    for server in (server_files, server_api):
        wait_until(lambda: len(server.sequence("writer")) > 500, 40, "lines before the API server goes")
    before = len(server_files.sequence("writer"))
    scene.cluster.restart_api_server(down_for=5)
    check(len(server_files.sequence("writer")) > before, "no line by files while the API server was away")
    # A pod of afterwards is found by both: the watches live again.
    scene.apply(pod("late", "while :; do echo from-late; sleep 0.5; done"))
    for server in (server_files, server_api):
        server.wait_for(f'"from-late" namespace:{scene.namespace}', 60)
        check_all_arrive(server, "writer", 10_000, 60)
    # And its metadata too.
    server_files.wait_for(f"from-late node:{scene.cluster.node}", 30)
