"""What jobs died of. Errors that differ only in numbers, paths and times are one cause."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from queuectl.model.job import Job

_SAMPLES = 3
_LONGEST = 1000  # characters of an error that tell causes apart
# The longest likeness first: a time is not a path, nor a path a number.
_CHANGING = re.compile(
    r"""
      "[^"\n]*" | `[^`\n]*` | (?<!\w)'[^'\n]*'(?!\w)               # quoted text
    | \d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?   # a day, a time
    | \b\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?\b                       # a time of day
    | (?:\b[A-Za-z]:\\|(?<![\w.*/])(?:~|\.{1,2})?/)[^\s'"`:;,()]+      # a path
    | \b0[xX][0-9A-Fa-f]+\b
    | \b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b      # a UUID
    | \b(?=[0-9A-Fa-f]*\d)[0-9A-Fa-f]{7,}\b                         # hex
    | \d+(?:[.,]\d+)*
    """,
    re.VERBOSE,
)


class Cause(NamedTuple):
    """Jobs that ended alike, from the first end to the latest.

    `example` is the id of the job that ended last, `samples` are the ids of the last jobs given.
    """

    exit_code: int | None
    error: str
    jobs: int
    latest: str
    example: str
    first: str
    samples: tuple[str, ...]


def cause_of(job: Job) -> tuple[int | None, str]:
    """What jobs that ended alike share: the exit code, and the error as `folded` returns it."""
    return job.exit_code, folded(job.error or "")


def named(exit_code: int | None, error: str) -> str:
    """The result of `cause_of` as text for people."""
    if exit_code is not None and error.startswith("exit code *"):
        return error.replace("*", str(exit_code), 1)
    return error or "unknown"


def folded(error: str) -> str:
    """The text with `*` for numbers, hex, paths, quoted text and times, and single blanks."""
    return " ".join(_CHANGING.sub("*", error[:_LONGEST]).split())


def by_cause(jobs: Iterable[Job]) -> list[Cause]:
    """The causes, the most frequent first; the latest first among equally frequent ones."""
    found: dict[tuple[int | None, str], Cause] = {}
    for job in jobs:
        key, ended = cause_of(job), job.finished_at or job.updated_at
        known = found.get(key)
        if known is None:
            found[key] = Cause(*key, 1, ended, job.id, ended, (job.id,))
            continue
        samples = (*known.samples, job.id)[-_SAMPLES:]
        last = (ended, job.id) if ended >= known.latest else (known.latest, known.example)
        found[key] = Cause(*key, known.jobs + 1, *last, min(known.first, ended), samples)
    latest_first = sorted(found.values(), key=lambda cause: cause.latest, reverse=True)
    return sorted(latest_first, key=lambda cause: -cause.jobs)
