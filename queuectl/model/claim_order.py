"""Which job a worker claims next: those that may be claimed at all, and in which order."""

from __future__ import annotations

from collections.abc import Iterable

from queuectl.model.job import CLAIMABLE, Job
from queuectl.model.times import parse_time


def is_ready(job: Job, now: str) -> bool:
    """Whether a worker may claim the job at the moment `now`."""
    return job.state in CLAIMABLE and job.run_at <= now


def ahead_of(
    job: Job, waiting: Iterable[Job], now: str, aging: float = 0.0
) -> list[tuple[Job, int]]:
    """The jobs that are claimed before this one if no gate holds them. `waiting`: in queue order.

    One for each kind with the same rules, and how many jobs of that kind there are.
    """
    mine, met = claim_order(job, aging), False
    counts: dict[tuple[object, ...], int] = {}
    examples: dict[tuple[object, ...], Job] = {}
    for other in waiting:
        met = met or other.id == job.id
        order = claim_order(other, aging)
        if other.id != job.id and is_ready(other, now) and (order, met) < (mine, True):
            rules = (other.after, other.after_end, other.tags, other.lock)
            counts[rules] = counts.get(rules, 0) + 1
            examples.setdefault(rules, other)
    return [(other, counts[rules]) for rules, other in examples.items()]


def rank(priority: int, run_at: str, aging: float) -> int:
    """The first sort key of due jobs, lowest first: the priority, or with `aging` a moment.

    Each step of priority then counts as `aging` seconds by which a job was due later or earlier.
    All jobs wait at the same pace, so their order never changes while they wait. A job that has
    been due for longer than its steps are worth comes before every new one.
    """
    if not aging:
        return priority
    return round(parse_time(run_at) * 1_000_000) + priority * round(aging * 1_000_000)


def claim_order(job: Job, aging: float = 0.0) -> tuple[int, str]:
    """The sort key of a claim: rank (lower first), then due time.

    Jobs that tie run in the order in which they were enqueued, which only the store knows.
    """
    return (rank(job.priority, job.run_at, aging), job.run_at)
