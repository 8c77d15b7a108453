"""A pod's last lines matter most: deletion, completion and crashes are read to the end."""

from harness import check, check_sequence, wait_until
from manifests import counting, job, pod, reader
from scene import API, NODE, scenario

# On TERM it says 2,000 more lines and goes: they are written while the pod is already being deleted.
LAST_WORDS = """
trap 'for i in $(seq 1 2000); do echo seq $i; done; echo last words; exit 0' TERM
echo ready; while :; do sleep 0.2; done
"""


@scenario(NODE)
def pod_deletion_drained(scene):
    """SX-14 read literally loses the lines of a dying pod; here they all arrive."""
    for source, server in scene.both_sources():
        name = f"dying-{source}"
        scene.apply(pod(name, LAST_WORDS, terminationGracePeriodSeconds=20))
        server.wait_for(f"ready pod:{name}", 40)
        scene.wait_running(name)  # until then the kubelet may end the container without asking
        scene.kubectl("delete", "pod", name, "--timeout=60s")
        server.wait_for(f'"last words" pod:{name}', 30)
        check_sequence(server.sequence(name), 2000)


@scenario(NODE)
def terminal_pod_read_to_end(scene):
    """A Job that is over before anybody looked, and one that ends while being read."""
    scene.apply(job("before", "for i in $(seq 1 1000); do echo seq $i; done"))
    wait_until(
        lambda: scene.kubectl("get", "job", "before", "-o", "jsonpath={.status.succeeded}") == "1",
        60,
        "the first job is done",
    )
    for source, server in scene.both_sources():
        during = f"during-{source}"
        scene.apply(job(during, counting(2000, then="exit 0")))
        for name, last in (("before", 1000), (during, 2000)):
            pod_name = scene.pod_name(f"job-name={name}")
            wait_until(lambda: last in server.sequence(pod_name), 60, f"{source}: the last line of job {name}")
            check_sequence(server.sequence(pod_name), last)
        server.wait_for(f"namespace:{scene.namespace} workload:{during}", 20)


@scenario(NODE)
def crash_loop_previous(scene):
    """Every life of a crash-looping container is in the store, and `tail --previous` shows the one before this."""
    server = scene.server()
    scene.agent(server)
    scene.apply(pod("crash", 'echo "about to fail at $(date +%s.%N)"; sleep 2; exit 1'))
    wait_until(lambda: scene.container_status("crash")["restartCount"] >= 2, 90, "two restarts")
    lives = lambda: len(set(server.messages(namespace=scene.namespace, pod="crash"))) >= 3
    wait_until(lives, 30, "the lines of three lives")

    def previous():
        cluster_says = scene.kubectl("logs", "crash", "--previous").strip()
        tawny_says = scene.tawny(
            "tail", "crash", "-n", scene.namespace, "--previous", "--no-follow", "-o", "raw"
        ).stdout.strip()
        # A restart between the two commands moves "previous" on; the next look compares again.
        return cluster_says and tawny_says == cluster_says

    wait_until(previous, 60, "tail --previous prints what kubectl logs --previous prints")


@scenario(API)
def rbac_missing_doctor(scene):
    """A missing right is named whole: verb, resource, namespace; and a complete set is no complaint."""
    scene.apply(reader("half", {"pods": ["get", "list"]}))
    scene.apply(reader("whole", {"pods": ["get", "list", "watch"], "pods/log": ["get"]}))

    def doctor(account, ok):
        config = scene.cluster.kubeconfig_of(scene.namespace, account, scene.directory / account)
        done = scene.tawny("doctor", "--namespace", scene.namespace, env=scene.env(kubeconfig=config), ok=ok)
        return done.stdout + done.stderr

    complaint = doctor("half", ok=(3, 4))
    for verb, resource in (("watch", "pods"), ("get", "pods/log")):
        named = [
            line for line in complaint.splitlines() if verb in line and resource in line and scene.namespace in line
        ]
        check(named, f"`{verb} {resource}` in {scene.namespace} is not named by:\n{complaint}")
    praise = doctor("whole", ok=(0,))
    check("pods/log" in praise, f"doctor does not say what it checked:\n{praise}")

    # An agent with too few rights says the same instead of staying silent.
    server = scene.server()
    config = scene.directory / "half"
    agent = scene.agent(server, source="api", env=scene.env(kubeconfig=config))
    agent.printed(r"(?s)(?=.*pods)(?=.*watch|.*pods/log).*" + scene.namespace, 30)
