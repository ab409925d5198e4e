"""What all measurements share: figures, queues of any size, whole processes, the bare minimum."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from queuectl.job_queue import JobQueue
from queuectl.model.job import Job
from queuectl.model.times import format_time, parse_time
from queuectl.worker import pool

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# The floor of a drain: nothing but starting the processes, in two processes at once.
_FLOOR = """
import os, subprocess, sys, time
begun = time.time()
for _ in range(int(sys.argv[1])):
    subprocess.Popen(
        ["/bin/sh", "-c", "true"], stdin=subprocess.DEVNULL, start_new_session=True
    ).wait()
print(begun, time.time(), sum(os.times()[:4]))
"""
_AT_ONCE = 25  # workers
# As pip writes it for a console command.
_SCRIPT = "import sys\nfrom queuectl.cli import entry\nsys.exit(entry())\n"


class Figure(NamedTuple):
    """One measured figure. `limit` is a least value if `more` is better, else a greatest."""

    what: str
    value: float
    unit: str
    limit: float | None = None
    more: bool = False
    note: str = ""

    @property
    def reached(self) -> bool | None:
        if self.limit is None:
            return None
        return self.value >= self.limit if self.more else self.value <= self.limit


class Sizes(NamedTuple):
    """How much is measured: `full()` as the targets want it, `small()` to see that it runs."""

    drain: int
    long_drain: int
    drain_rounds: int
    finished: int
    waiting: int
    bulk: int
    bulk_rounds: int
    starts: int
    latencies: int
    idle_seconds: float
    old_enough: float  # seconds
    lines: int  # typed into the shell
    crowd: int  # workers
    clients: int
    million: int  # jobs of a queue as long as one may become
    readers: int  # of the page's stream


def full() -> Sizes:
    return Sizes(
        2_000, 20_000, 7, 100_000, 50_000, 10_000, 7, 31, 100, 20.0, 2.1, 8, 200, 16, 1_000_000, 50
    )


def small() -> Sizes:
    return Sizes(20, 30, 1, 100, 50, 30, 1, 2, 3, 0.1, 0.0, 1, 3, 2, 100, 2)


@contextmanager
def new_queue() -> Iterator[JobQueue]:
    """An empty queue in a folder of its own; its workers are stopped at the end."""
    folder = tempfile.mkdtemp(prefix="queuectl-benchmark-")
    queue = JobQueue.open(os.path.join(folder, "queue"))
    try:
        queue.checkpoint()
        yield queue
    finally:
        pool.stop(queue, now=True)
        queue.close()
        shutil.rmtree(folder)


def add_finished(queue: JobQueue, count: int) -> None:
    """Put completed jobs into the queue as if they had run, and into its JSON files."""
    now = queue.now()
    form = Job("", "completed", 0, now, "true", 3, now, now, attempts=1, run=1, rev=2)
    form = form._replace(started_at=now, finished_at=now, exit_code=0, worker="w-benchmark")
    jobs = [form._replace(id=f"finished-{n}") for n in range(count)]
    queue.store.add(jobs, {})
    queue.checkpoint()


def add_waiting(queue: JobQueue, count: int) -> None:
    """Put pending jobs into the queue that are due in a year."""
    due = format_time(time.time() + 365 * 86_400)
    queue.enqueue([{"command": "true", "run_at": due}] * count)
    queue.checkpoint()


def age(queue: JobQueue, sizes: Sizes) -> None:
    """Wait until the JSON files are so old that their stat alone vouches for them."""
    path = os.path.join(queue.folder, "jobs.json")
    while time.time() - os.stat(path).st_mtime < sizes.old_enough:
        time.sleep(0.05)


class Speed(NamedTuple):
    """Jobs a second, and microseconds of processor time a job, its own process included."""

    rate: float
    cpu: float


def floor(count: int) -> Speed:
    """The speed of two bare Python processes that share `count` process starts."""
    each = max(1, count // 2)
    argv = [sys.executable, "-c", _FLOOR, str(each)]
    loops = [subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(2)]
    said = [[float(word) for word in loop.communicate()[0].split()] for loop in loops]
    taken = max(words[1] for words in said) - min(words[0] for words in said)
    return Speed(2 * each / taken, 1e6 * sum(words[2] for words in said) / (2 * each))


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and of those of its children that it has waited for."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except FileNotFoundError:  # macOS: the children do not show
        return 0.0
    return sum(int(word) for word in words[11:15]) / os.sysconf("SC_CLK_TCK")


def span(jobs: Sequence[Job]) -> float:
    """Seconds from the first start to the last end of the jobs."""
    begun = min(parse_time(str(job.started_at)) for job in jobs)
    ended = max(parse_time(str(job.finished_at)) for job in jobs)
    return ended - begun


def process_seconds(argv: Sequence[str], folder: str) -> float:
    """How long a whole process takes, from before its start until it has ended."""
    env = {**os.environ, "PYTHONPATH": ROOT, "QUEUECTL_DATA": folder}
    # What is installed is compiled; where this is set, each run would compile it anew.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    begun = time.perf_counter()
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    done = subprocess.run(argv, **streams, stderr=subprocess.PIPE, env=env)
    taken = time.perf_counter() - begun
    assert done.returncode == 0, (argv, done)
    return taken


def start_workers(folder: str, count: int) -> list[int]:
    """Start that many, few at a time, or none of them would be up in time."""
    pids: list[int] = []
    while len(pids) < count:
        pids += pool.start(folder, min(_AT_ONCE, count - len(pids)))
    return pids


@contextmanager
def console_script() -> Iterator[Callable[..., list[str]]]:
    """Makes argument lists that run queuectl as its installed console command does."""
    with tempfile.NamedTemporaryFile("w", prefix="queuectl-", suffix=".py") as script:
        script.write(_SCRIPT)
        script.flush()
        yield lambda *words: [sys.executable, script.name, *words]


def medians(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each measure; they take turns, so that a slow minute slows all of them."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for measure in measures.values():
        measure()  # fills the caches of files and compiled modules
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}
