"""The number of jobs in each state, found quickly however many there are.

Most jobs are usually completed. The server keeps the number of all documents; jobs in other states
are counted in an index, and the rest are completed. The server's number includes uncommitted writes
of transactions, and is wrong after a server was killed. So everything is counted unless no
transaction is open and the number was verified since this server process started, by a full count
at a moment without changes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

from pymongo.errors import OperationFailure

from queuectl.model.fields import STATES
from queuectl.store.mongodb.connection import MARKER, SHARDED, Connection
from queuectl.store.mongodb.documents import STAGED

_REST = "completed"
_MANY = 10_000  # with at most so many documents, all are counted right away
_OTHERS: list[dict[str, Any]] = [
    {"$match": {"state": {"$in": [STAGED, *(state for state in STATES if state != _REST)]}}},
    {"$group": {"_id": "$state", "count": {"$sum": 1}}},
]
_OPEN: list[dict[str, Any]] = [
    {"$currentOp": {"allUsers": False, "idleSessions": True}},
    {"$match": {"transaction.parameters.autocommit": False}},
    {"$limit": 1},
]


class _Look(NamedTuple):
    """The server's number of documents, those in other states, and whether nothing was going on."""

    held: int
    others: dict[str, int]
    still: bool


class Counts:
    """Counts the jobs of one database, which must be a queue already."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.right_for: object = None  # the server process whose number was verified

    def now(self) -> dict[str, int]:
        """The number of jobs in each state; every state is a key."""
        with self._connection.told():
            look, process = self._look(), self._process()
            if look.still and process == self.right_for:
                rest = look.held - sum(look.others.values())
            else:
                asked = {"query": {"state": _REST}, "hint": "due"}
                rest = self._connection.database.command("count", "jobs", **asked)["n"]
                right = look.still and rest + sum(look.others.values()) == look.held
                if right and process is not None and self._look() == look:
                    self._keep(process)
        return {state: rest if state == _REST else look.others.get(state, 0) for state in STATES}

    def _look(self) -> _Look:
        jobs, admin = self._connection.jobs, self._connection.client.admin
        held, still = jobs.estimated_document_count(), False
        if held > _MANY:
            with suppress(OperationFailure):
                still = not list(admin.aggregate(_OPEN))
        found = jobs.aggregate(_OTHERS, hint="due")
        others = {one["_id"]: one["count"] for one in found}
        return _Look(held, others, still and jobs.estimated_document_count() == held)

    def _process(self) -> object:
        """The server process that accepts writes, and since when; None if unknown."""
        client = self._connection.client
        servers = client.topology_description.server_descriptions()
        version = servers[client.address].topology_version if client.address in servers else None
        if version is None or self._connection.form == SHARDED:
            return None
        return [version["processId"], self._connection.term]

    def _keep(self, process: object) -> None:
        self.right_for = process
        with suppress(OperationFailure):  # not every user may write
            update = {"$set": {"right_for": process}}
            self._connection.soon.meta.update_one({"_id": MARKER}, update)
