"""The part of every store that is looked at all the time, by menus, `top`, notices and the page.

Nothing imports this as it runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

from queuectl.model.job import Job
from queuectl.store.facts import Summary, WorkerInfo

Change: TypeAlias = tuple[str, Job | None]  # id and form of a job; None: it was removed


class Glance(Protocol):
    """The queue at one moment, or nearly so; `close` it when done."""

    def newest(self, states: Collection[str] | None, start: str, most: int) -> list[Job]:
        """At most so many jobs in these states (None: any) whose ids begin so, newest first."""

    def next_claimed(self, now: str, most: int) -> list[Job]:
        """At most so many of the jobs that wait: those that are claimed first from `now` on."""

    def latest(self, key: str, most: int) -> tuple[list[Job], bool]:
        """At most so many jobs, those with the latest time `key`; whether these are all."""

    def holding(self, states: Collection[str] | None, text: str) -> Iterator[Job]:
        """The jobs in these states (None: any) that hold the text, in whatever case, and others.

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
    """The newest jobs as a menu shows them, read as fast as can be; `close` it when done."""

    def newest(self, states: Collection[str] | None, start: str, most: int) -> Sequence[Seen]:
        """As in Glance."""

    def tags(self) -> list[str]:
        """The tags of the newest jobs that have some, each once."""

    def close(self) -> None:
        """Let go of it; may be called twice."""


class Watch(Protocol):
    """A look over the queue's shoulder, several times a second: by menus, `top`, the page.

    Nothing is waited for, but by `jobs`. What cannot be read at the moment raises a QueuectlError,
    and a later look will tell. One object is for one thread.
    """

    def mark(self) -> tuple[object, ...]:
        """Differs from an earlier one whenever jobs, settings or the list of workers changed."""

    def menu_mark(self) -> tuple[object, ...]:
        """A cheaper mark, for a menu: it may change more often than need be."""

    def summary(self) -> Summary:
        """What `status` shows of the queue."""

    def workers(self) -> list[WorkerInfo]:
        """The workers of this host at least, living or lost."""

    def settings(self) -> Mapping[str, object]:
        """The settings that were changed."""

    def changes(self, ids: Collection[str] | None = None) -> list[Change] | None:
        """What changed since this was asked last, oldest first; `ids`: of these jobs alone.

        None if that is not known, as the first time: then all must be read anew. What is read after
        this was asked is never older than what it will tell.
        """

    def jobs(self) -> Iterator[Job]:
        """All jobs, as `find` gives them."""

    def glance(self) -> Glance:
        """The queue as it is now."""

    def peek(self) -> Peek:
        """The queue as a menu reads it."""

    def close(self) -> None:
        """Let go of everything held; may be called twice."""
