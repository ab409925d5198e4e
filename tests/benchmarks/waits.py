"""Workers with nothing to do: how soon they start a new job, and what they cost meanwhile."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable

from queuectl.job_queue import JobQueue
from queuectl.store.opening import summary
from queuectl.worker import pool
from tests.benchmarks.measure import (
    Figure,
    Sizes,
    add_finished,
    age,
    console_script,
    new_queue,
    process_seconds,
)

WORKERS = 2
_SETTLED = 2.5  # seconds: what a worker does at its start is not what it costs when idle


def latency(sizes: Sizes) -> list[Figure]:
    """From the end of the enqueue command to the start of the job, 2 workers being idle.

    The job writes to a pipe that is being read: no clock but ours, no program but its shell.
    """
    with new_queue() as queue, console_script() as command:
        pipe = os.path.join(os.path.dirname(queue.folder), "started")
        os.mkfifo(pipe)
        reading = os.open(pipe, os.O_RDWR)
        enqueue = command("enqueue", "--command", f"echo >{pipe}")
        pool.start(queue.folder, WORKERS)
        took = []
        for _ in range(sizes.latencies):
            _await_idle(queue)
            process_seconds(enqueue, queue.folder)
            begun = time.perf_counter()
            os.read(reading, 1)
            took.append(1000 * (time.perf_counter() - begun))
        os.close(reading)
    took.sort()
    note = f"{sizes.latencies} jobs, the slowest {took[-1]:.1f} ms"
    return [
        Figure("end of enqueue to start, median", statistics.median(took), "ms", 10, note=note),
        Figure("the same, 95 %", took[int(0.95 * (len(took) - 1))], "ms", 25),
    ]


def freed_slot(sizes: Sizes) -> list[Figure]:
    """From the last word of a job that holds a slot to the start of the next job that wants it.

    The worker that ran it takes another job, which comes first, so that an idle one is to be woken.
    """
    with new_queue() as queue:
        pipe = os.path.join(os.path.dirname(queue.folder), "started")
        os.mkfifo(pipe)
        reading = os.open(pipe, os.O_RDWR)
        queue.limit("slot", 1)
        pool.start(queue.folder, WORKERS)
        first = {"command": f"sleep 0.1; echo >{pipe}", "tags": ["slot"], "lock": ["other"]}
        other = {"command": "sleep 0.1", "lock": ["other"], "priority": -1}
        second = {"command": f"echo >{pipe}", "tags": ["slot"]}
        took = []
        for _ in range(sizes.latencies):
            _await_idle(queue)
            queue.enqueue([first])
            _until(lambda: queue.counts()["in_progress"] == 1)
            queue.enqueue([other, second])
            os.read(reading, 1)
            begun = time.perf_counter()
            os.read(reading, 1)
            took.append(1000 * (time.perf_counter() - begun))
        os.close(reading)
    took.sort()
    note = f"{sizes.latencies} jobs, the slowest {took[-1]:.1f} ms"
    what = "a freed slot to the start of its next job, median"
    return [Figure(what, statistics.median(took), "ms", 10, note=note)]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _await_idle(queue: JobQueue) -> None:
    """Wait until the last job has ended and its worker has gone back to waiting."""
    _until(lambda: queue.is_drained() and not any(worker.job_id for worker in queue.workers()))
    time.sleep(0.05)


def idle(sizes: Sizes) -> list[Figure]:
    """CPU and memory of an idle worker, in an empty queue and beside many finished jobs."""
    figures = []
    for finished in (0, sizes.finished):
        with new_queue() as queue:
            if finished:
                add_finished(queue, finished)
                age(queue, sizes)
            pids = pool.start(queue.folder, WORKERS)
            # A job each, so that whatever a worker loads at its first job is loaded.
            queue.enqueue([{"command": "sleep 0.1"}] * WORKERS)
            _await_idle(queue)
            _until(lambda: not summary(queue.folder, time.time()).waiting)  # nothing left to fold
            time.sleep(min(_SETTLED, sizes.idle_seconds))
            share = max(_cpu_shares(pids, sizes.idle_seconds))
            memory = max(_resident_megabytes(pid) for pid in pids)
        name = f"idle worker beside {finished} finished jobs"
        figures.append(Figure(f"{name}: CPU", 100 * share, "%", 0.2))
        figures.append(Figure(f"{name}: resident", memory, "MB", 25))
    return figures


def _cpu_shares(pids: list[int], seconds: float) -> list[float]:
    before = [cpu_seconds([pid]) for pid in pids]
    begun = time.monotonic()
    time.sleep(seconds)
    taken = time.monotonic() - begun
    return [(cpu_seconds([pid]) - was) / taken for pid, was in zip(pids, before, strict=True)]


def cpu_seconds(pids: list[int]) -> float:
    """Seconds that these processes were on a processor."""
    return sum(map(_cpu_seconds, pids))


def _cpu_seconds(pid: int) -> float:
    """Seconds on a processor: from Linux, which counts nanoseconds, or else from ps."""
    try:
        with open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9
    except FileNotFoundError:
        minutes, _, seconds = _ps(pid, "time").rpartition(":")
        return 60 * int(minutes.rpartition(":")[2]) + float(seconds)


def _resident_megabytes(pid: int) -> float:
    return int(_ps(pid, "rss")) / 1024


def _ps(pid: int, column: str) -> str:
    argv = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
