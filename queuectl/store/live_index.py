"""The jobs a claimer must know: those that are live, in claim order.

It costs memory for live jobs only. Finished ones are passed over by the front of their line, so
that a hundred thousand of them weigh nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from queuectl.store.job_files import line_front, line_id

_SPARE = 1000  # stale entries that may wait in the heaps, beside as many as there are jobs
_Entry = tuple[int, bytes, int, bytes]  # priority, due time, arrival, id


class LiveIndex:
    """Live jobs' lines by id, and two heaps: jobs that are due, and jobs that will be.

    A heap entry counts only while it is the newest of its job; stale ones are dropped when met.
    """

    def __init__(self, lines: Iterable[bytes], now: bytes = b"") -> None:
        """`lines`: those of jobs.json, then those of the journal; `now`: what is due by then."""
        self.lines: dict[bytes, bytes] = {}
        self.running: dict[bytes, bytes] = {}  # those of them that are in progress
        self._entries: dict[bytes, _Entry] = {}
        self._arrivals = 0
        for line in lines:
            self._take(line)
        waiting = self._entries.values()
        self._due = [entry for entry in waiting if entry[1] <= now]
        self._later = [(entry[1], entry) for entry in waiting if entry[1] > now]
        heapify(self._due)
        heapify(self._later)

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

    def _drop_stale(self) -> None:
        """Forget entries that count no more: most of them may be due in years only."""
        entries = self._entries
        self._due = [entry for entry in self._due if entries.get(entry[3]) is entry]
        self._later = [pair for pair in self._later if entries.get(pair[1][3]) is pair[1]]
        heapify(self._due)
        heapify(self._later)

    def _take(self, line: bytes) -> _Entry | None:
        """The entry of a job that waits."""
        front = line_front(line)
        if front is None:
            job_id, state = line_id(line), b"removed"
        else:
            job_id, state, priority, due = front
            if state == b"pending" or state == b"failed":
                self.lines[job_id] = line
                self.running.pop(job_id, None)
                self._arrivals += 1
                entry = self._entries[job_id] = (int(priority), due, self._arrivals, job_id)
                return entry
        self._entries.pop(job_id, None)
        if state == b"in_progress":
            self.lines[job_id] = self.running[job_id] = line
        else:
            self.lines.pop(job_id, None)
            self.running.pop(job_id, None)
        return None

    def first_ready(self, now: bytes) -> bytes | None:
        """The line of the job to claim at the moment `now`, or None."""
        entries = self._entries
        later, due = self._later, self._due
        while later and later[0][0] <= now:
            entry = heappop(later)[1]
            if entries.get(entry[3]) is entry:
                heappush(due, entry)
        while due:
            entry = due[0]
            if entries.get(entry[3]) is not entry:
                heappop(due)
            elif entry[1] > now:  # the clock was set back
                heappush(later, (entry[1], heappop(due)))
            else:
                return self.lines[entry[3]]
        return None

    def next_due(self) -> bytes | None:
        """When the next job will be due that is not yet, or None."""
        while self._later and self._entries.get(self._later[0][1][3]) is not self._later[0][1]:
            heappop(self._later)
        return self._later[0][0] if self._later else None
