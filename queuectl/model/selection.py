"""Which jobs a command means: one pure filter for every command, store and front end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from queuectl.model.job import FINISHED, Job, recurs


class Selection(NamedTuple):
    """The jobs that satisfy every part that is set; `Selection()` is every job.

    None: that part is not set. An empty set of ids or states is set and selects nothing, so that a
    list that turned out empty never means all. A command that changes jobs refuses `Selection()`
    unless the person said "all".
    """

    ids: frozenset[str] | None = None
    states: frozenset[str] | None = None
    tags: frozenset[str] = frozenset()  # a job must have all of them
    match: str | None = None  # in the id or the command; case does not matter
    error: str | None = None  # in the error; case does not matter
    exit_code: int | None = None
    since: str | None = None  # its last change is not before this: RFC 3339 text as a job holds it
    until: str | None = None  # nor after this
    limit: int | None = None  # at most this many, the first ones in the order asked for
    ended_by: str | None = None  # it has ended, and not after this: RFC 3339 text
    recurring: bool = False  # it is a schedule


def in_state(*states: str) -> Selection:
    """The selection of every job in one of the states."""
    return Selection(states=frozenset(states))


def matches(job: Job, selection: Selection) -> bool:
    """Whether the job is selected; the caller counts and applies `limit`."""
    ids, states, tags, match, error, exit_code, since, until, _, ended_by, recurring = selection
    return (
        (states is None or job.state in states)
        and (ids is None or job.id in ids)
        and (not tags or tags.issubset(job.tags))
        and (exit_code is None or job.exit_code == exit_code)
        and (since is None or job.updated_at >= since)
        and (until is None or job.updated_at <= until)
        and (not recurring or recurs(job))
        and (ended_by is None or has_ended_by(job, ended_by))
        and (match is None or _holds(match, job.id, job.command))
        and (error is None or _holds(error, job.error or ""))
    )


def has_ended_by(job: Job, moment: str) -> bool:
    """Whether the job has ended, at that moment or before."""
    return job.state in FINISHED and (job.finished_at or job.updated_at) <= moment


def selected(jobs: Iterable[Job], selection: Selection) -> Iterator[Job]:
    """The selected jobs, in their order, up to the limit."""
    return islice((job for job in jobs if matches(job, selection)), selection.limit)


def _holds(wanted: str, *texts: str) -> bool:
    wanted = wanted.lower()
    return any(wanted in text.lower() for text in texts)
