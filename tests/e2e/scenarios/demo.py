"""The README's promise: one command, lines within seconds, and one of them found."""

import json
import re
import shlex

from harness import check, wait_until
from scene import NOTHING, scenario


@scenario(NOTHING)
def demo(scene):
    demo = scene.program(
        [scene.binary, "demo", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"], scene.directory / "demo.log"
    )
    url = demo.printed(r"(http://127\.0\.0\.1:\d+)", 15).group(1)

    def search(query, *args):
        done = scene.tawny("search", query, "--server", url, "--since", "1h", "-o", "json", *args, ok=(0, 1, 3))
        return [json.loads(line) for line in done.stdout.splitlines() if line]

    wait_until(
        lambda: search("error OR timeout OR request", "--limit", "5"), 15, "tawny search finds a line of the demo"
    )
    pods = wait_until(lambda: {e["pod"] for e in search("", "--limit", "1000")}, 15, "lines of pods")
    check(len(pods) >= 3, f"a made-up cluster of {pods}")
    check(demo.printed(r"(?s)tawny search.*tawny"), "the demo prints commands to try")
    # Its commands are true: each one it prints runs.
    for command in re.findall(r"^\s*(?:\$ )?(tawny search .*)$", demo.output(), re.M)[:3]:
        check(
            scene.tawny("search", *shlex.split(command, comments=True)[2:], ok=(0,)).stdout, f"nothing by `{command}`"
        )
    check(demo.stop() == 0, f"the demo's exit code on SIGTERM:\n{demo.output()[-800:]}")
