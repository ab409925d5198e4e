"""The gate: what keeps a due job waiting. A pause, the limit of a tag, or a lock.

All three ask one question: is each token of the job free? A token is a tag that is paused or
limited, or a lock. What is left of a limit is counted from the running jobs, never kept in a
counter: a counter leaks when its holder is killed. The functions here are the rules themselves. The
stores apply them in faster ways (store/files/lanes.py, store/mongodb/lanes.py and claims.py), so a
changed rule must change there too; the contract suite compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from queuectl.model.job import Job

ALL = "*"  # in the setting `paused`: the whole queue; no tag can have this name
LOCK = "lock/"  # prefix of a lock's token; no tag begins like this


class Gate(NamedTuple):
    """What the settings say about starting jobs: whether all is paused, paused tags, limits.

    `aging` affects the order: see claim_order.rank.
    """

    all_paused: bool = False
    paused: frozenset[str] = frozenset()
    limits: Mapping[str, int] = {}
    aging: float = 0.0


OPEN = Gate()


def gate_of(
    paused: Iterable[str], limits: Mapping[str, int] | None = None, aging: float | None = None
) -> Gate:
    """The gate that these settings make."""
    names = frozenset(paused)
    return Gate(ALL in names, names - {ALL}, dict(limits or {}), aging or 0.0)


def tokens(job: Job, gate: Gate) -> list[str]:
    """What the job needs in order to start: its limited tags and its locks."""
    limited = [tag for tag in job.tags if tag in gate.limits]
    return sorted(limited + [LOCK + name for name in job.lock])


def held(job: Job, gate: Gate) -> set[str]:
    """The tokens that a running job keeps from others.

    Those that it was claimed with, even if its tags changed since, and its limited tags.
    """
    given = {slot.partition("#")[0] for slot in job.slots}
    return given | {tag for tag in job.tags if tag in gate.limits}


def holders(running: Iterable[Job], gate: Gate) -> dict[str, list[Job]]:
    """The running jobs that hold each token."""
    found: dict[str, list[Job]] = {}
    for job in running:
        for token in held(job, gate):
            found.setdefault(token, []).append(job)
    return found


def usage(running: Iterable[Job], limits: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Each tag with a limit, the limit, and how many running jobs count against it."""
    using = holders(running, gate_of((), limits))
    return [(tag, most, len(using.get(tag, ()))) for tag, most in limits.items()]


def paused_by(job: Job, gate: Gate) -> str | None:
    """The pause that keeps a waiting job from starting: a tag, or ALL; None if there is none."""
    if gate.all_paused:
        return ALL
    return next((tag for tag in job.tags if tag in gate.paused), None)


def not_paused(tag: str, paused: Iterable[str]) -> str:
    """The message that a tag, or ALL, is not paused, which pauses there are and how to end them."""
    told = ["the queue is not paused" if tag == ALL else f"tag '{tag}' is not paused"]
    names = [name for name in paused if name != ALL]
    if ALL in paused:
        told.append("the whole queue is: 'queuectl resume' lets it go on")
    if names:
        verb = "the tag is" if len(names) == 1 else f"{len(names)} tags are"
        told.append(f"{verb}: 'queuectl resume {' '.join(names)}' lets such jobs start")
    return "; ".join(told)


def full(job: Job, gate: Gate, using: Mapping[str, list[Job]]) -> str | None:
    """The first of the job's tokens that is used up by running jobs, if any is."""
    for token in tokens(job, gate):
        if len(using.get(token, ())) >= gate.limits.get(token, 1):
            return token
    return None


def shut_by(job: Job, gate: Gate, using: Mapping[str, list[Job]]) -> list[tuple[str, str]]:
    """What keeps a due job from starting: each as (word for programs, words for people)."""
    found = []
    if (pause := paused_by(job, gate)) is not None:
        found.append(
            ("paused", "the queue is paused" if pause == ALL else f"tag {pause} is paused")
        )
    if (token := full(job, gate, using)) is not None:
        if token.startswith(LOCK):
            ids = ", ".join(other.id for other in using[token])
            found.append(("locked", f"lock {token.removeprefix(LOCK)} is held by {ids}"))
        else:
            found.append(("limit", f"waits for limit {token}"))
    return found


def slots_for(job: Job, gate: Gate, using: Mapping[str, list[Job]]) -> tuple[str, ...]:
    """What the job gets at its start: the lowest free number of each limited tag, and its locks."""
    given = []
    for token in tokens(job, gate):
        if token.startswith(LOCK):
            given.append(token)
            continue
        taken = {slot for other in using.get(token, ()) for slot in other.slots}
        number = 0
        while f"{token}#{number}" in taken:
            number += 1
        given.append(f"{token}#{number}")
    return tuple(given)


def variable(tag: str) -> str:
    """The environment variable with a running job's number in a limited tag."""
    return "QUEUECTL_SLOT_" + "".join(c if c.isalnum() else "_" for c in tag).upper()
