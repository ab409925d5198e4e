"""A queue in MongoDB beside bare loops and scripts of the driver, on a replica set of one node.

The server is the one of the tests (see tests/mongodb/conftest.py); where there is none, so is said.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome
from queuectl.model.times import format_time
from queuectl.store import opening
from queuectl.worker import pool
from tests.benchmarks.drains import drain
from tests.benchmarks.measure import (
    ROOT,
    Figure,
    Sizes,
    console_script,
    floor,
    medians,
    process_seconds,
)

_CLIENTS = 4
_PIECE = 10_000  # documents that are inserted at once
_SLICES = 10  # of a run; a machine that is slow for a minute then is so for both sides
# A worker's steps with the store, and the same with the driver alone, for `most` jobs at most. Each
# says when it began and ended, and which jobs it had.
_OURS = """
from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome
queue, done = JobQueue.open(sys.argv[1]), []
queue.prepare_claims()
ended = Outcome("exited", 0, None, queue.now())
wait_for_the_others()
job = queue.claim("w-" + sys.argv[2])
while job is not None:
    done.append(job.id)
    if len(done) == most:
        queue.settle(job, ended)
        break
    job = queue.claim("w-" + sys.argv[2], (job, ended))
"""
_BARE = """
from pymongo import MongoClient, ReturnDocument
client = MongoClient(sys.argv[3], w="majority", journal=True)
jobs, done = client.get_default_database().bare, []
now, order = "2030", [("priority", 1), ("run_at", 1), ("_seq", 1)]
jobs.find_one()
wait_for_the_others()
while len(done) < most:
    job = jobs.find_one_and_update(
        {"state": {"$in": ["pending", "failed"]}, "run_at": {"$lte": now}},
        {"$set": {"state": "in_progress", "worker": sys.argv[2]}, "$inc": {"rev": 1, "run": 1}},
        sort=order, hint="claim", return_document=ReturnDocument.AFTER,
    )
    if job is None:
        break
    done.append(job["_id"])
    jobs.update_one(
        {"_id": job["_id"], "rev": job["rev"]},
        {"$set": {"state": "completed", "finished_at": now, "exit_code": 0}, "$inc": {"rev": 1}},
    )
"""
_TIMED = """
import os, sys, time
def wait_for_the_others():
    global begun
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.time()
most = int(sys.argv[4])
{}
print(begun, time.time(), *done, flush=True)
os._exit(0)
"""
_BARE_ENQUEUE = """
import os, sys
from pymongo import MongoClient
client = MongoClient(sys.argv[1], w="majority", journal=True)
job = {"_id": os.urandom(8).hex(), "state": "pending", "command": "true"}
client.get_default_database().bare.insert_one(job)
os._exit(0)
"""
_BARE_STATUS = """
import os, sys
from pymongo import MongoClient
database = MongoClient(sys.argv[1]).get_default_database()
list(database.meta.find()), database.config.find_one(), list(database.workers.find())
live = {"$match": {"state": {"$in": ["pending", "in_progress", "failed", "dead"]}}}
steps = [live, {"$group": {"_id": "$state", "count": {"$sum": 1}}}]
list(database.jobs.aggregate(steps, hint="due"))
for state in ("completed", "cancelled"):
    database.command("count", "jobs", query={"state": state}, hint="due")
