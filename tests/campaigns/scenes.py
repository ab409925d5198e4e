"""The folders that campaigns start from, and what holds of any queue.

All is the same each time: time stands still at NOW, and dice and ids are given.
"""

from __future__ import annotations

import glob
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.model.lifecycle import Outcome
from queuectl.model.selection import in_state
from queuectl.model.times import format_time
from queuectl.store.files.journal import Header, Stamp
from tests.failing_disk import failing_disk

NOW = time.time()
FILES = ("jobs.json", "dlq.json")


def open_queue(path: str) -> JobQueue:
    """The queue in the folder, its clock standing still at NOW."""
    queue = JobQueue.open(path)
    queue.store.now = queue.store._writer._now = lambda: NOW  # type: ignore[method-assign]
    queue._dice = lambda: 0.0
    return queue


def let_go(queue: JobQueue) -> None:
    """Close the queue's files, and fold nothing."""
    queue.store._writer.close()


class View(NamedTuple):
    """A queue as whoever looks sees it."""

    jobs: dict[str, Job]
    settings: Mapping[str, object]


def view(queue: JobQueue) -> View:
    """The queue as it is; AssertionError if it does not keep its own promises."""
    jobs = list(queue.find())
    assert len({job.id for job in jobs}) == len(jobs), f"twice: {[job.id for job in jobs]}"
    problems = queue.store.check()
    assert problems == [], problems
    counts = queue.counts()
    for state, count in counts.items():
        found = sum(job.state == state for job in jobs)
        assert found == count, f"{found} jobs are {state}, counted are {count}"
    return View({job.id: job for job in jobs}, queue.settings().to_dict())


def in_files(path: str) -> dict[str, str]:
    """Which JSON file holds each job; AssertionError if one occurs twice."""
    where: dict[str, str] = {}
    for name in FILES:
        with open(os.path.join(path, name), "rb") as file:
            for form in json.load(file):
                assert form["id"] not in where, f"{form['id']} occurs twice"
                assert (form["state"] == "dead") is (name == "dlq.json"), form
                where[form["id"]] = name
    return where


def leftovers(path: str) -> list[str]:
    """Temporary files that nobody took away."""
    names = os.listdir(path)
    if os.path.isdir(os.path.join(path, "workers")):
        names += [f"workers/{name}" for name in os.listdir(os.path.join(path, "workers"))]
    return sorted(name for name in names if name.endswith(".new") or name.startswith("workers/."))


def copy(template: str, path: str) -> None:
    """Copy a folder so that its journal knows the copies as it knew the originals."""
    shutil.copytree(template, path, ignore=shutil.ignore_patterns("*.wake"))
    for pipe in glob.glob("workers/*.wake", root_dir=template):
        os.mkfifo(os.path.join(path, pipe), 0o600)
    journal = os.path.join(path, "journal")
    if not os.path.exists(journal):
        return
    with open(journal, "rb") as file:
        data = file.read()
    header = Header.parse(data, journal)
    stamps = []
    for name, stamp in zip(FILES, header.stamps, strict=True):
        before, found = (os.stat(os.path.join(top, name)) for top in (template, path))
        stamps.append(Stamp.of(found, stamp.crc) if stamp.fits(before) else stamp)
    rest = data[header.length :]
    header.stamps = (stamps[0], stamps[1])
    with open(journal, "wb") as file:
        file.write(header.format() + rest)


# -- where it starts

DRAFTS: list[dict[str, object]] = [
    {"id": "p1", "command": "echo 1", "priority": 2},
    {"id": "p2", "command": "echo ä", "env": {"A": "1"}},
    {"id": "asked", "command": "sleep 9"},
    {"id": "stranded", "command": "sleep 9"},
    {"id": "runs", "command": "echo r"},
    {"id": "last", "command": "false", "max_retries": 0},
    {"id": "waits", "command": "false"},
    {"id": "done", "command": "true"},
    {"id": "off", "command": "true"},
    {"id": "d1", "command": "false", "max_retries": 0},
    {"id": "d2", "command": "false", "max_retries": 0},
]


def outcome(code: int = 0) -> Outcome:
    return Outcome("exited", code, None if code == 0 else f"exit code {code}", format_time(NOW))


def _claim(queue: JobQueue, worker: str, job_id: str) -> Job:
    """Let the worker have this very job."""
    job = queue.get(job_id)
    first = min(other.priority for other in queue.find()) - 1
    queue.update(job_id, {"priority": first})
    claimed = queue.claim(worker)
    assert claimed is not None
    assert claimed.id == job.id
    return claimed


