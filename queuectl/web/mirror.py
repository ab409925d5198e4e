"""The newest jobs and the latest changes, in memory for all readers of the page.

One thread follows the queue while anybody listens; requests for lists catch up themselves, so that
what a request changed is in the next answer. Even of a huge queue only a few thousand jobs are
kept: lists that reach further down read the queue.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import attrgetter
from typing import Any

from queuectl.model.job import Job
from queuectl.store.watch import Watch
from queuectl.web.exchange import to_json
from queuectl.web.operations import Operations

_MOST = 1000  # jobs kept at least for each order, if there are so many
_RING = 5000  # changes by which a reader may be behind
_FEW = 4  # pieces of the stream kept for readers at the same position
_LONGEST = 1000  # characters shown of a command or an error in a list
Key = Callable[[Job], tuple[object, ...]]

# Sort orders by name: the key, and whether the greatest comes first. Ids make all keys distinct.
ORDERS: dict[str, tuple[Key, bool]] = {
    "-updated_at": (lambda job: (job.updated_at, job.id), True),
    "-created_at": (lambda job: (job.created_at, job.id), True),
    "updated_at": (lambda job: (job.updated_at, job.id), False),
    "created_at": (lambda job: (job.created_at, job.id), False),
    "id": (lambda job: (job.id,), False),
    "-id": (lambda job: (job.id,), True),
    "priority": (lambda job: (job.priority, job.run_at, job.id), False),
    "-priority": (lambda job: (job.priority, job.run_at, job.id), True),
    "run_at": (lambda job: (job.run_at, job.id), False),
}
KEPT = ("-updated_at", "-created_at")
# The fields of a job in a list, in this order; unset ones are left out.
LIGHT = (
    *("id", "state", "command", "priority", "attempts", "max_retries", "run", "rev", "created_at"),
    *("updated_at", "run_at", "started_at", "finished_at", "exit_code", "error", "worker"),
    *("cancel_requested", "tags", "every", "cron"),
)
_values: Callable[[Job], tuple[Any, ...]] = attrgetter(*LIGHT)


def light(job: Job) -> dict[str, Any]:
    """What a list shows of a job; `cut` names texts that are shortened."""
    form: dict[str, Any] = {
        name: value
        for name, value in zip(LIGHT, _values(job), strict=True)
        if value is not None and value is not False and value != ()
    }
    if job.state != "in_progress":
        form.pop("worker", None)
    long = [name for name in ("command", "error") if len(form.get(name) or "") > _LONGEST]
    for name in long:
        form[name] = form[name][:_LONGEST]
    if long:
        form["cut"] = long
    return form


def slim(job: Job) -> Job:
    """The job without long fields that lists neither show nor sort by."""
    if job.env is None and not job.history and job.extra is None:
        return job
    return job._replace(env=None, history=(), extra=None)


class Window:
    """The jobs with the greatest keys: all with a key not below `floor` (None: all jobs)."""

    def __init__(self, key: Key, most: int = _MOST) -> None:
        self._key, self._most = key, most
        self.floor: tuple[object, ...] | None = None
        self._jobs: dict[str, Job] = {}
        self._order: list[Job] | None = None

    def fill(self, jobs: list[Job], whole: bool) -> None:
        """Take the jobs with the greatest keys, the greatest first; `whole`: these are all."""
        self._jobs = {job.id: slim(job) for job in jobs}
        self.floor = None if whole else self._key(jobs[-1])

    def take(self, job_id: str, job: Job | None) -> None:
        """Take in the present form of a job; None: it was removed."""
        self._order = None
        self._jobs.pop(job_id, None)
        if job is None or (self.floor is not None and self._key(job) < self.floor):
            return
        self._jobs[job_id] = job
        if len(self._jobs) >= 2 * self._most:
            kept = self.newest()[: self._most]
            self.floor = self._key(kept[-1])
            self._jobs = {job.id: job for job in kept}
            self._order = kept

    def find(self, job_id: str) -> Job | None:
        """The job if it is among these."""
        return self._jobs.get(job_id)

    def is_news(self, job_id: str, job: Job | None) -> bool:
        """Whether the newest jobs do not include this change, or a later one, yet."""
        known = self._jobs.get(job_id)
        if job is None or known is None:
            return job is not known or self.floor is not None
        if job.rev < known.rev and job.created_at == known.created_at:
            return False
        return known != slim(job)

    def changes_since(self, old: Window) -> list[tuple[str, Job | None]]:
        """The changes from the other to this, oldest first, if each holds all jobs of its time."""
        gone: list[tuple[str, Job | None]] = [(i, None) for i in old._jobs if i not in self._jobs]
        changed = [job for job in self._jobs.values() if old._jobs.get(job.id) != job]
        return [*gone, *((job.id, job) for job in sorted(changed, key=self._key))]

    def newest(self) -> list[Job]:
        """The jobs, the greatest key first."""
        if self._order is None:
            self._order = sorted(self._jobs.values(), key=self._key, reverse=True)
        return self._order


class Change:
    """One change: the present form of the job, None if it was removed."""

    __slots__ = ("_job", "_text", "job_id")

    def __init__(self, job_id: str, job: Job | None) -> None:
        self.job_id, self._job = job_id, job
        self._text = b""

    @property
    def text(self) -> bytes:
        """The event for it: encoded once for all readers, and only if there is one."""
        if not self._text:
            form = {"id": self.job_id, "removed": True} if self._job is None else light(self._job)
            self._text = event("job", form)
        return self._text


def event(name: str, form: object) -> bytes:
    """An event in the form of the stream, without an id."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), to_json(form))


