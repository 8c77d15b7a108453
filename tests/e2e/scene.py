"""A scenario's stage: its own namespace and folder, and Tawny's programs, all gone when it ends."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import typing

import harness
from harness import Failed, check, http, http_json, wait_until

SCENARIOS = []

# What a scenario needs: the cluster's API, the node's own files and containerd as well, a container engine, or nothing.
API, NODE, ENGINE, NOTHING = "a cluster's API", "the cluster's node", "a container engine", "nothing"


@dataclasses.dataclass
class Scenario:
    name: str
    body: typing.Callable
    needs: str
    alone: bool


def scenario(needs=NODE, alone=False):
    """Registers a function as a scenario; `alone` ones run while no other does."""

    def register(body):
        SCENARIOS.append(Scenario(body.__name__, body, needs, alone))
        return body

    return register


class Server:
    """`tawny server` (or `up`) with its database; survives restarts on the same addresses."""

    def __init__(self, scene, name, *args, verb="server", env=None):
        self.scene, self.verb, self.args, self.env = scene, verb, args, env
        self.database = scene.directory / f"{name}-data"
        self.log = scene.directory / f"{name}.log"
        self.http_address = self.grpc_address = "127.0.0.1:0"
        self.start()

    def start(self):
        argv = [
            self.scene.binary,
            self.verb,
            "--db",
            self.database,
            "--http",
            self.http_address,
            "--grpc",
            self.grpc_address,
        ]
        self.program = self.scene.program([*argv, *self.args], self.log, self.env)
        self.http_address = self.program.printed(r"http listening on http://(\S+)").group(1)
        self.grpc_address = self.program.printed(r"grpc listening on (?:http://)?(\S+)").group(1)
        wait_until(lambda: http(f"{self.url}/readyz")[0] == 200, 20, "/readyz is 200")

    @property
    def url(self):
        return f"http://{self.http_address}"

    @property
    def grpc_url(self):
        return f"http://{self.grpc_address}"

    def search(self, query, **params):
        """Newest entries that match the query language's `query`."""
        params = {"since": "1h", "limit": 1000, **params}
        return http_json(f"{self.url}/api/v1/search", q=query, **params)["entries"]

    def entries(self, **params):
        """All entries that match KL-70's parameters, oldest first, page by page."""
        found, params = [], {"order": "asc", "limit": 1000, **params}
        while True:
            page = http_json(f"{self.url}/api/logs", **params)
            found += page["entries"]
            if not page["hasMore"]:
                return found
            params["afterId"] = page["nextCursor"]

    def messages(self, **params):
        return [entry["message"] for entry in self.entries(**params)]

    def sequence(self, pod, namespace=None):
        """The numbers of a `counting` writer's lines that are stored, in stored order."""
        lines = self.messages(pod=pod, namespace=namespace or self.scene.namespace)
        return [int(match.group(1)) for line in lines if (match := re.match(r"seq (\d+)\b", line))]

    def wait_for(self, query, seconds, count=1, what=None):
        """Waits until at least `count` entries match; returns them."""

        def look():
            found = self.search(query)
            return found if len(found) >= count else None

        return wait_until(look, seconds, what or f"{count} entries for `{query}`")


