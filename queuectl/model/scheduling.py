"""Which job runs next: those that may be claimed at all, and in which order."""

from __future__ import annotations

from typing import NamedTuple

from queuectl.model.job import Job

CLAIMABLE = frozenset({"pending", "failed"})


class Claim(NamedTuple):
    """What a claim did: the job to run, if any.

    If the finished job was not `settled` because somebody changed it first, nothing was claimed
    either, and `stored` is its present form (None: it is no longer live).
    """

    job: Job | None
    settled: bool = True
    stored: Job | None = None


def is_ready(job: Job, now: str) -> bool:
    """Whether a worker may claim the job at the moment `now`."""
    return job.state in CLAIMABLE and job.run_at <= now


def claim_order(job: Job) -> tuple[int, str]:
    """Sorts jobs as they are claimed: priority (lower first), then due time.

    Jobs that tie run in the order in which they came in, which only the store knows.
    """
    return (job.priority, job.run_at)
