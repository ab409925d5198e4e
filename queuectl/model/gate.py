"""The gate: what keeps a job waiting though it is due. A pause, a limit of a tag, or a lock.

What a limit has left is counted from the jobs that run, never kept in a counter: a counter leaks
when its holder is killed. The stores keep these rules in ways that are fast; the functions here
are the rules themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from queuectl.model.job import Job

ALL = "*"  # in the setting `paused`: the whole queue; no tag can be named so


class Gate(NamedTuple):
    """What the settings say of what may start: whether all is paused, and which tags are."""

    all_paused: bool = False
    paused: frozenset[str] = frozenset()


OPEN = Gate()


def gate_of(paused: Iterable[str]) -> Gate:
    """The gate of the setting's value."""
    names = frozenset(paused)
    return Gate(ALL in names, names - {ALL})


def shut_by(job: Job, gate: Gate) -> str | None:
    """The pause that keeps a waiting job from starting: a tag, or ALL; None if there is none."""
    if gate.all_paused:
        return ALL
    return next((tag for tag in job.tags if tag in gate.paused), None)
