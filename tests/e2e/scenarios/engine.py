"""The container engine as a source: Debian's dockerd, started here with nothing shared with other engines."""

import contextlib
import json
import pathlib
import re
import time

import image
from cluster import busybox_root
from harness import Program, check, run, wait_until
from manifests import RANDOMLOG
from scene import ENGINE, scenario


class Engine:
    """dockerd on a socket of its own, with a busybox image `bb:1` and Tawny as `tawny:e2e`."""

    def __init__(self, scene):
        self.socket = f"unix://{scene.directory}/d.sock"
        self.directory = at = scene.directory
        argv = ["dockerd", "--host", self.socket, "--data-root", at / "data", "--exec-root", at / "exec"]
        argv += ["--pidfile", at / "d.pid", "--bridge", "none", "--iptables=false"]
        self.daemon = Program(argv, at / "dockerd.txt")
        scene.cleanups.append(self.down)
        wait_until(lambda: self.docker("version"), 40, "dockerd answers")
        self.docker("import", busybox_root(at), "bb:1")
        self.docker("import", image.root_of(scene.binary, at / "image"), "tawny:e2e")

    def docker(self, *args, **options):
        return run("docker", "-H", self.socket, *args, **options).stdout.strip()

    def start(self, name, script, *args, network="host"):
        command = ("bb:1", "/bin/sh", "-c", script)
        return self.docker("run", "-d", "--name", name, "--network", network, *args, *command)

    def down(self):
        with contextlib.suppress(Exception):
            for name in self.docker("ps", "-a", "--format", "{{.Names}}").split():
                told = run("docker", "-H", self.socket, "logs", "--tail", "25", name)
                (self.directory / f"container-{name}.log").write_text(told.stdout + told.stderr)
                self.docker("rm", "-f", name)
        self.daemon.end()
        mounts = (line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines())
        for mount in sorted((mount for mount in mounts if mount.startswith(f"{self.directory}/")), reverse=True):
            run("umount", "-l", mount)


@scenario(ENGINE)
def docker_engine(scene):
    """SX-22 … SX-29: captured within 10 s, TTY or not, through restarts, and never itself."""
    engine = Engine(scene)
    engine.start("randomlog", RANDOMLOG)
    engine.start("before", "echo before-tawny; echo before-err >&2; sleep 100000")
    server = scene.server()
    env = scene.env(DOCKER_HOST=engine.socket)
    agent = scene.agent(server, source="docker", namespaces=(), env=env)

    (entry, *_) = server.wait_for("container:randomlog", 10)
    logged = [json.loads(line) for line in engine.docker("logs", "randomlog").splitlines()]
    check(any(line["message"] in entry["message"] for line in logged), f"{entry['message']!r} was never logged")
    server.wait_for('"before-tawny"', 10, what="the earlier line of a running container")
    server.wait_for('"before-err"', 10, what="its stderr")

    # A container of afterwards comes by the engine's start event; a TTY has one raw stream and ends lines with CR LF.
    engine.start("tty", "while :; do echo from-tty; sleep 0.5; done", "-t")
    for found in server.wait_for('"from-tty"', 10):
        check(found["message"] == "from-tty", f"TTY line is {found['message']!r}")
    engine.start("brief", "for i in $(seq 1 300); do echo seq $i; done; echo brief-end")
    server.wait_for('"brief-end"', 10, what="the last line of a container that was gone at once")

    # Restart: both lives are kept, and lines of the first are not read twice.
    engine.start("again", "echo life $(date +%s%N); sleep 100000")
    server.wait_for("life container:again", 10)
    engine.docker("restart", "-t", "0", "again")
    wait_until(
        lambda: sorted(lives(server)) == sorted(engine.docker("logs", "again").splitlines()),
        15,
        "both lives, once each",
    )

    # The agent restarts without loss or repeats.
    engine.start(
        "counter",
        "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo seq $i; [ $((i % 50)) = 0 ] && sleep 0.1; done; sleep 100000",
    )
    wait_until(lambda: len(numbers(server, "counter")) > 300, 20, "the counter's first lines")
    agent.stop()
    time.sleep(1)
    agent.start()
    wait_until(lambda: 3000 in numbers(server, "counter"), 30, "the counter's last line")
    check(sorted(numbers(server, "counter")) == list(range(1, 3001)), "the counter's lines are not there once each")
    check(
        sorted(numbers(server, "brief")) == list(range(1, 301)), "the brief container's lines are not there once each"
    )
    check(len(lives(server)) == 2, "a line was read twice after the agent's restart")
    agent.stop()


def numbers(server, container):
    messages = server.messages(container=container)
    return [int(match.group(1)) for message in messages if (match := re.fullmatch(r"seq (\d+)", message))]


def lives(server):
    return [message for message in server.messages(container="again") if message.startswith("life")]


@scenario(ENGINE)
def docker_self_exclusion(scene):
    """SX-27: Tawny in a container collects its neighbours and not itself, by id or by name."""
    engine = Engine(scene)
    engine.start("neighbour", "while :; do echo from-neighbour; sleep 0.5; done")
    up = (
        "/tawny",
        "up",
        "--source",
        "docker",
        "--db",
        "/tmp/t.db",
        "--http",
        "127.0.0.1:8080",
        "--grpc",
        "127.0.0.1:8081",
    )
    mount = f"{scene.directory}/d.sock:/var/run/docker.sock"
    search = ("/tawny", "search", "--server", "http://127.0.0.1:8080", "--since", "1h", "-o", "json")
    # As Docker sets HOSTNAME, and as a compose file that sets it to the service's name.
    for name, args in (("by-id", ()), ("strixlog", ("-e", "HOSTNAME=strixlog"))):
        engine.docker("run", "-d", "--name", name, "--network", "none", "-v", mount, *args, "tawny:e2e", *up)
        found = lambda query: engine.docker("exec", name, *search, query, ok=(0, 1)).splitlines()
        wait_until(lambda: len(found('"from-neighbour"')) > 4, 20, f"{name}: the neighbour's lines")
        own = found(f"container:{name}")
        check(not own, f"{name} collected itself: {own[:1]}")
        engine.docker("rm", "-f", name)
