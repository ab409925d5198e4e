"""Claims in a database: one step of the server, which cannot look at the settings meanwhile.

So what is paused is known from a moment ago: a process trusts for a second what it has read, and
who pauses waits for that second before it is answered. A claim whose answer came later than that
is looked at again, and put back if it should not have been made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pymongo import ReturnDocument

from queuectl.config import Settings
from queuectl.model.gate import OPEN, Gate, paused_by
from queuectl.model.job import Job, recurs
from queuectl.model.lifecycle import claimed
from queuectl.model.scheduling import CLAIMABLE
from queuectl.model.times import parse_time
from queuectl.store.mongodb.connection import Connection
from queuectl.store.mongodb.documents import Document, claim_update, to_job
from queuectl.store.mongodb.workers import clock

TRUSTED = 1.0  # seconds for which a claim trusts what it knows of the settings
_MARGIN = 0.1  # seconds beside that; clocks of hosts do not run alike
_ORDER = [("priority", 1), ("run_at", 1), ("_seq", 1)]


class Claims:
    """Claims jobs of one database, which is a queue already."""

    def __init__(
        self,
        connection: Connection,
        settings: Callable[[], Mapping[str, object]],
        swap: Callable[[Job, Job], bool],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._swap = swap
        self._known: tuple[Mapping[str, object], Gate] = ({}, OPEN)
        self._read_at = float("-inf")

    @property
    def _jobs(self) -> Any:
        return self._connection.database.jobs

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
        self._read_at = float("-inf")
        matters = Settings(new).gate() is not None or Settings(new).hooks() != Settings(old).hooks()
        if matters and has_workers():
            _wait(TRUSTED + _MARGIN)

    def _gate(self, age: float) -> Gate:
        """What may start, known for at most so many seconds; known to be shut, it is read anew."""
        if self._known[1] != OPEN or clock() - self._read_at > age:
            self._settings()  # which notes them
        return self._known[1]

    def claim(
        self, worker: str, now: str, log_word: str | None, fire: Callable[[Job, str], str | None]
    ) -> Job | None:
        """Claim the first job that is ready and that nothing holds back; `fire` schedules."""
        copy = None  # of a schedule that was met: it comes first
        while True:
            gate = self._gate(TRUSTED / 2)
            if gate.all_paused:
                return None
            with self._connection.told():
                found = self._jobs.find_one_and_update(
                    {**_open(gate), "run_at": {"$lte": now}, **({"_id": copy} if copy else {})},
                    claim_update(worker, now, log_word),
                    sort=_ORDER,
                    # Else all that is ready may be sorted, at each claim.
                    hint="_id_" if copy else "claim",
                    return_document=ReturnDocument.BEFORE,
                )
            if found is None and copy is None:
                return None
            copy = None
            if found is None:
                continue
            before = to_job(found)
            if recurs(before):  # then the server left it as it was
                copy = fire(before, now)
                continue
            job = claimed(before, worker, now, log_word)
            if clock() - self._read_at <= TRUSTED or not paused_by(before, self._gate(TRUSTED)):
                return job
            # If somebody was faster, its worker gives it back as one that it does not run.
            self._swap(job, before._replace(rev=job.rev + 1))

    def next_due(self) -> float | None:
        """Seconds until the next waiting job that nothing else holds back is due, or None."""
        gate = self._gate(TRUSTED)
        if gate.all_paused:
            return None
        with self._connection.told():
            found = list(self._jobs.find(_open(gate), {"run_at": 1}).sort("run_at", 1).limit(1))
        if not found:
            return None
        return max(0.0, parse_time(found[0]["run_at"]) - self._connection.now())


def _open(gate: Gate) -> Document:
    """What only waiting jobs satisfy that nothing of the gate holds back."""
    asked: Document = {"state": {"$in": sorted(CLAIMABLE)}}
    if gate.paused:
        asked["tags"] = {"$nin": sorted(gate.paused)}
    return asked


def _wait(seconds: float) -> None:
    time.sleep(seconds)
