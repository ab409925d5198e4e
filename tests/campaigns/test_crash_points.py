"""Crash points and refusals in a short form, and deaths in the middle of taking in an edit."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator

import pytest

from queuectl.store import door
from tests.campaigns import crash_points, full_disks, scenes
from tests.campaigns.crash_points import scratch
from tests.campaigns.deeds import DEEDS
from tests.campaigns.scenes import open_queue
from tests.failing_disk import failing_disk

# From Python 3.12 on: what other tests left running in threads does not matter to these children.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@pytest.fixture
def root(monkeypatch) -> Iterator[str]:
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # no death here is a power cut
    path = scratch()
    yield path
    shutil.rmtree(path)


def test_nothing_is_lost_wherever_a_process_dies(root, seed):
    """Some calls of every deed where most is going on, then points by chance."""
    campaign, deadline = crash_points.Campaign(root, seed), time.monotonic() + 2.0
    for deed in DEEDS:
        for at in range(1, 40, 8):
            how = campaign.chance.choice(crash_points.DEATHS)
            if not campaign.try_point(crash_points.Point("busy", deed, how, at)):
                break
    assert campaign.faults == []
    while time.monotonic() < deadline and not campaign.faults:
        campaign.try_by_chance(crowds=2)
    assert campaign.faults == []
    assert campaign.points > 30


def test_a_change_that_the_disk_refuses_is_not_made(root, seed):
    campaign = full_disks.run(150, seed, root)
    assert campaign.faults == []
    assert campaign.tried.total() >= 100


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_nothing_is_lost_at_ten_thousand_crash_points(root, seed):
    campaign = crash_points.run(10_000, seed, root)
    assert campaign.faults == []
    assert campaign.points >= 10_000


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_no_change_that_the_disk_refuses_is_made(root, seed):
    assert full_disks.run(10**6, seed, root).faults == []


# -- an edit that moves jobs between the files, cut short


def swap_by_hand(path: str) -> set[str]:
    """Cancel p1 by hand, and raise d2 where it stands; the ids that stay."""
    for name, job_id, state in (("jobs.json", "p1", "cancelled"), ("dlq.json", "d2", "pending")):
        with open(os.path.join(path, name), encoding="utf-8") as file:
            forms = json.load(file)
        for form in forms:
            if form["id"] == job_id:
                form["state"] = state
        with open(os.path.join(path, name), "w", encoding="utf-8") as file:
            json.dump([form for form in forms if form["id"] != "off"], file)
    return {str(draft["id"]) for draft in scenes.DRAFTS} - {"off"}


@pytest.mark.parametrize("how", crash_points.DEATHS)
def test_an_edit_is_taken_in_wholly_wherever_that_is_cut_short(root, how):
    template = os.path.join(root, "template")
    scenes.STARTS["small"](template)
    at, died = 0, True
    while died:
        at += 1
        path = os.path.join(root, f"queue{at}")
        scenes.copy(template, path)
        follower = open_queue(path)
        assert follower.claim("w-here").id == "p2"  # it knows all live jobs from now on
        follower.checkpoint()
        ids = swap_by_hand(path)
        queue = open_queue(path)
        with failing_disk(at, how) as disk:
            queue.checkpoint()
            queue.enqueue([{"id": "n1", "command": "x"}])
        died = disk.broken
        jobs = scenes.view(open_queue(path)).jobs
        assert set(jobs) - {"n1"} == ids
        assert (jobs["p1"].state, jobs["d2"].state) == ("cancelled", "pending")
        follower.store._writer.files.looked_at = 0.0  # else it may look for edits a moment later
        assert follower.claim("w-here").id == "d2"
        follower.checkpoint()
        where = scenes.in_files(path)
        assert set(where) - {"n1"} == ids
        assert (where["p1"], where["d2"]) == ("jobs.json", "jobs.json")
        assert scenes.view(follower).jobs["d2"].state == "in_progress"
    assert at > 15


def test_an_edit_that_comes_while_another_is_taken_in_is_taken_in_too(root, monkeypatch):
    path = os.path.join(root, "queue")
    scenes.STARTS["small"](path)
    queue, sync, left = open_queue(path), door.sync, [True]
    ids = swap_by_hand(path)

    def late(fd: int) -> None:
        # The first edit stands in the journal already.
        if left:
            left.clear()
            edit_command(path, "p1", "once more")
        sync(fd)

    monkeypatch.setattr(door, "sync", late)
    queue.checkpoint()
    queue.enqueue([{"id": "n1", "command": "x"}])
    assert not left
    jobs = scenes.view(queue).jobs
    assert set(jobs) == {*ids, "n1"}
    assert (jobs["p1"].state, jobs["p1"].command) == ("cancelled", "once more")
    assert jobs["d2"].state == "pending"
    assert not any("came first" in notice for notice in queue.notices)


def edit_command(path: str, job_id: str, command: str) -> None:
    """Change a job's command by hand, in whichever file it stands."""
    for name in ("jobs.json", "dlq.json"):
        with open(os.path.join(path, name), encoding="utf-8") as file:
            forms = json.load(file)
        for form in forms:
            if form["id"] == job_id:
                form["command"] = command
                with open(os.path.join(path, name), "w", encoding="utf-8") as file:
                    json.dump(forms, file)
