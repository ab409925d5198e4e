"""Schedules in a database: what a claim does with a due one.

The change that puts the schedule off also adds the pending copy. It compares what was read, so of
several workers that find the schedule at once, only one fires it. That one claims the copy next; if
it is killed in between, the copy waits like any job.
"""

from __future__ import annotations

import os

from queuectl.errors import StoreBusy
from queuectl.model.ids import MadeIds
from queuectl.model.job import LIVE, Job
from queuectl.model.schedule import copy_id, fired
from queuectl.model.times import parse_time
from queuectl.store.mongodb.changes import TRIES, Changes
from queuectl.store.mongodb.connection import Connection
from queuectl.store.mongodb.documents import STAGED
from queuectl.store.mongodb.staging import Staging


class Firing:
    """Fires the schedules of one queue."""

    def __init__(self, connection: Connection, staging: Staging, changes: Changes) -> None:
        self._connection = connection
        self._staging, self._changes = staging, changes
        self._failed = 0  # how often in a row others were faster

    def fire(self, schedule: Job, now: str) -> str | None:
        """Put the schedule off and add the copy to run, unless another process did; returns its id.

        Raises StoreBusy if others keep being faster.
        """
        made = MadeIds(parse_time(now), os.urandom(3)).take()
        new, copy = fired(schedule, copy_id(schedule, made), now, lives=self._lives(schedule))
        if self._changes.settle(schedule, new, () if copy is None else (copy,)):
            self._failed = 0
            return copy.id if copy else None
        self._failed += 1
        if self._failed > TRIES:
            self._failed = 0
            raise StoreBusy(
                f"schedule '{schedule.id}' keeps being changed by others, or an edit broke its "
                "document: look at it in mongosh"
            )
        return None

    def _lives(self, schedule: Job) -> bool:
        """Whether the last copy of the schedule is live."""
        if schedule.last is None:
            return False
        with self._connection.told():
            asked = {"_id": schedule.last, "state": {"$in": [*LIVE, STAGED]}}
            last = self._connection.database.jobs.find_one(asked, {"state": 1, "_batch": 1})
        if last is not None and last["state"] == STAGED:  # the worker that fired it died
            self._staging.finish(last["_batch"], schedule.id)
        return last is not None
