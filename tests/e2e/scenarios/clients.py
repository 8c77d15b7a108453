"""Other people's clients work: a stock gRPC client through reflection, curl for HTTP and server-sent events."""

import json
import pathlib
import time

from cluster import CACHE
from harness import check, run, wait_until
from scene import NOTHING, scenario

HERE = pathlib.Path(__file__).resolve().parent.parent


def grpc_python():
    """A Python with grpcio from PyPI, installed once in a folder of its own."""
    venv = CACHE / "grpcio"
    if not (venv / "ready").exists():
        run("python3", "-m", "venv", "--clear", venv)
        run(venv / "bin" / "pip", "install", "--quiet", "grpcio", "grpcio-reflection", timeout=600)
        (venv / "ready").touch()
    return venv / "bin" / "python"


def write(server, *lines, namespace="shop", severity=3):
    """Puts entries into the server through kubelogs' gRPC service."""
    entry = {"namespace": namespace, "pod": "web-1", "container": "main", "severity": severity}
    entries = [{**entry, "message": line} for line in lines]
    run(grpc_python(), HERE / "kubelogs_client.py", server.grpc_address, "write", stdin=json.dumps(entries))


@scenario(NOTHING)
def grpc_kubelogs(scene):
    """KL-3 … KL-10: every method of kubelogs.storage.v1, by a client that knows nothing but the address."""
    server = scene.server()
    done = run(grpc_python(), HERE / "kubelogs_client.py", server.grpc_address, "prove", ok=None)
    check(done.returncode == 0, f"{done.stdout}{done.stderr}")
    # What came by gRPC is found by HTTP as well: one store.
    check(server.messages(namespace="other"), "entries written by gRPC are not found by HTTP")


@scenario(NOTHING)
def http_sse(scene):
    """KL-70 … KL-73 by curl; the stream shows what is stored, then what comes, pushed and not polled."""
    server = scene.server()

    def curl(path, *args):
        return run("curl", "--noproxy", "*", "-fsS", "--max-time", "10", *args, server.url + path).stdout

    write(server, "first line")
    write(server, "payment failed", severity=5)
    page = json.loads(curl("/api/logs?namespace=shop&order=asc"))
    check(page["entries"][0]["message"] == "first line", f"/api/logs: {page}")
    check(page["hasMore"] is False and page["entries"][0]["pod"] == "web-1", f"/api/logs: {page}")
    errors = json.loads(curl("/api/logs?minSeverity=5"))["entries"]
    check(len(errors) == 1 and "payment failed" in errors[0]["message"], f"minSeverity=5: {errors}")
    check(json.loads(curl("/api/filters/namespaces")) == ["shop"], "filters/namespaces")
    check(json.loads(curl("/api/filters/containers")) == ["main"], "filters/containers")
    check(json.loads(curl("/api/stats"))["totalEntries"] == 2, "stats")
    for path in ("/health", "/healthz", "/livez", "/readyz"):
        curl(path)
    check("tawny_build_info{" in curl("/metrics"), "/metrics is no Prometheus text")
    open_metrics = curl("/metrics", "-H", "Accept: application/openmetrics-text")
    check(open_metrics.endswith("# EOF\n"), "/metrics is no OpenMetrics text where that is asked for")
    found = json.loads(curl("/api/v1/search?q=payment&since=1h"))["entries"]
    check(len(found) == 1, f"/api/v1/search: {found}")
    for path in ("histogram", "facets"):
        json.loads(curl(f"/api/v1/{path}?q=&since=1h"))

    stream = scene.program(
        ["curl", "--noproxy", "*", "-sSNi", f"{server.url}/api/logs/stream?namespace=shop"],
        scene.directory / "stream.log",
    )
    stream.printed(r"(?i)x-accel-buffering: no")
    stream.printed(r"data: ?\{.*first line")
    write(server, "not for this stream", namespace="other")
    write(server, "pushed line")
    stream.printed(r"data: ?\{.*pushed line", 5)
    check("not for this stream" not in stream.output(), "the stream's filter lets another namespace through")

    tail = scene.program(
        ["curl", "--noproxy", "*", "-sSN", f"{server.url}/api/v1/tail?q=apple"], scene.directory / "tail.log"
    )
    # The tail begins when it is connected; until then lines are written anew.
    wait_until(lambda: (write(server, "apple pie", "cherry pie"), "apple pie" in tail.output())[1], 20, "a tailed line")
    time.sleep(0.5)
    check("cherry" not in tail.output(), "the tail shows what its query does not match")
