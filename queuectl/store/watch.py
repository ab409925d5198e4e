"""The part of every store that menus, `top`, notices and the page read all the time.

Nothing imports this at run time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

from queuectl.model.job import Job
from queuectl.store.facts import Summary, WorkerInfo

Change: TypeAlias = tuple[str, Job | None]  # id and present form of a job; None: it was removed


class Glance(Protocol):
    """The queue at (nearly) one moment; `close` it when done."""

    def newest(self, states: Collection[str] | None, start: str, most: int) -> list[Job]:
        """At most `most` jobs in these states (None: any), newest first. `start`: of their ids."""

    def next_claimed(self, now: str, most: int) -> list[Job]:
        """At most `most` waiting jobs: those that are claimed first from `now` on."""

    def latest(self, key: str, most: int) -> tuple[list[Job], bool]:
        """At most `most` jobs with the latest time in field `key`, and whether these are all."""

    def holding(self, states: Collection[str] | None, text: str) -> Iterator[Job]:
        """The jobs in these states (None: any) with the text in any case; may include others.

        The text is plain ASCII without quotes and backslashes.
        """

    def present(self, ids: Collection[str]) -> dict[str, Job]:
        """Those of the jobs that exist, by id."""

    def close(self) -> None:
        """Let go of it; may be called twice."""


class Seen(Protocol):
    """What a menu shows of a job: of a long command only the beginning."""

    @property
    def id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def command(self) -> str: ...
    @property
    def updated_at(self) -> str: ...
    @property
    def started_at(self) -> str | None: ...


class Peek(Protocol):
    """The newest jobs as a menu shows them, read as fast as possible; `close` it when done."""

    def newest(self, states: Collection[str] | None, start: str, most: int) -> Sequence[Seen]:
        """As in Glance."""

    def tags(self) -> list[str]:
        """The tags of the newest jobs with tags, each once."""

    def close(self) -> None:
        """Let go of it; may be called twice."""


class Watch(Protocol):
    """An observer that reads the queue several times a second: for menus, `top` and the page.

    Only `jobs` may wait. If something cannot be read at the moment it raises a QueuectlError; a
    later call may succeed. One object is for one thread.
    """

    def mark(self) -> tuple[object, ...]:
        """A value that differs from an earlier one if jobs, settings or the workers changed."""

    def menu_mark(self) -> tuple[object, ...]:
        """A cheaper mark for a menu: it may change more often than necessary."""

    def summary(self) -> Summary:
        """What `status` shows of the queue."""

    def workers(self) -> list[WorkerInfo]:
        """At least the workers of this host, living or lost."""

    def settings(self) -> Mapping[str, object]:
        """The settings that differ from the defaults."""

    def changes(self, ids: Collection[str] | None = None) -> list[Change] | None:
        """What changed since the last call, oldest first; `ids`: of these jobs only.

        None if that is not known, as at the first call: then all must be read anew. What is read
        after a call is never older than what the next call reports.
        """

    def jobs(self) -> Iterator[Job]:
        """All jobs, as the store's `find` gives them."""

    def glance(self) -> Glance:
        """The queue as it is now."""

    def peek(self) -> Peek:
        """The queue as a menu reads it."""

    def close(self) -> None:
        """Release everything; may be called twice."""
