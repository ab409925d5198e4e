"""Claims in a database: one step of the server, which cannot look at the settings meanwhile.

So what is paused and limited is known from a moment ago: a process trusts for a second what it has
read, and who pauses waits for that second before it is answered. A claim whose answer came later
than that is looked at again, and put back if it should not have been made.

Where nothing can hold a job back, the server finds and takes it in that one step. Else it is found
first (see lanes.py), and then taken with its slots: the index `slots` refuses what another running
job holds. Each number of a tag below its limit is held by one job at most, so two claims at once
are never one too many, though neither sees the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pymongo import ReturnDocument, errors

from queuectl.config import Settings
from queuectl.model.dependencies import parents, unmet
from queuectl.model.gate import OPEN, Gate, full, paused_by, slots_for
from queuectl.model.job import Job, recurs
from queuectl.model.lifecycle import claimed
from queuectl.model.times import format_time, parse_time
from queuectl.store.mongodb.connection import Connection
from queuectl.store.mongodb.documents import WAITS, Document, claim_update, difference, to_job
from queuectl.store.mongodb.kin import Family
from queuectl.store.mongodb.lanes import ORDER, Lanes, gated, lane_of, open_lanes, ready
from queuectl.store.mongodb.workers import clock

TRUSTED = 1.0  # seconds for which a claim trusts what it knows of the settings
_MARGIN = 0.1  # seconds beside that; clocks of hosts do not run alike


class Claims:
    """Claims jobs of one database, which is a queue already."""

    def __init__(
        self, connection: Connection, settings: Callable[[], Mapping[str, object]]
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._lanes = Lanes(connection)
        self._locks = False  # whether a job with a lock was met: then all are looked for in lanes
        self._found_none = False  # whether the last claim, of jobs in all lanes, found none
        self._known: tuple[Mapping[str, object], Gate] = ({}, OPEN)
        self._read_at = float("-inf")

    @property
    def _jobs(self) -> Any:
        return self._connection.jobs

    def note(self, values: Mapping[str, object], asked_at: float) -> None:
        """Remember the settings as they were not before `asked_at`, by `clock`."""
        if values is not self._known[0]:
            self._known = (values, Settings(values).gate() or OPEN)
        self._read_at = asked_at

    def recent(self) -> Mapping[str, object]:
        """The settings as they were a moment ago at most."""
        if clock() - self._read_at > TRUSTED / 2:
            self._settings()  # which notes them
        return self._known[0]

    def hold_off(
        self,
        old: Mapping[str, object],
        new: Mapping[str, object],
        has_workers: Callable[[], bool],
    ) -> None:
        """Wait until nobody claims or ends a job by settings from before these, if that matters."""
        self._read_at, gate = float("-inf"), Settings(new).gate()
        matters = gate is not None or Settings(new).hooks() != Settings(old).hooks()
        if matters and has_workers():
            _wait(TRUSTED + _MARGIN)
        if gate is not None and not {*gated(gate)} <= {*gated(Settings(old).gate() or OPEN)}:
            self._lanes.put_right(gate)

    def gate(self) -> Gate:
        """What may start, as it was known a moment ago at most."""
        return self._gate(TRUSTED)

    def _gate(self, age: float) -> Gate:
        """What may start, known for at most so many seconds."""
        if clock() - self._read_at > age:
            self._settings()  # which notes them
        return self._known[1]

    def claim(
        self,
        worker: str,
        now: str,
        log_word: str | None,
        swap: Callable[[Job, Job], bool],
        fire: Callable[[Job, str], str | None],
    ) -> Job | None:
        """Claim the first job that is ready and that nothing holds back; `fire` schedules."""
        copy = None  # of a schedule that was met: it comes first
        while True:
            gate, wanted, copy = self._gate(TRUSTED / 2), copy, None
            claim = partial(claimed, worker=worker, now=now, log_word=log_word)
            found = None if gate.all_paused else self._take(gate, now, claim, wanted)
            if found is None:
                if wanted is None and (gate == OPEN or self._gate(0.0) == gate):
                    self._found_none = self._is_plain(gate)
                    return None
                continue  # it may have been opened since it was read
            before, job = found
            if job is None:
                copy = fire(before, now)
            elif clock() - self._read_at <= TRUSTED or not self._is_held_back(before):
                return job
            else:
                # If somebody was faster, its worker gives it back as one that it does not run.
                swap(job, before._replace(rev=job.rev + 1))

    def _take(
        self, gate: Gate, now: str, claim: partial[Job], wanted: str | None
    ) -> tuple[Job, Job | None] | None:
        """The job that was claimed, before and after it, or a schedule that is to be fired.

        `wanted`: this one, if it is ready, and no other.
        """
        while self._is_plain(gate):
            only = {"_id": wanted} if wanted else {}
            if gate.aging and not wanted:
                first = self._lanes.aged(now, gate.aging)
                if first is None:
                    return None
                only = first
            with self._connection.told():
                found = self._jobs.find_one_and_update(
                    {**ready(now), **only},
                    claim_update(**claim.keywords),
                    # By what the question leaves open: else the server sorts all of a priority.
                    sort=ORDER[1:] if "priority" in only else ORDER,
                    # Else all that is ready may be sorted, at each claim.
                    hint="_id_" if wanted else "claim",
                    return_document=ReturnDocument.BEFORE,
                )
            if found is None:
                if gate.aging and not wanted:
                    continue  # somebody was faster with all that came before other priorities
                return None
            if any(isinstance(found.get(name), list) for name in ("lock", WAITS)):
                break  # the server left it as it was
            before = to_job(found)
            return before, None if recurs(before) else claim(before)
        return self._take_from_lanes(gate, now, claim, wanted)

    def _is_plain(self, gate: Gate) -> bool:
        """Whether nothing but its time can hold a job back."""
        return gate._replace(aging=0.0) == OPEN and not self._locks

    def _take_from_lanes(
        self, gate: Gate, now: str, claim: partial[Job], wanted: str | None
    ) -> tuple[Job, Job | None] | None:
        passed: set[str | None] = set()
        while True:
            lanes, using = self._lanes.look(gate)
            self._locks = bool(using) or any("/" in (lane or "") for lane in lanes)
            may = [lane for lane in open_lanes(lanes, gate, using) if lane not in passed]
            if gate.aging and wanted is None:
                document = self._lanes.first_aged(may, now, gate.aging)
            else:
                document = self._lanes.first(may, now, wanted)
            if document is None:
                return None
            before = to_job(document)
            if paused_by(before, gate) or full(before, gate, using):
                lane = document.get("_lane")
                if lane == lane_of(before, gate):
                    passed.add(lane)
                else:
                    self._lanes.put_right(gate)  # many may lie there
                    self._lanes.put(before, gate)
                continue
            if parents(before) and self._lacks_parent(before, gate):
                continue
            if recurs(before):
                return before, None
            job = claim(before, slots=slots_for(before, gate, using))
            if self._start(document, before, job):
                return before, job

    def _start(self, document: Document, before: Job, job: Job) -> bool:
        """Let the job start; False if somebody was faster with it, or with one of its slots."""
        as_was, update = difference(before, job)
        read = ("tags", "lock", "after", "after_end", WAITS)
        as_was |= {name: {"$eq": document.get(name)} for name in read}
        with self._connection.told():
            try:
                return bool(self._jobs.update_one(as_was, update, hint="_id_").matched_count)
            except errors.DuplicateKeyError:
                # Of a job that does not run nobody frees them: an edit in mongosh has left them.
                idle = {"slots": {"$in": [*job.slots]}, "state": {"$ne": "in_progress"}}
                self._jobs.update_many(idle, {"$unset": {"slots": ""}})
                return False

    def _lacks_parent(self, job: Job, gate: Gate) -> bool:
        """Whether the job that seems free waits for others all the same; then it is put right."""
        with self._connection.told():
            family = Family(self._connection, gate)
            family.load(parents(job))
            lacks = bool(unmet(job, family.state_of))
            if lacks:
                family.put_right()
        return lacks

    def _is_held_back(self, job: Job) -> bool:
        """Whether the job that was just claimed should not have been, as things are now."""
        gate = self._gate(TRUSTED)
        if paused_by(job, gate):
            return True
        using = self._lanes.look(gate)[1]
        others = {
            token: [other for other in jobs if other.id != job.id] for token, jobs in using.items()
        }
        return full(job, gate, others) is not None

    def put_right(self) -> None:
        """Note anew what holds each waiting job back, as an edit in mongosh may change it."""
        gate = self._gate(TRUSTED)
        with self._connection.told():
            Family(self._connection, gate).put_right()
        if gate != OPEN or self._locks:
            self._lanes.put_right(gate)

    def next_due(self) -> float | None:
        """Seconds until the next waiting job that nothing else holds back is due, or None."""
        gate, now = self._gate(TRUSTED / 2), format_time(self._connection.now())
        if gate.all_paused:
            return None
        may: list[str | None] = [None]  # where what came since the claim lies
        if not self._found_none or not self._is_plain(gate):
            lanes, using = self._lanes.look(gate)
            may = open_lanes(lanes, gate, using)
        self._found_none = False
        due = self._lanes.next_due(may, gate, now)
        return None if due is None else parse_time(due) - parse_time(now)


def _wait(seconds: float) -> None:
    time.sleep(seconds)