class Mirror:
    """The queue's newest jobs and latest changes. For many threads."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._mutex = threading.Lock()
        self._changes: Watch | None = None
        self._mark: object = None
        self._epoch, self._seq = secrets.token_hex(4), 0
        self._ring: deque[Change] = deque(maxlen=_RING)
        self._joined: dict[tuple[str, str], list[bytes]] = {}  # events between two positions
        self._windows: dict[str, Window] = {}

    @property
    def position(self) -> str:
        """The present position in the changes, as opaque text."""
        return f"{self._epoch}-{self._seq}"

    def catch_up(self) -> bool:
        """Take in what changed since; returns whether anything may have. QueuectlError."""
        with self._mutex:
            mark = self._operations.mark()
            if mark == self._mark:
                return False
            if self._changes is None:
                self._changes = self._operations.watch()
            try:
                changed = self._changes.changes()
                written = self._operations.written()
                if changed is None or not self._windows:
                    self._read_all()
                elif self._operations.is_told_late:
                    for change in (*changed, *written):
                        if self._windows[KEPT[0]].is_news(*change):
                            self._apply([change])
                else:
                    self._apply(changed)
            except BaseException:
                self._windows = {}  # all must be read anew
                self._mark = None
                raise
            self._mark = mark
            return True

    def close(self) -> None:
        """Close the files."""
        with self._mutex:
            if self._changes is not None:
                self._changes.close()
                self._changes = None

    def _read_all(self) -> None:
        # Read after the start of the changes was fixed, the jobs are never older than those.
        windows = {}
        for name in KEPT:
            window = windows[name] = Window(ORDERS[name][0])
            window.fill(*self._operations.latest(name.removeprefix("-"), 2 * _MOST - 1))
        old, self._windows = self._windows, windows
        if old and old[KEPT[0]].floor is None and windows[KEPT[0]].floor is None:
            # All jobs are known, before and after: readers need not start over.
            self._note(windows[KEPT[0]].changes_since(old[KEPT[0]]))
            return
        self._epoch, self._seq = secrets.token_hex(4), 0
        self._ring.clear()

    def _apply(self, changed: Iterable[tuple[str, Job | None]]) -> None:
        latest: dict[str, Job | None] = {}
        for job_id, job in changed:
            latest.pop(job_id, None)  # the order of the last changes
            latest[job_id] = None if job is None else slim(job)
        for job_id, job in latest.items():
            for window in self._windows.values():
                window.take(job_id, job)
        self._note(latest.items())

    def _note(self, changed: Iterable[tuple[str, Job | None]]) -> None:
        for job_id, job in changed:
            self._seq += 1
            self._ring.append(Change(job_id, job))

    def known(self, job_id: str) -> Job | None:
        """The slim job, if it is one of the newest."""
        with self._mutex:
            found = (window.find(job_id) for window in self._windows.values())
            return next(filter(None, found), None)

    def since(self, position: str) -> tuple[list[Change], str] | None:
        """The last change of each job after a position, and the new position; None: too old."""
        with self._mutex:
            epoch, _, seq = position.partition("-")
            if epoch != self._epoch or not seq.isdigit() or int(seq) > self._seq:
                return None
            behind = self._seq - int(seq)
            if behind > len(self._ring):
                return None
            latest: dict[str, Change] = {}
            for at in range(len(self._ring) - behind, len(self._ring)):
                change = self._ring[at]
                latest.pop(change.job_id, None)
                latest[change.job_id] = change
            return list(latest.values()), self.position

    def events_since(self, position: str) -> tuple[list[bytes], str] | None:
        """The events of `since`; in one piece if others asked for the same."""
        with self._mutex:
            here = self.position
            known = self._joined.get((position, here))
        if known is not None:
            return known, here
        found = self.since(position)
        if found is None:
            return None
        texts = [change.text for change in found[0]]
        with self._mutex:
            while len(self._joined) >= _FEW:
                del self._joined[next(iter(self._joined))]
            self._joined[position, found[1]] = [b"".join(texts)] if texts else []
        return texts, found[1]

    def first(
        self, order: str, fits: Callable[[Job], bool], behind: tuple[object, ...] | None, count: int
    ) -> list[Job] | None:
        """The first fitting jobs after a key; None if only the queue itself can answer."""
        self.catch_up()
        with self._mutex:
            window = self._windows.get(order)
            if window is None:
                return None
            key = ORDERS[order][0]
            fitting = (
                job
                for job in window.newest()
                if (behind is None or key(job) < behind) and fits(job)
            )
            found = list(islice(fitting, count))
            return found if len(found) == count or window.floor is None else None


def walk(
    jobs: Iterator[Job], order: str, behind: tuple[object, ...] | None, count: int
) -> tuple[list[Job], int]:
    """The first jobs of an order after a key, and the number of all jobs."""
    from heapq import nlargest, nsmallest

    key, greatest_first = ORDERS[order]
    total = 0

    def later() -> Iterator[Job]:
        nonlocal total
        for job in jobs:
            total += 1
            if behind is None or (key(job) < behind if greatest_first else key(job) > behind):
                yield slim(job)

    found = (nlargest if greatest_first else nsmallest)(count, later(), key=key)
    return found, total
