"""Lets schemathesis look for what the API does and its document does not say.

`python -m tests.web.schemathesis_run [--seed N ...] [--examples N]`, where the extra `test-page` is
installed. It serves a queue of its own, for which no worker starts: what is made up must not run.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from queuectl import cli
from queuectl.web import tokens
from queuectl.worker import pool

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PHASES = "examples,coverage,fuzzing,stateful"
_SERVE = "from tests.web.schemathesis_run import serve; serve()"
# job1 has ended and printed something, dead1 is dead, the others wait.
_JOBS = """
enqueue --id job1 --command 'printf abc'
enqueue --id dead1 --max-retries 0 --command 'exit 3'
worker run --drain
enqueue --id waits --command true
pause gpu
"""


def missing() -> str:
    """What must be installed to run it, in words; "" if all is there."""
    there = find_spec("schemathesis") is not None
    return "" if there else "schemathesis is not installed: pip install -e '.[test-page]'"


def serve() -> None:
    """`queuectl serve` with workers that are only said to start.

    Wrong tokens are not slowed down: the search sends more of them than a guesser may.
    """
    pool.start = lambda folder, count: [os.getpid()] * count
    tokens._MOST_FAILURES = 1_000_000
    sys.exit(cli.main(["serve", "--allow-root", "--port", "0"]))


@contextmanager
def served(home: str) -> Iterator[tuple[str, str]]:
    """The address and the token of a queue that is served from a folder of its own."""
    env = {**os.environ, "PYTHONPATH": ROOT, "XDG_STATE_HOME": f"{home}/state"}
    env |= {"QUEUECTL_DATA": f"{home}/queue", "HOME": home}
    fill = [sys.executable, "-m", "queuectl", "-q"]
    subprocess.run(fill, input=_JOBS.encode(), env=env, cwd=home, capture_output=True)
    with open(f"{home}/served.log", "wb") as log:
        argv = [sys.executable, "-c", _SERVE]
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, env=env, cwd=home)
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if found := re.search(rb"Page: (http://\S+?)/#token=(\S+)", line):
                    yield found[1].decode(), found[2].decode()
                    break
            else:
                raise RuntimeError(f"it did not come up; see {home}/served.log")
        finally:
            server.kill()
            server.wait()
            server.stdout.close()


def run(seed: int, examples: int, phases: str) -> int:
    """Run it once; its exit code."""
    with (
        tempfile.TemporaryDirectory(prefix="queuectl-schemathesis-") as home,
        served(home) as (url, token),
    ):
        argv = [sys.executable, "-c", "from schemathesis.cli import schemathesis as st; st()"]
        argv += ["--config-file", f"{HERE}/schemathesis.toml", "run", f"{url}/openapi.json"]
        argv += ["-H", f"Authorization: Bearer {token}", "--seed", str(seed)]
        argv += ["--phases", phases, "-n", str(examples)]
        argv += ["--suppress-health-check", "too_slow"]  # of a busy machine that tells nothing
        env = {**os.environ, "PYTHONPATH": ROOT}
        env["SCHEMATHESIS_HOOKS"] = "tests.web.schemathesis_hooks"
        return subprocess.run(argv, env=env, cwd=home).returncode


def main(words: Sequence[str]) -> int:
    """Run it with each seed; 1 if it found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", default=[21, 22, 23])
    parser.add_argument("--examples", type=int, default=30, help="for each operation")
    parser.add_argument("--phases", default=PHASES)
    given = parser.parse_args(words)
    codes = [run(seed, given.examples, given.phases) for seed in given.seed]
    return int(any(codes))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
