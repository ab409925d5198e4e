"""How many jobs are in each state, told soon however many there are.

The completed ones are mostly the many. The server keeps a number of all documents; what of those
are jobs in other states is counted in an index, and the rest are completed. That number holds the
uncommitted writes of transactions, and is off after a server was killed. So all is counted unless
nothing of that kind goes on, and the number was found right since that process of the server
started: by a count of all, at a moment when nobody changed anything.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

from pymongo.errors import OperationFailure

from queuectl.model.fields import STATES
from queuectl.store.mongodb.connection import MARKER, SHARDED, Connection
from queuectl.store.mongodb.documents import STAGED

_REST = "completed"
_MANY = 10_000  # documents up to which all are counted at once
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
    """The server's number of documents, those in other states, whether nothing was going on."""

    held: int
    others: dict[str, int]
    still: bool


class Counts:
    """Counts the jobs of one database, which is a queue already."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.right_for: object = None  # the process of the server whose number was found right

    def now(self) -> dict[str, int]:
        """How many jobs are in each state; every state is there."""
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
        """The process of the server that takes writes, and since when it does; None if unknown."""
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
