"""Workers of a queue in MongoDB with nothing to do, and the work of others beside one that prints.

What a worker of another host does is done by one whose host folder is another.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from queuectl.job_queue import JobQueue
from queuectl.worker import pool
from tests.benchmarks.databases import at_once, missing, new_queue, server
from tests.benchmarks.drains import WORKERS, drain
from tests.benchmarks.measure import Figure, Sizes, start_workers
from tests.benchmarks.waits import _await_idle, _cpu_shares, _resident_megabytes, _until

_SETTLED = 2.5  # seconds: what a worker does at its start is not what it costs when idle
_OUTPUT = 100  # MB
_BARE = """
import sys, time
from pymongo import MongoClient
client = MongoClient(sys.argv[1], w="majority", journal=True)
client.get_default_database().jobs.find_one()
print(flush=True)
time.sleep(600)
"""


@contextmanager
def _working(queue: JobQueue, count: int) -> Iterator[list[int]]:
    """So many workers, by pid, until the end."""
    try:
        yield start_workers(queue.folder, count)
    finally:
        pool.stop(queue, now=True)


def hosts(sizes: Sizes) -> list[Figure]:
    """How soon an idle worker starts a job of another host, what it costs, and what many do."""
    if said := missing():
        return said
    with server() as url:
        return [*_waking(url, sizes), *_idle(url, sizes), _crowd(url, sizes), _loud(url, sizes)]


def _elsewhere(url: str, name: str) -> JobQueue:
    """A queue as another host sees it."""
    state = os.environ["XDG_STATE_HOME"]
    os.environ["XDG_STATE_HOME"] = f"{state}/other"
    try:
        return new_queue(url, name)
    finally:
        os.environ["XDG_STATE_HOME"] = state


def _waking(url: str, sizes: Sizes) -> Iterator[Figure]:
    """From the answer of an enqueue to the first word of the job, which a pipe waits for."""
    queue = new_queue(url, "waking")
    other = _elsewhere(url, "waking")
    assert other.folder != queue.folder
    with tempfile.TemporaryDirectory() as folder, _working(queue, WORKERS):
        pipe = os.path.join(folder, "started")
        os.mkfifo(pipe)
        reading = os.open(pipe, os.O_RDWR)
        took = []
        for _ in range(sizes.latencies):
            _await_idle(queue)
            other.enqueue([{"command": f"echo >{pipe}"}])
            begun = time.perf_counter()
            os.read(reading, 1)
            took.append(1000 * (time.perf_counter() - begun))
        os.close(reading)
    note = f"{sizes.latencies} jobs, the slowest {max(took):.1f} ms"
    what = "MongoDB: an enqueue elsewhere to the start, median"
    yield Figure(what, median(took), "ms", 10, note=note)


def _idle(url: str, sizes: Sizes) -> Iterator[Figure]:
    """A worker that waits, beside a process that has a client and nothing else."""
    queue = new_queue(url, "idle")
    argv = [sys.executable, "-c", _BARE, f"{url}idle"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as bare, _working(queue, WORKERS) as pids:
        assert bare.stdout is not None
        bare.stdout.readline()
        queue.enqueue([{"command": "sleep 0.1"}] * WORKERS)  # what is loaded at a first job
        _await_idle(queue)
        time.sleep(min(_SETTLED, sizes.idle_seconds))
        share = max(_cpu_shares(pids, sizes.idle_seconds))
        floor = _resident_megabytes(bare.pid)
        above = max(map(_resident_megabytes, pids)) - floor
        bare.kill()
    yield Figure("MongoDB: idle worker: CPU", 100 * share, "%", 0.3)
    note = f"which takes {floor:.0f} MB"
    yield Figure("MongoDB: idle worker, above a bare client", above, "MB", 10, note=note)


def _crowd(url: str, sizes: Sizes) -> Figure:
    """A drain that a limit keeps to as many as work it off alone, beside a crowd that would too."""
    rates: dict[int, list[float]] = {0: [], sizes.readers: []}
    for number in range(max(1, sizes.drain_rounds // 3)):
        for idle, found in rates.items():
            queue = new_queue(url, f"crowd{number}of{idle}")
            queue.limit("few", WORKERS)
            with _working(queue, idle):
                found.append(drain(queue, sizes.drain, tags=["few"]).speed.rate)
    ratio = median(rates[sizes.readers]) / median(rates[0])
    note = f"{median(rates[0]):.0f} jobs/s alone"
    what = f"MongoDB: drain beside {sizes.readers} idle workers, of without"
    return Figure(what, ratio, "", 0.66, True, note)


def _loud(url: str, sizes: Sizes) -> Figure:
    """Claims by clients while a job prints very much, of those while it prints into nothing."""
    count, size = max(8, sizes.long_drain // 30), min(_OUTPUT, max(1, sizes.finished // 1000))
    loud = f"head -c {size}000000 /dev/zero | tr '\\0' x"
    rates: dict[str, list[float]] = {"": [], " >/dev/null": []}
    for number in range(sizes.drain_rounds):
        for where, found in rates.items():
            name = f"loud{number}{len(where)}"
            found.append(_rate_beside(url, name, f"{loud}{where}; sleep 600", count))
    quiet = median(rates[" >/dev/null"])
    what = f"MongoDB: claims beside {size} MB of output, of without"
    return Figure(what, median(rates[""]) / quiet, "", 0.9, True, f"{quiet:.0f} a second without")


def _rate_beside(url: str, name: str, command: str, count: int) -> float:
    queue = new_queue(url, name)
    queue.enqueue([{"command": command}])
    with _working(queue, 1):
        _until(lambda: queue.counts()["in_progress"] == 1)
        queue.enqueue([{"command": "true"}] * count)
        return at_once(f"{url}{name}", queue.folder)[0]
