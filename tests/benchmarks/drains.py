"""How fast two workers empty a queue of `true`, as a share of what starting processes costs.

A drain is measured from the first job's start to the last job's end. The time that starting the
workers took is told beside it.
"""

from __future__ import annotations

import time
from statistics import median
from typing import NamedTuple

from queuectl.job_queue import JobQueue
from queuectl.worker import pool
from tests.benchmarks.measure import (
    Figure,
    Sizes,
    Speed,
    add_finished,
    add_waiting,
    cpu_seconds,
    floor,
    new_queue,
    span,
)

WORKERS = 2


class Drain(NamedTuple):
    """How one drain went; `wall` counts from the call that starts the workers, in seconds."""

    speed: Speed
    wall: float


def drain(queue: JobQueue, count: int, workers: int = WORKERS, **fields: object) -> Drain:
    """Let fresh workers run `count` new jobs with these fields, and see that each ran once."""
    before = queue.counts()["completed"]  # first: other workers may run already
    ids = {job.id for job in queue.enqueue([{"command": "true", **fields}] * count)}
    begun = time.time()
    pids = pool.start(queue.folder, workers)
    deadline = time.monotonic() + 600
    while queue.counts()["completed"] < before + count:
        assert time.monotonic() < deadline, queue.counts()
        time.sleep(0.2)  # seldom: looking takes time from the workers
    ended = time.time()
    cpu = sum(map(cpu_seconds, pids))
    pool.stop(queue)
    jobs = [job for job in queue.find(("completed",)) if job.id in ids]
    assert len(jobs) == count
    assert all(job.run == job.attempts == 1 for job in jobs)
    return Drain(Speed(count / span(jobs), 1e6 * cpu / count), ended - begun)


def short_drain(sizes: Sizes) -> list[Figure]:
    """2,000 jobs, each round beside its floor."""
    return _beside_floor("drain", sizes.drain, sizes.drain_rounds)


def long_drain(sizes: Sizes) -> list[Figure]:
    """20,000 jobs: the rate must not fall with the length of the queue."""
    return _beside_floor("long drain", sizes.long_drain, max(1, sizes.drain_rounds // 2))


def _beside_floor(what: str, count: int, rounds: int) -> list[Figure]:
    ratios, floors, drains = [], [], []
    for _ in range(rounds):
        before = floor(min(count, 2_000))
        with new_queue() as queue:
            drains.append(drain(queue, count))
        after = floor(min(count, 2_000))
        ratios.append(2 * drains[-1].speed.rate / (before.rate + after.rate))
        floors += [before, after]
    rate = median(drained.speed.rate for drained in drains)
    wall = median(drained.wall for drained in drains)
    cpu = median(drained.speed.cpu for drained in drains)
    bare = median(speed.cpu for speed in floors)
    return [
        Figure(
            f"{what} of {count}, of floor",
            *(median(ratios), "", 0.85, True),
            note=f"{rate:.0f} jobs/s; {wall:.1f} s with starting the workers; "
            f"{min(ratios):.2f} to {max(ratios):.2f} in {rounds} rounds",
        ),
        # Less at the mercy of what else the machine does, but the workers' start is in it.
        Figure(f"{what} of {count}, processor time a job", cpu, "us", note=f"floor {bare:.0f} us"),
    ]


def crowded_drain(sizes: Sizes) -> list[Figure]:
    """The same drain in a queue that holds many finished and many later jobs."""
    ratios, rates = [], []
    with new_queue() as crowded:
        add_finished(crowded, sizes.finished)
        add_waiting(crowded, sizes.waiting)
        for _ in range(sizes.drain_rounds):
            with new_queue() as empty:
                alone = drain(empty, sizes.drain).speed.rate
            rates.append(drain(crowded, sizes.drain).speed.rate)
            ratios.append(rates[-1] / alone)
    note = f"{median(rates):.0f} jobs/s; {min(ratios):.2f} to {max(ratios):.2f}"
    return [
        Figure(
            f"drain beside {sizes.finished} finished and {sizes.waiting} later, of without",
            *(median(ratios), "", 0.9, True, note),
        )
    ]
