"""The campaigns in a short form and in a long one, which runs on request."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.campaigns.kill_storm import ROOT
from tests.campaigns.yard import MARK, processes_of

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="leftovers are looked for in /proc"),
    pytest.mark.skipif(shutil.which("flock") is None, reason="jobs lock their record by flock(1)"),
]


def form(line, limit, said, seed=None, *, long=False):
    """A campaign with its options, the seconds that it may take, and what it says at its end."""
    marks = [pytest.mark.timeout(limit + 20), *[pytest.mark.campaign] * long]
    return pytest.param(seed, line, limit, said, marks=marks, id=line)


FORMS = [
    form("kill_storm --seconds 4", 300, "kill-worker", seed="1"),
    form("kill_storm --seconds 6", 300, "kill-worker"),
    form("kill_storm --seconds 5 --older", 300, "accepted"),
    form("readers --seconds 3", 90, " reads, "),
    form("contention --seconds 2 --processes 4", 90, "longest"),
    form("contention --seconds 2 --processes 4 --remove-lock", 90, "was removed"),
    form("leftovers --jobs 24", 180, "0 processes left"),
    form("edit_storm --edits 15", 180, " edits, "),
    form("kill_storm --seconds 1800", 2400, "kill-worker", long=True),
    form("kill_storm --seconds 300 --older", 900, "accepted", long=True),
    form("readers --seconds 60", 200, " reads, ", long=True),
    form("contention --seconds 60", 200, "longest", long=True),
    form("contention --seconds 60 --remove-lock", 200, "was removed", long=True),
    form("leftovers --jobs 1000", 3000, "0 processes left", long=True),
    form("edit_storm --edits 200", 800, " edits, ", long=True),
]


@pytest.mark.parametrize(("seed", "line", "limit", "said"), FORMS, indirect=["seed"])
def test_a_campaign_finds_nothing(tmp_path, seed, line, limit, said):
    """In a process of its own, for it forks; what it leaves when it is cut off is ended."""
    name, *options = line.split()
    root = str(tmp_path / "storm")
    if name == "kill_storm":
        options += ["--keep", root]
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"tests.campaigns.{name}", "--seed", seed, *options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
            check=False,
        )
    finally:
        for pid in processes_of({MARK: root}):
            os.kill(pid, signal.SIGKILL)
    told = done.stdout.decode()
    print(told)
    assert done.returncode == 0, told
    assert said in told