class Scene:
    def __init__(self, scenario, cluster, binary, directory):
        self.scenario, self.cluster, self.binary = scenario, cluster, binary
        self.directory = directory / scenario.name
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        self.namespace = f"e2e-{scenario.name.replace('_', '-')}-{os.getpid()}"
        self.programs = []
        self.cleanups = []

    def __enter__(self):
        if self.scenario.needs in (API, NODE):
            self.new_namespace(self.namespace)
        return self

    def __exit__(self, failure, *_):
        if failure and self.scenario.needs in (API, NODE):
            pods = self.kubectl("get", "pods", "-o", "wide", ok=None)
            logs = [self.kubectl("logs", "collector", "--tail=25", *args, ok=None) for args in ((), ("--previous",))]
            (self.directory / "pods.log").write_text("\n".join([pods, *logs]))
        for program in self.programs:
            program.end()
        for cleanup in reversed(self.cleanups):
            cleanup()

    def new_namespace(self, name):
        self.cluster.create_namespace(name)
        self.cleanups.append(lambda: self.cluster.delete_namespace(name))
        return name

    # --- the cluster

    def apply(self, *objects, namespace=None):
        self.cluster.apply(namespace or self.namespace, *objects)

    def kubectl(self, *args, **options):
        return self.cluster.kubectl("-n", self.namespace, *args, **options)

    def pod_name(self, selector):
        """The name of the one pod a label selector finds."""
        pods = wait_until(
            lambda: self.cluster.get("-n", self.namespace, "pods", "-l", selector)["items"], 30, f"pod {selector}"
        )
        return pods[0]["metadata"]["name"]

    def container_status(self, pod, container="main"):
        statuses = self.cluster.get("-n", self.namespace, "pod", pod)["status"].get("containerStatuses", [])
        return next(status for status in statuses if status["name"] == container)

    def wait_running(self, pod, seconds=40):
        wait_until(
            lambda: self.kubectl("get", "pod", pod, "-o", "jsonpath={.status.phase}") == "Running",
            seconds,
            f"{pod} runs",
        )

    def wait_phase(self, pod, phase, seconds=60):
        wait_until(
            lambda: self.kubectl("get", "pod", pod, "-o", "jsonpath={.status.phase}") == phase,
            seconds,
            f"{pod} is {phase}",
        )

    # --- Tawny

    def env(self, kubeconfig=None, **more):
        """A clean environment: nothing of the caller's reaches Tawny."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "NO_COLOR": "1", **more}
        config = kubeconfig or (self.cluster and self.scenario.needs in (API, NODE) and self.cluster.kubeconfig)
        if config:
            env["KUBECONFIG"] = str(config)
        return env

    def program(self, argv, log, env=None):
        program = harness.Program(argv, log, env or self.env())
        self.programs.append(program)
        return program

    def server(self, *args, name="server", **options):
        return Server(self, name, *args, **options)

    def agent(self, server, *args, source="files", name="agent", node=None, namespaces=None, env=None):
        """Starts an agent that collects the scenario's namespaces (`namespaces=()`: all) and sends to `server`."""
        argv = [self.binary, "agent", "--server", server.grpc_url, "--source", source]
        # By API an agent may serve many nodes, and has no need to know its own.
        argv += ["--node-name", node or self.cluster.node] if source == "files" else []
        chosen = (self.namespace,) if namespaces is None else namespaces
        argv += ["--namespace", ",".join(chosen)] if chosen else []
        return self.program([*argv, *args], self.directory / f"{name}.log", env or self.env())

    def both_sources(self):
        """Yields (source, server) for the files and then for the API, each with an agent of its own while it lasts."""
        for source in ("files", "api"):
            server = self.server(name=f"server-{source}")
            agent = self.agent(server, source=source, name=f"agent-{source}")
            yield source, server
            agent.stop()
            server.program.stop()

    def tawny(self, *args, env=None, ok=(0,), timeout=60):
        return harness.run(self.binary, *args, env=env or self.env(), ok=ok, timeout=timeout)

    def search_command(self, server, query, *args, ok=(0,)):
        """What `tawny search` prints: one entry per line."""
        out = self.tawny("search", query, "--server", server.url, "--since", "1h", "-o", "json", *args, ok=ok).stdout
        return [json.loads(line) for line in out.splitlines() if line.strip()]

    def story(self):
        """The end of every program's output, for a failed scenario's report."""
        told = []
        for log in sorted(self.directory.glob("*.log")):
            lines = pathlib.Path(log).read_text(errors="replace").splitlines()[-25:]
            told += [f"    --- {log.name}"] + [f"    {line[:300]}" for line in lines]
        return "\n".join(told)


__all__ = ["API", "ENGINE", "NODE", "NOTHING", "SCENARIOS", "Failed", "Scene", "check", "scenario", "wait_until"]