os._exit(0)
"""


@contextmanager
def server() -> Iterator[str]:
    """The URL of a new server, to which the name of a database is added."""
    from tests.mongodb import conftest  # needs the extra test-mongodb

    started = conftest._start("replica set")
    state = tempfile.mkdtemp(prefix="queuectl-benchmark-")
    kept = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = state
    try:
        yield started["url"]
    finally:
        os.environ.pop("XDG_STATE_HOME") if kept is None else os.environ.update(XDG_STATE_HOME=kept)
        os.kill(started["pid"], signal.SIGKILL)
        os.waitpid(started["pid"], 0)
        for path in (started["path"], state):
            shutil.rmtree(path, ignore_errors=True)


def new_queue(url: str, name: str) -> JobQueue:
    queue = JobQueue.open(opening.find(f"{url}{name}", os.environ))
    queue.make()
    return queue


def _documents(queue: JobQueue) -> object:
    return queue.store.connection.database.jobs  # type: ignore[attr-defined]


def missing() -> list[Figure] | None:
    from tests.mongodb import conftest

    if not conftest.MISSING:
        return None
    return [Figure(f"MongoDB was not tested: {conftest.MISSING}", 0, "")]


def at_once(
    url: str, folder: str, program: str = _OURS, count: int = _CLIENTS, most: int = sys.maxsize
) -> tuple[float, Counter[str]]:
    """Jobs a second of some clients at once, `most` each, and how often each job was claimed."""
    argv = [sys.executable, "-c", _TIMED.format(program), folder]
    how = {"env": {**os.environ, "PYTHONPATH": ROOT}, "text": True}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    clients = [
        subprocess.Popen([*argv, str(number), url, str(most)], **how, **pipes)  # type: ignore[call-overload]
        for number in range(count)
    ]
    for client in clients:
        assert client.stdout.readline() == "ready\n"
    for client in clients:  # all of them, before one is waited for
        client.stdin.write("go\n")
        client.stdin.flush()
    said = [client.communicate()[0].split() for client in clients]
    taken = Counter(job for words in said for job in words[2:])
    seconds = max(float(words[1]) for words in said) - min(float(words[0]) for words in said)
    return taken.total() / seconds, taken


def claims(sizes: Sizes) -> list[Figure]:
    """Claim and finish by four clients, and a single claim beside and behind very many jobs."""
    if said := missing():
        return said
    with server() as url:
        return [*_rates(url, sizes), *_behind(url, sizes)]


def crowds(sizes: Sizes) -> list[Figure]:
    """Claim and finish by more and more clients; there is no target."""
    if said := missing():
        return said
    figures, count = [], max(8, sizes.long_drain // 20)
    with server() as url:
        for clients in (1, 2, 4, 8, 16, 32, 64)[: max(1, sizes.readers // 7)]:
            queue = new_queue(url, f"crowd{clients}")
            queue.enqueue([{"command": "true"}] * count)
            rate = at_once(f"{url}crowd{clients}", queue.folder, count=clients)[0]
            figures.append(Figure(f"MongoDB: claim and finish by {clients} clients", rate, "/s"))
    return figures


def _rates(url: str, sizes: Sizes) -> list[Figure]:
    ratios, rates, twice, count = [], [], 0, sizes.long_drain
    rounds = min(3, sizes.drain_rounds)
    for number in range(rounds):
        queue, where = new_queue(url, f"rate{number}"), f"{url}rate{number}"
        queue.enqueue([{"command": "true"}] * count)
        jobs = _documents(queue)
        jobs.aggregate([{"$out": "bare"}])  # type: ignore[attr-defined]
        keys = [(key, 1) for key in ("state", "priority", "run_at", "_seq")]
        jobs.database.bare.create_index(keys, name="claim")  # type: ignore[attr-defined]
        taken: Counter[str] = Counter()
        seconds = {_OURS: 0.0, _BARE: 0.0}
        each = max(1, count // (_SLICES * _CLIENTS))
        while len(taken) < count:
            for program in seconds:
                rate, jobs_of_slice = at_once(where, queue.folder, program, most=each)
                seconds[program] += jobs_of_slice.total() / rate
                if program == _OURS:
                    taken += jobs_of_slice
        twice += taken.total() - count
        ratios.append(seconds[_BARE] / seconds[_OURS])
        rates.append(count / seconds[_OURS])
    note = (
        f"{median(rates):.0f} a second; {min(ratios):.2f} to {max(ratios):.2f} in {rounds} rounds"
    )
    what = f"MongoDB: claim and finish by {_CLIENTS} clients, of a bare loop"
    return [
        Figure(what, median(ratios), "", 0.8, True, note),
        Figure(f"MongoDB: claimed twice of {rounds * count} by {_CLIENTS} processes", twice, "", 0),
    ]


def _behind(url: str, sizes: Sizes) -> Iterator[Figure]:
    """A claim that settles the run before, of one in a queue of nothing but what it claims."""
    later = format_time(time.time() + 365 * 86_400)
    finished = {"state": "completed", "run": 1, "exit_code": 0}
    cases: dict[str, tuple[float, dict[str, object], list[tuple[int, dict[str, object]]]]] = {
        f"{sizes.finished} later and {sizes.million} finished jobs": (
            *(1.3, {}, [(sizes.finished, {"run_at": later}), (sizes.million, finished)]),
        ),
        f"a full limit with {sizes.finished} waiting": (
            3,
            {"limits": {"gpu": 1}},
            [(sizes.finished, {"tags": ["gpu"], "priority": -1})],
        ),
        f"a paused tag with {sizes.finished} waiting": (
            3,
            {"paused": ["gpu"]},
            [(sizes.finished, {"tags": ["gpu"], "priority": -1})],
        ),
        f"{sizes.finished} others with aging, 5 priorities": (
            3,
            {"aging": 3600},
            [(max(1, sizes.finished // 5), {"priority": number}) for number in range(5)],
        ),
    }
    rounds = max(2, min(200, sizes.finished // 5))
    empty = new_queue(url, "empty")
    empty.enqueue([{"command": "true"}] * (len(cases) * 3 * rounds + 9))
    for number, (name, (limit, settings, others)) in enumerate(cases.items()):
        queue = new_queue(url, f"behind{number}")
        if "tags" in others[0][1]:
            queue.enqueue([{"command": "true", "tags": ["gpu"], "priority": -2}])
            queue.change_settings(settings)
            queue.claim("w-holder")
        queue.enqueue([{"command": "true"}] * (3 * rounds))
        _fill(queue, others)
        queue.change_settings(settings)
        took = medians({"ours": _claim(queue), "plain": _claim(empty)}, rounds)
        note = f"{1000 * took['ours']:.1f} ms; plain {1000 * took['plain']:.1f} ms"
        ratio = took["ours"] / took["plain"]
        yield Figure(f"MongoDB: a claim behind {name}, of plain", ratio, "", limit, note=note)


def _fill(queue: JobQueue, others: list[tuple[int, dict[str, object]]]) -> None:
    """Put so many jobs like the newest one into the queue, but for some fields."""
    jobs: object = _documents(queue)
    form = jobs.find_one(sort=[("_seq", -1)])  # type: ignore[attr-defined]
    at = form["_seq"] + 1
    for count, fields in others:
        lane = {"_lane": "gpu"} if "tags" in fields else {}
        for first in range(0, count, _PIECE):
            jobs.insert_many(  # type: ignore[attr-defined]
                [
                    {**form, **fields, **lane, "_id": f"o{at + n}", "_seq": at + n}
                    for n in range(min(_PIECE, count - first))
                ],
                ordered=False,
            )
            at += _PIECE


def _claim(queue: JobQueue) -> Callable[[], float]:
    """Times one claim that settles the one before."""
    held = [queue.claim("w-benchmark")]

    def timed() -> float:
        job = held[0]
        assert job is not None
        ended = Outcome("exited", 0, None, queue.now())
        begun = time.perf_counter()
        held[0] = queue.claim("w-benchmark", (job, ended))
        return time.perf_counter() - begun

    return timed


def drains(sizes: Sizes) -> list[Figure]:
    """The drain of two workers, beside the floor; there is no target."""
    if said := missing():
        return said
    ratios, rates = [], []
    with server() as url:
        for number in range(max(1, sizes.drain_rounds // 2)):
            before = floor(min(sizes.drain, 2_000))
            queue = new_queue(url, f"drain{number}")
            try:
                rates.append(drain(queue, sizes.drain).speed.rate)
            finally:
                pool.stop(queue, now=True)
            ratios.append(rates[-1] / before.rate)
    note = f"{median(rates):.0f} jobs/s"
    return [Figure(f"MongoDB: drain of {sizes.drain}, of floor", median(ratios), "", note=note)]


def one_shots(sizes: Sizes) -> list[Figure]:
    """`enqueue` and `status` beside bare scripts that do the same, and at very many jobs."""
    if said := missing():
        return said
    with server() as url, console_script() as command:
        few, many = new_queue(url, "few"), new_queue(url, "many")
        for queue, count in ((few, 3), (many, sizes.million)):
            queue.enqueue([{"command": "true"}])
            _fill(queue, [(count, {"state": "completed", "run": 1})])

        def ours(queue: JobQueue, *words: str) -> Callable[[], float]:
            name = "few" if queue is few else "many"
            return lambda: process_seconds(command(*words), f"{url}{name}")

        def bare(program: str) -> Callable[[], float]:
            return lambda: process_seconds([sys.executable, "-c", program, f"{url}few"], "")

        took = medians(
            {
                "bare enqueue": bare(_BARE_ENQUEUE),
                "enqueue": ours(few, "enqueue", "{command: true}"),
                "bare status": bare(_BARE_STATUS),
                "status": ours(few, "status"),
                "status many": ours(many, "status"),
            },
            sizes.starts,
        )
    figures = [
        Figure(
            f"MongoDB: {word}, of a bare script",
            *(took[word] / took[f"bare {word}"], "", 1.4),
            note=f"{1000 * took[word]:.0f} ms, bare {1000 * took[f'bare {word}']:.0f}",
        )
        for word in ("enqueue", "status")
    ]
    above = took["status many"] - took["status"]
    what = f"MongoDB: status at {sizes.million} jobs, above few"
    return [*figures, Figure(what, above, "s", 0.3)]
