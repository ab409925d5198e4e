"""A claim while a limit, a pause, locks or other jobs hold very many back, beside a plain claim."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import pairwise

from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome
from tests.benchmarks.measure import Figure, Sizes, new_queue

_CLAIMS = 200  # at most, in one measurement
_GRAPH = 10_000  # jobs of a graph, at most


def gates(sizes: Sizes) -> list[Figure]:
    """The time of a claim that settles the run before, as a ratio to one among as many plain jobs.

    The jobs that are claimed come behind those that wait, by their priority.
    """
    count = sizes.finished
    plain = _claim(sizes, {}, {})
    held: dict[str, tuple[dict[str, object], dict[str, object]]] = {
        "a full limit": ({"tags": ["gpu"]}, {"limits": {"gpu": 1}}),
        "a paused tag": ({"tags": ["gpu"]}, {"paused": ["gpu"]}),
        "a held lock": ({"lock": ["db"]}, {}),
    }
    note = f"{1e6 * plain:.0f} microseconds among plain ones"
    return [
        Figure(
            f"a claim behind {name} with {count} waiting, of a plain one",
            *(_claim(sizes, fields, settings) / plain, "", 2, False, note),
        )
        for name, (fields, settings) in held.items()
    ] + _graphs(min(_GRAPH, sizes.finished))


def _graphs(count: int) -> list[Figure]:
    """The time of a claim in jobs that wait for each other, as a ratio to one among plain jobs."""
    ids = [f"j{n}" for n in range(count)]
    graphs: dict[str, dict[str, list[str]]] = {
        "plain jobs": {},
        "a chain": {child: [parent] for parent, child in pairwise(ids)},
        "a fan-in": {ids[0]: ids[1:]},
        "a fan-out": dict.fromkeys(ids[1:], ids[:1]),
    }
    took: dict[str, float] = {}
    for name, after in graphs.items():
        with new_queue() as queue:
            queue.enqueue(
                {"id": job_id, "command": "true", "after": after.get(job_id, [])} for job_id in ids
            )
            queue.checkpoint()
            took[name] = _timed(queue, count - 1)
    plain = took.pop("plain jobs")
    return [
        Figure(f"a claim in {name} of {count}, of a plain one", took[name] / plain, "", 2)
        for name in took
    ]


def _claim(sizes: Sizes, fields: Mapping[str, object], settings: Mapping[str, object]) -> float:
    """Seconds of a claim beside many jobs with these fields; they wait, unless there are none."""
    claims = min(_CLAIMS, sizes.finished)
    waiting = {"command": "true", "priority": -1, **fields}
    with new_queue() as queue:
        queue.change_settings(settings)
        queue.enqueue([waiting] * sizes.finished)
        queue.enqueue([{"command": "true"}] * (2 * claims))
        queue.checkpoint()
        if fields:
            queue.claim("w-holder")  # of a pause this is the first of the others
        return _timed(queue, claims)


def _timed(queue: JobQueue, claims: int) -> float:
    job = queue.claim("w-benchmark")
    begun = time.perf_counter()
    for _ in range(claims):
        assert job is not None
        job = queue.claim("w-benchmark", (job, Outcome("exited", 0, None, queue.now())))
    return (time.perf_counter() - begun) / claims