def fill(queue: JobQueue, fold: bool = True) -> None:
    """Put jobs of every state in, and a worker that died with a job in its hands."""
    queue.enqueue(DRAFTS)
    queue.change_settings({"base": 3})
    for job_id, code in (("waits", 1), ("done", 0), ("d1", 1), ("d2", 1)):
        queue.settle(_claim(queue, "w-gone", job_id), outcome(code))
    queue.cancel(["off"])
    for job_id in ("asked", "runs", "last"):
        _claim(queue, "w-here", job_id)
    slot = queue.store.register("w-lost", 1, "-", "-")
    _claim(queue, "w-lost", "stranded")
    slot.close()
    queue.cancel(["asked"])
    if fold:
        queue.checkpoint()


def _touch_all(queue: JobQueue) -> None:
    """Leave records of each kind in the journal."""
    queue.enqueue([{"id": "late", "command": "x"}, {"id": "later", "command": "y"}])
    queue.update("p1", {"command": "echo one", "priority": 7})
    queue.retry_dead(["d1"])
    queue.purge(in_state("completed"))
    queue.settle(_claim(queue, "w-gone", "later"), outcome(4))
    queue.enqueue([{"id": "done", "command": "again"}])


def _nothing(path: str) -> None: ...


def _empty(path: str) -> None:
    queue = open_queue(path)
    queue.change_settings({"base": 3})
    let_go(queue)


def _small(path: str) -> None:
    queue = open_queue(path)
    fill(queue)
    let_go(queue)


def _unfolded(path: str) -> None:
    queue = open_queue(path)
    fill(queue, fold=False)
    let_go(queue)


def _busy(path: str) -> None:
    queue = open_queue(path)
    fill(queue)
    _touch_all(queue)
    let_go(queue)


def _torn(path: str) -> None:
    _busy(path)
    queue = open_queue(path)
    with failing_disk(1, "die half-way"):
        queue.enqueue([{"id": "torn", "command": "x" * 300}])
    let_go(queue)


def _edited(path: str) -> None:
    _busy(path)
    edit(path)


def edit(path: str) -> None:
    """Change jobs.json as a person would: one job anew, one more, one less."""
    name = os.path.join(path, "jobs.json")
    with open(name, "rb") as file:
        forms = [form for form in json.load(file) if form["id"] != "off"]
    for form in forms:
        if form["id"] == "p2":
            form |= {"priority": 9, "note": {"mine": 1}}
    forms.append({"id": "hand", "command": "echo by hand"})
    with open(name, "w", encoding="utf-8") as file:
        json.dump(forms, file, indent=1)


def _folding(at: int) -> Callable[[str], None]:
    def make(path: str) -> None:
        _busy(path)
        queue = open_queue(path)
        with failing_disk(at, "die after"):
            queue.checkpoint()
        let_go(queue)

    return make


STARTS: dict[str, Callable[[str], None]] = {
    "nothing": _nothing,
    "empty": _empty,
    "small": _small,
    "unfolded": _unfolded,
    "busy": _busy,
    "torn": _torn,
    "edited": _edited,
    **{f"folding-{at}": _folding(at) for at in range(1, 16)},
}
FULL = [name for name in STARTS if name not in ("nothing", "empty")]  # those that hold fill()'s


def crowd(seed: str) -> Callable[[str], None]:
    """A start as chance has it: fill()'s jobs, others, and changes, folded now and then."""

    def make(path: str) -> None:
        chance = random.Random(seed)
        queue = open_queue(path)
        fill(queue, fold=chance.random() < 0.5)
        for number in range(chance.randint(5, 60)):
            _change_at_random(queue, chance, f"c{number}")
        let_go(queue)

    return make


def _change_at_random(queue: JobQueue, chance: random.Random, job_id: str) -> None:
    queue.enqueue([{"id": job_id, "command": "x" * chance.choice((1, 20, 900)), "max_retries": 0}])
    roll = chance.random()
    if roll < 0.3:
        queue.cancel([job_id])
    elif roll < 0.6:
        queue.settle(_claim(queue, "w-gone", job_id), outcome(chance.randint(0, 1)))
    elif roll < 0.7:
        queue.checkpoint()
    elif roll < 0.8:
        queue.purge(in_state("cancelled"))
