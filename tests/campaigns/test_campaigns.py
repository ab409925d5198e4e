"""The campaigns in a short form, with one seed that stays and one that is new each time."""

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


def run(name: str, seed: str, *options: str, limit: float) -> str:
    """What a campaign prints, which must find nothing; in a process of its own, for it forks."""
    argv = [sys.executable, "-m", f"tests.campaigns.{name}", "--seed", seed, *options]
    done = subprocess.run(
        argv,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit,
        check=False,
    )
    said = done.stdout.decode()
    print(said)
    assert done.returncode == 0, said
    return said


def storm(tmp_path, seed: str, seconds: int, *options: str) -> str:
    root = str(tmp_path / "storm")
    options = (f"--seconds={seconds}", "--keep", root, *options)
    try:
        return run("kill_storm", seed, *options, limit=seconds + 300)
    finally:
        for pid in processes_of({MARK: root}):  # if it was cut off
            os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(320)
@pytest.mark.parametrize(
    ("seed", "seconds"), [("1", 4), (None, 6)], indirect=["seed"], ids=["1", "fresh"]
)
def test_nothing_is_lost_or_doubled_in_a_short_storm(tmp_path, seed, seconds):
    said = storm(tmp_path, seed, seconds)
    assert "accepted" in said
    assert "kill-worker" in said


@pytest.mark.timeout(320)
def test_nothing_is_lost_or_doubled_beside_an_older_version(tmp_path, seed):
    assert "accepted" in storm(tmp_path, seed, 5, "--older")


@pytest.mark.timeout(120)
def test_readers_miss_nothing_for_a_moment(seed):
    assert " reads, " in run("readers", seed, "--seconds=3", limit=90)


@pytest.mark.timeout(120)
def test_few_contend_for_a_moment(seed):
    options = ("--seconds=2", "--processes=4")
    assert "longest" in run("contention", seed, *options, limit=90)


@pytest.mark.timeout(120)
def test_few_contend_while_somebody_removes_the_lock(seed):
    options = ("--seconds=2", "--processes=4", "--remove-lock")
    assert "was removed" in run("contention", seed, *options, limit=90)


@pytest.mark.timeout(200)
def test_few_runs_hide_nothing(seed):
    assert "0 processes left" in run("leftovers", seed, "--jobs=24", limit=180)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_runs_hide_nothing(seed):
    run("leftovers", seed, "--jobs=1000", limit=3000)


@pytest.mark.timeout(200)
def test_a_few_slow_edits_lose_nothing(seed):
    assert " edits, " in run("edit_storm", seed, "--edits=15", limit=180)


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_slow_edits_lose_nothing(seed):
    run("edit_storm", seed, "--edits=200", limit=800)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_nothing_is_lost_or_doubled_in_half_an_hour(tmp_path, seed):
    storm(tmp_path, seed, 1800)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_nothing_is_lost_or_doubled_beside_an_older_version_for_minutes(tmp_path, seed):
    storm(tmp_path, seed, 300, "--older")


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_readers_miss_nothing(seed):
    run("readers", seed, "--seconds=60", limit=200)


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_nobody_starves_and_no_update_is_lost(seed):
    run("contention", seed, "--seconds=60", limit=200)


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_no_update_is_lost_while_somebody_removes_the_lock(seed):
    run("contention", seed, "--seconds=60", "--remove-lock", limit=200)
