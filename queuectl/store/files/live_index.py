"""The jobs that a claim must know: the running ones and the first waiting ones, in claim order.

It takes memory only for a window of the queue. Of the jobs that are due, and of those due later, it
holds the first ones, and the key of the last of them if there are more. What lies beyond that key
is not known; a pass over the queue refills the window before a claim needs it. Lines are kept, not
positions in a file, so that a fold changes nothing here.

Jobs that something besides their time may hold are in lanes, each with a window of its own: see
lanes.py, which is loaded for the first such job.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import Any

from queuectl.model.claim_order import rank
from queuectl.store.files.job_files import line_front, line_id, line_state

SMALLEST = 5120  # jobs that a window holds at least, if the queue has them; 600 bytes each
SHARE = 16  # of a longer queue a window holds this part, so that few passes are needed
_SPARE = 1000  # stale entries allowed in the heaps, besides as many as there are jobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.model.gate import Gate
    from queuectl.store.files.lanes import End, Entry, Lanes, Signature
    from queuectl.store.files.waits import Waits


class LiveIndex:
    """The lines of known jobs by id, and two heaps: jobs that are due, and jobs due later.

    A heap entry counts only while it is its job's newest; stale entries are dropped when met.
    """

    class Beyond(Exception):
        """The next job is not known: it lies beyond the window."""

    def __init__(
        self,
        lines: Iterable[bytes],
        newer: Iterable[bytes] = (),
        now: bytes = b"",
        most: int = SMALLEST,
        gate: Gate | None = None,
    ) -> None:
        """`lines` are those of jobs.json; `newer` those of the journal, which override them.

        `now`: RFC 3339 text; what is due by then counts as due. `most`: jobs that a window is cut
        to. `gate`: what the settings hold, None for nothing.
        """
        self.gate = gate
        self._aging = 0.0 if gate is None else gate.aging
        self.lines: dict[bytes, bytes] = {}
        self.running: dict[bytes, bytes] = {}  # those of them in progress
        self._entries: dict[bytes, Entry] = {}
        self._arrivals, self._now, self._most = 0, now, most
        self._pushed = 0  # entries made since stale ones were dropped
        self._lanes: Lanes | None = None
        self.freed = 0  # jobs that lacked a parent and no longer do
        self.unresolved: set[bytes] = set()  # parents of waiting jobs whose state is not known
        due: dict[Signature, _Window] = {(): _Window(most)}
        later = _Window(most)
        last: dict[bytes, bytes] = {}
        for line in newer:
            job_id = line_id(line)
            last.pop(job_id, None)  # a changed job comes after the others
            last[job_id] = line
        for line in lines:
            if not last or line_id(line) not in last:
                self._gather(line, due, later)
        for line in last.values():
            self._gather(line, due, later)
        self._later = [
            (key[0], self._known(key[1], line, self._sign_again(line))) for key, line in later.found
        ]
        heapify(self._later)
        # All later jobs are known up to this time, and all due jobs up to this entry.
        self._later_end: bytes | None = later.end and later.end[0]
        self._due: list[Entry] = []
        self._due_end: End | None = None
        found = {
            signature: [self._known(entry, line, signature) for entry, line in window.found]
            for signature, window in due.items()
        }
        self._lay_out(found, {name: _behind(window.end) for name, window in due.items()})
        for parent in list(self.unresolved):
            self._look_up(parent)

    def _lay_out(
        self, found: dict[Signature, list[Entry]], ends: Mapping[Signature, End | None]
    ) -> None:
        """Make heaps of the known due jobs, by signature."""
        self._due, self._due_end = found.pop((), []), ends.get(())
        heapify(self._due)
        self._room = max(5 * self._most, 2 * len(self._entries))
        if self._lanes is not None:
            self._lanes.lay_out([(name, lane, ends.get(name)) for name, lane in found.items()])

    def _gather(self, line: bytes, due: dict[Signature, _Window], later: _Window) -> None:
        front = line_front(line)
        if front is None:
            return
        job_id, state, priority, run_at, plain = front
        if state == b"pending" or state == b"failed":
            self._arrivals += 1
            first = int(priority) if not self._aging else self._rank(priority, run_at)
            entry = (first, run_at, self._arrivals, job_id)
            signature = () if plain else self._sign(entry, line)
            if signature is None:
                return
            if run_at <= self._now:
                if signature not in due:
                    due[signature] = _Window(self._most)
                due[signature].add(entry, line)
            else:
                later.add((run_at, entry), line)
        elif state == b"in_progress":
            self._take(line)

    def _rank(self, priority: bytes, run_at: bytes) -> int:
        return rank(int(priority), run_at.decode(), self._aging)

    def _known(self, entry: Entry, line: bytes, signature: Signature = ()) -> Entry:
        self.lines[entry[3]], self._entries[entry[3]] = line, entry
        if signature and self._lanes is not None:
            self._lanes.signatures[entry[3]] = signature
        return entry

    def _sign(self, entry: Entry, line: bytes) -> Signature | None:
        """The tokens of a waiting job with rules; None if it is held because it lacks a parent."""
        lanes, job_id = self._laid_out(), entry[3]
        signature, wants = lanes.sign(line)
        if wants:
            for parent in lanes.waits.add(job_id, wants):
                self._look_up(parent)
            if lanes.waits.lacks[job_id]:
                self.lines[job_id], lanes.waits.held[job_id] = line, (entry, signature)
                return None
        return signature

    def _laid_out(self) -> Lanes:
        if self._lanes is None:
            from queuectl.store.files.lanes import Lanes

            self._lanes = Lanes(self.gate, self._head)
            self.unresolved = self._lanes.waits.unresolved
        return self._lanes

    @property
    def in_use(self) -> bool:
        """Whether a running job keeps others waiting that may start when it ends."""
        return self._lanes is not None and self._lanes.in_use

    def slots(self, line: bytes) -> tuple[str, ...]:
        """What the waiting job with this line gets at its start."""
        return () if self._lanes is None else self._lanes.slots(line_id(line))

    def _sign_again(self, line: bytes) -> Signature:
        return () if self._lanes is None else self._lanes.sign(line)[0]

    # -- jobs that wait for others; see waits.py

    def resolve(
        self, look_up: Callable[[Collection[str]], Mapping[str, tuple[bytes, str]]]
    ) -> None:
        """Learn the states of `unresolved` jobs; `look_up` gives the lines of those that exist."""
        if ids := [job_id.decode() for job_id in self.unresolved]:
            found = look_up(ids)
            for job_id in ids:
                line = found[job_id][0] if job_id in found else None
                self.learn(job_id.encode(), (line and line_state(line)) or b"")

    @property
    def waits(self) -> Waits | None:
        """What is known about jobs that wait for others; None if there are none."""
        return None if self._lanes is None or not self._lanes.waits.kids else self._lanes.waits

    def _note_parent(self, job_id: bytes, state: bytes) -> None:
        """Take in another line of a job that may wait for others and be waited for."""
        if self._lanes is not None:
            self._lanes.waits.drop(job_id)
            self.learn(job_id, state)

    def learn(self, job_id: bytes, state: bytes) -> None:
        """Take in the state of a job that others may wait for."""
        if self._lanes is None:
            return
        for child, is_free in self._lanes.waits.note(job_id, state):
            if is_free:
                self._free(child)
            elif (entry := self._entries.pop(child, None)) is not None:
                held = (entry, self._lanes.signatures.pop(child, ()))
                self._lanes.waits.held[child] = held

    def _look_up(self, parent: bytes) -> None:
        line = self.lines.get(parent)
        if line is not None:
            self.learn(parent, line_state(line) or b"")

    def _free(self, child: bytes) -> None:
        lanes = self._laid_out()
        held = lanes.waits.held.pop(child, None)
        self.freed += 1
        if held is None:  # it lies beyond the window
            return
        entry, signature = held
        if self._is_beyond(entry, signature):
            del self.lines[child]
            return
        self._known(entry, self.lines[child], signature)
        if entry[1] > self._now:
            heappush(self._later, (entry[1], entry))
        elif signature:
            lanes.add(entry, signature)
        else:
            heappush(self._due, entry)

    # -- what changes

    def apply(self, lines: Iterable[bytes]) -> None:
        """Take in lines of journal records, oldest first."""
        for line in lines:
            self.put(line)

    def put(self, line: bytes) -> None:
        """Take in one job's new line, or its removal."""
        entry = self._take(line)
        if entry is not None:
            heappush(self._later, (entry[1], entry))
            self._pushed += 1
            if self._pushed > len(self._entries) + _SPARE:
                self._drop_stale()
            if len(self._entries) > self._room:
                self._cut()

    def _drop_stale(self) -> None:
        """Drop entries that no longer count; most of them may be due only in years."""
        self._pushed = 0
        due, later = self._parted()
        self._later = later
        heapify(later)
        ends = {name: self._end(name) for name in due}
        self._lay_out(due, ends)

    def _parted(self) -> tuple[dict[Signature, list[Entry]], list[tuple[bytes, Entry]]]:
        """The known due jobs, by signature, and the later ones; in no order."""
        signatures = {} if self._lanes is None else self._lanes.signatures
        due: dict[Signature, list[Entry]] = {(): []}
        later = []
        for entry in self._entries.values():
            if entry[1] > self._now:
                later.append((entry[1], entry))
            else:
                due.setdefault(signatures.get(entry[3], ()), []).append(entry)
        return due, later

    def _end(self, signature: Signature) -> End | None:
        if signature == ():
            return self._due_end
        return None if self._lanes is None else self._lanes.end(signature)

    def _cut(self) -> None:
        """Drop what lies beyond the windows after many jobs were put in."""
        due, later = self._parted()
        ends = {}
        for signature, entries in due.items():
            entries.sort()
            ends[signature] = self._end(signature)
            if len(entries) > self._most:
                end = (*entries[self._most - 1], b"")
                known = self._end(signature) or end
                ends[signature] = min(end, known)
                self._drop(entry[3] for entry in entries[self._most :])
                del entries[self._most :]
        later.sort()
        if len(later) > self._most:
            self._later_end = later[self._most - 1][0]
            self._drop(entry[3] for _, entry in later[self._most :])
            del later[self._most :]
        self._later = later  # sorted, hence a heap
        self._lay_out(due, ends)

    def _drop(self, ids: Iterable[bytes]) -> None:
        for job_id in ids:
            self._forget(job_id)

    def _take(self, line: bytes) -> Entry | None:
        """The entry of a job that waits, within the window."""
        front = line_front(line)
        if front is None:
            self._forget(line_id(line))
            self._note_parent(line_id(line), b"")
            return None
        job_id, state, priority, run_at, plain = front
        self._forget(job_id)
        if self._lanes is not None:
            self._note_parent(job_id, state)
        if state == b"pending" or state == b"failed":
            self._arrivals += 1
            first = int(priority) if not self._aging else self._rank(priority, run_at)
            entry = (first, run_at, self._arrivals, job_id)
            signature = () if plain else self._sign(entry, line)
            if signature is not None and not self._is_beyond(entry, signature):
                return self._known(entry, line, signature)
        elif state == b"in_progress":
            self.lines[job_id] = self.running[job_id] = line
            if not plain:
                self._laid_out().hold(job_id, line)
        return None

    def _is_beyond(self, entry: Entry, signature: Signature) -> bool:
        if entry[1] <= self._now:
            end = self._end(signature)
            return end is not None and entry > end
        return self._later_end is not None and entry[1] >= self._later_end

    def _forget(self, job_id: bytes) -> None:
        if self.lines.pop(job_id, None) is None:
            return
        if self._entries.pop(job_id, None) is None:  # it waits or runs
            self.running.pop(job_id, None)
        if self._lanes is not None:
            self._lanes.signatures.pop(job_id, None)
            self._lanes.release(job_id)

    @property
    def is_whole(self) -> bool:
        """Whether no job lies beyond the window."""
        if self._due_end is not None or self._later_end is not None:
            return False
        return self._lanes is None or self._lanes.are_whole

    def is_low(self, now: bytes) -> bool:
        """Whether a pass should refill the window before a claim at `now` must wait for it."""
        if self.is_whole or (self.gate is not None and self.gate.all_paused):
            return False
        few = self._most // 8 + 1  # the job claimed last is still in it
        if self._later_end is not None and (self._later_end <= now or len(self._later) < few):
            return True
        if self._due_end is not None and (len(self._due) < few or self._due[0] > self._due_end):
            return True
        return self._lanes is not None and self._lanes.are_low(few)

    def first_ready(self, now: bytes) -> bytes | None:
        """The line of the job to claim at the moment `now`, or None; raises Beyond."""
        entries, lanes, later, due = self._entries, self._lanes, self._later, self._due
        self._now = max(self._now, now)
        while later and later[0][0] <= now:
            entry = heappop(later)[1]
            if entries.get(entry[3]) is entry:
                if lanes is not None and (signature := lanes.signatures.get(entry[3])):
                    lanes.add(entry, signature)
                else:
                    heappush(due, entry)
        if self.gate is not None and self.gate.all_paused:
            return None
        if self._later_end is not None and self._later_end <= now:
            raise self.Beyond
        first = self._head(due, self._due_end, now)
        if lanes is not None:
            other = lanes.first(now)
            if first is None or (other is not None and other < first):
                first = other
        if first is None:
            return None
        if len(first) == 5:
            raise self.Beyond
        return self.lines[first[3]]

    def _head(self, due: list[Entry], end: End | None, now: bytes) -> Entry | End | None:
        """The first valid entry of a heap, `end` if the next one lies beyond that, or None."""
        entries = self._entries
        while due:
            entry = due[0]
            if entries.get(entry[3]) is not entry:
                heappop(due)
            elif entry[1] > now:  # the clock was set back
                heappush(self._later, (entry[1], heappop(due)))
            elif end is not None and entry > end:
                return end
            else:
                return entry
        return end

    def next_due(self) -> bytes | None:
        """When the next job that is not due yet will be; None if there is none or all is paused."""
        if self.gate is not None and self.gate.all_paused:
            return None
        while self._later and self._entries.get(self._later[0][1][3]) is not self._later[0][1]:
            heappop(self._later)
        return self._later[0][0] if self._later else self._later_end


def _behind(entry: Entry | None) -> End | None:
    """The end of the known jobs, of which this is the last."""
    return entry and (*entry, b"")


class _Window:
    """The first of the added entries by key, and the key of the last if others were left out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.found: list[tuple[Any, bytes]] = []
        self.end: Any = None

    def add(self, key: Any, line: bytes) -> None:
        if self.end is not None and key > self.end:
            return
        self.found.append((key, line))
        if len(self.found) > self._most * 5 // 4:  # not at each one: sorting costs time
            self.found.sort()
            del self.found[self._most :]
            self.end = self.found[-1][0]
