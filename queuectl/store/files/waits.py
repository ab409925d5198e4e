"""Which waiting jobs wait for which others.

A job whose parents have not all ended as required is in no heap of LiveIndex. Each end counts down
the missing parents of its children, and puts a child that lacks none into its heap. Known here are
all children, even those beyond the windows, and the states of their parents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from queuectl.model.dependencies import is_met

Wants: TypeAlias = dict[bytes, bool]  # by parent: whether it must be completed or only have ended

GONE = b""  # instead of a state: no such job, or not looked up yet


class Waits:
    """The children of each named parent, and the number of parents that each child lacks.

    `held` keeps the caller's data for each child that lacks a parent.
    """

    def __init__(self) -> None:
        self.kids: dict[bytes, Wants] = {}  # by parent: each child and what it requires
        self.states: dict[bytes, bytes] = {}  # of these parents
        self.unresolved: set[bytes] = set()  # those that must be looked up
        self.lacks: dict[bytes, int] = {}
        self.held: dict[bytes, Any] = {}
        self._wants: dict[bytes, Wants] = {}  # by child

    def add(self, child: bytes, wants: Wants) -> list[bytes]:
        """Take in an unknown child; returns those of its parents that were unknown."""
        self._wants[child], new, lacks = wants, [], 0
        for parent, strict in wants.items():
            kids = self.kids.get(parent)
            if kids is None:
                kids = self.kids[parent] = {}
                self.states[parent] = GONE
                self.unresolved.add(parent)
                new.append(parent)
            kids[child] = strict
            lacks += not is_met(self.states[parent].decode(), strict=strict)
        self.lacks[child] = lacks
        return new

    def drop(self, child: bytes) -> None:
        """Forget a child that does not wait any more or has a newer line."""
        self.held.pop(child, None)
        self.lacks.pop(child, None)
        for parent in self._wants.pop(child, ()):
            kids = self.kids[parent]
            del kids[child]
            if not kids:
                del self.kids[parent], self.states[parent]
                self.unresolved.discard(parent)

    def note(self, job_id: bytes, state: bytes) -> Iterator[tuple[bytes, bool]]:
        """Take in the state of a job; yields each child that now may start or no longer may.

        GONE stands for a job that does not exist.
        """
        kids = self.kids.get(job_id)
        if kids is None:
            return
        self.unresolved.discard(job_id)
        before, self.states[job_id] = _met_by(self.states[job_id]), state
        now = _met_by(state)
        if before == now:
            return
        for child, strict in kids.items():
            if now[strict] is not before[strict]:
                self.lacks[child] += -1 if now[strict] else 1
                if self.lacks[child] == (0 if now[strict] else 1):
                    yield child, now[strict]


def _met_by(state: bytes) -> tuple[bool, bool]:
    """Whether a parent in this state lets a child start: as one of `after_end`, of `after`."""
    name = state.decode()
    return is_met(name, strict=False), is_met(name, strict=True)
