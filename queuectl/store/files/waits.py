"""Which waiting jobs wait for which others.

A job whose parents have not all ended as it asks lies in no heap of LiveIndex: an end counts down
what its children lack, and puts a child that lacks nothing into its heap. All children are known
here, also those whose lines lie behind the windows, and the states of the parents that they name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from queuectl.model.dependencies import is_met

Wants: TypeAlias = dict[bytes, bool]  # by parent: whether it must be completed, or just have ended

GONE = b""  # in place of a state: there is no such job, or it was not looked up yet


class Waits:
    """The children of each parent that a waiting job names, and how many parents each child lacks.

    `held` keeps what its owner gave for each child that lacks one.
    """

    def __init__(self) -> None:
        self.kids: dict[bytes, Wants] = {}  # by parent, each child and what it asks of the parent
        self.states: dict[bytes, bytes] = {}  # of these parents
        self.unresolved: set[bytes] = set()  # those of them that must be looked up
        self.lacks: dict[bytes, int] = {}
        self.held: dict[bytes, Any] = {}
        self._wants: dict[bytes, Wants] = {}  # by child

    def add(self, child: bytes, wants: Wants) -> list[bytes]:
        """Take in a child that is not known; the parents among those it names that were not."""
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
        """Forget a child: it does not wait any more, or another line of it counts."""
        self.held.pop(child, None)
        self.lacks.pop(child, None)
        for parent in self._wants.pop(child, ()):
            kids = self.kids[parent]
            del kids[child]
            if not kids:
                del self.kids[parent], self.states[parent]
                self.unresolved.discard(parent)

    def note(self, job_id: bytes, state: bytes) -> Iterator[tuple[bytes, bool]]:
        """Take in the state of a job; each child that may start now, or may not any more.

        GONE of one that is not there.
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
    """Whether a parent in this state lets a child start: one of `after_end`, and one of `after`."""
    name = state.decode()
    return is_met(name, strict=False), is_met(name, strict=True)
