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
    pods = lambda: {entry["pod"] for entry in search("", "--limit", "1000")}
    wait_until(lambda: len(pods()) >= 4, 15, "lines of four pods")
    check(demo.printed(r"(?s)tawny search.*tawny"), "the demo prints commands to try")
    # Its commands are true: each search it prints finds something.
    commands = re.findall(r"^\s*(?:\$ )?tawny (search .*)$", demo.output(), re.MULTILINE)
    check(commands, f"the demo prints no search to try:\n{demo.output()}")
    for number, command in enumerate(commands):
        argv = shlex.split(command, comments=True)
        if "--follow" not in argv:
            check(scene.tawny(*argv).stdout, f"nothing by `{command}`")
            continue
        following = scene.program([scene.binary, *argv], scene.directory / f"follow-{number}.log")
        following.printed(r"\w", 15)
        check(following.popen.poll() is None, f"`{command}` ended: {following.output()}")
    printed = re.search(r"^\s*tawny (incidents .*)$", demo.output(), re.MULTILINE)
    check(printed, "the demo prints a command that shows incidents")
    argv = shlex.split(printed.group(1))
    classes = lambda: {json.loads(line)["class"] for line in scene.tawny(*argv, "-o", "json", ok=(0, 1)).stdout.splitlines()}
    wait_until(lambda: {"crash", "out_of_memory"} <= classes(), 15, "the demo's crash and its want of memory are incidents")
    check(demo.stop() == 0, f"the demo's exit code on SIGTERM:\n{demo.output()[-800:]}")
