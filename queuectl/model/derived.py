"""Values computed from a job's times and the present moment: shown like fields, never stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from queuectl.errors import InvalidInput, did_you_mean
from queuectl.model.fields import BY_SPELLING, FIELDS
from queuectl.model.job import CLAIMABLE, Job, recurs
from queuectl.model.times import parse_time

_RUN_ENDS = ("fail", "later", "release")  # events of the history that tell of the end of a run


class Derived(NamedTuple):
    """A value that `of` computes from a job and now (epoch seconds); None if it has none."""

    name: str
    meaning: str
    of: Callable[[Job, float], float | str | None]
    is_duration: bool = True  # in seconds


def age(job: Job, now: float) -> float | None:
    """Seconds since the job was enqueued."""
    return _between(job.created_at, now)


def wait_time(job: Job, now: float) -> float | None:
    """Seconds from when the job was due to its latest start, or to now if it still waits."""
    if job.state in CLAIMABLE:
        return _between(job.run_at, now)
    return _between(job.run_at, moment(job.started_at))


def run_time(job: Job, now: float) -> float | None:
    """Seconds that its latest run took, or has taken by now."""
    end = now if job.state == "in_progress" else moment(run_ended(job))
    start = moment(job.started_at)
    return None if start is None or end is None or end < start else round(end - start, 6)


def run_ended(job: Job) -> str | None:
    """When its latest run ended; a job cancelled while it waited ended later than that."""
    if job.state == "cancelled":
        for entry in reversed(job.history):
            if entry.get("event") in _RUN_ENDS and entry.get("run") == job.run:
                return str(entry.get("at"))
            if entry.get("event") == "retry" and entry.get("was") == "completed":
                return None  # the history has no entry for the end of a run that succeeded
    return job.finished_at


def next_retry(job: Job, now: float) -> str | None:
    """When a failed job runs again."""
    return job.run_at if job.state == "failed" else None


def next_run(job: Job, now: float) -> str | None:
    """When a copy of a schedule runs next."""
    return job.run_at if recurs(job) and job.state in CLAIMABLE else None


DERIVED: tuple[Derived, ...] = (
    Derived("age", "seconds since it was enqueued", age),
    Derived("wait_time", "seconds from when it was due to its latest start, or to now", wait_time),
    Derived("run_time", "seconds that its latest run took, or has taken", run_time),
    Derived("next_retry", "when it runs again after a failure", next_retry, is_duration=False),
    Derived("next_run", "when a copy of a schedule runs next", next_run, is_duration=False),
)
SHOWN: tuple[str, ...] = (*(field.name for field in FIELDS), *(d.name for d in DERIVED))


def find_shown(name: str) -> str:
    """The name of a field to show, stored or derived, spelled with - or _.

    Raises InvalidInput for an unknown field.
    """
    usual = name.strip().replace("-", "_")
    if usual in SHOWN:
        return usual
    if usual in BY_SPELLING:
        return BY_SPELLING[usual].name
    near = did_you_mean(usual, SHOWN)
    raise InvalidInput(f"unknown field '{name}'{near}; fields are {', '.join(SHOWN)}")


def _between(start: str, end: float | None) -> float | None:
    begun = moment(start)
    return None if begun is None or end is None else max(0.0, round(end - begun, 6))


def moment(text: str | None) -> float | None:
    """A time of a job in epoch seconds; None if it has none, or none that can be read."""
    try:
        return parse_time(text) if text else None
    except InvalidInput:
        return None  # a person wrote it by hand
