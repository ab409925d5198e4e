"""The jobs a claimer must know: those that are live, in claim order.

It costs memory for live jobs only. Finished ones are passed over by the front of their line, so
that a hundred thousand of them weigh nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from queuectl.store.job_files import line_front, line_id, line_state

_LIVE = frozenset({b"pending", b"failed", b"in_progress"})
_Entry = tuple[int, bytes, int, bytes]  # priority, due time, arrival, id


class LiveIndex:
    """Live jobs' lines by id, and two heaps: jobs that are due, and jobs that will be.

    A heap entry counts only while it is the newest of its job; stale ones are dropped when met.
    """

    def __init__(self, base: Iterable[bytes]) -> None:
        self.lines: dict[bytes, bytes] = {}
        self.running: set[bytes] = set()
        self._entries: dict[bytes, _Entry] = {}
        self._due: list[_Entry] = []
        self._later: list[tuple[bytes, _Entry]] = []
        self._arrivals = 0
        for line in base:
            if line_state(line) in _LIVE:
                front = line_front(line)
                entry = self._keep(line, *front) if front else None
                if entry is not None:
                    self._later.append((entry[1], entry))
        heapify(self._later)

    def apply(self, lines: Iterable[bytes]) -> None:
        """Take in lines of journal records, oldest first."""
        for line in lines:
            self.put(line)

    def put(self, line: bytes) -> None:
        """Take in one job's new line, or its removal."""
        front = line_front(line)
        if front is not None and front[1] in _LIVE:
            entry = self._keep(line, *front)
            if entry is not None:
                heappush(self._later, (entry[1], entry))
            return
        job_id = line_id(line)
        self.lines.pop(job_id, None)
        self._entries.pop(job_id, None)
        self.running.discard(job_id)

    def _keep(
        self, line: bytes, job_id: bytes, state: bytes, priority: bytes, due: bytes
    ) -> _Entry | None:
        self.lines[job_id] = line
        if state == b"in_progress":
            self.running.add(job_id)
            self._entries.pop(job_id, None)
            return None
        self.running.discard(job_id)
        self._arrivals += 1
        entry = self._entries[job_id] = (int(priority), due, self._arrivals, job_id)
        return entry

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
