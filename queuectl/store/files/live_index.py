"""The jobs a claimer must know: those that run, and the first of those that wait, in claim order.

It costs memory for a window of the queue only. Of the jobs that are due, and of those that will
be, it holds the first ones, and the key of the last of them where there are more: what lies behind
that key is not known, and a pass over the queue fills the window anew before a claim needs it.
Lines are kept, not places in a file, so that a fold changes nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Any

from queuectl.store.files.job_files import line_front, line_id

SMALLEST = 4096  # jobs that a window holds at least, if there are so many
SHARE = 16  # of a longer queue a window holds such a part, so that few passes are needed
_SPARE = 1000  # stale entries that may wait in the heaps, beside as many as there are jobs
_Entry = tuple[int, bytes, int, bytes]  # priority, due time, arrival, id


class Beyond(Exception):
    """Which job is the next is not known: it lies behind the window."""


class LiveIndex:
    """Known jobs' lines by id, and two heaps: jobs that are due, and jobs that will be.

    A heap entry counts only while it is the newest of its job; stale ones are dropped when met.
    """

    def __init__(
        self,
        lines: Iterable[bytes],
        newer: Iterable[bytes] = (),
        now: bytes = b"",
        most: int = SMALLEST,
    ) -> None:
        """`lines` are those of jobs.json, `newer` those of the journal, which count before them.

        `now`: what is due by then is due. `most`: how many jobs a window is cut to.
        """
        self.lines: dict[bytes, bytes] = {}
        self.running: dict[bytes, bytes] = {}  # those of them that are in progress
        self._entries: dict[bytes, _Entry] = {}
        self._arrivals, self._now, self._most = 0, now, most
        due, later = _Window(most), _Window(most)
        last: dict[bytes, bytes] = {}
        for line in newer:
            job_id = line_id(line)
            last.pop(job_id, None)  # a job that changed stands behind the others
            last[job_id] = line
        for line in lines:
            if not last or line_id(line) not in last:
                self._gather(line, due, later)
        for line in last.values():
            self._gather(line, due, later)
        self._due = [self._known(entry, line) for entry, line in due.found]
        self._later = [(key[0], self._known(key[1], line)) for key, line in later.found]
        # Of jobs that are due all are known up to this entry, of later ones up to this time.
        self._due_end: _Entry | None = due.end
        self._later_end: bytes | None = later.end and later.end[0]
        heapify(self._due)
        heapify(self._later)

    def _gather(self, line: bytes, due: _Window, later: _Window) -> None:
        front = line_front(line)
        if front is None:
            return
        job_id, state, priority, run_at = front
        if state == b"pending" or state == b"failed":
            self._arrivals += 1
            entry = (int(priority), run_at, self._arrivals, job_id)
            if run_at <= self._now:
                due.add(entry, line)
            else:
                later.add((run_at, entry), line)
        elif state == b"in_progress":
            self.lines[job_id] = self.running[job_id] = line

    def _known(self, entry: _Entry, line: bytes) -> _Entry:
        self.lines[entry[3]], self._entries[entry[3]] = line, entry
        return entry

    def apply(self, lines: Iterable[bytes]) -> None:
        """Take in lines of journal records, oldest first."""
        for line in lines:
            self.put(line)

    def put(self, line: bytes) -> None:
        """Take in one job's new line, or its removal."""
        entry = self._take(line)
        if entry is not None:
            heappush(self._later, (entry[1], entry))
            if len(self._later) + len(self._due) > 2 * len(self._entries) + _SPARE:
                self._drop_stale()
            if len(self._entries) > 5 * self._most:
                self._cut()

    def _drop_stale(self) -> None:
        """Forget entries that count no more: most of them may be due in years only."""
        entries = self._entries
        self._due = [entry for entry in self._due if entries.get(entry[3]) is entry]
        self._later = [pair for pair in self._later if entries.get(pair[1][3]) is pair[1]]
        heapify(self._due)
        heapify(self._later)

    def _cut(self) -> None:
        """Forget what lies behind the windows, after many jobs were put in."""
        entries = self._entries.values()
        due = sorted(entry for entry in entries if entry[1] <= self._now)
        later = sorted((entry[1], entry) for entry in entries if entry[1] > self._now)
        for entry in due[self._most :]:
            self._forget(entry[3])
        for _, entry in later[self._most :]:
            self._forget(entry[3])
        if len(due) > self._most:
            end = due[self._most - 1]
            self._due_end = end if self._due_end is None else min(self._due_end, end)
        if len(later) > self._most:
            self._later_end = later[self._most - 1][0]
        self._due, self._later = due[: self._most], later[: self._most]  # in order, so heaps

    def _take(self, line: bytes) -> _Entry | None:
        """The entry of a job that waits, within the window."""
        front = line_front(line)
        if front is None:
            self._forget(line_id(line))
            return None
        job_id, state, priority, run_at = front
        if state == b"pending" or state == b"failed":
            self._arrivals += 1
            entry = (int(priority), run_at, self._arrivals, job_id)
            if not self._is_beyond(entry):
                self.running.pop(job_id, None)
                return self._known(entry, line)
        self._forget(job_id)
        if state == b"in_progress":
            self.lines[job_id] = self.running[job_id] = line
        return None

    def _is_beyond(self, entry: _Entry) -> bool:
        if entry[1] <= self._now:
            return self._due_end is not None and entry > self._due_end
        return self._later_end is not None and entry[1] >= self._later_end

    def _forget(self, job_id: bytes) -> None:
        self._entries.pop(job_id, None)
        self.lines.pop(job_id, None)
        self.running.pop(job_id, None)

    @property
    def is_whole(self) -> bool:
        """Whether nothing lies behind the window."""
        return self._due_end is None and self._later_end is None

    def is_low(self, now: bytes) -> bool:
        """Whether a pass should fill the window anew, before a claim at `now` must wait for it."""
        few = self._most // 4
        if self._later_end is not None and (self._later_end <= now or len(self._later) < few):
            return True
        return self._due_end is not None and (len(self._due) < few or self._due[0] > self._due_end)

    def first_ready(self, now: bytes) -> bytes | None:
        """The line of the job to claim at the moment `now`, or None; Beyond."""
        entries = self._entries
        later, due = self._later, self._due
        self._now = max(self._now, now)
        while later and later[0][0] <= now:
            entry = heappop(later)[1]
            if entries.get(entry[3]) is entry:
                heappush(due, entry)
        if self._later_end is not None and self._later_end <= now:
            raise Beyond
        while due:
            entry = due[0]
            if entries.get(entry[3]) is not entry:
                heappop(due)
            elif entry[1] > now:  # the clock was set back
                heappush(later, (entry[1], heappop(due)))
            elif self._due_end is not None and entry > self._due_end:
                break
            else:
                return self.lines[entry[3]]
        if self._due_end is not None:
            raise Beyond
        return None

    def next_due(self) -> bytes | None:
        """When the next job will be due that is not yet, or None."""
        while self._later and self._entries.get(self._later[0][1][3]) is not self._later[0][1]:
            heappop(self._later)
        return self._later[0][0] if self._later else self._later_end


class _Window:
    """The first ones by key of what was added, and the key of the last if others were left out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.found: list[tuple[Any, bytes]] = []
        self.end: Any = None

    def add(self, key: Any, line: bytes) -> None:
        if self.end is not None and key > self.end:
            return
        self.found.append((key, line))
        if len(self.found) > 2 * self._most:
            self.found.sort()
            del self.found[self._most :]
            self.end = self.found[-1][0]
