"""What every scenario needs: a failure type, waiting, HTTP, and programs that are stopped by their pid."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request


class Failed(Exception):
    """A scenario's expectation did not hold."""


class Hopeless(Failed):
    """A failure that waiting cannot mend."""


def check(condition, message):
    if not condition:
        raise Failed(message)


def wait_until(predicate, seconds, what):
    """Returns the predicate's first true value; an error it raises counts as false until time is up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            value, error = predicate(), None
        except Hopeless:
            raise
        except (Failed, OSError, subprocess.CalledProcessError, KeyError, IndexError, ValueError) as caught:
            value, error = None, caught
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}" + (f" (last: {error})" if error else ""))
        time.sleep(0.2)


def run(*argv, stdin=None, env=None, ok=(0,), timeout=120):
    """Runs a program to its end; returns what it printed, with `.code`, `.out` and `.err`."""
    done = subprocess.run(
        [str(arg) for arg in argv],
        input=stdin,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        errors="replace",
    )
    if ok is not None and done.returncode not in ok:
        raise Failed(
            f"{' '.join(map(str, argv))}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done


def http(url, seconds=10, **params):
    """GETs `url` and returns (status, body); names of parameters as the API has them."""
    if params:
        url += "?" + urllib.parse.urlencode(params)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def http_json(url, **params):
    status, body = http(url, **params)
    check(status == 200, f"GET {url}: {status} {body[:500]}")
    return json.loads(body)


class Program:
    """A running program. Its output goes to a file; it is ended by its pid."""

    def __init__(self, argv, log, env=None):
        self.argv, self.log, self.env = [str(arg) for arg in argv], log, env
        self.start()

    def start(self):
        self.seen_from = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        with open(self.log, "ab") as output:
            self.popen = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.env, start_new_session=True
            )

    def output(self):
        """What it printed since its last start."""
        with open(self.log, "rb") as log:
            log.seek(self.seen_from)
            return log.read().decode(errors="replace")

    def printed(self, pattern, seconds=20):
        """Waits until it printed `pattern` and returns the match."""

        def look():
            match = re.search(pattern, self.output())
            if not match and self.popen.poll() is not None:
                raise Hopeless(f"{self.argv[:2]} ended with {self.popen.returncode}: {self.output()[-2000:]}")
            return match

        return wait_until(look, seconds, f"{self.argv[0]} prints {pattern}")

    def stop(self, how=signal.SIGTERM, seconds=30):
        """Sends `how` and returns the exit code; a program that stays is killed and that is a failure."""
        if self.popen.poll() is None:
            self.popen.send_signal(how)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise Failed(f"{self.argv[:2]} did not stop within {seconds} s of signal {how}") from None

    def kill(self):
        return self.stop(signal.SIGKILL)

    def end(self):
        """Ends it whatever its state; for tidying up."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(15)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


def ranges(numbers):
    """`[1, 2, 3, 7]` as `1-3 7`, cut short when long."""
    spans = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    text = " ".join(f"{a}-{b}" if a != b else str(a) for a, b in spans[:8])
    return text + (f" … ({len(spans)} ranges)" if len(spans) > 8 else "")


def check_sequence(numbers, last):
    """Every number from 1 to `last` exactly once: nothing lost, nothing repeated."""
    seen, repeated = set(), set()
    for number in numbers:
        (repeated if number in seen else seen).add(number)
    missing = set(range(1, last + 1)) - seen
    check(not missing, f"lost {len(missing)} of {last} lines: {ranges(missing)}")
    check(not repeated, f"repeated {len(repeated)} of {last} lines: {ranges(repeated)}")
    check(len(seen) == last, f"lines beyond {last}: {ranges(seen - set(range(1, last + 1)))}")
