"""A claim while a limit, a pause or locks hold very many jobs back, beside a plain claim."""

from __future__ import annotations

import time
from collections.abc import Mapping

from queuectl.job_queue import JobQueue
from queuectl.model.lifecycle import Outcome
from tests.benchmarks.measure import Figure, Sizes, new_queue

_CLAIMS = 200  # at most, in one measurement


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
