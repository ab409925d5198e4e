"""Reading a queue without its lock: the newest jobs of some states, and what changes.

For readers that look several times a second while a person types. No call takes the queue's lock;
what cannot be read at the moment raises a QueuectlError, and a later look may succeed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import nsmallest

from queuectl.errors import StoreError
from queuectl.model.job import Job
from queuectl.store import door
from queuectl.store.files import marker
from queuectl.store.files.job_files import decode_job, line_front, line_id, line_state
from queuectl.store.files.journal import Journal
from queuectl.store.files.peek import lines_of, no_lock
from queuectl.store.files.snapshot import Snapshot
from queuectl.store.watch import Change

_FEW = 4  # up to so many jobs are looked up one by one; more are found in one pass


class Glance:
    """The queue as it was when this was made; methods without a docstring: see store/watch.py.

    Not for two threads at once.
    """

    def __init__(self, path: str, now: float) -> None:
        self._path = path
        self._snapshot: Snapshot | None = None
        if marker.check_folder(path) and not marker.is_new(path):
            self._snapshot = Snapshot.read(path, now, no_lock, patience=0.0)

    def close(self) -> None:
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None

    def _lines(self) -> Iterator[bytes]:
        return iter(()) if self._snapshot is None else self._snapshot.lines()

    def newest(self, states: Collection[str] | None, start: str, most: int) -> list[Job]:
        if self._snapshot is None:
            return []
        with door.Reading(self._path):
            return list(map(decode_job, lines_of(self._snapshot).find(states, start, most)))

    def next_claimed(self, now: str, most: int) -> list[Job]:
        waiting: list[tuple[bool, object, object, int, bytes]] = []
        moment = now.encode()
        with door.Reading(self._path):
            for at, line in enumerate(self._lines()):
                front = line_front(line)
                if front is None or front[1] not in (b"pending", b"failed"):
                    continue
                priority, due = int(front[2]), front[3]
                first = (True, due, priority) if due > moment else (False, priority, due)
                waiting.append((*first, at, line))
        return [decode_job(entry[-1]) for entry in nsmallest(most, waiting)]

    def latest(self, key: str, most: int) -> tuple[list[Job], bool]:
        needle = f'"{key}": "'.encode()
        kept: list[tuple[bytes, bytes, bytes]] = []
        floor = (b"", b"")
        with door.Reading(self._path):
            for line in self._lines():
                # A quote within JSON text has a backslash before it, so no text can look like this.
                at = line.find(needle) + len(needle)
                rank = line[at : line.find(b'"', at)], line[8 : line.index(b'"', 8)]
                if rank > floor:
                    kept.append((*rank, line))
                if len(kept) >= 4 * most:
                    kept.sort(reverse=True)
                    del kept[most:]
                    floor = kept[-1][:2]
        kept.sort(reverse=True)
        whole = floor == (b"", b"") and len(kept) <= most
        return [decode_job(entry[-1]) for entry in kept[:most]], whole

    def holding(self, states: Collection[str] | None, text: str) -> Iterator[Job]:
        wanted = None if states is None else {state.encode() for state in states}
        needle = text.lower().encode()
        with door.Reading(self._path):
            for line in self._lines():
                if needle in line.lower() and (wanted is None or line_state(line) in wanted):
                    yield decode_job(line)

    def present(self, ids: Collection[str]) -> dict[str, Job]:
        if self._snapshot is None:
            return {}
        pairs = ((job_id, self._snapshot.get(job_id)) for job_id in ids)
        wanted = {job_id.encode() for job_id in ids}
        with door.Reading(self._path):
            if len(wanted) > _FEW:
                lines = (line for line in self._snapshot.lines() if line_id(line) in wanted)
                return {job.id: job for job in map(decode_job, lines)}
            return {job_id: found[0] for job_id, found in pairs if found is not None}


class Follower:
    """Finds the jobs that changed since the last look, by reading on in the journal."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._journal: Journal | None = None

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def changes(self, ids: Collection[str] | None = None) -> list[Change] | None:
        if not marker.check_folder(self._path) or marker.is_new(self._path):
            self.close()
            return []
        try:
            lines = self._changes()
            return None if lines is None else _changes_of(lines, ids)
        except StoreError:
            self.close()  # so that the next look starts over
            raise

    def _changes(self) -> list[bytes] | None:
        missed = self._journal is None
        lines: list[bytes] = []
        if self._journal is not None:
            missed = self._journal.edited
            lines += _read_on(self._journal)
            missed = self._journal.edited and not missed
            if self._journal.is_current():
                return None if missed else lines
        newer = Journal.for_reading(self._path)
        if self._journal is not None:
            header, old = newer.header, self._journal
            missed |= header.generation != old.header.generation + 1 or header.edited
            lines += _read_on(old)  # what was appended between the look above and the fold
        self.close()
        self._journal = newer
        lines += _read_on(newer)
        return None if missed else lines


def _read_on(journal: Journal) -> list[bytes]:
    payloads, _ = journal.read_on()
    return [line for payload in payloads for line in payload.splitlines()]


def _changes_of(lines: list[bytes], ids: Collection[str] | None) -> list[Change]:
    wanted = None if ids is None else {job_id.encode() for job_id in ids}
    with door.Reading("the queue"):
        return [
            (line_id(line).decode(), decode_job(line) if line_state(line) else None)
            for line in lines
            if wanted is None or line_id(line) in wanted
        ]
