"""Waiting jobs that something besides their time may hold, so that a claim passes none twice.

What may hold a job is a token: a tag that is paused or has a limit, or a lock. The tokens of a job
are its signature. The due jobs of one signature are in one lane, since they wait and may start
together. Each lane is in the heap `_heads` by its first job; a lane that is found shut is parked at
the token that shuts it. So a claim touches no lane twice for one reason, however many jobs wait in
it. The lane of jobs without tokens is in LiveIndex itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush

from queuectl.model.gate import LOCK, OPEN, Gate
from queuectl.store.files.waits import Waits, Wants

Entry = tuple[int, bytes, int, bytes]  # rank, due time, arrival, id
# The point after the last known entry: that entry and a fifth part, so that it equals no entry.
End = tuple[int, bytes, int, bytes, bytes]
Signature = tuple[bytes, ...]

# Words of these kinds contain neither quotes nor brackets.
_RULES = re.compile(
    rb'[^}]*?"run_at": "[^"]+"'
    rb'(?:, \t?"after": \[([^\]]*)\])?(?:, \t?"after_end": \[([^\]]*)\])?'
    rb'(?:, "tags": \[([^\]]*)\])?(?:, "lock": \[([^\]]*)\])?(?:, "slots": \[([^\]]*)\])?'
)
_LOCK = LOCK.encode()
_WORD = re.compile(rb'"([^"]*)"')


def _rules(line: bytes) -> list[list[bytes]]:
    """Parents (to be completed; to have ended), tags, locks and slots of a job line, unparsed."""
    found = _RULES.match(line)
    parts = (b"",) * 5 if found is None else found.groups()
    return [_WORD.findall(part) if part else [] for part in parts]


class Lane:
    """The known due jobs of one signature: those up to `end`, or all if that is None."""

    __slots__ = ("due", "end", "offered", "parked", "signature")

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.due: list[Entry] = []  # a heap
        self.end: End | None = None
        self.offered: Entry | End | None = None  # its entry in _heads or where it is parked
        self.parked: bytes | None = None  # the token that the lane waits for


class Lanes:
    """The lanes of all signatures. `head` gives the first entry of a lane, see LiveIndex._head."""

    def __init__(
        self,
        gate: Gate | None,
        head: Callable[[list[Entry], End | None, bytes], Entry | End | None],
    ) -> None:
        self._head = head
        gate = gate or OPEN
        self._paused = frozenset(tag.encode() for tag in gate.paused)
        self._limits = {tag.encode(): most for tag, most in gate.limits.items()}
        self._held: dict[bytes, frozenset[bytes]] = {}  # tokens, by the id of a running job
        # By token: the running jobs that hold it, each with its number, if any.
        self._holders: dict[bytes, dict[bytes, bytes]] = {}
        self.signatures: dict[bytes, Signature] = {}  # of known waiting jobs that have tokens
        self.lanes: dict[Signature, Lane] = {}
        self._heads: list[tuple[Entry | End, Signature]] = []
        self._parked: dict[bytes, list[tuple[Entry | End, Signature]]] = {}
        self._bounded: list[Lane] = []  # the lanes that have an end
        self.waits = Waits()

    def sign(self, line: bytes) -> tuple[Signature, Wants]:
        """The tokens of a waiting job, and the jobs that it waits for."""
        after, after_end, tags, locks, _ = _rules(line)
        found = [tag for tag in tags if tag in self._limits or tag in self._paused]
        wants = dict.fromkeys(after_end, False) | dict.fromkeys(after, True)
        return tuple(sorted(found + [_LOCK + name for name in locks])), wants

    @property
    def in_use(self) -> bool:
        """Whether a running job holds a token, or any job waits for another."""
        return bool(self._held or self.waits.kids)

    def hold(self, job_id: bytes, line: bytes) -> None:
        """Count a running job: the tokens that it was given, and its limited tags."""
        _, _, tags, _, slots = _rules(line)
        given = {tag: b"" for tag in tags if tag in self._limits}
        given |= {token: number for token, _, number in (slot.partition(b"#") for slot in slots)}
        if given:
            self._held[job_id] = frozenset(given)
            for token, number in given.items():
                self._holders.setdefault(token, {})[job_id] = number
            self._reopen(given)

    def release(self, job_id: bytes) -> None:
        """Stop counting a running job."""
        for token in (given := self._held.pop(job_id, ())):
            del self._holders[token][job_id]
        self._reopen(given)

    def slots(self, job_id: bytes) -> tuple[str, ...]:
        """What a waiting job gets at its start; see slots_for in model/gate.py."""
        given = []
        for token in self.signatures.get(job_id, ()):
            if token.startswith(_LOCK):
                given.append(token)
            elif token in self._limits:
                taken, number = set(self._holders.get(token, {}).values()), 0
                while b"%d" % number in taken:
                    number += 1
                given.append(b"%b#%d" % (token, number))
        return tuple(slot.decode() for slot in given)

    def lay_out(self, found: Iterable[tuple[Signature, list[Entry], End | None]]) -> None:
        """Start over with these lanes; of the others only those with an end are kept."""
        self.lanes = {name: lane for name, lane in self.lanes.items() if lane.end is not None}
        for lane in self.lanes.values():
            lane.due = []
        for signature, entries, end in found:
            lane = self.lanes.setdefault(signature, Lane(signature))
            lane.due, lane.end = entries, end
            heapify(lane.due)
        self._heads, self._parked = [], {}
        for lane in self.lanes.values():
            lane.parked, lane.offered = None, lane.due[0] if lane.due else lane.end
            if lane.offered is not None:
                self._heads.append((lane.offered, lane.signature))
        heapify(self._heads)
        self._bounded = [lane for lane in self.lanes.values() if lane.end is not None]

    def end(self, signature: Signature) -> End | None:
        """How far a lane is known; None if it is known whole."""
        lane = self.lanes.get(signature)
        return None if lane is None else lane.end

    def add(self, entry: Entry, signature: Signature) -> None:
        """Put a job that is due into its lane."""
        lane = self.lanes.get(signature)
        if lane is None:
            lane = self.lanes[signature] = Lane(signature)
        heappush(lane.due, entry)
        if lane.offered is None or entry < lane.offered:
            lane.offered = entry
            if lane.parked is None or not self._is_shut(lane.parked):
                lane.parked = None
                heappush(self._heads, (entry, signature))
            else:
                heappush(self._parked[lane.parked], (entry, signature))

    def first(self, now: bytes) -> Entry | End | None:
        """The first entry of all open lanes; an End if it is not known."""
        heads = self._heads
        while heads:
            key, signature = heads[0]
            lane = self.lanes.get(signature)
            if lane is None or lane.offered is not key or lane.parked is not None:
                heappop(heads)
                continue
            first = self._head(lane.due, lane.end, now)
            if first is not key:
                heappop(heads)
                self._offer_anew(lane, first)
                continue
            shut = next((token for token in signature if self._is_shut(token)), None)
            if shut is None:
                return first
            heappop(heads)
            lane.parked = shut
            heappush(self._parked.setdefault(shut, []), (key, signature))
            self._reopen(signature)
        return None

    def _offer_anew(self, lane: Lane, first: Entry | End | None) -> None:
        lane.offered = first
        if first is None:
            del self.lanes[lane.signature]
        else:
            heappush(self._heads, (first, lane.signature))
        self._reopen(lane.signature)

    def _is_shut(self, token: bytes) -> bool:
        if token in self._paused:
            return True
        using = self._holders.get(token)
        return using is not None and len(using) >= self._limits.get(token, 1)

    def _reopen(self, tokens: Iterable[bytes]) -> None:
        """Put the first lane that is parked at each open token back into the heap.

        One is enough: the next follows when that one is claimed from, changes, or is parked.
        """
        for token in tokens:
            parked = self._parked.get(token)
            while parked and not self._is_shut(token):
                key, signature = heappop(parked)
                lane = self.lanes.get(signature)
                if lane is not None and lane.offered is key and lane.parked == token:
                    lane.parked = None
                    heappush(self._heads, (key, signature))
                    break

    def are_low(self, few: int) -> bool:
        """Whether a pass should refill a lane before a claim must wait for it."""
        return any(
            lane.end is not None
            and (len(lane.due) < few or lane.due[0] > lane.end)
            and self._paused.isdisjoint(lane.signature)
            for lane in self._bounded
        )

    @property
    def are_whole(self) -> bool:
        """Whether no job lies beyond the ends of the lanes."""
        return not self._bounded
