"""How fast two workers empty a queue of `true`, as a share of what starting processes costs.

A drain is measured from the first job's start to the last job's end. The time that starting the
workers took is told beside it.
"""

from __future__ import annotations

import statistics
import time

from queuectl.job_queue import JobQueue
from queuectl.worker import pool
from tests.benchmarks.measure import (
    Figure,
    Sizes,
    add_finished,
    add_waiting,
    floor_rate,
    new_queue,
    span,
)

WORKERS = 2


def drain(queue: JobQueue, count: int) -> tuple[float, float]:
    """Jobs a second, and seconds from the call that starts the workers to the last job's end."""
    ids = {job.id for job in queue.enqueue([{"command": "true"}] * count)}
    before = queue.counts()["completed"]
    begun = time.time()
    pool.start(queue.folder, WORKERS)
    deadline = time.monotonic() + 600
    while queue.counts()["completed"] < before + count:
        assert time.monotonic() < deadline, queue.counts()
        time.sleep(0.05)
    ended = time.time()
    pool.stop(queue)
    jobs = [job for job in queue.find(("completed",)) if job.id in ids]
    assert len(jobs) == count
    assert all(job.run == job.attempts == 1 for job in jobs)
    return count / span(jobs), ended - begun


def short_drain(sizes: Sizes) -> list[Figure]:
    """2,000 jobs, each round beside its floor."""
    return _beside_floor("drain", sizes.drain, sizes.drain_rounds)


def long_drain(sizes: Sizes) -> list[Figure]:
    """20,000 jobs: the rate must not fall with the length of the queue."""
    return _beside_floor("long drain", sizes.long_drain, max(1, sizes.drain_rounds // 2))


def _beside_floor(what: str, count: int, rounds: int) -> list[Figure]:
    ratios, rates, walls = [], [], []
    for _ in range(rounds):
        before = floor_rate(min(count, 2_000))
        with new_queue() as queue:
            rate, wall = drain(queue, count)
        after = floor_rate(min(count, 2_000))
        ratios.append(2 * rate / (before + after))
        rates.append(rate)
        walls.append(wall)
    rate = statistics.median(rates)
    note = f"{rate:.0f} jobs/s; {statistics.median(walls):.1f} s with starting the workers; "
    note += f"ratios {min(ratios):.2f} to {max(ratios):.2f} in {rounds} rounds"
    return [Figure(f"{what} of {count}, of floor", statistics.median(ratios), "", 0.85, True, note)]


def crowded_drain(sizes: Sizes) -> list[Figure]:
    """The same drain in a queue that holds many finished and many later jobs."""
    ratios, rates = [], []
    with new_queue() as crowded:
        add_finished(crowded, sizes.finished)
        add_waiting(crowded, sizes.waiting)
        for _ in range(sizes.drain_rounds):
            with new_queue() as empty:
                alone = drain(empty, sizes.drain)[0]
            rate = drain(crowded, sizes.drain)[0]
            ratios.append(rate / alone)
            rates.append(rate)
    note = f"{statistics.median(rates):.0f} jobs/s; ratios {min(ratios):.2f} to {max(ratios):.2f}"
    return [
        Figure(
            f"drain beside {sizes.finished} finished and {sizes.waiting} later, of without",
            *(statistics.median(ratios), "", 0.9, True, note),
        )
    ]
