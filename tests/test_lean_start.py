"""What a command loads: the list is exact, so it cannot be as flaky as a time would be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Each costs from 1 to 90 ms of every start.
HEAVY = {
    "argparse",
    "asyncio",
    "email",
    "filelock",
    "importlib.metadata",
    "inspect",
    "logging",
    "multiprocessing",
    "pathlib",
    "prompt_toolkit",
    "random",
    "secrets",
    "shlex",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "unicodedata",
    "urllib.parse",
    "wcwidth",
}
MIDDLING = {
    "collections",
    "contextlib",
    "dataclasses",
    "datetime",
    "difflib",
    "enum",
    "functools",
    "json",
    "re",
    "string",
    "textwrap",
    "threading",
    "types",
    "typing",
}


def loaded(*argv):
    """The modules that `queuectl ARGV...` loads over what the interpreter has at its start."""
    program = (
        "import sys; before = set(sys.modules); from queuectl.cli import main; "
        f"code = main({argv!r}); sys.stdout.flush(); "
        "print(*sorted(set(sys.modules) - before), file=sys.stderr); sys.exit(code)"
    )
    # -S: without the site's own start-up files, which may load anything.
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, os.environ["PYTHONPATH"]])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stderr.split())


@pytest.fixture
def small_queue(cli):
    """A queue of one job that nobody has written to by hand."""
    cli.ok("enqueue", "--id", "a", "--", "true")
    return cli


@pytest.mark.parametrize("argv", [("status",), ("version",)])
def test_the_leanest_commands(small_queue, argv):
    assert loaded(*argv) & {*HEAVY, *MIDDLING, "queuectl.worker"} == set()


# A module costs a start a third of a millisecond, an empty one too. So what is added here must be
# worth that to every start; what only some starts need is imported where they need it.
@pytest.mark.parametrize(
    ("argv", "most"),
    [
        (("version",), 13),
        (("status",), 23),
        (("status", "--json"), 27),
        (("enqueue", "--command", "true"), 44),
        (("enqueue", '{"command": "true"}'), 45),
        (("list",), 56),
    ],
)
def test_a_start_loads_not_one_more_of_our_modules(small_queue, argv, most):
    ours = {module for module in loaded(*argv) if module.split(".")[0] == "queuectl"}
    assert len(ours) <= most, sorted(ours)


def test_json_costs_json_only(small_queue):
    assert loaded("status", "--json") & HEAVY == set()


@pytest.mark.parametrize(
    "argv",
    [
        ("list",),
        ("list", "--json"),
        ("show", "a"),
        ("dlq", "list"),
        ("config", "get"),
        ("ping",),
        ("worker", "list"),
        ("help",),
        ("help", "list"),
        ("logs", "a"),
        ("explain", "a"),
        ("completion", "bash"),
    ],
)
def test_reading_commands(small_queue, argv):
    assert loaded(*argv) & HEAVY == set()


def test_enqueue_loads_no_front_end(small_queue):
    needless = {"prompt_toolkit", "argparse", "asyncio", "queuectl.store.contract"}
    needless.add("queuectl.store.files.live_index")  # which claims need
    if sys.version_info < (3, 11):
        needless.remove("asyncio")  # which filelock loads, in the last version for Python 3.10
    assert loaded("enqueue", "--", "true") & needless == set()
