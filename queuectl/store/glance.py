"""Looking over a queue's shoulder: the newest jobs of some states, and what changes, without locks.

For those who look several times a second while a person types. No call takes the queue's lock;
what cannot be read at the moment raises a QueuectlError, and the next look will tell.
"""

from __future__ import annotations

import os
import re
from heapq import nsmallest
from itertools import islice

from queuectl.errors import StoreBusy, StoreError
from queuectl.model.job import Job
from queuectl.store import files, folder
from queuectl.store.job_files import decode_job, line_front, line_id, line_state
from queuectl.store.journal import Journal
from queuectl.store.snapshot import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import NoReturn

# Bytes searched at once: a search keeps other threads out, so it must not take a millisecond.
_CHUNK = 1 << 16


def change_mark(path: str) -> tuple[object, ...]:
    """Differs from an earlier one whenever jobs, settings or the list of workers changed."""
    return tuple(_look(os.path.join(path, name)) for name in _WATCHED)


_WATCHED = ("journal", "jobs.json", "dlq.json", "config.json", "workers")


def _look(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class Glance:
    """The queue as it was when this was made; close it when done. Not for two threads at once."""

    def __init__(self, path: str, now: float) -> None:
        self._path = path
        self._snapshot: Snapshot | None = None
        if folder.check_folder(path) and not folder.is_new(path):
            self._snapshot = Snapshot.read(path, now, _no_lock, patience=0.0)

    def close(self) -> None:
        """Let go of the files; may be called twice."""
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None

    def newest(self, states: Collection[str] | None, start: str, most: int) -> list[Job]:
        """At most so many jobs in these states (None: any) whose ids begin so, newest first."""
        if self._snapshot is None:
            return []
        if not self._snapshot.edited:
            counts = self._snapshot.journal.counts
            most = min(most, sum(n for state, n in counts.items() if not states or state in states))
        try:
            return list(map(decode_job, islice(self._lines(self._snapshot, states, start), most)))
        except files.NO_LINES as exc:
            raise files.changed(self._path) from exc

    def next_claimed(self, now: str, most: int) -> list[Job]:
        """At most so many of the jobs that wait: those that are claimed first from `now` on."""
        if self._snapshot is None:
            return []
        waiting: list[tuple[bool, object, object, int, bytes]] = []
        moment = now.encode()
        try:
            for at, line in enumerate(self._snapshot.lines()):
                front = line_front(line)
                if front is None or front[1] not in (b"pending", b"failed"):
                    continue
                priority, due = int(front[2]), front[3]
                first = (True, due, priority) if due > moment else (False, priority, due)
                waiting.append((*first, at, line))
        except files.NO_LINES as exc:
            raise files.changed(self._path) from exc
        return [decode_job(entry[-1]) for entry in nsmallest(most, waiting)]

    def present(self, ids: Collection[str]) -> dict[str, Job]:
        """Those of the jobs that exist, by id."""
        if self._snapshot is None:
            return {}
        pairs = ((job_id, self._snapshot.get(job_id)) for job_id in ids)
        try:
            return {job_id: found[0] for job_id, found in pairs if found is not None}
        except files.NO_LINES as exc:
            raise files.changed(self._path) from exc

    def _lines(
        self, snapshot: Snapshot, states: Collection[str] | None, start: str
    ) -> Iterator[bytes]:
        fits, needle = _pattern(states, start), _needle(states, start)
        overlay = snapshot.overlay
        yield from (line for line in reversed(overlay.values()) if fits.match(b"\n" + line))
        bases = []
        if states is None or set(states) != {"dead"}:
            bases.append((snapshot.base_jobs, snapshot.bases[0].fd))
        if states is None or "dead" in states:
            bases.append((snapshot.base_dead, snapshot.bases[1].fd))
        for base, fd in bases:
            lines = iter(base()) if snapshot.edited else _backward(fd, fits, needle)
            for line in lines:
                if line_id(line) not in overlay and fits.match(b"\n" + line):
                    yield line


def _no_lock() -> NoReturn:
    raise StoreBusy("the queue changes too fast to be read without its lock")


def _pattern(states: Collection[str] | None, start: str) -> re.Pattern[bytes]:
    # It begins with plain text, newline included, because that is searched for ten times faster.
    # A removal has "removed" where a job has "state".
    wanted = b"" if states is None else b'(?:%s)"' % "|".join(sorted(states)).encode()
    return re.compile(rb'\n\{"id": "%s[^"]*", "state": "%s' % (re.escape(start.encode()), wanted))


def _needle(states: Collection[str] | None, start: str) -> bytes:
    """Text that every line which fits holds, and few others; none if there is no such text."""
    if states is not None and len(states) == 1:
        return b'", "state": "%s"' % next(iter(states)).encode()
    return b'\n{"id": "' + start.encode() if states is None else b""


def _backward(fd: int, fits: re.Pattern[bytes], needle: bytes) -> Iterator[bytes]:
    """The lines of a file in our layout that fit, the last one first."""
    end, rest = os.fstat(fd).st_size, b""
    while end > 0:
        begin = max(0, end - _CHUNK)
        data = os.pread(fd, end - begin, begin) + rest
        # What precedes the first newline belongs to a line of the chunk before; a file begins
        # with a line of its own, the opening bracket.
        cut = data.find(b"\n")
        rest = data if cut < 0 else data[:cut]
        if cut >= 0:
            for at in _starts(data, cut, fits, needle):
                stop = data.find(b"\n", at + 1)
                yield data[at + 1 : stop if stop >= 0 else len(data)].rstrip(b",")
        end = begin


def _starts(data: bytes, cut: int, fits: re.Pattern[bytes], needle: bytes) -> Iterator[int]:
    """Where the newlines stand before lines that fit, the last one first, from `cut` on."""
    if not needle:
        yield from (found.start() for found in reversed(list(fits.finditer(data, cut))))
        return
    # Looking for plain text backward is five times as fast as the pattern is.
    at = len(data)
    while (at := data.rfind(needle, cut, at)) >= 0:
        at = data.rfind(b"\n", 0, at + 1)
        if at < cut:
            return
        if fits.match(data, at):
            yield at


class Follower:
    """Tells which jobs changed since the last look, by reading on in the journal."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._journal: Journal | None = None

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def changes(self) -> list[bytes] | None:
        """The lines of jobs that changed, oldest first; None if some were missed: look anew."""
        if not folder.check_folder(self._path) or folder.is_new(self._path):
            self.close()
            return []
        try:
            return self._changes()
        except StoreError:
            self.close()  # so that the next look starts anew
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
            lines += _read_on(old)  # what came between the look above and the fold
        self.close()
        self._journal = newer
        lines += _read_on(newer)
        return None if missed else lines


def _read_on(journal: Journal) -> list[bytes]:
    payloads, _ = journal.read_on()
    return [line for payload in payloads for line in payload.splitlines()]


def changed_jobs(lines: Collection[bytes], ids: Collection[str]) -> list[Job]:
    """The jobs among the lines that have one of these ids, in their order."""
    wanted = {job_id.encode() for job_id in ids}
    try:
        fitting = (line for line in lines if line_id(line) in wanted and line_state(line))
        return [decode_job(line) for line in fitting]
    except files.NO_LINES as exc:
        raise files.changed("the queue") from exc
