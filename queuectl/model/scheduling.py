"""Which job runs next: those that may be claimed at all, and in which order."""

from __future__ import annotations

from queuectl.model.job import Job

CLAIMABLE = frozenset({"pending", "failed"})


def is_ready(job: Job, now: str) -> bool:
    """Whether a worker may claim the job at the moment `now`."""
    return job.state in CLAIMABLE and job.run_at <= now


def claim_order(job: Job) -> tuple[int, str]:
    """Sorts jobs as they are claimed: priority (lower first), then due time.

    Jobs that tie run in the order in which they came in, which only the store knows.
    """
    return (job.priority, job.run_at)
