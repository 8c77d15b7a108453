"""What must not be collected is not: by pod label, by annotation per container, by namespace."""

from harness import check
from manifests import container, pod
from scene import NODE, scenario

CHATTER = "while :; do echo {0}; sleep 0.5; done"


def check_only(server, wanted, unwanted):
    """The unwanted writers started first: once the wanted one's later lines are in, theirs would be too."""
    server.wait_for(f'"{wanted}"', 40, count=6)
    for word in unwanted:
        found = server.search(f'"{word}"')
        check(not found, f"{word} was collected: {found[:1]}")


@scenario(NODE)
def exclusion_by_pod_label(scene):
    """The native label and one of another collector's (requirements §7, row 15)."""
    for name, label in (("quiet-native", "tawny.dev/exclude"), ("quiet-alias", "vector.dev/exclude")):
        scene.apply(pod(name, CHATTER.format(f"from-{name}"), labels={label: "true"}))
        scene.wait_running(name)
    scene.apply(pod("loud", CHATTER.format("from-loud")))
    for source, server in scene.both_sources():
        check_only(server, "from-loud", ["from-quiet-native", "from-quiet-alias"])


@scenario(NODE)
def exclusion_by_container_annotation(scene):
    """`tawny.dev/exclude-containers` silences the named containers and nobody else."""
    names = ("proxy", "init-db", "app")
    proxy, initial, app = (container(name, CHATTER.format(f"from-{name}")) for name in names)
    initial["command"][-1] = "echo from-init-db"
    annotations = {"tawny.dev/exclude-containers": "proxy, init-db"}
    scene.apply(pod("mesh", [proxy, app], annotations=annotations, initContainers=[initial]))
    scene.wait_running("mesh")
    for source, server in scene.both_sources():
        check_only(server, "from-app", ["from-proxy", "from-init-db"])


@scenario(NODE)
def exclusion_by_namespace(scene):
    """KL-27: by flag and by kubelogs' variable, where exclusion beats inclusion."""
    other = scene.new_namespace(f"{scene.namespace}-other")
    scene.apply(pod("writer", CHATTER.format("from-other")), namespace=other)
    scene.apply(pod("writer", CHATTER.format("from-own")))
    scene.wait_running("writer")

    by_flag = scene.server(name="by-flag")
    agent = scene.agent(by_flag, "--exclude-namespace", other, namespaces=(scene.namespace, other), name="agent-flag")
    check_only(by_flag, "from-own", ["from-other"])
    agent.stop()

    by_variable = scene.server(name="by-variable")
    env = scene.env(KUBELOGS_EXCLUDE_NS=other, KUBELOGS_INCLUDE_NS=f"{scene.namespace},{other}")
    scene.agent(by_variable, namespaces=(), env=env, name="agent-variable")
    check_only(by_variable, "from-own", ["from-other"])
